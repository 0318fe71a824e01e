//! What a recommendation is made of: a table as it is, its server, where it is to go, and what a
//! person wishes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cursor::CursorKind;
use crate::facts::{Dependant, Engine, ForeignKey};
use crate::spec::TableName;

/// A table of a source, and where it is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAsFound {
    /// The table.
    pub table: TableName,
    /// Its database.
    pub engine: Engine,
    /// Its rows, as far as they are known.
    pub rows: u64,
    /// Whether `rows` was counted.
    pub rows_exact: bool,
    /// Its bytes, as the server estimates them.
    pub bytes: u64,
    /// The columns that tell each row from all others; empty without any.
    pub key: Vec<String>,
    /// Whether its rows can be cut into parts by that key, in the database's own order.
    #[serde(default)]
    pub key_cuts: bool,
    /// The columns that give rows a position: times, and whole numbers of the key.
    pub columns: Vec<PositionColumn>,
    /// What was written lately; `None` where nobody counts.
    pub changes: Option<Changes>,
    /// Whether the transactions that may still commit can be seen.
    pub sight: Sight,
    /// Whether the log of changes can be read.
    pub log: LogAccess,
    /// Where it is to go; `None` where nothing was said.
    pub target: Option<TargetSide>,
}

/// A column whose values give rows a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionColumn {
    /// Its name.
    pub name: String,
    /// What its positions are.
    pub kind: CursorKind,
    /// Whether a row may be without one.
    pub nullable: bool,
    /// Rows without one, when counted.
    pub null_rows: Option<u64>,
    /// Whether an index leads with it.
    pub indexed: bool,
    /// Days from the smallest of its times to the largest, or to now if that is later, where they
    /// were cheap to know.
    pub span_days: Option<u64>,
    /// Who moves it on when a row is updated.
    pub moved_by: MovedBy,
    /// Why a row may be committed with a position that was passed already; for people.
    pub doubts: Vec<String>,
}

/// Who gives a column a new value when its row is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedBy {
    /// A trigger of the server.
    Server,
    /// By its name, whoever writes.
    Application,
    /// Nobody: it says when a row was made.
    Nobody,
}

/// Rows that were written since somebody has begun to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// For how long that was counted.
    pub seconds: u64,
}

/// What is seen of a source's open transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// One writes at a time: nothing commits late.
    OneWriter,
    /// All of them.
    Seen,
    /// Those of others are hidden from this role.
    Hidden {
        /// The role that reads.
        role: String,
    },
    /// They are another server's.
    Standby,
}

/// Whether a source's log of changes can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogAccess {
    /// The database keeps none that others could read.
    NoLog,
    /// A server's, with what reading it takes.
    Server(ServerLog),
}

/// What a server says of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLog {
    /// Its `wal_level`; only `logical` tells of rows.
    pub wal_level: String,
    /// Replication slots that nobody has taken.
    pub slots_free: u32,
    /// Replication slots in all.
    pub slots: u32,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// The role that reads.
    pub role: String,
    /// Whether the role may read the log.
    pub may_replicate: bool,
    /// Whether the role may publish the table.
    pub may_publish: bool,
    /// What the log says of a row that is updated or deleted.
    pub identity: ReplicaIdentity,
    /// Whether it is an ordinary table.
    pub is_ordinary: bool,
    /// Bytes of log that are kept for a slot at most; `None` without a limit.
    pub kept_bytes: Option<u64>,
    /// Bytes of log that are written each second, where the server counts them.
    pub bytes_per_second: Option<u64>,
}

/// What a log says of the row before an update or a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// Its primary key.
    Key,
    /// The columns of another index.
    Index,
    /// All of it.
    Full,
    /// Nothing.
    Nothing,
}

/// Where a table is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSide {
    /// Its database.
    pub engine: Engine,
    /// The table's name there.
    pub name: TableName,
    /// What is there already.
    pub table: TargetTable,
}

/// What is there already of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetTable {
    /// Nothing: the table will be made.
    Missing,
    /// A table.
    Found(TargetAsFound),
    /// Nobody knows, and why.
    Unseen(String),
}

/// A table that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TargetAsFound {
    /// Foreign keys of other tables that point to it.
    pub referenced_by: Vec<ForeignKey>,
    /// What hangs on it.
    pub dependants: Vec<Dependant>,
}

/// What a person wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// How old the target may be.
    pub fresh: Option<Duration>,
    /// Whether it is loaded once and never again.
    pub once: bool,
    /// Whether the target is read all day, and may not be in the way of anybody.
    pub critical: bool,
    /// Whether a row that is deleted has to leave the target.
    pub deletes_matter: bool,
    /// Tasks at once.
    pub slots: u32,
    /// Bytes that a slot moves each second, where somebody has measured it.
    pub bytes_per_second: Option<u64>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            fresh: None,
            once: false,
            critical: false,
            deletes_matter: false,
            slots: 4,
            bytes_per_second: None,
        }
    }
}
