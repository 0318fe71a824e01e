//! A range of a table, in parallel, each partition on its own: prepare the target, load the
//! partitions, count what none of them took, and ask the target whether it still has them.

use super::{Load, PlacingRequest, PlanContext, ProbeRequest, Sides, WindowRequest};
use crate::capability::Capabilities;
use crate::cursor::CursorKind;
use crate::facts::StepFacts;
use crate::left_out::{LeftOut, Taken, declared_range, judge};
use crate::plan::{LoadPlan, Phase, PhaseKind, PlanProblem, Problems, StepPlan, Tasks, plan_load};
use crate::range::CursorRange;
use crate::spec::{Backfill, HorizonRule, PartitionBy, Reprocess};

impl Load for Backfill {
    fn name(&self) -> &'static str {
        "backfill"
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            source: Some(&self.from),
            target: Some(&self.to),
        }
    }

    fn needs(&self) -> Capabilities {
        Capabilities::BACKFILL.and(self.partition.needs())
    }

    fn zone(&self) -> &str {
        self.partition.zone()
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        let has_width = match &self.partition.by {
            PartitionBy::Calendar { .. } => true,
            PartitionBy::Integer { width, .. } => width.is_some(),
            PartitionBy::Hash { .. } | PartitionBy::Keyset { .. } | PartitionBy::Auto { .. } => {
                false
            }
        };
        // Where another step goes on, no end lies beyond now either.
        let wants_horizon = self.ends_now() || self.is_continued;
        Some(ProbeRequest {
            partition_column: self.partition.cut_column(),
            placing: PlacingRequest::of(&self.partition, self.reprocess == Reprocess::Missing),
            bounds_declared: self.start.is_some()
                && self.end.is_some()
                && !wants_horizon
                && has_width,
            triggers: self.write.triggers,
            exchange: false,
            window: wants_horizon.then_some(WindowRequest {
                horizon: HorizonRule::Auto,
                keeps_watermark: false,
                continues: None,
                follows_log: false,
            }),
        })
    }

    fn declared(&self, kind: CursorKind) -> Option<CursorRange> {
        declared_range(self, kind)
    }

    fn plan(
        &self,
        of: &PlanContext<'_>,
        facts: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let Some(facts) = facts else {
            let mut problems = Problems::of(of.step);
            problems.not_probed(&self.from.relation);
            return Err(problems.into_vec());
        };
        let LoadPlan {
            load_order,
            partitions,
            depends_on,
            estimated_rows,
            warnings,
            notes,
            facts,
        } = plan_load(of.pipeline, of.step, self, facts)?;
        let load = Phase {
            kind: PhaseKind::Load,
            tasks: Tasks::Partitions(Box::new(partitions)),
            tolerant: true,
        };
        let mut step = StepPlan {
            phases: vec![
                Phase::one(PhaseKind::Prepare),
                load,
                Phase::one(PhaseKind::Count),
                Phase::one(PhaseKind::Close),
            ],
            load_order: Some(load_order),
            depends_on,
            estimated_rows,
            warnings,
            not_loaded: notes,
            facts: Some(facts),
        };
        // Every row has a place by such a rule: none is left out.
        if step.cut_by().is_some_and(|by| by.placing.is_some()) {
            step.phases.retain(|phase| phase.kind != PhaseKind::Count);
        }
        if step.is_built_later() {
            let close = step.phases.len().saturating_sub(1);
            step.phases.insert(close, Phase::one(PhaseKind::Build));
        }
        Ok(step)
    }

    fn summary(&self, plan: &StepPlan) -> String {
        let Some(partitions) = plan.partitions() else {
            return String::new();
        };
        let Some(cut_by) = plan.cut_by() else {
            return String::new();
        };
        let (column, whole) = (&cut_by.column, partitions.partitioning().whole());
        let settled = self.partition.settled(column, cut_by.placing.as_ref(), 0);
        match &settled.by {
            PartitionBy::Calendar { grain, tz } => {
                format!("by {} of {column}, {tz}, {whole}", grain.as_str())
            }
            PartitionBy::Integer {
                width: Some(width), ..
            } => format!("by {width} of {column}, {whole}"),
            PartitionBy::Integer {
                width: None,
                max_rows,
            } => format!("by about {max_rows} rows of {column}, {whole}"),
            PartitionBy::Hash { .. } => {
                let parts = partitions.partitioning().len();
                format!("by a hash of {column}, which the source computes, in {parts} parts")
            }
            PartitionBy::Keyset { columns, .. } if columns.is_empty() => {
                "in one piece: it has no key that can cut it".to_owned()
            }
            PartitionBy::Keyset { max_rows, .. } | PartitionBy::Auto { max_rows } => {
                format!("by about {max_rows} rows of {column}, in the source's order")
            }
        }
    }

    /// Once the target is known to hold all that was loaded.
    fn checked_after(&self) -> Option<PhaseKind> {
        Some(PhaseKind::Close)
    }

    fn after_failed_check(&self) -> &'static str {
        "The rows that were loaded stay; mend them or the check, then `highwater retry` asks again"
    }

    fn judge_left_out(&self, plan: &StepPlan, found: &LeftOut) -> Result<Vec<String>, String> {
        let Some(partitions) = plan.partitions() else {
            return Ok(Vec::new());
        };
        let Some(cut_by) = plan.cut_by() else {
            return Ok(Vec::new());
        };
        let taken = Taken {
            table: &self.from.relation,
            column: &cut_by.column,
            whole: partitions.partitioning().whole(),
            has_null_partition: partitions.partitioning().has_null(),
            nulls: self.partition.nulls,
        };
        judge(found, &taken)
    }
}
