//! Runs of plans that were saved: carried out as they were shown, or refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::errand::Errand;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::StepFacts;
use highwater_common::id::{RunId, StepName};
use highwater_common::record::RunIntent;

use super::contain::contained;
use super::facts::{self, FactsRecords};
use super::{Leader, Submission, TermEnded};
use crate::engine::{Run, Step, TaskTable};
use crate::error::ServiceError;

impl Leader {
    /// What becomes of a submission that brings a plan which is not to begin: a run of that very
    /// plan that has not ended goes on, and what is stale is refused. `None` where it may begin, or
    /// there is no such plan.
    pub(super) fn stale(
        &self,
        submission: &Submission,
    ) -> Option<Result<(RunId, bool), ServiceError>> {
        let saved = submission.saved.as_ref()?;
        let refused = |why: String| Some(Err(ServiceError::StalePlan(why)));
        let planned = contained("planning", || saved.plan(self.cluster.id));
        match planned {
            Ok(Ok(_)) => {}
            Ok(Err(stale)) => return refused(stale.to_string()),
            Err(panic) => return refused(panic),
        }
        // Whatever has begun since, or has gone on since, may have changed what is left to do.
        let has_begun_since = |run: &&Run| {
            let record = &run.record;
            let ended = record.ended_micros.unwrap_or(record.reference_time_micros);
            record.pipeline == *submission.pipeline()
                && record.reference_time_micros.max(ended) >= saved.reference_time_micros
                && (run.may_have_begun() || run.is_active() || takes_back(run))
        };
        let since = self
            .cluster
            .newest_first()
            .into_iter()
            .find(has_begun_since);
        if let Some(run) = since {
            let is_this = run.record.is_saved
                && run.record.reference_time_micros == saved.reference_time_micros
                && run.record.spec_digest == saved.spec_digest;
            let short = self.short_of(&run.id);
            let goes_on = run.is_active() && run.record.intent == RunIntent::Run;
            return match (is_this, goes_on && !submission.fresh) {
                (true, true) => Some(Ok((run.id, true))),
                (true, false) => refused(format!(
                    "run {short} was begun by it, and is {}",
                    run.record.status
                )),
                (false, _) => refused(format!(
                    "run {short} of the pipeline has begun or gone on since"
                )),
            };
        }
        let before = self
            .cluster
            .newest_first()
            .into_iter()
            .find(|run| run.record.pipeline == *submission.pipeline() && run.holds_back());
        before.filter(|_| !submission.fresh).map(|run| {
            let short = self.short_of(&run.id);
            let why = format!("run {short} of the pipeline is under way");
            Err(ServiceError::StalePlan(why))
        })
    }

    /// Puts the facts that a run is planned from, before there is the run.
    pub(super) async fn put_facts(
        &self,
        run: RunId,
        found: BTreeMap<StepName, StepFacts>,
    ) -> Result<BTreeMap<StepName, Arc<StepFacts>>, TermEnded> {
        let mut kept = BTreeMap::new();
        for (step, facts) in found {
            let json = serde_json::to_vec(&facts).unwrap_or_default();
            let FactsRecords { head, mut parts } = facts::to_records(run, &step, &json);
            parts.push(head);
            self.put_parts("facts_parts", parts).await?;
            kept.insert(step, Arc::new(facts));
        }
        Ok(kept)
    }
}

/// Whether a step of a saved plan is planned again like any other: what its prepare found is the
/// run's own doing, or nothing that anybody else had to do with.
pub(super) fn may_plan_again(run: &Run, step: &Step, name: &StepName) -> bool {
    let has_kept_rows = |table: &TaskTable| {
        let mut waiting = table.retries.values();
        waiting.any(|retry| retry.record.history.committed_rows > 0)
    };
    let has_begun =
        step.counts().done > 0 || step.record.tasks_lost > 0 || step.tables().any(has_kept_rows);
    let load = run.spec.steps.get(name).map(|step| step.strategy.load());
    let window = load.and_then(|load| load.probe()?.window);
    let goes_on = window.is_some_and(|window| window.continues.is_some());
    // A swap whose table is not there makes it first, and is planned for what it has made.
    let planned = step.plan.as_ref().and_then(|plan| plan.load_order.as_ref());
    let shadow = planned.and_then(|load_order| load_order.shadow.as_ref());
    let makes_its_table = shadow.is_some_and(|shadow| shadow.identity.is_empty());
    has_begun || goes_on || makes_its_table
}

fn takes_back(run: &Run) -> bool {
    let errand = run.record.errand.as_ref();
    errand.is_some_and(Errand::takes_back)
}

/// Why a step of a saved plan is not begun.
pub(super) fn stale_step() -> AttemptError {
    let message = "the plan is stale: what the target's ledger holds of the step is not what it was \
                   when the plan was saved. Plan the pipeline again";
    AttemptError::new(
        ErrorClass::Permanent,
        ErrorCode::CoverageUnsettled,
        message.to_owned(),
    )
}
