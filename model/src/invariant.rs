//! The invariants, by their names in `docs/protocol.md`.

use highwater_common::commit::LedgerState;
use highwater_common::status::RunStatus;
use highwater_common::task::TaskState;
use stateright::Property;

use crate::world::{Entry, PARTITIONS, Protocol, RUNS, World};

/// An invariant of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Every slice of the stream is in the target at most once, whichever runs loaded it.
    I1,
    /// Nothing of a run commits after its cancel was acknowledged, or after another run, or another
    /// plan of it, took its stream.
    I2,
    /// A token with its nonce is issued once; the tokens of a ledger row grow.
    I3,
    /// Done means committed, and counted once.
    I4,
    /// An acknowledged completion survives a change of leaders.
    I5,
    /// Rows carry the fence of their ledger row.
    I6,
    /// Only the holder of the leadership changes the store, and of two assignments of a task one
    /// applies.
    I9,
    /// A healthy cluster comes to an end from here.
    I11,
    /// A step that is not one transaction never begins again unprobed.
    I14,
}

impl Invariant {
    /// The name that the checker knows it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I1 => "I1: every slice is in the target at most once",
            Self::I2 => {
                "I2: nothing commits after an acknowledged cancel, or on a stream that is \
                         another's"
            }
            Self::I3 => "I3: a token and its nonce are issued once, and tokens grow",
            Self::I4 => "I4: what is done is committed, and counted once",
            Self::I5 => "I5: what was acknowledged stays",
            Self::I6 => "I6: rows carry the fence of their ledger row",
            Self::I9 => "I9: only who leads changes the store",
            Self::I11 => "I11: a healthy cluster comes to an end",
            Self::I14 => "I14: nothing begins again unprobed",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Invariants that a single step has broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Broken(u16);

impl Broken {
    pub(crate) fn add(&mut self, invariant: Invariant) {
        self.0 |= invariant.bit();
    }

    fn has(self, invariant: Invariant) -> bool {
        self.0 & invariant.bit() != 0
    }

    /// Whether there is nothing to be learnt behind it. What a stream's former owner commits is
    /// seen before it does harm.
    pub(crate) const fn ends_it(self) -> bool {
        self.0 & !Invariant::I2.bit() != 0
    }
}

/// What must hold in every state, and what must be reached in some, or the rest would prove
/// nothing.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always(Invariant::I1.name(), |_, world: &World| {
            world.target.copies.iter().all(|copies| *copies <= 1)
        }),
        Property::always(Invariant::I2.name(), |_, world: &World| {
            !world.seen.broken.has(Invariant::I2)
        }),
        Property::always(Invariant::I3.name(), |_, world: &World| {
            !world.seen.broken.has(Invariant::I3) && issued_once(world)
        }),
        Property::always(Invariant::I4.name(), |_, world: &World| {
            done_is_committed(world)
        }),
        Property::always(Invariant::I5.name(), |_, world: &World| {
            acknowledged_is_done(world)
        }),
        Property::always(Invariant::I6.name(), |_, world: &World| {
            rows_carry_their_fence(world)
        }),
        Property::always(Invariant::I9.name(), |_, world: &World| {
            !world.seen.broken.has(Invariant::I9)
        }),
        Property::always(Invariant::I11.name(), crate::leader::ends),
    ]
}

fn issued_once(world: &World) -> bool {
    let fences: Vec<_> = world.attempts.iter().map(|attempt| attempt.fence).collect();
    fences
        .iter()
        .enumerate()
        .all(|(at, fence)| !fences[..at].contains(fence))
}

/// A target that lost commits is exempt: they are found by the step's close and by the next claim.
fn done_is_committed(world: &World) -> bool {
    (0..RUNS).all(|run| {
        let record = &world.store.runs[run];
        let done = (0..PARTITIONS).filter(|task| record.tasks[*task].state == TaskState::Done);
        let committed = |task: &usize| {
            let mut rows = world.target.rows.iter();
            rows.any(|Entry { name, row, .. }| {
                let of = (
                    usize::from(name.run),
                    name.generation,
                    usize::from(name.task),
                );
                of == (run, record.plan.generation, *task) && row.state == LedgerState::Committed
            })
        };
        let is_done = done.clone().count() == usize::from(record.counted);
        is_done && (world.seen.failovers > 0 || done.clone().all(|task| committed(&task)))
    })
}

/// A restored store is exempt: it forgot on purpose.
fn acknowledged_is_done(world: &World) -> bool {
    world.seen.restores > 0
        || (0..RUNS).all(|run| {
            (0..PARTITIONS).all(|task| {
                !world.seen.acknowledged[run][task]
                    || world.store.runs[run].tasks[task].state == TaskState::Done
            })
        })
}

fn rows_carry_their_fence(world: &World) -> bool {
    let mut rows = world.target.rows.iter();
    rows.all(|entry| {
        entry.row.state != LedgerState::Committed || entry.writer == Some(entry.row.fence)
    })
}

/// What some state must reach, by the bounds of the scenario.
pub(crate) fn reached(model: &Protocol) -> Vec<Property<Protocol>> {
    let bounds = model.bounds;
    let mut reached = vec![Property::sometimes("a run succeeds", |_, world: &World| {
        world
            .store
            .runs
            .iter()
            .any(|run| run.status == Some(RunStatus::Success))
    })];
    if bounds.runs > 1 {
        reached.push(Property::sometimes(
            "a newer run loads what an older one left",
            |_, world: &World| {
                world.store.runs[1].status == Some(RunStatus::Success)
                    && world.store.runs[1].counted > 0
            },
        ));
    }
    if bounds.cuts > 1 && bounds.restores > 0 {
        reached.push(Property::sometimes(
            "a run that is planned anew loads what its former plan left",
            |_, world: &World| {
                let run = world.store.runs[0];
                run.status == Some(RunStatus::Success) && run.plan.covered != 0 && run.counted > 0
            },
        ));
    }
    if bounds.cancels > 0 {
        reached.push(Property::sometimes(
            "a cancel is acknowledged",
            |_, world: &World| world.seen.cancelled.contains(&true),
        ));
    }
    reached
}
