//! One leader's term: it owns the view of the cluster, answers every request from it, and changes
//! it only together with the store. A single loop owns all of it, so there is no lock and no order
//! but one.
//!
//! What came while a transaction was under way goes into the next one together: that is the group
//! commit.

mod attempts;
mod batch;
mod commit;
mod contain;
mod controls;
mod counts;
mod events;
mod facts;
mod failures;
mod fresh_run;
mod grants;
mod load;
mod losses;
mod notes;
mod outages;
mod parking;
mod planning;
mod prune;
mod reply;
mod request;
mod revival;
mod runs;
mod saved_plans;
mod schedules;
mod sessions;
mod some_steps;
mod streams;
mod traces;
mod word;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use highwater_common::id::TaskId;
use highwater_common::status::StepStatus;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use commit::TermEnded;
pub(crate) use counts::Telling;
pub(crate) use fresh_run::chosen_steps;
pub use load::LoadError;
pub(crate) use load::{listed, load};
pub(crate) use reply::Granted;
pub(crate) use request::{Beat, NewSchedule, Request, ScheduleAction, Submission, WorkerAction};
pub(crate) use word::{Verdict, Word};

use crate::clock::Clock;
use crate::engine::{Cluster, Step};
use crate::options::SessionOptions;
use crate::store::{Key, RecordStore};
use parking::Parking;
use request::Grouped;

/// Requests that one turn takes from the inbox at the most.
const REQUESTS_MAX: usize = 256;

/// How often the store's history is let go of.
const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// Bytes of changed tasks after which it is let go of earlier: what the store keeps on disk is
/// several times as much.
const COMPACT_BYTES: usize = 2 * 1024 * 1024;

/// How often the clock on the wall is looked at, while a schedule follows it: it may have been put
/// forward.
const CLOCK_LOOKED_AT_EVERY: Duration = Duration::from_secs(20);

/// The leader of one term.
pub(crate) struct Leader {
    store: Arc<dyn RecordStore>,
    sessions: SessionOptions,
    clock: Clock,
    rng: StdRng,
    /// The bytes of the leader record: every transaction demands them.
    term: Vec<u8>,
    hi: u64,
    lo: u32,
    cluster: Cluster,
    /// Tasks that were counted lately, so that a repeated completion is told from a foreign one.
    done: Recent,
    events: events::Events,
    parking: Parking,
    /// No session ends before that moment.
    sessions_end: Duration,
    /// What came up to that moment has been heard: who was silent then is silent, and not waiting
    /// to be listened to.
    heard_until: Duration,
    /// A heartbeat changed more than the time at which its worker was heard.
    has_changed: bool,
    /// What keeps everybody waiting, in words for people.
    trouble: Option<String>,
    /// Looks that were answered.
    looks: u64,
    version: watch::Sender<u64>,
    /// The last round handed out as much as one may: there is more to do at once.
    has_more: bool,
    /// A run began or ended, so older ones may have to go.
    may_prune: bool,
    /// Records of runs that are no more, left behind by earlier terms.
    orphans: Vec<Key>,
    /// When the store's history was let go of last.
    compacted: Duration,
    /// Bytes of changed tasks that were stored since.
    stored_bytes: usize,
    /// What was told of the cluster in numbers.
    told: counts::Told,
    /// The number of the latest record of what an operator did.
    audits: u64,
}

/// The latest tasks that were counted; bounded.
#[derive(Debug, Default)]
struct Recent {
    known: BTreeSet<TaskId>,
    order: VecDeque<TaskId>,
}

impl Recent {
    const MAX: usize = 4096;

    fn insert(&mut self, task: TaskId) {
        if self.known.insert(task) {
            self.order.push_back(task);
        }
        if self.order.len() > Self::MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn contains(&self, task: &TaskId) -> bool {
        self.known.contains(task)
    }
}

/// What a term begins with.
pub(crate) struct Term {
    /// The bytes of the leader record.
    pub(crate) record: Vec<u8>,
    /// The high part of its tokens.
    pub(crate) hi: u64,
    /// What the store holds.
    pub(crate) cluster: Cluster,
    /// Records of runs that are no more.
    pub(crate) orphans: Vec<Key>,
    /// The number of the latest record of what an operator did.
    pub(crate) audits: u64,
}

impl Leader {
    pub(crate) fn new(
        store: Arc<dyn RecordStore>,
        sessions: SessionOptions,
        clock: Clock,
        rng: StdRng,
        version: watch::Sender<u64>,
        term: Term,
    ) -> Self {
        let since = clock.monotonic();
        let Term {
            record,
            hi,
            mut cluster,
            orphans,
            audits,
        } = term;
        // The sessions' time begins now: nobody could be heard while the store was read.
        for session in cluster.sessions.values_mut() {
            (session.heard, session.deadline) = (since, since + sessions.ttl);
        }
        cluster.find_leases(since);
        // Nobody knows what became of the targets in the meantime.
        let running = cluster.runs.values_mut().filter(|run| run.wants_work());
        running
            .flat_map(|run| run.steps.values_mut())
            .filter(|step| step.record.status == StepStatus::Running)
            .for_each(Step::compare);
        let sessions_end = since + sessions.ttl;
        Self {
            store,
            sessions,
            clock,
            rng,
            term: record,
            hi,
            lo: 0,
            cluster,
            done: Recent::default(),
            events: events::Events::default(),
            parking: Parking::default(),
            sessions_end,
            heard_until: since,
            has_changed: false,
            trouble: None,
            looks: 0,
            version,
            has_more: false,
            may_prune: true,
            orphans,
            compacted: since,
            stored_bytes: 0,
            told: counts::Told::default(),
            audits,
        }
    }

