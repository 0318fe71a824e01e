//! The checks of a step in its plan: what they are about, and when they are made.

use super::partitions::Partitions;
use super::phase::{Phase, PhaseKind};
use super::problem::{PlanProblem, Problems};
use super::step::StepPlan;
use super::table_compat::{find, names};
use crate::cursor::CursorKind;
use crate::error_code::ErrorCode;
use crate::facts::StepFacts;
use crate::id::StepName;
use crate::partition::Rule;
use crate::range::Slice;
use crate::spec::Step;

/// Puts the step's checks into its plan.
///
/// # Errors
/// Every column that a check names and the target does not have.
pub(super) fn settle_checks(
    name: &StepName,
    step: &Step,
    facts: Option<&StepFacts>,
    plan: &mut StepPlan,
) -> Result<(), Vec<PlanProblem>> {
    let (Some(facts), false) = (facts, step.checks.is_empty()) else {
        return Ok(());
    };
    // Nothing is asked about rows that are not loaded.
    if !plan.phases.iter().any(|phase| phase.kind.commits_rows()) {
        return Ok(());
    }
    // The target does not know which rows are whose; all of them are counted, as all are loaded.
    let told = |partitions: &&Partitions| {
        !matches!(partitions.partitioning().kind(), CursorKind::Placed(_))
    };
    let whole = plan.partitions().filter(told).map(|partitions| {
        let cut = partitions.partitioning();
        let range = Slice::Range(cut.whole());
        let null = cut.has_null().then_some(Slice::Null);
        let is_window = matches!(cut.rule(), Rule::Single(_));
        let is_left_out = is_window && partitions.covered().contains(cut.kind(), &range);
        let range = (!is_left_out).then_some(range);
        range.into_iter().chain(null).collect()
    });
    let Some(load_order) = &mut plan.load_order else {
        return Ok(());
    };
    let mut problems = Problems::of(name);
    let found = facts.target.table.as_ref();
    let columns = found.map_or(&load_order.columns, |table| &table.columns);
    for check in &step.checks {
        for column in check.columns() {
            if find(facts.target.engine, columns, column).is_none() {
                problems.add(
                    ErrorCode::PlanCheckColumn,
                    format!(
                        "`{check}` names the column {column}, and the target has {}",
                        names(columns)
                    ),
                    "name one of them",
                );
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    load_order.checks.clone_from(&step.checks);
    load_order.counted = whole.unwrap_or_default();
    if let Some(before) = step.strategy.load().checked_after() {
        let behind = plan.phases.iter().position(|phase| phase.kind == before);
        let at = behind.map_or(plan.phases.len(), |at| at.saturating_add(1));
        plan.phases.insert(at, Phase::one(PhaseKind::Check));
    }
    Ok(())
}
