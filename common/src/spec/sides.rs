//! What a step reads, and what it writes.

use serde::{Deserialize, Serialize};

use super::columns::ColumnRules;
use super::relation::Relation;
use super::value::TableName;
use crate::id::ConnectionName;

/// The read side of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTable {
    /// Which database.
    pub connection: ConnectionName,
    /// What is read there.
    #[serde(flatten)]
    pub relation: Relation,
    /// What is special about some of its columns.
    #[serde(flatten)]
    pub columns: ColumnRules,
    /// Which rows are meant.
    pub rows: SourceRows,
}

/// Which rows of a source's table are meant, where the server may hide some from the role that
/// reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceRows {
    /// All of them: a policy that would hide one is an error.
    All,
    /// Those that row level security lets the role see.
    Visible,
}

/// The write side of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetTable {
    /// Which database.
    pub connection: ConnectionName,
    /// Which table; created when missing.
    pub table: TableName,
    /// What a missing table is created from, where the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
}

/// What a missing table is created from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Create {
    /// From all that the source's table is made of.
    Source,
    /// From the columns that are read, and the key.
    Columns,
}
