//! What there is: a store, its leaders, a target, attempts, and what somebody outside has seen.

use std::collections::HashMap;
use std::sync::Mutex;

use highwater_common::assignment::Receipt;
use highwater_common::commit::{LedgerRow, LedgerState};
use highwater_common::id::DocumentDigest;
use highwater_common::ledger::RunMark;
use highwater_common::status::RunStatus;
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken};
use stateright::{Model, Property};

use crate::action::Action;
use crate::design::{Bounds, Design};
use crate::invariant::{Broken, properties, reached};

/// Runs of the stream, at the most.
pub(crate) const RUNS: usize = 2;
/// Slices of the stream, at the most.
pub(crate) const SLICES: usize = 2;
/// The task that prepares a run's step, after those of its slices.
pub(crate) const PREPARE: usize = SLICES;

/// What can be explored: a design within bounds.
#[derive(Debug)]
pub struct Protocol {
    /// The design.
    pub design: Design,
    /// How far.
    pub bounds: Bounds,
    /// Whether every run that is known comes to an end, by store and target.
    pub(crate) ends: Mutex<HashMap<u64, bool>>,
}

impl Protocol {
    /// A design within bounds.
    #[must_use]
    pub fn new(design: Design, bounds: Bounds) -> Self {
        Self { design, bounds, ends: Mutex::default() }
    }
}

/// One state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) store: Store,
    /// An older copy of the store, which a restore can bring back.
    pub(crate) backup: Option<Store>,
    /// What two processes believe of themselves, right or wrong.
    pub(crate) leaders: [Option<Leader>; 2],
    pub(crate) target: Target,
    /// An older copy of the target, which a failover can bring to life.
    pub(crate) replica: Option<Target>,
    /// Everything that was handed out and may still act.
    pub(crate) attempts: Vec<Attempt>,
    /// Assignments on their way to the store.
    pub(crate) letters: Vec<Letter>,
    pub(crate) seen: Seen,
}

