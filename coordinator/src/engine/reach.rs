//! Which connections a task needs, and whether it waits for one that is away.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use highwater_common::id::ConnectionName;
use highwater_common::outage::Gate;
use highwater_common::plan::PhaseKind;
use highwater_common::record::RunIntent;
use highwater_common::spec::{Check, Step};

use super::outages::{Away, spoken};
use super::view::Run;

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
            PhaseKind::Fence | PhaseKind::Prepare | PhaseKind::Build | PhaseKind::Close => {
                (None, target)
            }
            PhaseKind::Check if !step.checks.iter().any(Check::asks_source) => (None, target),
            PhaseKind::Check => (source, target),
            PhaseKind::Count => (source, None),
            PhaseKind::Probe
            | PhaseKind::Load
            | PhaseKind::Publish
            | PhaseKind::Reconcile
            | PhaseKind::Statements
            | PhaseKind::Replay
            | PhaseKind::Follow
            | PhaseKind::Execute => (source, target),
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
            .filter_map(|name| Some((*name, run.outages.away(name)?)))
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
