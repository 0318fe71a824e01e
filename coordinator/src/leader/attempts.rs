//! Attempts: what is handed out, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_common::assignment::{
    Assignment, AttemptError, ErrorClass, FACTS_BYTES_MAX, Outcome, Receipt, Work,
};
use highwater_common::facts::StepFacts;
use highwater_common::id::{AttemptNo, SessionId, TaskId, WorkerId};
use highwater_common::plan::PhaseKind;
use highwater_common::record::{
    DeadRecord, LeaseRecord, RetryRecord, RunIntent, TaskAddress, TaskHistory,
};
use highwater_common::retry::{QUARANTINE_CODE, RetryDecision, RetryHistory, decide};
use highwater_common::segment::TaskResult;
use highwater_common::spec::RetryPolicy;
use highwater_common::stream::AfterFence;
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken, Nonce};
use highwater_proto::convert::records::hi_to_bytes;
use rand::RngExt;

use super::batch::{Batch, Effect, Planned, Pushed};
use super::facts::{self, FactsRecords, PARTS_AT_ONCE_MAX};
use super::request::Reply;
use super::runs::cut;
use super::streams::unsettled;
use super::{Granted, Leader, TermEnded};
use crate::engine::{Change, ChangeKind, Reach, assign};
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op};

/// Tasks handed out in one turn at the most, before requests are looked at again.
const GRANTS_MAX: usize = 256;

/// How an attempt ended, as its worker told.
pub(crate) struct Completion {
    pub(crate) session: SessionId,
    pub(crate) task: TaskId,
    pub(crate) fence: Fence,
    pub(crate) outcome: Outcome,
    pub(crate) millis: u64,
    pub(crate) reply: Reply<bool>,
}

/// The longest code of an error that a record keeps, in bytes.
const CODE_BYTES_MAX: usize = 64;
/// Workers that a task's history names at the most: two are enough to condemn it.
const CRASHED_WORKERS_MAX: usize = 8;
/// Workers on which a task failed that its history names at the most; of more the latest ones.
const FAILED_WORKERS_MAX: usize = 8;

impl Leader {
    pub(super) fn may_go_on(&self, session: &SessionId, task: &TaskId, nonce: Nonce) -> bool {
        let Some((lease, run)) = self.lease(task) else {
            return false;
        };
        lease.session == *session
            && lease.fence.nonce == nonce
            && (run.record.intent != RunIntent::Cancel || lease.address.generation == 0)
    }

    pub(super) fn lease(&self, task: &TaskId) -> Option<(&LeaseRecord, &crate::engine::Run)> {
        let open = self.cluster.leases.get(task)?;
        let run = self.cluster.runs.get(&open.run)?;
        run.table(&open.address)?
            .leases
            .get(&open.address.ordinal)
            .map(|held| (&held.record, run))
    }

