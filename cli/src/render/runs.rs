//! Runs, newest first.

use highwater_common::document::{RunDocument, RunsDocument};
use highwater_common::number::{count, duration};
use jiff::Timestamp;

use super::borderless;
use super::look::{Look, tame};
use super::run::took;

/// A row for each run.
#[must_use]
pub(crate) fn runs(document: &RunsDocument, now: Timestamp, look: &Look) -> String {
    let rows = document.runs.iter().map(|run| row(run, now)).collect();
    borderless(
        look,
        &[
            "run", "pipeline", "status", "tasks", "dead", "rows", "started", "took",
        ],
        &[3, 4, 5, 7],
        rows,
    )
}

fn row(run: &RunDocument, now: Timestamp) -> Vec<String> {
    vec![
        run.short.clone(),
        run.pipeline.to_string(),
        run.status.to_string(),
        format!("{}/{}", count(run.tasks.done), count(run.tasks.planned())),
        count(run.tasks.dead),
        count(run.rows),
        tame(&run.reference_time),
        took(run, now).map(duration).unwrap_or_default(),
    ]
}
