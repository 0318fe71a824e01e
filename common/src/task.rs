//! The states of a task, and the only way from one to the next.

use std::fmt;

/// Where a task stands. The number is what segments store and what pages show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// Waits for a worker. What a task without a record is.
    Pending = 0,
    /// Leased to an attempt: there is a lease record.
    Open = 1,
    /// Its completion was counted.
    Done = 2,
    /// Failed, and waits for its next attempt: there is a retry record.
    RetryWait = 3,
    /// Given up: there is a record of why.
    Dead = 4,
    /// Nobody knows whether it was done; a person must say.
    InDoubt = 5,
    /// Committed by an earlier run; not part of this one's work.
    Covered = 6,
    /// Fenced: cancelled, or replaced by its children.
    Superseded = 7,
}

impl TaskState {
    /// Every state, by number.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Open,
        Self::Done,
        Self::RetryWait,
        Self::Dead,
        Self::InDoubt,
        Self::Covered,
        Self::Superseded,
    ];

    /// The state's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state of a number, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The word for it, everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Done => "done",
            Self::RetryWait => "retry_wait",
            Self::Dead => "dead",
            Self::InDoubt => "in_doubt",
            Self::Covered => "covered",
            Self::Superseded => "superseded",
        }
    }

    /// True when nothing more happens to the task unless a person asks.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        match self {
            Self::Done | Self::Dead | Self::InDoubt | Self::Covered | Self::Superseded => true,
            Self::Pending | Self::Open | Self::RetryWait => false,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the event cannot happen to a task in this state.
    pub const fn apply(self, event: TaskEvent) -> Result<Self, IllegalTransition> {
        use {TaskEvent as E, TaskState as S};
        match (self, event) {
            (S::Pending, E::Assigned) => Ok(S::Open),  // T1
            (S::Open, E::Completed) => Ok(S::Done),    // T2
            (S::Open, E::Delayed) => Ok(S::RetryWait), // T3, T4
            (S::Open, E::Died) => Ok(S::Dead),         // T3, T4
            (S::Open, E::Doubted) => Ok(S::InDoubt),   // T3, T4 of what is not one transaction
            (S::Open, E::Released) => Ok(S::Pending),  // drained, outrun, or lost with its process
            (S::RetryWait, E::Due) => Ok(S::Pending),
            (S::Dead | S::RetryWait, E::Retried) => Ok(S::Pending), // a person asked
            (S::InDoubt, E::Confirmed) => Ok(S::Done),              // a person said so
            (S::InDoubt, E::Denied) => Ok(S::Pending),              // a person said so
            // reconcile
            (S::Pending | S::Open | S::RetryWait | S::Dead, E::FoundCommitted) => Ok(S::Done),
            (S::Done, E::FoundLost | E::Reopened) => Ok(S::Pending), // reconcile, T5
            (S::Pending | S::Open | S::RetryWait, E::Superseded) => Ok(S::Superseded),
            (
                S::Pending
                | S::Open
                | S::Done
                | S::RetryWait
                | S::Dead
                | S::InDoubt
                | S::Covered
                | S::Superseded,
                event,
            ) => Err(IllegalTransition { from: self, event }),
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// A worker got it.
    Assigned,
    /// Its attempt's completion counts.
    Completed,
    /// Its attempt failed or was lost; another follows later.
    Delayed,
    /// Its attempt failed or was lost; no other follows.
    Died,
    /// Its attempt was lost, and nobody knows whether it was done.
    Doubted,
    /// A person says that it was done.
    Confirmed,
    /// A person says that it was not done.
    Denied,
    /// Its attempt gave it back; nothing is counted.
    Released,
    /// Its wait is over.
    Due,
    /// A person asked for another try.
    Retried,
    /// The target's ledger says that it is committed.
    FoundCommitted,
    /// The target's ledger says that it is not committed after all.
    FoundLost,
    /// What it had found is no longer so.
    Reopened,
    /// Its run was cancelled, or its children own its range.
    Superseded,
}

/// An event that cannot happen to a task in that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot be {event:?}")]
pub struct IllegalTransition {
    /// The state.
    pub from: TaskState,
    /// The event.
    pub event: TaskEvent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_their_states() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_code(state.code()), Some(state));
        }
        assert_eq!(TaskState::from_code(8), None);
    }

    #[test]
    fn words_and_ends_of_states() {
        let told =
            TaskState::ALL.map(|state| (state.to_string(), state.as_str(), state.has_ended()));
        let expected = [
            ("pending", false),
            ("open", false),
            ("done", true),
            ("retry_wait", false),
            ("dead", true),
            ("in_doubt", true),
            ("covered", true),
            ("superseded", true),
        ];
        assert_eq!(
            told,
            expected.map(|(word, ended)| (word.to_owned(), word, ended))
        );
    }

    #[test]
    fn a_task_moves_along_these_ways_and_no_other() {
        use {TaskEvent as E, TaskState as S};
        let ways = [
            (S::Pending, E::Assigned, S::Open),
            (S::Pending, E::FoundCommitted, S::Done),
            (S::Pending, E::Superseded, S::Superseded),
            (S::Open, E::Completed, S::Done),
            (S::Open, E::Delayed, S::RetryWait),
            (S::Open, E::Died, S::Dead),
            (S::Open, E::Released, S::Pending),
            (S::Open, E::FoundCommitted, S::Done),
            (S::Open, E::Superseded, S::Superseded),
            (S::Done, E::FoundLost, S::Pending),
            (S::Done, E::Reopened, S::Pending),
            (S::RetryWait, E::Due, S::Pending),
            (S::RetryWait, E::Retried, S::Pending),
            (S::RetryWait, E::FoundCommitted, S::Done),
            (S::RetryWait, E::Superseded, S::Superseded),
            (S::Dead, E::Retried, S::Pending),
            (S::Dead, E::FoundCommitted, S::Done),
            (S::Open, E::Doubted, S::InDoubt),
            (S::InDoubt, E::Confirmed, S::Done),
            (S::InDoubt, E::Denied, S::Pending),
        ];
        let events = [
            E::Assigned,
            E::Completed,
            E::Delayed,
            E::Died,
            E::Doubted,
            E::Confirmed,
            E::Denied,
            E::Released,
            E::Due,
            E::Retried,
            E::FoundCommitted,
            E::FoundLost,
            E::Reopened,
            E::Superseded,
        ];
        for from in S::ALL {
            for event in events {
                let way = ways
                    .iter()
                    .find(|(state, of, _)| (*state, *of) == (from, event));
                let expected = way
                    .map(|(_, _, to)| *to)
                    .ok_or(IllegalTransition { from, event });
                assert_eq!(from.apply(event), expected, "{from}, {event:?}");
            }
        }
    }

    #[test]
    fn a_done_task_is_never_assigned_again_unless_the_target_lost_it() {
        assert!(TaskState::Done.apply(TaskEvent::Assigned).is_err());
        let reopened = TaskState::Done
            .apply(TaskEvent::FoundLost)
            .and_then(|state| state.apply(TaskEvent::Assigned));
        assert_eq!(reopened, Ok(TaskState::Open));
    }

    #[test]
    fn ended_tasks_refuse_every_event_of_an_attempt() {
        for state in TaskState::ALL.into_iter().filter(|state| state.has_ended()) {
            for event in [
                TaskEvent::Assigned,
                TaskEvent::Completed,
                TaskEvent::Delayed,
                TaskEvent::Died,
                TaskEvent::Doubted,
            ] {
                assert_eq!(
                    state.apply(event),
                    Err(IllegalTransition { from: state, event })
                );
            }
        }
    }
}
