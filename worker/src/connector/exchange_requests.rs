//! What a target is asked where it can exchange a table for another one.

use std::time::Duration;

use highwater_common::errand::Undone;
use highwater_common::id::RunId;
pub use highwater_common::shadow::ShadowKind;
use highwater_common::spec::TableName;
use highwater_common::token::FencingToken;

use super::{ForgetRequest, PrepareOutcome};

/// Which table another one is to take the place of, and for whom.
#[derive(Debug, Clone)]
pub struct ShadowRequest {
    /// The table that is read.
    pub table: TableName,
    /// Which table that is, as the probe found it.
    pub identity: String,
    /// The run.
    pub run: RunId,
    /// The stream whose run it is.
    pub stream: String,
}

/// A table beside another one: that is to take its place, that has left it, or that rows wait in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowFound {
    /// Its name.
    pub table: TableName,
    /// Which table it is, whatever its name.
    pub identity: String,
    /// The table that it belongs to, by the name that this one had then.
    pub of: TableName,
    /// What it is there for.
    pub kind: ShadowKind,
    /// The attempt whose own it is, of a table that rows wait in.
    pub attempt: Option<FencingToken>,
    /// The run that made it one.
    pub run: RunId,
    /// Its stream.
    pub stream: String,
    /// Since when: microseconds since 1970-01-01T00:00:00Z, by the server's clock.
    pub since_micros: i64,
}

/// Which table takes the place of which.
#[derive(Debug, Clone)]
pub struct ExchangeRequest {
    /// The table that is read.
    pub table: TableName,
    /// Which table that has to be: the one that was planned for. Another one of its name by now is
    /// somebody else's.
    pub identity: String,
    /// The table that takes its place: a finished shadow, or the kept one that is to come back.
    pub by: TableName,
    /// The run.
    pub run: RunId,
    /// The stream whose run it is.
    pub stream: String,
    /// How long the locks are waited for, all together: as long as that, whoever reads may wait
    /// behind it. Well below the server's `deadlock_timeout`, or a reader may be ended in its place.
    pub lock_wait: Duration,
}

/// What an exchange left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// Which table has the name now.
    pub identity: String,
    /// The table that had it, by its name from now on.
    pub kept: TableName,
}

/// A person's word that the table before the latest exchange is to be read again.
#[derive(Debug, Clone)]
pub struct UndoRequest {
    /// Who takes the stream for that, and why: all receipts of the stream are voided.
    pub forget: ForgetRequest,
    /// The table that is read.
    pub table: TableName,
    /// How long the locks are waited for, as for an exchange.
    pub lock_wait: Duration,
}

/// What came of an [`UndoRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoOutcome {
    /// It is done, by this attempt or by an earlier one of the same run.
    Done {
        /// What was done.
        undone: Undone,
        /// Which table is kept now, whatever its name.
        left: String,
    },
    /// The stream could not be taken: why is what a prepare would have been told.
    Not(PrepareOutcome),
}
