//! The coordinator's clocks: the only place that reads one. The monotonic one is tokio's, so that
//! tests can hold it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_runtime::failpoint;
use tokio::time::Instant;

/// A wall clock for records, and a monotonic one for deadlines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    wall: Wall,
    /// How far a test puts the wall clock forward.
    ahead: Duration,
}

/// Where the wall clock's time comes from.
#[derive(Debug, Clone, Copy)]
enum Wall {
    /// The host.
    Host,
    /// The monotonic clock: a simulation holds both at once.
    #[cfg(test)]
    Simulated,
}

/// When simulated time begins, in microseconds since 1970.
#[cfg(test)]
const SIMULATED_START_MICROS: u64 = 1_700_000_000_000_000;

impl Default for Clock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            wall: Wall::Host,
            ahead: Duration::from_millis(failpoint::number_at("clock::ahead")),
        }
    }
}

impl Clock {
    /// A clock whose times all follow tokio's, which a test can hold.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn simulated() -> Self {
        Self {
            started: Instant::now(),
            wall: Wall::Simulated,
            ahead: Duration::ZERO,
        }
    }

    /// Time since the clock was made; never goes back.
    #[must_use]
    pub(crate) fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    /// When [`Clock::monotonic`] will say `at`.
    #[must_use]
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// Microseconds since 1970.
    #[must_use]
    pub(crate) fn wall_micros(&self) -> i64 {
        let since = match self.wall {
            Wall::Host => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            #[cfg(test)]
            Wall::Simulated => Duration::from_micros(SIMULATED_START_MICROS) + self.monotonic(),
        };
        i64::try_from((since + self.ahead).as_micros()).unwrap_or(i64::MAX)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub(crate) fn wall_millis(&self) -> i64 {
        self.wall_micros() / 1000
    }
}