    /// Counts completions. Nobody is told before the store has applied them, a repeat within the
    /// turn neither.
    pub(super) async fn complete(&mut self, completions: Vec<Completion>) -> Result<(), TermEnded> {
        let (mut changes, mut replies) = (Vec::new(), Vec::new());
        let mut judged = BTreeSet::new();
        for completion in completions {
            let Some(outcome) = self.owned(&completion) else {
                let _ = completion.reply.send(Ok(self.is_done(&completion.task)));
                continue;
            };
            if judged.insert(completion.task) {
                let outcome = believable(outcome);
                if let Outcome::Fenced { newer } = outcome {
                    self.raise_hi_above(newer).await?;
                }
                if let Outcome::Superseded { by } = outcome {
                    self.learn_of_fence(&completion.task, by).await?;
                }
                let outcome = match outcome {
                    Outcome::Unprepared(why) => self.prepare_again(&completion.task, why).await?,
                    other => other,
                };
                match (self.plan_again(&completion.task, &outcome).await?, &outcome) {
                    (Some(again), _) => changes.extend(again),
                    (None, Outcome::Closed(there)) if self.is_close(&completion.task) => {
                        changes.extend(
                            self.closed(&completion.task, there, completion.millis)
                                .await?,
                        );
                    }
                    (None, _) => {
                        let planned = self.judge(&completion.task, outcome, completion.millis);
                        if let Some(Planned { before, .. }) = &planned {
                            self.put_parts("facts_parts", before.clone()).await?;
                        }
                        changes.extend(planned);
                    }
                }
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
        (lease.session == completion.session && lease.fence == completion.fence)
            .then(|| completion.outcome.clone())
    }

    fn is_close(&self, task: &TaskId) -> bool {
        self.lease(task)
            .is_some_and(|(lease, run)| run.kind(&lease.address) == Some(PhaseKind::Close))
    }

    fn is_done(&self, task: &TaskId) -> bool {
        self.lease(task).is_none() && self.done.contains(task)
    }

    /// What an attempt's end means for its task. An outcome that its work cannot have proves
    /// nothing about the target.
    fn judge(&mut self, task: &TaskId, outcome: Outcome, millis: u64) -> Option<Planned> {
        let has_reached = match &outcome {
            Outcome::Committed(_)
            | Outcome::Probed(_)
            | Outcome::Done
            | Outcome::Prepared { .. }
            | Outcome::Counted(_)
            | Outcome::Closed(_)
            | Outcome::RunFenced { .. } => true,
            Outcome::Failed(error) => error.class == ErrorClass::Permanent,
            Outcome::Fenced { .. }
            | Outcome::Superseded { .. }
            | Outcome::Unprepared(_)
            | Outcome::Released => false,
        };
        if has_reached {
            self.reached(task);
        }
        let (lease, run) = self.lease(task)?;
        match (outcome, run.work(&lease.address)?) {
            (Outcome::Committed(receipt), Work::Partition(_)) => {
                let planned = self.completed(task, receipt, millis)?;
                Some(Planned {
                    effect: Effect::Carried(receipt.bytes),
                    ..planned
                })
            }
            (Outcome::RunFenced { attempts }, Work::Fence) => {
                tracing::info!(attempts, "fenced");
                self.completed(task, Receipt::default(), millis)
            }
            (
                Outcome::Prepared {
                    warnings,
                    coverage,
                    fingerprint,
                },
                Work::Prepare,
            ) => match self.after_fence(task, &coverage)? {
                AfterFence::Begin | AfterFence::PlanAgain => {
                    self.prepared(task, &warnings, &fingerprint, millis)
                }
                AfterFence::GiveUp => self.failed(task, unsettled(), None),
            },
            (Outcome::Counted(found), Work::Count(_)) => self.counted(task, &found, millis),
            (Outcome::Done, Work::Noop(_)) => self.completed(task, Receipt::default(), millis),
            (Outcome::Probed(json), Work::Probe) => match self.probed(task, &json, millis) {
                Ok(planned) => planned,
                Err(error) => self.failed(task, error, None),
            },
            (Outcome::Failed(error), _) => self.failed(task, error, None),
            (
                Outcome::Fenced { .. }
                | Outcome::Superseded { .. }
                | Outcome::Unprepared(_)
                | Outcome::Released,
                _,
            ) => self.released(task),
            (
                Outcome::Committed(_)
                | Outcome::RunFenced { .. }
                | Outcome::Counted(_)
                | Outcome::Closed(_)
                | Outcome::Done
                | Outcome::Prepared { .. }
                | Outcome::Probed(_),
                work @ (Work::Probe
                | Work::Prepare
                | Work::Partition(_)
                | Work::Noop(_)
                | Work::Fence
                | Work::Count(_)
                | Work::Close { .. }),
            ) => {
                let message = format!(
                    "a worker answered `{work}` with the outcome of other work: run one \
                             version of both"
                );
                self.failed(
                    task,
                    AttemptError::new(ErrorClass::Permanent, "malformed_outcome", message),
                    None,
                )
            }
        }
    }

    pub(super) fn completed(
        &self,
        task: &TaskId,
        receipt: Receipt,
        millis: u64,
    ) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let millis = u32::try_from(millis).unwrap_or(u32::MAX);
        let result = TaskResult {
            rows: receipt.rows,
            millis,
            attempts: lease.attempt.get(),
        };
        let address = lease.address.clone();
        Some(
            Change {
                run: run.id,
                task: *task,
                address,
                kind: ChangeKind::Complete(result),
            }
            .into(),
        )
    }

    fn probed(
        &self,
        task: &TaskId,
        json: &[u8],
        millis: u64,
    ) -> Result<Option<Planned>, AttemptError> {
        let refuse = |message: String| AttemptError::new(ErrorClass::Permanent, "facts", message);
        if json.len() > FACTS_BYTES_MAX {
            let size = json.len();
            return Err(refuse(format!(
                "a probe brought {size} bytes of facts, more than {FACTS_BYTES_MAX}"
            )));
        }
        let found: StepFacts = serde_json::from_slice(json)
            .map_err(|error| refuse(format!("a probe's facts are damaged: {error}")))?;
        let Some(planned) = self.completed(task, Receipt::default(), millis) else {
            return Ok(None);
        };
        let (run, step) = (planned.change.run, planned.change.address.step.clone());
        let FactsRecords { head, mut parts } = facts::to_records(run, &step, json);
        let before = if parts.len() > PARTS_AT_ONCE_MAX {
            std::mem::take(&mut parts)
        } else {
            Vec::new()
        };
        let ops = parts
            .into_iter()
            .chain([head])
            .map(|(key, bytes)| Op::Put(key, bytes))
            .collect();
        Ok(Some(Planned {
            before,
            ops,
            effect: Effect::Found(Arc::new(found)),
            ..planned
        }))
    }

    /// A task whose attempt gave it back: what was counted before stays counted, this attempt is
    /// not.
    pub(super) fn released(&self, task: &TaskId) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let kind = if lease.attempt == AttemptNo::FIRST && lease.history == TaskHistory::default() {
            ChangeKind::Release
        } else {
            ChangeKind::Delay(RetryRecord {
                address: lease.address.clone(),
                attempts: lease.attempt.get() - 1,
                history: lease.history.clone(),
                not_before_millis: 0,
                error: AttemptError::new(
                    ErrorClass::Transient,
                    "released",
                    "the worker gave the task back",
                ),
            })
        };
        Some(
            Change {
                run: run.id,
                task: *task,
                address: lease.address.clone(),
                kind,
            }
            .into(),
        )
    }

