//! The checks of a step: asks a table, and judges its answers.

use highwater_common::assignment::{AttemptError, Checked, CutBy, ErrorClass, Outcome, Receipt};
use highwater_common::check::{CheckAnswer, Found};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::CursorForm;
use highwater_common::range::Slice;
use highwater_common::spec::{Check, TableName};
use highwater_runtime::failpoint;

use super::commit::{Committing, guard_and_commit};
use super::context::rows_of;
use super::{AttemptContext, OrderContext};
use crate::connector::{CheckRequest, DataTx, GuardStep, Question, Rows, Target};
use crate::patience::{Call, answered};

/// What is asked of a table before its rows are committed.
pub(super) struct Asked<'a> {
    pub(super) table: &'a TableName,
    pub(super) checks: &'a [Check],
    /// The source's rows, where a check asks for them: counted before the transaction, which would
    /// idle meanwhile.
    pub(super) source: Option<u64>,
}

/// Commits a task's last rows by `step`, unless a check of the table fails: then nothing of them is
/// left. `all` is what the task has moved with them.
pub(super) async fn commit_checked(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    mut tx: DataTx,
    asked: Asked<'_>,
    step: GuardStep,
    all: Receipt,
) -> Result<Outcome, AttemptError> {
    let mut answers = Vec::new();
    for check in asked.checks {
        let request = request(cx.of, asked.table, check).await?;
        let (on, found) = cx.of.of_target(Call::Check, tx.ask(&request)).await?;
        tx = on;
        answers.push(judged(check, found, asked.source));
    }
    if !answers.iter().all(|answer| answer.passed) {
        let table = format!("{} on {}", asked.table, tx.place());
        tx.give_up().await;
        return Ok(Outcome::Checked(Checked {
            table,
            answers,
            committed: None,
        }));
    }
    match guard_and_commit(cx, target, tx, &step).await? {
        Committing::Over(outcome) => Ok(outcome),
        Committing::Committed(_) if answers.is_empty() => Ok(Outcome::Committed(all)),
        Committing::Committed(_) => Ok(Outcome::Checked(Checked {
            table: asked.table.to_string(),
            answers,
            committed: Some(all),
        })),
    }
}

/// Asks about the table that the step has loaded.
pub(crate) async fn check_table(context: &OrderContext) -> Result<Outcome, AttemptError> {
    let target = context.target()?;
    let table = context.written_table(target.as_ref())?;
    let place = &context.tables()?.1.connection;
    let Some(asking) = target.checks() else {
        let message = format!("{place} cannot answer checks");
        let (class, code) = (ErrorClass::Permanent, ErrorCode::CheckUnsupported);
        return Err(AttemptError::new(class, code, message));
    };
    let checks = &context.load_order()?.checks;
    let source = count_source(context, checks).await?;
    let mut answers = Vec::new();
    for check in checks {
        let request = request(context, &table, check).await?;
        let found = context.of_target(Call::Check, asking.ask(&request)).await?;
        answers.push(judged(check, found, source));
    }
    Ok(Outcome::Checked(Checked {
        table: format!("{table} on {place}"),
        answers,
        committed: None,
    }))
}

/// How many rows the source has of those that are loaded, where a check asks for them.
pub(super) async fn count_source(
    context: &OrderContext,
    checks: &[Check],
) -> Result<Option<u64>, AttemptError> {
    if !checks.iter().any(Check::asks_source) {
        return Ok(None);
    }
    let (from, _) = context.tables()?;
    let rows = counted(context, CutBy::in_source)?;
    let source = context.source()?;
    let counting = source.count(&from.relation, &rows, context.stall());
    let count = answered(Call::Check, &from.connection, context.stall(), counting);
    count.await.map(Some)
}

fn judged(check: &Check, found: Found, source: Option<u64>) -> CheckAnswer {
    check.judge(&match (check, found, source) {
        (Check::RowCount { .. }, Found::Rows(rows), Some(source)) => Found::Counts { rows, source },
        (_, found, _) => found,
    })
}

/// What a check asks of a table.
async fn request(
    context: &OrderContext,
    table: &TableName,
    check: &Check,
) -> Result<CheckRequest, AttemptError> {
    failpoint::hit_on("attempt::before_check", &context.worker).await?;
    let question = match check {
        Check::RowCount { .. } => Question::Rows(counted(context, CutBy::in_target)?),
        Check::MinRows(_) => Question::Rows(vec![Rows::All]),
        Check::NotNull(columns) => Question::Nulls(columns.clone()),
        Check::Unique(columns) => Question::Shared(columns.clone()),
        Check::Sql(sql) => Question::Query(sql.clone()),
    };
    Ok(CheckRequest {
        table: table.clone(),
        question,
        within: context.stall(),
    })
}

/// The rows that are counted on both sides, in the words of one.
fn counted(
    context: &OrderContext,
    side: impl Fn(&CutBy) -> (&str, CursorForm),
) -> Result<Vec<Rows>, AttemptError> {
    let load_order = context.load_order()?;
    Ok(match load_order.counted.as_slice() {
        [] => vec![Rows::All],
        slices => {
            let rows = |slice: &Slice| rows_of(load_order, *slice, &side);
            slices.iter().map(rows).collect()
        }
    })
}
