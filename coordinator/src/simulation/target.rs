//! A target's ledger in memory: the claim, the guard and the fence, and what they must never let through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use highwater_common::assignment::{Assignment, Work};
use highwater_common::id::{RunId, TaskId};
use highwater_common::token::{Fence, FencingToken};

/// The state of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Fenced,
}

/// What a claim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Held,
    Committed,
    Superseded,
    Fenced(FencingToken),
}

#[derive(Debug, Default)]
struct Ledger {
    fenced: BTreeSet<RunId>,
    rows: BTreeMap<(RunId, TaskId), (State, Fence)>,
    /// What was moved, by run and range: the same range never twice, whatever its task is called.
    moved: BTreeSet<(RunId, TaskId, String)>,
    issued: BTreeSet<(FencingToken, u128)>,
    latest: BTreeMap<TaskId, FencingToken>,
    acknowledged: BTreeSet<TaskId>,
    cancelled: BTreeSet<RunId>,
    is_healed: bool,
}

/// The ledger of one target.
#[derive(Debug)]
pub(super) struct Target {
    seed: u64,
    ledger: Mutex<Ledger>,
}

impl Target {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ledger: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// No faults from here on.
    pub(super) fn heal(&self) {
        self.lock().is_healed = true;
    }

    pub(super) fn is_healed(&self) -> bool {
        self.lock().is_healed
    }

    /// I3: an assignment that a worker has received.
    pub(super) fn received(&self, assignment: &Assignment) {
        let mut ledger = self.lock();
        let Fence { token, nonce } = assignment.fence;
        assert!(ledger.issued.insert((token, nonce.bits())), "I3, HIGHWATER_SEED={}: {token} came twice", self.seed);
        let former = ledger.latest.insert(assignment.task, token);
        assert!(former < Some(token), "I3, HIGHWATER_SEED={}: {token} came after {former:?}", self.seed);
    }

    pub(super) fn claim(&self, run: RunId, assignment: &Assignment) -> Claim {
        let mut ledger = self.lock();
        if ledger.fenced.contains(&run) {
            return Claim::Superseded;
        }
        let mine = assignment.fence;
        let row = ledger.rows.entry((run, assignment.task)).or_insert((State::Open, mine));
        match row.0 {
            State::Committed => Claim::Committed,
            State::Fenced => Claim::Superseded,
            State::Open if row.1 == mine => Claim::Held,
            State::Open if row.1.token < mine.token => {
                row.1 = mine;
                Claim::Held
            }
            State::Open => Claim::Fenced(row.1.token),
        }
    }

    /// The guard and the commit, at one instant. True when the rows are in.
    pub(super) fn commit(&self, run: RunId, assignment: &Assignment) -> bool {
        let mut ledger = self.lock();
        let Some(row) = ledger.rows.get_mut(&(run, assignment.task)) else { return false };
        if *row != (State::Open, assignment.fence) {
            return false;
        }
        row.0 = State::Committed;
        let Work::Partition(slice) = assignment.work else { return true };
        let seed = self.seed;
        let is_first = ledger.moved.insert((run, assignment.task, slice.to_string()));
        assert!(is_first, "I1, HIGHWATER_SEED={seed}: {slice} was committed twice");
        assert!(!ledger.cancelled.contains(&run), "I2, HIGHWATER_SEED={seed}: {slice} was committed after its cancel");
        true
    }

    pub(super) fn is_committed(&self, run: RunId, task: TaskId) -> bool {
        self.lock().rows.get(&(run, task)).is_some_and(|(state, _)| *state == State::Committed)
    }

    pub(super) fn fence(&self, run: RunId) {
        let mut ledger = self.lock();
        ledger.fenced.insert(run);
        for ((_, _), row) in ledger.rows.iter_mut().filter(|((of, _), row)| *of == run && row.0 == State::Open) {
            row.0 = State::Fenced;
        }
    }

    pub(super) fn acknowledge(&self, task: TaskId) {
        self.lock().acknowledged.insert(task);
    }

    pub(super) fn is_acknowledged(&self, task: TaskId) -> bool {
        self.lock().acknowledged.contains(&task)
    }

    pub(super) fn acknowledge_cancel(&self, run: RunId) {
        self.lock().cancelled.insert(run);
    }
}
