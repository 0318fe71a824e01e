//! Statements that may take hours, and a session beside them that sees whether the server still works
//! at them. So whoever waits can tell a slow server from a silent host.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::errors::is_full;
use super::ledger::SessionMark;
use super::session::{Endpoint, SessionRole};
use crate::connector::{ConnectorError, Doing};

/// How long the session beside may take for all that it does.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// How often it is looked at most how far a build is.
const BUILD_LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is asked of each session: whether it works, and how far the index is that it builds. The name
/// of that is nobody else's to see before it is committed.
/// A server that is told not to track what its sessions do says `disabled` of each.
const AT_WORK: &str = "select s.no::int4, coalesce(a.state not like 'idle%', true) as is_active, \
    p.phase, case when p.blocks_total > 0 then p.blocks_done * 100 / p.blocks_total \
      when p.tuples_total > 0 then p.tuples_done * 100 / p.tuples_total end as percent \
    from unnest($1::int4[], $2::int8[]) with ordinality s (pid, started, no) \
    join pg_stat_activity a on a.pid = s.pid \
      and (extract(epoch from a.backend_start) * 1000000)::int8 = s.started \
    left join pg_stat_progress_create_index p on p.pid = a.pid order by s.no";

/// A session that was looked at.
struct Seen {
    /// Which one, from 1.
    no: i32,
    is_active: Option<bool>,
    phase: Option<String>,
    percent: Option<i64>,
}

/// A session that builds, and what it has in hand.
pub(super) struct BuildSession {
    mark: SessionMark,
    in_hand: Mutex<String>,
}

impl BuildSession {
    pub(super) const fn new(mark: SessionMark) -> Self {
        Self {
            mark,
            in_hand: Mutex::new(String::new()),
        }
    }

    /// It builds this from now on; nothing where that is empty.
    pub(super) fn takes(&self, what: String) {
        *self.in_hand.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// `index orders_total (building index: scanning table, 43 %)`.
    fn words(&self, seen: Option<&Seen>) -> Option<String> {
        let what = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if what.is_empty() {
            return None;
        }
        let phase = seen.and_then(|seen| Some((seen.phase.as_deref()?, seen.percent)));
        Some(match phase {
            Some((phase, Some(percent))) => format!("{what} ({phase}, {percent} %)"),
            Some((phase, None)) => format!("{what} ({phase})"),
            None => what.clone(),
        })
    }
}

/// The answer of a statement of `session`; while it is waited for, `doing` hears each time that the
/// server is seen at work on it.
pub(super) async fn watched<T>(
    endpoint: &Endpoint,
    session: SessionMark,
    doing: &Doing,
    asked: impl Future<Output = T>,
) -> T {
    let looker = Looker {
        endpoint,
        role: SessionRole::Source,
        marks: vec![session],
        doing,
        building: None,
    };
    looker.until(endpoint.session().look_every, asked).await
}

/// What comes of building that goes on in `sessions`; meanwhile `doing` hears of it, and how far each
/// of them is.
pub(super) async fn watched_builds<T>(
    endpoint: &Endpoint,
    sessions: &[BuildSession],
    (doing, what): (&Doing, &str),
    building: impl Future<Output = T>,
) -> T {
    doing.say(what.to_owned());
    let looker = Looker {
        endpoint,
        role: SessionRole::Target,
        marks: sessions.iter().map(|session| session.mark).collect(),
        doing,
        building: Some((what, sessions)),
    };
    let every = endpoint.session().look_every.min(BUILD_LOOK_EVERY);
    let built = looker.until(every, building).await;
    doing.say(String::new());
    built
}

/// Looks at sessions by another one.
struct Looker<'a> {
    endpoint: &'a Endpoint,
    role: SessionRole,
    marks: Vec<SessionMark>,
    doing: &'a Doing,
    /// What they build, in words, and each of them.
    building: Option<(&'a str, &'a [BuildSession])>,
}

impl Looker<'_> {
    /// The answer; while it is waited for, it looks every so often.
    async fn until<T>(&self, every: Duration, asked: impl Future<Output = T>) -> T {
        let mut asked = pin!(asked);
        loop {
            if let Ok(answer) = tokio::time::timeout(every, &mut asked).await {
                return answer;
            }
            tokio::select! {
                biased;
                answer = &mut asked => return answer,
                _ = tokio::time::timeout(LOOK_MAX, self.look()) => {}
            }
        }
    }

    async fn look(&self) {
        let seen = look(self.endpoint, self.role, &self.marks).await;
        // A server that lets nobody else in is not silent; what its sessions do is not known.
        let is_at_work = match &seen {
            Ok(seen) => seen.iter().any(|one| one.is_active == Some(true)),
            Err(error) => is_full(error),
        };
        if is_at_work {
            self.doing.is_at_work();
        }
        let seen = seen.unwrap_or_default();
        let Some((what, sessions)) = self.building else {
            return;
        };
        let far: Vec<String> = (1..)
            .zip(sessions)
            .filter_map(|(no, session)| session.words(seen.iter().find(|one| one.no == no)))
            .collect();
        self.doing.say(match far.is_empty() {
            true => what.to_owned(),
            false => format!("{what}: {}", far.join("; ")),
        });
    }
}

async fn look(
    endpoint: &Endpoint,
    role: SessionRole,
    sessions: &[SessionMark],
) -> Result<Vec<Seen>, ConnectorError> {
    let mut conn: PgConnection = endpoint.open(role).await?;
    let pids: Vec<i32> = sessions.iter().map(|session| session.pid).collect();
    let started: Vec<i64> = sessions.iter().map(|one| one.started_micros).collect();
    let found = sqlx::query_as::<_, (i32, Option<bool>, Option<String>, Option<i64>)>(AT_WORK)
        .bind(pids)
        .bind(started)
        .fetch_all(&mut conn)
        .await;
    conn.close().await.ok();
    let seen = |(no, is_active, phase, percent)| Seen {
        no,
        is_active,
        phase,
        percent,
    };
    Ok(found.unwrap_or_default().into_iter().map(seen).collect())
}
