//! The plan of one step.

use serde::{Deserialize, Serialize};

use super::partitions::Partitions;
use super::phase::{Phase, PhaseKind, Tasks};
use super::twin::is_built_later;
use crate::assignment::{CutBy, LoadOrder, Work};
use crate::id::{DocumentDigest, RunId, StepName, TaskId};
use crate::range::{CursorRange, Slice};

/// The plan of one step: its phases in their order. A task's phase is its place here, and its
/// ordinal counts from 0 within the phase; both mean the same for as long as the plan lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    /// What is done, one after the other.
    pub phases: Vec<Phase>,
    /// What all tasks of the step have in common; `None` for a step that moves no rows.
    pub load_order: Option<LoadOrder>,
    /// The digest of the coverage that the plan stands and falls with, if it does.
    pub depends_on: Option<DocumentDigest>,
    /// About how many rows will be moved.
    pub estimated_rows: u64,
    /// What the user should know before it runs.
    pub warnings: Vec<String>,
    /// What is there and is not loaded.
    pub not_loaded: Vec<String>,
    /// The digest of the facts that it was made from.
    pub facts: Option<DocumentDigest>,
}

impl StepPlan {
    /// What its partitions are cut by.
    #[must_use]
    pub fn cut_by(&self) -> Option<&CutBy> {
        self.load_order.as_ref()?.cut_by.as_ref()
    }

    /// A phase by its number.
    #[must_use]
    pub fn phase(&self, number: u8) -> Option<&Phase> {
        self.phases.get(usize::from(number))
    }

    /// The phases with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (u8, &Phase)> {
        (0..=u8::MAX).zip(&self.phases)
    }

    /// Whether the table that is made is built once its rows are there.
    #[must_use]
    pub fn is_built_later(&self) -> bool {
        let twin = self
            .load_order
            .as_ref()
            .and_then(|order| order.twin.as_ref());
        twin.is_some_and(is_built_later)
    }

    /// The phases that do the step's work.
    pub fn work_phases(&self) -> impl Iterator<Item = &Phase> {
        self.phases.iter().filter(|phase| phase.kind.is_work())
    }

    /// The partitions that are moved; `None` for a step that moves no rows.
    #[must_use]
    pub fn partitions(&self) -> Option<&Partitions> {
        self.phases.iter().find_map(|phase| match &phase.tasks {
            Tasks::Partitions(partitions) => Some(partitions.as_ref()),
            Tasks::One | Tasks::Slots(_) => None,
        })
    }

    /// How many tasks the step's work is.
    #[must_use]
    pub fn tasks_planned(&self) -> u64 {
        self.work_phases()
            .map(Phase::tasks_planned)
            .fold(0, u64::saturating_add)
    }

    /// How many ordinals of the step's work have no task, because earlier runs committed their
    /// partitions.
    #[must_use]
    pub fn tasks_covered(&self) -> u64 {
        let all = self
            .work_phases()
            .map(Phase::len)
            .fold(0, u64::saturating_add);
        all.saturating_sub(self.tasks_planned())
    }

    /// What the task of an ordinal does; `None` when it is left out, and beyond the last.
    #[must_use]
    pub fn work(&self, phase: u8, ordinal: u64) -> Option<Work> {
        let phase = self.phase(phase)?;
        if ordinal >= phase.len() {
            return None;
        }
        match (&phase.tasks, phase.kind) {
            (Tasks::Partitions(partitions), _) => partitions.slice(ordinal).map(Work::Partition),
            (Tasks::Slots(_), _) => Some(Work::Noop(ordinal)),
            (Tasks::One, PhaseKind::Prepare) => Some(Work::Prepare),
            (Tasks::One, PhaseKind::Count) => self
                .partitions()
                .map(|partitions| Work::Count(partitions.partitioning().whole())),
            (Tasks::One, PhaseKind::Load) => Some(Work::Partition(Slice::Range(CursorRange::ALL))),
            (Tasks::One, PhaseKind::Build) => Some(Work::Build),
            (Tasks::One, PhaseKind::Check) => Some(Work::Check),
            (Tasks::One, PhaseKind::Publish) => Some(Work::Publish),
            (Tasks::One, PhaseKind::Reconcile) => Some(Work::Reconcile),
            (Tasks::One, PhaseKind::Statements) => Some(Work::Statements),
            (Tasks::One, PhaseKind::Replay) => Some(Work::Replay),
            (Tasks::One, PhaseKind::Follow) => Some(Work::Follow),
            (Tasks::One, PhaseKind::Close) => {
                let committing = self
                    .numbered()
                    .filter(|(_, phase)| phase.kind.commits_rows())
                    .last();
                committing.map(|(number, _)| Work::Close { phase: number })
            }
            (Tasks::One, PhaseKind::Execute) => Some(Work::Command),
            (Tasks::One, PhaseKind::Probe | PhaseKind::Fence) => None,
        }
    }

    /// The id of the task of an ordinal, in a run and a generation of its plan; `None` where there
    /// is no task.
    #[must_use]
    pub fn task_id(
        &self,
        run: &RunId,
        generation: u32,
        step: &StepName,
        phase: u8,
        ordinal: u64,
    ) -> Option<TaskId> {
        let work = self.work(phase, ordinal)?;
        Some(TaskId::derive(
            run,
            generation,
            step,
            phase,
            &work.to_string(),
        ))
    }

    /// What the tasks of the step's work do, in their order.
    pub fn works(&self) -> impl Iterator<Item = Work> + '_ {
        let of_work = self.numbered().filter(|(_, phase)| phase.kind.is_work());
        of_work.flat_map(move |(number, phase)| {
            (0..phase.len()).filter_map(move |ordinal| self.work(number, ordinal))
        })
    }
}
