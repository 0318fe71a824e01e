//! What a target is asked for the checks of a step.

use std::time::Duration;

use highwater_common::spec::TableName;

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
