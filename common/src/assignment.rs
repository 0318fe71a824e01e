//! What a worker is asked to do, and what it answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::CheckAnswer;
use crate::close::Ordinals;
use crate::cursor::CursorKind;
use crate::errand::Errand;
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, CursorForm, TableDefinition};
use crate::id::{
    AttemptNo, ClusterId, ConnectionName, DocumentDigest, PipelineName, RunId, StepName, TaskId,
};
use crate::left_out::LeftOut;
use crate::placing::Placing;
use crate::range::{CursorRange, Slice};
use crate::spec::{Check, Chunk, Connection, Shrinking, SourceTable, Strategy, TargetTable, Write};
use crate::token::{Fence, FencingToken};
use crate::trace::TraceParent;
use crate::window::WatermarkOrder;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Reads both sides' catalogues; changes nothing.
    Probe,
    /// Makes ledger and target table, before a step's partitions.
    Prepare,
    /// Moves one partition of a step.
    Partition(Slice),
    /// Builds what the loaded table still lacks.
    Build,
    /// Asks a loaded table what its step's checks say.
    Check,
    /// Puts what a step reads in the place of all that its target holds.
    Publish,
    /// Removes the rows of the target whose keys the source has no more.
    Reconcile,
    /// Runs the statements of a step, in one transaction.
    Statements,
    /// Runs the program of a step.
    Command,
    /// Applies what the source's log tells since the stream's position.
    Replay,
    /// Apply what the source's log tells, until the task is given back.
    Follow,
    /// Holds a slot; `n` tells one from the other.
    Noop(u64),
    /// Fences a cancelled run in a target.
    Fence,
    /// Counts the rows outside of the range that a step's partitions cover, once they have ended.
    Count(CursorRange),
    /// Asks the target which tasks of a phase it holds the commits of, once they have ended.
    Close {
        /// The phase.
        phase: u8,
    },
}

impl fmt::Display for Work {
    /// The text that a task id is derived from and that people read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe => f.write_str("probe"),
            Self::Prepare => f.write_str("prepare"),
            Self::Partition(slice) => slice.fmt(f),
            Self::Build => f.write_str("build"),
            Self::Check => f.write_str("check"),
            Self::Publish => f.write_str("publish"),
            Self::Reconcile => f.write_str("reconcile"),
            Self::Statements => f.write_str("statements"),
            Self::Command => f.write_str("command"),
            Self::Replay => f.write_str("replay"),
            Self::Follow => f.write_str("follow"),
            Self::Noop(n) => write!(f, "noop {n}"),
            Self::Fence => f.write_str("fence"),
            Self::Count(_) => f.write_str("count"),
            Self::Close { .. } => f.write_str("close"),
        }
    }
}

/// What all tasks of a step have in common. Travels once per step and worker, known by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOrder {
    /// The cluster that commands.
    pub cluster: ClusterId,
    /// The run.
    pub run: RunId,
    /// Its pipeline.
    pub pipeline: PipelineName,
    /// Which plan of the run.
    pub generation: u32,
    /// The step.
    pub step: StepName,
    /// The digest of the spec that the run executes.
    pub spec_digest: DocumentDigest,
    /// The folder that relative paths of the pipeline mean.
    pub base_dir: String,
    /// What "now" means for all of the run: microseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub reference_time_micros: i64,
    /// How the step loads.
    pub strategy: Strategy,
    /// One attempt's time in milliseconds, when limited.
    pub attempt_millis_max: Option<u64>,
    /// How many milliseconds an attempt may move no byte.
    pub stall_millis_max: u64,
    /// The read side, for strategies that have one.
    pub source: Option<(Connection, SourceTable)>,
    /// The write side, for strategies that have one.
    pub target: Option<(Connection, TargetTable)>,
    /// What planning settled; `None` before it.
    pub load_order: Option<LoadOrder>,
    /// Whether the probe takes over a target that belongs to another cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopts: bool,
    /// What the probe asks of the target's ledger instead of looking at the tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errand: Option<Errand>,
    /// The span that began the run, which every attempt comes after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// What planning settled for a step that moves rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOrder {
    /// The stream: `pipeline/step/connection:table-digest/target-table`.
    pub stream: String,
    /// The columns to move, in the source's order.
    pub columns: Vec<ColumnFacts>,
    /// The columns of the key that a created table gets.
    pub key: Vec<String>,
    /// What else a created table is made of; `None` makes it of the columns alone, and of one that is
    /// there it says what is still to be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<TableDefinition>,
    /// What the table is cut by; `None` of one that is moved whole, which has to be said: an order
    /// of another version, which does not say it, is not read as one of a whole table.
    #[serde(deserialize_with = "Option::deserialize")]
    pub cut_by: Option<CutBy>,
    /// How rows are written.
    pub write: Write,
    /// The table beside the target's that the rows go into, in
    /// [`WriteMode::Exchange`](crate::spec::WriteMode::Exchange).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowOrder>,
    /// How the rows come to wait beside a table that is replaced whole, until all of them are there;
    /// `None` writes them to the table as they are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<Staging>,
    /// How the stream's watermark goes with the rows, of a step that keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<WatermarkOrder>,
    /// How much smaller a table may become that is replaced whole.
    #[serde(default)]
    pub shrinking: Shrinking,
    /// What the table must answer before its rows are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// The slices whose rows [`Check::RowCount`] counts on both sides; none counts all rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<Slice>,
    /// How much of a partition one commit takes; `None` commits it whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Chunk>,
    /// The digest of the rule that cuts and of what it leaves out: with the generation, which
    /// slices there are.
    pub cut: DocumentDigest,
    /// Which life of which server the target was when it was last reconciled.
    pub target_fingerprint: String,
    /// The ranges that this stream's earlier runs had committed when the plan was made.
    pub reprocess_all: bool,
}

