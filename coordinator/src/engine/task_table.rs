//! The tasks of one phase, decoded, with the bytes that the store holds them in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_common::document::TaskCounts;
use highwater_common::plan::{Phase, StepPlan, Tasks};
use highwater_common::record::{DeadRecord, LeaseRecord};
use highwater_common::segment::{SEGMENT_TASKS, Segment, TaskResult};
use highwater_common::task::TaskState;

use super::retries::Retries;
use super::stored::Stored;

/// The tasks of one phase of a step. A segment that the store does not hold has every task in its
/// first state, so a million tasks cost nothing before they run.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskTable {
    /// How many tasks there are.
    pub len: u64,
    /// Leases, by ordinal.
    pub leases: BTreeMap<u64, Stored<LeaseRecord>>,
    /// Tasks that wait for their next attempt.
    pub retries: Retries,
    /// Tasks that were given up.
    pub dead: BTreeMap<u64, Stored<DeadRecord>>,
    /// Tasks by state.
    pub counts: TaskCounts,
    /// Rows committed and counted.
    pub rows: u64,
    segments: BTreeMap<u64, (Segment, Option<Vec<u8>>)>,
    /// Pending tasks below `next`.
    returned: BTreeSet<u64>,
    /// No task from here on has ever left its first state.
    next: u64,
    /// Ranges of the plan that are committed without a gap, from its first.
    pub(super) reached: u64,
    /// The plan, and which phase of it the tasks are; `None` for a task of no plan.
    planned: Option<(Arc<StepPlan>, u8)>,
}

impl TaskTable {
    /// One task of no plan.
    #[must_use]
    pub(super) fn single() -> Self {
        Self {
            len: 1,
            counts: TaskCounts {
                pending: 1,
                ..TaskCounts::default()
            },
            ..Self::default()
        }
    }

    /// The tasks of a phase of a plan.
    #[must_use]
    pub(crate) fn planned(plan: &Arc<StepPlan>, number: u8) -> Self {
        let Some(phase) = plan.phase(number) else {
            return Self::default();
        };
        let mut counts = TaskCounts {
            pending: phase.tasks_planned(),
            ..TaskCounts::default()
        };
        counts.covered = phase.len().saturating_sub(counts.pending);
        let mut table = Self {
            len: phase.len(),
            counts,
            planned: Some((Arc::clone(plan), number)),
            ..Self::default()
        };
        table.settle();
        table
    }

    fn phase(&self) -> Option<&Phase> {
        self.planned
            .as_ref()
            .and_then(|(plan, number)| plan.phase(*number))
    }

    /// Takes a stored segment in place of the first states; called while loading, and
    /// [`TaskTable::settle`] after the last.
    pub(crate) fn load(&mut self, number: u64, segment: Segment, bytes: Vec<u8>) {
        for index in 0..segment.len() {
            let ordinal = Segment::ordinal(number, index);
            let (was, is) = (
                self.first_state(ordinal),
                segment.get(index).unwrap_or(TaskState::Pending),
            );
            if was != is {
                self.counts.remove(was);
                self.counts.add(is);
            }
        }
        self.rows = self.rows.saturating_add(segment.totals().0);
        self.segments.insert(number, (segment, Some(bytes)));
        (self.next, self.reached) = (0, 0);
    }

    /// Moves on over tasks that have left their first state, and over ranges that are committed:
    /// each is passed once.
    pub(crate) fn settle(&mut self) {
        while self.next < self.len && self.state(self.next) != TaskState::Pending {
            self.next = self.next.saturating_add(1);
        }
        let Some(Tasks::Partitions(partitions)) = self.phase().map(|phase| &phase.tasks) else {
            return;
        };
        let is_committed =
            |ordinal| matches!(self.state(ordinal), TaskState::Done | TaskState::Covered);
        self.reached = partitions.reached(self.reached, is_committed);
    }

    /// Where a task stands.
    #[must_use]
    pub(crate) fn state(&self, ordinal: u64) -> TaskState {
        #[cfg(test)]
        tests::STATES_READ.with(|count| count.set(count.get() + 1));
        let (number, index) = Segment::place(ordinal);
        let stored = self
            .segments
            .get(&number)
            .and_then(|(segment, _)| segment.get(index));
        stored.unwrap_or_else(|| self.first_state(ordinal))
    }

    /// What a done task did.
    #[must_use]
    pub(crate) fn result(&self, ordinal: u64) -> Option<TaskResult> {
        let (number, index) = Segment::place(ordinal);
        self.segments
            .get(&number)
            .and_then(|(segment, _)| segment.result(index))
    }

