//! The checks of a step: asks a table, and judges its answers.

use highwater_common::assignment::{AttemptError, Checked};
use highwater_common::check::CheckAnswer;
use highwater_common::spec::{Check, TableName};
use highwater_runtime::failpoint;

use super::AttemptContext;
use crate::connector::{CheckRequest, DataTx, Question, Rows};
use crate::patience::Call;

/// What came of checks that were asked before a commit.
pub(super) enum Checking {
    /// The rows may be committed.
    Passed(DataTx, Vec<CheckAnswer>),
    /// Nothing of them is left.
    Failed(Checked),
}

/// Asks a transaction about the table that it has written.
pub(super) async fn check_before_commit(
    cx: &AttemptContext<'_>,
    mut tx: DataTx,
    table: &TableName,
    checks: &[Check],
) -> Result<Checking, AttemptError> {
    let mut answers = Vec::new();
    for check in checks {
        failpoint::hit_on("attempt::before_check", &cx.of.worker).await?;
        let request = CheckRequest {
            table: table.clone(),
            question: question(check),
            within: cx.of.stall(),
        };
        let (on, found) = cx.of.of_target(Call::Check, tx.ask(&request)).await?;
        tx = on;
        answers.push(check.judge(&found));
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

/// What a check asks.
fn question(check: &Check) -> Question {
    match check {
        Check::MinRows(_) => Question::Rows(vec![Rows::All]),
    }
}
