//! Chooses which pending tasks the parked pulls receive.
//! Never performs I/O, never reads the clock itself, never looks at a paused or ended run.
//!
//! Fairness is by run first and by step second: one wide step must not starve a small run. Whose turn
//! it is among runs, `highwater_common::turn` says.

use std::collections::BTreeSet;

use highwater_common::id::{ConnectionName, RunId, SessionId, StepName, WorkerId};
use highwater_common::outage::Gate;
use highwater_common::record::{RunIntent, TaskAddress};
use highwater_common::status::RunStatus;
use highwater_common::turn::Turn;

use super::budget::{Budgets, Uses, uses};
use super::followed::{released, waits_with_its_close};
use super::placement::{Demand, FreeSlots, Placement, Seat, able, is_avoided};
use super::reach::Reach;
use super::retries::avoids_until;
use super::task_table::TaskTable;
use super::view::{Cluster, Run};

/// A task for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The run.
    pub run: RunId,
    /// The task.
    pub address: TaskAddress,
    /// Who gets it.
    pub session: SessionId,
}

/// At most `grants_max` tasks for the seats, as of `now_millis` by the leader's wall clock, which
/// only retries wait for.
#[must_use]
pub(crate) fn assign(
    cluster: &Cluster,
    seats: &[Seat],
    now_millis: i64,
    grants_max: usize,
) -> Vec<Grant> {
    let mut seats = Placement::of(cluster, seats);
    let mut queues: Vec<RunQueue<'_>> = cluster
        .runs
        .values()
        .filter_map(|run| RunQueue::of(cluster, run, &seats, now_millis))
        .collect();
    let mut pools = Budgets::of_cluster(cluster);
    let mut grants = Vec::new();
    let mut turn = 0;
    while grants.len() < grants_max && seats.any_free() {
        let next = queues
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, queue)| queue.turn());
        let Some((at, queue)) = next else { break };
        turn = u64::saturating_add(turn, 1);
        match queue.next(turn, &mut seats, &mut pools) {
            Some((address, session)) => grants.push(Grant {
                run: queue.run.id,
                address,
                session,
            }),
            None => drop(queues.remove(at)),
        }
    }
    grants
}

/// When somebody was last served: the turn of this round, 0 before, and the token of the latest
/// task of earlier rounds. Among those that have equally many open tasks, whoever was served
/// longest ago comes first.
type Served = (u64, i64);

/// The runnable tasks of one run under its limits, fairly from each of its steps.
struct RunQueue<'a> {
    run: &'a Run,
    open: u64,
    open_max: u64,
    /// A fence waits for no limit: it is what ends the attempts that use it up.
    is_fencing: bool,
    served: Served,
    /// For how long nothing of it has moved.
    waited_millis: i64,
    budgets: Budgets<'a>,
    /// Connections that are away, and that a task of this round asks.
    asked: BTreeSet<&'a ConnectionName>,
    now_millis: i64,
    steps: Vec<StepQueue<'a>>,
}

struct StepQueue<'a> {
    name: &'a StepName,
    generation: u32,
    phase: u8,
    open: u64,
    open_max: u64,
    served: Served,
    uses: Uses<'a>,
    /// The connections that its tasks need.
    reach: Reach<'a>,
    /// Where its tasks may go.
    places: FreeSlots,
    /// Where they could go once a slot is free: only asked for while a task avoids somebody.
    able: Vec<&'a WorkerId>,
    /// As of when tasks avoid workers, if any does.
    avoids_at: Option<i64>,
    table: &'a TaskTable,
    due: Box<dyn Iterator<Item = u64> + 'a>,
}

impl<'a> RunQueue<'a> {
    fn of(
        cluster: &'a Cluster,
        run: &'a Run,
        seats: &Placement<'_>,
        now_millis: i64,
    ) -> Option<Self> {
        let is_fencing = run.record.status == RunStatus::Cancelling;
        if !run.wants_work() || (!is_fencing && cluster.is_held_back(run)) {
            return None;
        }
        let steps: Vec<StepQueue<'a>> = run
            .dag
            .order()
            .iter()
            .filter_map(|name| StepQueue::of(cluster, run, name, seats, now_millis))
            .collect();
        let served = (
            0,
            run.steps
                .values()
                .map(|step| step.last_token)
                .max()
                .unwrap_or(0),
        );
        let open_max = if is_fencing { None } else { run.tasks_max() };
        (!steps.is_empty()).then(|| Self {
            run,
            open: open_of(run),
            open_max: open_max.map_or(u64::MAX, u64::from),
            is_fencing,
            served,
            waited_millis: run
                .moved_millis
                .map_or(0, |at| now_millis.saturating_sub(at)),
            budgets: Budgets::of_run(run),
            asked: BTreeSet::new(),
            now_millis,
            steps,
        })
    }

