//! Which tasks of a step that follows another one may run: those whose range is committed there.

use highwater_common::assignment::Work;
use highwater_common::id::StepName;
use highwater_common::plan::{PhaseKind, Tasks};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::record::TaskAddress;
use highwater_common::spec::When;
use highwater_common::status::StepStatus;
use highwater_common::task::TaskState;

use super::step::Step;
use super::task_table::TaskTable;
use super::view::Run;

/// Waiting tasks that are looked at in a turn at the most: they come in the order in which the other
/// step's are committed, so the first of them are those that may run.
pub(super) const LOOKED_AT_MAX: usize = 4096;

/// The step that another one follows, and as much of it as is asked for.
pub(super) struct Followed<'a> {
    /// Its name.
    pub(super) name: &'a StepName,
    step: &'a Step,
    table: Option<&'a TaskTable>,
}

impl<'a> Followed<'a> {
    /// The step that `name` follows, if it does.
    #[must_use]
    pub(super) fn by(run: &'a Run, name: &StepName) -> Option<Self> {
        let other = run.spec.steps.get(name)?.strategy.load().follows()?;
        let step = run.steps.get(other)?;
        Some(Self {
            name: other,
            step,
            table: step.committing().map(|(_, table)| table),
        })
    }

    /// Whether its tasks are under way, so that some may be committed already.
    #[must_use]
    pub(super) fn is_running(&self) -> bool {
        self.step.record.status == StepStatus::Running && !self.step.is_replanned()
    }

    /// Where it stands.
    #[must_use]
    pub(super) const fn status(&self) -> StepStatus {
        self.step.record.status
    }

    /// Whether all of a range is committed there, by this run or by earlier ones, as far as that is
    /// sure: its prepare has found what earlier ones left, and nothing is to be compared. Once the
    /// step is a success, whatever it goes on without is nobody's business any more.
    #[must_use]
    pub(super) fn has(&self, range: &CursorRange) -> bool {
        if self.status() == StepStatus::Success {
            return true;
        }
        let is_prepared = self
            .step
            .of_kind(PhaseKind::Prepare)
            .is_none_or(|(_, prepare)| prepare.counts.done > 0);
        if !is_prepared || self.step.is_replanned() || self.step.comparison.is_some() {
            return false;
        }
        let plan = self.step.plan.as_ref();
        let partitions = plan.and_then(|plan| plan.partitions());
        let (Some(partitions), Some(table)) = (partitions, self.table) else {
            return false;
        };
        let partitioning = partitions.partitioning();
        let whole = partitioning.whole();
        let within = whole
            .start()
            .is_none_or(|start| range.start() >= Some(start))
            && whole
                .end()
                .is_none_or(|end| range.end().is_some_and(|at| at <= end));
        within
            && partitioning
                .ordinals_over(range)
                .all(|ordinal| matches!(table.state(ordinal), TaskState::Done | TaskState::Covered))
    }
}

/// The tasks of a phase that wait and may run, as far as they are looked at; `None` where the step
/// follows nobody, and all of them may.
#[must_use]
pub(super) fn released(
    run: &Run,
    name: &StepName,
    kind: PhaseKind,
    table: &TaskTable,
) -> Option<Vec<u64>> {
    let (followed, ranges) = followed_ranges(run, name, kind)?;
    // Once nothing more comes there, all of them are looked at: none may be passed over for ever.
    let most = match followed.status().has_ended() {
        true => usize::MAX,
        false => LOOKED_AT_MAX,
    };
    let waiting = table.pending().take(most);
    Some(
        waiting
            .filter(|ordinal| ranges(*ordinal).is_some_and(|range| followed.has(&range)))
            .collect(),
    )
}

/// Whether a step waits with its close, and so with its end, for the step that it follows: what that
/// one holds is only sure once it has ended.
#[must_use]
pub(super) fn waits_with_its_close(run: &Run, name: &StepName, kind: PhaseKind) -> bool {
    kind == PhaseKind::Close
        && Followed::by(run, name).is_some_and(|followed| !followed.status().has_ended())
}

/// Why what a step has done does not stand, now that the step that it follows has ended: it was no
/// success, or its rows are not those that the periods were run over.
#[must_use]
pub(super) fn undone(run: &Run, name: &StepName) -> Option<String> {
    let followed = Followed::by(run, name)?;
    let known = run.spec.steps.get(name)?;
    let edge = known
        .depends_on
        .iter()
        .find(|edge| edge.step == *followed.name);
    let needs_success = edge.is_none_or(|edge| edge.when == When::Success);
    let (other, own) = (followed.name, run.steps.get(name)?);
    match followed.status() {
        StepStatus::Pending | StepStatus::Running => None,
        StepStatus::Success if followed.step.record.tasks_lost > 0 => Some(format!(
            "the target had lost rows of {other}, which were loaded again while periods ran: run the \
             pipeline again"
        )),
        StepStatus::Success => {
            let whole = |step: &Step| {
                let plan = step.plan.as_ref()?;
                Some(plan.partitions()?.partitioning().whole())
            };
            (whole(followed.step) != whole(own)).then(|| {
                format!(
                    "{other} was planned again, and has other periods by now: run the pipeline again"
                )
            })
        }
        status @ (StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled) => {
            needs_success.then(|| format!("{other} {status}"))
        }
    }
}

/// The first task that waits for the other step, when that will bring nothing more; and how many
/// wait.
#[must_use]
pub(super) fn stranded(run: &Run, name: &StepName) -> Option<String> {
    let step = run.steps.get(name)?;
    let (number, phase, table) = step
        .planned_tables()
        .find(|(_, phase, _)| phase.kind == PhaseKind::Statements)?;
    let (followed, ranges) = followed_ranges(run, name, phase.kind)?;
    let waits = table.counts.pending > 0 && table.counts.open == 0 && table.counts.retry_wait == 0;
    if !followed.status().has_ended() || !waits {
        return None;
    }
    let is_there = |ordinal: &u64| ranges(*ordinal).is_some_and(|range| followed.has(&range));
    let mut waiting = table.pending();
    let first = waiting.next()?;
    if is_there(&first) || waiting.any(|ordinal| is_there(&ordinal)) {
        return None;
    }
    let address = TaskAddress {
        step: name.clone(),
        generation: step.generation,
        phase: number,
        ordinal: first,
    };
    let work = run.work(&address).map(|work: Work| work.to_string());
    Some(format!(
        "upstream: {} of {} periods have rows that {} has not committed, the first is {}",
        table.counts.pending,
        table.counts.planned(),
        followed.name,
        work.unwrap_or_default()
    ))
}

/// The step that is followed, and the range of each task that follows it.
fn followed_ranges<'a>(
    run: &'a Run,
    name: &StepName,
    kind: PhaseKind,
) -> Option<(Followed<'a>, impl Fn(u64) -> Option<CursorRange> + 'a)> {
    if kind != PhaseKind::Statements {
        return None;
    }
    let followed = Followed::by(run, name)?;
    let plan = run.steps.get(name)?.plan.as_ref()?;
    let phase = plan.phases.iter().find(|phase| phase.kind == kind)?;
    let Tasks::Partitions(partitions) = &phase.tasks else {
        return None;
    };
    let range = move |ordinal| match partitions.slice(ordinal)? {
        Slice::Range(range) => Some(range),
        Slice::Null => None,
    };
    Some((followed, range))
}
