//! What a connector promises. It decides nothing: it reads, writes and answers.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::chunk::Reached;
use highwater_common::close::Ordinals;
use highwater_common::commit::{CommitPermit, LedgerRow};
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::errand::StreamReceipts;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, Engine, TableFacts, TargetFacts};
use highwater_common::id::{ClusterId, ConnectionName, RunId, TaskId};
use highwater_common::left_out::LeftOut;
use highwater_common::range::Slice;
use highwater_common::shrink::Weighed;
use highwater_common::spec::{Relation, TableName};
use highwater_common::token::FencingToken;
use highwater_common::window::Horizon;

use super::checks::{CheckTx, Checks};
use super::exchange_requests::{
    ExchangeRequest, Exchanged, ShadowFound, ShadowRequest, UndoOutcome, UndoRequest,
};
use super::log::{ApplyTx, ChangeLog};
use super::reconcile::{ComparedKeys, ReconcileTx};
use super::requests::{
    BuildRequest, Claim, FenceReport, GuardStep, HorizonRequest, KeptBounds, LeftOutRequest,
    Matched, Merged, PrepareOutcome, PrepareRequest, ReadRequest, SourceProbe, TargetProbe,
    WriteRequest,
};
use super::rows::{RowFormat, RowStream, Rows, SliceRows};
use super::script::ScriptTx;
use super::staging::{ReplaceTx, Snapshots, Stages};
use super::surveys::Surveys;
use super::transaction::HeldClaim;
use super::watermarks::Watermarks;
use super::{CloseRequest, ConnectorError, Doing, ForgetOutcome, ForgetRequest};

/// The read side of a connection. Every read opens, owns and closes its own connection.
#[async_trait]
pub trait Source: Send + Sync {
    /// Where it may say what it does while an answer takes long, and that its server is at work.
    fn tell(&mut self, _doing: &Doing) {}
    /// Reads the catalog, and what the plan needs of the rows; changes nothing. The bounds of the
    /// partition column may take as long as a scan does; all that a plan can do without takes five
    /// seconds at most.
    ///
    /// A column that is to be cast is told of as it arrives, with what it is cast from, once the
    /// database has said that it can.
    ///
    /// # Errors
    /// Permanent `unknown_table`, `unknown_column` and `cast_impossible`.
    async fn probe(&self, probe: &SourceProbe) -> Result<TableFacts, ConnectorError>;
    /// Counts the rows outside of a range that a partition column has, and by what they lie
    /// outside. A table that is too large for that, and has no index on the column, leaves them
    /// unknown.
    async fn count_left_out(&self, request: &LeftOutRequest) -> Result<LeftOut, ConnectorError>;
    /// Begins to read a slice: exactly the rows a single statement sees. Columns are read by their
    /// names in the source, and cast there.
    async fn read(&self, request: &ReadRequest) -> Result<Box<dyn RowStream>, ConnectorError>;
    /// The position of the row that `before` others of the slice precede, in the order of
    /// positions. `None` when there are not so many, or when the row's value has no position.
    async fn position_at(
        &self,
        table: &TableName,
        of: &SliceRows,
        kind: CursorKind,
        before: u64,
    ) -> Result<Option<Cursor>, ConnectorError>;
    /// Counts rows of these kinds, all of them together, for a check; never for longer than `within`.
    ///
    /// # Errors
    /// Permanent `check_unsupported` of a source that cannot, and resource `statement_timeout`.
    async fn count(
        &self,
        from: &Relation,
        _rows: &[Rows],
        _within: Duration,
    ) -> Result<u64, ConnectorError> {
        let message = format!("the source of {from} cannot count its rows for a check");
        let (class, code) = (ErrorClass::Permanent, ErrorCode::CheckUnsupported);
        Err(ConnectorError::new(class, code, message))
    }
    /// What its open transactions say of rows that may still be committed; `None` of a database
    /// with one writer at a time.
    fn horizons(&self) -> Option<&dyn Horizons> {
        None
    }
    /// The log of its changes; `None` of a database where none can be followed.
    fn change_log(&self) -> Option<&dyn ChangeLog> {
        None
    }
    /// How several sessions read one point in time; `None` of a database where they cannot.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }
    /// What it says to whoever compares all of its keys; `None` of a file.
    fn compared_keys(&self) -> Option<&dyn ComparedKeys> {
        None
    }
    /// What it tells for a recommendation; `None` of a database that tells nothing.
    fn surveys(&self) -> Option<&dyn Surveys> {
        None
    }
    /// The formats it can give these columns in, best first; typed values are always one.
    fn formats(&self, _columns: &[ColumnFacts]) -> Vec<RowFormat> {
        vec![RowFormat::Values]
    }
}

