//! What follows for steps and runs from where their tasks stand.

use highwater_common::assignment::AttemptError;
use highwater_common::id::{RunId, StepName};
use highwater_common::plan::PhaseKind;
use highwater_common::record::RunIntent;
use highwater_common::spec::When;
use highwater_common::status::{RunEvent, RunStatus, StepStatus};
use highwater_common::task::TaskState;

use super::followed::{Followed, stranded, undone};
use super::step::{Stage, Step};
use super::view::{Cluster, Run};

/// The next thing to be stored about a run. Each is one transaction; after it, [`advance`] is asked
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Every probe is in: make the plan.
    Plan {
        /// The run.
        run: RunId,
    },
    /// A step was probed again, because its stream was not as planned: make its plan anew.
    Replan {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
    },
    /// A step goes on.
    Step {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// To where.
        status: StepStatus,
        /// Why, when it is not for the better.
        reason: String,
    },
    /// The run goes on.
    Run {
        /// The run.
        run: RunId,
        /// What happened.
        event: RunEvent,
        /// Why, when it is not for the better.
        reason: String,
    },
}

/// The next thing that follows from the view, or `None` when only tasks, people or time can bring
/// something new.
#[must_use]
pub(crate) fn advance(cluster: &Cluster) -> Option<Advance> {
    cluster.runs.values().find_map(|run| of_run(cluster, run))
}

fn of_run(cluster: &Cluster, run: &Run) -> Option<Advance> {
    let event = |event, reason: String| {
        Some(Advance::Run {
            run: run.id,
            event,
            reason,
        })
    };
    if run.record.intent == RunIntent::Cancel
        && !run.record.status.has_ended()
        && run.record.status != RunStatus::Cancelling
    {
        return event(RunEvent::CancelWanted, run.record.reason.clone());
    }
    match run.record.status {
        RunStatus::Planning if run.damage.is_some() => {
            event(RunEvent::Refused, run.damage.clone().unwrap_or_default())
        }
        RunStatus::Planning => of_planning(run),
        RunStatus::Planned if run.record.intent == RunIntent::Run && !cluster.is_held_back(run) => {
            event(RunEvent::Started, String::new())
        }
        RunStatus::Running if run.damage.is_some() => {
            event(RunEvent::Failed, run.damage.clone().unwrap_or_default())
        }
        RunStatus::Running => run
            .dag
            .order()
            .iter()
            .find_map(|name| of_step(run, name))
            .or_else(|| of_ended_steps(run)),
        RunStatus::Cancelling if is_fenced(run) => {
            event(RunEvent::Fenced, run.record.reason.clone())
        }
        RunStatus::Planned
        | RunStatus::Cancelling
        | RunStatus::Success
        | RunStatus::Failed
        | RunStatus::Cancelled => None,
    }
}

fn of_planning(run: &Run) -> Option<Advance> {
    let probed = |name: &StepName| !run.probes(name);
    let errors: Vec<String> = run
        .steps
        .iter()
        .filter_map(|(name, step)| {
            step.probe()
                .dead
                .get(&0)
                .map(|dead| format!("{name}: {}", describe(&dead.record.error)))
        })
        .collect();
    let is_over = |name: &StepName, step: &Step| {
        probed(name) || run.facts.contains_key(name) || step.probe().state(0) == TaskState::Dead
    };
    if !run.steps.iter().all(|(name, step)| is_over(name, step)) {
        return None;
    }
    if errors.is_empty() {
        return Some(Advance::Plan { run: run.id });
    }
    Some(Advance::Run {
        run: run.id,
        event: RunEvent::Refused,
        reason: errors.join("\n"),
    })
}

/// How an error reads in a reason.
fn describe(error: &AttemptError) -> String {
    error.message.clone()
}

fn of_step(run: &Run, name: &StepName) -> Option<Advance> {
    let (step, known) = (run.steps.get(name)?, run.spec.steps.get(name)?);
    let to = |status, reason: String| {
        Some(Advance::Step {
            run: run.id,
            step: name.clone(),
            status,
            reason,
        })
    };
    match step.record.status {
        StepStatus::Pending => {
            if let Some(skipped) = run.record.controls.skip(name) {
                return to(StepStatus::Skipped, skipped);
            }
            let mut may_start = true;
            for edge in &known.depends_on {
                let Some(other) = run.steps.get(&edge.step) else {
                    continue;
                };
                let tolerated = run.spec.steps.get(&edge.step);
                let tolerated = tolerated.map_or(0, |known| known.tolerate_dead);
                match (other.record.status, edge.when) {
                    (StepStatus::Running, _) if other.is_live(tolerated) => {}
                    // What follows another step goes on beside it.
                    (StepStatus::Running, When::Success) if is_followed(run, name, &edge.step) => {}
                    (StepStatus::Pending | StepStatus::Running, When::Success | When::Done) => {
                        may_start = false
                    }
                    (StepStatus::Success, When::Success | When::Done)
                    | (
                        StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled,
                        When::Done,
                    ) => {}
                    (status @ (StepStatus::Failed | StepStatus::Cancelled), When::Success) => {
                        return to(StepStatus::Skipped, format!("{} {status}", edge.step));
                    }
                    // The first ancestor that failed is named all the way down.
                    (StepStatus::Skipped, When::Success) => {
                        return to(StepStatus::Skipped, other.record.reason.clone());
                    }
                }
            }
            if may_start {
                to(StepStatus::Running, String::new())
            } else {
                None
            }
        }
        StepStatus::Running if step.is_replanned() => of_replanned_step(run, name, step, to),
        StepStatus::Running => match stranded(run, name) {
            Some(why) => to(StepStatus::Failed, why),
            None if step.open() == 0 && is_run_over_other_rows(run, name, step) => {
                let why = undone(run, name);
                to(StepStatus::Failed, why.unwrap_or_default())
            }
            None => of_running_step(step, known.tolerate_dead, to),
        },
        StepStatus::Success | StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled => {
            None
        }
    }
}

