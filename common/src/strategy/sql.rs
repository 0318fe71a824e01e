//! Statements of the user's own, in one transaction of the target: prepare its ledger, run them, and
//! ask the target whether it still has what they did.

use super::{Load, PlanContext, ProbeRequest, Sides};
use crate::assignment::{CutBy, LoadOrder};
use crate::capability::Capabilities;
use crate::coverage::Coverage;
use crate::error_code::ErrorCode;
use crate::facts::StepFacts;
use crate::id::StepName;
use crate::left_out::LeftOut;
use crate::partition::{Partitioning, Rule};
use crate::plan::{
    Partitions, Phase, PhaseKind, PlanProblem, Problems, StepPlan, Tasks, digest, stream_id,
};
use crate::spec::{
    ExistingRows, Follow, OnSchemaChange, Script, Shrinking, Triggers, Write, WriteMode,
};

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
        match &self.follow {
            None => Capabilities::SQL,
            Some(_) => Capabilities::SQL.and(Capabilities::PERIODS),
        }
    }

    fn follows(&self) -> Option<&StepName> {
        self.follow.as_ref().map(|follow| &follow.step)
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
        let periods = self.periods(of)?;
        let load_order = LoadOrder {
            stream: stream_id(of.pipeline, of.step, None, &self.to),
            columns: Vec::new(),
            key: Vec::new(),
            twin: None,
            // The column of the table that is followed, whose periods the statements run for.
            cut_by: periods.as_ref().map(|(_, cut_by)| cut_by.clone()),
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
            cut: match &periods {
                None => digest(&"whole"),
                Some((periods, _)) => digest(periods),
            },
            // Which target it is, its prepare tells.
            target_fingerprint: String::new(),
            reprocess_all: true,
        };
        let statements = Phase {
            kind: PhaseKind::Statements,
            tasks: match periods {
                None => Tasks::One,
                Some((periods, _)) => Tasks::Partitions(Box::new(periods)),
            },
            tolerant: self.follow.is_some(),
        };
        Ok(StepPlan {
            phases: vec![
                Phase::one(PhaseKind::Prepare),
                statements,
                Phase::one(PhaseKind::Close),
            ],
            load_order: Some(load_order),
            depends_on: None,
            estimated_rows: 0,
            warnings: Vec::new(),
            not_loaded: Vec::new(),
            facts: None,
        })
    }

    fn summary(&self, _: &StepPlan) -> String {
        match &self.follow {
            None => format!(
                "statements that write {}, in one transaction",
                self.to.table
            ),
            Some(Follow { step, grain }) => format!(
                "statements that write {}, for each {} of {step} once its rows are there",
                self.to.table,
                grain.as_str()
            ),
        }
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

impl Script {
    /// The periods that the statements run for, and the column that they are of; `None` where they
    /// run once for all.
    fn periods(
        &self,
        of: &PlanContext<'_>,
    ) -> Result<Option<(Partitions, CutBy)>, Vec<PlanProblem>> {
        let Some(follow) = &self.follow else {
            return Ok(None);
        };
        let refused = |why: String| {
            let mut problems = Problems::of(of.step);
            let help = format!("mend what `{}` says, or leave `partition` out", follow.step);
            problems.add(ErrorCode::PlanPartitionGrain, why, help);
            problems.into_vec()
        };
        let followed = of.followed.and_then(|plan| {
            let cut_by = plan.load_order.as_ref()?.cut_by.clone()?;
            Some((plan.partitions()?.partitioning(), cut_by))
        });
        // Its own problems are told by the step that is followed.
        let Some((partitioning, cut_by)) = followed else {
            return Err(refused(format!(
                "it follows `{}`, which has no plan",
                follow.step
            )));
        };
        let Rule::Calendar(calendar) = partitioning.rule() else {
            return Err(refused(format!(
                "it follows `{}`, which has no periods",
                follow.step
            )));
        };
        let periods = calendar.with_grain(follow.grain);
        let periods = periods.map_err(|error| refused(format!("its periods: {error}")))?;
        let periods = Partitioning::new(Rule::Calendar(periods), partitioning.order(), false);
        Ok(Some((
            Partitions::new(periods, Coverage::default()),
            cut_by,
        )))
    }
}
