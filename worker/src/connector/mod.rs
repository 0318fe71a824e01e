//! The connectors: the only place that knows a database. A read side, a write side, one contract
//! for each.

pub mod column_form;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod copy_binary;
pub mod copy_text;
#[cfg(any(test, feature = "contract"))]
pub mod faulty;
mod open;
mod position;
pub mod postgres;
mod receipt_requests;
mod redaction;
pub mod sql_text;
pub mod sqlite;
pub mod value_text;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_common::assignment::{AttemptError, Receipt};
use highwater_common::close::Ordinals;
use highwater_common::commit::LedgerRow;
use highwater_common::coverage::Coverage;
use highwater_common::cursor::CursorKind;
use highwater_common::errand::StreamReceipts;
use highwater_common::facts::{ColumnFacts, CursorForm, Engine, TableFacts, TargetFacts};
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, StepName, TaskId};
use highwater_common::left_out::LeftOut;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{Resident, TableName, Triggers, WriteMode};
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken};
use highwater_runtime::failpoint::Struck;

pub use open::{open_source, open_target};
pub use postgres::Shelf;
pub use receipt_requests::{CloseRequest, ForgetOutcome, ForgetRequest};

/// What the step's probe asks of a source.
#[derive(Debug, Clone)]
pub struct SourceProbe {
    /// The table.
    pub table: TableName,
    /// Columns left out.
    pub exclude: Vec<String>,
    /// The partition column, for strategies that have one; an unknown one is an error that lists
    /// the columns.
    pub partition_column: Option<String>,
    /// The pipeline says where the partitions begin and end and how wide they are: then its bounds
    /// are not looked for.
    pub bounds_declared: bool,
}

/// What the step's probe asks of a target.
#[derive(Debug, Clone)]
pub struct TargetProbe {
    /// Who asks: a target that belongs to another cluster refuses.
    pub cluster: ClusterId,
    /// The table.
    pub table: TableName,
    /// The source's database.
    pub source_engine: Engine,
    /// The columns that the rows bring.
    pub columns: Vec<ColumnFacts>,
    /// The partition column and the kind of its positions in the source.
    pub partition: Option<(String, CursorKind)>,
    /// The stream whose committed ranges are wanted.
    pub stream: String,
    /// Whether the target's triggers are to act on what will be written: to skip them takes a
    /// right.
    pub triggers: Triggers,
}

/// How rows travel between a source and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// PostgreSQL's binary COPY stream, passed through untouched; only between identical portable
    /// types.
    CopyBinary,
    /// PostgreSQL's text COPY stream, passed through untouched.
    CopyText,
    /// Typed values.
    Values,
}

/// A value on its way, in a form that loses nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A whole number, where the server keeps it as one (SQLite).
    Integer(i64),
    /// A double, where the server keeps it as one (SQLite).
    Real(f64),
    /// Text, or the server's own text form of any other type.
    Text(String),
    /// What SQLite holds as text and is none: bytes that are not UTF-8.
    RawText(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What a source is asked to read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The table.
    pub table: TableName,
    /// The columns, in the order wanted.
    pub columns: Vec<ColumnFacts>,
    /// The partition column.
    pub partition_column: String,
    /// How its positions are written for this server.
    pub form: CursorForm,
    /// Which rows.
    pub slice: Slice,
    /// How they travel.
    pub format: RowFormat,
}

/// Which rows of a source lie outside.
#[derive(Debug, Clone)]
pub struct LeftOutRequest {
    /// The table.
    pub table: TableName,
    /// The partition column.
    pub partition_column: String,
    /// How its positions are written for this server.
    pub form: CursorForm,
    /// The range; rows without a position are outside of any.
    pub whole: CursorRange,
    /// How long a server may take to count them. What takes longer is not known.
    pub within: Duration,
}

/// A bounded piece of the rows being read.
#[derive(Debug, Clone, PartialEq)]
pub enum RowBatch {
    /// Bytes of a COPY stream; a frame may end inside a row.
    Copy(Bytes),
    /// Whole rows, each with one value per requested column.
    Rows(Vec<Vec<Value>>),
}