/// The write side of a connection, with its ledger.
#[async_trait]
pub trait Target: Send + Sync {
    /// Reads the catalog and the ledger; at most five seconds, changes nothing.
    ///
    /// # Errors
    /// Permanent `target_of_another_cluster` when the ledger belongs to another cluster.
    async fn probe(&self, probe: &TargetProbe) -> Result<TargetFacts, ConnectorError>;

    /// Takes the stream, and makes the ledger and the table where they are missing: one
    /// transaction, under a lock that no other prepare of the target holds. Marks the target as the
    /// cluster's.
    ///
    /// Every other run that has rows of the stream is fenced as by [`Target::fence_run`], and open
    /// tasks of another plan of the same run are given up: once this answered, nothing that others
    /// or another plan have committed of the stream changes. Repeating it is harmless. A late one,
    /// of a run that was fenced or whose stream was taken under a larger token, changes nothing.
    async fn prepare(&self, request: &PrepareRequest) -> Result<PrepareOutcome, ConnectorError>;

    /// Raises the fence of a task, in a short transaction of its own.
    async fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, ConnectorError>;

    /// The ledger row of a task, read on a new connection.
    async fn ledger_row(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<LedgerRow>, ConnectorError>;

    /// The tasks of a phase that are committed, by their ordinals; changes nothing. A target
    /// without a ledger has none.
    ///
    /// # Errors
    /// Permanent `target_of_another_cluster` when the ledger belongs to another cluster, and
    /// `ledger_missing` when there is none although the table holds rows that were appended:
    /// loading them again could double them.
    async fn committed(&self, request: &CloseRequest) -> Result<Ordinals, ConnectorError>;

    /// Fences a run: after it answered, no commit of the run lands. A target without a ledger gets
    /// one.
    async fn fence_run(
        &self,
        cluster: &ClusterId,
        run: &RunId,
    ) -> Result<FenceReport, ConnectorError>;

    /// The run that took a stream of `run` from it, and so fenced it; `None` when it was cancelled,
    /// or is not fenced.
    async fn fenced_by(&self, run: &RunId) -> Result<Option<RunId>, ConnectorError>;

    /// What the ledger holds of a stream; changes nothing.
    ///
    /// # Errors
    /// Permanent `target_of_another_cluster` when the ledger belongs to another cluster.
    async fn receipts(
        &self,
        cluster: &ClusterId,
        stream: &str,
    ) -> Result<StreamReceipts, ConnectorError>;

    /// Takes a stream as [`Target::prepare`] does, and voids receipts of it: they stay, and are
    /// coverage no longer.
    ///
    /// # Errors
    /// Permanent `receipt_in_part` when the range that is meant has some of the positions of a
    /// receipt and not all of them.
    async fn forget(&self, request: &ForgetRequest) -> Result<ForgetOutcome, ConnectorError>;

    /// Takes over the target's mark for `cluster`, whoever held it; its incarnation is raised.
    /// Returns the former holder.
    async fn adopt(&self, cluster: &ClusterId) -> Result<Option<ClusterId>, ConnectorError>;

    /// The columns of a table as it stands; empty when there is none.
    async fn columns(&self, table: &TableName) -> Result<Vec<ColumnFacts>, ConnectorError>;

    /// How it answers about a table apart from a commit; `None` of a database that cannot.
    fn checks(&self) -> Option<&dyn Checks> {
        None
    }

    /// Where its streams' watermarks stand; `None` of a database that keeps none.
    fn watermarks(&self) -> Option<&dyn Watermarks> {
        None
    }

    /// The bounds that it keeps with its streams; `None` of a database that keeps none, into which no
    /// table is loaded that is cut by a key.
    fn bounds(&self) -> Option<&dyn Bounds> {
        None
    }

    /// How it loads a table beside the one that is read; `None` of a database where none can take
    /// the other's place.
    fn shadows(&self) -> Option<&dyn Shadows> {
        None
    }

    /// How it builds what a table that it has made still lacks; `None` of a database that makes all
    /// of it at once.
    fn builds(&self) -> Option<&dyn Builds> {
        None
    }

    /// How rows wait in a table beside the one that is read; `None` of a database where they cannot.
    fn stages(&self) -> Option<&dyn Stages> {
        None
    }

    /// The formats it can take these columns in, given the table's own columns, best first; typed
    /// values are always one.
    fn formats(
        &self,
        _from: Engine,
        _columns: &[ColumnFacts],
        _own: &[ColumnFacts],
    ) -> Vec<RowFormat> {
        vec![RowFormat::Values]
    }
}

/// The bounds of keys that a target keeps with its streams: a receipt names them by numbers, which mean
/// the same keys for as long as there is one. Prepare puts those of its plan there, in its own
/// transaction; a key that a committed receipt of the stream ends at stays.
#[async_trait]
pub trait Bounds: Send + Sync {
    /// Those of a stream that has committed receipts by their rule.
    async fn kept(&self, stream: &str) -> Result<Vec<KeptBounds>, ConnectorError>;
}

/// What a table that was made for a stream gets once its rows are there: an index is built faster of
/// all rows than row by row.
#[async_trait]
pub trait Builds: Send + Sync {
    /// Builds what is missing, sets its sequences past the largest value of their columns, and takes
    /// away the mark by which the table was known as unfinished: a table without that mark is left
    /// alone. What is there already is left, so it may be repeated, and two that build at once do
    /// not meet. `doing` hears how far it is.
    ///
    /// # Errors
    /// Permanent `constraint_violation` where the rows do not allow it.
    async fn build(&self, request: &BuildRequest, doing: &Doing) -> Result<(), ConnectorError>;
}

/// What the open transactions of a database say of the rows that may still be committed.
#[async_trait]
pub trait Horizons: Send + Sync {
    /// How far a window may reach that is read from now on. Whatever the table's newest position is
    /// must have been read before: where its positions are numbers, the answer waits a little for
    /// the transactions that had begun by then.
    ///
    /// # Errors
    /// Permanent `horizon_unreadable` when the role cannot see the transactions of others, or they
    /// are another server's.
    async fn horizon(&self, request: &HorizonRequest) -> Result<Horizon, ConnectorError>;
}

/// Tables beside the ones that are read, where a database can let one take the other's place with
/// all that hangs on it ([`ExchangeTx`]). Each is found again by a mark of its own, so that a run
/// that died goes on with its own and leaves nothing that nobody knows of.
#[async_trait]
pub trait Shadows: Send + Sync {
    /// Makes an empty table beside the one that is read, like it in its columns and in how they are
    /// stored, of the same owner, and nobody else's to read; without indexes, keys, checks and
    /// triggers. One that the run has made for the step already stays as it is, with its rows.
    ///
    /// # Errors
    /// Permanent `target_replaced` when the table is not the one of the request.
    async fn make(&self, request: &ShadowRequest) -> Result<TableName, ConnectorError>;