    /// Where it stands among the runs. What ends a cancelled one waits for no priority: others wait for
    /// its end.
    fn turn(&self) -> Turn {
        if self.is_fencing {
            return Turn::first(self.open, self.served);
        }
        let priority = self.run.priority();
        Turn::of(priority, self.open, self.waited_millis, self.served)
    }

    /// The next task, and who gets it. A step that gives none is not asked again: slots and limits
    /// only shrink in a round.
    fn next(
        &mut self,
        turn: u64,
        seats: &mut Placement<'_>,
        pools: &mut Budgets<'a>,
    ) -> Option<(TaskAddress, SessionId)> {
        while self.open < self.open_max {
            let (at, step) = self
                .steps
                .iter_mut()
                .enumerate()
                .min_by_key(|(_, step)| (step.open, step.served))?;
            let gate = step.reach.gate(self.run, &self.asked, self.now_millis);
            let is_full = gate == Gate::Held
                || step.open >= step.open_max
                || (!self.is_fencing
                    && self
                        .budgets
                        .full(&step.uses)
                        .or_else(|| pools.full(&step.uses))
                        .is_some());
            let Some((ordinal, session)) = (if is_full { None } else { step.next(seats) }) else {
                self.steps.remove(at);
                continue;
            };
            if gate == Gate::MayAsk {
                self.asked.extend(&step.reach.connections);
            }
            step.open = step.open.saturating_add(1);
            self.open = self.open.saturating_add(1);
            (step.served, self.served) = ((turn, 0), (turn, 0));
            self.budgets.take(&step.uses, 1);
            pools.take(&step.uses, 1);
            let address = TaskAddress {
                step: step.name.clone(),
                generation: step.generation,
                phase: step.phase,
                ordinal,
            };
            return Some((address, session));
        }
        None
    }
}

impl<'a> StepQueue<'a> {
    fn of(
        cluster: &'a Cluster,
        run: &'a Run,
        name: &'a StepName,
        seats: &Placement<'_>,
        now_millis: i64,
    ) -> Option<Self> {
        let step = run.steps.get(name)?;
        let known = run.spec.steps.get(name)?;
        if run.record.intent == RunIntent::Cancel && run.record.status != RunStatus::Cancelling {
            return None; // what is no longer wanted is not begun, whatever its status still says
        }
        if run.hold(name).is_some() {
            return None;
        }
        let (generation, phase) = run.due_phase(name)?;
        let (table, kind) = (
            step.table(generation, phase)?,
            step.kind(generation, phase)?,
        );
        if waits_with_its_close(run, name, kind) {
            return None;
        }
        let is_fencing = run.record.status == RunStatus::Cancelling;
        let demand = Demand::of(known, &run.spec.connections);
        // A fence keeps a run from ending, and a later one from beginning: it waits for nobody in
        // particular.
        let demand = if is_fencing {
            demand.anywhere(cluster)
        } else {
            demand
        };
        let retries = table.retries.due(now_millis);
        let due: Box<dyn Iterator<Item = u64> + 'a> = match released(run, name, kind, table) {
            Some(released) => Box::new(retries.chain(released)),
            None => Box::new(retries.chain(table.pending())),
        };
        let avoids = !is_fencing && table.retries.any_avoids(now_millis);
        Some(Self {
            name,
            generation,
            phase,
            open: step.open(),
            open_max: match is_fencing {
                true => None,
                false => run.step_tasks_max(name),
            }
            .map_or(u64::MAX, u64::from),
            served: (0, step.last_token),
            uses: uses(known, step),
            reach: Reach::of(known, run.record.intent, kind),
            places: seats.fit(&demand),
            able: if avoids {
                able(cluster, &demand)
            } else {
                Vec::new()
            },
            avoids_at: avoids.then_some(now_millis),
            table,
            due,
        })
    }

    /// The next of its tasks that somebody with a free slot may have.
    fn next(&mut self, seats: &mut Placement<'_>) -> Option<(u64, SessionId)> {
        while seats.is_free(&self.places) {
            let ordinal = self.due.next()?;
            let retry = self.table.retries.get(&ordinal).map(|retry| &retry.record);
            let avoiding = retry.filter(|retry| {
                self.avoids_at
                    .is_some_and(|now| avoids_until(retry) > Some(now))
            });
            let failed_on = avoiding.map_or(&[][..], |retry| &retry.history.failed_on);
            if let Some(session) = seats.take(&self.places, |worker| {
                is_avoided(failed_on, &self.able, worker)
            }) {
                return Some((ordinal, session));
            }
        }
        None
    }
}

pub(super) fn open_of(run: &Run) -> u64 {
    run.steps
        .values()
        .fold(0, |open, step| open.saturating_add(step.open()))
}

#[cfg(test)]
mod tests;