/// Rows being read. Dropping it closes the connection behind it, which is never used again.
#[async_trait]
pub trait RowStream: Send {
    /// The next piece, at most about 1 MiB; `None` once the source has ended well.
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError>;
    /// Whole rows seen so far; the number read once `next` gave `None`.
    fn rows(&self) -> u64;
    /// Bytes seen so far.
    fn bytes(&self) -> u64;
}

/// The read side of a connection. Every read opens, owns and closes its own connection.
#[async_trait]
pub trait Source: Send + Sync {
    /// Reads the catalogue, and what the plan needs of the rows; changes nothing. The bounds of the
    /// partition column may take as long as a scan does; all that a plan can do without takes five
    /// seconds at most.
    async fn probe(&self, probe: &SourceProbe) -> Result<TableFacts, ConnectorError>;
    /// Counts the rows outside of a range that a partition column has, and by what they lie
    /// outside. A table that is too large for that, and has no index on the column, leaves them
    /// unknown.
    async fn count_left_out(&self, request: &LeftOutRequest) -> Result<LeftOut, ConnectorError>;
    /// Begins to read a slice: exactly the rows a single statement sees.
    async fn read(&self, request: &ReadRequest) -> Result<Box<dyn RowStream>, ConnectorError>;
    /// The formats it can give these columns in, best first.
    fn formats(&self, columns: &[ColumnFacts]) -> Vec<RowFormat>;
}

/// What prepare makes sure of.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// Who asks.
    pub cluster: ClusterId,
    /// The table.
    pub table: TableName,
    /// The table that the rows come from, for messages.
    pub source_table: TableName,
    /// The source's columns, which a created table gets in this target's types.
    pub columns: Vec<ColumnFacts>,
    /// The source's engine differs from or equals the target's: same type names are kept, others
    /// are mapped.
    pub source_engine: Engine,
    /// The key a created table gets; may be empty.
    pub key: Vec<String>,
    /// The partition column, indexed in a created table when the write mode replaces.
    pub partition_column: String,
    /// How rows will be written.
    pub mode: WriteMode,
    /// Whether the target's triggers act on them.
    pub triggers: Triggers,
    /// Which stream the table is loaded by, and who takes it.
    pub stream: StreamRequest,
}

/// Who takes a stream for himself.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// The stream.
    pub stream: String,
    /// The run.
    pub run: RunId,
    /// Which plan of it; `None` for a person's errand, which has none. Only claims under this plan
    /// begin from now on.
    pub plan: Option<PlanMark>,
    /// The token of the attempt that takes it.
    pub token: FencingToken,
    /// What the stream's positions are.
    pub kind: CursorKind,
}

/// What came of a prepare. Only faults are errors; a lost race is an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrepareOutcome {
    /// Ledger and table are there, and the stream is the run's.
    Prepared {
        /// What a person should know.
        warnings: Vec<String>,
        /// What has been committed of the stream, by others and by other plans of the run. It
        /// cannot change any more.
        coverage: Coverage,
        /// Which life of which server the target is.
        fingerprint: String,
    },
    /// The run is fenced in this target: nothing of it commits any more.
    Superseded,
    /// Another run took the stream under a token at least as large.
    Outrun {
        /// That token.
        newer: FencingToken,
    },
}

impl PrepareOutcome {
    /// The warnings of a prepare that must have been given its stream.
    ///
    /// # Panics
    /// When it was not.
    #[cfg(any(test, feature = "contract"))]
    #[must_use]
    pub fn warnings(self) -> Vec<String> {
        match self {
            Self::Prepared { warnings, .. } => warnings,
            Self::Superseded | Self::Outrun { .. } => panic!(
                "the stream was to be the run's, not \
                {self:?}"
            ),
        }
    }
}

/// Who claims which task, and what the ledger row is to say of it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who commands.
    pub cluster: ClusterId,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Which plan of the run, by its number.
    pub generation: u32,
    /// Which plan of the run: the one that the stream was taken for, or the claim is refused.
    pub plan: PlanMark,
    /// The step.
    pub step: StepName,
    /// The phase of the plan that the task belongs to.
    pub phase: u8,
    /// Its ordinal in that phase.
    pub ordinal: u64,
    /// The stream.
    pub stream: String,
    /// The slice, for coverage.
    pub slice: Slice,
    /// Which attempt.
    pub attempt: AttemptNo,
    /// The fence.
    pub fence: Fence,
    /// The digest of the spec that the run executes.
    pub spec_digest: DocumentDigest,
    /// The target as last reconciled; a claim on another is refused.
    pub fingerprint: String,
}

