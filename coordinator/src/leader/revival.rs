//! How a failed run is tried again.

use highwater_common::id::{RunId, StepName};
use highwater_common::record::DeadRecord;
use highwater_common::selection::Selection;
use highwater_common::status::{RunEvent, RunStatus, StepStatus};
use highwater_common::task::TaskState;

use super::batch::Planned;
use super::runs::cut;
use super::word::{Verdict, Word};
use super::{Leader, TermEnded};
use crate::engine::{Change, ChangeKind, Chosen, Outages, Run, Step};
use crate::error::ServiceError;

/// The longest word that is kept with a task that a run goes on without, in bytes.
const ACCEPTED_BYTES_MAX: usize = 512;

impl Leader {
    /// Takes dead tasks of a failed run, and the steps skipped after them, back to pending; with a
    /// verdict, those that are in doubt to where it says that they are, or lets the run go on
    /// without those that are dead. The run
    /// goes first and the tasks last: whatever a crash leaves undone, the run fails again and can
    /// be tried again.
    pub(super) async fn retry(
        &mut self,
        id: RunId,
        selections: &[Selection],
        verdict: Option<Verdict>,
        word: &Word,
    ) -> Result<Result<u64, ServiceError>, TermEnded> {
        let revivable = self.revivable(id, selections, verdict, word);
        let (status, chosen, changes) = match revivable {
            Ok(found) => found,
            Err(refused) => return Ok(Err(refused)),
        };
        let verb = match verdict {
            None => "retry",
            Some(Verdict::Applied) => "resolve --applied",
            Some(Verdict::NotApplied) => "resolve --not-applied",
            Some(Verdict::Accepted) => "accept",
        };
        let about = format!("{}: {}", told(selections), tasks(changes.len()));
        self.audit(Some(id), verb, about, word).await?;
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
        // What follows a step that goes on goes on with it.
        let is_meant = |name: &StepName| {
            let known = run.spec.steps.get(name);
            let followed = known.and_then(|step| step.strategy.load().follows());
            chosen.has(name) || followed.is_some_and(|other| chosen.has(other))
        };
        let has_changes = |name: &StepName| {
            let mut changed = changes.iter();
            verdict.is_none() && changed.any(|planned| planned.change.address.step == *name)
        };
        let reopened: Vec<(StepName, StepStatus)> = run
            .steps
            .iter()
            .filter_map(|(name, step)| match step.record.status {
                StepStatus::Failed if is_meant(name) => Some((name.clone(), StepStatus::Running)),
                // One that had gone on without tasks has them again.
                StepStatus::Success if has_changes(name) => {
                    Some((name.clone(), StepStatus::Running))
                }
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
        selections: &[Selection],
        verdict: Option<Verdict>,
        word: &Word,
    ) -> Result<(RunStatus, Chosen, Vec<Planned>), ServiceError> {
        let run = self
            .cluster
            .runs
            .get(&id)
            .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
        let chosen = Chosen::of(run, selections)?;
        let status = run.record.status;
        let is_of_doubt = matches!(verdict, Some(Verdict::Applied | Verdict::NotApplied));
        let is_told = is_of_doubt && status == RunStatus::Cancelled;
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
        for (name, step) in run.steps.iter().filter(|(name, _)| chosen.has(name)) {
            let meant = match verdict {
                None | Some(Verdict::Accepted) => TaskState::Dead,
                Some(Verdict::Applied | Verdict::NotApplied) => TaskState::InDoubt,
            };
            for (_, phase, table) in step.planned_tables() {
                for (ordinal, held) in &table.dead {
                    let address = &held.record.address;
                    let is_accepted = !held.record.accepted.is_empty();
                    if table.state(*ordinal) != meant
                        || !chosen.takes(run, address)
                        || (verdict == Some(Verdict::Accepted) && is_accepted)
                        // What a person goes on without is tried again where he names it.
                        || (verdict.is_none() && is_accepted && selections.is_empty())
                    {
                        continue;
                    }
                    if verdict == Some(Verdict::Accepted) && !phase.tolerant {
                        return Err(ServiceError::NotAcceptable {
                            step: name.clone(),
                            work: held.record.work.clone(),
                        });
                    }
                    let Some(task) = run.task_id(address) else {
                        continue;
                    };
                    let kind = kind(verdict, word, &held.record);
                    let (address, run) = (address.clone(), id);
                    let change = Change {
                        run,
                        task,
                        address,
                        kind,
                    };
                    changes.push(change.into());
                }
            }
        }
        // A step that follows another one may have failed with nothing dead of its own.
        let is_stranded = |(name, step): (&StepName, &Step)| {
            verdict.is_none()
                && chosen.has(name)
                && step.record.status == StepStatus::Failed
                && step.counts().pending > 0
        };
        if changes.is_empty() && !run.steps.iter().any(is_stranded) {
            let run = self.short_of(&id);
            return Err(match verdict {
                None => ServiceError::NothingToRetry { run },
                Some(Verdict::Accepted) => ServiceError::NothingToAccept { run },
                Some(Verdict::Applied | Verdict::NotApplied) => {
                    ServiceError::NothingInDoubt { run }
                }
            });
        }
        Ok((status, chosen, changes))
    }
}

/// What becomes of a task that was given up.
fn kind(verdict: Option<Verdict>, word: &Word, dead: &DeadRecord) -> ChangeKind {
    let resolved = |applied| ChangeKind::Resolve {
        applied,
        reason: word.reason.clone(),
    };
    match verdict {
        None => ChangeKind::Revive,
        Some(Verdict::Applied) => resolved(true),
        Some(Verdict::NotApplied) => resolved(false),
        Some(Verdict::Accepted) => ChangeKind::Accept(DeadRecord {
            accepted: cut(
                &format!("by {}: {}", word.by, word.reason),
                ACCEPTED_BYTES_MAX,
            ),
            ..dead.clone()
        }),
    }
}

fn told(selections: &[Selection]) -> String {
    let told: Vec<String> = selections.iter().map(ToString::to_string).collect();
    match told.is_empty() {
        true => "every step".to_owned(),
        false => told.join(" "),
    }
}

fn tasks(count: usize) -> String {
    format!("{count} task{}", if count == 1 { "" } else { "s" })
}
