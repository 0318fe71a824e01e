//! A run as it stands: one line of totals, a line for each step, and below it why it waits and what
//! failed.

use std::time::Duration;

use highwater_common::controls::Controls;
use highwater_common::document::{
    CheckDocument, FailedTaskDocument, RunDocument, StepDocument, TaskCounts,
};
use highwater_common::number::{bytes, count, duration, rate};
use highwater_common::status::RunStatus;
use highwater_common::task::TaskState;
use jiff::Timestamp;

use super::fold::{Fold, Line, Steps, lines};
use super::look::{Look, tame};
use super::next_command;
use crate::progress::Pace;

/// Cells of a step's bar.
const BAR_CELLS: u64 = 23;
/// The least room for names.
const NAME_MIN: usize = 6;

/// What a document does not say: the time, and how fast it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment {
    /// Now.
    pub now: Timestamp,
    /// How fast the run goes; known only to who has followed it for a while.
    pub pace: Option<Pace>,
}

/// The run and its steps.
#[must_use]
pub(crate) fn status(run: &RunDocument, moment: &Moment, steps: Steps, look: &Look) -> String {
    let mut text = header(run, moment, look);
    text.push('\n');
    if !run.reason.is_empty() {
        text.push_str(&format!("  reason  {}\n", tame(&run.reason)));
    }
    if let Some(lag) = &run.lag {
        let time = duration(Duration::from_secs(lag.seconds));
        text.push_str(&format!("  lag     {time}, the largest: {}\n", lag.step));
    }
    text.push_str(&controls(&run.controls, look));
    let lines = lines(&run.steps, steps);
    let names = lines.iter().map(|line| match line {
        Line::Step(step) => step.step.as_str(),
        Line::Fold(fold) => fold.label.as_str(),
    });
    let width = names.map(str::len).max().unwrap_or(0).max(NAME_MIN);
    for line in &lines {
        match line {
            Line::Step(step) => {
                text.push_str(&format!("{}\n", step_line(step, width, look)));
                text.push_str(&details(step, look));
            }
            Line::Fold(fold) => text.push_str(&format!("{}\n", fold_line(fold, width, look))),
        }
    }
    if lines.len() < run.steps.len() {
        let (program, run) = (&look.program, &run.short);
        let each = format!("{program} status {run} --all");
        text.push_str(&format!("  {}\n", look.dim(&format!("every step: {each}"))));
    }
    if let Some(next) = next_command(run, look) {
        text.push_str(&format!("  next    {next}\n"));
    }
    text
}

/// The first line: `r-71c shop running 38 s · 12/31 tasks · …`.
#[must_use]
pub(crate) fn header(run: &RunDocument, moment: &Moment, look: &Look) -> String {
    let tasks = &run.tasks;
    let verb = match run.status {
        RunStatus::Success | RunStatus::Failed | RunStatus::Cancelled => " in",
        RunStatus::Planning | RunStatus::Planned | RunStatus::Running | RunStatus::Cancelling => "",
    };
    let took = took(run, moment.now)
        .map(|time| format!("{verb} {}", duration(time)))
        .unwrap_or_default();
    let mut parts = vec![format!(
        "{} {} {}{took}",
        run.short,
        run.pipeline,
        look.run_status(run.status)
    )];
    if tasks.planned() > 0 || run.status != RunStatus::Planning {
        parts.push(format!(
            "{}/{} tasks",
            count(tasks.done),
            count(tasks.planned())
        ));
    }
    if tasks.covered > 0 {
        parts.push(format!("{} covered", count(tasks.covered)));
    }
    if run.rows > 0 {
        parts.push(format!("{} rows", count(run.rows)));
    }
    if !run.status.has_ended() {
        if let Some(pace) = moment.pace {
            parts.push(rate(pace.rows_per_second, pace.bytes_per_second));
            parts.push(eta(&pace));
        }
        parts.push(match run.workers {
            0 => look.warn("no worker"),
            workers => format!(
                "{} worker{}, {}/{} slots",
                count(workers.into()),
                if workers == 1 { "" } else { "s" },
                count(tasks.open),
                count(run.slots.into())
            ),
        });
    } else if run.bytes > 0 {
        parts.push(bytes(run.bytes));
    }
    parts.join(" · ")
}

