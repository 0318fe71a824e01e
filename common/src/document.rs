//! The documents that people and programs read: what `-o json` prints and what the control service
//! sends. They only grow.

mod schedules;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::controls::Controls;
use crate::errand::{StreamReceipts, Undone};
use crate::id::{ClusterId, ConnectionName, DocumentDigest, PipelineName, RunId, StepName, TaskId};
use crate::log::LogStanding;
use crate::shadow::Beside;
use crate::spec::When;
use crate::status::{RunStatus, StepStatus};
use crate::task::TaskState;

pub use schedules::{
    LeftOutDocument, SaidDocument, ScheduleDocument, ScheduledRunDocument, SchedulesDocument,
};

/// How many tasks are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCounts {
    /// Wait for a worker.
    pub pending: u64,
    /// Are leased to an attempt.
    pub open: u64,
    /// Are committed and counted.
    pub done: u64,
    /// Failed, and wait for their next attempt.
    pub retry_wait: u64,
    /// Were given up.
    pub dead: u64,
    /// Wait for a person's word.
    pub in_doubt: u64,
    /// Were committed by an earlier run.
    pub covered: u64,
    /// Were fenced.
    pub superseded: u64,
}

impl TaskCounts {
    /// Adds the counts of other tasks.
    pub const fn add_all(&mut self, other: &Self) {
        self.pending = self.pending.saturating_add(other.pending);
        self.open = self.open.saturating_add(other.open);
        self.done = self.done.saturating_add(other.done);
        self.retry_wait = self.retry_wait.saturating_add(other.retry_wait);
        self.dead = self.dead.saturating_add(other.dead);
        self.in_doubt = self.in_doubt.saturating_add(other.in_doubt);
        self.covered = self.covered.saturating_add(other.covered);
        self.superseded = self.superseded.saturating_add(other.superseded);
    }

    /// The count of a state.
    pub const fn of_mut(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Pending => &mut self.pending,
            TaskState::Open => &mut self.open,
            TaskState::Done => &mut self.done,
            TaskState::RetryWait => &mut self.retry_wait,
            TaskState::Dead => &mut self.dead,
            TaskState::InDoubt => &mut self.in_doubt,
            TaskState::Covered => &mut self.covered,
            TaskState::Superseded => &mut self.superseded,
        }
    }

    /// One more in a state.
    pub const fn add(&mut self, state: TaskState) {
        let count = self.of_mut(state);
        *count = count.saturating_add(1);
    }

    /// One fewer in a state.
    pub const fn remove(&mut self, state: TaskState) {
        let count = self.of_mut(state);
        *count = count.saturating_sub(1);
    }

    /// Tasks that are this run's own work: all but the covered ones.
    #[must_use]
    pub const fn planned(&self) -> u64 {
        self.pending
            .saturating_add(self.open)
            .saturating_add(self.done)
            .saturating_add(self.retry_wait)
            .saturating_add(self.dead)
            .saturating_add(self.in_doubt)
            .saturating_add(self.superseded)
    }

    /// Both counts together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            pending: self.pending.saturating_add(other.pending),
            open: self.open.saturating_add(other.open),
            done: self.done.saturating_add(other.done),
            retry_wait: self.retry_wait.saturating_add(other.retry_wait),
            dead: self.dead.saturating_add(other.dead),
            in_doubt: self.in_doubt.saturating_add(other.in_doubt),
            covered: self.covered.saturating_add(other.covered),
            superseded: self.superseded.saturating_add(other.superseded),
        }
    }
}

/// A run as it stands: schema `run/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDocument {
    /// `run/v1`.
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// The form people see and type: a unique prefix, `r-71c`.
    pub short: String,
    /// Its pipeline.
    pub pipeline: PipelineName,
    /// The digest of the spec it executes.
    pub spec: DocumentDigest,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether it carries out a plan that was saved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saved_plan: bool,
    /// Why it failed or was cancelled; empty otherwise.
    pub reason: String,
    /// "Now", for everything the run does: RFC 3339.
    pub reference_time: String,
    /// When it ended: RFC 3339.
    pub ended_at: Option<String>,
    /// Whether any task committed rows.
    pub committed: bool,
    /// Tasks of all steps by state, without probes, prepares, fences and counts.
    pub tasks: TaskCounts,
    /// Rows committed and counted.
    pub rows: u64,
    /// Bytes carried by them.
    pub bytes: u64,
    /// Workers that are connected.
    pub workers: u32,
    /// Their slots.
    pub slots: u32,
    /// The step whose target is furthest behind its source, of those that go on where their last run
    /// ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagDocument>,
    /// What operators have said of it: what is paused or left out, and other limits than the file's.
    #[serde(default, skip_serializing_if = "Controls::is_empty")]
    pub controls: Controls,
    /// Its steps, in the order of the DAG.
    pub steps: Vec<StepDocument>,
}

