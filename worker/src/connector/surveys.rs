//! What a recommendation asks of a database beyond what a step's probe does.

use async_trait::async_trait;
use highwater_common::advise::{Changes, LogAccess, MovedBy, Sight, TargetAsFound};
use highwater_common::cursor::CursorKind;
use highwater_common::spec::{TableName, TablesFound};

use super::ConnectorError;

/// The most tables that are listed.
pub const TABLES_MAX: u32 = 500;

/// What is asked of a table.
#[derive(Debug, Clone)]
pub struct SurveyRequest {
    /// The table.
    pub table: TableName,
    /// The columns that rows may be followed by, with what their positions are.
    pub columns: Vec<(String, CursorKind)>,
}

/// What a database tells of a table, and of itself.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What was written lately; `None` where nobody counts.
    pub changes: Option<Changes>,
    /// Whether open transactions can be seen.
    pub sight: Sight,
    /// Whether the log of changes can be read.
    pub log: LogAccess,
    /// The table's bytes, where a probe tells those of the whole file.
    pub bytes: Option<u64>,
    /// Whether its rows can be cut by its own key.
    pub key_cuts: bool,
    /// Of each column that was asked about, in that order.
    pub columns: Vec<Stamping>,
}

/// Who gives a column its values.
#[derive(Debug, Clone)]
pub struct Stamping {
    /// Who moves it on when a row is updated.
    pub moved_by: MovedBy,
    /// Why a row may be committed with a value that was passed already.
    pub doubts: Vec<String>,
}

/// What a database says of itself, and of the role that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerAsFound {
    /// Its version: `15.18`.
    pub version: String,
    /// The role; empty where there are none.
    pub role: String,
    /// What a person wants to know of it, a few words each: `wal logical`.
    pub says: Vec<String>,
    /// What it or the role lacks where it is read, and what does not work for that.
    pub lacks_as_source: Vec<String>,
    /// The same where it is written.
    pub lacks_as_target: Vec<String>,
}

/// Answers about tables for a recommendation. Changes nothing, and takes five seconds at most.
#[async_trait]
pub trait Surveys: Send + Sync {
    /// What the database says of itself, and what the role may do as far as steps need it.
    async fn server(&self) -> Result<ServerAsFound, ConnectorError>;

    /// The tables that people have made, in the order of their names, at most [`TABLES_MAX`].
    async fn tables(&self) -> Result<Vec<TableName>, ConnectorError>;

    /// All of these tables, and the foreign keys between them.
    async fn tables_found(&self) -> Result<TablesFound, ConnectorError>;

    /// How a table is written, and what its server lets be known of that.
    ///
    /// # Errors
    /// Permanent `unknown_table`.
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey, ConnectorError>;

    /// What hangs on a table that would be written; `None` when there is none.
    async fn as_target(&self, table: &TableName) -> Result<Option<TargetAsFound>, ConnectorError>;
}
