//! Tasks that hold a slot and move nothing: they measure the control path.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::capability::Capabilities;
use crate::error_code::ErrorCode;
use crate::facts::StepFacts;
use crate::left_out::LeftOut;
use crate::partition::PARTITIONS_MAX;
use crate::plan::{Phase, PhaseKind, PlanProblem, StepPlan, Tasks};
use crate::spec::Noop;

impl Load for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    fn sides(&self) -> Sides<'_> {
        Sides::default()
    }

    fn needs(&self) -> Capabilities {
        Capabilities::NOOP
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        None
    }

    fn plan(
        &self,
        of: &PlanContext<'_>,
        _: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let tasks = self.tasks;
        if tasks > PARTITIONS_MAX {
            return Err(vec![PlanProblem {
                code: ErrorCode::PlanTooManyPartitions,
                step: of.step.clone(),
                message: format!(
                    "{tasks} tasks are more than the {PARTITIONS_MAX} that a step may have"
                ),
                help: "use fewer `tasks`".to_owned(),
            }]);
        }
        let execute = Phase {
            kind: PhaseKind::Execute,
            tasks: Tasks::Slots(tasks),
            tolerant: true,
        };
        Ok(StepPlan {
            phases: vec![execute],
            load_order: None,
            depends_on: None,
            estimated_rows: 0,
            warnings: Vec::new(),
            not_loaded: Vec::new(),
            facts: None,
        })
    }

    fn summary(&self, _: &StepPlan) -> String {
        "holds slots, moves nothing".to_owned()
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