/// How far a target is behind its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagDocument {
    /// The step.
    pub step: StepName,
    /// Since when rows may be missing.
    pub seconds: u64,
}

/// A step as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDocument {
    /// The step.
    pub step: StepName,
    /// Its strategy: `backfill`, `noop`.
    pub strategy: String,
    /// What it waits for, by name; none from a coordinator of before there was this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<EdgeDocument>,
    /// Where it stands.
    pub status: StepStatus,
    /// Why it failed or was skipped; empty otherwise.
    pub reason: String,
    /// Its tasks by state; all zero before the plan.
    pub tasks: TaskCounts,
    /// Rows committed and counted.
    pub rows: u64,
    /// Bytes carried by them.
    pub bytes: u64,
    /// Below it, every partition is committed: a position, when there is one.
    pub watermark: Option<String>,
    /// For how long rows may be missing in the target, of a step that goes on where its last run ended
    /// and whose positions are instants: what was written longer ago is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Why tasks that could run do not: `12 tasks: limit of the step, 4/4 at once`.
    pub waits: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Rows of the source that it left where they are, as they were counted at its end.
    #[serde(default)]
    pub not_loaded: Vec<String>,
    /// What its checks came to, once they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDocument>,
    /// Tasks given up, at most 20.
    pub dead: Vec<FailedTaskDocument>,
    /// Tasks that wait for their next attempt, at most 5.
    pub retrying: Vec<FailedTaskDocument>,
}

/// A step that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeDocument {
    /// The step waited for.
    pub step: StepName,
    /// What it must have come to.
    pub when: When,
    /// Whether the other one goes on where it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// What a check of a step came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDocument {
    /// The check, as it is written: `min_rows: 30`.
    pub check: String,
    /// Whether the table answered as it must.
    pub passed: bool,
    /// What it must answer: `at least 30 rows`.
    pub expected: String,
    /// What it answered: `12 rows`. Empty where its commit proves that the check passed, and the
    /// words were lost.
    pub found: String,
}

/// A task that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTaskDocument {
    /// The task.
    pub task: TaskId,
    /// What it does: its range.
    pub work: String,
    /// Attempts that counted.
    pub attempts: u32,
    /// The last error's class.
    pub class: String,
    /// The last error's code.
    pub code: String,
    /// The last error's message.
    pub message: String,
    /// Who goes on without it, and why: `by ann: the day is not needed`; empty while nobody does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accepted: String,
}

/// A run's plan: schema `plan/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// `plan/v1`.
    pub schema: String,
    /// The run it was made for.
    pub run: RunId,
    /// The form people see and type.
    pub short: String,
    /// Its pipeline.
    pub pipeline: PipelineName,
    /// The digest of the spec.
    pub spec: DocumentDigest,
    /// The plan's own digest: the same spec, parameters, reference time and facts give the same.
    pub plan: DocumentDigest,
    /// "Now", for everything the run does: RFC 3339.
    pub reference_time: String,
    /// Tasks to run.
    pub tasks: u64,
    /// Its steps, in the order of the DAG.
    pub steps: Vec<PlannedStepDocument>,
    /// Targets that are this cluster's now, when the run was one that adopts: by the name of the
    /// connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adopted: BTreeMap<ConnectionName, AdoptedDocument>,
    /// What the targets' ledgers hold, when that was all that the run asked: by step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub receipts: BTreeMap<StepName, StreamReceipts>,
    /// The exchanges that were undone, when that was all that the run asked: by step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undone: BTreeMap<StepName, Undone>,
    /// What stands beside the tables that are read, when that was all that the run asked: by step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<StepName, Vec<Beside>>,
    /// Where the steps stand in the logs that they follow, when that was all that the run asked: by
    /// step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: BTreeMap<StepName, LogStanding>,
}

/// A target that is this cluster's now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedDocument {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Whose it was; missing when it was nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<ClusterId>,
}

