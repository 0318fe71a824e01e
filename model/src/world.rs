//! What there is: a store, its leaders, a target, attempts, and what somebody outside has seen.

use std::collections::HashMap;
use std::sync::Mutex;

use highwater_common::assignment::Receipt;
use highwater_common::commit::{LedgerRow, LedgerState};
use highwater_common::id::{DocumentDigest, RunId};
use highwater_common::ledger;
use highwater_common::status::RunStatus;
use highwater_common::stream::RunMark;
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken};
use stateright::{Model, Property};

use crate::action::Action;
use crate::design::{Bounds, Design};
use crate::invariant::{Broken, properties, reached};
use crate::plan::Plan;

/// Runs of the stream, at the most.
pub(crate) const RUNS: usize = 2;
/// Slices of the stream, at the most.
pub(crate) const SLICES: usize = 2;
/// Partitions that a run can have: one for each slice, or one for all.
pub(crate) const PARTITIONS: usize = SLICES + 1;
/// The task that prepares a run's step, after those of its partitions.
pub(crate) const PREPARE: usize = PARTITIONS;

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
        Self {
            design,
            bounds,
            ends: Mutex::default(),
        }
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
    /// The term that leads; 0 when the leadership is free.
    pub(crate) election: u8,
    /// The revision at which the leadership's record was made; only designs that go by revisions
    /// count them.
    pub(crate) created: u8,
    pub(crate) revision: u8,
    pub(crate) hi: u8,
    pub(crate) runs: [RunRecord; RUNS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunRecord {
    /// `None`: the store does not know the run.
    pub(crate) status: Option<RunStatus>,
    /// Its plan, the latest one.
    pub(crate) plan: Plan,
    /// Which life of the target its plan is for.
    pub(crate) incarnation: u8,
    pub(crate) tasks: [TaskRecord; PARTITIONS + 1],
    /// Completions that were counted, over its partitions.
    pub(crate) counted: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TaskRecord {
    pub(crate) state: TaskState,
    pub(crate) lease: Option<Fence>,
    /// Attempts that failed or were lost.
    pub(crate) failed: u8,
}

pub(crate) const NO_TASK: TaskRecord = TaskRecord {
    state: TaskState::Pending,
    lease: None,
    failed: 0,
};
const NO_RUN: RunRecord = RunRecord {
    status: None,
    plan: Plan {
        generation: 0,
        cut: 0,
        covered: 0,
    },
    incarnation: 0,
    tasks: [NO_TASK; PARTITIONS + 1],
    counted: 0,
};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Which life of the server it is.
    pub(crate) incarnation: u8,
    pub(crate) marks: [Mark; RUNS],
    /// Who took the stream last.
    pub(crate) owner: Option<Owner>,
    /// The ledger's rows, by their names.
    pub(crate) rows: Vec<Entry>,
    /// How often each slice was applied.
    pub(crate) copies: [u8; SLICES],
}

/// What the ledger says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    Unknown,
    Running,
    Fenced { by: Option<u8> },
}

impl Mark {
    /// The mark as a prepare reads it.
    pub(crate) fn read(self) -> RunMark {
        match self {
            Self::Unknown => RunMark::Unknown,
            Self::Running => RunMark::Running,
            Self::Fenced { by } => RunMark::Fenced { by: by.map(run_id) },
        }
    }

    /// The mark as a claim reads it.
    pub(crate) const fn of_claim(self) -> Option<ledger::RunMark> {
        match self {
            Self::Unknown => None,
            Self::Running => Some(ledger::RunMark::Running),
            Self::Fenced { .. } => Some(ledger::RunMark::Fenced),
        }
    }
}

pub(crate) fn run_id(run: u8) -> RunId {
    RunId::from_bytes([run; 16])
}

/// Who took the stream last, under which token and for which plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) run: u8,
    pub(crate) token: FencingToken,
    pub(crate) plan: Plan,
}

/// A task by its name: another generation of a run's plan has other tasks, and the same partition
/// of it is the same task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) run: u8,
    pub(crate) generation: u8,
    pub(crate) task: u8,
}

/// A row of the ledger under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) row: Row,
    /// Under whose fence the rows were written that it has brought.
    pub(crate) writer: Option<Fence>,
}

