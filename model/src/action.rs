//! Everything that can happen next.
//!
//! Pauses, crashes and lost messages need no action of their own: whatever can happen may happen
//! late, or never.

use crate::design::Design;
use crate::plan::CUTS;
use crate::world::{PARTITIONS, PREPARE, Protocol, SLICES, World};

/// One step of somebody, on one store transaction, one statement, or one message. `l` names a
/// leader, `r` a run, `t` a task of it, `a` an attempt by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The leadership's lease ends, although its holder may not know.
    OfficeEnds,
    /// T0 and T0b.
    Campaign(usize),
    /// A run is submitted.
    Begin(usize, usize),
    /// What the probe found becomes a plan, that cuts the stream in this way.
    Plan(usize, usize, u8),
    /// T1.
    Assign(usize, usize, usize),
    /// T1 leaves, and nobody knows when it arrives.
    Send(usize, usize, usize),
    /// A T1 arrives, for the first time or again.
    Arrive(usize),
    /// A leader takes a T1 that it knows nothing of for failed.
    GiveUpWaiting(usize),
    /// T4.
    Expire(usize, usize, usize),
    /// T2, T3 or release: an attempt's outcome comes in.
    Hear(usize, usize),
    /// An outcome is acknowledged before it is stored.
    HearOnly(usize, usize),
    /// A run whose tasks have all ended ends.
    End(usize, usize),
    /// A person cancels.
    Cancel(usize, usize),
    /// The cancel is acknowledged.
    Acknowledge(usize, usize),
    /// A person takes a failed run up again.
    Retry(usize, usize),
    /// The next statement of a cancel's fence.
    FenceRun(usize),
    /// Prepare: the stream's fence, and what is covered then.
    Prepare(usize),
    /// A claim notes the run, or reads its mark.
    ClaimRun(usize),
    /// A claim raises the fence and commits, or reads what the row means.
    Claim(usize),
    /// The same, and the answer is lost.
    ClaimUnheard(usize),
    /// A wrong design looks whether it may commit.
    Check(usize),
    /// The guard.
    Guard(usize),
    /// COMMIT lands.
    Land(usize),
    /// The connection breaks while COMMIT is under way.
    LoseAnswer(usize),
    /// The ledger is asked.
    Ask(usize),
    /// The server ends the session, and rolls back.
    EndSession(usize),
    /// The attempt fails for a reason of its own.
    Fail(usize),
    /// A wrong design tells that it has committed.
    TellEarly(usize),
    /// A backup of the store is made.
    BackUp,
    /// The store is put back to the backup.
    Restore,
    /// A replica of the target falls behind.
    Lag,
    /// The target fails over to that replica.
    FailOver,
}

impl Action {
    /// What may be possible; whether it is, and what it does, the model says.
    pub(crate) fn conceivable(model: &Protocol, world: &World, actions: &mut Vec<Self>) {
        let (runs, cuts) = (
            usize::from(model.bounds.runs),
            usize::from(model.bounds.cuts),
        );
        let tasks = if cuts == CUTS {
            PARTITIONS
        } else {
            SLICES.min(usize::from(model.bounds.slices))
        };
        actions.push(Self::OfficeEnds);
        for leader in 0..2 {
            actions.push(Self::Campaign(leader));
            if world.leaders[leader].is_none() {
                continue;
            }
            if model.design == Design::AssignsOverALease {
                actions.push(Self::GiveUpWaiting(leader));
            }
            for run in 0..runs {
                actions.extend([
                    Self::Begin(leader, run),
                    Self::End(leader, run),
                    Self::Cancel(leader, run),
                    Self::Acknowledge(leader, run),
                    Self::Retry(leader, run),
                ]);
                actions.extend((0..model.bounds.cuts).map(|cut| Self::Plan(leader, run, cut)));
                for task in (0..tasks).chain([PREPARE]) {
                    let is_late = model.bounds.late && task != PREPARE;
                    actions.push(if is_late {
                        Self::Send(leader, run, task)
                    } else {
                        Self::Assign(leader, run, task)
                    });
                    actions.push(Self::Expire(leader, run, task));
                }
            }
            for attempt in 0..world.attempts.len() {
                actions.push(Self::Hear(leader, attempt));
                if model.design == Design::AcknowledgesBeforeTheStore {
                    actions.push(Self::HearOnly(leader, attempt));
                }
            }
        }
        actions.extend((0..world.letters.len()).map(Self::Arrive));
        actions.extend((0..runs).map(Self::FenceRun));
        for attempt in 0..world.attempts.len() {
            actions.extend([
                Self::Prepare(attempt),
                Self::ClaimRun(attempt),
                Self::Claim(attempt),
                Self::ClaimUnheard(attempt),
                Self::Check(attempt),
                Self::Guard(attempt),
                Self::Land(attempt),
                Self::LoseAnswer(attempt),
                Self::Ask(attempt),
                Self::EndSession(attempt),
                Self::Fail(attempt),
                Self::TellEarly(attempt),
            ]);
        }
        actions.extend([Self::BackUp, Self::Restore, Self::Lag, Self::FailOver]);
    }
}
