//! What a target is asked for the checks of a step, and how it answers.

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::check::Found;
use highwater_common::spec::TableName;

use super::ConnectorError;
use super::rows::Rows;

/// A question about a table, and how long its answer may take.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The table.
    pub table: TableName,
    /// What is asked.
    pub question: Question,
    /// How long the server may take.
    pub within: Duration,
}

/// What is asked about a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How many rows of these kinds it has, all of them together.
    Rows(Vec<Rows>),
    /// How many rows have NULL in one of these columns.
    Nulls(Vec<String>),
    /// How many values of these columns several rows share; one with a NULL in it is nobody else's.
    Shared(Vec<String>),
    /// What a query answers, which stands for itself: `{table}` is the table.
    Query(String),
}

/// Answers for the checks of a step about a table that is loaded, as [`CheckTx`] gives them within
/// a transaction.
#[async_trait]
pub trait Checks: Send + Sync {
    /// Answers about the table as it is committed.
    ///
    /// # Errors
    /// Those of [`CheckTx::ask`]; permanent `unknown_table`.
    async fn ask(&self, request: &CheckRequest) -> Result<Found, ConnectorError>;
}

/// What a data transaction does beyond [`TargetTx`](super::TargetTx) where the database can answer for the checks of
/// a step.
#[async_trait]
pub trait CheckTx: Send {
    /// Answers about the held table as the transaction sees it. Whatever the question is, it changes
    /// nothing, and leaves nothing behind in the session.
    ///
    /// # Errors
    /// Resource `statement_timeout` when the answer takes longer than it may.
    async fn ask(&mut self, request: &CheckRequest) -> Result<Found, ConnectorError>;
}
