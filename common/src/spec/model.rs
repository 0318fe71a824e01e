//! The pipeline as a typed model: what [`super::parse`] makes of a file once nothing is wrong with
//! it.
//!
//! Its canonical JSON (keys sorted, defaults filled in, parameters put in) is the preimage of the
//! spec digest; the coordinator reads it back and checks it again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::data_check::Check;
use super::log_step::{Cdc, Deletes};
use super::partition::{Grain, Partition};
use super::program::Program;
use super::schedule::Schedule;
use super::sides::{SourceTable, TargetTable};
use super::value::Bound;
use super::write::{Chunk, Shrinking, Write, WriteMode};
use super::{millis, optional_millis};
use crate::id::{ConnectionName, PipelineName, PoolName, StepName};

/// A whole pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Version of the file's form; 1.
    pub version: u32,
    /// The name; the pipeline's history hangs on it.
    pub name: PipelineName,
    /// The databases by name.
    pub connections: BTreeMap<ConnectionName, Connection>,
    /// Limits of a run.
    pub limits: RunLimits,
    /// Limits by name, which several steps may share. Left out of the canonical form when there are
    /// none, so that the digests of pipelines from before there were pools stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<PoolName, Pool>,
    /// When a cluster runs it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The nodes of the DAG by name.
    pub steps: BTreeMap<StepName, Step>,
}

/// Limits of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// Tasks at once over all steps; `None` leaves it to the workers' slots.
    pub tasks: Option<u32>,
    /// Which of several runs gets a free slot first, from 1 to 9. Left out of the canonical form where
    /// nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

/// A limit with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Tasks at once over all steps of a run that name it.
    pub tasks: u32,
}

/// A node of the DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Steps that must succeed (or end) before this one starts.
    pub depends_on: Vec<Dependency>,
    /// How it loads.
    pub strategy: Strategy,
    /// What happens when an attempt fails.
    pub retries: RetryPolicy,
    /// Limits of the step.
    pub limits: StepLimits,
    /// The pools that each of its tasks takes a place of, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolName>,
    /// What a worker must say of itself, all of it, to get the step's tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Tasks that may die before the step fails.
    pub tolerate_dead: u32,
    /// What its table must answer before its rows are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// An edge of the DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The step waited for.
    pub step: StepName,
    /// What it must have come to.
    pub when: When,
}

/// What a dependency waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The step succeeded.
    Success,
    /// The step ended, however.
    Done,
}

/// How a step loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Strategy {
    /// A range of a table, in parallel, each partition on its own.
    Backfill(Box<Backfill>),
    /// A whole table, put in the place of the target's at one instant.
    FullRefresh(Box<FullRefresh>),
    /// A whole table, loaded beside the target's, which it takes the place of.
    Swap(Box<Swap>),
    /// What a table has got since the last run, by a column that grows with every write.
    Incremental(Box<Incremental>),
    /// Statements of the user's own, in one transaction.
    Sql(Box<Script>),
    /// A program of the user's own, beside the data.
    Exec(Box<Program>),
    /// A table, copied once and then followed through its database's log.
    Cdc(Box<Cdc>),
    /// Tasks that hold a slot and move nothing: measures the control path.
    Noop(Noop),
}

/// Tasks that hold a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noop {
    /// How many.
    pub tasks: u64,
    /// How long each takes.
    #[serde(with = "millis")]
    pub hold: Duration,
}

/// A partitioned backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The read side.
    pub from: SourceTable,
    /// The write side.
    pub to: TargetTable,
    /// How the table is cut.
    pub partition: Partition,
    /// First position wanted; `None`: from the table's first row.
    pub start: Option<Bound>,
    /// First position not wanted; `None`: to the table's last row.
    pub end: Option<Bound>,
    /// Whether another step goes on at the end, which then stays where the first run has put it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_continued: bool,
    /// What of an already covered range is loaded again.
    pub reprocess: Reprocess,
    /// Which partitions come first.
    pub order: Order,
    /// How rows are written.
    pub write: Write,
    /// How much of a partition one commit takes where rows are appended or merged.
    pub chunk: Chunk,
}

