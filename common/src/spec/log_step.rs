//! A step that follows its database's log.

use serde::{Deserialize, Serialize};

use super::sides::{SourceTable, TargetTable};
use super::write::{Chunk, Write};

/// A table that is copied once, and then followed through its database's log of changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cdc {
    /// The read side.
    pub from: SourceTable,
    /// The write side.
    pub to: TargetTable,
    /// The replication slot that keeps the log until it was applied.
    pub slot: String,
    /// The publication that the table is of.
    pub publication: String,
    /// How far a run follows the log.
    pub until: Until,
    /// What becomes of rows that the source deletes.
    pub deletes: Deletes,
    /// With [`Deletes::Soft`], the column of the target that says when a row was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// How many bytes of the source's log the slot may keep before people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_retained_max: Option<u64>,
    /// How rows are written.
    pub write: Write,
    /// How much of the log one commit takes. A transaction of the source is never parted.
    pub chunk: Chunk,
}

/// How far a run follows a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// To where it ended when the task began.
    #[default]
    CaughtUp,
    /// Until somebody ends the run.
    Continuous,
}

/// What becomes of a row of the target that the source deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletes {
    /// It is deleted.
    #[default]
    Hard,
    /// It stays as it was.
    Ignore,
    /// It stays, and a column says when it was deleted.
    Soft,
}

impl Deletes {
    pub(super) const fn ignore() -> Self {
        Self::Ignore
    }

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) const fn is_ignore(&self) -> bool {
        matches!(self, Self::Ignore)
    }
}

/// The column that says when a row was deleted, unless the step names another.
pub const DELETED_AT: &str = "_highwater_deleted_at";
