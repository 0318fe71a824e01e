//! A target's ledger in memory, on the decisions that every connector makes: the claim, the guard and the fence, and what they must
//! never let through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use highwater_common::assignment::{Assignment, Receipt, StepOrder, Work};
use highwater_common::commit::{LedgerRow, LedgerState, Resume, judge, resume};
use highwater_common::id::{RunId, TaskId};
use highwater_common::ledger::{self, ClaimStep, RunMark};
use highwater_common::token::{Fence, FencingToken};

/// What every partition brings.
pub(super) const RECEIPT: Receipt = Receipt { rows: 1, bytes: 8 };

#[derive(Debug, Default)]
struct Ledger {
    marks: BTreeMap<RunId, RunMark>,
    rows: BTreeMap<(RunId, TaskId), LedgerRow>,
    /// What was moved, by stream and range: the same range never twice, whatever its task and its run are called.
    moved: BTreeSet<(String, String)>,
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

    /// The claim; [`Resume::Begin`] is the only answer under which the attempt may go on.
    pub(super) fn claim(&self, order: &StepOrder, assignment: &Assignment) -> Resume {
        let mut ledger = self.lock();
        let (mine, key) = (assignment.fence, (order.run, assignment.task));
        loop {
            let (mark, row) = (ledger.marks.get(&order.run).copied(), ledger.rows.get(&key));
            match ledger::claim(mark, row, &mine, &order.spec_digest) {
                ClaimStep::NoteRun => drop(ledger.marks.insert(order.run, RunMark::Running)),
                ClaimStep::Raise => {
                    let (state, receipt) = (LedgerState::Open, Receipt::default());
                    let row = LedgerRow { state, fence: mine, spec_digest: order.spec_digest, receipt };
                    ledger.rows.insert(key, row);
                    return Resume::Begin;
                }
                ClaimStep::Stands(meaning) => return meaning,
            }
        }
    }

    /// The guard and the commit, at one instant. True when the rows are in.
    pub(super) fn commit(&self, order: &StepOrder, assignment: &Assignment) -> bool {
        let mut ledger = self.lock();
        let key = (order.run, assignment.task);
        let Ok(_permit) = judge(ledger::guard(ledger.rows.get(&key), &assignment.fence), None) else { return false };
        let row = ledger.rows.get_mut(&key).expect("the guard has matched it");
        (row.state, row.receipt) = (LedgerState::Committed, RECEIPT);
        let (Work::Partition(slice), Some(settled)) = (assignment.work, &order.settled) else { return true };
        let (seed, run) = (self.seed, order.run);
        let is_first = ledger.moved.insert((settled.stream.clone(), slice.to_string()));
        assert!(is_first, "I1, HIGHWATER_SEED={seed}: {slice} of {} was committed twice", settled.stream);
        assert!(!ledger.cancelled.contains(&run), "I2, HIGHWATER_SEED={seed}: {slice} was committed after its cancel");
        true
    }

    /// What the ledger says to an attempt that does not know how it ended; `None` without a row.
    pub(super) fn ask(&self, order: &StepOrder, assignment: &Assignment) -> Option<Resume> {
        let ledger = self.lock();
        let row = ledger.rows.get(&(order.run, assignment.task))?;
        Some(resume(row, &assignment.fence, &order.spec_digest))
    }

    pub(super) fn is_committed(&self, run: RunId, task: TaskId) -> bool {
        self.lock().rows.get(&(run, task)).is_some_and(|row| row.state == LedgerState::Committed)
    }

    pub(super) fn fence(&self, run: RunId) {
        let mut ledger = self.lock();
        ledger.marks.insert(run, RunMark::Fenced);
        for (_, row) in ledger.rows.iter_mut().filter(|((of, _), _)| *of == run) {
            row.state = ledger::fence(row.state);
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