    /// The shadow's name, whether it is there or not.
    ///
    /// # Errors
    /// Permanent `target_replaced` when the request names no table.
    fn name(&self, request: &ShadowRequest) -> Result<TableName, ConnectorError>;

    /// Counts the rows of the shadow and of the table that is read, and those that the receipts of a
    /// phase of the run speak of; changes nothing.
    ///
    /// # Errors
    /// Permanent `shadow_unfit` when there is no shadow.
    async fn weigh(
        &self,
        request: &ShadowRequest,
        loaded: &CloseRequest,
    ) -> Result<Weighed, ConnectorError>;

    /// Gives the shadow the indexes, keys, checks and statistics of the table that is read. What is
    /// there already is left, so it may be repeated. `doing` hears how far it is.
    ///
    /// # Errors
    /// Permanent `target_replaced`, `shadow_unfit` when there is no shadow, and
    /// `constraint_violation`.
    async fn finish(&self, request: &ShadowRequest, doing: &Doing) -> Result<(), ConnectorError>;

    /// Checks what an exchange left unchecked because it takes as long as a scan: foreign keys that
    /// were valid. The request names the table that left its place. May be repeated, also when that
    /// is dropped. `doing` hears that it goes on.
    async fn validate(&self, request: &ShadowRequest, doing: &Doing) -> Result<(), ConnectorError>;

