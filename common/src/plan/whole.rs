//! The plan of a step that moves a whole table, which nothing cuts.

use super::columns::{Moving, settle_columns, settle_key};
use super::digest::digest;
use super::load::{hidden_rows, stream_id};
use super::phase::{Phase, PhaseKind};
use super::problem::{PlanProblem, Problems};
use super::step::StepPlan;
use super::twin::{Building, settle_twin};
use crate::assignment::LoadOrder;
use crate::facts::StepFacts;
use crate::id::{PipelineName, StepName};
use crate::spec::{Shrinking, SourceTable, TargetTable, Write};

/// What is moved whole: from where, to where, and how.
pub(crate) struct Whole<'a> {
    pub(crate) from: &'a SourceTable,
    pub(crate) to: &'a TargetTable,
    pub(crate) write: &'a Write,
    pub(crate) shrinking: Shrinking,
    pub(crate) building: Building,
}

/// Plans it, in phases of one task each.
///
/// # Errors
/// Every [`PlanProblem`] of the step at once.
pub(crate) fn plan_whole(
    pipeline: &PipelineName,
    step: &StepName,
    whole: &Whole<'_>,
    phases: &[PhaseKind],
    facts: &StepFacts,
) -> Result<StepPlan, Vec<PlanProblem>> {
    let (mut problems, mut warnings) = (Problems::of(step), Vec::new());
    let moving = Moving {
        from: whole.from,
        to: whole.to,
        write: whole.write,
        cut_by: None,
    };
    let columns = settle_columns(moving, facts, &mut problems, &mut warnings);
    let key = settle_key(moving, facts, &mut problems, &mut warnings);
    let twin = settle_twin(
        moving,
        &key,
        whole.building,
        facts,
        &mut problems,
        &mut warnings,
    );
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    let load_order = LoadOrder {
        stream: stream_id(pipeline, step, Some(whole.from), whole.to),
        columns,
        key,
        twin,
        cut_by: None,
        write: whole.write.clone(),
        shadow: None,
        staging: None,
        watermark: None,
        shrinking: whole.shrinking,
        checks: Vec::new(),
        counted: Vec::new(),
        chunk: None,
        cut: digest(&"whole"),
        target_fingerprint: facts.target.fingerprint.clone(),
        reprocess_all: true,
    };
    Ok(StepPlan {
        phases: phases.iter().copied().map(Phase::one).collect(),
        load_order: Some(load_order),
        depends_on: None,
        estimated_rows: facts.source.rows,
        warnings,
        not_loaded: hidden_rows(facts, &whole.from.relation),
        facts: Some(digest(facts)),
    })
}
