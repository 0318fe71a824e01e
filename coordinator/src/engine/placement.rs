//! Who may get a task: which workers a step asks for, which of them have a free slot, and whom a
//! task that failed avoids.

use std::collections::BTreeMap;

use highwater_common::capability::Capabilities;
use highwater_common::id::{ConnectionName, SessionId, WorkerId};
use highwater_common::spec::{Connection, Step};

use super::view::{Cluster, Session};

/// A parked pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Whose.
    pub session: SessionId,
    /// Slots without a task.
    pub free: u32,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// What a step asks of the workers that get its tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand<'a> {
    /// They can do this.
    pub(super) needs: Capabilities,
    /// They carry these labels.
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl<'a> Demand<'a> {
    pub(super) fn of(step: &'a Step, connections: &BTreeMap<ConnectionName, Connection>) -> Self {
        Self {
            needs: Capabilities::of_step(step, connections),
            labels: &step.labels,
        }
    }

    /// The same, wherever the labels are: what no worker that carries them is there for.
    pub(super) fn anywhere(self, cluster: &Cluster) -> Self {
        let carried = cluster
            .sessions
            .values()
            .any(|session| self.is_met_by(cluster, session));
        if carried {
            self
        } else {
            Self {
                labels: &NO_LABELS,
                ..self
            }
        }
    }

    /// Whether the worker could do the work, if it took any.
    pub(super) fn is_met_by(&self, cluster: &Cluster, session: &Session) -> bool {
        session.capabilities().hold(self.needs) && carries(cluster, session, self.labels)
    }
}

/// Whether a worker carries all of these labels. Where one machine is all there is, each of its
/// workers carries every one.
pub(super) fn carries(
    cluster: &Cluster,
    session: &Session,
    labels: &BTreeMap<String, String>,
) -> bool {
    cluster.is_one_machine
        || labels
            .iter()
            .all(|(key, value)| session.record.labels.get(key) == Some(value))
}

/// The parked pulls of workers that take work.
#[derive(Debug)]
pub(super) struct Placement<'a> {
    cluster: &'a Cluster,
    seats: Vec<(Seat, &'a Session)>,
}

/// Placement by their place, for those who chose them.
pub(super) type FreeSlots = Vec<usize>;

impl<'a> Placement<'a> {
    pub(super) fn of(cluster: &'a Cluster, seats: &[Seat]) -> Self {
        let known = |seat: &Seat| Some((*seat, cluster.sessions.get(&seat.session)?));
        let seats = seats
            .iter()
            .filter_map(known)
            .filter(|(_, session)| session.takes_work())
            .collect();
        Self { cluster, seats }
    }

    /// The places of workers that meet a demand.
    pub(super) fn fit(&self, demand: &Demand<'_>) -> FreeSlots {
        let fits = self
            .seats
            .iter()
            .enumerate()
            .filter(|(_, (_, session))| demand.is_met_by(self.cluster, session));
        fits.map(|(place, _)| place).collect()
    }

    /// Whether a slot is free anywhere.
    pub(super) fn any_free(&self) -> bool {
        self.seats.iter().any(|(seat, _)| seat.free > 0)
    }

    /// Whether a slot is free at any of these places. Once none is, none will be in this round.
    pub(super) fn is_free(&self, places: &FreeSlots) -> bool {
        self.at(places).any(|(_, seat, _)| seat.free > 0)
    }

    /// Takes a slot of the worker with the most free ones, among those at these places that are not
    /// avoided.
    pub(super) fn take(
        &mut self,
        places: &FreeSlots,
        avoids: impl Fn(&WorkerId) -> bool,
    ) -> Option<SessionId> {
        let free = self
            .at(places)
            .filter(|(_, seat, session)| seat.free > 0 && !avoids(&session.worker));
        let (place, ..) = free.max_by_key(|(_, seat, _)| seat.free)?;
        let (seat, _) = self.seats.get_mut(place)?;
        seat.free = seat.free.saturating_sub(1);
        Some(seat.session)
    }

    fn at(&self, places: &FreeSlots) -> impl Iterator<Item = (usize, &Seat, &'a Session)> {
        places.iter().filter_map(|place| {
            self.seats
                .get(*place)
                .map(|(seat, session)| (*place, seat, *session))
        })
    }
}

/// The connected workers that a step's tasks could go to, now or once a slot is free.
pub(super) fn able<'a>(cluster: &'a Cluster, demand: &Demand<'_>) -> Vec<&'a WorkerId> {
    let takes = |session: &&Session| session.takes_work() && session.record.slots > 0;
    let sessions = cluster.sessions.values().filter(takes);
    sessions
        .filter(|session| demand.is_met_by(cluster, session))
        .map(|session| &session.worker)
        .collect()
}

/// Whether a task that failed on some workers, the latest of them last, waits for another one
/// rather than going to `worker`. It may be that only this worker cannot reach a database; it would
/// take the task up again at once, since it has nothing to do, and use up its attempts. Where the
/// task failed on all who are able, only the latest is avoided.
pub(super) fn is_avoided(failed_on: &[WorkerId], able: &[&WorkerId], worker: &WorkerId) -> bool {
    if able.iter().any(|able| !failed_on.contains(able)) {
        return failed_on.contains(worker);
    }
    failed_on.last() == Some(worker) && able.iter().any(|able| *able != worker)
}
