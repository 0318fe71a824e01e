//! The cluster in numbers, for those who watch it from outside: what there is of everything, and
//! how many workers would have something to do.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::document::TaskCounts;
use highwater_common::id::StepName;
use highwater_common::plan::PhaseKind;
use highwater_common::status::RunStatus;

use super::budget::{Budgets, uses};
use super::followed::{released, waits_with_its_close};
use super::placement::Demand;
use super::view::{Cluster, Run, Session};

/// The label of a worker that says which group it is of.
const GROUP: &str = "group";
/// The group of workers that say nothing of it.
const DEFAULT_GROUP: &str = "default";

/// The cluster in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Runs, by status; those that were pruned are not among them.
    pub(crate) runs: BTreeMap<String, u64>,
    /// Tasks of runs that have not ended, by pipeline and step.
    pub(crate) tasks: BTreeMap<(String, String), TaskCounts>,
    /// Workers, by group.
    pub(crate) groups: BTreeMap<String, GroupCounts>,
}

/// The workers of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GroupCounts {
    /// Workers that take work.
    pub(crate) ready: u64,
    /// Workers that finish what they have.
    pub(crate) draining: u64,
    /// Workers that an operator keeps work away from.
    pub(crate) cordoned: u64,
    /// Slots of those that take work.
    pub(crate) slots: u64,
    /// Slots with a task, of all workers.
    pub(crate) busy: u64,
    /// Slots without one, of those that take work.
    pub(crate) free: u64,
    /// Tasks that are open or could run at once, if there were slots enough.
    pub(crate) wanted_slots: u64,
}

impl GroupCounts {
    /// Adds the counts of another group.
    pub(crate) const fn add_all(&mut self, other: &Self) {
        self.ready = self.ready.saturating_add(other.ready);
        self.draining = self.draining.saturating_add(other.draining);
        self.cordoned = self.cordoned.saturating_add(other.cordoned);
        self.slots = self.slots.saturating_add(other.slots);
        self.busy = self.busy.saturating_add(other.busy);
        self.free = self.free.saturating_add(other.free);
        self.wanted_slots = self.wanted_slots.saturating_add(other.wanted_slots);
    }

    /// Workers that would have something to do: as many as `wanted_slots` fill, each of the size
    /// that the group's workers have now. `None` while there is none whose size is known.
    pub(crate) fn desired_workers(&self) -> Option<u64> {
        let wanted = self.wanted_slots.checked_mul(self.ready)?;
        (self.slots > 0).then(|| wanted.div_ceil(self.slots.max(1)))
    }
}

impl Counts {
    /// Counts a cluster. It looks at each step and at no single task.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut counts = Self::default();
        for (id, session) in &cluster.sessions {
            let of = counts.groups.entry(group(session).to_owned()).or_default();
            let busy = u64::try_from(cluster.leases.busy(id)).unwrap_or(u64::MAX);
            of.busy = of.busy.saturating_add(busy);
            let state = match (session.draining, session.record.cordoned) {
                (true, _) => &mut of.draining,
                (false, true) => &mut of.cordoned,
                (false, false) => &mut of.ready,
            };
            *state = state.saturating_add(1);
            if session.takes_work() {
                let slots = u64::from(session.record.slots);
                of.slots = of.slots.saturating_add(slots);
                of.free = of.free.saturating_add(slots.saturating_sub(busy));
            }
        }
        let budgets = Budgets::of_cluster(cluster);
        for run in cluster.runs.values() {
            let status = counts
                .runs
                .entry(run.record.status.to_string())
                .or_default();
            *status = status.saturating_add(1);
            if !run.record.status.has_ended() {
                counts.add_tasks(run);
            }
            if run.wants_work() && !cluster.is_held_back(run) {
                counts.add_wanted(cluster, run, &budgets);
            }
        }
        counts
    }

    fn add_tasks(&mut self, run: &Run) {
        for (name, step) in &run.steps {
            let of_step = (run.record.pipeline.to_string(), name.to_string());
            let sum = self.tasks.entry(of_step).or_default();
            for (_, _, table) in step.planned_tables() {
                sum.add_all(&table.counts);
            }
        }
    }

    /// Adds what the steps of a run could use, each up to its limits, and all up to the run's.
    fn add_wanted(&mut self, cluster: &Cluster, run: &Run, of_cluster: &Budgets<'_>) {
        let of_run = Budgets::of_run(run);
        let is_fencing = run.record.status == RunStatus::Cancelling;
        let mut left = match run.tasks_max() {
            Some(max) if !is_fencing => u64::from(max),
            Some(_) | None => u64::MAX,
        };
        for name in run.steps.keys() {
            let Some((group, wanted)) = wanted(cluster, run, name, &of_run, of_cluster) else {
                continue;
            };
            let wanted = wanted.min(left);
            left = left.saturating_sub(wanted);
            if let Some(of) = self.groups.get_mut(group) {
                of.wanted_slots = of.wanted_slots.saturating_add(wanted);
            }
        }
    }
}

