//! The connections of a run that are away, and which of its tasks wait for them. Kept by the leader
//! of one term: the next one begins with none, and notices an outage by the first attempts that
//! meet it. They are not counted, so nothing is lost but the pause.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use highwater_common::id::ConnectionName;
use highwater_common::outage::{Gate, Outage};
use highwater_common::plan::PhaseKind;
use highwater_common::record::{RunIntent, TaskAddress};
use highwater_common::spec::Step;

use super::view::Run;

/// The connections of a run that could not be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outages(BTreeMap<ConnectionName, Away>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Away {
    outage: Outage,
    /// The task that was sent to find out whether the connection is back. It is on its way while it
    /// holds a lease.
    asking: Option<TaskAddress>,
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

    /// The next moment after this one from which one of them may be asked.
    pub(crate) fn next_moment(&self, now_millis: i64) -> Option<i64> {
        let moments = self.0.values().map(|away| away.outage.asks_at_millis());
        moments.filter(|moment| *moment > now_millis).min()
    }
}

/// How long a run that is only planned waits for a connection: somebody sits before it, and the
/// likeliest reason is a mistyped address.
const PLAN_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a task needs, and for how long it waits for that.
#[derive(Debug, Clone)]
pub(crate) struct Reach<'a> {
    /// The connections, each once.
    pub(crate) connections: BTreeSet<&'a ConnectionName>,
    /// How long one of them may be away before the task is given up; `None` for ever.
    pub(crate) limit: Option<Duration>,
}

impl<'a> Reach<'a> {
    /// Of the tasks of such a phase of a step, in a run of which that much is wished.
    pub(crate) fn of(step: &'a Step, intent: RunIntent, kind: PhaseKind) -> Self {
        let sides = step.strategy.load().sides();
        let (source, target) = (
            sides.source.map(|from| &from.connection),
            sides.target.map(|to| &to.connection),
        );
        let (source, target) = match kind {
            PhaseKind::Fence | PhaseKind::Prepare | PhaseKind::Close => (None, target),
            PhaseKind::Count => (source, None),
            PhaseKind::Probe | PhaseKind::Load | PhaseKind::Execute => (source, target),
        };
        let connections = source.into_iter().chain(target).collect();
        // A fence is never given up: until it stands its run has not ended.
        let patience = match intent {
            RunIntent::Plan => step.retries.unreachable.min(PLAN_WAIT_MAX),
            RunIntent::Run | RunIntent::Cancel => step.retries.unreachable,
        };
        Self {
            connections,
            limit: (kind != PhaseKind::Fence).then_some(patience),
        }
    }

    /// Whether such a task may go now. `asked` are connections that were asked in the same round.
    pub(super) fn gate(
        &self,
        run: &Run,
        asked: &BTreeSet<&ConnectionName>,
        now_millis: i64,
    ) -> Gate {
        let gates = self
            .away(run)
            .map(|(name, away)| self.gate_of(run, name, away, asked, now_millis));
        gates.max().unwrap_or(Gate::Open)
    }

    /// Why such a task waits, if it waits for a connection.
    pub(super) fn wait(&self, run: &Run, now_millis: i64) -> Option<Waiting<'a>> {
        let nobody = BTreeSet::new();
        let mut held = self.away(run).filter(|(name, away)| {
            self.gate_of(run, name, away, &nobody, now_millis) == Gate::Held
        });
        let (connection, away) = held.next()?;
        let is_asked = is_on_its_way(run, away);
        let asks_in = if is_asked {
            None
        } else {
            Some(away.outage.asks_in(now_millis))
        };
        Some(Waiting {
            connection,
            lasted: away.outage.lasted(now_millis),
            asks_in,
        })
    }

    fn away<'s, 'r>(
        &'s self,
        run: &'r Run,
    ) -> impl Iterator<Item = (&'a ConnectionName, &'r Away)> + use<'a, 's, 'r> {
        self.connections
            .iter()
            .filter_map(|name| Some((*name, run.outages.0.get(*name)?)))
    }

    fn gate_of(
        &self,
        run: &Run,
        name: &ConnectionName,
        away: &Away,
        asked: &BTreeSet<&ConnectionName>,
        now_millis: i64,
    ) -> Gate {
        away.outage.gate(
            now_millis,
            self.limit,
            asked.contains(name) || is_on_its_way(run, away),
        )
    }
}

fn is_on_its_way(run: &Run, away: &Away) -> bool {
    away.asking
        .as_ref()
        .is_some_and(|address| run.is_open(address))
}

/// A wait for a connection, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting<'a> {
    connection: &'a ConnectionName,
    lasted: Duration,
    /// `None` while a task is on its way to find out.
    asks_in: Option<Duration>,
}

impl fmt::Display for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is unreachable since {}, ",
            self.connection,
            spoken(self.lasted)
        )?;
        match self.asks_in {
            None => f.write_str("is being asked"),
            Some(wait) => write!(
                f,
                "asked again in {}",
                spoken(wait.max(Duration::from_secs(1)))
            ),
        }
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
