//! What the store holds, as domain types. Their bytes are the business of `highwater_proto`.

use std::collections::{BTreeMap, BTreeSet};

use crate::assignment::AttemptError;
use crate::check::CheckAnswer;
use crate::controls::{Controls, Hold};
use crate::errand::Errand;
use crate::id::{
    AttemptNo, ClusterId, DocumentDigest, PipelineName, RunId, SessionId, StepName, WorkerId,
};
use crate::schedule::Standing;
use crate::status::{RunStatus, StepStatus};
use crate::token::Fence;
use crate::trace::TraceParent;

/// The largest value of one record, in bytes; segments may be twice as large.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;

/// `fmt`: whose store this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRecord {
    /// The cluster.
    pub cluster: ClusterId,
}

/// `leader`: who leads. Every transaction of a term compares its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderRecord {
    /// 128 random bits, new with each term.
    pub term: [u8; 16],
    /// Where the leader listens.
    pub address: String,
}

/// What is wanted of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunIntent {
    /// A plan, and no more.
    Plan,
    /// Everything.
    Run,
    /// Nothing any more.
    Cancel,
}

/// `run/<run>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The spec it executes.
    pub spec_digest: DocumentDigest,
    /// In how many parts the spec is stored.
    pub spec_parts: u32,
    /// The folder that relative paths of the pipeline mean.
    pub base_dir: String,
    /// "Now", for everything the run does, in microseconds since 1970.
    pub reference_time_micros: i64,
    /// What is wanted.
    pub intent: RunIntent,
    /// Where it stands.
    pub status: RunStatus,
    /// Which plan; 0 while there is none.
    pub generation: u32,
    /// In how many parts the plan is stored.
    pub plan_parts: u32,
    /// The plan's digest, once there is one.
    pub plan_digest: Option<DocumentDigest>,
    /// When it ended, in microseconds since 1970.
    pub ended_micros: Option<i64>,
    /// Why it failed or was cancelled.
    pub reason: String,
    /// Whether any of its tasks committed rows.
    pub committed: bool,
    /// Whether its probes take over the targets that belong to another cluster.
    pub adopts: bool,
    /// What its probes ask of the targets' ledgers; such a run plans nothing.
    pub errand: Option<Errand>,
    /// Whether it carries out a plan that was saved: that one, or none.
    pub is_saved: bool,
    /// What operators have said of it.
    pub controls: Controls,
    /// The span that began it: what is done for the run belongs to its trace, whoever leads by then.
    pub trace: Option<TraceParent>,
}

/// `step/<run>/<generation>/<step>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// Where it stands.
    pub status: StepStatus,
    /// Why it failed or was skipped.
    pub reason: String,
    /// What its prepare task warned of.
    pub warnings: Vec<String>,
    /// The rows that it left where they are, as they were counted at its end.
    pub not_loaded: Vec<String>,
    /// Which life of which server its target was when it was prepared last; empty until then.
    pub fingerprint: String,
    /// How often the target turned out to be another one, or to have lost commits.
    pub setbacks: u32,
    /// How many tasks were opened again because the target had lost their commits.
    pub tasks_lost: u64,
    /// What its checks came to, in their order; none until they were made.
    pub checks: Vec<CheckAnswer>,
}

/// Where a task stands within its run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskAddress {
    /// The step.
    pub step: StepName,
    /// The plan; 0 for what comes before and after one.
    pub generation: u32,
    /// The phase: its place in the step's plan; of generation 0, in
    /// [`PhaseKind::OF_NO_PLAN`](crate::plan::PhaseKind::OF_NO_PLAN).
    pub phase: u8,
    /// The place within the phase: the segment's number times 1024, and the index in it.
    pub ordinal: u64,
}

/// What earlier attempts of a task met, as far as the next one needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskHistory {
    /// Attempts that were lost without an answer.
    pub crashes: u32,
    /// On which workers.
    pub crashed_on: BTreeSet<WorkerId>,
    /// Workers on which an attempt failed for a reason that another worker may not meet, the latest
    /// last.
    pub failed_on: Vec<WorkerId>,
    /// Connections that broke while an attempt was using them.
    pub breaks: u32,
    /// Rows that the task had committed, in chunks, when an attempt of it last failed.
    pub committed_rows: u64,
}

/// `att/<run>/<task>`: a task lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Which task.
    pub address: TaskAddress,
    /// Which attempt of it.
    pub attempt: AttemptNo,
    /// The attempt's fence.
    pub fence: Fence,
    /// The worker that has it.
    pub worker: WorkerId,
    /// That worker's session.
    pub session: SessionId,
    /// What earlier attempts met.
    pub history: TaskHistory,
}

/// `retry/<run>/<task>`: what an attempt left behind for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRecord {
    /// Which task.
    pub address: TaskAddress,
    /// Attempts that counted so far.
    pub attempts: u32,
    /// What the attempts so far met.
    pub history: TaskHistory,
    /// When the next attempt may begin, in milliseconds since 1970 by the leader's clock: liveness
    /// only.
    pub not_before_millis: i64,
    /// What the last attempt met.
    pub error: AttemptError,
}

/// `dead/<run>/<task>`: why a task was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRecord {
    /// Which task.
    pub address: TaskAddress,
    /// Attempts that counted.
    pub attempts: u32,
    /// What it does, for people.
    pub work: String,
    /// What the last attempt met.
    pub error: AttemptError,
    /// Who goes on without it, and why: `by ann: the day is not needed`. Empty while nobody does.
    pub accepted: String,
}

/// `worker/<id>`: a worker and its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecord {
    /// Its session.
    pub session: SessionId,
    /// Tasks at once.
    pub slots: u32,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// Version of its program.
    pub version: String,
    /// Whether it holds no-op tasks.
    pub allow_noop: bool,
    /// Whether it gets no new tasks.
    pub cordoned: bool,
    /// What it can run, in its own words; see [`crate::capability`].
    pub capabilities: BTreeSet<String>,
}

/// `schedule/<pipeline>`: a pipeline that runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// The spec that its runs execute; the times stand in it.
    pub spec_digest: DocumentDigest,
    /// In how many parts the spec is stored.
    pub spec_parts: u32,
    /// The folder that relative paths of the pipeline mean.
    pub base_dir: String,
    /// Who gave it to the cluster, when and why.
    pub set: Hold,
    /// Who holds it back, if anybody does.
    pub paused: Option<Hold>,
    /// How far it is decided.
    pub standing: Standing,
    /// The latest run that it began.
    pub last_run: Option<ScheduledRun>,
}

/// A run that a schedule began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledRun {
    /// The run.
    pub run: RunId,
    /// The instant that it is for, in microseconds since 1970.
    pub instant_micros: i64,
}

/// `audit/<number>`: what an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When, in microseconds since 1970 by the leader's clock.
    pub at_micros: i64,
    /// Who, as far as it is known.
    pub by: String,
    /// The verb, such as `pause`.
    pub verb: String,
    /// Whose run, or empty.
    pub pipeline: Option<PipelineName>,
    /// The run, if it is about one.
    pub run: Option<RunId>,
    /// What of it, for people.
    pub about: String,
    /// Why.
    pub reason: String,
}
