//! The last word about a run: how it ended, what is committed, what to know of it, and the command
//! that leads on.

use highwater_common::document::{RunDocument, StepDocument};
use highwater_common::number::{count, duration};
use highwater_common::status::{RunStatus, StepStatus};
use jiff::Timestamp;

use super::look::{Look, tame};
use super::run::{check, failed_task, is_told_by, took};

/// Dead tasks that the summary shows; `status` shows more.
const DEAD_SHOWN: usize = 3;

/// How the run ended.
#[must_use]
pub(crate) fn summary(run: &RunDocument, now: Timestamp, look: &Look) -> String {
    let word = match run.status {
        RunStatus::Success => look.good("success"),
        RunStatus::Failed if run.committed => look.bad("failed, part committed,"),
        RunStatus::Failed => look.bad("failed, nothing committed,"),
        RunStatus::Cancelled => look.warn("cancelled"),
        RunStatus::Planning | RunStatus::Planned | RunStatus::Running | RunStatus::Cancelling => {
            look.bold(run.status.as_str())
        }
    };
    let took = took(run, now)
        .map(|time| format!(" in {}", duration(time)))
        .unwrap_or_default();
    let mut text = format!("Run {} {word}{took}: {}\n", run.short, totals(run));
    if !run.reason.is_empty() {
        text.push_str(&format!("  reason: {}\n", tame(&run.reason)));
    }
    if run.status != RunStatus::Success {
        text.push_str(&steps(run));
    }
    for step in &run.steps {
        for warning in &step.warnings {
            text.push_str(&format!(
                "  {} {}: {}\n",
                look.warn("warn"),
                step.step,
                tame(warning)
            ));
        }
        for rows in &step.not_loaded {
            text.push_str(&format!("  {} not loaded: {}\n", step.step, tame(rows)));
        }
        for answer in &step.checks {
            text.push_str(&format!("  {} check {}\n", step.step, check(answer, look)));
        }
    }
    // The reason of a run that could not be planned is what its probes died of.
    let news = dead(run).filter(|(_, task)| !is_told_by(std::slice::from_ref(task), &run.reason));
    for (step, task) in news.take(DEAD_SHOWN) {
        text.push_str(&format!("  dead {}\n", failed_task(step, task)));
    }
    if let Some(next) = next_command(run, look) {
        text.push_str(&format!("  next: {next}\n"));
    }
    text
}

/// The command that leads on from where the run stands, if there is one.
#[must_use]
pub(crate) fn next_command(run: &RunDocument, look: &Look) -> Option<String> {
    let program = &look.program;
    match run.status {
        RunStatus::Failed if run.tasks.planned() == 0 => {
            Some("mend what is named above, then run the pipeline file again".to_owned())
        }
        RunStatus::Failed if run.tasks.in_doubt > 0 => Some(format!(
            "{program} resolve {} STEP --applied, or --not-applied, of what is in doubt",
            run.short
        )),
        RunStatus::Failed => Some(format!("{program} retry {}", run.short)),
        RunStatus::Planning
        | RunStatus::Planned
        | RunStatus::Running
        | RunStatus::Cancelling
        | RunStatus::Success
        | RunStatus::Cancelled => None,
    }
}

fn totals(run: &RunDocument) -> String {
    let tasks = &run.tasks;
    if run.status == RunStatus::Failed && tasks.planned() == 0 && tasks.covered == 0 {
        return "planning did not end well".to_owned();
    }
    if run.status == RunStatus::Success && tasks.planned() == 0 {
        return match tasks.covered {
            0 => "nothing to do".to_owned(),
            covered => format!(
                "nothing to do, {} tasks covered by earlier runs",
                count(covered)
            ),
        };
    }
    let mut parts = Vec::new();
    if run.status == RunStatus::Success && tasks.done == tasks.planned() {
        parts.push(format!(
            "{} task{}",
            count(tasks.done),
            if tasks.done == 1 { "" } else { "s" }
        ));
    } else {
        parts.push(format!("{} done", count(tasks.done)));
    }
    let not_run = tasks.pending + tasks.open + tasks.retry_wait + tasks.superseded;
    for (number, word) in [
        (tasks.dead, "dead"),
        (tasks.in_doubt, "in_doubt"),
        (not_run, "not run"),
        (tasks.covered, "covered by earlier runs"),
    ] {
        if number > 0 {
            parts.push(format!("{} {word}", count(number)));
        }
    }
    parts.push(format!("{} rows", count(run.rows)));
    parts.join(" · ")
}

/// `success 4 steps · failed orders (1 dead) · skipped features`.
fn steps(run: &RunDocument) -> String {
    let mut parts = Vec::new();
    let succeeded = run
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Success)
        .count();
    if succeeded > 0 {
        parts.push(format!(
            "success {succeeded} step{}",
            if succeeded == 1 { "" } else { "s" }
        ));
    }
    for status in [
        StepStatus::Failed,
        StepStatus::Skipped,
        StepStatus::Cancelled,
    ] {
        let of_status: Vec<String> = run
            .steps
            .iter()
            .filter(|step| step.status == status)
            .map(named_with_reason)
            .collect();
        if !of_status.is_empty() {
            parts.push(format!("{status} {}", of_status.join(", ")));
        }
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!("  {}\n", parts.join(" · "))
    }
}

fn named_with_reason(step: &StepDocument) -> String {
    let why = match (step.tasks.dead, step.reason.as_str()) {
        (0, "") => return step.step.to_string(),
        (0, reason) => tame(reason),
        (dead, _) => format!("{} dead", count(dead)),
    };
    format!("{} ({why})", step.step)
}

fn dead(
    run: &RunDocument,
) -> impl Iterator<
    Item = (
        &StepDocument,
        &highwater_common::document::FailedTaskDocument,
    ),
> {
    run.steps
        .iter()
        .flat_map(|step| step.dead.iter().map(move |task| (step, task)))
}
