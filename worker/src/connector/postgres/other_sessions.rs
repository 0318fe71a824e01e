//! Sessions other than one's own: which they are, and how they are ended. One is known by its
//! process and its start, so that nobody ends another that got the same number.

use std::time::Duration;

use sqlx::{Executor, PgConnection, Row};

use super::errors::is_state;
use super::ledger::SessionMark;
use crate::connector::sql_text::{Dialect, Sql};

/// Looks at a session that was told to end, 50 ms apart.
const GONE_LOOKS_MAX: u32 = 100;

/// What became of a session that was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Gone,
    LivesOn,
    /// The role may not end it.
    NotAllowed,
    /// A session with its process id lives, and the role may not see since when: it may be this
    /// one.
    NotVisible,
}

impl Ended {
    /// What a person does so that it can be ended the next time; empty where nothing helps.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::Gone | Self::LivesOn => "",
            Self::NotAllowed => {
                "; the role may not end the session of the attempt before: grant it \
                 pg_signal_backend, or let all workers use one role"
            }
            Self::NotVisible => {
                "; the role may not see whether the session of the attempt before still lives: \
                 grant it pg_read_all_stats and pg_signal_backend, or let all workers use one role"
            }
        }
    }
}

/// Tells a session to end and looks until it is gone. What cannot be seen is never taken for gone.
pub(super) async fn end_session(
    conn: &mut PgConnection,
    session: SessionMark,
) -> Result<Ended, sqlx::Error> {
    for _ in 0..GONE_LOOKS_MAX {
        let found = sqlx::query_as::<_, (bool, bool)>(
            "select backend_start is null, \
                    case when (extract(epoch from backend_start) * 1000000)::int8 = $2 then \
                    pg_terminate_backend(pid) end \
                    is not null \
                    from pg_stat_activity where pid = $1 and pid <> pg_backend_pid()",
        )
        .bind(session.pid)
        .bind(session.started_micros)
        .fetch_optional(&mut *conn)
        .await;
        match found {
            Ok(None | Some((false, false))) => return Ok(Ended::Gone),
            Ok(Some((true, _))) => return Ok(Ended::NotVisible),
            Ok(Some((false, true))) => (),
            Err(error) if is_state(&error, "42501") => return Ok(Ended::NotAllowed),
            Err(error) => return Err(error),
        }
        // The server sleeps, and not this loop: it is the server whose state is awaited.
        conn.execute("select pg_sleep(0.05)").await?;
    }
    Ok(Ended::LivesOn)
}

/// Ends the sessions that stopped in the midst of a claim, whose ledger rows nobody sees yet: they
/// keep whoever fences their run waiting. A claim alone shares rows of `meta` and `run`, and its
/// statements follow each other at once; it is simply made again.
pub(super) async fn end_idle_claims(
    conn: &mut PgConnection,
    idle: Duration,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "select a.pid, (extract(epoch from a.backend_start) * 1000000)::int8 as started from \
         pg_stat_activity a \
         where a.state like 'idle in transaction%' and clock_timestamp() - a.state_change > $1 * \
         interval '1 millisecond' \
         and a.pid in (select l.pid from pg_locks l join pg_database d on d.oid = l.database \
         where d.datname = current_database() and l.mode = 'RowShareLock' and \
         l.relation in ('highwater.meta'::regclass, 'highwater.run'::regclass))",
    )
    .bind(i64::try_from(idle.as_millis()).unwrap_or(i64::MAX))
    .fetch_all(&mut *conn)
    .await?;
    for row in rows {
        let session = SessionMark {
            pid: row.try_get("pid")?,
            started_micros: row.try_get("started")?,
        };
        end_session(conn, session).await?;
    }
    Ok(())
}

/// How long the session waits for a lock from now on; within a transaction that is rolled back it
/// comes to nothing.
pub(super) async fn set_lock_timeout(
    conn: &mut PgConnection,
    timeout: Duration,
) -> Result<(), sqlx::Error> {
    let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::from(i32::MAX));
    let set = Sql::new(Dialect::Postgres, "set lock_timeout = ")
        .integer(millis)
        .into_statement();
    conn.execute(sqlx::raw_sql(set)).await.map(drop)
}

pub(super) async fn own_mark(conn: &mut PgConnection) -> Result<SessionMark, sqlx::Error> {
    let row = sqlx::query(
        "select pid, (extract(epoch from backend_start) * 1000000)::int8 as started from \
         pg_stat_activity \
         where pid = pg_backend_pid()",
    )
    .fetch_one(&mut *conn)
    .await?;
    Ok(SessionMark {
        pid: row.try_get("pid")?,
        started_micros: row.try_get("started")?,
    })
}

pub(super) fn mark(pid: Option<i32>, started_micros: Option<i64>) -> Option<SessionMark> {
    pid.zip(started_micros)
        .map(|(pid, started_micros)| SessionMark {
            pid,
            started_micros,
        })
}