/// What there is to know of a table that is to take the place of a target's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowOrder {
    /// Which table the target's was when it was planned, whatever its name; empty when there was
    /// none.
    pub identity: String,
    /// How many tasks load it.
    pub tasks: u64,
}

/// A table that is read at one point in time by several sessions at once, into a table of the
/// attempt's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staging {
    /// The sessions that read, and as many that write. One more on each side holds the point in time
    /// and the claim.
    pub readers: u32,
}

impl Staging {
    /// The sessions that an attempt has on each side.
    #[must_use]
    pub const fn sessions(self) -> u32 {
        self.readers.saturating_add(1)
    }

    /// With no more sessions on a side than this; `None` where that leaves nobody to read.
    #[must_use]
    pub fn within(self, sessions_max: u32) -> Option<Self> {
        let readers = self.readers.min(sessions_max.saturating_sub(1));
        (readers > 0).then_some(Self { readers })
    }
}

/// The column that cuts a table, as both sides have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutBy {
    /// The column in the source.
    pub column: String,
    /// The column in the target, where it arrives under another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<String>,
    /// What its positions are.
    pub kind: CursorKind,
    /// How its positions are written in the source.
    pub source_form: CursorForm,
    /// How its positions are written in the target.
    pub target_form: CursorForm,
    /// The rule by which the source places its rows, where no column's values do. Then only the
    /// source knows which rows a slice holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
}

impl CutBy {
    /// The column, and how its positions are written, in the source.
    #[must_use]
    pub fn in_source(&self) -> (&str, CursorForm) {
        (&self.column, self.source_form)
    }

    /// The column, and how its positions are written, in the target.
    #[must_use]
    pub fn in_target(&self) -> (&str, CursorForm) {
        let column = self.renamed.as_ref().unwrap_or(&self.column);
        (column, self.target_form)
    }
}

/// One task for one worker, under one fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// Which attempt of it.
    pub attempt: AttemptNo,
    /// What its claim writes and its guard demands.
    pub fence: Fence,
    /// What it does.
    pub work: Work,
    /// The phase of the step's plan that it belongs to.
    pub phase: u8,
    /// Its ordinal in that phase.
    pub ordinal: u64,
    /// The digest of its [`StepOrder`].
    pub order: DocumentDigest,
}

/// The largest answer of a probe, in bytes of JSON: room for 2,000 columns with long names on both
/// sides.
pub const FACTS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a committed task did, as its ledger row tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// Rows written.
    pub rows: u64,
    /// Bytes carried.
    pub bytes: u64,
}

impl Receipt {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// Why an attempt failed, as far as a decision about the next one needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Gone soon, by itself: a broken connection, a deadlock.
    Transient,
    /// Something ran out: disk, memory, connections, a lock's time.
    Resource,
    /// Will fail again: a missing table, a value that does not fit, a wrong password.
    Permanent,
    /// A connection could not be reached, or broke: [`AttemptError::connection`] says which. It
    /// says nothing about the task.
    Unreachable,
    /// The worker died or fell silent. Given by the coordinator alone.
    Crash,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "transient",
            Self::Resource => "resource",
            Self::Permanent => "permanent",
            Self::Unreachable => "unreachable",
            Self::Crash => "crash",
        })
    }
}