    /// Takes a stream as [`Target::prepare`] does, and lets the table that its latest exchange has
    /// kept take its place back; the one that is read until then is kept. The stream's receipts are
    /// voided: they speak of a table that is read no more. All of it is one transaction. Repeating
    /// it for the same run changes nothing.
    ///
    /// # Errors
    /// As [`ExchangeTx::exchange`], and permanent `nothing_to_undo` where no table is kept and
    /// `written_since` where another stream has written the table since.
    async fn undo(&self, request: &UndoRequest) -> Result<UndoOutcome, ConnectorError>;

    /// Every shadow and every kept table of the database.
    async fn find(&self) -> Result<Vec<ShadowFound>, ConnectorError>;

    /// Drops one that was found, with nothing that depends on it: that is an error. One that is gone
    /// or stands in the table's place by now is left alone.
    async fn drop(&self, found: &ShadowFound) -> Result<(), ConnectorError>;
}

/// What came of a claim. Only faults are errors; a lost race is an outcome.
pub enum ClaimOutcome {
    /// The fence stands, and this connection holds it: the work may begin.
    Held(HeldClaim),
    /// An earlier attempt committed: there is nothing to do but to report it.
    Committed(Receipt),
    /// The run was cancelled, or the task split.
    Superseded,
    /// A token at least as large is there, and it is not this attempt's.
    Fenced {
        /// The token met.
        newer: FencingToken,
    },
    /// The row was claimed for another version of the spec.
    SpecChanged,
    /// The run took the stream for another plan: tasks of this one begin no more.
    PlanChanged,
}

impl fmt::Debug for ClaimOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(_) => f.write_str("Held"),
            Self::Committed(receipt) => write!(f, "Committed({receipt:?})"),
            Self::Superseded => f.write_str("Superseded"),
            Self::Fenced { newer } => write!(f, "Fenced({newer})"),
            Self::SpecChanged => f.write_str("SpecChanged"),
            Self::PlanChanged => f.write_str("PlanChanged"),
        }
    }
}

/// A claim that stands. Dropping it closes its connection; the fence stays until a newer one.
#[async_trait]
pub trait Claimed: Send {
    /// The connection, for messages.
    fn connection(&self) -> &ConnectionName;

    /// Waits until a transaction may begin, where writers take turns. May take long, and may be
    /// given up at any time.
    async fn ready(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Opens the data transaction on the connection that claimed.
    async fn begin(self: Box<Self>) -> Result<Box<dyn TargetTx>, ConnectorError>;

    /// Gives the session back: another claim may take it up.
    async fn release(self: Box<Self>);
}

/// An open data transaction: what can be done in it, and no decision. Dropping it closes its
/// connection, and the server rolls back.
#[async_trait]
pub trait TargetTx: Send {
    /// The database, for messages.
    fn place(&self) -> String;

    /// Holds the table against being altered until the transaction ends, and makes sure that it
    /// takes the rows as they will come. What follows is about this table.
    async fn hold(&mut self, request: &WriteRequest) -> Result<(), ConnectorError>;

