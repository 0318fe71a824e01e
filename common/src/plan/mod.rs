//! The plan of a run: a contract that is made once from spec, facts and reference time, and then
//! only carried out.
//!
//! It holds rules, never tasks: its size does not depend on how many partitions there are. The same
//! spec, reference time and facts always give the same plan, with the same digest and, for one run,
//! the same task ids.

mod checks;
mod columns;
mod cut;
mod dependants;
mod digest;
mod load;
mod partitions;
mod phase;
mod position_forms;
mod problem;
mod reactions;
mod references;
mod step;
mod table_compat;
#[cfg(test)]
mod tests;
mod twin;
mod type_compat;
mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::dependants::{check_dependants, goes_along};
pub(crate) use self::digest::digest;
pub(crate) use self::load::plan_range;
pub use self::load::{LoadPlan, plan_load, stream_id, unindexed_target};
pub use self::partitions::Partitions;
pub use self::phase::{Phase, PhaseKind, Tasks};
pub use self::problem::PlanProblem;
pub(crate) use self::problem::Problems;
pub use self::reactions::{Writing, check_reactions};
pub use self::references::check_references;
pub(crate) use self::references::check_removals;
pub use self::step::StepPlan;
pub use self::table_compat::{Destination, Misfit, Rows, TableCompat, check_table};
pub(crate) use self::twin::Building;
pub use self::twin::{SETTINGS, carried, is_built_later, wants_twin};
pub use self::type_compat::{
    Affinity, Compat, EXCEPTIONS, Exception, affinity, compat, definition_differs,
    has_same_wire_form,
};
pub(crate) use self::whole::{Whole, plan_whole};
use crate::facts::StepFacts;
use crate::id::{DocumentDigest, PipelineName, StepName};
use crate::spec::{Spec, Step};
use crate::strategy::PlanContext;
use checks::settle_checks;

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
        // A step that follows another one is planned behind it.
        let is_leading = |step: &Step| step.strategy.load().follows().is_none();
        let (leading, following): (Vec<_>, Vec<_>) =
            spec.steps.iter().partition(|(_, step)| is_leading(step));
        for (name, step) in leading.into_iter().chain(following) {
            let followed = step.strategy.load().follows();
            let followed = followed.and_then(|other| steps.get(other));
            match plan_following(&spec.name, name, step, facts.get(name), followed) {
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
    plan_following(pipeline, name, step, facts, None)
}

/// The same, behind the plan of the step that it follows.
fn plan_following(
    pipeline: &PipelineName,
    name: &StepName,
    step: &Step,
    facts: Option<&StepFacts>,
    followed: Option<&StepPlan>,
) -> Result<StepPlan, Vec<PlanProblem>> {
    let of = PlanContext {
        pipeline,
        step: name,
        followed,
    };
    let mut plan = step.strategy.load().plan(&of, facts)?;
    settle_checks(name, step, facts, &mut plan)?;
    Ok(plan)
}
