//! How a failed run is tried again.

use highwater_common::id::{RunId, StepName};
use highwater_common::status::{RunEvent, RunStatus, StepStatus};
use highwater_common::task::TaskState;

use super::batch::Planned;
use super::request::Verdict;
use super::{Leader, TermEnded};
use crate::engine::{Change, ChangeKind, Outages, Run};
use crate::error::ServiceError;

impl Leader {
    /// Takes dead tasks of a failed run, and the steps skipped after them, back to pending; with a
    /// verdict, those that are in doubt to where it says that they are. The run
    /// goes first and the tasks last: whatever a crash leaves undone, the run fails again and can
    /// be tried again.
    pub(super) async fn retry(
        &mut self,
        id: RunId,
        only: Option<&StepName>,
        verdict: Option<&Verdict>,
    ) -> Result<Result<u64, ServiceError>, TermEnded> {
        let (status, changes) = match self.revivable(id, only, verdict) {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        };
        if status == RunStatus::Failed {
            self.move_run(id, RunEvent::Retried, String::new()).await?;
        }
        if let Some(run) = self.cluster.runs.get_mut(&id) {
            // a person asks: what was given up has all its time once more
            run.outages = Outages::default();
        }
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(Ok(0));
        };
        if status == RunStatus::Cancelled {
            // What was in doubt is told; the run stays as it is.
            let resolved = changes.len() as u64;
            self.apply_changes(changes).await?;
            return Ok(Ok(resolved));
        }
        let is_meant = |name: &StepName| only.is_none_or(|only| only == name);
        let reopened: Vec<(StepName, StepStatus)> = run
            .steps
            .iter()
            .filter_map(|(name, step)| match step.record.status {
                StepStatus::Failed if is_meant(name) => Some((name.clone(), StepStatus::Running)),
                StepStatus::Skipped => Some((name.clone(), StepStatus::Pending)),
                StepStatus::Failed
                | StepStatus::Pending
                | StepStatus::Running
                | StepStatus::Success
                | StepStatus::Cancelled => None,
            })
            .collect();
        for (name, status) in reopened {
            self.put_step(id, &name, status, String::new()).await?;
        }
        let revived = changes.len() as u64;
        self.apply_changes(changes).await?;
        Ok(Ok(revived))
    }

    /// Where a run stands, and the changes that bring its dead tasks back.
    fn revivable(
        &self,
        id: RunId,
        only: Option<&StepName>,
        verdict: Option<&Verdict>,
    ) -> Result<(RunStatus, Vec<Planned>), ServiceError> {
        let run = self
            .cluster
            .runs
            .get(&id)
            .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
        if let Some(step) = only.filter(|step| !run.steps.contains_key(*step)) {
            return Err(ServiceError::UnknownStep(step.clone()));
        }
        let status = run.record.status;
        let is_told = verdict.is_some() && status == RunStatus::Cancelled;
        if status != RunStatus::Failed && status != RunStatus::Running && !is_told {
            return Err(ServiceError::RunEnded {
                run: self.short_of(&id),
                status,
            });
        }
        if let Some(damage) = &run.damage {
            return Err(ServiceError::Damaged {
                run: self.short_of(&id),
                damage: damage.clone(),
            });
        }
        if run.record.generation == 0 {
            return Err(ServiceError::NeverPlanned {
                run: self.short_of(&id),
            });
        }
        let is_other = |other: &&Run| {
            (other.holds_back() || other.takes_back())
                && other.id != id
                && other.record.pipeline == run.record.pipeline
        };
        if let Some(other) = self.cluster.runs.values().find(is_other) {
            return Err(ServiceError::OtherRunActive {
                run: self.short_of(&id),
                other: self.short_of(&other.id),
            });
        }
        // A run that goes on keeps what came after it waiting; one that has ended does not.
        if let Some(newer) = self
            .cluster
            .successor(run)
            .filter(|_| status == RunStatus::Failed)
        {
            return Err(ServiceError::RunSuperseded {
                run: self.short_of(&id),
                newer: self.short_of(&newer.id),
                pipeline: run.record.pipeline.clone(),
            });
        }
        if let Some((undone_by, step)) = self.cluster.undone_by(run) {
            return Err(ServiceError::RunUndone {
                run: self.short_of(&id),
                undone_by: self.short_of(&undone_by.id),
                step: step.clone(),
                pipeline: run.record.pipeline.clone(),
            });
        }
        let mut changes = Vec::new();
        for (_, step) in run
            .steps
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name))
        {
            let (meant, kind) = match verdict {
                None => (TaskState::Dead, ChangeKind::Revive),
                Some(Verdict { applied, reason }) => (
                    TaskState::InDoubt,
                    ChangeKind::Resolve {
                        applied: *applied,
                        reason: reason.clone(),
                    },
                ),
            };
            let given_up = step.planned_tables().flat_map(|(_, _, table)| {
                let held = table.dead.iter();
                held.filter(move |(ordinal, _)| table.state(**ordinal) == meant)
            });
            for address in given_up.map(|(_, held)| held.record.address.clone()) {
                let Some(task) = run.task_id(&address) else {
                    continue;
                };
                changes.push(
                    Change {
                        run: id,
                        task,
                        address,
                        kind: kind.clone(),
                    }
                    .into(),
                );
            }
        }
        if changes.is_empty() {
            let run = self.short_of(&id);
            return Err(match verdict {
                None => ServiceError::NothingToRetry { run },
                Some(_) => ServiceError::NothingInDoubt { run },
            });
        }
        Ok((status, changes))
    }
}
