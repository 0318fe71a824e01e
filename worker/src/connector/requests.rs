//! What a source and a target are asked, and what they answer.

use std::time::Duration;

use highwater_common::assignment::Receipt;
use highwater_common::coverage::Coverage;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{ColumnFacts, CursorForm, Engine, TableDefinition};
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, StepName, TaskId};
use highwater_common::log::LogIdentity;
use highwater_common::placing::{KeyBound, Placing, PlacingId};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{
    ColumnRules, ExistingRows, HorizonRule, OnSchemaChange, Relation, Shrinking, TableName,
    Triggers, WriteMode,
};
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken};

use super::rows::{RowFormat, Rows};

/// What the step's probe asks of a source.
#[derive(Debug, Clone)]
pub struct SourceProbe {
    /// What is to be read.
    pub relation: Relation,
    /// Columns left out, and those that are cast; one that is only renamed is told of by the name
    /// that it has. A name that the table does not have is an error that lists the columns.
    pub columns: ColumnRules,
    /// The partition column, for strategies that have one; an unknown one is an error that lists
    /// the columns.
    pub partition_column: Option<String>,
    /// The rule by which the source itself is to place its rows, if it is.
    pub placing: Option<PlacingProbe>,
    /// The pipeline says where the partitions begin and end and how wide they are: then its bounds
    /// are not looked for.
    pub bounds_declared: bool,
    /// Whether it is wanted what a table is made of: a missing table may be made like it.
    pub defined: bool,
}

impl TargetProbe {
    /// The partition column, and what its positions are; `None` where the source places rows by
    /// itself.
    #[must_use]
    pub fn cut_column(&self) -> Option<(&str, CursorKind)> {
        let (column, kind) = self.partition.as_ref()?;
        let is_columns = !matches!(kind, CursorKind::Placed(_));
        is_columns.then_some((column, *kind))
    }
}

/// A rule by which a source is to place its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacingProbe {
    /// By a hash of these columns.
    Hash(Vec<String>),
    /// By a unique key.
    Keys(KeyProbe),
    /// By what the source offers; the key of its own choice, where the target keeps bounds.
    Auto {
        /// As for the table's own key.
        key: KeyProbe,
        /// Whether a key may cut it.
        keeps_bounds: bool,
    },
}

/// How a source is to cut a table by a unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProbe {
    /// Its columns; none means the table's own key.
    pub columns: Vec<String>,
    /// Rows aimed at between two bounds.
    pub max_rows: u64,
    /// The bounds that the target's receipts of the stream speak of.
    pub kept: Vec<KeptBounds>,
    /// Whether a plan by the same rule has these bounds, too; otherwise all of its own are new.
    pub goes_on: bool,
}

/// The bounds of a rule that a target keeps with a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBounds {
    /// The rule.
    pub rule: PlacingId,
    /// The bounds, ascending.
    pub bounds: Vec<KeyBound>,
}

impl PlacingProbe {
    /// The columns that it looks at. A name that the table does not have is an error that lists the
    /// columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Hash(columns) => columns,
            Self::Keys(key) | Self::Auto { key, .. } => &key.columns,
        }
    }
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
    /// Whether another table is to take this one's place: then what hangs on it is looked for.
    pub exchange: bool,
    /// What a table that is missing is to be made of, besides its columns: what of that the server
    /// would refuse is tried, and taken back.
    pub twin: Option<TableDefinition>,
}

/// What a source is asked to read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// What is read.
    pub relation: Relation,
    /// The columns, in the order wanted.
    pub columns: Vec<ColumnFacts>,
    /// Which rows.
    pub rows: Rows,
    /// How they travel.
    pub format: RowFormat,
}

/// What a source is asked about the rows that may still be committed.
#[derive(Debug, Clone)]
pub struct HorizonRequest {
    /// The table.
    pub table: TableName,
    /// The column that grows with every write.
    pub column: String,
    /// What its positions are.
    pub kind: CursorKind,
    /// How far a window may reach.
    pub rule: HorizonRule,
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

/// What prepare makes sure of.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// Who asks.
    pub cluster: ClusterId,
    /// The table.
    pub table: TableName,
    /// Where the rows come from, for messages.
    pub source: Relation,
    /// The source's columns, which a created table gets in this target's types.
    pub columns: Vec<ColumnFacts>,
    /// The source's engine differs from or equals the target's: same type names are kept, others
    /// are mapped.
    pub source_engine: Engine,
    /// The key a created table gets; may be empty.
    pub key: Vec<String>,
    /// What else a created table is made of, its key included; `None` of one that is made of columns
    /// and key.
    pub twin: Option<TableDefinition>,
    /// The partition column, indexed in a created table when the write mode replaces.
    pub partition_column: Option<String>,
    /// How rows will be written.
    pub mode: WriteMode,
    /// Whether the target's triggers act on them.
    pub triggers: Triggers,
    /// What becomes of columns that a table which is there lacks.
    pub on_schema_change: OnSchemaChange,
    /// Which stream the table is loaded by, and who takes it.
    pub stream: StreamRequest,
    /// The rule by which the source places its rows: a target keeps its bounds with the stream, for
    /// its receipts speak of them.
    pub placing: Option<Placing>,
}

