//! The log of committed changes that a source keeps, and how a target applies what it tells.

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::facts::ColumnFacts;
use highwater_common::log::{LogEvent, LogIdentity, Lsn, SlotStanding};
use highwater_common::spec::TableName;
use highwater_common::window::StoredWatermark;

use super::ConnectorError;
use super::requests::WriteRequest;
use super::rows::RowStream;

/// Which log is meant, and what of it.
#[derive(Debug, Clone)]
pub struct LogRequest {
    /// The slot, which keeps the log until it is confirmed.
    pub slot: String,
    /// The publication, which says what the log tells.
    pub publication: String,
    /// The table.
    pub table: TableName,
    /// Its copied columns.
    pub columns: Vec<ColumnFacts>,
    /// Its columns that are not copied.
    pub left_out: Vec<String>,
    /// The columns among the copied ones that tell its rows apart, as they arrive.
    pub key: Vec<String>,
    /// Whether slot and publication are made where they are missing.
    pub makes: bool,
}

/// A log that can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOpened {
    /// Where it begins.
    pub begins: Lsn,
    /// Of which table and server it is now, with the copied columns.
    pub identity: LogIdentity,
}

/// A position in a source's log, as a target keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    /// The position itself.
    pub watermark: StoredWatermark,
    /// Of which table and server it is; `None` where an earlier version has put it there.
    pub identity: Option<LogIdentity>,
    /// All that the source had committed by then is applied, in microseconds since 1970 on its
    /// clock.
    pub reached_at: Option<i64>,
    /// Since when all is applied that changed while the table was copied, in microseconds since 1970
    /// on the target's clock; `None` before that.
    pub live_since: Option<i64>,
}

/// What a source shows of its log, whether it can be followed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogShown {
    /// The slot; `None` where there is none.
    pub slot: Option<SlotStanding>,
    /// How much of the log is kept for a slot at most; `None` for all of it.
    pub keep_bytes: Option<u64>,
    /// Where the log ends.
    pub end: Lsn,
    /// When that was, in microseconds since 1970 on the source's clock.
    pub at: i64,
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// No transaction that was committed before it was asked for ends behind this.
    pub position: Lsn,
    /// Whether the log is on disk up to there, so that who has read it may be put there.
    pub is_durable: bool,
    /// When that was, in microseconds since 1970 on the source's clock.
    pub at: i64,
}

/// The log of a database. What it tells is told again until it is confirmed.
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// Where the log begins: a transaction that commits there or later is in it. `after` is the
    /// position that the target holds; without one, slot and publication are made where they are
    /// missing, and the log begins before this answers. Waits `within` for transactions that have
    /// to end before a slot can be made.
    ///
    /// # Errors
    /// Permanent `log_gap` where the log no longer has all that comes behind `after`, and
    /// `log_unsupported` where there is none that the table can be followed by. Resource
    /// `transaction_open`.
    async fn open(
        &self,
        request: &LogRequest,
        after: Option<Lsn>,
        within: Duration,
    ) -> Result<LogOpened, ConnectorError>;

    /// Waits until every transaction has ended that was open when it was asked. Whoever reads the
    /// table from then on sees what they did, also what waited for a standby when the log began, and
    /// is in neither of both otherwise.
    ///
    /// # Errors
    /// Resource `transaction_open` when that takes longer than `within`.
    async fn settle(&self, within: Duration) -> Result<(), ConnectorError>;

    /// Where the log ends now; waits `within` until it is on disk up to there.
    async fn end(&self, within: Duration) -> Result<LogEnd, ConnectorError>;

    /// Begins to read what was committed behind `after`, up to `end`, or less where that is much:
    /// whole transactions in any case.
    ///
    /// # Errors
    /// Resource `log_in_use` while another session reads the slot.
    async fn read(
        &self,
        request: &LogRequest,
        after: Lsn,
        end: Lsn,
    ) -> Result<Box<dyn ChangeStream>, ConnectorError>;

    /// What there is to see of the log and of the slot; changes nothing.
    async fn standing(&self, request: &LogRequest) -> Result<LogShown, ConnectorError>;

    /// Drops the slot with all that it keeps; one that is gone is none to drop.
    ///
    /// # Errors
    /// Permanent `log_unsupported` where the slot is none that a table is followed by, or the
    /// connection may change nothing.
    async fn drop_slot(&self, request: &LogRequest) -> Result<(), ConnectorError>;

    /// Lets the log go up to a position that the target holds. Never goes back.
    async fn confirm(&self, request: &LogRequest, up_to: Lsn) -> Result<(), ConnectorError>;
}

/// A part of a log being read.
#[async_trait]
pub trait ChangeStream: Send {
    /// What comes next; `None` behind the last transaction.
    ///
    /// # Errors
    /// Permanent `schema_changed` when the table has other columns in the log than those that are
    /// copied, and `log_unreadable`.
    async fn next(&mut self) -> Result<Option<Vec<LogEvent>>, ConnectorError>;

    /// Once `next` gave `None`: whether that was all up to the end that was asked for.
    fn is_at_end(&self) -> bool;
}

/// Where changes are applied.
#[derive(Debug, Clone)]
pub struct ApplyRequest {
    /// The table, its columns and its key; rows come as text of a COPY.
    pub write: WriteRequest,
    /// At which places of a row its key stands.
    pub key: Vec<usize>,
    /// The column that says when a row was deleted, where such rows stay: the last one of a row.
    pub marks: Option<String>,
}

/// What a data transaction does beyond [`TargetTx`](super::TargetTx) where the database can apply changes. Rows come
/// as text of a COPY stream.
#[async_trait]
pub trait ApplyTx: Send {
    /// Marks a place to come back to.
    async fn mark(&mut self) -> Result<(), ConnectorError>;

    /// Keeps what was done since the mark, and forgets the mark.
    async fn keep(&mut self) -> Result<(), ConnectorError>;

    /// Undoes what was done since the mark, also when a statement failed, and forgets the mark.
    async fn back(&mut self) -> Result<(), ConnectorError>;

    /// Deletes the rows with these keys; `keys` has the columns of the key alone.
    async fn remove(
        &mut self,
        request: &WriteRequest,
        keys: &mut dyn RowStream,
    ) -> Result<(), ConnectorError>;

    /// Updates, in the rows that are there, the columns at these places: the key's among them, which
    /// stay.
    async fn update(
        &mut self,
        request: &WriteRequest,
        columns: &[usize],
        rows: &mut dyn RowStream,
    ) -> Result<(), ConnectorError>;

    /// Gives a row another key, with the columns at these places, the new key's among them. Each row
    /// of `rows` is the old key, and then these. Where the new key is there already the row with the
    /// old one goes; where the old one is missing, the row with the new one is updated.
    /// A row that is only there because deleted rows stay, by the column `marks`, makes room for the
    /// one with the old key.
    async fn change_key(
        &mut self,
        request: &WriteRequest,
        columns: &[usize],
        marks: Option<&str>,
        rows: &mut dyn RowStream,
    ) -> Result<(), ConnectorError>;

    /// Deletes all rows.
    async fn empty(&mut self) -> Result<(), ConnectorError>;

    /// Says of all rows that say nothing yet in the column `marks` that they were deleted, `at`
    /// microseconds since 1970.
    async fn mark_all(&mut self, marks: &str, at: i64) -> Result<(), ConnectorError>;
}
