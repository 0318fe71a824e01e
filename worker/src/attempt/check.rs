//! The checks of a step: asks a table, and judges its answers.

use highwater_common::assignment::{AttemptError, Checked, CutBy, ErrorClass, Outcome};
use highwater_common::check::{CheckAnswer, Found};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::CursorForm;
use highwater_common::range::Slice;
use highwater_common::spec::{Check, TableName};
use highwater_runtime::failpoint;

use super::context::rows_of;
use super::{AttemptContext, OrderContext};
use crate::connector::{CheckRequest, DataTx, Question, Rows};
use crate::patience::{Call, answered};

/// What came of checks that were asked before a commit.
pub(super) enum Checking {
    /// The rows may be committed.
    Passed(DataTx, Vec<CheckAnswer>),
    /// Nothing of them is left.
    Failed(Checked),
}

/// Asks a transaction about the table that it has written. `source` are the source's rows, counted
/// before, where a check asks for them: meanwhile the transaction would idle.
pub(super) async fn check_before_commit(
    cx: &AttemptContext<'_>,
    mut tx: DataTx,
    table: &TableName,
    checks: &[Check],
    source: Option<u64>,
) -> Result<Checking, AttemptError> {
    let mut answers = Vec::new();
    for check in checks {
        let request = request(cx.of, table, check).await?;
        let (on, found) = cx.of.of_target(Call::Check, tx.ask(&request)).await?;
        tx = on;
        answers.push(judged(check, found, source));
    }
    if answers.iter().all(|answer| answer.passed) {
        return Ok(Checking::Passed(tx, answers));
    }
    let table = format!("{table} on {}", tx.place());
    tx.give_up().await;
    Ok(Checking::Failed(Checked {
        table,
        answers,
        committed: None,
    }))
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
    let rows = counted(context, |by| by.source_form)?;
    let source = context.source()?;
    let counting = source.count(&from.table, &rows, context.stall());
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
        Check::RowCount { .. } => Question::Rows(counted(context, |by| by.target_form)?),
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
    form: impl Fn(&CutBy) -> CursorForm,
) -> Result<Vec<Rows>, AttemptError> {
    let load_order = context.load_order()?;
    Ok(match load_order.counted.as_slice() {
        [] => vec![Rows::All],
        slices => {
            let rows = |slice: &Slice| rows_of(load_order, *slice, &form);
            slices.iter().map(rows).collect()
        }
    })
}
