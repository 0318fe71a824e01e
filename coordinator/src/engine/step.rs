//! A step's tasks as the leader sees them: what the store holds, decoded, with the bytes it holds
//! them in.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_common::document::TaskCounts;
use highwater_common::plan::{Phase, PhaseKind, StepPlan};
use highwater_common::record::{StepRecord, TaskAddress};
use highwater_common::status::StepStatus;

use super::task_table::TaskTable;

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
    /// Set while the tasks that are counted as done are to be compared with the receipts of the
    /// target, before more of them are handed out.
    pub comparison: Option<Comparison>,
}

/// A comparison in the midst of a step: the step's close, handed out early.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// The token of the close that makes it, once that was handed out: the answer of an earlier
    /// one may be older than what is counted.
    pub token: Option<i64>,
    /// Tasks that were counted since it became due. The target may have been read before they were
    /// committed, so a missing receipt of theirs says nothing.
    pub since: BTreeSet<u64>,
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
            checks: Vec::new(),
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
            comparison: None,
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
        self.comparison = None;
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
            if !table.has_ended() {
                return Stage::In(number);
            }
            let tolerated = match phase.tolerant {
                true => u64::from(tolerated),
                false => 0,
            };
            if table.given_up() > tolerated {
                return Stage::Failed(number);
            }
        }
        Stage::Over
    }

    /// True once the step does what it is for, and goes on doing so: the steps that depend on it may
    /// begin, although it never ends by itself.
    #[must_use]
    pub(crate) fn is_live(&self, tolerated: u32) -> bool {
        let kind = |number| self.kind(self.generation, number);
        match self.stage(tolerated) {
            Stage::In(number) => kind(number) == Some(PhaseKind::Follow),
            Stage::Over | Stage::Failed(_) => false,
        }
    }

    /// Makes a comparison due, if there is anything to compare before the step's close: something
    /// is counted as done, and its phase is not over. A close that is under way may have been asked
    /// before the last task was counted, so it is asked once more.
    pub(crate) fn compare(&mut self) {
        let (committing, close) = (self.committing(), self.of_kind(PhaseKind::Close));
        let is_due = match (committing, close) {
            (Some((_, committing)), Some((_, close))) if !close.has_ended() => {
                committing.counts.done > 0 && (!committing.has_ended() || close.counts.open > 0)
            }
            (Some(_) | None, Some(_) | None) => false,
        };
        self.comparison = is_due.then(Comparison::default);
    }

    /// The phase whose tasks are due while `phase` is: in the place of more loads, the close, when
    /// a comparison is to be made.
    #[must_use]
    pub(crate) fn due_before(&self, phase: u8) -> u8 {
        let kind = self.kind(self.generation, phase);
        let compares = kind.is_some_and(PhaseKind::commits_rows) && self.comparison.is_some();
        let close = self.of_kind(PhaseKind::Close).filter(|_| compares);
        close.map_or(phase, |(number, _)| number)
    }

    /// Notes of the comparison, if one is due, that a task was handed out.
    pub(crate) fn note_assigned(&mut self, kind: PhaseKind, token: i64) {
        if kind != PhaseKind::Close {
            return;
        }
        // Once the loads are over this is the close itself, and compares all there is.
        let is_last = self.committing().is_none_or(|(_, table)| table.has_ended());
        match &mut self.comparison {
            comparison if is_last => *comparison = None,
            Some(comparison) => comparison.token = Some(token),
            None => {}
        }
    }

    /// Notes of the comparison, if one is due, that a task was counted.
    pub(crate) fn note_done(&mut self, kind: PhaseKind, ordinal: u64) {
        if let Some(comparison) = self.comparison.as_mut().filter(|_| kind.commits_rows()) {
            comparison.since.insert(ordinal);
        }
    }

    /// Notes of the comparison, if one is due, that a task was given up. A close that cannot be
    /// made ends the step once its loads are over, and keeps none of them waiting.
    pub(crate) fn note_dead(&mut self, kind: PhaseKind) {
        if kind == PhaseKind::Close {
            self.comparison = None;
        }
    }

    /// The phase whose commits the close asks for, and its tasks.
    #[must_use]
    pub(crate) fn committing(&self) -> Option<(u8, &TaskTable)> {
        self.planned_tables()
            .filter(|(_, phase, _)| phase.kind.commits_rows())
            .last()
            .map(|(number, _, table)| (number, table))
    }

    /// The phase of a kind, and its tasks.
    #[must_use]
    pub(crate) fn of_kind(&self, kind: PhaseKind) -> Option<(u8, &TaskTable)> {
        self.planned_tables()
            .find(|(_, phase, _)| phase.kind == kind)
            .map(|(number, _, table)| (number, table))
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
