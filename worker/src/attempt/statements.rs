//! The statements of a step, in one transaction with their receipt.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt, StepOrder};
use highwater_common::cursor::Cursor;
use highwater_common::error_code::ErrorCode;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{LiteralKind, Parameter, Statement, statements};
use highwater_runtime::failpoint;

use super::AttemptContext;
use super::claim::{Claiming, claim};
use super::commit::{Committing, guard_and_commit};
use crate::connector::{BoundStatement, BoundValue, GuardStep, Target};
use crate::patience::Call;

/// The least time between two questions whether the target is still there.
const ASKED_LEAST: Duration = Duration::from_secs(10);

/// Claims the task, runs the statements, and commits what they did with the ledger row.
pub(crate) async fn run_statements(
    cx: &AttemptContext<'_>,
    script: &str,
) -> Result<Outcome, AttemptError> {
    let (context, target) = (cx.of, cx.of.target()?);
    let target = target.as_ref();
    let script = statements(script, context.target_engine()).map_err(|error| {
        let (class, code) = (ErrorClass::Permanent, ErrorCode::MalformedOrder);
        AttemptError::new(
            class,
            code,
            format!("the statements cannot be read: {error}"),
        )
    })?;
    let claimed = match claim(cx, target, Slice::Range(CursorRange::ALL)).await? {
        Claiming::Held(claimed) => claimed,
        Claiming::Over(outcome) => return Ok(outcome),
    };
    let tx = claimed.begin().await?;
    cx.progress.note_reached();
    failpoint::hit_on("attempt::after_begin", &context.worker).await?;
    let bound = bound(&script, &context.order);
    let (tx, rows) = tokio::select! {
        biased;
        ran = tx.run(&bound) => ran?,
        gone = until_gone(cx, target) => return Err(gone),
    };
    let receipt = Receipt { rows, bytes: 0 };
    cx.progress.note(receipt);
    match guard_and_commit(cx, target, tx, &GuardStep::last(receipt)).await? {
        Committing::Committed(_) => Ok(Outcome::Committed(receipt)),
        Committing::Over(outcome) => Ok(outcome),
    }
}

/// A statement may take hours, and its session says nothing meanwhile. Whether its server is still
/// there is asked by another one; comes back with the answer once that is no.
async fn until_gone(cx: &AttemptContext<'_>, target: &dyn Target) -> AttemptError {
    let between = cx.of.stall().max(ASKED_LEAST);
    loop {
        tokio::time::sleep(between).await;
        let asked = target.ledger_row(&cx.of.order.run, &cx.assignment.task);
        if let Err(gone) = cx.of.of_target(Call::Ledger, asked).await {
            return gone;
        }
    }
}

/// The statements with their values.
fn bound(script: &[Statement], order: &StepOrder) -> Vec<BoundStatement> {
    let all = script.len();
    let numbered = script.iter().enumerate();
    let bound = numbered.map(|(at, statement)| BoundStatement {
        text: statement.text.clone(),
        values: statement
            .parameters
            .iter()
            .map(|parameter| value(parameter, order))
            .collect(),
        changes_rows: statement.changes_rows,
        told_as: format!(
            "run statement {} of {all} ({statement}, line {})",
            at + 1,
            statement.line
        ),
    });
    bound.collect()
}

fn value(parameter: &Parameter, order: &StepOrder) -> BoundValue {
    match parameter {
        Parameter::RunId => BoundValue::Text(order.run.to_string()),
        Parameter::ReferenceTime => {
            BoundValue::Text(Cursor::Instant(order.reference_time_micros).to_string())
        }
        Parameter::Pipeline => BoundValue::Text(order.pipeline.to_string()),
        Parameter::Step => BoundValue::Text(order.step.to_string()),
        Parameter::Literal { value, of } => match (of, value.parse()) {
            (LiteralKind::Integer, Ok(number)) => BoundValue::Integer(number),
            _ => BoundValue::Text(value.clone()),
        },
    }
}