    /// A task whose attempt failed, or was lost on `crashed`.
    pub(super) fn failed(
        &mut self,
        task: &TaskId,
        error: AttemptError,
        crashed: Option<&WorkerId>,
    ) -> Option<Planned> {
        let jitter: f64 = self.rng.random();
        let now = self.clock.wall_millis();
        let (lease, _) = self.lease(task)?;
        let mut history = lease.history.clone();
        if let Some(worker) = crashed {
            history.crashes = history.crashes.saturating_add(1);
            if history.crashed_on.len() < CRASHED_WORKERS_MAX {
                history.crashed_on.insert(worker.clone());
            }
        }
        let error = AttemptError {
            code: cut(&error.code, CODE_BYTES_MAX),
            ..error
        };
        // On one machine no worker reaches what another one does not.
        let may_differ = crashed.is_none() && !self.cluster.is_one_machine;
        let mut error = if may_differ {
            naming(error, &lease.worker)
        } else {
            error
        };
        if error.class == ErrorClass::Unreachable {
            let (worker, mut met) = (lease.worker.clone(), history.clone());
            if may_differ {
                note_failure(&mut met.failed_on, &worker);
            }
            match self.held_back(task, error, met, jitter) {
                Ok(planned) => return Some(planned),
                Err(counted) => error = counted,
            }
        }
        let (lease, run) = self.lease(task)?;
        let known = run.spec.steps.get(&lease.address.step)?;
        let must_not_die = run.kind(&lease.address) == Some(PhaseKind::Fence);
        let attempts = lease.attempt.get();
        let past = RetryHistory {
            attempts,
            crashes: history.crashes,
            crashed_workers: u32::try_from(history.crashed_on.len()).unwrap_or(u32::MAX),
        };
        // A fence is never given up: its run stays `cancelling` and says which target it waits for.
        let (class, policy) = match must_not_die {
            true => (
                ErrorClass::Transient,
                RetryPolicy {
                    max_attempts: u32::MAX,
                    ..RetryPolicy::default()
                },
            ),
            false => (error.class, known.retries.clone()),
        };
        let address = lease.address.clone();
        let work = run.work(&address)?.to_string();
        let kind = match decide(class, &past, &policy, jitter) {
            RetryDecision::Retry { after } => {
                let wait = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                let not_before_millis = now.saturating_add(wait);
                if may_differ {
                    note_failure(&mut history.failed_on, &lease.worker);
                }
                ChangeKind::Delay(RetryRecord {
                    address: address.clone(),
                    attempts,
                    history,
                    not_before_millis,
                    error,
                })
            }
            RetryDecision::Dead => ChangeKind::Die(DeadRecord {
                address: address.clone(),
                attempts,
                work,
                error,
            }),
            RetryDecision::Quarantine => {
                let message = format!(
                    "{} attempts were lost with their workers; the last: {}",
                    past.crashes, error.message
                );
                let error = AttemptError::new(ErrorClass::Crash, QUARANTINE_CODE, message);
                ChangeKind::Die(DeadRecord {
                    address: address.clone(),
                    attempts,
                    work,
                    error,
                })
            }
        };
        Some(
            Change {
                run: run.id,
                task: *task,
                address,
                kind,
            }
            .into(),
        )
    }