    /// Whether a committed task of the stream has rows of the slice.
    async fn has_receipts(&mut self, stream: &str, slice: &Slice) -> Result<bool, ConnectorError>;

    /// Counts rows of the table, up to `most`.
    async fn count(&mut self, rows: &Rows, most: u64) -> Result<u64, ConnectorError>;

    /// Deletes rows of the table.
    async fn delete(&mut self, rows: &Rows) -> Result<(), ConnectorError>;

    /// Writes every row of `rows`, and tells how many the server says it took.
    async fn insert(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError>;

    /// How it merges rows; `None` of a database that cannot.
    fn merging(&mut self) -> Option<&mut dyn MergeTx> {
        None
    }

    /// How it removes rows that the source has no more; `None` of a database that cannot.
    fn reconciling(&mut self) -> Option<&mut dyn ReconcileTx> {
        None
    }

    /// How it applies the changes of a log; `None` of a database that cannot.
    fn applying(&mut self) -> Option<&mut dyn ApplyTx> {
        None
    }

    /// How it answers about what was written; `None` of a database that cannot.
    fn checking(&mut self) -> Option<&mut dyn CheckTx> {
        None
    }

    /// How it exchanges a table for another one; `None` of a database that cannot.
    fn exchanging(&mut self) -> Option<&mut dyn ExchangeTx> {
        None
    }

    /// How it runs statements of the user's own; `None` of a database that cannot.
    fn scripting(&mut self) -> Option<&mut dyn ScriptTx> {
        None
    }

    /// How it publishes rows that wait in a table beside; `None` of a database that cannot.
    fn replacing(&mut self) -> Option<&mut dyn ReplaceTx> {
        None
    }

    /// The guard: the task's row takes the step if it is still this attempt's and its commits have
    /// come as far as `reached`, and then the watermark does. The last statements before COMMIT.
    async fn guard(
        &mut self,
        reached: &Reached,
        step: &GuardStep,
    ) -> Result<Matched, ConnectorError>;

    /// Rolls back a session that answers: its locks are gone when this returns.
    async fn roll_back(self: Box<Self>);

    /// Lets go of a transaction that failed. Waits for no server that may be silent.
    async fn discard(self: Box<Self>);

    /// Commits. The claim lives on, for the next chunk or to be released.
    async fn commit(
        self: Box<Self>,
        permit: CommitPermit,
    ) -> Result<Box<dyn Claimed>, CommitFailure>;
}

/// What a data transaction does beyond [`TargetTx`] where the database can merge rows.
#[async_trait]
pub trait MergeTx: Send {
    /// Writes every row of `rows` beside the table, where nobody sees it, and then the newest of
    /// each key into the table, in the order of the keys: two that merge at once never wait for
    /// each other in a circle. A row of the table with this key is updated, unless its cursor is
    /// larger; one that shares another unique key only is not touched, and fails the statement.
    async fn merge(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<Merged, ConnectorError>;
}

/// What a data transaction does beyond [`TargetTx`] where the database can let one table take the
/// place of another.
#[async_trait]
pub trait ExchangeTx: Send {
    /// Lets one table take the place of another: it has its name from then on, and all that hangs
    /// on it. Whoever reads sees the one or the other, never none and no mix. The other one is kept
    /// under another name, and can come back the same way.
    ///
    /// # Errors
    /// Resource `swap_blocked` when somebody holds a lock: whoever is to read does not wait any
    /// longer. Permanent `target_replaced`, `shadow_unfit` and `plan::uncarried_dependant`.
    async fn exchange(&mut self, request: &ExchangeRequest) -> Result<Exchanged, ConnectorError>;
}

/// Why a commit did not answer that it is durable.
#[derive(Debug)]
pub enum CommitFailure {
    /// The server answered that it did not commit, and why: everything was rolled back.
    Refused(ConnectorError),
    /// The answer was lost: only the ledger, asked on a new connection, knows.
    Unknown(ConnectorError),
}
