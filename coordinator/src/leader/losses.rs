//! Targets that are not as a step's prepare left them: put back to an older state, failed over,
//! replaced. What they lost is done again.

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt};
use highwater_common::close::{AfterClose, Ordinals, SETBACKS_MAX, after_close};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{RunId, TaskId};
use highwater_common::plan::PhaseKind;
use highwater_common::record::{StepRecord, TaskAddress};
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::task::TaskState;

use super::batch::Planned;
use super::{Leader, TermEnded};
use crate::engine::{Change, ChangeKind, Run, Step};

/// Tasks whose changes are made at once: as many as one transaction takes segments of.
const AT_ONCE: usize = 4096;

impl Leader {
    /// What a close found: the target holds all that is counted, or the tasks that it has lost are
    /// opened again, and the prepare before them: ledger, table and stream may be older, too.
    /// Receipts that the store does not know are met by their tasks' claims; a task that has none
    /// coming is made pending for that.
    ///
    /// The close's own lease goes last. Cut off before that, the close is simply done once more,
    /// and finds what is left. One that was made in the midst of the step is given back: it comes
    /// again at the end.
    pub(super) async fn closed(
        &mut self,
        task: &TaskId,
        there: &Ordinals,
        millis: u64,
    ) -> Result<Option<Planned>, TermEnded> {
        self.reached(task);
        let Some((lease, run)) = self.lease(task) else {
            return Ok(None);
        };
        let (id, address) = (run.id, lease.address.clone());
        let Some(step) = run.steps.get(&address.step) else {
            return Ok(None);
        };
        let Some((phase, table)) = step.committing() else {
            return Ok(self.completed(task, Receipt::default(), millis));
        };
        let compared = step.comparison.as_ref();
        let is_older =
            compared.is_some_and(|compared| compared.token != Some(lease.fence.token.raw()));
        // A step that has ended meanwhile is as it ended, until somebody tries it again.
        let goes_on =
            run.record.status == RunStatus::Running && step.record.status == StepStatus::Running;
        if is_older || !goes_on {
            return Ok(self.released(task));
        }
        let is_counted =
            |ordinal: &u64| compared.is_none_or(|compared| !compared.since.contains(ordinal));
        let done = table.in_state(TaskState::Done).filter(is_counted);
        let setbacks = step.record.setbacks;
        let lost = match after_close(done, there, setbacks) {
            AfterClose::Ends => Vec::new(),
            AfterClose::GiveUp(lost) => return Ok(self.failed(task, keeps_losing(lost), None)),
            AfterClose::Reopen(lost) => lost,
        };
        let states = [TaskState::RetryWait, TaskState::Dead].into_iter();
        let met: Vec<u64> = states
            .flat_map(|state| table.in_state(state))
            .filter(|ordinal| setbacks < SETBACKS_MAX && there.contains(*ordinal))
            .collect();
        let is_last = compared.is_none();
        if lost.is_empty() && met.is_empty() && is_last {
            return Ok(self.completed(task, Receipt::default(), millis));
        }
        if !lost.is_empty() {
            tracing::warn!(run = %id, step = %address.step, lost = lost.len(), "the target has \
                lost committed tasks: loading them again");
            if let Some(prepare) = done_prepare(run, step, &address) {
                self.apply_changes(vec![prepare.into()]).await?;
            }
        }
        let load = TaskAddress {
            phase,
            ordinal: 0,
            ..address.clone()
        };
        self.change_all(id, &load, &lost, &ChangeKind::FindLost)
            .await?;
        self.change_all(id, &load, &met, &ChangeKind::Revive)
            .await?;
        let run = self.cluster.runs.get_mut(&id);
        if let Some(step) = run.and_then(|run| run.steps.get_mut(&address.step)) {
            step.comparison = None;
        }
        let released = self.released(task);
        if lost.is_empty() && met.is_empty() {
            return Ok(released);
        }
        let count = u64::try_from(lost.len()).unwrap_or(u64::MAX);
        Ok(released.and_then(|released| {
            self.noting(released, |record| {
                record.tasks_lost = record.tasks_lost.saturating_add(count);
                set_back(record);
            })
        }))
    }

    /// Makes the same change of many tasks of a phase.
    async fn change_all(
        &mut self,
        id: RunId,
        of: &TaskAddress,
        ordinals: &[u64],
        kind: &ChangeKind,
    ) -> Result<(), TermEnded> {
        for ordinals in ordinals.chunks(AT_ONCE) {
            let Some(run) = self.cluster.runs.get(&id) else {
                return Ok(());
            };
            let changes = ordinals.iter().filter_map(|ordinal| {
                let address = TaskAddress {
                    ordinal: *ordinal,
                    ..of.clone()
                };
                let change = Change {
                    run: id,
                    task: run.task_id(&address)?,
                    address,
                    kind: kind.clone(),
                };
                Some(change.into())
            });
            let changes = changes.collect();
            self.apply_changes(changes).await?;
        }
        Ok(())
    }

    /// What a task comes to whose claim found a target that is not as it was prepared: the step
    /// prepares it again, and the task is given back; or it fails, if that happens too often.
    pub(super) async fn prepare_again(
        &mut self,
        task: &TaskId,
        why: AttemptError,
    ) -> Result<Outcome, TermEnded> {
        let Some((lease, run)) = self.lease(task) else {
            return Ok(Outcome::Released);
        };
        let Some(step) = run.steps.get(&lease.address.step) else {
            return Ok(Outcome::Released);
        };
        if lease.fence.token.raw() < step.prepare_token {
            return Ok(Outcome::Released); // it was handed out before the prepare that came since
        }
        let Some(prepare) = done_prepare(run, step, &lease.address) else {
            return Ok(Outcome::Released);
        };
        if step.record.setbacks >= SETBACKS_MAX {
            return Ok(Outcome::Failed(why));
        }
        tracing::warn!(run = %run.id, step = %lease.address.step, "preparing the target again: {}", why.message);
        let (id, name) = (run.id, lease.address.step.clone());
        let prepare = self.noting(prepare.into(), set_back);
        self.apply_changes(prepare.into_iter().collect()).await?;
        // Another server, or an older file: it may lack what was counted before.
        let run = self.cluster.runs.get_mut(&id);
        if let Some(step) = run.and_then(|run| run.steps.get_mut(&name)) {
            step.compare();
        }
        Ok(Outcome::Released)
    }
}

fn set_back(record: &mut StepRecord) {
    record.setbacks = record.setbacks.saturating_add(1);
}

/// The change that opens a step's prepare again; `None` while it is open already.
fn done_prepare(run: &Run, step: &Step, of: &TaskAddress) -> Option<Change> {
    let (phase, table) = step.of_kind(PhaseKind::Prepare)?;
    let address = TaskAddress {
        phase,
        ordinal: 0,
        ..of.clone()
    };
    let task = run.task_id(&address)?;
    (table.state(0) == TaskState::Done).then_some(Change {
        run: run.id,
        task,
        address,
        kind: ChangeKind::FindLost,
    })
}

fn keeps_losing(lost: u64) -> AttemptError {
    let message = format!(
        "the target has lost the commits of {lost} task{}, after it had lost some or was another \
         server {SETBACKS_MAX} times before: is it put back to an older state again and again, or \
         do several servers answer under its name? Mend that, then `highwater retry`",
        if lost == 1 { "" } else { "s" }
    );
    AttemptError::new(ErrorClass::Permanent, ErrorCode::TargetKeepsLosing, message)
}
