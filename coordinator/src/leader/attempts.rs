//! Sessions and attempts: who is alive, what is handed out, what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{Assignment, AttemptError, ErrorClass, FACTS_BYTES_MAX, Outcome, Receipt};
use highwater_common::facts::StepFacts;
use highwater_common::id::{AttemptNo, ClusterId, SessionId, TaskId, WorkerId};
use highwater_common::record::{
    CrashHistory, DeadRecord, LeaseRecord, RECORD_BYTES_MAX, RetryRecord, RunWish, TaskAddress, WorkerRecord,
};
use highwater_common::retry::{QUARANTINE_CODE, RetryDecision, RetryHistory, decide};
use highwater_common::segment::TaskResult;
use highwater_common::spec::RetryPolicy;
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken, Nonce};
use highwater_proto::convert::records::{Stored, document_to_parts, hi_to_bytes};
use rand::RngExt;

use super::batch::{Batch, Pushed};
use super::request::Reply;
use super::{Fallen, Handed, Leader, OpenLease};
use crate::engine::{Change, ChangeKind, FENCE_ORDINAL, Seat, Session, assign};
use crate::error::ServiceError;
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op};

/// Tasks handed out in one turn at the most, before requests are looked at again.
const GRANTS_MAX: usize = 256;
/// Heartbeats that an assignment may be missing from before it is taken for lost on its way.
const MISSED_HEARTBEATS: u32 = 3;

/// How an attempt ended, as its worker told.
pub(crate) struct Completion {
    pub(crate) session: SessionId,
    pub(crate) task: TaskId,
    pub(crate) fence: Fence,
    pub(crate) outcome: Outcome,
    pub(crate) millis: u64,
    pub(crate) reply: Reply<bool>,
}

/// A change with the records that go with it.
type Planned = (Change, Vec<Op>);

impl Leader {
    /// Begins a session, and ends an earlier one of the same worker.
    pub(super) async fn register(
        &mut self,
        worker: WorkerId,
        mut record: WorkerRecord,
    ) -> Result<Result<ClusterId, ServiceError>, Fallen> {
        let earlier: Vec<SessionId> =
            self.cluster.sessions.iter().filter(|(_, session)| session.worker == worker).map(|(id, _)| *id).collect();
        if let Some(last) = earlier.last().and_then(|id| self.cluster.sessions.get(id)) {
            record.cordoned = last.record.cordoned;
        }
        let put = Op::Put(RecordKey::Worker(worker.clone()).render(), record.to_bytes());
        self.commit_records("worker_record", Vec::new(), vec![put]).await?;
        for id in earlier {
            self.end_session(&id).await?;
        }
        let heard = self.clock.monotonic();
        tracing::info!(%worker, slots = record.slots, "worker registered");
        let session = Session {
            worker,
            deadline: heard + self.sessions.ttl,
            heard,
            draining: false,
            told_to_drain: false,
            record,
        };
        self.cluster.sessions.insert(session.record.session, session);
        Ok(Ok(self.cluster.id))
    }

    /// Notes that a worker is alive, and names the attempts it shall end.
    pub(super) async fn heartbeat(
        &mut self,
        session: SessionId,
        attempts: &[(TaskId, Nonce)],
        draining: bool,
    ) -> Result<Result<Vec<Nonce>, ServiceError>, Fallen> {
        let now = self.clock.monotonic();
        let Some(known) = self.cluster.sessions.get_mut(&session) else { return Ok(Err(ServiceError::SessionEnded)) };
        known.heard = now;
        known.deadline = now + self.sessions.ttl;
        known.draining = draining;
        let end =
            attempts.iter().filter(|(task, nonce)| !self.may_go_on(&session, task, *nonce)).map(|(_, nonce)| *nonce);
        let end = end.collect();
        self.release_unheard(session, attempts, now).await?;
        Ok(Ok(end))
    }

    fn may_go_on(&self, session: &SessionId, task: &TaskId, nonce: Nonce) -> bool {
        let Some((lease, run)) = self.lease(task) else { return false };
        lease.session == *session
            && lease.fence.nonce == nonce
            && (run.record.wish != RunWish::Cancel || lease.address.generation == 0)
    }

