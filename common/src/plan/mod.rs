//! The plan of a run: a contract that is made once from spec, facts and reference time, and then
//! only carried out.
//!
//! It holds rules, never tasks: its size does not depend on how many partitions there are. The same
//! spec, reference time and facts always give the same plan, with the same digest and, for one run,
//! the same task ids.

mod columns;
mod cut;
mod dependants;
mod load;
mod partitions;
mod phase;
mod problem;
mod reactions;
mod table_compat;
#[cfg(test)]
mod tests;
mod type_compat;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::dependants::{check_dependants, goes_along};
pub use self::load::{LoadPlan, plan_load, stream_id, unindexed_target};
pub use self::partitions::Partitions;
pub use self::phase::{Phase, PhaseKind, Tasks};
pub use self::problem::PlanProblem;
pub use self::reactions::{Writing, check_reactions};
pub use self::table_compat::{Destination, Misfit, Rows, TableCompat, check_table};
pub use self::type_compat::{
    Affinity, Compat, EXCEPTIONS, Exception, affinity, compat, definition_differs,
    has_same_wire_form,
};
use crate::assignment::{LoadOrder, Work};
use crate::facts::StepFacts;
use crate::id::{DocumentDigest, PipelineName, RunId, StepName, TaskId};
use crate::spec::{Spec, Step};
use crate::strategy::PlanContext;

/// The plan of a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The digest of the spec, parameters included.
    pub spec_digest: DocumentDigest,
    /// What "now" means for all of the run: microseconds since 1970-01-01T00:00:00Z.
    pub reference_time_micros: i64,
    /// The steps.
    pub steps: BTreeMap<StepName, StepPlan>,
}

/// The plan of one step: its phases in their order. A task's phase is its place here, and its
/// ordinal counts from 0 within the phase; both mean the same for as long as the plan lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    /// What is done, one after the other.
    pub phases: Vec<Phase>,
    /// What all tasks of the step have in common; `None` for a step that moves no rows.
    pub load_order: Option<LoadOrder>,
    /// The digest of the coverage that the plan stands and falls with, if it does.
    pub depends_on: Option<DocumentDigest>,
    /// About how many rows will be moved.
    pub estimated_rows: u64,
    /// What the user should know before it runs.
    pub warnings: Vec<String>,
    /// What is there and is not loaded.
    pub not_loaded: Vec<String>,
    /// The digest of the facts that it was made from.
    pub facts: Option<DocumentDigest>,
}

impl Plan {
    /// Plans a run.
    ///
    /// # Errors
    /// The [`PlanProblem`]s of all steps at once.
    pub fn new(
        spec: &Spec,
        spec_digest: DocumentDigest,
        reference_time_micros: i64,
        facts: &BTreeMap<StepName, StepFacts>,
    ) -> Result<Self, Vec<PlanProblem>> {
        let mut steps = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, step) in &spec.steps {
            match plan_step(&spec.name, name, step, facts.get(name)) {
                Ok(plan) => {
                    steps.insert(name.clone(), plan);
                }
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Self {
                spec_digest,
                reference_time_micros,
                steps,
            })
        } else {
            Err(problems)
        }
    }

    /// The digest of everything that the plan says: spec, reference time, facts and rules, but not
    /// the run.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "names, numbers and lists always have a JSON form, whatever they say"
    )]
    pub fn digest(&self) -> DocumentDigest {
        let text = serde_json::to_vec(self)
            .expect("a plan is made of names, numbers and lists, which JSON can hold");
        DocumentDigest::of(&text)
    }

    /// How many tasks the run's partitions are.
    #[must_use]
    pub fn tasks_planned(&self) -> u64 {
        self.steps
            .values()
            .map(StepPlan::tasks_planned)
            .fold(0, u64::saturating_add)
    }
}

/// Plans one step from what its probe found; a step that needs none has no facts.
///
/// # Errors
/// Every [`PlanProblem`] of the step at once.
pub fn plan_step(
    pipeline: &PipelineName,
    name: &StepName,
    step: &Step,
    facts: Option<&StepFacts>,
) -> Result<StepPlan, Vec<PlanProblem>> {
    step.strategy.load().plan(
        &PlanContext {
            pipeline,
            step: name,
        },
        facts,
    )
}

impl StepPlan {
    /// A phase by its number.
    #[must_use]
    pub fn phase(&self, number: u8) -> Option<&Phase> {
        self.phases.get(usize::from(number))
    }

    /// The phases with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (u8, &Phase)> {
        (0..=u8::MAX).zip(&self.phases)
    }

    /// The phases that do the step's work.
    pub fn work_phases(&self) -> impl Iterator<Item = &Phase> {
        self.phases.iter().filter(|phase| phase.kind.is_work())
    }

    /// The partitions that are moved; `None` for a step that moves no rows.
    #[must_use]
    pub fn partitions(&self) -> Option<&Partitions> {
        self.phases.iter().find_map(|phase| match &phase.tasks {
            Tasks::Partitions(partitions) => Some(partitions.as_ref()),
            Tasks::One | Tasks::Slots(_) => None,
        })
    }

    /// How many tasks the step's work is.
    #[must_use]
    pub fn tasks_planned(&self) -> u64 {
        self.work_phases()
            .map(Phase::tasks_planned)
            .fold(0, u64::saturating_add)
    }

    /// How many ordinals of the step's work have no task, because earlier runs committed their
    /// partitions.
    #[must_use]
    pub fn tasks_covered(&self) -> u64 {
        let all = self
            .work_phases()
            .map(Phase::len)
            .fold(0, u64::saturating_add);
        all.saturating_sub(self.tasks_planned())
    }

    /// What the task of an ordinal does; `None` when it is left out, and beyond the last.
    #[must_use]
    pub fn work(&self, phase: u8, ordinal: u64) -> Option<Work> {
        let phase = self.phase(phase)?;
        if ordinal >= phase.len() {
            return None;
        }
        match (&phase.tasks, phase.kind) {
            (Tasks::Partitions(partitions), _) => partitions.slice(ordinal).map(Work::Partition),
            (Tasks::Slots(_), _) => Some(Work::Noop(ordinal)),
            (Tasks::One, PhaseKind::Prepare) => Some(Work::Prepare),
            (Tasks::One, PhaseKind::Count) => self
                .partitions()
                .map(|partitions| Work::Count(partitions.partitioning().whole())),
            (Tasks::One, PhaseKind::Close) => {
                let load = self
                    .numbered()
                    .find(|(_, phase)| phase.kind == PhaseKind::Load);
                load.map(|(number, _)| Work::Close { phase: number })
            }
            (
                Tasks::One,
                PhaseKind::Probe | PhaseKind::Fence | PhaseKind::Load | PhaseKind::Execute,
            ) => None,
        }
    }

    /// The id of the task of an ordinal, in a run and a generation of its plan; `None` where there
    /// is no task.
    #[must_use]
    pub fn task_id(
        &self,
        run: &RunId,
        generation: u32,
        step: &StepName,
        phase: u8,
        ordinal: u64,
    ) -> Option<TaskId> {
        let work = self.work(phase, ordinal)?;
        Some(TaskId::derive(
            run,
            generation,
            step,
            phase,
            &work.to_string(),
        ))
    }

    /// What the tasks of the step's work do, in their order.
    pub fn works(&self) -> impl Iterator<Item = Work> + '_ {
        let of_work = self.numbered().filter(|(_, phase)| phase.kind.is_work());
        of_work.flat_map(move |(number, phase)| {
            (0..phase.len()).filter_map(move |ordinal| self.work(number, ordinal))
        })
    }
}