/// The line of a step, its name padded to `width` characters.
#[must_use]
pub(crate) fn step_line(step: &StepDocument, width: usize, look: &Look) -> String {
    let tasks = &step.tasks;
    let mut parts = vec![format!(
        "  {:<width$}  {}  {} {}/{}",
        step.step.as_str(),
        look.bar(tasks.done, tasks.planned(), BAR_CELLS),
        look.step_status(step.status),
        count(tasks.done),
        count(tasks.planned()),
    )];
    parts.extend(state_words(tasks, look));
    if step.rows > 0 {
        parts.push(format!("{} rows", count(step.rows)));
    }
    if let Some(watermark) = &step.watermark {
        parts.push(format!("watermark {}", tame(watermark)));
    }
    if let Some(seconds) = step.lag_seconds {
        parts.push(format!("lag {}", duration(Duration::from_secs(seconds))));
    }
    parts.join(" · ")
}

/// The line of steps that share one: `all_*  ███  success 24 steps, 24/24 · 1,200 rows`.
fn fold_line(fold: &Fold, width: usize, look: &Look) -> String {
    let Fold {
        label,
        status,
        steps,
        tasks,
        rows,
    } = fold;
    let steps = u64::try_from(*steps).unwrap_or(u64::MAX);
    let mut parts = vec![format!(
        "  {label:<width$}  {}  {} {} steps, {}/{}",
        look.bar(tasks.done, tasks.planned(), BAR_CELLS),
        look.step_status(*status),
        count(steps),
        count(tasks.done),
        count(tasks.planned()),
    )];
    parts.extend(state_words(tasks, look));
    if *rows > 0 {
        parts.push(format!("{} rows", count(*rows)));
    }
    parts.join(" · ")
}

/// How wide the names of a run's steps are.
#[must_use]
pub(crate) fn name_width(run: &RunDocument) -> usize {
    run.steps
        .iter()
        .map(|step| step.step.as_str().len())
        .max()
        .unwrap_or(0)
        .max(NAME_MIN)
}

/// Counts that are not zero, by the words of the states; `done` and `pending` follow from the
/// fraction.
fn state_words(tasks: &TaskCounts, look: &Look) -> Vec<String> {
    let shown = TaskState::ALL.into_iter().filter_map(|state| {
        let mut tasks = *tasks;
        let number = *tasks.of_mut(state);
        let text = format!("{} {state}", count(number));
        let painted = match state {
            TaskState::Pending | TaskState::Done => return None,
            TaskState::Open | TaskState::Covered => text,
            TaskState::RetryWait | TaskState::Superseded => look.warn(&text),
            TaskState::Dead | TaskState::InDoubt => look.bad(&text),
        };
        (number > 0).then_some(painted)
    });
    shown.collect()
}

