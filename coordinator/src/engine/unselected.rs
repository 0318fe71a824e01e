//! The steps of a run's pipeline that were not asked for: no part of the run, and shown all the same.

use std::borrow::Cow;

use highwater_common::dag::Dag;
use highwater_common::document::{StepDocument, TaskCounts};
use highwater_common::id::StepName;
use highwater_common::status::StepStatus;

use super::view::Run;

/// Every step of the pipeline, each after all that it waits for.
#[must_use]
pub(super) fn all_steps(run: &Run) -> Cow<'_, [StepName]> {
    match run.record.controls.selected.is_empty() {
        true => Cow::Borrowed(run.dag.order()),
        false => Cow::Owned(Dag::of(&run.whole).unwrap_or_default().order().to_vec()),
    }
}

/// A step that was not asked for.
#[must_use]
pub(super) fn not_selected(run: &Run, name: &StepName) -> Option<StepDocument> {
    let known = run.whole.steps.get(name)?;
    let selected = run.record.controls.selected.join(" ");
    Some(StepDocument {
        step: name.clone(),
        strategy: known.strategy.load().name().to_owned(),
        depends_on: known.edges(),
        status: StepStatus::Skipped,
        reason: format!("not selected: the run is of {selected}"),
        tasks: TaskCounts::default(),
        rows: 0,
        bytes: 0,
        watermark: None,
        lag_seconds: None,
        waits: Vec::new(),
        warnings: Vec::new(),
        not_loaded: Vec::new(),
        checks: Vec::new(),
        dead: Vec::new(),
        retrying: Vec::new(),
    })
}
