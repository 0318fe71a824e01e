//! The connections of a run that are away, and which of its tasks wait for them. Kept by the leader
//! of one term: the next one begins with none, and notices an outage by the first attempts that
//! meet it. They are not counted, so nothing is lost but the pause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_common::id::ConnectionName;
use highwater_common::outage::Outage;
use highwater_common::record::TaskAddress;

/// The connections of a run that could not be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outages(BTreeMap<ConnectionName, Away>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) outage: Outage,
    /// The task that was sent to find out whether the connection is back. It is on its way while it
    /// holds a lease.
    pub(super) asking: Option<TaskAddress>,
}

impl Outages {
    /// An attempt of the task at `address` could not reach `connection`. `jitter` is a random
    /// number in [0, 1).
    pub(crate) fn failed(
        &mut self,
        connection: &ConnectionName,
        address: &TaskAddress,
        now_millis: i64,
        jitter: f64,
    ) {
        let away = match self.0.remove(connection) {
            None => Away {
                outage: Outage::begin(now_millis, jitter),
                asking: None,
            },
            // Others that fail have been under way since before it was noticed, and say nothing
            // new.
            Some(away) if away.asking.as_ref() != Some(address) => away,
            Some(away) => Away {
                outage: away.outage.asked_in_vain(now_millis, jitter),
                asking: None,
            },
        };
        self.0.insert(connection.clone(), away);
    }

    /// The task at `address` is on its way to these connections.
    pub(crate) fn asked(&mut self, connections: &BTreeSet<&ConnectionName>, address: &TaskAddress) {
        for (_, away) in self
            .0
            .iter_mut()
            .filter(|(name, _)| connections.contains(name))
        {
            away.asking = Some(address.clone());
        }
    }

    /// These connections are back.
    pub(crate) fn reached(&mut self, connections: &BTreeSet<&ConnectionName>) {
        self.0.retain(|name, _| !connections.contains(name));
    }

    /// True when the task at `address` was sent to find out about one of them.
    pub(crate) fn is_asking(&self, address: &TaskAddress) -> bool {
        self.0
            .values()
            .any(|away| away.asking.as_ref() == Some(address))
    }

    /// The outage of a connection.
    pub(crate) fn of(&self, connection: &ConnectionName) -> Option<&Outage> {
        self.0.get(connection).map(|away| &away.outage)
    }

    /// A connection that is away, and who asks for it.
    pub(super) fn away(&self, connection: &ConnectionName) -> Option<&Away> {
        self.0.get(connection)
    }

    /// The next moment after this one from which one of them may be asked.
    pub(crate) fn next_moment(&self, now_millis: i64) -> Option<i64> {
        let moments = self.0.values().map(|away| away.outage.asks_at_millis());
        moments.filter(|moment| *moment > now_millis).min()
    }
}

/// A time in words, in its two largest units: `41 s`, `4 m 5 s`, `1 h 2 m`.
pub(crate) fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes} m {rest} s"),
        (_, _) => format!("{hours} h {minutes} m"),
    }
}

#[cfg(test)]
mod tests;
