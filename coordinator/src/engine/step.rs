//! A step's tasks as the leader sees them: what the store holds, decoded, with the bytes it holds them in.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::plan::StepPlan;
use highwater_common::record::{DeadRecord, LeaseRecord, StepRecord};
use highwater_common::segment::{SEGMENT_TASKS, Segment, TaskResult};
use highwater_common::spec::Strategy;
use highwater_common::status::StepStatus;
use highwater_common::task::TaskState;
use highwater_common::view::TaskCounts;

use super::retries::Retries;

/// Generation 0: the probe.
pub(crate) const PROBE_ORDINAL: u64 = 0;
/// Generation 0: the fence of a cancelled run.
pub(crate) const FENCE_ORDINAL: u64 = 1;
/// Generation 0: the count of the rows that no partition takes, once all of them have ended.
pub(crate) const COUNT_ORDINAL: u64 = 2;
/// How many tasks generation 0 has.
const WIDE_TASKS: u64 = 3;
/// Every later generation: the prepare task. Partition `n` of the plan has ordinal `n + 1`.
pub(super) const PREPARE_ORDINAL: u64 = 0;

/// A record with the bytes it has in the store, which a transaction compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held<T> {
    /// The record.
    pub record: T,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A step of a run.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Where it stands.
    pub record: StepRecord,
    /// The record's bytes, once it has been stored.
    pub stored: Option<Vec<u8>>,
    /// Generation 0: probe, fence and count.
    pub wide: Track,
    /// The current generation: prepare and partitions. Empty before the plan.
    pub work: Track,
    /// Which plan of the run the step is carried out by: the latest one that it was planned anew in. 0 before the first.
    pub generation: u32,
    /// How often it was planned again.
    pub replans: u32,
    /// Bytes carried by completions of this term.
    pub bytes: u64,
    /// The token of the task that was handed out last in this term: who was served longest ago comes first.
    pub last_token: i64,
}

impl Step {
    /// A step of which nothing is stored yet.
    #[must_use]
    pub(crate) fn fresh() -> Self {
        let record = StepRecord {
            status: StepStatus::Pending,
            reason: String::new(),
            warnings: Vec::new(),
            not_loaded: Vec::new(),
        };
        Self {
            record,
            stored: None,
            wide: Track::wide(),
            work: Track::default(),
            generation: 0,
            replans: 0,
            bytes: 0,
            last_token: 0,
        }
    }

    /// True while the step is to be planned again: what it was to load was committed by others before its stream was its own.
    #[must_use]
    pub(crate) fn is_replanned(&self) -> bool {
        self.record.status == StepStatus::Running
            && self.work.len > 0
            && self.work.state(PREPARE_ORDINAL) == TaskState::Superseded
    }

    /// True once a step that moves rows has done some of its tasks, and no more dead ones stand beside them than it tolerates: then
    /// the rows that none of them takes are counted.
    #[must_use]
    pub(crate) fn is_to_be_counted(&self, tolerated: u32) -> bool {
        let counts = self.counts();
        self.record.status == StepStatus::Running
            && self.work.len > 0
            && self.work.state(PREPARE_ORDINAL) == TaskState::Done
            && self.work.has_ended()
            && counts.done > 0
            && counts.dead.saturating_add(counts.in_doubt) <= u64::from(tolerated)
    }

    /// The tasks of a generation.
    #[must_use]
    pub(crate) const fn track(&self, generation: u32) -> &Track {
        if generation == 0 { &self.wide } else { &self.work }
    }

    /// The tasks of a generation.
    pub(crate) const fn track_mut(&mut self, generation: u32) -> &mut Track {
        if generation == 0 { &mut self.wide } else { &mut self.work }
    }

    /// Tasks that somebody holds, of any kind.
    #[must_use]
    pub(crate) fn open(&self) -> u64 {
        self.wide.counts.open.saturating_add(self.work.counts.open)
    }

    /// Tasks by state, without probe, prepare, fence and count.
    #[must_use]
    pub(crate) fn counts(&self) -> TaskCounts {
        let mut counts = self.work.counts;
        if self.work.len > 0 {
            counts.remove(self.work.state(PREPARE_ORDINAL));
        }
        counts
    }
}

/// The tasks of one generation of a step. A segment that the store does not hold has every task in its first state, so a
/// million tasks cost nothing before they run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    /// How many tasks there are.
    pub len: u64,
    /// Leases, by ordinal.
    pub leases: BTreeMap<u64, Held<LeaseRecord>>,
    /// Tasks that wait for their next attempt.
    pub retries: Retries,
    /// Tasks that were given up.
    pub dead: BTreeMap<u64, Held<DeadRecord>>,
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
    reached: u64,
    covered: Covered,
}

/// Which tasks are covered from the start.
#[derive(Debug, Clone, Default)]
enum Covered {
    /// None.
    #[default]
    Nothing,
    /// The plan's own.
    Plan(std::sync::Arc<StepPlan>),
}

impl Track {
    /// Probe, fence and count.
    #[must_use]
    pub(crate) fn wide() -> Self {
        let counts = TaskCounts { pending: WIDE_TASKS, ..TaskCounts::default() };
        Self { len: WIDE_TASKS, counts, ..Self::default() }
    }

