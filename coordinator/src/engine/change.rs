//! What a store transaction is to do to single tasks.

use highwater_common::id::{RunId, TaskId};
use highwater_common::record::{DeadRecord, LeaseRecord, RetryRecord, TaskAddress};
use highwater_common::segment::TaskResult;
use highwater_common::task::TaskEvent;

/// One task's way from one state to the next, with the records that come and go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Where it stands.
    pub address: TaskAddress,
    /// What happens.
    pub kind: ChangeKind,
}

/// What happens to a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChangeKind {
    /// T1: a lease is put. Out of `retry_wait`, its record goes.
    Assign(LeaseRecord),
    /// T2: the lease goes, the result stays.
    Complete(TaskResult),
    /// T3, T4: the lease goes, a retry record comes.
    Delay(RetryRecord),
    /// T3, T4: the lease goes, a dead record comes.
    Die(DeadRecord),
    /// T3, T4 of what is not one transaction: the lease goes, a dead record comes, which waits for a
    /// person.
    Doubt(DeadRecord),
    /// A person said whether it was done: the dead record goes.
    Resolve {
        /// Whether it was.
        applied: bool,
        /// How the person knows.
        reason: String,
    },
    /// A person goes on without a task that was given up: it stays dead, and counts no more.
    Accept(DeadRecord),
    /// The lease goes, nothing stays.
    Release,
    /// T5: the lease of a prepare goes, and with it the plan: another generation of the step
    /// follows.
    Supersede,
    /// T5: a probe that is done is to be done again.
    Reopen,
    /// T6: what was done is to be done again, because the target has lost it.
    FindLost,
    /// A person asked: a dead or waiting task is pending again, with no attempt counted.
    Revive,
}

impl ChangeKind {
    /// The events that lead from the old state to the new one.
    #[must_use]
    pub(crate) const fn events(&self, waits: bool) -> &'static [TaskEvent] {
        match self {
            Self::Assign(_) if waits => &[TaskEvent::Due, TaskEvent::Assigned],
            Self::Assign(_) => &[TaskEvent::Assigned],
            Self::Complete(_) => &[TaskEvent::Completed],
            Self::Delay(_) => &[TaskEvent::Delayed],
            Self::Die(_) => &[TaskEvent::Died],
            Self::Doubt(_) => &[TaskEvent::Doubted],
            Self::Resolve { applied: true, .. } => &[TaskEvent::Confirmed],
            Self::Resolve { applied: false, .. } => &[TaskEvent::Denied],
            Self::Accept(_) => &[],
            Self::Release => &[TaskEvent::Released],
            Self::Supersede => &[TaskEvent::Superseded],
            Self::Reopen => &[TaskEvent::Reopened],
            Self::FindLost => &[TaskEvent::FoundLost],
            Self::Revive => &[TaskEvent::Retried],
        }
    }
}