impl PrepareRequest {
    /// The column by which every replaced range is found, deleted and counted: it wants an index.
    #[must_use]
    pub fn sought_column(&self) -> Option<&str> {
        match self.mode {
            WriteMode::ReplacePartition => self.partition_column.as_deref(),
            WriteMode::Append
            | WriteMode::ReplaceTable
            | WriteMode::Exchange
            | WriteMode::Statements
            | WriteMode::Merge => None,
        }
    }
}

/// What of a table is built once its rows are there.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The table.
    pub table: TableName,
    /// What it is made of.
    pub twin: TableDefinition,
    /// The stream that has made it: a table that another one has made is left alone.
    pub stream: String,
    /// How many sessions may build it at most, at least one.
    pub sessions: u32,
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
    /// What the stream's positions are, where it has any.
    pub kind: Option<CursorKind>,
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
    Fenced {
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
            Self::Superseded | Self::Fenced { .. } => {
                panic!("the stream was to be the run's, not {self:?}")
            }
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
    /// The slice, for coverage; `None` of a task that puts rows in the place of all others, which
    /// covers nothing: the next run does the same again.
    pub slice: Option<Slice>,
    /// Whether the stream's tasks run one at a time: then this claim fences the open attempts of
    /// all others, too. Asked of a target that merges alone.
    pub runs_alone: bool,
    /// Which attempt.
    pub attempt: AttemptNo,
    /// The fence.
    pub fence: Fence,
    /// The digest of the spec that the run executes.
    pub spec_digest: DocumentDigest,
    /// The target as last reconciled; a claim on another is refused.
    pub fingerprint: String,
}

/// Where rows are written, how, and where they came from.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// The table.
    pub table: TableName,
    /// The columns in the order they come.
    pub columns: Vec<ColumnFacts>,
    /// Which rows are written, as the target finds them.
    pub rows: Rows,
    /// How rows are written.
    pub mode: WriteMode,
    /// By which columns they find the rows that they take the place of, in [`WriteMode::Merge`].
    pub merge_by: MergeBy,
    /// Whether the target's triggers act on them.
    pub triggers: Triggers,
    /// What happens, in [`WriteMode::ReplacePartition`], to rows found in the slice when no
    /// committed ledger row of the stream overlaps it. The other modes do not look.
    pub resident: ExistingRows,
    /// How much smaller the table may become, in [`WriteMode::ReplaceTable`].
    pub shrinking: Shrinking,
    /// How the rows come.
    pub format: RowFormat,
    /// The stream, to ask the ledger whether rows found in the slice are its own.
    pub stream: String,
}

impl WriteRequest {
    /// Whether all rows that are in the table are deleted, and those that stay written again.
    #[must_use]
    pub fn rewrites_table(&self) -> bool {
        match self.mode {
            WriteMode::ReplaceTable => true,
            WriteMode::ReplacePartition => {
                self.resident == ExistingRows::Replace && matches!(self.rows, Rows::All)
            }
            WriteMode::Append | WriteMode::Exchange | WriteMode::Statements | WriteMode::Merge => {
                false
            }
        }
    }
}

/// How rows that are merged meet those that are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeBy {
    /// The columns that tell a row from all others; none of them is NULL.
    pub key: Vec<String>,
    /// The column whose larger value is the newer one's.
    pub cursor: Option<String>,
    /// The column that says when a row was deleted: rows that come have no mark any more, and where
    /// all rows of the table come that live, the others are marked.
    pub marks: Option<String>,
}

/// What became of rows that were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Rows that came.
    pub came: u64,
    /// Rows among them that share their key with another one, where no cursor says which of them
    /// is the newer.
    pub repeated: u64,
}

/// What a fence did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceReport {
    /// Ledger rows that went from open to fenced.
    pub attempts: u64,
}

/// What a commit does to the ledger: the last that a transaction says before COMMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardStep {
    /// What this chunk wrote.
    pub chunk: Receipt,
    /// What the task's row says afterwards.
    pub next: Next,
    /// The watermark that moves in the same transaction, for strategies that keep one.
    pub watermark: Option<WatermarkMove>,
}

impl GuardStep {
    /// The step that ends a task without a watermark.
    #[must_use]
    pub const fn last(chunk: Receipt) -> Self {
        Self {
            chunk,
            next: Next::Committed,
            watermark: None,
        }
    }
}

/// What becomes of a task's row with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It stays open: the slice is committed up to this position, and the next chunk goes on there.
    Continue {
        /// The first position that is not committed.
        cursor: Cursor,
    },
    /// It is committed, and the task is over.
    Committed,
}

/// How a stream's watermark moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkMove {
    /// The stream.
    pub stream: String,
    /// Where it stands afterwards.
    pub position: Cursor,
    /// The version that was read before the rows; `None` when there was no watermark. Another one
    /// by now means that somebody else moved it, and nothing is committed.
    pub seen: Option<u64>,
    /// What goes along, of a position in a source's log.
    pub log: Option<LogMark>,
}

/// What a target keeps beside a position in a source's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogMark {
    /// Of which table and server it is; `None` leaves what is there.
    pub identity: Option<LogIdentity>,
    /// All that the source had committed by then is applied, in microseconds since 1970 on its
    /// clock; `None` leaves what is there.
    pub reached_at: Option<i64>,
    /// Whether all is applied that changed while the table was copied.
    pub is_live: bool,
}

/// How many rows a guard found as it demands them: one each, or nothing commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Of the ledger.
    pub ledger: u64,
    /// Of the watermarks; `None` where none moves.
    pub watermark: Option<u64>,
}