    /// Raises `hi` above a token that a target has seen: the store was rewound.
    async fn raise_hi_above(&mut self, newer: FencingToken) -> Result<(), TermEnded> {
        if newer.hi() < self.hi {
            return Ok(()); // the attempt's own token is of an earlier term; the next one's will do
        }
        tracing::warn!(%newer, hi = self.hi, "a target has seen larger tokens than this store: \
            raising hi");
        self.set_hi(newer.hi() + 1).await
    }

    async fn set_hi(&mut self, hi: u64) -> Result<(), TermEnded> {
        let key = RecordKey::High.render();
        let expects = vec![Expect::Bytes(key.clone(), hi_to_bytes(self.hi))];
        self.commit_records("hi", expects, vec![Op::Put(key, hi_to_bytes(hi))])
            .await?;
        self.hi = hi;
        self.lo = 0;
        Ok(())
    }

    /// Hands pending tasks to the parked pulls.
    pub(super) async fn hand_out(&mut self) -> Result<(), TermEnded> {
        self.has_more = false;
        let seats = self.parking.seats();
        if seats.is_empty() {
            return Ok(());
        }
        let grants = assign(&self.cluster, &seats, self.clock.wall_millis(), GRANTS_MAX);
        if grants.is_empty() {
            return Ok(());
        }
        self.has_more = grants.len() >= GRANTS_MAX;
        if FencingToken::LO_MAX - self.lo < u32::try_from(grants.len()).unwrap_or(u32::MAX) {
            self.set_hi(self.hi + 1).await?;
        }
        let mut granted: BTreeMap<SessionId, Vec<Granted>> = BTreeMap::new();
        let mut changes = Vec::new();
        for grant in grants {
            let Some((change, one)) = self.grant(&grant.run, grant.address, grant.session) else {
                continue;
            };
            granted.entry(grant.session).or_default().push(one);
            changes.push(change.into());
        }
        let stale = self.apply_changes(changes).await?;
        for (session, mut granted) in granted {
            // only what the store has is anybody's
            granted.retain(|one| !stale.contains(&one.assignment.task));
            if let Some(parked) = self.parking.take(&session) {
                // A caller that has gone meanwhile never heard of its tasks: its heartbeats will
                // not name them, and they return.
                let _ = parked.reply.send(Ok(granted));
            }
        }
        Ok(())
    }

