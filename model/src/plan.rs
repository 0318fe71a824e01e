//! Plans: how a run cuts the stream, what it leaves out as committed, and by which mark the
//! stream's owner is known.

use std::sync::LazyLock;

use highwater_common::commit::LedgerState;
use highwater_common::id::DocumentDigest;
use highwater_common::status::{RunEvent, RunStatus};
use highwater_common::stream::{AfterFence, PlanMark, REPLANS_MAX, after_fence};
use highwater_common::task::{TaskEvent, TaskState};

use crate::design::Design;
use crate::leader::move_run;
use crate::world::{NO_TASK, PARTITIONS, PREPARE, Protocol, SLICES, World};

/// Every slice of the stream, one bit each.
const ALL: u8 = (1 << SLICES) - 1;
/// The partition that holds all slices, beside one for each.
const WHOLE: usize = SLICES;
/// Ways to cut the stream: a partition for each slice, or one for all.
pub(crate) const CUTS: usize = 2;
const COARSE: u8 = 1;
/// Plans of one run, by T5.
const GENERATIONS: usize = REPLANS_MAX as usize + 1;

/// What tells a run's plan from every other one of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Plan {
    pub(crate) generation: u8,
    pub(crate) cut: u8,
    /// The slices that it leaves out, for they were found committed.
    pub(crate) covered: u8,
}

/// The marks of all plans there can be, as production makes them: a digest each, and a million
/// states ask for them.
static MARKS: LazyLock<Vec<PlanMark>> = LazyLock::new(|| {
    let plans = (0..GENERATIONS * CUTS).flat_map(|at| (0..=ALL).map(move |covered| (at, covered)));
    plans
        .map(|(at, covered)| mark(at / CUTS, at % CUTS, covered))
        .collect()
});
/// The digests of all coverages.
static COVERAGES: LazyLock<Vec<DocumentDigest>> = LazyLock::new(|| {
    (0..=ALL)
        .map(|covered| DocumentDigest::of(&[covered]))
        .collect()
});

fn mark(generation: usize, cut: usize, covered: u8) -> PlanMark {
    let cut = DocumentDigest::of(format!("{cut}, without {covered}").as_bytes());
    PlanMark::of(u32::try_from(generation).unwrap_or(u32::MAX), &cut)
}

/// The slices of a partition.
pub(crate) fn slices_of(task: usize) -> u8 {
    if task == WHOLE { ALL } else { 1 << task }
}

/// The partitions that a cut makes of what is to be loaded. A partition that is committed in part
/// is what is left of it.
fn partitions(cut: u8, wanted: u8) -> impl Fn(usize) -> bool {
    let is_one = cut == COARSE && wanted == ALL;
    move |task| (task == WHOLE) == is_one && slices_of(task) & wanted != 0
}

impl Protocol {
    /// The mark by which the design knows a plan.
    pub(crate) fn mark(&self, plan: Plan) -> PlanMark {
        let Plan {
            generation,
            cut,
            covered,
        } = match self.design {
            Design::PlanKnownByItsGeneration => Plan {
                generation: plan.generation,
                ..Plan::default()
            },
            _ => plan,
        };
        let place = (usize::from(generation) * CUTS + usize::from(cut)) * (usize::from(ALL) + 1);
        MARKS[place + usize::from(covered)]
    }

    /// What is committed of the stream, whichever run did it, as probe and prepare read it for a
    /// run.
    pub(crate) fn coverage(&self, world: &World, run: usize) -> u8 {
        let rows = world.target.rows.iter();
        let committed = rows.filter(|entry| entry.row.state == LedgerState::Committed);
        let counts = committed.filter(|entry| {
            usize::from(entry.name.run) != run || self.design != Design::OwnReceiptsAreNotCoverage
        });
        counts.fold(0, |covered, entry| {
            covered | slices_of(usize::from(entry.name.task))
        })
    }

    /// What a probe finds becomes a plan.
    pub(crate) fn plan(&self, world: &mut World, run: usize, cut: u8) -> Option<()> {
        move_run(world, run, RunEvent::Planned)?;
        move_run(world, run, RunEvent::Started)?;
        let (covered, incarnation) = (self.coverage(world, run), world.target.incarnation);
        let record = &mut world.store.runs[run];
        (record.plan.cut, record.plan.covered, record.incarnation) = (cut, covered, incarnation);
        (record.tasks, record.counted) = ([NO_TASK; PARTITIONS + 1], 0);
        let wanted = ALL >> (SLICES - usize::from(self.bounds.slices)) & !covered;
        let is_partition = partitions(cut, wanted);
        for task in (0..PARTITIONS).filter(|task| !is_partition(*task)) {
            record.tasks[task].state = TaskState::Covered;
        }
        Some(())
    }

    /// The stream is a run's, and this is committed: the step begins, or is planned again (T5).
    pub(crate) fn prepared(&self, world: &mut World, run: usize, found: u8) -> Option<()> {
        let record = &mut world.store.runs[run];
        let planned = COVERAGES[usize::from(record.plan.covered)];
        let next = match self.design {
            Design::CoverageNotCompared => AfterFence::Begin,
            _ => after_fence(
                Some(&planned),
                &COVERAGES[usize::from(found)],
                u32::from(record.plan.generation),
            ),
        };
        let event = match next {
            AfterFence::Begin => TaskEvent::Completed,
            AfterFence::PlanAgain => TaskEvent::Superseded,
            AfterFence::GiveUp => TaskEvent::Died,
        };
        let prepare = &mut record.tasks[PREPARE];
        (prepare.state, prepare.lease) = (prepare.state.apply(event).ok()?, None);
        if next == AfterFence::PlanAgain {
            record.status = Some(RunStatus::Planning);
            (record.tasks, record.counted) = ([NO_TASK; PARTITIONS + 1], 0);
            record.plan.generation += 1;
            // they are covered, as what other runs committed is
            world.seen.acknowledged[run] = [false; PARTITIONS];
        }
        Some(())
    }
}