/// A step's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStepDocument {
    /// The step.
    pub step: StepName,
    /// Its strategy.
    pub strategy: String,
    /// Tasks to run.
    pub tasks: u64,
    /// Tasks left out, because an earlier run committed their ranges.
    pub covered: u64,
    /// Rows of the source table, exact or estimated.
    pub rows: u64,
    /// Whether `rows` was counted.
    pub rows_exact: bool,
    /// How it is cut, in words: `by day of time_hour, America/New_York, [2013-01-01, 2013-02-01)`.
    pub summary: String,
    /// The first partitions in order, at most three.
    pub first: Vec<String>,
    /// The columns that are renamed or cast, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// What should be mended or known before it runs.
    pub warnings: Vec<String>,
    /// What is left out: rows outside the declared bounds, NULLs.
    pub notes: Vec<String>,
}

/// Runs, newest first: schema `runs/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsDocument {
    /// `runs/v1`.
    pub schema: String,
    /// The runs, without their steps.
    pub runs: Vec<RunDocument>,
}

/// The cluster: schema `cluster/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDocument {
    /// `cluster/v1`.
    pub schema: String,
    /// Whose targets these are.
    pub cluster: ClusterId,
    /// Where the leader listens; empty in one process.
    pub leader: String,
    /// The leader's term: a random name, new with each.
    pub term: String,
    /// The high part of the tokens it hands out.
    pub token_hi: u64,
    /// What the store is called.
    pub store: String,
    /// Bytes it takes.
    pub store_bytes: u64,
    /// What keeps everybody waiting, such as a store without room; empty when nothing does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
    /// The workers.
    pub workers: Vec<WorkerDocument>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDocument {
    /// What it calls itself.
    pub worker: String,
    /// `ready`, `draining` or `cordoned`.
    pub state: String,
    /// Version of its program.
    pub version: String,
    /// Tasks at once.
    pub slots: u32,
    /// Tasks it has.
    pub busy: u32,
    /// Milliseconds since its last heartbeat.
    pub heartbeat_age_millis: u64,
    /// What it can run, in its own words; none from a worker or a coordinator of before these
    /// words.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// Tasks of a run: schema `tasks/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TasksDocument {
    /// `tasks/v1`.
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// The form people see and type.
    pub short: String,
    /// The tasks, by step and in their order.
    pub tasks: Vec<TaskDocument>,
    /// Whether there are more than these.
    pub more: bool,
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDocument {
    /// The task.
    pub task: TaskId,
    /// Its step.
    pub step: StepName,
    /// What it does: its range.
    pub work: String,
    /// Where it stands.
    pub state: String,
    /// Attempts so far.
    pub attempts: u32,
    /// The worker that has it; empty when none does.
    pub worker: String,
    /// Rows it committed.
    pub rows: u64,
    /// Milliseconds that the attempt which committed took.
    pub millis: u64,
    /// What the last attempt met; empty when all went well.
    pub error: String,
}

/// What happened to a run's tasks lately: schema `events/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsDocument {
    /// `events/v1`.
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// The events, oldest first. Their numbers grow within a term of the leader; what came before
    /// it is forgotten.
    pub events: Vec<EventDocument>,
}

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDocument {
    /// Its number within the leader's term.
    pub seq: u64,
    /// When: RFC 3339.
    pub at: String,
    /// The step.
    pub step: StepName,
    /// What the task does.
    pub work: String,
    /// Which attempt.
    pub attempt: u32,
    /// The worker that had it.
    pub worker: String,
    /// `assigned`, `done`, `failed`, `dead`, `released`.
    pub what: String,
    /// What the attempt met; empty when all went well.
    pub error: String,
}

/// What operators did: schema `audit/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDocument {
    /// `audit/v1`.
    pub schema: String,
    /// The actions, newest first.
    pub actions: Vec<ActionDocument>,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionDocument {
    /// Its number, which grows.
    pub number: u64,
    /// When: RFC 3339.
    pub at: String,
    /// Who: the name in the caller's certificate with `(certificate)` behind it, or else the one that
    /// the caller gave.
    pub by: String,
    /// The verb, such as `pause`.
    pub verb: String,
    /// Whose run; empty when it is about none.
    pub pipeline: String,
    /// The run, if it is about one.
    pub run: Option<RunId>,
    /// What of it.
    pub about: String,
    /// Why; empty where nobody is asked for a reason.
    pub reason: String,
}
