//! The cluster in numbers, handed now and then to whoever reads them: reading takes no turn of the
//! leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::Leader;
use crate::engine::Counts;

/// How old what is told may be at the most, while something changes.
const EVERY: Duration = Duration::from_secs(5);

/// What a coordinator tells of itself; kept over its terms.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// The cluster, while this coordinator leads it.
    pub(crate) counts: watch::Sender<Option<Arc<Counts>>>,
    /// Terms that it began.
    pub(crate) terms: AtomicU64,
    /// Attempts that it counted as crashed, because their worker was silent or began anew.
    pub(crate) leases_lost: AtomicU64,
}

/// When the numbers were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    by: Arc<Telling>,
    at: Option<Duration>,
    /// Something may have changed since.
    is_stale: bool,
}

impl Told {
    pub(super) fn by(telling: Arc<Telling>) -> Self {
        Self {
            by: telling,
            ..Self::default()
        }
    }

    /// When the numbers are to be told; `None` while nothing changed, or nobody reads them.
    pub(super) fn next(&self) -> Option<Duration> {
        let is_read = self.by.counts.receiver_count() > 0;
        let at = self.at.map_or(Duration::ZERO, |at| at + EVERY);
        (is_read && self.is_stale).then_some(at)
    }

    pub(super) fn lost(&self, leases: usize) {
        let leases = u64::try_from(leases).unwrap_or(u64::MAX);
        self.by.leases_lost.fetch_add(leases, Ordering::Relaxed);
    }
}

impl Leader {
    /// Tells the numbers, if it is time.
    pub(super) fn tell_counts(&mut self) {
        self.told.is_stale = true;
        let now = self.clock.monotonic();
        if self.told.next().is_some_and(|moment| moment <= now) {
            let counts = Counts::of(&self.cluster);
            self.told.by.counts.send_replace(Some(Arc::new(counts)));
            (self.told.at, self.told.is_stale) = (Some(now), false);
        }
    }
}
