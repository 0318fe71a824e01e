//! What is new between two documents of a run, each as one whole line that carries the run's name.

use std::collections::BTreeSet;

use highwater_common::document::{FailedTaskDocument, RunDocument, StepDocument};
use highwater_common::id::TaskId;
use highwater_common::number::count;
use highwater_common::status::StepStatus;

use crate::render::{Look, failed_task, is_told_by, tame};

/// A line for each step that changed its status, each task that failed, each new warning and each
/// new reason to wait.
pub(super) fn changes(last: Option<&RunDocument>, next: &RunDocument, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    if last.is_none_or(|last| last.status != next.status) {
        lines.push(format!(
            "{} {} {}",
            next.short,
            next.pipeline,
            look.run_status(next.status)
        ));
    }
    for (at, step) in next.steps.iter().enumerate() {
        let before = last
            .and_then(|last| last.steps.get(at))
            .filter(|before| before.step == step.step);
        lines.extend(
            step_changes(before, step, look)
                .into_iter()
                .map(|line| format!("{} {line}", next.short)),
        );
    }
    lines
}

/// New failures alone: what a bar shows above itself.
pub(super) fn failures(last: Option<&RunDocument>, next: &RunDocument, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, step) in next.steps.iter().enumerate() {
        let before = last
            .and_then(|last| last.steps.get(at))
            .filter(|before| before.step == step.step);
        lines.extend(failed(before, step, look));
    }
    lines
}

fn step_changes(before: Option<&StepDocument>, step: &StepDocument, look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    // Every step is pending at first, which is no news.
    if before.map_or(StepStatus::Pending, |before| before.status) != step.status {
        let mut line = format!("step {} {}", step.step, look.step_status(step.status));
        let (done, planned) = (step.tasks.done, step.tasks.planned());
        if planned > 0 {
            line.push_str(&format!(" · {}/{} tasks", count(done), count(planned)));
        }
        if step.rows > 0 {
            line.push_str(&format!(" · {} rows", count(step.rows)));
        }
        if !step.reason.is_empty() && !is_told_by(&step.dead, &step.reason) {
            line.push_str(&format!(" · {}", tame(&step.reason)));
        }
        lines.push(line);
    }
    lines.extend(failed(before, step, look));
    let warnings = before
        .map(|before| before.warnings.as_slice())
        .unwrap_or_default();
    for warning in step
        .warnings
        .iter()
        .filter(|warning| !warnings.contains(warning))
    {
        lines.push(format!(
            "{} {}: {}",
            look.warn("warn"),
            step.step,
            tame(warning)
        ));
    }
    // The counts in a reason change all the time; what is news is that there is one, and that a
    // database is away.
    let waited = before.is_some_and(|before| !before.waits.is_empty());
    let is_away = |step: &StepDocument| {
        step.waits
            .first()
            .is_some_and(|why| why.contains(" is unreachable since "))
    };
    let is_news = !waited || is_away(step) && !before.is_some_and(is_away);
    if let (true, Some(why)) = (is_news, step.waits.first()) {
        lines.push(format!("why {}: {}", step.step, tame(why)));
    }
    lines
}

fn failed(before: Option<&StepDocument>, step: &StepDocument, look: &Look) -> Vec<String> {
    let known = |tasks: fn(&StepDocument) -> &Vec<FailedTaskDocument>| -> BTreeSet<(TaskId, u32)> {
        before
            .map(|before| {
                tasks(before)
                    .iter()
                    .map(|task| (task.task, task.attempts))
                    .collect()
            })
            .unwrap_or_default()
    };
    let (dead, retrying) = (known(|step| &step.dead), known(|step| &step.retrying));
    let new_dead = step
        .dead
        .iter()
        .filter(|task| !dead.contains(&(task.task, task.attempts)));
    let new_retrying = step
        .retrying
        .iter()
        .filter(|task| !retrying.contains(&(task.task, task.attempts)));
    let mut lines: Vec<String> = new_dead
        .map(|task| format!("{} {}", look.bad("dead"), failed_task(step, task)))
        .collect();
    lines.extend(
        new_retrying.map(|task| format!("{} {}", look.warn("retry"), failed_task(step, task))),
    );
    lines
}