/// An attempt's error as it crosses processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// What a decision needs.
    pub class: ErrorClass,
    /// An [`ErrorCode`], or one of another version.
    pub code: String,
    /// What, where, why and what to do next; at most 1 KiB; never a secret.
    pub message: String,
    /// The connection that could not be reached, of an [`ErrorClass::Unreachable`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionName>,
    /// Rows that the task has committed all the same, in chunks before the one that failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub committed_rows: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(of: &u64) -> bool {
    *of == 0
}

impl AttemptError {
    /// The longest message kept, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 1024;

    /// An error whose message is cut to [`AttemptError::MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn new(class: ErrorClass, code: ErrorCode, message: impl Into<String>) -> Self {
        Self::received(class, code.as_str().to_owned(), message)
    }

    /// An error that was sent or stored, perhaps by another version, whose codes are not all known
    /// here.
    #[must_use]
    pub fn received(class: ErrorClass, code: String, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MESSAGE_BYTES_MAX {
            let end = (0..=Self::MESSAGE_BYTES_MAX - 3)
                .rev()
                .find(|at| message.is_char_boundary(*at))
                .unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        Self {
            class,
            code,
            message,
            connection: None,
            committed_rows: 0,
        }
    }

    /// Whether it is of one of these codes.
    #[must_use]
    pub fn is_of(&self, codes: &[ErrorCode]) -> bool {
        codes.iter().any(|code| self.code == *code)
    }

    /// The error of a task that keeps so many rows all the same, which its message tells.
    #[must_use]
    pub fn keeping(self, rows: u64) -> Self {
        if rows == 0 {
            return self;
        }
        let message = format!(
            "{} ({rows} rows of it are committed and stay)",
            self.message
        );
        Self {
            connection: self.connection,
            committed_rows: rows,
            ..Self::received(self.class, self.code, message)
        }
    }

    /// The error of an attempt that could not reach `connection`, or lost it.
    #[must_use]
    pub fn unreachable(
        connection: ConnectionName,
        code: ErrorCode,
        message: impl Into<String>,
    ) -> Self {
        Self {
            connection: Some(connection),
            ..Self::new(ErrorClass::Unreachable, code, message)
        }
    }
}

/// What the checks of a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The table that was asked, and where.
    pub table: String,
    /// One for each check, in their order.
    pub answers: Vec<CheckAnswer>,
    /// What was committed with them; `None` where they were asked apart from a commit, or one of
    /// them kept it from being made.
    pub committed: Option<Receipt>,
}

/// How an attempt ended, as the worker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The task's rows are in the target, by this attempt or an earlier one.
    Committed(Receipt),
    /// What the step's checks came to, and the commit that was made with them, if one was.
    Checked(Checked),
    /// A probe's answer: `StepFacts` as JSON of at most [`FACTS_BYTES_MAX`]; a failure of its own
    /// when it is not.
    Probed(Vec<u8>),
    /// A task that holds a slot is over.
    Done,
    /// The stream is the run's, its table and its ledger are there.
    Prepared {
        /// What a person should know: a missing index, a table that was there already.
        warnings: Vec<String>,
        /// The digest of what every run but this plan of this one has committed of the stream:
        /// final, since all others are fenced.
        coverage: DocumentDigest,
        /// Which life of which server the target is.
        fingerprint: String,
    },
    /// A fence stands: so many open attempts can no longer commit.
    RunFenced {
        /// How many ledger rows went from open to fenced.
        attempts: u64,
    },
    /// The source's rows that lie outside of the partitions.
    Counted(LeftOut),
    /// The tasks of a phase whose commits are in the target.
    Closed(Ordinals),
    /// The target is not as the step's prepare left it: it is another one by now, or was put back
    /// to an older state. Nothing of the attempt is in it; why is what a person is told.
    Unprepared(AttemptError),
    /// A claim met a larger token: the store was rewound, or a newer attempt runs.
    Fenced {
        /// The token met.
        newer: FencingToken,
    },
    /// The target says that nothing of the run commits any more: nothing is owed.
    Superseded {
        /// The run that took one of its streams; `None` when it was cancelled.
        by: Option<RunId>,
    },
    /// The attempt failed; nothing of it is in the target.
    Failed(AttemptError),
    /// The worker gives the task back untouched, because it drains.
    Released,
}
