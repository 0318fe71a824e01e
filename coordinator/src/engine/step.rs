//! A step's tasks as the leader sees them: what the store holds, decoded, with the bytes it holds
//! them in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_common::document::TaskCounts;
use highwater_common::plan::{Phase, PhaseKind, StepPlan, Tasks};
use highwater_common::record::{DeadRecord, LeaseRecord, StepRecord, TaskAddress};
use highwater_common::segment::{SEGMENT_TASKS, Segment, TaskResult};
use highwater_common::status::StepStatus;
use highwater_common::task::TaskState;

use super::retries::Retries;

/// A record with the bytes it has in the store, which a transaction compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored<T> {
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
    /// The tasks of generation 0, by [`PhaseKind::OF_NO_PLAN`].
    outside: [TaskTable; 2],
    /// What it does, once planned.
    pub plan: Option<Arc<StepPlan>>,
    /// The tasks of each phase of the plan.
    phases: Vec<TaskTable>,
    /// Which plan of the run the step is carried out by: the latest one that it was planned anew
    /// in. 0 before the first.
    pub generation: u32,
    /// How often it was planned again.
    pub replans: u32,
    /// Bytes carried by completions of this term.
    pub bytes: u64,
    /// The token of the task that was handed out last in this term: who was served longest ago
    /// comes first.
    pub last_token: i64,
    /// The token of the prepare that was handed out last in this term.
    pub prepare_token: i64,
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
            fingerprint: String::new(),
            setbacks: 0,
            tasks_lost: 0,
        };
        Self {
            record,
            stored: None,
            outside: [TaskTable::single(), TaskTable::single()],
            plan: None,
            phases: Vec::new(),
            generation: 0,
            replans: 0,
            bytes: 0,
            last_token: 0,
            prepare_token: 0,
        }
    }

    /// Gives the step the tasks of a plan, as a generation of its own of which nothing is stored
    /// yet.
    pub(crate) fn follow(&mut self, plan: Arc<StepPlan>, generation: u32) {
        let StepRecord {
            setbacks,
            tasks_lost,
            ..
        } = self.record;
        self.record = StepRecord {
            setbacks,
            tasks_lost,
            ..Self::fresh().record
        };
        self.stored = None;
        self.phases = plan
            .numbered()
            .map(|(number, _)| TaskTable::planned(&plan, number))
            .collect();
        self.plan = Some(plan);
        self.generation = generation;
    }

    /// Which life of which server the step's target was when it was prepared last, or else when it
    /// was planned.
    #[must_use]
    pub(crate) fn fingerprint(&self) -> Option<&str> {
        let load_order = self.plan.as_ref().and_then(|plan| plan.load_order.as_ref());
        match self.record.fingerprint.as_str() {
            "" => load_order.map(|load_order| load_order.target_fingerprint.as_str()),
            noted => Some(noted),
        }
    }

    /// True while the step is to be planned again: what it was to load was committed by others
    /// before its stream was its own.
    #[must_use]
    pub(crate) fn is_replanned(&self) -> bool {
        self.record.status == StepStatus::Running
            && self.phases.iter().any(|table| table.counts.superseded > 0)
    }

    /// How far the plan's phases are, when that many dead tasks are tolerated where any are.
    #[must_use]
    pub(crate) fn stage(&self, tolerated: u32) -> Stage {
        let Some(plan) = &self.plan else {
            return Stage::Over;
        };
        for ((number, phase), table) in plan.numbered().zip(&self.phases) {
            let failed = table.counts.dead.saturating_add(table.counts.in_doubt);
            let is_failed = failed
                > if phase.tolerant {
                    u64::from(tolerated)
                } else {
                    0
                };
            if !table.has_ended() {
                return Stage::In(number);
            }
            if is_failed {
                return Stage::Failed(number);
            }
        }
        Stage::Over
    }

    /// What the tasks of a phase are for; `None` for one that the step does not have, or not any
    /// more.
    #[must_use]
    pub(crate) fn kind(&self, generation: u32, phase: u8) -> Option<PhaseKind> {
        match generation {
            0 => PhaseKind::of_no_plan(phase),
            _ if generation == self.generation => Some(self.plan.as_ref()?.phase(phase)?.kind),
            _ => None,
        }
    }

    /// The tasks of a phase of a generation.
    #[must_use]
    pub(crate) fn table(&self, generation: u32, phase: u8) -> Option<&TaskTable> {
        match generation {
            0 => self.outside.get(usize::from(phase)),
            _ => self.phases.get(usize::from(phase)),
        }
    }

    /// The tasks of a phase of a generation.
    pub(crate) fn table_mut(&mut self, generation: u32, phase: u8) -> Option<&mut TaskTable> {
        match generation {
            0 => self.outside.get_mut(usize::from(phase)),
            _ => self.phases.get_mut(usize::from(phase)),
        }
    }

    /// The table that a task stands in.
    #[must_use]
    pub(crate) fn table_of(&self, address: &TaskAddress) -> Option<&TaskTable> {
        self.table(address.generation, address.phase)
    }

    /// The probe.
    #[must_use]
    pub(crate) const fn probe(&self) -> &TaskTable {
        let [probe, _] = &self.outside;
        probe
    }

    /// The fence of a cancelled run.
    #[must_use]
    pub(crate) const fn fence(&self) -> &TaskTable {
        let [_, fence] = &self.outside;
        fence
    }

    /// All tasks, those of no plan first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &TaskTable> {
        self.outside.iter().chain(&self.phases)
    }

    /// All tasks.
    pub(crate) fn tables_mut(&mut self) -> impl Iterator<Item = &mut TaskTable> {
        self.outside.iter_mut().chain(&mut self.phases)
    }

    /// The tasks of the plan, with their phases.
    pub(crate) fn planned_tables(&self) -> impl Iterator<Item = (u8, &Phase, &TaskTable)> {
        let phases = self.plan.iter().flat_map(|plan| plan.numbered());
        phases
            .zip(&self.phases)
            .map(|((number, phase), table)| (number, phase, table))
    }

    /// The tasks that do the step's work.
    pub(crate) fn work_tables(&self) -> impl Iterator<Item = &TaskTable> {
        self.planned_tables()
            .filter(|(_, phase, _)| phase.kind.is_work())
            .map(|(_, _, table)| table)
    }

    /// Tasks that somebody holds, of any kind.
    #[must_use]
    pub(crate) fn open(&self) -> u64 {
        self.tables()
            .fold(0, |open, table| open.saturating_add(table.counts.open))
    }

    /// The tasks of the step's work by state.
    #[must_use]
    pub(crate) fn counts(&self) -> TaskCounts {
        self.work_tables()
            .fold(TaskCounts::default(), |counts, table| {
                counts.plus(table.counts)
            })
    }

    /// Rows committed and counted.
    #[must_use]
    pub(crate) fn rows(&self) -> u64 {
        self.work_tables()
            .fold(0, |rows, table| rows.saturating_add(table.rows))
    }

    /// Where a task of the step's work stands.
    #[cfg(test)]
    pub(crate) fn work(&self, ordinal: u64) -> TaskAddress {
        let number = self
            .planned_tables()
            .find(|(_, phase, _)| phase.kind.is_work())
            .map(|(number, _, _)| number);
        let (step, phase) = ("a".parse().expect("a name"), number.expect("work"));
        TaskAddress {
            step,
            generation: self.generation,
            phase,
            ordinal,
        }
    }

    /// How many ranges of the plan are committed without a gap, from its first.
    #[must_use]
    pub(crate) fn reached(&self) -> u64 {
        self.work_tables()
            .map(|table| table.reached)
            .max()
            .unwrap_or(0)
    }
}

/// How far the phases of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The tasks of this phase run.
    In(u8),
    /// Too many tasks of this phase were given up.
    Failed(u8),
    /// Every phase has ended well.
    Over,
}

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
    reached: u64,
    /// The plan, and which phase of it the tasks are; `None` for a task of no plan.
    planned: Option<(Arc<StepPlan>, u8)>,
}

impl TaskTable {
    /// One task of no plan.
    #[must_use]
    fn single() -> Self {
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
            TaskState::Dead => Box::new(self.dead.keys().copied()),
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