impl Target {
    pub(crate) fn row(&self, name: Name) -> Option<Row> {
        self.rows
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| entry.row)
    }

    pub(crate) fn put(&mut self, name: Name, row: Row, writer: Option<Fence>) {
        let entry = Entry { name, row, writer };
        match self.rows.binary_search_by_key(&name, |entry| entry.name) {
            Ok(at) => self.rows[at] = entry,
            Err(at) => self.rows.insert(at, entry),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: LedgerState,
    pub(crate) fence: Fence,
}

impl Row {
    /// The row as production reads it.
    pub(crate) fn read(self) -> LedgerRow {
        LedgerRow {
            state: self.state,
            fence: self.fence,
            spec_digest: digest(),
            receipt: Receipt::default(),
        }
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
    pub(crate) plan: Plan,
    pub(crate) task: usize,
    pub(crate) fence: Fence,
    /// Which life of the target its plan is for.
    pub(crate) incarnation: u8,
    pub(crate) at: At,
    /// Its guarded transaction stands on the server and holds the row: a commit may still land,
    /// whoever waits for it.
    pub(crate) holds_row: bool,
}

impl Attempt {
    /// The name of its task.
    pub(crate) fn name(&self) -> Name {
        let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        Name {
            run: byte(self.run),
            generation: self.plan.generation,
            task: byte(self.task),
        }
    }
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
    /// The stream was taken for another plan of its run.
    PlanChanged,
    Fenced(FencingToken),
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
    pub(crate) acknowledged: [[bool; PARTITIONS]; RUNS],
    pub(crate) broken: Broken,
}

impl World {
    fn new() -> Self {
        let store = Store {
            election: 0,
            created: 0,
            revision: 0,
            hi: 0,
            runs: [NO_RUN; RUNS],
        };
        let target = Target {
            incarnation: 0,
            marks: [Mark::Unknown; RUNS],
            owner: None,
            rows: Vec::new(),
            copies: [0; SLICES],
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

    /// One form for states that behave alike: whoever can do nothing more is forgotten, and the
    /// rest is in order.
    pub(crate) fn tidy(&mut self, model: &Protocol) {
        if model.is_tidy() {
            let (store, backup, target) = (self.store, self.backup, &self.target);
            // Who takes the stream for another plan of its run gives up what is open, and then an
            // older attempt may begin there.
            let gives_up = model.bounds.restores > 0;
            let fails_over = self.seen.failovers < model.bounds.failovers;
            let is_leased = |attempt: &Attempt| {
                let leased = |store: &Store| {
                    store.runs[attempt.run].tasks[attempt.task].lease == Some(attempt.fence)
                };
                leased(&store) || backup.as_ref().is_some_and(leased)
            };
            self.attempts.retain(|attempt| {
                if attempt.holds_row || is_leased(attempt) {
                    return true;
                }
                match attempt.at {
                    At::Told(_) | At::Asking => false,
                    _ if fails_over => true,
                    At::Assigned if attempt.task == PREPARE => {
                        let is_late = target
                            .owner
                            .is_some_and(|owner| owner.token >= attempt.fence.token);
                        let is_fenced = matches!(target.marks[attempt.run], Mark::Fenced { .. });
                        !(is_fenced || is_late && model.design != Design::PlansDoNotCompete)
                    }
                    At::Held => target
                        .row(attempt.name())
                        .is_some_and(|row| row.fence == attempt.fence),
                    At::Assigned | At::Claiming | At::Checked | At::Guarded => {
                        !target.row(attempt.name()).is_some_and(|row| {
                            let is_outrun = !gives_up && row.fence.token > attempt.fence.token;
                            row.state != LedgerState::Open || is_outrun
                        })
                    }
                }
            });
            let is_known = |term: u8| {
                term == store.election || backup.is_some_and(|backup| backup.election == term)
            };
            for leader in &mut self.leaders {
                *leader = leader.filter(|leader| leader.term != 0 && is_known(leader.term));
            }
            self.letters.retain(|letter| is_known(letter.term));
        }
        self.leaders
            .sort_by_key(|leader| (leader.is_none(), *leader));
        self.attempts.sort_by_key(|attempt| {
            let Fence { token, nonce } = attempt.fence;
            (
                attempt.run,
                attempt.plan,
                attempt.task,
                token,
                nonce.bits(),
                attempt.at,
                attempt.holds_row,
            )
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
            | Design::OwnReceiptsAreNotCoverage
            | Design::PlanKnownByItsGeneration
            | Design::ClaimIgnoresThePlan
            | Design::OwnFormerPlanNotGivenUp
            | Design::OwnClaimsNotWaitedFor
            | Design::PlansDoNotCompete
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
        if !world.seen.broken.ends_it() {
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
