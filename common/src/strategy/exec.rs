//! A program of the user's own. Nothing makes it and its receipt one transaction: without a probe, and
//! without the word that it may be repeated, an attempt whose end nobody knows waits for a person.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::capability::Capabilities;
use crate::facts::StepFacts;
use crate::left_out::LeftOut;
use crate::plan::{Phase, PhaseKind, PlanProblem, StepPlan};
use crate::spec::{Argument, Program};

impl Load for Program {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn sides(&self) -> Sides<'_> {
        Sides::default()
    }

    fn needs(&self) -> Capabilities {
        Capabilities::EXEC
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        None
    }

    fn plan(
        &self,
        _: &PlanContext<'_>,
        _: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let promise = match (self.probe.is_some(), self.idempotent) {
            (true, _) => "NOT one transaction: at least once, with a probe",
            (false, true) => "NOT one transaction: at least once, and idempotent by its own word",
            (false, false) => {
                "NOT one transaction: at most once; one whose end nobody knows is in doubt, and a \
                 person says whether it was done. `probe` or `idempotent: true` lets it go on by \
                 itself"
            }
        };
        Ok(StepPlan {
            phases: vec![Phase::one(PhaseKind::Execute)],
            load_order: None,
            depends_on: None,
            estimated_rows: 0,
            warnings: vec![promise.to_owned()],
            not_loaded: Vec::new(),
            facts: None,
        })
    }

    fn summary(&self, _: &StepPlan) -> String {
        let program = self.command.first();
        program.map_or_else(String::new, |path| format!("runs {path}"))
    }

    fn programs(&self) -> Vec<&str> {
        let probe = self.probe.as_ref().and_then(|probe| probe.first());
        let both = self.command.first().into_iter().chain(probe);
        both.map(Argument::as_written).collect()
    }

    fn may_run_again(&self) -> bool {
        Program::may_run_again(self)
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