/// Whether all that is left of a step is its close, and what it did does not stand.
fn is_run_over_other_rows(run: &Run, name: &StepName, step: &Step) -> bool {
    let tolerated = run
        .spec
        .steps
        .get(name)
        .map_or(0, |known| known.tolerate_dead);
    let is_closing = match step.stage(tolerated) {
        Stage::In(phase) => step.kind(step.generation, phase) == Some(PhaseKind::Close),
        Stage::Failed(_) | Stage::Over => false,
    };
    is_closing && undone(run, name).is_some()
}

/// Whether a step follows another one, some of whose tasks may be committed already.
fn is_followed(run: &Run, name: &StepName, other: &StepName) -> bool {
    Followed::by(run, name).is_some_and(|followed| followed.name == other && followed.is_running())
}

fn of_replanned_step(
    run: &Run,
    name: &StepName,
    step: &Step,
    to: impl Fn(StepStatus, String) -> Option<Advance>,
) -> Option<Advance> {
    if let Some(dead) = step.probe().dead.get(&0) {
        return to(
            StepStatus::Failed,
            format!("probed again: {}", dead.record.error.message),
        );
    }
    let is_probed = step.probe().state(0) == TaskState::Done && run.facts.contains_key(name);
    is_probed.then(|| Advance::Replan {
        run: run.id,
        step: name.clone(),
    })
}

fn of_running_step(
    step: &Step,
    tolerated: u32,
    to: impl Fn(StepStatus, String) -> Option<Advance>,
) -> Option<Advance> {
    let number = match step.stage(tolerated) {
        Stage::In(_) => return None,
        // nothing to do is a success of 0 tasks
        Stage::Over => return to(StepStatus::Success, String::new()),
        Stage::Failed(number) => number,
    };
    let (_, phase, table) = step
        .planned_tables()
        .find(|(other, _, _)| *other == number)?;
    let first = table.dead.values().next().map(|held| &held.record);
    if !phase.kind.is_work() {
        let why = first.map_or(String::new(), |dead| describe(&dead.error));
        return to(
            StepStatus::Failed,
            format!("{}: {why}", phase.kind.as_str()),
        );
    }
    let failed = table.counts.dead.saturating_add(table.counts.in_doubt);
    let first = first.map_or(String::new(), |dead| {
        format!(": {}: {}", dead.work, dead.error.message)
    });
    to(
        StepStatus::Failed,
        format!("{failed} of {} tasks dead{first}", table.counts.planned()),
    )
}

fn of_ended_steps(run: &Run) -> Option<Advance> {
    if !run
        .steps
        .values()
        .all(|step| step.record.status.has_ended())
    {
        return None;
    }
    let failed: Vec<&str> = run
        .steps
        .iter()
        .filter(|(_, step)| step.record.status != StepStatus::Success)
        .map(|(name, _)| name.as_str())
        .collect();
    let (event, reason) = if failed.is_empty() {
        (RunEvent::Succeeded, String::new())
    } else {
        (
            RunEvent::Failed,
            format!("not every step succeeded: {}", failed.join(", ")),
        )
    };
    Some(Advance::Run {
        run: run.id,
        event,
        reason,
    })
}

/// Every target of the run is fenced, also of one that has no plan: a store that was put back to a
/// backup may know less of a run than its targets do.
fn is_fenced(run: &Run) -> bool {
    run.steps.iter().all(|(name, step)| {
        let writes = run
            .spec
            .steps
            .get(name)
            .is_some_and(|step| step.strategy.load().sides().target.is_some());
        let may_run_again = run
            .spec
            .steps
            .get(name)
            .is_none_or(|step| step.strategy.load().may_run_again());
        let is_fenced = !writes || step.fence().state(0) == TaskState::Done;
        // Nothing fences a program: its attempt has to have ended.
        is_fenced && (may_run_again || step.open() == 0)
    })
}

#[cfg(test)]
mod tests;