/// How many tasks of a step are open or could run, and the group that they would run on: of those
/// with a worker that may have them the one named `default`, or else the first by name.
fn wanted<'a>(
    cluster: &'a Cluster,
    run: &Run,
    name: &StepName,
    of_run: &Budgets<'_>,
    of_cluster: &Budgets<'_>,
) -> Option<(&'a str, u64)> {
    let (step, known) = (run.steps.get(name)?, run.spec.steps.get(name)?);
    let (generation, phase) = run.due_phase(name)?;
    let table = step.table(generation, phase)?;
    let kind = step.kind(generation, phase)?;
    if waits_with_its_close(run, name, kind) {
        return None;
    }
    let released = released(run, name, kind, table);
    let waiting = released.map_or(table.counts.pending, |released| released.len() as u64);
    let mut wanted = waiting.saturating_add(table.counts.open);
    let is_fence = generation == 0 && PhaseKind::of_no_plan(phase) == Some(PhaseKind::Fence);
    if !is_fence {
        let uses = uses(known, step);
        let max = run.step_tasks_max(name).map_or(u64::MAX, u64::from);
        // What is held back needs no room beyond what still runs.
        let held = run.hold(name).map_or(u64::MAX, |_| table.counts.open);
        wanted = wanted
            .min(max)
            .min(held)
            .min(of_run.room_of(&uses))
            .min(of_cluster.room_of(&uses));
    }
    let demand = Demand::of(known, &run.spec.connections);
    let fit: BTreeSet<&str> = cluster
        .sessions
        .values()
        .filter(|session| session.takes_work() && demand.is_met_by(cluster, session))
        .map(group)
        .collect();
    let group = fit.get(DEFAULT_GROUP).or_else(|| fit.first())?;
    Some((group, wanted))
}

fn group(session: &Session) -> &str {
    let named = session.record.labels.get(GROUP);
    named.map_or(DEFAULT_GROUP, String::as_str)
}

#[cfg(test)]
mod tests {
    use highwater_common::id::SessionId;

    use super::*;
    use crate::engine::fixtures::{View, give, session, view};

    fn noop(tasks: u32) -> String {
        format!("    strategy: {{type: noop, tasks: {tasks}}}\n")
    }

    /// Connects a worker of a group.
    fn worker(view: &mut View, no: usize, group: &str, slots: u32) -> SessionId {
        let id = session(&mut view.cluster, no, true);
        let record = &mut view.cluster.sessions.get_mut(&id).unwrap().record;
        record.slots = slots;
        if !group.is_empty() {
            record.labels.insert(GROUP.to_owned(), group.to_owned());
        }
        id
    }

    #[test]
    fn tasks_workers_and_slots_are_counted_where_they_are() {
        // GIVEN a run of ten tasks, one of them open, and three workers of two groups
        let mut view = view("", &[("a", &noop(10))]);
        view.begin();
        let first = worker(&mut view, 0, "", 4);
        worker(&mut view, 1, "fast", 8);
        let draining = worker(&mut view, 2, "fast", 8);
        view.cluster.sessions.get_mut(&draining).unwrap().draining = true;
        let run = view.run().id;
        let address = view.work("a", 0);
        give(&mut view, run, &address, first, 1);
        view.cluster.find_leases(std::time::Duration::ZERO);
        // WHEN it is counted
        let counts = Counts::of(&view.cluster);
        // THEN everything is where it belongs
        assert_eq!(counts.runs, BTreeMap::from([("running".to_owned(), 1)]));
        let tasks = counts.tasks[&("shop0".to_owned(), "a".to_owned())];
        assert_eq!((tasks.pending, tasks.open), (9, 1));
        let group = |name: &str| counts.groups[name];
        let of_default = group("default");
        assert_eq!((of_default.ready, of_default.slots), (1, 4));
        assert_eq!((of_default.busy, of_default.free), (1, 3));
        let fast = group("fast");
        assert_eq!((fast.ready, fast.draining, fast.slots), (1, 1, 8));
        // AND what could run is wanted of one group alone: ten tasks are three workers of four
        assert_eq!(of_default.wanted_slots, 10);
        assert_eq!(of_default.desired_workers(), Some(3));
        assert_eq!(fast.desired_workers(), Some(0));
    }

    #[test]
    fn workers_are_wanted_where_the_labels_are_and_no_more_than_the_limits_let_run() {
        let wanted = |limits: &str, step: &str| {
            let mut view = view(limits, &[("a", step)]);
            view.begin();
            worker(&mut view, 0, "", 4);
            let id = worker(&mut view, 1, "fast", 4);
            let record = &mut view.cluster.sessions.get_mut(&id).unwrap().record;
            record.labels.insert("disk".to_owned(), "fast".to_owned());
            let counts = Counts::of(&view.cluster);
            let of = |name: &str| counts.groups[name].desired_workers();
            (of("default"), of("fast"))
        };
        // GIVEN a step that any worker may have, THEN the default group is to grow
        assert_eq!(wanted("", &noop(40)), (Some(10), Some(0)));
        // AND one that asks for a label wants the group that carries it
        let labelled = format!("{}    labels: {{disk: fast}}\n", noop(40));
        assert_eq!(wanted("", &labelled), (Some(0), Some(10)));
        // AND neither the step's limit nor the run's is passed
        let limited = format!("{}    limits: {{tasks: 6}}\n", noop(40));
        assert_eq!(wanted("", &limited), (Some(2), Some(0)));
        assert_eq!(
            wanted("limits: {tasks: 3}\n", &noop(40)),
            (Some(1), Some(0))
        );
        // AND a label that nobody carries wants nobody: no group is known that would help
        let nobody = format!("{}    labels: {{disk: slow}}\n", noop(40));
        assert_eq!(wanted("", &nobody), (Some(0), Some(0)));
    }
}
