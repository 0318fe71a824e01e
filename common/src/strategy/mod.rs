//! The load strategies: what each of them decides, without any I/O.
//!
//! A strategy is one file here and one among the workers. Everybody else knows a step by its
//! phases, its sides and its words; the only matches on which strategy it is stand in the two
//! folders, and where the pipeline file is read and written.

mod backfill;
mod cdc;
mod exec;
mod full_refresh;
mod incremental;
mod marks;
mod noop;
mod sql;
mod swap;

use std::time::Duration;

use crate::capability::Capabilities;
use crate::cursor::CursorKind;
use crate::facts::StepFacts;
use crate::id::{ConnectionName, PipelineName, StepName};
use crate::left_out::LeftOut;
use crate::plan::{PhaseKind, PlanProblem, StepPlan};
use crate::range::CursorRange;
use crate::spec::{
    HorizonRule, Partition, PartitionBy, SourceTable, Strategy, TargetTable, Triggers,
};

/// What a strategy decides.
pub trait Load: Sync {
    /// The word of the pipeline file.
    fn name(&self) -> &'static str;

    /// What its tasks read and write.
    fn sides(&self) -> Sides<'_>;

    /// What a worker must be able to do beyond speaking to the sides' databases.
    fn needs(&self) -> Capabilities;

    /// The zone whose midnights its partitions begin at.
    fn zone(&self) -> &str {
        "UTC"
    }

    /// What must be found out before it can be planned; `None` when nothing must.
    fn probe(&self) -> Option<ProbeRequest<'_>>;

    /// How long the exchange of its table waits for locks; `None` of one that is loaded in its
    /// place.
    fn exchange_lock_wait(&self) -> Option<Duration> {
        None
    }

    /// The range of positions that it says it loads; `None` when it does not say.
    fn declared(&self, _kind: CursorKind) -> Option<CursorRange> {
        None
    }

    /// The plan, from what the probe found.
    ///
    /// # Errors
    /// Every [`PlanProblem`] of the step at once.
    fn plan(
        &self,
        of: &PlanContext<'_>,
        facts: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>>;

    /// How the plan goes about it, in a line.
    fn summary(&self, plan: &StepPlan) -> String;

    /// The phase that its checks are a phase of their own after; `None` where they are asked by the
    /// very transaction that publishes the rows.
    fn checked_after(&self) -> Option<PhaseKind> {
        None
    }

    /// What has become of the rows when a check of them failed, for people.
    fn after_failed_check(&self) -> &'static str {
        ""
    }

    /// The log that it follows, if it follows one.
    fn log(&self) -> Option<FollowedLog<'_>> {
        None
    }

    /// The column of the target that says when a row was deleted in the source, where such rows stay.
    fn deleted_at(&self) -> Option<&str> {
        None
    }

    /// The programs that it runs, by their paths.
    fn programs(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The step whose partitions it follows: a task of it may run once the same range is committed
    /// there.
    fn follows(&self) -> Option<&StepName> {
        None
    }

    /// Whether an attempt whose end nobody knows may be followed by another one: what is one
    /// transaction either happened or did not, and its receipt says so.
    fn may_run_again(&self) -> bool {
        true
    }

    /// The rows that no task took, for people, when all of them were declared to stay where they
    /// are.
    ///
    /// # Errors
    /// Which of them were not, and what to do.
    fn judge_left_out(&self, plan: &StepPlan, found: &LeftOut) -> Result<Vec<String>, String>;
}

/// The log that a step follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowedLog<'a> {
    /// The slot that keeps it.
    pub slot: &'a str,
    /// The publication that says what is in it.
    pub publication: &'a str,
    /// How many bytes of the log the slot may keep before people are told.
    pub retained_max: Option<u64>,
}

/// What a step reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides<'a> {
    /// The read side, for strategies that have one.
    pub source: Option<&'a SourceTable>,
    /// The write side, for strategies that have one.
    pub target: Option<&'a TargetTable>,
}

impl<'a> Sides<'a> {
    /// The connections of both; one that is both sides comes twice.
    pub fn connections(self) -> impl Iterator<Item = &'a ConnectionName> {
        let source = self.source.map(|source| &source.connection);
        source
            .into_iter()
            .chain(self.target.map(|target| &target.connection))
    }
}

/// What a probe asks beyond what every table is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRequest<'a> {
    /// The column whose range and rows are of interest, if the table is cut by one.
    pub partition_column: Option<&'a str>,
    /// The rule by which the source itself is to place its rows, if it is.
    pub placing: Option<PlacingRequest<'a>>,
    /// Whether the step says all that would else be looked for in that column.
    pub bounds_declared: bool,
    /// What becomes of the target's triggers.
    pub triggers: Triggers,
    /// Whether another table is to take the target's place: then what hangs on it is looked for.
    pub exchange: bool,
    /// What is looked for by a step that goes on where its last run ended.
    pub window: Option<WindowRequest<'a>>,
}

/// A rule by which a source is to place its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacingRequest<'a> {
    /// By a hash of these columns.
    Hash(&'a [String]),
    /// By a unique key.
    Keys {
        /// Its columns; none means the table's own key.
        columns: &'a [String],
        /// Rows aimed at between two bounds.
        max_rows: u64,
        /// Whether what earlier runs have committed is left out: then their bounds stay.
        goes_on: bool,
    },
    /// By what the source offers.
    Auto {
        /// Rows aimed at in a part.
        max_rows: u64,
        /// As of [`Self::Keys`].
        goes_on: bool,
    },
}

impl<'a> PlacingRequest<'a> {
    /// What a way to cut a table asks of its source, for a step that `goes_on` where earlier runs
    /// have ended, or loads everything again.
    #[must_use]
    pub fn of(partition: &'a Partition, goes_on: bool) -> Option<Self> {
        match &partition.by {
            PartitionBy::Calendar { .. } | PartitionBy::Integer { .. } => None,
            PartitionBy::Hash { columns, .. } => Some(Self::Hash(columns)),
            PartitionBy::Auto { max_rows } => Some(Self::Auto {
                max_rows: *max_rows,
                goes_on,
            }),
            PartitionBy::Keyset { columns, max_rows } => Some(Self::Keys {
                columns,
                max_rows: *max_rows,
                goes_on,
            }),
        }
    }
}

/// What a probe asks for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRequest<'a> {
    /// How far it may reach.
    pub horizon: HorizonRule,
    /// Whether it begins at a watermark, which moves with its rows.
    pub keeps_watermark: bool,
    /// The step whose end the first one begins at.
    pub continues: Option<&'a StepName>,
    /// Whether its watermark is a position in a log: then nobody puts it elsewhere, and what the
    /// stream itself has committed is wanted.
    pub follows_log: bool,
}

/// Whose step is planned.
#[derive(Debug, Clone, Copy)]
pub struct PlanContext<'a> {
    /// The pipeline.
    pub pipeline: &'a PipelineName,
    /// The step.
    pub step: &'a StepName,
    /// The plan of the step that it follows, if it does.
    pub followed: Option<&'a StepPlan>,
}

impl Strategy {
    /// What the strategy decides.
    #[must_use]
    pub fn load(&self) -> &dyn Load {
        match self {
            Self::Backfill(backfill) => backfill.as_ref(),
            Self::FullRefresh(refresh) => refresh.as_ref(),
            Self::Swap(swap) => swap.as_ref(),
            Self::Incremental(incremental) => incremental.as_ref(),
            Self::Sql(script) => script.as_ref(),
            Self::Exec(program) => program.as_ref(),
            Self::Cdc(cdc) => cdc.as_ref(),
            Self::Noop(noop) => noop,
        }
    }
}
