//! The named places that the matrix strikes at. Those of an attempt and of a worker's calls lie in
//! a worker, the others in a coordinator.

/// Where a cell strikes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The failpoint's name.
    pub(super) name: &'static str,
    /// Times that it passes before it strikes, so that there is progress to lose.
    pub(super) passed: u32,
    /// Failpoints that have to strike elsewhere, for the place to be come to at all.
    pub(super) with: &'static str,
    /// A single worker can be made a zombie there: it stalls past its lease, then goes on.
    pub(super) is_for_zombies: bool,
    /// A run comes to it but once, so that only the worker that is there first is sure to meet it.
    pub(super) is_single: bool,
}

impl Place {
    const fn new(name: &'static str, passed: u32) -> Self {
        Self {
            name,
            passed,
            with: "",
            is_for_zombies: false,
            is_single: false,
        }
    }

    const fn zombies(name: &'static str, passed: u32) -> Self {
        Self {
            name,
            passed,
            with: "",
            is_for_zombies: true,
            is_single: false,
        }
    }

    const fn single(name: &'static str) -> Self {
        Self {
            name,
            passed: 0,
            with: "",
            is_for_zombies: false,
            is_single: true,
        }
    }

    /// One that a run comes to again and again, in a worker that is alone until it strikes.
    const fn late(name: &'static str, passed: u32) -> Self {
        Self {
            passed,
            ..Self::single(name)
        }
    }

    const fn with(name: &'static str, passed: u32, with: &'static str) -> Self {
        Self {
            name,
            passed,
            with,
            is_for_zombies: false,
            is_single: false,
        }
    }

    /// What `FAILPOINTS` says, so that the place does `what` once, after it was passed so often.
    pub(super) fn armed(&self, passed: u32, what: &str) -> String {
        let passed = if passed == 0 {
            String::new()
        } else {
            format!("{passed}*off->")
        };
        format!("{}={passed}1*{what}", self.name)
    }
}

/// A worker with a task in hand that falls silent for longer than its session lives.
const SILENT_WORKER: &str = "attempt::before_guard@embedded-1=1*off->1*return(stall \
     4000);heartbeat::silent@embedded-1=return(stall 5000)";
/// An attempt that fails.
const FAILED_ATTEMPT: &str = "attempt::before_guard=2*off->1*return";
/// An attempt that lasts for a few heartbeats.
const LONG_ATTEMPT: &str = "attempt::before_guard=1*off->1*return(stall 1500)";
/// An assignment that never reaches its worker.
const LOST_ASSIGNMENT: &str = "pull::after=3*off->1*return";

/// Places of an attempt.
pub(super) const ATTEMPT: [Place; 15] = [
    Place::single("attempt::before_probe"),
    Place::single("attempt::after_probe"),
    Place::single("attempt::prepare"),
    Place::single("attempt::after_prepare"),
    Place::zombies("attempt::before_claim", 3),
    Place::zombies("attempt::after_claim", 3),
    Place::zombies("attempt::after_begin", 3),
    Place::zombies("attempt::reading", 5),
    Place::zombies("attempt::before_guard", 3),
    Place::zombies("attempt::before_commit", 3),
    Place::zombies("attempt::after_commit", 3),
    Place::new("commit_before", 3),
    Place::new("commit_answer_lost", 3),
    Place::single("attempt::before_count"),
    Place::single("attempt::before_close"),
];

/// Places of a refresh, whose work is one task.
pub(super) const REFRESH: [Place; 16] = [
    Place::single("attempt::before_probe"),
    Place::single("attempt::after_probe"),
    Place::single("attempt::prepare"),
    Place::single("attempt::after_prepare"),
    Place::single("attempt::before_claim"),
    Place::single("claim::marked"),
    Place::single("claim::committed"),
    Place::single("attempt::after_claim"),
    Place::single("attempt::after_begin"),
    Place::single("attempt::reading"),
    Place::single("attempt::before_guard"),
    Place::single("attempt::before_commit"),
    Place::single("commit_before"),
    Place::single("commit_answer_lost"),
    Place::single("attempt::after_commit"),
    Place::single("attempt::before_close"),
];

/// Places of a refresh whose rows wait beside until all are there.
pub(super) const STAGED: [Place; 10] = [
    Place::single("attempt::after_claim"),
    Place::single("attempt::after_stage"),
    Place::single("attempt::after_snapshot"),
    Place::late("attempt::before_piece", 5),
    Place::single("attempt::reading"),
    Place::single("attempt::after_begin"),
    Place::single("attempt::before_guard"),
    Place::single("commit_before"),
    Place::single("commit_answer_lost"),
    Place::single("attempt::after_commit"),
];