/// A table of which only the rows are read that were written since the last run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incremental {
    /// The read side.
    pub from: SourceTable,
    /// The write side.
    pub to: TargetTable,
    /// The column that grows with every write: a time, a day, or a number.
    pub cursor: String,
    /// The zone of the clock that a column of times without one was stamped by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    /// How far a window may reach.
    pub horizon: HorizonRule,
    /// How much of what has been read a window reads again.
    #[serde(with = "millis")]
    pub lookback: Duration,
    /// What happens to rows whose cursor is NULL.
    pub nulls: CursorNulls,
    /// The backfill whose end the first window begins at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<StepName>,
    /// What becomes of rows that the source has no more.
    #[serde(
        default = "Deletes::ignore",
        skip_serializing_if = "Deletes::is_ignore"
    )]
    pub deletes: Deletes,
    /// With [`Deletes::Soft`], the column of the target that says when a row was found to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// How many rows of the target may go at once.
    #[serde(default, skip_serializing_if = "Shrinking::is_default")]
    pub shrinking: Shrinking,
    /// How rows are written.
    pub write: Write,
    /// How much of a window one commit takes.
    pub chunk: Chunk,
}

/// Statements of the user's own, which are one transaction of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The table that they write.
    pub to: TargetTable,
    /// The statements, as [`statements`](super::statements) reads them.
    pub sql: String,
    /// What they run for, one after the other; once for all when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Follow>,
}

/// The periods of another step's table that statements run for: each by itself, once its rows are
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// The other step.
    pub step: StepName,
    /// How long a period is, on the clock of the other step.
    pub grain: Grain,
}

/// How far a window may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HorizonRule {
    /// Up to where the source's open transactions prove that nothing is committed any more.
    Auto,
    /// Up to so long ago, on the word of whoever wrote the file.
    Lag(#[serde(with = "millis")] Duration),
}

/// What happens to rows whose cursor is NULL, which belong to no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorNulls {
    /// One of them fails the plan.
    Fail,
    /// Each run loads all of them again.
    Reload,
    /// They are left out, counted and reported.
    Ignore,
}

/// A table that is read whole, and published at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullRefresh {
    /// The read side.
    pub from: SourceTable,
    /// The write side.
    pub to: TargetTable,
    /// How rows are written.
    pub write: Write,
    /// How much smaller the target may become.
    pub shrinking: Shrinking,
}

/// A table that is loaded beside the one that is read, and takes its place once it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The read side.
    pub from: SourceTable,
    /// The write side.
    pub to: TargetTable,
    /// How the table is cut, to be loaded in parallel; `None` loads it by one task.
    pub partition: Option<Partition>,
    /// How rows are written.
    pub write: Write,
    /// How much smaller the target may become.
    pub shrinking: Shrinking,
    /// How long the exchange waits for its locks before it lets whoever waits behind it go on.
    #[serde(with = "millis")]
    pub lock_timeout: Duration,
    /// How old the table before is to become before a swap of the step drops it; `None` keeps it
    /// until the next swap.
    #[serde(
        default,
        with = "optional_millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub keep_old: Option<Duration>,
}

impl Backfill {
    /// Whether it ends where nothing more is committed when the plan is made.
    #[must_use]
    pub fn ends_now(&self) -> bool {
        self.end.as_ref().is_some_and(Bound::is_now)
    }
}

impl Swap {
    /// Whether the table that is read stays, and its rows alone are replaced.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.write.mode == WriteMode::ReplaceTable
    }
}

/// What of an already covered range is loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reprocess {
    /// Nothing: only ranges that no run has committed are loaded.
    Missing,
    /// Everything, again.
    All,
}

/// Which partitions come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Ascending.
    Oldest,
    /// Descending.
    Newest,
}

/// What happens when an attempt fails: exponential backoff with full jitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all.
    pub max_attempts: u32,
    /// The first wait's ceiling.
    #[serde(with = "millis")]
    pub initial: Duration,
    /// Every wait's ceiling.
    #[serde(with = "millis")]
    pub max: Duration,
    /// How long a connection may be away before the tasks that need it are given up.
    #[serde(with = "millis", default = "unreachable_default")]
    pub unreachable: Duration,
}

const fn unreachable_default() -> Duration {
    Duration::from_secs(3600)
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(300),
            unreachable: unreachable_default(),
        }
    }
}

/// Limits of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Tasks at once.
    pub tasks: Option<u32>,
    /// One attempt's time.
    #[serde(with = "optional_millis")]
    pub attempt: Option<Duration>,
    /// How long an attempt may move no byte before it is ended.
    #[serde(with = "millis")]
    pub stall: Duration,
}

impl Default for StepLimits {
    fn default() -> Self {
        Self {
            tasks: None,
            attempt: None,
            stall: Duration::from_mins(10),
        }
    }
}
