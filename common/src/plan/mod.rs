//! The plan of a run: a contract that is made once from spec, facts and reference time, and then only carried out.
//!
//! It holds rules, never tasks: its size does not depend on how many partitions there are. The same spec, reference time and
//! facts always give the same plan, with the same digest and, for one run, the same task ids.

mod columns;
mod cut;
mod load;
mod problem;
mod reactions;
mod table_compat;
#[cfg(test)]
mod tests;
mod type_compat;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::load::{LoadPlan, plan_load, stream_id, unindexed_target};
pub use self::problem::PlanProblem;
pub use self::reactions::{Writing, check_reactions};
pub use self::table_compat::{Destination, Misfit, Rows, TableCompat, check_table};
pub use self::type_compat::{Affinity, Compat, affinity, compat, definition_differs, has_same_wire_form, may_round};
use crate::assignment::{Settled, Work};
use crate::facts::StepFacts;
use crate::id::{DocumentDigest, PipelineName, RunId, StepName, TaskId};
use crate::partition::PARTITIONS_MAX;
use crate::spec::{Spec, Step, Strategy};

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

/// The plan of one step. Its tasks have ordinals from 0, which mean the same for as long as the plan lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepPlan {
    /// Moves rows.
    Load(Box<LoadPlan>),
    /// Holds slots.
    Noop {
        /// How many tasks.
        tasks: u64,
    },
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
        if problems.is_empty() { Ok(Self { spec_digest, reference_time_micros, steps }) } else { Err(problems) }
    }

    /// The digest of everything that the plan says: spec, reference time, facts and rules, but not the run.
    #[must_use]
    #[expect(clippy::expect_used, reason = "names, numbers and lists always have a JSON form, whatever they say")]
    pub fn digest(&self) -> DocumentDigest {
        let text = serde_json::to_vec(self).expect("a plan is made of names, numbers and lists, which JSON can hold");
        DocumentDigest::of(&text)
    }

    /// How many tasks the run's partitions are.
    #[must_use]
    pub fn tasks_planned(&self) -> u64 {
        self.steps.values().map(StepPlan::tasks_planned).fold(0, u64::saturating_add)
    }
}

/// Plans one step from what its probe found; a no-op needs no facts.
///
/// # Errors
/// Every [`PlanProblem`] of the step at once.
pub fn plan_step(
    pipeline: &PipelineName,
    name: &StepName,
    step: &Step,
    facts: Option<&StepFacts>,
) -> Result<StepPlan, Vec<PlanProblem>> {
    let problem = |code, message: String, help: &str| {
        Err(vec![PlanProblem { code, step: name.clone(), message, help: help.to_owned() }])
    };
    match (&step.strategy, facts) {
        (Strategy::Backfill(load), Some(facts)) => {
            plan_load(pipeline, name, load, facts).map(|plan| StepPlan::Load(Box::new(plan)))
        }
        (Strategy::Backfill(load), None) => {
            problem("plan::not_probed", format!("nothing was found out about {}", load.from.table), "plan again")
        }
        (Strategy::Noop { tasks, .. }, _) if *tasks > PARTITIONS_MAX => problem(
            "plan::too_many_partitions",
            format!("{tasks} tasks are more than the {PARTITIONS_MAX} that a step may have"),
            "use fewer `tasks`",
        ),
        (Strategy::Noop { tasks, .. }, _) => Ok(StepPlan::Noop { tasks: *tasks }),
    }
}

impl StepPlan {
    /// How many ordinals there are, those left out included.
    #[must_use]
    pub fn partitions(&self) -> u64 {
        match self {
            Self::Load(load) => load.partitions(),
            Self::Noop { tasks } => *tasks,
        }
    }

    /// How many tasks come of them.
    #[must_use]
    pub fn tasks_planned(&self) -> u64 {
        match self {
            Self::Load(load) => load.tasks_planned(),
            Self::Noop { tasks } => *tasks,
        }
    }

    /// True when no task comes of an ordinal, because earlier runs committed all of its partition.
    #[must_use]
    pub fn skips(&self, ordinal: u64) -> bool {
        self.work(ordinal).is_none()
    }

    /// What the task of an ordinal does; `None` when it is left out, and beyond the last.
    #[must_use]
    pub fn work(&self, ordinal: u64) -> Option<Work> {
        match self {
            Self::Load(load) => load.slice(ordinal).map(Work::Partition),
            Self::Noop { tasks } => (ordinal < *tasks).then_some(Work::Noop(ordinal)),
        }
    }

    /// The id of the task of an ordinal, in a run and a generation of its plan; `None` where there is no task.
    #[must_use]
    pub fn task_id(&self, run: &RunId, generation: u32, step: &StepName, ordinal: u64) -> Option<TaskId> {
        self.work(ordinal).map(|work| TaskId::derive(run, generation, step, &work.to_string()))
    }

    /// What all tasks of the step have in common; `None` for a step that moves no rows.
    #[must_use]
    pub fn settled(&self) -> Option<&Settled> {
        match self {
            Self::Load(load) => Some(load.settled()),
            Self::Noop { .. } => None,
        }
    }

    /// About how many rows will be moved.
    #[must_use]
    pub fn estimated_rows(&self) -> u64 {
        match self {
            Self::Load(load) => load.estimated_rows,
            Self::Noop { .. } => 0,
        }
    }

    /// What the user should know before it runs.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        match self {
            Self::Load(load) => &load.warnings,
            Self::Noop { .. } => &[],
        }
    }

    /// What is there and is not loaded.
    #[must_use]
    pub fn not_loaded(&self) -> &[String] {
        match self {
            Self::Load(load) => &load.notes,
            Self::Noop { .. } => &[],
        }
    }
}