    /// Prepare and partitions of a plan.
    #[must_use]
    pub(crate) fn planned(plan: std::sync::Arc<StepPlan>, strategy: &Strategy) -> Self {
        let mut counts = TaskCounts { pending: plan.tasks_planned(), ..TaskCounts::default() };
        counts.covered = plan.partitions().saturating_sub(counts.pending);
        let prepares = match strategy {
            Strategy::Backfill(_) => TaskState::Pending,
            Strategy::Noop { .. } => TaskState::Covered,
        };
        counts.add(prepares);
        let mut track =
            Self { len: plan.partitions().saturating_add(1), counts, covered: Covered::Plan(plan), ..Self::default() };
        track.settle();
        track
    }

    /// Takes a stored segment in place of the first states; called while loading, and [`Track::settle`] after the last.
    pub(crate) fn load(&mut self, number: u64, segment: Segment, bytes: Vec<u8>) {
        for index in 0..segment.len() {
            let ordinal = Segment::ordinal(number, index);
            let (was, is) = (self.first_state(ordinal), segment.get(index).unwrap_or(TaskState::Pending));
            if was != is {
                self.counts.remove(was);
                self.counts.add(is);
            }
        }
        self.rows = self.rows.saturating_add(segment.totals().0);
        self.segments.insert(number, (segment, Some(bytes)));
        (self.next, self.reached) = (0, 0);
    }

    /// Moves on over tasks that have left their first state, and over ranges that are committed: each is passed once.
    pub(crate) fn settle(&mut self) {
        while self.next < self.len && self.state(self.next) != TaskState::Pending {
            self.next = self.next.saturating_add(1);
        }
        let Covered::Plan(plan) = &self.covered else { return };
        let StepPlan::Load(load) = plan.as_ref() else { return };
        let (generator, mut reached) = (load.generator(), self.reached);
        // Ordinals follow the declared order; ranges follow the cursor.
        let is_committed =
            |no| matches!(self.state(generator.ordinal_of(no).saturating_add(1)), TaskState::Done | TaskState::Covered);
        while reached < generator.ranges() && is_committed(reached) {
            reached = reached.saturating_add(1);
        }
        self.reached = reached;
    }

    /// How many ranges of the plan are committed without a gap, from its first; what is committed is never taken back.
    #[must_use]
    pub(crate) const fn reached(&self) -> u64 {
        self.reached
    }

    /// Where a task stands.
    #[must_use]
    pub(crate) fn state(&self, ordinal: u64) -> TaskState {
        #[cfg(test)]
        tests::STATES_READ.with(|count| count.set(count.get() + 1));
        let (number, index) = Segment::place(ordinal);
        let stored = self.segments.get(&number).and_then(|(segment, _)| segment.get(index));
        stored.unwrap_or_else(|| self.first_state(ordinal))
    }

    /// What a done task did.
    #[must_use]
    pub(crate) fn result(&self, ordinal: u64) -> Option<TaskResult> {
        let (number, index) = Segment::place(ordinal);
        self.segments.get(&number).and_then(|(segment, _)| segment.result(index))
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
        self.segments.insert(number, (segment, Some(bytes)));
        for (ordinal, from, to, result) in moves {
            self.counts.remove(*from);
            self.counts.add(*to);
            self.rows = self.rows.saturating_add(result.as_ref().map_or(0, |result| result.rows));
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

    /// Pending tasks from `start` on, returned ones first.
    pub(crate) fn pending_from(&self, start: u64) -> impl Iterator<Item = u64> + '_ {
        let fresh = (self.next.max(start)..self.len).filter(|ordinal| self.state(*ordinal) == TaskState::Pending);
        self.returned.range(start..).copied().chain(fresh)
    }

    /// The tasks in a state, ascending. No more tasks are looked at than needed to find as many as there are.
    pub(crate) fn in_state(&self, state: TaskState) -> Box<dyn Iterator<Item = u64> + '_> {
        let mut counts = self.counts;
        let count = usize::try_from(*counts.of_mut(state)).unwrap_or(usize::MAX);
        match state {
            TaskState::Pending => Box::new(self.pending_from(0)), // those that came back are below all that never left
            TaskState::Open => Box::new(self.leases.keys().copied()),
            TaskState::RetryWait => Box::new(self.retries.keys().copied()),
            TaskState::Dead => Box::new(self.dead.keys().copied()),
            TaskState::Done | TaskState::InDoubt | TaskState::Superseded => {
                let stored = self.segments.iter().flat_map(move |(number, (segment, _))| {
                    segment.in_state(state).map(move |index| Segment::ordinal(*number, index))
                });
                Box::new(stored.take(count))
            }
            TaskState::Covered => {
                Box::new((0..self.len).filter(move |ordinal| self.state(*ordinal) == state).take(count))
            }
        }
    }

    /// True when no task can change any more unless a person asks.
    #[must_use]
    pub(crate) const fn has_ended(&self) -> bool {
        self.counts.pending == 0 && self.counts.open == 0 && self.counts.retry_wait == 0
    }

    fn first_state(&self, ordinal: u64) -> TaskState {
        match &self.covered {
            Covered::Nothing => TaskState::Pending,
            Covered::Plan(plan) => match ordinal.checked_sub(1) {
                Some(partition) if plan.skips(partition) => TaskState::Covered,
                None if plan.settled().is_none() => TaskState::Covered,
                Some(_) | None => TaskState::Pending,
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
