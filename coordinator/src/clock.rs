//! The coordinator's clocks: the only place that reads one. The monotonic one is tokio's, so that tests can hold it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A wall clock for records, and a monotonic one for deadlines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock {
    /// Time since the process started; never goes back.
    #[must_use]
    pub(crate) fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    /// When [`Clock::monotonic`] will say `at`.
    #[must_use]
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// Microseconds since 1970, as the host has it.
    #[must_use]
    pub(crate) fn wall_micros(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    /// Milliseconds since 1970, as the host has it.
    #[must_use]
    pub(crate) fn wall_millis(&self) -> i64 {
        self.wall_micros() / 1000
    }
}
