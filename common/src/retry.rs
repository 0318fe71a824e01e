//! What happens after a failed attempt: one total function of the error's class, the task's history
//! and the step's policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::assignment::ErrorClass;
use crate::spec::RetryPolicy;

/// Crashes of a task that quarantine it, once they met [`QUARANTINE_WORKERS`].
pub const QUARANTINE_CRASHES: u32 = 3;
/// Different workers among those crashes: one broken worker must not condemn a healthy task.
pub const QUARANTINE_WORKERS: u32 = 2;
/// Connections that may break under a task's attempts before such attempts count: a row that makes
/// its server crash must not be tried for ever.
pub const BREAKS_MAX: u32 = 16;

/// What a task has behind it, the attempt that just failed included. Attempts that were released or
/// superseded count nowhere: they say nothing about the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryHistory {
    /// Attempts that failed or crashed.
    pub attempts: u32,
    /// Attempts whose worker died or fell silent.
    pub crashes: u32,
    /// Different workers among them.
    pub crashed_workers: u32,
}

/// What becomes of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is attempted again, not before this time has passed.
    Retry {
        /// How long it waits.
        after: Duration,
    },
    /// It is dead, with the error that it had.
    Dead,
    /// It is dead, with [`CrashesItsWorkers`](crate::error_code::ErrorCode::CrashesItsWorkers): it seems to kill the workers that take it.
    Quarantine,
}

/// Whether a failed attempt is one of `retries.max_attempts`. One that has committed a part of its
/// task, and then met what passes, is not: the next one goes on behind it, so that a task comes to
/// its end after so many of them, as after so many chunks.
#[must_use]
pub const fn counts(class: ErrorClass, has_committed: bool) -> bool {
    match class {
        ErrorClass::Transient | ErrorClass::Resource | ErrorClass::Unreachable => !has_committed,
        ErrorClass::Permanent | ErrorClass::Crash => true,
    }
}

/// Decides about a task whose attempt failed and counted; one that only could not reach a
/// connection counts when nobody knows which, or once it has broken [`BREAKS_MAX`] of them.
/// `jitter` is a random number in [0, 1); another one is moved into that range.
#[must_use]
pub fn decide(
    class: ErrorClass,
    history: &RetryHistory,
    policy: &RetryPolicy,
    jitter: f64,
) -> RetryDecision {
    let is_spent = history.attempts >= policy.max_attempts;
    let kills =
        history.crashes >= QUARANTINE_CRASHES && history.crashed_workers >= QUARANTINE_WORKERS;
    match class {
        ErrorClass::Permanent => RetryDecision::Dead,
        ErrorClass::Crash if kills || is_spent => RetryDecision::Quarantine,
        ErrorClass::Transient | ErrorClass::Resource | ErrorClass::Unreachable if is_spent => {
            RetryDecision::Dead
        }
        ErrorClass::Transient
        | ErrorClass::Resource
        | ErrorClass::Unreachable
        | ErrorClass::Crash => RetryDecision::Retry {
            after: backoff(history.attempts, policy, jitter),
        },
    }
}

/// Full jitter: anything from nothing up to the ceiling, which doubles from attempt to attempt. So
/// attempts that failed together do not come back together.
fn backoff(attempts: u32, policy: &RetryPolicy, jitter: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let ceiling = policy
        .initial
        .saturating_mul(1 << doublings)
        .min(policy.max);
    let share = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        1.0
    };
    // Through nanoseconds and a saturating cast, because multiplying a huge duration by a float
    // would panic.
    Duration::from_nanos((ceiling.as_nanos() as f64 * share) as u64).min(ceiling)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLASSES: [ErrorClass; 5] = [
        ErrorClass::Transient,
        ErrorClass::Resource,
        ErrorClass::Permanent,
        ErrorClass::Unreachable,
        ErrorClass::Crash,
    ];

    fn history(attempts: u32, crashes: u32, crashed_workers: u32) -> RetryHistory {
        RetryHistory {
            attempts,
            crashes,
            crashed_workers,
        }
    }

    #[test]
    fn waits_double_up_to_their_ceiling() {
        let policy = RetryPolicy {
            max_attempts: 100,
            ..RetryPolicy::default()
        };
        let seconds = |attempts| match decide(
            ErrorClass::Transient,
            &history(attempts, 0, 0),
            &policy,
            1.0,
        ) {
            RetryDecision::Retry { after } => after.as_secs(),
            other @ (RetryDecision::Dead | RetryDecision::Quarantine) => {
                panic!("a retry, not {other:?}")
            }
        };
        assert_eq!([1, 2, 3, 9, 10, 99].map(seconds), [1, 2, 4, 256, 300, 300]);
        let none = decide(ErrorClass::Resource, &history(9, 0, 0), &policy, 0.0);
        assert_eq!(
            none,
            RetryDecision::Retry {
                after: Duration::ZERO
            }
        );
    }

    #[test]
    fn a_permanent_error_is_never_tried_again() {
        let decision = decide(
            ErrorClass::Permanent,
            &history(1, 0, 0),
            &RetryPolicy::default(),
            0.5,
        );
        assert_eq!(decision, RetryDecision::Dead);
    }

    #[test]
    fn a_failure_after_a_commit_counts_as_no_attempt_unless_it_will_come_again() {
        for class in CLASSES {
            let is_lasting = matches!(class, ErrorClass::Permanent | ErrorClass::Crash);
            assert!(counts(class, false), "{class}");
            assert_eq!(counts(class, true), is_lasting, "{class}");
        }
    }

    #[test]
    fn three_crashes_on_two_workers_quarantine_a_task() {
        let policy = RetryPolicy::default();
        let after = |attempts, crashes, workers| {
            decide(
                ErrorClass::Crash,
                &history(attempts, crashes, workers),
                &policy,
                0.5,
            )
        };
        assert!(
            matches!(after(3, 3, 1), RetryDecision::Retry { .. }),
            "one worker alone may be what is broken"
        );
        assert!(matches!(after(3, 2, 2), RetryDecision::Retry { .. }));
        assert_eq!(after(3, 3, 2), RetryDecision::Quarantine);
        assert_eq!(after(5, 5, 1), RetryDecision::Quarantine);
        // Crashes that lie behind do not condemn a task that now fails for another reason.
        let other = decide(ErrorClass::Transient, &history(4, 3, 2), &policy, 0.5);
        assert!(matches!(other, RetryDecision::Retry { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_task_ends_and_no_wait_passes_the_ceiling(
            class in 0..5usize,
            (attempts, crashes, crashed_workers) in any::<(u32, u32, u32)>(),
            (max_attempts, initial, max) in (any::<u32>(), any::<u64>(), any::<u64>()),
            jitter in any::<f64>(),
        ) {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            let policy = RetryPolicy { max_attempts, initial, max, ..RetryPolicy::default() };
            match decide(CLASSES[class], &history(attempts, crashes, crashed_workers), &policy, jitter) {
                RetryDecision::Retry { after } => prop_assert!(attempts < max_attempts && after <= policy.max),
                RetryDecision::Dead => prop_assert!(CLASSES[class] != ErrorClass::Crash),
                RetryDecision::Quarantine => prop_assert!(CLASSES[class] == ErrorClass::Crash),
            }
        }
    }
}
