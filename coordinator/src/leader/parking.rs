//! Pulls that wait for work, by whose they are and by how long they wait still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_common::id::SessionId;

use super::reply::{Granted, Reply};
use crate::engine::Seat;

/// A pull that waits for work.
pub(super) struct Parked {
    pub(super) session: SessionId,
    pub(super) free: u32,
    pub(super) until: Duration,
    pub(super) reply: Reply<Vec<Granted>>,
}

/// The pulls that wait: one a session at the most.
#[derive(Default)]
pub(super) struct Parking {
    pulls: BTreeMap<SessionId, Parked>,
    by_end: BTreeSet<(Duration, SessionId)>,
}

impl Parking {
    /// A pull begins to wait. An earlier one of its session is let go: a worker has one pull, and
    /// the later one counts.
    pub(super) fn park(&mut self, parked: Parked) {
        self.take(&parked.session);
        self.by_end.insert((parked.until, parked.session));
        self.pulls.insert(parked.session, parked);
    }

    /// The pull of a session waits no longer.
    pub(super) fn take(&mut self, session: &SessionId) -> Option<Parked> {
        let parked = self.pulls.remove(session)?;
        self.by_end.remove(&(parked.until, *session));
        Some(parked)
    }

    /// A pull that has waited long enough, if there is one.
    pub(super) fn take_ended(&mut self, now: Duration) -> Option<Parked> {
        let (until, session) = *self.by_end.first()?;
        if until <= now {
            self.take(&session)
        } else {
            None
        }
    }

    /// When the first has waited long enough.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.by_end.first().map(|(until, _)| *until)
    }

    /// The seats of those whose caller is still there; the others are let go.
    pub(super) fn seats(&mut self) -> Vec<Seat> {
        let gone: Vec<SessionId> = self
            .pulls
            .values()
            .filter(|parked| parked.reply.is_closed())
            .map(|parked| parked.session)
            .collect();
        for session in gone {
            self.take(&session);
        }
        self.pulls
            .values()
            .map(|parked| Seat {
                session: parked.session,
                free: parked.free,
            })
            .collect()
    }
}