/// Places of a swap: of its loads, of the building, and of the task that publishes, which is behind
/// all loads.
pub(super) const SWAP: [Place; 16] = [
    Place::single("attempt::prepare"),
    Place::single("attempt::after_prepare"),
    Place::late("attempt::before_claim", 3),
    Place::late("attempt::before_guard", 3),
    Place::late("attempt::before_commit", 3),
    Place::late("attempt::after_commit", 3),
    Place::single("attempt::before_count"),
    Place::single("attempt::before_build"),
    Place::single("attempt::after_build"),
    Place::late("attempt::before_claim", LOADS),
    Place::late("attempt::after_begin", LOADS),
    Place::late("attempt::before_guard", LOADS),
    Place::late("commit_before", LOADS),
    Place::late("commit_answer_lost", LOADS),
    Place::late("attempt::after_commit", LOADS),
    Place::single("attempt::before_close"),
];
/// Places of the publish of a swap in place, behind all loads.
pub(super) const IN_PLACE: [Place; 7] = [
    Place::late("attempt::before_claim", LOADS),
    Place::late("attempt::after_begin", LOADS),
    Place::late("attempt::before_guard", LOADS),
    Place::late("commit_before", LOADS),
    Place::late("commit_answer_lost", LOADS),
    Place::late("attempt::after_commit", LOADS),
    Place::single("attempt::before_close"),
];
/// Places around and within the building of a table that the step has made.
pub(super) const TWIN: [Place; 9] = [
    Place::single("attempt::prepare"),
    Place::single("attempt::after_prepare"),
    Place::single("attempt::before_count"),
    Place::single("attempt::before_build"),
    Place::late("build::before_part", 1),
    Place::single("build::before_key"),
    Place::single("build::before_finish"),
    Place::single("attempt::after_build"),
    Place::single("attempt::before_close"),
];
/// Places of a window, which one task loads chunk by chunk.
pub(super) const WINDOW: [Place; 13] = [
    Place::single("attempt::before_probe"),
    Place::single("attempt::after_probe"),
    Place::single("attempt::prepare"),
    Place::single("attempt::after_prepare"),
    Place::single("attempt::after_claim"),
    Place::late("attempt::after_begin", 3),
    Place::late("attempt::before_guard", 3),
    Place::late("attempt::before_commit", 3),
    Place::late("commit_before", 3),
    Place::late("commit_answer_lost", 3),
    Place::late("attempt::after_commit", 3),
    Place::late("attempt::between_chunks", 3),
    Place::single("attempt::before_close"),
];
/// Places of the comparison of the keys, which is behind the window and the rows without a position.
pub(super) const DELETES: [Place; 8] = [
    Place::late("attempt::before_claim", 2),
    Place::late("attempt::after_begin", 2),
    Place::late("attempt::between_ranges", 0),
    Place::late("attempt::before_guard", 2),
    Place::late("commit_before", 2),
    Place::late("commit_answer_lost", 2),
    Place::late("attempt::after_commit", 2),
    Place::single("attempt::before_close"),
];
/// Places around the cutting of a table by its key, and of the loads of what was cut.
pub(super) const CUT: [Place; 8] = [
    Place::single("attempt::before_probe"),
    Place::single("attempt::after_probe"),
    Place::single("attempt::prepare"),
    Place::single("attempt::after_prepare"),
    Place::late("attempt::after_claim", 3),
    Place::late("attempt::before_guard", 3),
    Place::late("commit_answer_lost", 3),
    Place::late("attempt::after_commit", 3),
];
/// The tasks that load.
const LOADS: u32 = super::bench::PARTITIONS as u32;

/// Places between the statements of a claim.
pub(super) const CLAIM: [Place; 3] = [
    Place::new("claim::marked", 3),
    Place::new("claim::raised", 3),
    Place::new("claim::committed", 3),
];

/// Places between the statements of a cancel's fence.
pub(super) const FENCE: [Place; 2] = [
    Place::new("fence::marked", 0),
    Place::new("fence::committed", 0),
];

/// Places that a newer run comes to before its first row: around and between the statements that
/// take the stream from an older one, and in its first claim.
pub(super) const NEWER_RUN: [Place; 8] = [
    Place::new("attempt::prepare", 0),
    Place::new("stream::taken", 0),
    Place::new("stream::runs_fenced", 0),
    Place::new("stream::tasks_fenced", 0),
    Place::new("stream::committed", 0),
    Place::new("attempt::after_prepare", 0),
    Place::new("claim::marked", 0),
    Place::new("claim::raised", 0),
];

/// Places around a worker's calls.
pub(super) const CALLS: [Place; 8] = [
    Place::new("register::before", 1),
    Place::new("register::after", 1),
    Place::new("pull::before", 4),
    Place::new("pull::after", 4),
    Place::with("heartbeat::before", 0, LONG_ATTEMPT),
    Place::with("heartbeat::after", 0, LONG_ATTEMPT),
    Place::zombies("complete::before", 5),
    Place::new("complete::after", 5),
];

/// Places around the coordinator's transactions of tasks.
pub(super) const TASKS: [Place; 12] = [
    Place::new("t0::before", 0),
    Place::new("t0::after", 0),
    Place::new("t1::before", 4),
    Place::new("t1::after", 4),
    Place::new("t2::before", 4),
    Place::new("t2::after", 4),
    Place::with("t3::before", 0, FAILED_ATTEMPT),
    Place::with("t3::after", 0, FAILED_ATTEMPT),
    Place::with("t4::before", 0, SILENT_WORKER),
    Place::with("t4::after", 0, SILENT_WORKER),
    Place::with("release::before", 0, LOST_ASSIGNMENT),
    Place::with("release::after", 0, LOST_ASSIGNMENT),
];

/// Places around its transactions of other records.
pub(super) const RECORDS: [Place; 14] = [
    Place::new("spec_parts::before", 0),
    Place::new("spec_parts::after", 0),
    Place::new("run_begun::before", 0),
    Place::new("run_begun::after", 0),
    Place::new("worker_record::before", 0),
    Place::new("worker_record::after", 0),
    Place::new("plan_parts::before", 0),
    Place::new("plan_parts::after", 0),
    Place::new("run_record::before", 0),
    Place::new("run_record::after", 0),
    Place::new("run_record::before", 1),
    Place::new("run_record::after", 1),
    Place::new("step_record::before", 0),
    Place::new("step_record::after", 0),
];
