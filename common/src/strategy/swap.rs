//! A whole table, loaded beside the one that is read, which it takes the place of once it is whole:
//! prepare both, load the new one, build what it lacks, exchange the two, and ask the target whether
//! it still has that. In place, the table that is read stays, and its rows become those that were
//! loaded.

use std::time::Duration;

use super::{Load, PlacingRequest, PlanContext, ProbeRequest, Sides};
use crate::assignment::{CutBy, ShadowOrder};
use crate::capability::Capabilities;
use crate::error_code::ErrorCode;
use crate::facts::StepFacts;
use crate::left_out::{LeftOut, Taken, judge};
use crate::plan::{
    Building, LoadPlan, Phase, PhaseKind, PlanProblem, Problems, StepPlan, Tasks, Whole,
    check_dependants, digest, plan_load, plan_whole,
};
use crate::spec::{Backfill, Chunk, Order, Partition, Reprocess, Swap};

impl Load for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            source: Some(&self.from),
            target: Some(&self.to),
        }
    }

    fn needs(&self) -> Capabilities {
        let cut = self.partition.as_ref();
        Capabilities::SWAP.and(cut.map_or(Capabilities::NONE, Partition::needs))
    }

    fn zone(&self) -> &str {
        self.partition.as_ref().map_or("UTC", Partition::zone)
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        Some(ProbeRequest {
            partition_column: self.partition.as_ref().and_then(Partition::cut_column),
            placing: (self.partition.as_ref()).and_then(|by| PlacingRequest::of(by, false)),
            bounds_declared: false,
            triggers: self.write.triggers,
            exchange: true,
            window: None,
        })
    }

    fn exchange_lock_wait(&self) -> Option<Duration> {
        (!self.is_in_place()).then_some(self.lock_timeout)
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
        let identity = self.identity(facts, &mut problems);
        let planned = match &self.partition {
            Some(partition) => self.cut(partition, of, facts),
            None => self.whole(of, facts),
        };
        let mut step = problems.or(planned)?;
        let tasks = step
            .phases
            .iter()
            .filter(|phase| phase.kind == PhaseKind::Load)
            .map(Phase::tasks_planned)
            .fold(0, u64::saturating_add);
        // A table that is still to be made has no identity yet: once it is there the step is
        // planned again, because the target then answers otherwise than this plan says.
        step.depends_on = identity.is_empty().then(|| digest(&"no table"));
        if let Some(load_order) = &mut step.load_order {
            load_order.shrinking = self.shrinking;
            load_order.shadow = Some(ShadowOrder { identity, tasks });
        }
        Ok(step)
    }

    fn summary(&self, plan: &StepPlan) -> String {
        let how = match self.is_in_place() {
            true => "beside the table, then its rows in their place",
            false => "beside the table, then in its place",
        };
        match (plan.cut_by(), plan.partitions()) {
            (Some(cut_by), Some(partitions)) => format!(
                "{how}, {} parts by {}, each read by itself (not one point in time)",
                partitions.len(),
                cut_by.column
            ),
            (_, None) | (None, _) => how.to_owned(),
        }
    }

    fn checked_after(&self) -> Option<PhaseKind> {
        (!self.is_in_place()).then_some(PhaseKind::Build)
    }

    fn after_failed_check(&self) -> &'static str {
        "Nothing was published; the table that was loaded stays, to be looked at, until the step's \
         next run"
    }

    fn judge_left_out(&self, plan: &StepPlan, found: &LeftOut) -> Result<Vec<String>, String> {
        let (Some(partition), Some(partitions)) = (&self.partition, plan.partitions()) else {
            return Ok(Vec::new());
        };
        let taken = Taken {
            table: &self.from.relation,
            column: plan
                .cut_by()
                .map_or(&partition.column, |cut_by| &cut_by.column),
            whole: partitions.partitioning().whole(),
            has_null_partition: partitions.partitioning().has_null(),
            nulls: partition.nulls,
        };
        judge(found, &taken)
    }
}

impl Swap {
    /// Which table has the name now; empty where none has.
    fn identity(&self, facts: &StepFacts, problems: &mut Problems<'_>) -> String {
        let Some(found) = &facts.target.table else {
            return String::new();
        };
        let Some(exchange) = &found.exchange else {
            problems.add(
                ErrorCode::PlanExchangeUnsupported,
                format!(
                    "a {} target cannot let another table take the place of {} with all that hangs \
                     on it",
                    facts.target.engine.word(),
                    self.to.table
                ),
                "use `full_refresh`, which replaces its rows in one transaction",
            );
            return String::new();
        };
        if !self.is_in_place() {
            for misfit in check_dependants(&self.to.table, &exchange.dependants).misfits {
                problems.add(misfit.code, misfit.message, misfit.help);
            }
        }
        exchange.identity.clone()
    }

    /// In parts, as a backfill of the whole table cuts it.
    fn cut(
        &self,
        partition: &Partition,
        of: &PlanContext<'_>,
        facts: &StepFacts,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let backfill = Backfill {
            from: self.from.clone(),
            to: self.to.clone(),
            partition: partition.clone(),
            start: None,
            end: None,
            is_continued: false,
            reprocess: Reprocess::All,
            order: Order::Oldest,
            write: self.write.clone(),
            chunk: Chunk::default(),
        };
        let LoadPlan {
            load_order,
            partitions,
            depends_on,
            estimated_rows,
            warnings,
            notes,
            facts,
        } = plan_load(of.pipeline, of.step, &backfill, facts)?;
        let load = Phase {
            kind: PhaseKind::Load,
            tasks: Tasks::Partitions(Box::new(partitions)),
            tolerant: false,
        };
        let mut phases = vec![Phase::one(PhaseKind::Prepare), load];
        let is_placed = |by: &CutBy| by.placing.is_some();
        if !load_order.cut_by.as_ref().is_some_and(is_placed) {
            phases.push(Phase::one(PhaseKind::Count));
        }
        phases.extend(self.behind_the_load().iter().copied().map(Phase::one));
        Ok(StepPlan {
            phases,
            load_order: Some(load_order),
            depends_on,
            estimated_rows,
            warnings,
            not_loaded: notes,
            facts: Some(facts),
        })
    }

    /// By one task.
    fn whole(&self, of: &PlanContext<'_>, facts: &StepFacts) -> Result<StepPlan, Vec<PlanProblem>> {
        let whole = Whole {
            from: &self.from,
            to: &self.to,
            write: &self.write,
            shrinking: self.shrinking,
            building: Building::AtOnce,
        };
        let mut phases = vec![PhaseKind::Prepare, PhaseKind::Load];
        phases.extend(self.behind_the_load());
        plan_whole(of.pipeline, of.step, &whole, &phases, facts)
    }

    /// What follows once all rows are there: a table that nobody will read needs no indexes.
    fn behind_the_load(&self) -> &'static [PhaseKind] {
        match self.is_in_place() {
            true => &[PhaseKind::Publish, PhaseKind::Close],
            false => &[PhaseKind::Build, PhaseKind::Publish, PhaseKind::Close],
        }
    }
}
