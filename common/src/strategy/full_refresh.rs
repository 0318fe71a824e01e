//! A whole table, read and put in the place of what the target holds at one instant: nobody ever
//! sees it empty or in part. Prepare the target, publish, and ask the target whether it still has
//! what was published.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::capability::Capabilities;
use crate::error_code::ErrorCode;
use crate::facts::StepFacts;
use crate::left_out::LeftOut;
use crate::plan::{PhaseKind, PlanProblem, Problems, StepPlan, Whole, plan_whole};
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
        self.check_size(facts, &mut problems);
        let whole = Whole {
            from: &self.from,
            to: &self.to,
            write: &self.write,
            shrinking: self.shrinking,
        };
        let phases = [PhaseKind::Prepare, PhaseKind::Publish, PhaseKind::Close];
        problems.or(plan_whole(of.pipeline, of.step, &whole, &phases, facts))
    }

    fn summary(&self, _: &StepPlan) -> String {
        "all of it, at one instant".to_owned()
    }

    fn after_failed_check(&self) -> &'static str {
        "Nothing was kept: the table holds what it held before"
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
