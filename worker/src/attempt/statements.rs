//! The statements of a step, in one transaction with their receipt.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt, StepOrder};
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::cursor_form::CursorForm;
use highwater_common::error_code::ErrorCode;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{LiteralKind, Parameter, Statement, statements_over};
use highwater_runtime::failpoint;

use super::AttemptContext;
use super::claim::{Claiming, claim};
use super::commit::{Committing, guard_and_commit};
use crate::connector::{BoundStatement, BoundValue, GuardStep, Target};
use crate::patience::Call;

/// The least time between two questions whether the target is still there.
const ASKED_LEAST: Duration = Duration::from_secs(10);

/// Claims the task, runs the statements for a period or once for all, and commits what they did with
/// the ledger row.
pub(crate) async fn run_statements(
    cx: &AttemptContext<'_>,
    script: &str,
    period: Option<Slice>,
) -> Result<Outcome, AttemptError> {
    let (context, target) = (cx.of, cx.of.target()?);
    let target = target.as_ref();
    let malformed = |why: String| {
        let (class, code) = (ErrorClass::Permanent, ErrorCode::MalformedOrder);
        AttemptError::new(class, code, why)
    };
    let bounds = period
        .map(|period| Bounds::of(period, &context.order).map_err(malformed))
        .transpose()?;
    let kind = bounds.map_or(CursorKind::Instant, |bounds| bounds.start.kind());
    let form = bounds.map_or(CursorForm::Native, |bounds| bounds.form);
    let script = statements_over(script, context.target_engine(), kind, form)
        .map_err(|error| malformed(format!("the statements cannot be read: {error}")))?;
    let slice = period.unwrap_or(Slice::Range(CursorRange::ALL));
    let claimed = match claim(cx, target, slice).await? {
        Claiming::Held(claimed) => claimed,
        Claiming::Over(outcome) => return Ok(outcome),
    };
    let tx = claimed.begin().await?;
    cx.progress.note_reached();
    failpoint::hit_on("attempt::after_begin", &context.worker).await?;
    let bound = bound(&script, &context.order, bounds).map_err(malformed)?;
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

/// The period that statements run for, as the target writes its positions.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    start: Cursor,
    end: Cursor,
    form: CursorForm,
}

impl Bounds {
    fn of(period: Slice, order: &StepOrder) -> Result<Self, String> {
        let cut_by = order.load_order.as_ref();
        let cut_by = cut_by.and_then(|load_order| load_order.cut_by.as_ref());
        let Slice::Range(range) = period else {
            return Err("the rows without a position are no period".to_owned());
        };
        match (range.start(), range.end(), cut_by) {
            (Some(start), Some(end), Some(cut_by)) => Ok(Self {
                start,
                end,
                form: cut_by.target_form,
            }),
            (_, _, _) => Err(format!("{range} is no period with a start and an end")),
        }
    }
}

/// The statements with their values.
fn bound(
    script: &[Statement],
    order: &StepOrder,
    bounds: Option<Bounds>,
) -> Result<Vec<BoundStatement>, String> {
    let all = script.len();
    let numbered = script.iter().enumerate();
    let bound = numbered.map(|(at, statement)| {
        let parameters = statement.parameters.iter();
        let values = parameters.map(|parameter| value(parameter, order, bounds));
        Ok(BoundStatement {
            text: statement.text.clone(),
            values: values.collect::<Result<_, String>>()?,
            changes_rows: statement.changes_rows,
            told_as: format!(
                "run statement {} of {all} ({statement}, line {})",
                at + 1,
                statement.line
            ),
        })
    });
    bound.collect()
}

fn value(
    parameter: &Parameter,
    order: &StepOrder,
    bounds: Option<Bounds>,
) -> Result<BoundValue, String> {
    let position = |of: fn(Bounds) -> Cursor| match bounds {
        Some(bounds) => Ok(BoundValue::Position(of(bounds), bounds.form)),
        None => Err("the statements ask for a period, and run once for all".to_owned()),
    };
    Ok(match parameter {
        Parameter::RunId => BoundValue::Text(order.run.to_string()),
        Parameter::ReferenceTime => {
            BoundValue::Text(Cursor::Instant(order.reference_time_micros).to_string())
        }
        Parameter::Pipeline => BoundValue::Text(order.pipeline.to_string()),
        Parameter::Step => BoundValue::Text(order.step.to_string()),
        Parameter::PartitionStart => position(|bounds| bounds.start)?,
        Parameter::PartitionEnd => position(|bounds| bounds.end)?,
        Parameter::Literal { value, of } => match (of, value.parse()) {
            (LiteralKind::Integer, Ok(number)) => BoundValue::Integer(number),
            _ => BoundValue::Text(value.clone()),
        },
    })
}
