//! Statements of the user's own, in one transaction of the target: prepare its ledger, run them, and
//! ask the target whether it still has what they did.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::assignment::LoadOrder;
use crate::capability::Capabilities;
use crate::facts::StepFacts;
use crate::left_out::LeftOut;
use crate::plan::{Phase, PhaseKind, PlanProblem, StepPlan, digest, stream_id};
use crate::spec::{ExistingRows, OnSchemaChange, Script, Shrinking, Triggers, Write, WriteMode};

impl Load for Script {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            source: None,
            target: Some(&self.to),
        }
    }

    fn needs(&self) -> Capabilities {
        Capabilities::SQL
    }

    /// What the statements need they find when they run: those before them may only make it.
    fn probe(&self) -> Option<ProbeRequest<'_>> {
        None
    }

    fn plan(
        &self,
        of: &PlanContext<'_>,
        _: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let load_order = LoadOrder {
            stream: stream_id(of.pipeline, of.step, None, &self.to),
            columns: Vec::new(),
            key: Vec::new(),
            twin: None,
            cut_by: None,
            write: Write {
                mode: WriteMode::Statements,
                key: Vec::new(),
                cursor: None,
                resident: ExistingRows::Replace,
                triggers: Triggers::Fire,
                on_schema_change: OnSchemaChange::Fail,
            },
            shadow: None,
            staging: None,
            watermark: None,
            shrinking: Shrinking::default(),
            checks: Vec::new(),
            counted: Vec::new(),
            chunk: None,
            cut: digest(&"whole"),
            // Which target it is, its prepare tells.
            target_fingerprint: String::new(),
            reprocess_all: true,
        };
        let phases = [PhaseKind::Prepare, PhaseKind::Statements, PhaseKind::Close];
        Ok(StepPlan {
            phases: phases.into_iter().map(Phase::one).collect(),
            load_order: Some(load_order),
            depends_on: None,
            estimated_rows: 0,
            warnings: Vec::new(),
            not_loaded: Vec::new(),
            facts: None,
        })
    }

    fn summary(&self, _: &StepPlan) -> String {
        format!(
            "statements that write {}, in one transaction",
            self.to.table
        )
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
