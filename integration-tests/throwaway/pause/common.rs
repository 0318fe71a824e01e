//! One task that waits: a strategy to throw away, which shows what a new one takes.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::capability::Capabilities;
use crate::facts::StepFacts;
use crate::left_out::LeftOut;
use crate::plan::{Phase, PhaseKind, PlanProblem, StepPlan, Tasks};
use crate::spec::Pause;

impl Load for Pause {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn sides(&self) -> Sides<'_> {
        Sides::default()
    }

    fn needs(&self) -> Capabilities {
        Capabilities::NONE
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        None
    }

    fn plan(
        &self,
        _: &PlanContext<'_>,
        _: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        Ok(StepPlan {
            phases: vec![Phase {
                kind: PhaseKind::Execute,
                tasks: Tasks::Slots(1),
                tolerant: false,
            }],
            load_order: None,
            depends_on: None,
            estimated_rows: 0,
            warnings: Vec::new(),
            not_loaded: Vec::new(),
            facts: None,
        })
    }

    fn summary(&self, _: &StepPlan) -> String {
        format!("waits for {} ms", self.lasts.as_millis())
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