    fn lease(&self, task: &TaskId) -> Option<(&LeaseRecord, &crate::engine::Run)> {
        let open = self.open.get(task)?;
        let run = self.cluster.runs.get(&open.run)?;
        let track = run.steps.get(&open.address.step)?.track(open.address.generation);
        track.leases.get(&open.address.ordinal).map(|held| (&held.record, run))
    }

    /// Takes back assignments that never reached their worker: the answer to its pull was lost.
    async fn release_unheard(
        &mut self,
        session: SessionId,
        attempts: &[(TaskId, Nonce)],
        now: Duration,
    ) -> Result<(), Fallen> {
        let patience = self.sessions.heartbeat * MISSED_HEARTBEATS;
        let unheard: Vec<TaskId> = self
            .open
            .iter()
            .filter(|(task, open)| {
                now.saturating_sub(open.since) > patience
                    && self.lease(task).is_some_and(|(lease, _)| {
                        lease.session == session && !attempts.iter().any(|(_, nonce)| *nonce == lease.fence.nonce)
                    })
            })
            .map(|(task, _)| *task)
            .collect();
        let changes = unheard.iter().filter_map(|task| self.released(task)).collect();
        self.apply_changes(changes).await.map(drop)
    }

    /// Counts completions.
    pub(super) async fn complete(&mut self, completions: Vec<Completion>) -> Result<(), Fallen> {
        let (mut changes, mut replies) = (Vec::new(), Vec::new());
        for completion in completions {
            let Some(outcome) = self.owned(&completion) else {
                let _ = completion.reply.send(Ok(self.is_done(&completion.task)));
                continue;
            };
            if let Outcome::Outrun { newer } = outcome {
                self.raise_hi_above(newer).await?;
            }
            if matches!(outcome, Outcome::Superseded) {
                self.learn_of_cancel(&completion.task).await?;
            }
            if let Some(change) = self.judge(&completion.task, outcome, completion.millis) {
                self.open.remove(&completion.task);
                changes.push(change);
            }
            replies.push(completion.reply);
        }
        self.apply_changes(changes).await?;
        for reply in replies {
            let _ = reply.send(Ok(true));
        }
        Ok(())
    }

    /// The outcome, if the lease is still the one that the completion speaks of.
    fn owned(&self, completion: &Completion) -> Option<Outcome> {
        let (lease, _) = self.lease(&completion.task)?;
        (lease.session == completion.session && lease.fence == completion.fence).then(|| completion.outcome.clone())
    }

    fn is_done(&self, task: &TaskId) -> bool {
        self.lease(task).is_none() && self.done.contains(task)
    }

    /// What an attempt's end means for its task.
    fn judge(&mut self, task: &TaskId, outcome: Outcome, millis: u64) -> Option<Planned> {
        match outcome {
            Outcome::Committed(receipt) => self.completed(task, receipt, millis, Vec::new()),
            Outcome::Fenced { attempts } => {
                tracing::info!(attempts, "fenced");
                self.completed(task, Receipt::default(), millis, Vec::new())
            }
            Outcome::Done { warnings } => {
                let extra = self.warned(task, warnings);
                self.completed(task, Receipt::default(), millis, extra)
            }
            Outcome::Probed(json) => match self.probed(task, &json) {
                Ok(extra) => self.completed(task, Receipt::default(), millis, extra),
                Err(error) => self.failed(task, error, None),
            },
            Outcome::Failed(error) => self.failed(task, error, None),
            Outcome::Outrun { .. } | Outcome::Superseded | Outcome::Released => self.released(task),
        }
    }