/// What came of a claim. Only faults are errors; a lost race is an outcome.
pub enum ClaimOutcome {
    /// The fence stands, and this connection holds it: the work may begin.
    Held(Box<dyn Claimed>),
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

/// Where rows are written, how, and where they came from.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// The table.
    pub table: TableName,
    /// The columns in the order they come.
    pub columns: Vec<ColumnFacts>,
    /// The partition column.
    pub partition_column: String,
    /// How its positions are written for this server.
    pub form: CursorForm,
    /// The slice being written.
    pub slice: Slice,
    /// How rows are written.
    pub mode: WriteMode,
    /// Whether the target's triggers act on them.
    pub triggers: Triggers,
    /// What happens, in [`WriteMode::ReplacePartition`], to rows found in the slice when no
    /// committed ledger row of the stream overlaps it. [`WriteMode::Append`] does not look.
    pub resident: Resident,
    /// How the rows come.
    pub format: RowFormat,
    /// The stream, to ask the ledger whether rows found in the slice are its own.
    pub stream: String,
}

/// A claim that stands. Dropping it closes its connection; the fence stays until a newer one.
#[async_trait]
pub trait Claimed: Send {
    /// Opens the data transaction on the connection that claimed. Never cancelled: it runs to its
    /// end apart from the caller.
    async fn begin(self: Box<Self>) -> Result<Box<dyn DataTx>, ConnectorError>;
}

/// An open data transaction. Every step consumes it: after an error, or dropped at any await, the
/// connection closes, the server rolls back, and nothing is left that could commit.
#[async_trait]
pub trait DataTx: Send {
    /// Empties the slice when the mode asks for it, or makes sure that it is empty; then writes
    /// every row of `rows`, and, when replacing, counts the slice again and fails unless it holds
    /// exactly the rows read.
    async fn write(
        self: Box<Self>,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<(Box<dyn DataTx>, Receipt), ConnectorError>;

    /// The guard: the ledger row goes to committed if it still is this attempt's. The last
    /// statement before COMMIT; nothing can be written after it.
    async fn guard(self: Box<Self>, receipt: &Receipt) -> Result<GuardOutcome, ConnectorError>;
}

/// What the guard found.
pub enum GuardOutcome {
    /// The row is still this attempt's; only COMMIT is left.
    Holds(Box<dyn Guarded>),
    /// It is not; everything was rolled back. The ledger row, asked anew, says whose it is.
    Lost,
}

/// A guarded transaction: the only thing left to do is to commit it.
#[async_trait]
pub trait Guarded: Send {
    /// Commits. Never cancelled: it runs to its end apart from the caller.
    async fn commit(self: Box<Self>) -> CommitOutcome;
}

/// What came of a commit.
#[derive(Debug)]
pub enum CommitOutcome {
    /// Durable.
    Committed,
    /// The server answered that it did not commit, and why: everything was rolled back.
    Refused(ConnectorError),
    /// The answer was lost: only the ledger, asked on a new connection, knows.
    Unknown(ConnectorError),
}

/// What a fence did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceReport {
    /// Ledger rows that went from open to fenced.
    pub attempts: u64,
}

/// The write side of a connection, with its ledger.
#[async_trait]
pub trait Target: Send + Sync {
    /// Reads the catalogue and the ledger; at most five seconds, changes nothing.
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

    /// The formats it can take these columns in, given the table's own columns, best first.
    fn formats(&self, from: Engine, columns: &[ColumnFacts], own: &[ColumnFacts])
    -> Vec<RowFormat>;
}

/// Why a connector failed: what a decision and a person need, with the driver's error behind it.
/// Its message never holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", report.message)]
pub struct ConnectorError {
    /// Class, code and message.
    pub report: AttemptError,
    /// What the driver said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    /// A failure that no driver reported.
    pub(crate) const fn of_report(report: AttemptError) -> Self {
        Self {
            report,
            source: None,
        }
    }
}

impl From<Struck> for ConnectorError {
    fn from(struck: Struck) -> Self {
        Self::of_report(struck.into())
    }
}
