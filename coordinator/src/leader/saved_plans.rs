//! Runs of plans that were saved: carried out as they were shown, or refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::errand::Errand;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::StepFacts;
use highwater_common::id::{RunId, StepName};

use super::contain::contained;
use super::facts::{self, FactsRecords};
use super::{Leader, Submission, TermEnded};
use crate::engine::Run;
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
        // Whatever has begun since may have changed what is left to do.
        let has_begun_since = |run: &&Run| {
            run.record.pipeline == *submission.pipeline()
                && run.record.reference_time_micros >= saved.reference_time_micros
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
            return match (is_this, run.is_active()) {
                (true, true) => Some(Ok((run.id, true))),
                (true, false) => refused(format!("run {short} has carried it out already")),
                (false, _) => refused(format!("run {short} of the pipeline has begun since")),
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
