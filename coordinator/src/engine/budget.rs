//! Limits that several steps share: the connections and the pools of a run, and the pools of the
//! cluster. Counts and compares; never decides who comes first.

use std::collections::BTreeMap;
use std::fmt;

use highwater_common::id::{ConnectionName, PoolName};
use highwater_common::spec;

use super::step::Step;
use super::view::{Cluster, Run};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shared<'a> {
    /// Connections to a database, over all steps of a run.
    Connection(&'a ConnectionName),
    /// Tasks at once of the steps that name a pool, over all of a run.
    Pool(&'a PoolName),
    /// The same over all runs.
    ClusterPool(&'a PoolName),
}

impl fmt::Display for Shared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(name) => write!(f, "connection {name}"),
            Self::Pool(name) => write!(f, "pool {name}"),
            Self::ClusterPool(name) => write!(f, "pool {name} of the cluster"),
        }
    }
}

/// What one task holds while it runs, and how much of each. A name without a limit may be among
/// them.
pub(super) type Uses<'a> = BTreeMap<Shared<'a>, u64>;

/// How much of what is limited is in use, and how much there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Budgets<'a>(BTreeMap<Shared<'a>, (u64, u64)>);

impl<'a> Budgets<'a> {
    /// The limits that a run declares.
    pub(super) fn of_run(run: &'a Run) -> Self {
        let mut budgets = Self::default();
        let said = &run.record.controls.limits;
        for (name, connection) in &run.spec.connections {
            let said = said.connections.get(name).copied();
            if let Some(max) = said.or_else(|| connection.max_connections()) {
                budgets
                    .0
                    .insert(Shared::Connection(name), (0, u64::from(max)));
            }
        }
        for (name, pool) in &run.spec.pools {
            let max = said.pools.get(name).copied().unwrap_or(pool.tasks);
            budgets.0.insert(Shared::Pool(name), (0, u64::from(max)));
        }
        budgets.count(run);
        budgets
    }

    /// The limits that hold over all runs, those that have ended too: their last attempts may still
    /// hold a place.
    pub(super) fn of_cluster(cluster: &'a Cluster) -> Self {
        let limits = cluster
            .pools
            .iter()
            .map(|(name, max)| (Shared::ClusterPool(name), (0, u64::from(*max))));
        let mut budgets = Self(limits.collect());
        if !budgets.0.is_empty() {
            cluster.runs.values().for_each(|run| budgets.count(run));
        }
        budgets
    }

    /// Counts the open tasks of a run.
    fn count(&mut self, run: &'a Run) {
        for (name, step) in &run.steps {
            let open = step.open();
            if let Some(known) = run.spec.steps.get(name).filter(|_| open > 0) {
                self.take(&uses(known, step), open);
            }
        }
    }

    /// Notes that `tasks` more run.
    pub(super) fn take(&mut self, uses: &Uses<'a>, tasks: u64) {
        for (name, each) in uses {
            if let Some((used, _)) = self.0.get_mut(name) {
                *used = used.saturating_add(each.saturating_mul(tasks));
            }
        }
    }

    /// What has no room for one more task, how much of it is in use, and how much there is. A task
    /// that alone needs more than there is gets all of it.
    pub(super) fn full(&self, uses: &Uses<'a>) -> Option<(Shared<'a>, u64, u64)> {
        uses.iter().find_map(|(name, each)| {
            let (used, max) = *self.0.get(name)?;
            (used > 0 && used.saturating_add(*each) > max).then_some((*name, used, max))
        })
    }

    /// Tasks that each of these limits would let run, if nobody else used it; one at the least.
    pub(super) fn room_of(&self, uses: &Uses<'_>) -> u64 {
        let rooms = uses.iter().filter_map(|(name, each)| {
            let (_, max) = self.0.get(name)?;
            max.checked_div(*each)
        });
        rooms.min().map_or(u64::MAX, |room| room.max(1))
    }

    /// Everything that is limited: how much is in use, and how much there is.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Shared<'a>, (u64, u64))> + '_ {
        self.0.iter().map(|(name, counts)| (*name, *counts))
    }
}

/// What one task of a step holds at once: the connections of each side, and a place in each pool.
pub(super) fn uses<'a>(known: &'a spec::Step, step: &Step) -> Uses<'a> {
    let load_order = step.plan.as_ref().and_then(|plan| plan.load_order.as_ref());
    let staging = load_order.and_then(|load_order| load_order.staging);
    let of_side = staging.map_or(1, |staging| u64::from(staging.sessions()));
    let mut uses = Uses::new();
    for name in known.strategy.load().sides().connections() {
        let held = uses.entry(Shared::Connection(name)).or_default();
        *held = held.saturating_add(of_side);
    }
    for name in &known.pools {
        uses.insert(Shared::Pool(name), 1);
        uses.insert(Shared::ClusterPool(name), 1);
    }
    uses
}

#[cfg(test)]
mod tests {
    use highwater_common::assignment::Staging;
    use highwater_common::id::StepName;

    use super::*;
    use crate::engine::fixtures::{View, view};

    #[test]
    fn an_attempt_whose_rows_wait_holds_all_of_its_sessions() {
        let name: StepName = "a".parse().unwrap();
        let held = |view: &View| -> Vec<u64> {
            let run = view.run();
            let uses = uses(&run.spec.steps[&name], &run.steps[&name]);
            uses.into_values().collect()
        };
        let mut view = view("", &[("a", "$load")]);
        assert_eq!(held(&view), [1, 1]);
        let planned = view.run().steps[&name].plan.clone();
        let mut plan = planned.unwrap().as_ref().clone();
        plan.load_order.as_mut().unwrap().staging = Some(Staging { readers: 4 });
        view.replan("a", plan);
        assert_eq!(held(&view), [5, 5]);
    }
}