    fn grant(
        &mut self,
        run: &highwater_common::id::RunId,
        address: TaskAddress,
        session: SessionId,
    ) -> Option<(Change, Granted)> {
        let worker = self.cluster.sessions.get(&session)?.worker.clone();
        let cluster = self.cluster.id;
        let nonce = Nonce::new(self.rng.random());
        self.lo += 1;
        let fence = Fence {
            token: FencingToken::new(self.hi, self.lo)?,
            nonce,
        };
        let run = self.cluster.runs.get_mut(run)?;
        let work = run.work(&address)?;
        let task = run.task_id(&address)?;
        let (table, kind) = (run.table(&address)?, run.kind(&address)?);
        let retry = match table.state(address.ordinal) {
            TaskState::RetryWait => table
                .retries
                .get(&address.ordinal)
                .map(|held| held.record.clone()),
            TaskState::Pending
            | TaskState::Open
            | TaskState::Done
            | TaskState::Dead
            | TaskState::InDoubt
            | TaskState::Covered
            | TaskState::Superseded => None,
        };
        let known = run.spec.steps.get(&address.step)?;
        run.outages.asked(
            &Reach::of(known, run.record.intent, kind).connections,
            &address,
        );
        let (before, history) = retry.map_or((0, TaskHistory::default()), |retry| {
            (retry.attempts, retry.history)
        });
        let attempt = AttemptNo::new(before + 1);
        let (order, json) = run.order_document(cluster, &address)?;
        let (phase, ordinal) = (address.phase, address.ordinal);
        let lease = LeaseRecord {
            address: address.clone(),
            attempt,
            fence,
            worker,
            session,
            history,
        };
        let change = Change {
            run: run.id,
            task,
            address,
            kind: ChangeKind::Assign(lease),
        };
        Some((
            change,
            Granted {
                assignment: Assignment {
                    task,
                    attempt,
                    fence,
                    work,
                    phase,
                    ordinal,
                    order,
                },
                order: json,
            },
        ))
    }

    /// Applies changes in as few transactions as the limits allow. Returns the tasks whose change
    /// came too late.
    pub(super) async fn apply_changes(
        &mut self,
        changes: Vec<Planned>,
    ) -> Result<BTreeSet<TaskId>, TermEnded> {
        let mut batch = Batch::default();
        let mut stale = BTreeSet::new();
        for planned in changes {
            loop {
                match batch.push(&self.cluster, &planned) {
                    Pushed::Added => break,
                    Pushed::Full => self.commit_batch(std::mem::take(&mut batch)).await?,
                    Pushed::Stale(illegal) => {
                        tracing::warn!(task = %planned.change.task, %illegal, "a change came too \
                            late");
                        stale.insert(planned.change.task);
                        break;
                    }
                    Pushed::Unknown => {
                        stale.insert(planned.change.task);
                        break;
                    }
                }
            }
        }
        self.commit_batch(batch).await?;
        Ok(stale)
    }
}

/// Puts a worker to the end of those on which a task failed.
fn note_failure(failed_on: &mut Vec<WorkerId>, worker: &WorkerId) {
    failed_on.retain(|known| known != worker);
    if failed_on.len() >= FAILED_WORKERS_MAX {
        failed_on.remove(0);
    }
    failed_on.push(worker.clone());
}

/// The error with the worker that met it: what one worker meets another one may not.
fn naming(error: AttemptError, worker: &WorkerId) -> AttemptError {
    let on = format!(" (on worker {worker})");
    if error.message.ends_with(&on) {
        return error;
    }
    let message = cut(
        &error.message,
        AttemptError::MESSAGE_BYTES_MAX.saturating_sub(on.len()),
    ) + &on;
    AttemptError {
        connection: error.connection,
        committed_rows: error.committed_rows,
        ..AttemptError::new(error.class, error.code, message)
    }
}

/// A target may hold a token that no store has issued. Raising `hi` above it would use up every
/// token there is.
fn believable(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Fenced { newer } if newer.hi() > FencingToken::HI_MAX / 2 => {
            let message = format!(
                "the target's ledger holds the token {newer}, which no coordinator issued: \
                         mend its row"
            );
            Outcome::Failed(AttemptError::new(
                ErrorClass::Permanent,
                "impossible_token",
                message,
            ))
        }
        Outcome::Committed(_)
        | Outcome::Probed(_)
        | Outcome::Done
        | Outcome::Prepared { .. }
        | Outcome::RunFenced { .. }
        | Outcome::Counted(_)
        | Outcome::Closed(_)
        | Outcome::Unprepared(_)
        | Outcome::Fenced { .. }
        | Outcome::Superseded { .. }
        | Outcome::Failed(_)
        | Outcome::Released => outcome,
    }
}
