//! Tasks and what happened to them.

use std::time::Duration;

use highwater_common::document::{EventDocument, EventsDocument, TaskDocument, TasksDocument};
use highwater_common::number::{count, duration};

use super::borderless;
use super::look::{Look, tame};

/// A row for each task.
#[must_use]
pub(crate) fn tasks(document: &TasksDocument, look: &Look) -> String {
    if document.tasks.is_empty() {
        return "no such task\n".to_owned();
    }
    let rows = document.tasks.iter().map(task_row).collect();
    let head = [
        "step", "task", "state", "attempts", "worker", "rows", "took", "error",
    ];
    let mut text = borderless(look, &head, &[3, 5, 6], rows);
    if document.more {
        text.push_str("there are more: narrow them with --step and --in-state\n");
    }
    text
}

fn task_row(task: &TaskDocument) -> Vec<String> {
    let took = if task.millis == 0 {
        String::new()
    } else {
        duration(Duration::from_millis(task.millis))
    };
    vec![
        task.step.to_string(),
        tame(&task.work),
        tame(&task.state),
        count(u64::from(task.attempts)),
        tame(&task.worker),
        count(task.rows),
        took,
        tame(&task.error),
    ]
}

/// A line for each event, oldest first.
#[must_use]
pub(crate) fn events(document: &EventsDocument, _look: &Look) -> String {
    document.events.iter().map(event_line).collect()
}

fn event_line(event: &EventDocument) -> String {
    let EventDocument {
        at,
        step,
        work,
        attempt,
        worker,
        what,
        error,
        ..
    } = event;
    let by = if worker.is_empty() {
        String::new()
    } else {
        format!(" {}", tame(worker))
    };
    let error = if error.is_empty() {
        String::new()
    } else {
        format!(": {}", tame(error))
    };
    format!(
        "{} {step}{} attempt {attempt}{by} {what}{error}\n",
        tame(at),
        bracketed(&tame(work))
    )
}

/// A range as it stands, anything else in brackets.
fn bracketed(work: &str) -> String {
    if work.starts_with(['[', '(']) {
        work.to_owned()
    } else {
        format!("[{work}]")
    }
}
