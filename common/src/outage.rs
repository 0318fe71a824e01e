//! When a connection that cannot be reached is asked again, and when it is given up: a breaker,
//! decided without a clock.
//!
//! Reachability is a state of a connection and not of a task. While a connection is away its tasks
//! are held back, no attempt of theirs is counted, and one task at a time asks whether it is back.
//! Idea: the circuit breaker of M. Nygard, "Release It!" (2007); the trial request of its half-open
//! state is one real task.

use std::time::Duration;

use crate::error_code::ErrorCode;

/// The first wait's ceiling.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Every wait's ceiling.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Whether an error of this code broke an attempt off in the middle. What could not even be opened
/// says nothing about the task.
#[must_use]
pub fn breaks_an_attempt(code: &str) -> bool {
    [
        ErrorCode::ConnectionLost,
        ErrorCode::SessionEnded,
        ErrorCode::Silent,
    ]
    .iter()
    .any(|breaking| breaking.as_str() == code)
}

/// A connection that could not be reached. Moments are milliseconds of the caller's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    since_millis: i64,
    asks_at_millis: i64,
    asked: u32,
}

/// What an outage means for a task that needs the connection.
///
/// The larger one counts for a task that needs several connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Nothing of it is away.
    Open,
    /// The outage has lasted too long: the task goes, and dies if the connection is still away.
    GivenUp,
    /// One task may ask whether the connection is back.
    MayAsk,
    /// It waits.
    Held,
}

impl Outage {
    /// An outage that was noticed now. `jitter` is a random number in [0, 1).
    #[must_use]
    pub fn begin(now_millis: i64, jitter: f64) -> Self {
        let outage = Self {
            since_millis: now_millis,
            asks_at_millis: now_millis,
            asked: 0,
        };
        outage.waiting(now_millis, jitter)
    }

    /// The outage after it was asked in vain.
    #[must_use]
    pub fn asked_in_vain(self, now_millis: i64, jitter: f64) -> Self {
        let asked = self.asked.saturating_add(1);
        Self { asked, ..self }.waiting(now_millis, jitter)
    }

    fn waiting(self, now_millis: i64, jitter: f64) -> Self {
        let ceiling = FIRST_WAIT
            .saturating_mul(1 << self.asked.min(16))
            .min(WAIT_MAX);
        let share = if jitter.is_finite() {
            jitter.clamp(0.0, 1.0)
        } else {
            1.0
        };
        // At least half of the ceiling, so that a server which comes back is not met by everybody
        // at once, nor asked in vain.
        let wait = ceiling.mul_f64(0.5 + share / 2.0);
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Self {
            asks_at_millis: now_millis.saturating_add(wait),
            ..self
        }
    }

    /// What it means now for a task whose step gives an outage up after `limit`, `None` for never.
    /// `is_asking`: another task is on its way to find out.
    #[must_use]
    pub fn gate(&self, now_millis: i64, limit: Option<Duration>, is_asking: bool) -> Gate {
        if limit.is_some_and(|limit| self.lasted(now_millis) >= limit) {
            Gate::GivenUp
        } else if is_asking || now_millis < self.asks_at_millis {
            Gate::Held
        } else {
            Gate::MayAsk
        }
    }

    /// How long it has lasted. A clock that was put back makes it shorter, never negative.
    #[must_use]
    pub fn lasted(&self, now_millis: i64) -> Duration {
        Duration::from_millis(
            u64::try_from(now_millis.saturating_sub(self.since_millis)).unwrap_or(0),
        )
    }

    /// How long until it is asked again.
    #[must_use]
    pub fn asks_in(&self, now_millis: i64) -> Duration {
        Duration::from_millis(
            u64::try_from(self.asks_at_millis.saturating_sub(now_millis)).unwrap_or(0),
        )
    }

    /// The moment from when it may be asked again.
    #[must_use]
    pub const fn asks_at_millis(&self) -> i64 {
        self.asks_at_millis
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut outage = Outage::begin(0, 1.0);
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(outage.asks_in(0).as_millis());
            outage = outage.asked_in_vain(0, 1.0);
        }
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(Outage::begin(0, 0.0).asks_in(0).as_millis(), 500);
    }

    #[test]
    fn one_task_asks_when_it_is_time_and_nobody_else_does() {
        let hour = Some(Duration::from_secs(3600));
        let outage = Outage::begin(10_000, 1.0);
        assert_eq!(outage.gate(10_999, hour, false), Gate::Held);
        assert_eq!(outage.gate(11_000, hour, false), Gate::MayAsk);
        assert_eq!(outage.gate(11_000, hour, true), Gate::Held);
        assert_eq!(outage.gate(10_000 + 3_600_000, hour, true), Gate::GivenUp);
        assert_eq!(outage.gate(i64::MAX, None, false), Gate::MayAsk);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_outage_is_asked_without_pause_and_each_is_asked_again_within_half_a_minute(
            now in any::<i64>(), jitter in any::<f64>(), rounds in 0..40_u32,
        ) {
            let mut outage = Outage::begin(now, jitter);
            for _ in 0..rounds {
                outage = outage.asked_in_vain(now, jitter);
            }
            let wait = outage.asks_in(now);
            prop_assert!(wait <= WAIT_MAX);
            prop_assert!(now > i64::MAX - 30_000 || wait >= FIRST_WAIT / 2);
            prop_assert_eq!(outage.lasted(now), Duration::ZERO);
        }
    }
}