    fn completed(&mut self, task: &TaskId, receipt: Receipt, millis: u64, extra: Vec<Op>) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let millis = u32::try_from(millis).unwrap_or(u32::MAX);
        let result = TaskResult { rows: receipt.rows, millis, attempts: lease.attempt.get() };
        let change =
            Change { run: run.id, task: *task, address: lease.address.clone(), kind: ChangeKind::Complete(result) };
        self.done.insert(*task);
        if let Some(step) =
            self.cluster.runs.get_mut(&change.run).and_then(|run| run.steps.get_mut(&change.address.step))
        {
            step.bytes += receipt.bytes;
        }
        Some((change, extra))
    }

    fn probed(&mut self, task: &TaskId, json: &[u8]) -> Result<Vec<Op>, AttemptError> {
        let refuse = |message: String| AttemptError::new(ErrorClass::Permanent, "facts", message);
        if json.len() > FACTS_BYTES_MAX {
            let size = json.len();
            return Err(refuse(format!("a probe brought {size} bytes of facts, more than {FACTS_BYTES_MAX}")));
        }
        let facts: StepFacts =
            serde_json::from_slice(json).map_err(|error| refuse(format!("a probe's facts are damaged: {error}")))?;
        let Some((lease, run)) = self.lease(task) else { return Ok(Vec::new()) };
        let (run, step) = (run.id, lease.address.step.clone());
        let parts = document_to_parts(json, RECORD_BYTES_MAX - 64);
        let ops = parts
            .into_iter()
            .zip(0..)
            .map(|(bytes, part)| Op::Put(RecordKey::Facts { run, step: step.clone(), part }.render(), bytes));
        let ops = ops.collect();
        if let Some(run) = self.cluster.runs.get_mut(&run) {
            run.facts.insert(step, Arc::new(facts));
        }
        Ok(ops)
    }

    fn warned(&mut self, task: &TaskId, warnings: Vec<String>) -> Vec<Op> {
        if warnings.is_empty() {
            return Vec::new();
        }
        let Some(open) = self.open.get(task).cloned() else { return Vec::new() };
        let Some(step) = self.cluster.runs.get_mut(&open.run).and_then(|run| run.steps.get_mut(&open.address.step))
        else {
            return Vec::new();
        };
        step.record.warnings.extend(warnings.into_iter().take(8));
        let bytes = step.record.to_bytes();
        step.stored = Some(bytes.clone());
        let OpenLease { run, address: TaskAddress { step, generation, .. }, .. } = open;
        vec![Op::Put(RecordKey::Step { run, generation, step }.render(), bytes)]
    }

    /// A task whose attempt gave it back: what was counted before stays counted, this attempt is not.
    fn released(&self, task: &TaskId) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let kind = if lease.attempt == AttemptNo::FIRST && lease.history == CrashHistory::default() {
            ChangeKind::Release
        } else {
            ChangeKind::Delay(RetryRecord {
                address: lease.address.clone(),
                attempts: lease.attempt.get() - 1,
                history: lease.history.clone(),
                not_before_millis: 0,
                error: AttemptError::new(ErrorClass::Transient, "released", "the worker gave the task back"),
            })
        };
        Some((Change { run: run.id, task: *task, address: lease.address.clone(), kind }, Vec::new()))
    }

    /// A task whose attempt failed, or was lost on `crashed`.
    fn failed(&mut self, task: &TaskId, error: AttemptError, crashed: Option<&WorkerId>) -> Option<Planned> {
        let jitter: f64 = self.rng.random();
        let now = self.clock.wall_millis();
        let (lease, run) = self.lease(task)?;
        let mut history = lease.history.clone();
        if let Some(worker) = crashed {
            history.crashes += 1;
            history.workers.insert(worker.clone());
        }
        let known = run.spec.steps.get(&lease.address.step)?;
        let must_not_die = lease.address.generation == 0 && lease.address.ordinal == FENCE_ORDINAL;
        let attempts = lease.attempt.get();
        let past = RetryHistory {
            attempts,
            crashes: history.crashes,
            crashed_workers: u32::try_from(history.workers.len()).unwrap_or(u32::MAX),
        };
        // A fence is never given up: its run stays `cancelling` and says which target it waits for.
        let (class, policy) = match must_not_die {
            true => (ErrorClass::Transient, RetryPolicy { max_attempts: u32::MAX, ..RetryPolicy::default() }),
            false => (error.class, known.retries.clone()),
        };
        let address = lease.address.clone();
        let work = run.work(&address)?.to_string();
        let kind = match decide(class, &past, &policy, jitter) {
            RetryDecision::Retry { after } => {
                let wait = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                let not_before_millis = now.saturating_add(wait);
                ChangeKind::Delay(RetryRecord { address: address.clone(), attempts, history, not_before_millis, error })
            }
            RetryDecision::Dead => ChangeKind::Die(DeadRecord { address: address.clone(), attempts, work, error }),
            RetryDecision::Quarantine => {
                let message =
                    format!("{} attempts were lost with their workers; the last: {}", past.crashes, error.message);
                let error = AttemptError::new(ErrorClass::Crash, QUARANTINE_CODE, message);
                ChangeKind::Die(DeadRecord { address: address.clone(), attempts, work, error })
            }
        };
        Some((Change { run: run.id, task: *task, address, kind }, Vec::new()))
    }

    /// Ends the sessions that were not heard of in time.
    pub(super) async fn expire(&mut self) -> Result<(), Fallen> {
        let now = self.clock.monotonic();
        let ended: Vec<SessionId> =
            self.cluster.sessions.iter().filter(|(_, session)| session.deadline <= now).map(|(id, _)| *id).collect();
        for id in ended {
            self.end_session(&id).await?;
        }
        Ok(())
    }

    /// Ends a session: its attempts count as crashed.
    pub(super) async fn end_session(&mut self, id: &SessionId) -> Result<(), Fallen> {
        let Some(session) = self.cluster.sessions.remove(id) else { return Ok(()) };
        let worker = session.worker;
        let tasks: Vec<TaskId> = self
            .open
            .keys()
            .filter(|task| self.lease(task).is_some_and(|(lease, _)| lease.session == *id))
            .copied()
            .collect();
        if !tasks.is_empty() {
            tracing::warn!(%worker, attempts = tasks.len(), "worker lost");
        }
        let mut changes = Vec::new();
        for task in tasks {
            let error = AttemptError::new(
                ErrorClass::Crash,
                "worker_lost",
                format!("worker {worker} fell silent for {:?} with the task in hand", self.sessions.ttl),
            );
            changes.extend(self.failed(&task, error, Some(&worker)));
            self.open.remove(&task);
        }
        self.apply_changes(changes).await?;
        Ok(())
    }

    /// Gives back every lease: the store admits one process, so whoever held one is gone for certain. Nothing is counted.
    pub(crate) async fn release_everything(&mut self) -> Result<(), Fallen> {
        let changes = self.open.keys().filter_map(|task| self.released(task)).collect();
        self.apply_changes(changes).await?;
        self.open.clear();
        self.cluster.sessions.clear();
        Ok(())
    }

    /// Raises `hi` above a token that a target has seen: the store was rewound.
    async fn raise_hi_above(&mut self, newer: FencingToken) -> Result<(), Fallen> {
        if newer.hi() < self.hi {
            return Ok(()); // a newer attempt of this very term holds the task; its own token will do
        }
        tracing::warn!(%newer, hi = self.hi, "a target has seen larger tokens than this store: raising hi");
        self.set_hi(newer.hi() + 1).await
    }

    async fn set_hi(&mut self, hi: u64) -> Result<(), Fallen> {
        let key = RecordKey::High.render();
        let expects = vec![Expect::Bytes(key.clone(), hi_to_bytes(self.hi))];
        self.commit_records("hi", expects, vec![Op::Put(key, hi_to_bytes(hi))]).await?;
        self.hi = hi;
        self.lo = 0;
        Ok(())
    }

    /// Hands pending tasks to the parked pulls.
    pub(super) async fn hand_out(&mut self) -> Result<(), Fallen> {
        self.parked.retain(|parked| !parked.reply.is_closed());
        let seats: Vec<Seat> =
            self.parked.iter().map(|parked| Seat { session: parked.session, free: parked.free }).collect();
        if seats.is_empty() {
            return Ok(());
        }
        let grants = assign(&self.cluster, &seats, self.clock.wall_millis(), GRANTS_MAX);
        if grants.is_empty() {
            return Ok(());
        }
        if FencingToken::LO_MAX - self.lo < u32::try_from(grants.len()).unwrap_or(u32::MAX) {
            self.set_hi(self.hi + 1).await?;
        }
        let mut handed: BTreeMap<SessionId, Vec<Handed>> = BTreeMap::new();
        let mut changes = Vec::new();
        for grant in grants {
            let Some((change, one)) = self.grant(&grant.run, grant.address, grant.session) else { continue };
            handed.entry(grant.session).or_default().push(one);
            changes.push((change, Vec::new()));
        }
        self.apply_changes(changes).await?;
        for (session, handed) in handed {
            if let Some(at) = self.parked.iter().position(|parked| parked.session == session) {
                // A caller that has gone meanwhile never heard of its tasks: its heartbeats will not name them, and they return.
                let _ = self.parked.swap_remove(at).reply.send(Ok(handed));
            }
        }
        Ok(())
    }

    fn grant(
        &mut self,
        run: &highwater_common::id::RunId,
        address: TaskAddress,
        session: SessionId,
    ) -> Option<(Change, Handed)> {
        let worker = self.cluster.sessions.get(&session)?.worker.clone();
        let cluster = self.cluster.id;
        let nonce = Nonce::new(self.rng.random());
        self.lo += 1;
        let fence = Fence { token: FencingToken::new(self.hi, self.lo)?, nonce };
        let run = self.cluster.runs.get_mut(run)?;
        let work = run.work(&address)?;
        let task = run.task_id(&address)?;
        let track = run.steps.get(&address.step)?.track(address.generation);
        let retry = match track.state(address.ordinal) {
            TaskState::RetryWait => track.retries.get(&address.ordinal).map(|held| held.record.clone()),
            TaskState::Pending
            | TaskState::Open
            | TaskState::Done
            | TaskState::Dead
            | TaskState::InDoubt
            | TaskState::Covered
            | TaskState::Superseded => None,
        };
        let (before, history) = retry.map_or((0, CrashHistory::default()), |retry| (retry.attempts, retry.history));
        let attempt = AttemptNo::new(before + 1);
        let (order, json) = run.order_document(cluster, &address)?;
        let lease = LeaseRecord { address: address.clone(), attempt, fence, worker, session, history };
        let since = self.clock.monotonic();
        self.open.insert(task, OpenLease { run: run.id, address: address.clone(), since });
        let change = Change { run: run.id, task, address, kind: ChangeKind::Assign(lease) };
        Some((change, Handed { assignment: Assignment { task, attempt, fence, work, order }, order: json }))
    }

    /// Applies changes in as few transactions as the limits allow.
    pub(super) async fn apply_changes(&mut self, changes: Vec<Planned>) -> Result<(), Fallen> {
        let mut batch = Batch::default();
        for (change, extra) in changes {
            loop {
                match batch.push(&self.cluster, &change, &extra) {
                    Pushed::Added => break,
                    Pushed::Full => self.commit_batch(std::mem::take(&mut batch)).await?,
                    Pushed::Stale(illegal) => {
                        tracing::debug!(task = %change.task, %illegal, "a change came too late");
                        break;
                    }
                    Pushed::Unknown => break,
                }
            }
        }
        self.commit_batch(batch).await
    }

    /// A claim found its run cancelled in the target: the store was rewound past the cancel, so it is wanted again.
    async fn learn_of_cancel(&mut self, task: &TaskId) -> Result<(), Fallen> {
        let Some(run) = self.open.get(task).map(|open| open.run) else { return Ok(()) };
        let wished = self.cluster.runs.get(&run).is_some_and(|run| run.record.wish == RunWish::Cancel);
        if !wished {
            let _ = self.cancel(run, "a target says that the run was cancelled").await?;
        }
        Ok(())
    }
}
