//! How long a worker waits before it asks again: longer each time, and never as long as the others
//! that were refused with it.

use std::time::Duration;

use rand::RngExt;

/// The longest first wait.
const FIRST_MAX: Duration = Duration::from_millis(200);
/// The longest wait of all.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// From this one on it is asked for so long that whoever is to end need not ask on.
const LONG: Duration = Duration::from_millis(1_600);

/// The waits of one caller between two answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { most: FIRST_MAX }
    }
}

impl Backoff {
    /// The next wait: any time up to a ceiling that doubles. Thousands of workers lose their
    /// coordinator in one moment; were they to wait for the same time they would come back in one
    /// moment, too, again and again.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.most.mul_f64(rand::rng().random_range(0.0..1.0));
        self.most = (self.most * 2).min(WAIT_MAX);
        wait
    }

    /// Whether it was asked in vain for long.
    pub(crate) fn is_long(&self) -> bool {
        self.most > LONG
    }
}
