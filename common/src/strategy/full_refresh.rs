//! A whole table, read and put in the place of what the target holds at one instant: nobody ever
//! sees it empty or in part. Prepare the target, publish, and ask the target whether it still has
//! what was published.
//!
//! A small table is replaced as it is read. A larger one would keep everybody else from writing for
//! as long as it travels, and travels by one session: its rows are read at one point in time by
//! several sessions into a table beside, and only then published.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::assignment::Staging;
use crate::capability::Capabilities;
use crate::error_code::ErrorCode;
use crate::facts::{Engine, StepFacts};
use crate::left_out::LeftOut;
use crate::plan::{Building, Phase, PhaseKind, PlanProblem, Problems, StepPlan, Whole, plan_whole};
use crate::spec::FullRefresh;

/// The most rows of a source that one transaction puts in the place of others.
const ROWS_IN_PLACE_MAX: u64 = 5_000_000;
/// What is replaced as it is read has at most so many rows, and so many bytes.
const ROWS_AS_READ_MAX: u64 = 100_000;
const BYTES_AS_READ_MAX: u64 = 64 * 1024 * 1024;
/// The sessions that read a larger table.
const READERS: u32 = 4;

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
            placing: None,
            bounds_declared: false,
            triggers: self.write.triggers,
            exchange: false,
            window: None,
        })
    }

    fn plan(
        &self,
        of: &PlanContext<'_>,
        facts: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let mut problems = Problems::of(of.step);
        let Some(facts) = facts else {
            problems.not_probed(&self.from.relation);
            return Err(problems.into_vec());
        };
        self.check_size(facts, &mut problems);
        let whole = Whole {
            from: &self.from,
            to: &self.to,
            write: &self.write,
            shrinking: self.shrinking,
            building: Building::AfterTheLoad,
        };
        let phases = [PhaseKind::Prepare, PhaseKind::Publish, PhaseKind::Close];
        let planned = plan_whole(of.pipeline, of.step, &whole, &phases, facts);
        let mut step = problems.or(planned)?;
        if step.is_built_later() {
            step.phases.insert(2, Phase::one(PhaseKind::Build));
        }
        if let Some(load_order) = &mut step.load_order {
            load_order.staging = self.staging(facts);
        }
        if self.from.relation.query().is_some() && facts.source.rows > ROWS_IN_PLACE_MAX {
            let relation = &self.from.relation;
            step.warnings.push(format!(
                "the server expects about {} rows of {relation}: more than {ROWS_IN_PLACE_MAX} are \
                 too many for one transaction, which leaves as many dead ones",
                facts.source.rows
            ));
        }
        Ok(step)
    }

    fn summary(&self, plan: &StepPlan) -> String {
        match plan.load_order.as_ref().and_then(|order| order.staging) {
            None => "all of it, at one instant".to_owned(),
            Some(Staging { readers }) => {
                let by = match readers {
                    1 => "one session".to_owned(),
                    more => format!("up to {more} sessions"),
                };
                format!("read by {by} at one point in time, then all of it at one instant")
            }
        }
    }

    fn after_failed_check(&self) -> &'static str {
        "Nothing was kept: the table holds what it held before"
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

impl FullRefresh {
    /// How a large table travels, between databases that can let several sessions read one point in
    /// time and publish what they have read. What a query answers is read by one.
    fn staging(&self, facts: &StepFacts) -> Option<Staging> {
        let is_large =
            facts.source.rows > ROWS_AS_READ_MAX || facts.source.bytes > BYTES_AS_READ_MAX;
        let can = matches!(
            (facts.source.engine, facts.target.engine),
            (Engine::Postgres, Engine::Postgres)
        );
        let readers = match self.from.relation.query() {
            Some(_) => 1,
            None => READERS,
        };
        (is_large && can).then_some(Staging { readers })
    }

    /// One transaction deletes every row and writes every row: on a large table that is a long time
    /// without its vacuum, and twice its room. How many rows a query answers with is a guess of the
    /// server's, on which nothing is refused.
    fn check_size(&self, facts: &StepFacts, problems: &mut Problems<'_>) {
        let rows = facts.source.rows;
        if rows > ROWS_IN_PLACE_MAX && self.from.relation.query().is_none() {
            problems.add(
                ErrorCode::PlanTooLargeInPlace,
                format!(
                    "{} has about {rows} rows, and at most {ROWS_IN_PLACE_MAX} are replaced in one \
                     transaction",
                    self.from.relation
                ),
                "use `backfill` with `write.mode: replace_partition`, which replaces part by part",
            );
        }
    }
}