fn details(step: &StepDocument, look: &Look) -> String {
    let mut lines = Vec::new();
    if !step.reason.is_empty() && !is_told_by(&step.dead, &step.reason) {
        lines.push(format!("reason  {}", tame(&step.reason)));
    }
    lines.extend(
        step.waits
            .iter()
            .map(|why| format!("why     {}", tame(why))),
    );
    lines.extend(
        step.warnings
            .iter()
            .map(|warning| format!("{}    {}", look.warn("warn"), tame(warning))),
    );
    lines.extend(
        step.not_loaded
            .iter()
            .map(|rows| format!("note    not loaded: {}", tame(rows))),
    );
    lines.extend(
        step.checks
            .iter()
            .map(|answer| format!("check   {}", check(answer, look))),
    );
    lines.extend(
        step.dead
            .iter()
            .map(|task| format!("{}    {}", look.bad("dead"), failed_task(step, task))),
    );
    let hidden = step
        .tasks
        .dead
        .saturating_sub(u64::try_from(step.dead.len()).unwrap_or(u64::MAX));
    if hidden > 0 {
        lines.push(format!("        and {} more dead", count(hidden)));
    }
    lines.extend(
        step.retrying
            .iter()
            .map(|task| format!("{}   {}", look.warn("retry"), failed_task(step, task))),
    );
    lines
        .into_iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// What operators have said of the run.
fn controls(controls: &Controls, look: &Look) -> String {
    let Controls {
        paused,
        paused_steps,
        paused_connections,
        skipped: _,  // a step says so itself
        selected: _, // and so does one that was not asked for
        limits,
    } = controls;
    let run = paused.iter().map(|hold| ("the run".to_owned(), hold));
    let steps = paused_steps.iter();
    let steps = steps.map(|(name, hold)| (format!("step {name}"), hold));
    let connections = paused_connections.iter();
    let connections = connections.map(|(name, hold)| (format!("connection {name}"), hold));
    let paused = run.chain(steps).chain(connections);
    let mut text: String = paused
        .map(|(what, hold)| {
            let since = Timestamp::from_microsecond(hold.since_micros);
            let since = since.map_or_else(|_| String::new(), |at| format!(", since {at:.0}"));
            let paused = look.warn("paused");
            format!("  {paused}  {what} {}{since}\n", tame(&hold.to_string()))
        })
        .collect();
    let run = limits.tasks.iter().map(|max| format!("tasks {max}"));
    let priority = limits.priority.iter();
    let run = run.chain(priority.map(|priority| format!("priority {priority}")));
    let steps = limits.steps.iter();
    let steps = steps.map(|(name, max)| format!("step {name} {max}"));
    let pools = limits.pools.iter();
    let pools = pools.map(|(name, max)| format!("pool {name} {max}"));
    let connections = limits.connections.iter();
    let connections = connections.map(|(name, max)| format!("connection {name} {max}"));
    let limits: Vec<String> = run.chain(steps).chain(pools).chain(connections).collect();
    if !limits.is_empty() {
        text.push_str(&format!(
            "  limits  {}, in place of the file's\n",
            limits.join(", ")
        ));
    }
    text
}

/// What a check came to: `failed min_rows: 30: expects at least 30 rows, found 12 rows`.
#[must_use]
pub(super) fn check(answer: &CheckDocument, look: &Look) -> String {
    let (check, found) = (tame(&answer.check), tame(&answer.found));
    match (answer.passed, found.is_empty()) {
        (true, true) => format!("passed {check}"),
        (true, false) => format!("passed {check}: found {found}"),
        (false, _) => format!(
            "{} {check}: expects {}, found {found}",
            look.bad("failed"),
            tame(&answer.expected)
        ),
    }
}

/// A task that failed: `orders[2023-05-07] attempt 1 permanent numeric_overflow: amount`.
#[must_use]
pub(crate) fn failed_task(step: &StepDocument, task: &FailedTaskDocument) -> String {
    let work = tame(&task.work);
    let range = if work.starts_with(['[', '(']) {
        work
    } else {
        format!("[{work}]")
    };
    let accepted = match task.accepted.as_str() {
        "" => String::new(),
        accepted => format!(" (accepted {})", tame(accepted)),
    };
    format!(
        "{}{range} attempt {} {} {}: {}{accepted}",
        step.step,
        task.attempts,
        tame(&task.class),
        tame(&task.code),
        tame(&task.message)
    )
}

/// Whether a reason only repeats what one of the dead tasks says: a long message need not stand
/// there twice.
#[must_use]
pub(crate) fn is_told_by(dead: &[FailedTaskDocument], reason: &str) -> bool {
    dead.iter()
        .any(|task| !task.message.is_empty() && reason.contains(&task.message))
}

/// How long the run has taken, counted from its reference time.
#[must_use]
pub(super) fn took(run: &RunDocument, now: Timestamp) -> Option<Duration> {
    let begun: Timestamp = run.reference_time.parse().ok()?;
    let ended = match &run.ended_at {
        Some(ended) => ended.parse().ok()?,
        None => now,
    };
    ended.duration_since(begun).try_into().ok()
}

/// A range, because the next hour is not the last one; `unknown` at the beginning.
#[must_use]
pub(crate) fn eta(pace: &Pace) -> String {
    match pace.remaining {
        None => "ETA unknown".to_owned(),
        Some((soonest, latest)) => {
            let (soonest, latest) = (duration(soonest), duration(latest));
            if soonest == latest {
                format!("ETA {latest}")
            } else {
                format!("ETA {soonest} – {latest}")
            }
        }
    }
}
