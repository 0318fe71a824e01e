//! How a step's rows are written.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The mode.
    pub mode: WriteMode,
    /// The columns that identify a row in the target; empty leaves it to the source's key.
    pub key: Vec<String>,
    /// With [`WriteMode::Merge`], the column that tells which of two rows of one key is newer: the
    /// larger one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What happens when a range that no run has committed already holds rows.
    pub resident: ExistingRows,
    /// Whether the target's triggers fire for what is written.
    pub triggers: Triggers,
    /// What happens to columns of the source that the target lacks.
    #[serde(default, skip_serializing_if = "OnSchemaChange::is_fail")]
    pub on_schema_change: OnSchemaChange,
}

impl Write {
    /// Whether the last commit of a row wins, so that tasks must run one after the other: then the
    /// rows are committed in the order in which they were read.
    #[must_use]
    pub fn runs_alone(&self) -> bool {
        self.mode == WriteMode::Merge && self.cursor.is_none()
    }
}

/// How much of a partition one commit takes where rows are appended or merged. Its size follows the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// How long a chunk is to take.
    #[serde(with = "millis")]
    pub target: Duration,
    /// Rows at most, but for those of one position, which are never parted.
    pub max_rows: u64,
    /// Bytes that a chunk is to have at most, judged by the one before it.
    pub max_bytes: u64,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            target: Duration::from_secs(10),
            max_rows: 500_000,
            max_bytes: 64 << 20,
        }
    }
}

/// How much smaller a table may become by being replaced. A source that lost its rows, or shows
/// none to the role that reads, looks like one that has few.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrinking {
    /// Whether an empty source may empty it.
    pub allow_empty: bool,
    /// Whether it may lose more than half of its rows.
    pub allow_shrink: bool,
}

impl Shrinking {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the target's own triggers and rules act on what a load writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Triggers {
    /// They do, as for anybody who writes; the plan names them.
    Fire,
    /// They do not, and neither does what the server builds on triggers: foreign keys and
    /// deferrable keys are not checked.
    Skip,
}

/// What becomes of a column that the source has and the target's table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Nothing is loaded.
    #[default]
    Fail,
    /// It is added to the target's table, where rows that are there hold NULL in it.
    AddColumns,
}

impl OnSchemaChange {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    const fn is_fail(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

/// How a partition's rows meet the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Rows are added.
    Append,
    /// The target's rows of the range are deleted, the source's inserted and counted, in one
    /// transaction.
    ReplacePartition,
    /// All of the target's rows are deleted, the source's inserted and counted, in one transaction.
    /// What `full_refresh` does; no word of a `write.mode`.
    ReplaceTable,
    /// Rows are added to a table beside the target's, which takes its place once it is whole. What
    /// `swap` does; no word of a `write.mode`.
    Exchange,
    /// Whatever the statements of the step say. What `sql` does; no word of a `write.mode`.
    Statements,
    /// Rows whose key the target has take the place of those, unless they are older; the others are
    /// added. Rows that the source does not have stay.
    Merge,
}

impl WriteMode {
    /// Whether a run does all of it, whatever earlier ones have done: then it asks neither for their
    /// receipts nor gives one that covers anything.
    #[must_use]
    pub const fn replaces_all(self) -> bool {
        match self {
            Self::ReplaceTable | Self::Exchange | Self::Statements => true,
            Self::Append | Self::ReplacePartition | Self::Merge => false,
        }
    }

    /// Whether what is written goes into one table, which is made ready before.
    #[must_use]
    pub const fn prepares_table(self) -> bool {
        !matches!(self, Self::Statements)
    }

    /// Whether what is done once more is there twice.
    #[must_use]
    pub const fn adds(self) -> bool {
        match self {
            Self::Append | Self::Statements => true,
            Self::ReplaceTable | Self::Exchange | Self::ReplacePartition | Self::Merge => false,
        }
    }
}

/// What happens to rows found in a range that no run has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExistingRows {
    /// The task fails and touches nothing.
    Fail,
    /// They are replaced.
    Replace,
}