    /// The segment that holds a task, and the bytes the store has for it.
    #[must_use]
    pub(crate) fn segment_of(&self, ordinal: u64) -> (Segment, Option<Vec<u8>>) {
        let (number, _) = Segment::place(ordinal);
        if let Some((segment, stored)) = self.segments.get(&number) {
            return (segment.clone(), stored.clone());
        }
        let behind = self.len.saturating_sub(Segment::ordinal(number, 0));
        let mut segment = Segment::new(u16::try_from(behind).unwrap_or(SEGMENT_TASKS));
        for index in 0..segment.len() {
            segment.set(index, self.first_state(Segment::ordinal(number, index)));
        }
        (segment, None)
    }

    /// Puts back a segment that the store now holds, after `moves` of single tasks within it.
    pub(crate) fn put_segment(
        &mut self,
        number: u64,
        segment: Segment,
        bytes: Vec<u8>,
        moves: &[(u64, TaskState, TaskState, Option<TaskResult>)],
    ) {
        let before = self.segments.insert(number, (segment, Some(bytes)));
        for (ordinal, from, to, result) in moves {
            if (*from, *to) == (TaskState::Done, TaskState::Pending) {
                let was = before
                    .as_ref()
                    .and_then(|(segment, _)| segment.result(Segment::place(*ordinal).1));
                self.rows = self.rows.saturating_sub(was.map_or(0, |was| was.rows));
                self.reached = 0; // found anew below, up to the first that is missing
            }
            self.counts.remove(*from);
            self.counts.add(*to);
            self.rows = self
                .rows
                .saturating_add(result.as_ref().map_or(0, |result| result.rows));
            match to {
                TaskState::Pending if *ordinal < self.next => {
                    self.returned.insert(*ordinal);
                }
                TaskState::Pending
                | TaskState::Open
                | TaskState::Done
                | TaskState::RetryWait
                | TaskState::Dead
                | TaskState::InDoubt
                | TaskState::Covered
                | TaskState::Superseded => {
                    self.returned.remove(ordinal);
                }
            }
        }
        self.settle();
    }

    /// Pending tasks, returned ones first.
    pub(crate) fn pending(&self) -> impl Iterator<Item = u64> + '_ {
        let fresh =
            (self.next..self.len).filter(|ordinal| self.state(*ordinal) == TaskState::Pending);
        self.returned.iter().copied().chain(fresh)
    }

    /// The tasks in a state, ascending. No more tasks are looked at than needed to find as many as
    /// there are.
    pub(crate) fn in_state(&self, state: TaskState) -> Box<dyn Iterator<Item = u64> + '_> {
        let mut counts = self.counts;
        let count = usize::try_from(*counts.of_mut(state)).unwrap_or(usize::MAX);
        match state {
            // those that came back are below all that never left
            TaskState::Pending => Box::new(self.pending()),
            TaskState::Open => Box::new(self.leases.keys().copied()),
            TaskState::RetryWait => Box::new(self.retries.keys().copied()),
            // What is in doubt has a record of the same kind.
            TaskState::Dead => {
                let dead = self.dead.keys().copied();
                Box::new(dead.filter(|ordinal| self.state(*ordinal) == TaskState::Dead))
            }
            TaskState::Done | TaskState::InDoubt | TaskState::Superseded => {
                let stored = self
                    .segments
                    .iter()
                    .flat_map(move |(number, (segment, _))| {
                        segment
                            .in_state(state)
                            .map(move |index| Segment::ordinal(*number, index))
                    });
                Box::new(stored.take(count))
            }
            TaskState::Covered => Box::new(
                (0..self.len)
                    .filter(move |ordinal| self.state(*ordinal) == state)
                    .take(count),
            ),
        }
    }

    /// How many tasks were given up, or wait for a person's word, and nobody goes on without them.
    #[must_use]
    pub(crate) fn given_up(&self) -> u64 {
        let failed = self.counts.dead.saturating_add(self.counts.in_doubt);
        if failed == 0 {
            return 0;
        }
        let accepted = self
            .dead
            .values()
            .filter(|dead| !dead.record.accepted.is_empty());
        failed.saturating_sub(accepted.count() as u64)
    }

    /// True when no task can change any more unless a person asks.
    #[must_use]
    pub(crate) const fn has_ended(&self) -> bool {
        self.counts.pending == 0 && self.counts.open == 0 && self.counts.retry_wait == 0
    }

    fn first_state(&self, ordinal: u64) -> TaskState {
        match self.phase().is_some_and(|phase| phase.skips(ordinal)) {
            true => TaskState::Covered,
            false => TaskState::Pending,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