    /// The same, which tells the cluster in numbers.
    pub(crate) fn telling(mut self, telling: Arc<Telling>) -> Self {
        self.told = counts::Told::by(telling);
        self
    }

    /// Leads until `cancel`, or until the leadership is lost.
    ///
    /// # Errors
    /// [`TermEnded`]: the term is over, and a new one must read everything anew.
    pub(crate) async fn run(
        mut self,
        inbox: &mut mpsc::Receiver<Request>,
        mut lost: watch::Receiver<bool>,
        cancel: &CancellationToken,
    ) -> Result<(), TermEnded> {
        self.lose_orphans().await?;
        self.turn(Vec::new()).await?;
        loop {
            let mut requests = Vec::new();
            let deadline = self.next_deadline();
            let wake_at = self.clock.instant(deadline);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                _ = lost.wait_for(|lost| *lost) => return Err(TermEnded::Deposed),
                count = inbox.recv_many(&mut requests, REQUESTS_MAX) => if count == 0 { return Ok(()) },
                () = tokio::time::sleep_until(wake_at) => {}
            }
            if requests.len() < REQUESTS_MAX {
                self.heard_until = self.clock.monotonic(); // nothing is left in the inbox
            }
            // Whoever only looks changes nothing, and must not be told of a change by his own look;
            // a worker that is alive, as thousands are, is noted and no more.
            let is_quiet = !requests.is_empty() && requests.iter().all(Request::is_quiet);
            if is_quiet && self.clock.monotonic() < deadline {
                for request in requests {
                    self.handle(request).await?;
                }
                if !std::mem::take(&mut self.has_changed) {
                    continue;
                }
                requests = Vec::new();
            }
            self.turn(requests).await?;
        }
    }

    /// Handles what came, then does everything that follows from it.
    async fn turn(&mut self, requests: Vec<Request>) -> Result<(), TermEnded> {
        let (mut registrations, mut completions) = (Vec::new(), Vec::new());
        for request in requests {
            match self.handle(request).await? {
                None => {}
                Some(Grouped::Registration(registration)) => registrations.push(registration),
                Some(Grouped::Completion(completion)) => completions.push(completion),
            }
        }
        self.complete(completions).await?;
        self.register(registrations).await?;
        self.expire().await?;
        self.advance().await?;
        // After that: a run that has ended lets the one begin that waits for it.
        if self.follow_schedules().await? {
            self.advance().await?;
        }
        self.hand_out().await?;
        self.parked_timeouts();
        self.prune().await?;
        self.compact().await;
        self.tell_counts();
        self.version.send_modify(|version| *version += 1);
        Ok(())
    }

    /// When something happens by itself: a session ends, a pull has waited long enough, a retry
    /// becomes due, or takes any worker. One that is due already waits for a pull or a limit, and
    /// whatever brings that brings a turn.
    fn next_deadline(&self) -> Duration {
        let now = self.clock.monotonic();
        if self.has_more {
            return now;
        }
        let sessions = (!self.cluster.sessions.is_empty()).then_some(self.sessions_end);
        let pulls = self.parking.next_end();
        let wall = self.clock.wall_millis();
        let runs = || self.cluster.runs.values().filter(|run| run.wants_work());
        let steps = runs().flat_map(|run| run.steps.values());
        let moments = steps
            .flat_map(Step::tables)
            .filter_map(|table| table.retries.next_moment(wall));
        let retries = moments.filter_map(|moment| {
            let wait = u64::try_from(moment.saturating_sub(wall)).ok()?;
            Some(now + Duration::from_millis(wait))
        });
        let outages = runs().filter_map(|run| run.outages.next_moment(wall));
        let outages = outages
            .map(|moment| now + Duration::from_millis(moment.saturating_sub(wall).unsigned_abs()));
        let schedules = self.next_scheduled().map(|moment| {
            let wait = u64::try_from(moment.saturating_sub(wall.saturating_mul(1000)));
            now + Duration::from_micros(wait.unwrap_or(0)).min(CLOCK_LOOKED_AT_EVERY)
        });
        sessions
            .into_iter()
            .chain(schedules)
            .chain(pulls)
            .chain(retries)
            .chain(outages)
            .chain(self.told.next())
            .min()
            .unwrap_or(now + Duration::from_secs(60))
    }

    /// Lets go of the store's history: once in [`COMPACT_EVERY`], and after each [`COMPACT_BYTES`].
    async fn compact(&mut self) {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.compacted) < COMPACT_EVERY && self.stored_bytes < COMPACT_BYTES {
            return;
        }
        (self.compacted, self.stored_bytes) = (now, 0);
        if let Err(error) = self.store.compact().await {
            tracing::warn!(%error, "the store keeps its history for now");
        }
    }
}

#[cfg(test)]
mod tests;