/// The records that decisions rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    /// The term that leads; 0 when the office is free.
    pub(crate) office: u8,
    /// The revision at which the office's record was made; only designs that go by revisions count them.
    pub(crate) created: u8,
    pub(crate) revision: u8,
    pub(crate) hi: u8,
    pub(crate) runs: [RunRecord; RUNS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunRecord {
    /// `None`: the store does not know the run.
    pub(crate) status: Option<RunStatus>,
    /// What its plan found committed, by slice.
    pub(crate) covered: u8,
    /// Which life of the target its plan is for.
    pub(crate) incarnation: u8,
    pub(crate) tasks: [TaskRecord; SLICES + 1],
    /// Completions that were counted, over its slices.
    pub(crate) counted: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TaskRecord {
    pub(crate) state: TaskState,
    pub(crate) lease: Option<Fence>,
    /// Attempts that failed or were lost.
    pub(crate) failed: u8,
}

pub(crate) const NO_TASK: TaskRecord = TaskRecord { state: TaskState::Pending, lease: None, failed: 0 };
const NO_RUN: RunRecord =
    RunRecord { status: None, covered: 0, incarnation: 0, tasks: [NO_TASK; SLICES + 1], counted: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Leader {
    pub(crate) term: u8,
    pub(crate) created: u8,
    pub(crate) hi: u8,
    pub(crate) lo: u8,
    /// An assignment is under way, and nothing is known of it.
    pub(crate) is_waiting: bool,
    /// It has written in its term.
    pub(crate) has_written: bool,
}

/// The ledger, and what the stream's table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Which life of the server it is.
    pub(crate) incarnation: u8,
    pub(crate) marks: [Option<RunMark>; RUNS],
    /// The run that last prepared the stream.
    pub(crate) holder: Option<u8>,
    pub(crate) rows: [[Option<Row>; SLICES]; RUNS],
    /// How often each slice was applied.
    pub(crate) copies: [u8; SLICES],
    /// Under whose fence the rows were written that a run's slice has brought.
    pub(crate) writers: [[Option<Fence>; SLICES]; RUNS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: LedgerState,
    pub(crate) fence: Fence,
}

impl Row {
    /// The row as production reads it.
    pub(crate) fn read(self) -> LedgerRow {
        LedgerRow { state: self.state, fence: self.fence, spec_digest: digest(), receipt: Receipt::default() }
    }
}

/// The digest of the one spec there is.
pub(crate) fn digest() -> DocumentDigest {
    DocumentDigest::from_bytes([7; 32])
}

/// One try at a task, from when it is handed out until it can do nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) run: usize,
    pub(crate) task: usize,
    pub(crate) fence: Fence,
    /// Which life of the target its plan is for.
    pub(crate) incarnation: u8,
    pub(crate) at: At,
    /// Its guarded transaction stands on the server and holds the row: a commit may still land, whoever waits for it.
    pub(crate) holds_row: bool,
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum At {
    /// Handed out, or about to claim again.
    Assigned,
    /// Its claim has read the run's mark, and holds it.
    Claiming,
    /// Its fence stands.
    Held,
    /// Wrong designs only: it has looked, and will commit on that.
    Checked,
    /// Its guard has matched, and COMMIT is sent.
    Guarded,
    /// It does not know how it ended.
    Asking,
    /// It knows, and tells it now or later, once or again.
    Told(Told),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Told {
    Committed,
    Failed,
    Superseded,
    Outrun(FencingToken),
    /// The stream is fenced, and these slices are committed.
    Prepared(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Letter {
    pub(crate) term: u8,
    pub(crate) run: usize,
    pub(crate) task: usize,
    pub(crate) fence: Fence,
    /// It has arrived before.
    pub(crate) is_spent: bool,
}

/// What an observer knows, whatever store and target have forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Seen {
    pub(crate) terms: u8,
    pub(crate) attempts: u8,
    pub(crate) prepares: u8,
    pub(crate) restores: u8,
    pub(crate) failovers: u8,
    pub(crate) cancels: u8,
    pub(crate) retries: u8,
    /// Runs that were ever begun.
    pub(crate) begun: u8,
    /// How many statements of a cancel's fence have committed.
    pub(crate) fenced: [u8; RUNS],
    /// Cancels that were acknowledged.
    pub(crate) cancelled: [bool; RUNS],
    /// Completions that were acknowledged.
    pub(crate) acknowledged: [[bool; SLICES]; RUNS],
    pub(crate) broken: Broken,
}

impl World {
    fn new() -> Self {
        let store = Store { office: 0, created: 0, revision: 0, hi: 0, runs: [NO_RUN; RUNS] };
        let target = Target {
            incarnation: 0,
            marks: [None; RUNS],
            holder: None,
            rows: [[None; SLICES]; RUNS],
            copies: [0; SLICES],
            writers: [[None; SLICES]; RUNS],
        };
        Self {
            store,
            backup: None,
            leaders: [None; 2],
            target,
            replica: None,
            attempts: Vec::new(),
            letters: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// One form for states that behave alike: whoever can do nothing more is forgotten, and the rest is in order.
    pub(crate) fn tidy(&mut self, model: &Protocol) {
        if model.is_tidy() {
            let (store, backup, target) = (self.store, self.backup, self.target);
            let fails_over = self.seen.failovers < model.bounds.failovers;
            let is_leased = |attempt: &Attempt| {
                let leased = |store: &Store| store.runs[attempt.run].tasks[attempt.task].lease == Some(attempt.fence);
                leased(&store) || backup.as_ref().is_some_and(leased)
            };
            self.attempts.retain(|attempt| {
                if attempt.holds_row || is_leased(attempt) {
                    return true;
                }
                let is_over = attempt.task != PREPARE
                    && target.rows[attempt.run][attempt.task]
                        .is_some_and(|row| row.state != LedgerState::Open || row.fence.token > attempt.fence.token);
                match attempt.at {
                    At::Told(_) | At::Asking => false,
                    At::Assigned | At::Claiming | At::Held | At::Checked | At::Guarded => fails_over || !is_over,
                }
            });
            let is_known = |term: u8| term == store.office || backup.is_some_and(|backup| backup.office == term);
            for leader in &mut self.leaders {
                *leader = leader.filter(|leader| leader.term != 0 && is_known(leader.term));
            }
            self.letters.retain(|letter| is_known(letter.term));
        }
        self.leaders.sort_by_key(|leader| (leader.is_none(), *leader));
        self.attempts.sort_by_key(|attempt| {
            let Fence { token, nonce } = attempt.fence;
            (attempt.run, attempt.task, token, nonce.bits(), attempt.at, attempt.holds_row)
        });
    }
}

impl Protocol {
    /// Whether what is pruned really can do nothing more: not so where the design lets it.
    const fn is_tidy(&self) -> bool {
        match self.design {
            Design::GuardFirst
            | Design::LeaseIsALock
            | Design::GuardWithoutToken
            | Design::TokenWithoutNonce
            | Design::RevisionIsAToken
            | Design::RevisionIsATerm
            | Design::LeaderNotCompared
            | Design::CompletionCountedTwice
            | Design::UnknownCommitIsFailed => false,
            Design::Right
            | Design::AssignsOverALease
            | Design::CompletesBeforeCommit
            | Design::AcknowledgesBeforeTheStore
            | Design::CancelsInTheStoreOnly
            | Design::FencesKnownAttemptsOnly
            | Design::FencesRowsBeforeTheRun
            | Design::ClaimIgnoresTheRun
            | Design::ClaimDoesNotHoldTheRun
            | Design::ClaimIgnoresTheFingerprint
            | Design::NoStreamFence
            | Design::StreamFenceByRowsOnly
            | Design::StreamFenceSkipsLockedRows
            | Design::CoverageNotCompared
            | Design::HiNeverRaised => true,
        }
    }

    /// The world after an action, or `None` where it cannot happen or changes nothing.
    pub(crate) fn after(&self, world: &World, action: Action) -> Option<World> {
        let mut next = self.act(world, action)?;
        next.tidy(self);
        (next != *world).then_some(next)
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // Behind a state in which something is broken there is nothing to be learnt.
        if !world.seen.broken.any() {
            Action::conceivable(self, world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.after(world, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties();
        if self.design == Design::Right {
            all.extend(reached(self));
        }
        all
    }
}
