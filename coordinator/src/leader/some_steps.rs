//! What stands against a run of some steps of a pipeline: what earlier runs have left of these steps,
//! and of those that they go on from.

use std::collections::BTreeSet;

use highwater_common::id::StepName;
use highwater_common::record::RunIntent;
use highwater_common::status::StepStatus;

use super::fresh_run::chosen_steps;
use super::{Leader, Submission};
use crate::engine::{Run, in_doubt};
use crate::error::ServiceError;

impl Leader {
    /// A run of which something waits for a person that what is submitted would do again.
    pub(super) fn in_doubt(&self, submission: &Submission) -> Option<String> {
        let (pipeline, is_whole) = (submission.pipeline(), submission.selected.is_empty());
        let found = in_doubt(&self.cluster, pipeline, asked(submission)?, is_whole);
        found.map(|run| self.short_of(&run.id))
    }

    /// Why a step that goes on from another one cannot run without it: that one has not come to its
    /// end, and what it has left open would be loaded twice.
    pub(super) fn unfinished_history(&self, submission: &Submission) -> Option<ServiceError> {
        let asked = asked(submission)?;
        for name in &asked {
            let step = submission.spec.steps.get(name)?;
            let window = step.strategy.load().probe().and_then(|probe| probe.window);
            let continued = window.and_then(|of| of.continues.cloned());
            let Some(continued) = continued.filter(|of| !asked.contains(of)) else {
                continue;
            };
            let latest = self
                .runs_of(submission)
                .find(|run| run.steps.contains_key(&continued));
            let is_over = |run: &Run| {
                let of = run.steps.get(&continued);
                of.is_some_and(|of| of.record.status == StepStatus::Success)
            };
            if let Some(run) = latest.filter(|run| !is_over(run)) {
                return Some(ServiceError::UnfinishedHistory {
                    step: name.clone(),
                    run: self.short_of(&run.id),
                    continued,
                });
            }
        }
        None
    }

    /// The runs of the pipeline that load, the newest first.
    fn runs_of<'a>(&'a self, submission: &'a Submission) -> impl Iterator<Item = &'a Run> {
        self.cluster.newest_first().into_iter().filter(|run| {
            run.record.pipeline == *submission.pipeline()
                && run.record.intent != RunIntent::Plan
                && run.record.errand.is_none()
        })
    }
}

/// The steps that are asked for; `None` of a selection that means none, which is refused elsewhere.
fn asked(submission: &Submission) -> Option<BTreeSet<StepName>> {
    let spec = chosen_steps(&submission.spec, &submission.selected).ok()?;
    Some(spec.steps.into_keys().collect())
}
