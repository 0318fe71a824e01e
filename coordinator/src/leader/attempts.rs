//! Attempts: what is handed out, and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_common::assignment::{
    AttemptError, ErrorClass, FACTS_BYTES_MAX, Outcome, Receipt, Work,
};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::StepFacts;
use highwater_common::id::{SessionId, TaskId};
use highwater_common::plan::PhaseKind;
use highwater_common::record::{LeaseRecord, RunIntent};
use highwater_common::segment::TaskResult;
use highwater_common::stream::AfterFence;
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::batch::{Batch, Effect, Planned, Pushed};
use super::facts::{self, FactsRecords, PARTS_AT_ONCE_MAX};
use super::reply::Reply;
use super::{Leader, TermEnded};
use crate::engine::{Change, ChangeKind};
use crate::store::Op;

/// How an attempt ended, as its worker told.
pub(crate) struct Completion {
    pub(crate) session: SessionId,
    pub(crate) task: TaskId,
    pub(crate) fence: Fence,
    pub(crate) outcome: Outcome,
    pub(crate) millis: u64,
    pub(crate) reply: Reply<bool>,
}

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
            | Outcome::Checked(_)
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
            (
                Outcome::Committed(receipt),
                Work::Partition(_)
                | Work::Publish
                | Work::Reconcile
                | Work::Statements
                | Work::Replay,
            ) => self.committed(task, receipt, millis),
            (Outcome::Checked(checked), Work::Publish | Work::Check) => {
                self.checked(task, checked, millis)
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
                AfterFence::GiveUp => self.failed(task, self.not_planned_again(task), None),
            },
            (Outcome::Counted(found), Work::Count(_)) => self.counted(task, &found, millis),
            (Outcome::Done, Work::Noop(_) | Work::Build | Work::Command) => {
                self.completed(task, Receipt::default(), millis)
            }
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
                | Outcome::Checked(_)
                | Outcome::Counted(_)
                | Outcome::Closed(_)
                | Outcome::Done
                | Outcome::Prepared { .. }
                | Outcome::Probed(_),
                work @ (Work::Probe
                | Work::Prepare
                | Work::Partition(_)
                | Work::Build
                | Work::Check
                | Work::Publish
                | Work::Reconcile
                | Work::Statements
                | Work::Command
                | Work::Replay
                | Work::Follow
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
                    AttemptError::new(ErrorClass::Permanent, ErrorCode::MalformedOutcome, message),
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
        let refuse = |message: String| {
            AttemptError::new(ErrorClass::Permanent, ErrorCode::MalformedFacts, message)
        };
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
                ErrorCode::ImpossibleToken,
                message,
            ))
        }
        Outcome::Committed(_)
        | Outcome::Probed(_)
        | Outcome::Done
        | Outcome::Prepared { .. }
        | Outcome::RunFenced { .. }
        | Outcome::Checked(_)
        | Outcome::Counted(_)
        | Outcome::Closed(_)
        | Outcome::Unprepared(_)
        | Outcome::Fenced { .. }
        | Outcome::Superseded { .. }
        | Outcome::Failed(_)
        | Outcome::Released => outcome,
    }
}
