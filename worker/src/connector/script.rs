//! Statements of the user's own within a data transaction, above what a connector can do.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::cursor::Cursor;
use highwater_common::cursor_form::CursorForm;
use highwater_common::error_code::ErrorCode;

use super::ConnectorError;
use super::transaction::DataTx;

/// A statement with the values of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundStatement {
    /// The text, with the server's parameters in it.
    pub text: String,
    /// Their values, from the first.
    pub values: Vec<BoundValue>,
    /// Whether the number that the server answers with is one of rows that it has changed.
    pub changes_rows: bool,
    /// What it is called in a message: `statement 2 of 3 ("insert …")`.
    pub told_as: String,
}

/// A value that is bound to a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundValue {
    /// A whole number.
    Integer(i64),
    /// Anything else, as text; the statement says what is made of it.
    Text(String),
    /// A position of a column, and how such are written there.
    Position(Cursor, CursorForm),
}

/// What a data transaction does beyond [`TargetTx`](super::TargetTx) where the database can run
/// statements of the user's own in it.
#[async_trait]
pub trait ScriptTx: Send {
    /// Runs them one after the other, and gives the number of rows that they say they have changed.
    /// Whatever they set is set back before the guard; the session is given back to nobody.
    ///
    /// # Errors
    /// Those of the statements, which say which one it was; permanent `in_doubt` when one of them
    /// has ended the transaction: what it had done by then is committed without a receipt.
    async fn run(&mut self, statements: &[BoundStatement]) -> Result<u64, ConnectorError>;
}

impl DataTx {
    /// Runs statements of the user's own; gives the rows that they have changed.
    ///
    /// # Errors
    /// Those of [`ScriptTx::run`]; permanent `sql_unsupported`.
    pub async fn run(
        mut self,
        statements: &[BoundStatement],
    ) -> Result<(Self, u64), ConnectorError> {
        let ran = match self.tx.scripting() {
            Some(scripting) => scripting.run(statements).await,
            None => {
                let message = format!("{} cannot run statements of a step", self.tx.place());
                let (class, code) = (ErrorClass::Permanent, ErrorCode::SqlUnsupported);
                Err(ConnectorError::of_report(AttemptError::new(
                    class, code, message,
                )))
            }
        };
        match ran {
            Ok(changed) => Ok((self, changed)),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }
}

/// The error of statements that have ended the transaction which they were a part of.
pub(super) fn ended_transaction(place: &str) -> AttemptError {
    let message = format!(
        "a statement has ended the transaction on {place} that it was a part of: what had been done \
         by then is committed, and no receipt says so. Look at the target, and leave what commits by \
         itself out of the statements"
    );
    AttemptError::new(ErrorClass::Permanent, ErrorCode::InDoubt, message)
}
