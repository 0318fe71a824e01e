//! A whole table, read and put in the place of what the target holds at one instant: nobody ever
//! sees it empty or in part. Prepare the target, publish, and ask the target whether it still has
//! what was published.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::assignment::LoadOrder;
use crate::capability::Capabilities;
use crate::error_code::ErrorCode;
use crate::facts::StepFacts;
use crate::left_out::LeftOut;
use crate::plan::{
    Moving, Phase, PhaseKind, PlanProblem, Problems, StepPlan, digest, hidden_rows, settle_columns,
    settle_key, stream_id,
};
use crate::spec::FullRefresh;

/// The most rows of a source that one transaction puts in the place of others.
const ROWS_IN_PLACE_MAX: u64 = 5_000_000;

impl Load for FullRefresh {
    fn name(&self) -> &'static str {
        "full_refresh"
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            source: Some(&self.from),
            target: Some(&self.to),
        }
    }

    fn needs(&self) -> Capabilities {
        Capabilities::FULL_REFRESH
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        Some(ProbeRequest {
            partition_column: None,
            bounds_declared: false,
            triggers: self.write.triggers,
            exchange: false,
        })
    }

    fn plan(
        &self,
        of: &PlanContext<'_>,
        facts: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let mut problems = Problems::of(of.step);
        let Some(facts) = facts else {
            problems.not_probed(&self.from.table);
            return Err(problems.into_vec());
        };
        let mut warnings = Vec::new();
        let moving = Moving {
            from: &self.from,
            to: &self.to,
            write: &self.write,
            cut_by: None,
        };
        let columns = settle_columns(moving, facts, &mut problems, &mut warnings);
        let key = settle_key(moving, facts, &mut problems, &mut warnings);
        self.check_size(facts, &mut problems);
        if !problems.is_empty() {
            return Err(problems.into_vec());
        }
        let load_order = LoadOrder {
            stream: stream_id(of.pipeline, of.step, &self.from, &self.to),
            columns,
            key,
            cut_by: None,
            write: self.write.clone(),
            shadow: None,
            shrinking: self.shrinking,
            chunk: None,
            cut: digest(&"whole"),
            target_fingerprint: facts.target.fingerprint.clone(),
            reprocess_all: true,
        };
        Ok(StepPlan {
            phases: vec![
                Phase::one(PhaseKind::Prepare),
                Phase::one(PhaseKind::Publish),
                Phase::one(PhaseKind::Close),
            ],
            load_order: Some(load_order),
            depends_on: None,
            estimated_rows: facts.source.rows,
            warnings,
            not_loaded: hidden_rows(facts, &self.from.table),
            facts: Some(digest(facts)),
        })
    }

    fn summary(&self, _: &StepPlan) -> String {
        "all of it, at one instant".to_owned()
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

impl FullRefresh {
    /// One transaction deletes every row and writes every row: on a large table that is a long time
    /// without its vacuum, and twice its room.
    fn check_size(&self, facts: &StepFacts, problems: &mut Problems<'_>) {
        let rows = facts.source.rows;
        if rows > ROWS_IN_PLACE_MAX {
            problems.add(
                ErrorCode::PlanTooLargeInPlace,
                format!(
                    "{} has about {rows} rows, and at most {ROWS_IN_PLACE_MAX} are replaced in one \
                     transaction",
                    self.from.table
                ),
                "use `backfill` with `write.mode: replace_partition`, which replaces part by part",
            );
        }
    }
}
