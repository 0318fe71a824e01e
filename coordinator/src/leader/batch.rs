//! Group commit: many tasks' changes as one store transaction, within its limits. Never talks to
//! the store itself: it builds the transaction, and brings its effects into the view once it is
//! applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_common::assignment::ErrorClass;
use highwater_common::facts::StepFacts;
use highwater_common::id::{RunId, StepName};
use highwater_common::plan::PhaseKind;
use highwater_common::record::{StepRecord, TaskAddress};
use highwater_common::segment::{Segment, TaskResult};
use highwater_common::task::{IllegalTransition, TaskState};
use highwater_proto::convert::records::StoredRecord;

use crate::engine::{Change, ChangeKind, Cluster, Stored, TaskTable};
use crate::store::keys::RecordKey;
use crate::store::{Expect, Key, Op, StoreTxn, TXN_BYTES_MAX, TXN_OPERATIONS_MAX, Value};

/// Tasks that one transaction changes at the most.
const TASKS_MAX: usize = 64;
/// Segments that one transaction changes at the most.
const SEGMENTS_MAX: usize = 4;
/// Bytes kept free for the segments that a transaction puts.
const SEGMENT_BYTES: usize = 20 * 1024;

/// Which segment: run, generation, step, phase, number.
type SegmentPlace = (RunId, u32, StepName, u8, u64);
/// A single task's way within its segment.
type Move = (u64, TaskState, TaskState, Option<TaskResult>);

/// A change of one task, with the records that go with it and what they mean for the view. Nothing
/// of it is in the view before the store has applied it.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) change: Change,
    /// Records that are put before the transaction, and mean nothing without it: what it has no
    /// room for.
    pub(super) before: Vec<(Key, Value)>,
    pub(super) expects: Vec<Expect>,
    pub(super) ops: Vec<Op>,
    pub(super) effect: Effect,
}

/// What a change means for the view beyond its task.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Rows were committed: so many bytes were carried.
    Carried(u64),
    /// A probe brought these facts.
    Found(Arc<StepFacts>),
    /// Something was noted in the step's record.
    Noted {
        /// The record.
        record: Box<StepRecord>,
        /// Its bytes.
        stored: Vec<u8>,
        /// So many bytes were carried by rows that were committed with it.
        carried: u64,
    },
}

impl From<Change> for Planned {
    fn from(change: Change) -> Self {
        Self {
            change,
            before: Vec::new(),
            expects: Vec::new(),
            ops: Vec::new(),
            effect: Effect::None,
        }
    }
}

/// What came of adding a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is part of the transaction.
    Added,
    /// The transaction is full: send it, and add the change to the next one.
    Full,
    /// The task is no longer where the change takes it from.
    Stale(IllegalTransition),
    /// The view does not know the run, the step or the record.
    Unknown,
}

/// A transaction in the making, with what it will mean for the view.
#[derive(Debug, Default)]
pub(super) struct Batch {
    expects: Vec<Expect>,
    ops: Vec<Op>,
    bytes: usize,
    tasks: usize,
    segments: BTreeMap<SegmentPlace, (Segment, Option<Value>, Vec<Move>)>,
    changes: Vec<(Change, Vec<u8>, Effect)>,
    /// Runs whose records the transaction compares: what is handed out must still be wanted.
    wanted: BTreeSet<RunId>,
}

impl Batch {
    /// True when no task changes.
    pub(super) const fn is_empty(&self) -> bool {
        self.tasks == 0
    }

    /// Which of the protocol's transactions the batch is: `t1` assigns, `t2` completes, `t3` and
    /// `t4` fail and expire, `t5` plans again, `t6` opens what was lost, `release` gives back,
    /// `revive` tries again, `resolve` is a person's word for what is in doubt.
    pub(super) fn names(&self) -> BTreeSet<&'static str> {
        let name = |(change, _, _): &(Change, Vec<u8>, Effect)| match &change.kind {
            ChangeKind::Assign(_) => "t1",
            ChangeKind::Complete(_) => "t2",
            ChangeKind::Delay(record) if record.error.class == ErrorClass::Crash => "t4",
            ChangeKind::Die(record) if record.error.class == ErrorClass::Crash => "t4",
            ChangeKind::Delay(_) | ChangeKind::Die(_) => "t3",
            ChangeKind::Release => "release",
            ChangeKind::Supersede | ChangeKind::Reopen => "t5",
            ChangeKind::FindLost => "t6",
            ChangeKind::Doubt(record) if record.error.class == ErrorClass::Crash => "t4",
            ChangeKind::Doubt(_) => "t3",
            ChangeKind::Revive => "revive",
            ChangeKind::Resolve { .. } => "resolve",
            ChangeKind::Accept(_) => "accept",
        };
        self.changes.iter().map(name).collect()
    }

    /// The changes, in their order.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().map(|(change, _, _)| change)
    }

    /// Adds a change, and the records that must become visible with it.
    pub(super) fn push(&mut self, cluster: &Cluster, planned: &Planned) -> Pushed {
        let change = &planned.change;
        let Some(table) = table_of(cluster, &change.run, &change.address) else {
            return Pushed::Unknown;
        };
        let place = place_of(&change.run, &change.address);
        let (_, index) = Segment::place(change.address.ordinal);
        let known = self.segments.get(&place);
        let from = known
            .and_then(|(segment, _, _)| segment.get(index))
            .unwrap_or_else(|| table.state(change.address.ordinal));
        let to = match walk(from, &change.kind) {
            Ok(to) => to,
            Err(illegal) => return Pushed::Stale(illegal),
        };
        let Some((mut expects, mut ops, record)) = records(change, table, from) else {
            return Pushed::Unknown;
        };
        let is_first =
            matches!(change.kind, ChangeKind::Assign(_)) && !self.wanted.contains(&change.run);
        if let Some(run) = cluster.runs.get(&change.run).filter(|_| is_first) {
            expects.push(Expect::Bytes(
                RecordKey::Run(change.run).render(),
                run.stored.clone(),
            ));
        }
        expects.extend_from_slice(&planned.expects);
        ops.extend_from_slice(&planned.ops);
        let bytes = expects.iter().map(expect_bytes).sum::<usize>()
            + ops.iter().map(op_bytes).sum::<usize>();
        let segments = self.segments.len() + usize::from(known.is_none());
        // What was lost has no records beside its segments, which are bounded themselves.
        let is_full = (self.tasks >= TASKS_MAX && !matches!(change.kind, ChangeKind::FindLost))
            || segments > SEGMENTS_MAX
            // and the leader's record
            || self.expects.len() + expects.len() + segments + 1 > TXN_OPERATIONS_MAX
            || self.ops.len() + ops.len() + segments > TXN_OPERATIONS_MAX
            || self.bytes + bytes + segments * 2 * SEGMENT_BYTES > TXN_BYTES_MAX;
        if is_full && self.tasks > 0 {
            return Pushed::Full;
        }
        let (segment, _, moves) = self.segments.entry(place).or_insert_with(|| {
            let (segment, stored) = table.segment_of(change.address.ordinal);
            (segment, stored, Vec::new())
        });
        let result = match &change.kind {
            ChangeKind::Complete(result) => Some(*result),
            ChangeKind::Resolve { applied: true, .. } => Some(TaskResult::default()),
            ChangeKind::Assign(_)
            | ChangeKind::Delay(_)
            | ChangeKind::Die(_)
            | ChangeKind::Doubt(_)
            | ChangeKind::Resolve { .. }
            | ChangeKind::Release
            | ChangeKind::Supersede
            | ChangeKind::Reopen
            | ChangeKind::FindLost
            | ChangeKind::Accept(_)
            | ChangeKind::Revive => None,
        };
        let _former = match result {
            Some(result) => segment.set_done(index, result),
            None => segment.set(index, to),
        };
        moves.push((change.address.ordinal, from, to, result));
        if is_first {
            self.wanted.insert(change.run);
        }
        self.expects.extend(expects);
        self.ops.extend(ops);
        self.bytes += bytes;
        self.tasks += 1;
        self.changes
            .push((change.clone(), record, planned.effect.clone()));
        Pushed::Added
    }

    /// The transaction, given that `leader` is who leads.
    pub(super) fn txn(&self, leader: &[u8]) -> StoreTxn {
        let mut txn = StoreTxn {
            expects: self.expects.clone(),
            ops: self.ops.clone(),
        };
        txn.expects
            .push(Expect::Bytes(RecordKey::Leader.render(), leader.to_vec()));
        for (place, (segment, stored, _)) in &self.segments {
            let key = segment_key(place);
            txn.expects.push(match stored {
                Some(bytes) => Expect::Bytes(key.clone(), bytes.clone()),
                None => Expect::Absent(key.clone()),
            });
            txn.ops.push(Op::Put(key, segment.to_bytes()));
        }
        txn
    }

    /// Brings what the applied transaction did into the view.
    pub(super) fn apply(self, cluster: &mut Cluster) {
        for ((run, generation, step, phase, number), (segment, _, moves)) in self.segments {
            let step = cluster
                .runs
                .get_mut(&run)
                .and_then(|run| run.steps.get_mut(&step));
            if let Some(table) = step.and_then(|step| step.table_mut(generation, phase)) {
                let bytes = segment.to_bytes();
                table.put_segment(number, segment, bytes, &moves);
            }
        }
        for (change, bytes, effect) in self.changes {
            let Some(run) = cluster.runs.get_mut(&change.run) else {
                continue;
            };
            run.moved_millis = None;
            let Some(step) = run.steps.get_mut(&change.address.step) else {
                continue;
            };
            match effect {
                Effect::None => {}
                Effect::Carried(bytes) => step.bytes += bytes,
                Effect::Found(facts) => drop(run.facts.insert(change.address.step.clone(), facts)),
                Effect::Noted {
                    record,
                    stored,
                    carried,
                } => {
                    step.bytes += carried;
                    if record.fingerprint != step.record.fingerprint {
                        // What its workers are told says so, too.
                        run.orders
                            .remove(&(change.address.step.clone(), step.generation));
                    }
                    (step.record, step.stored) = (*record, Some(stored));
                }
            }
            let address = &change.address;
            let kind = step.kind(address.generation, address.phase);
            match (&change.kind, kind) {
                (ChangeKind::Assign(lease), kind) => {
                    let token = lease.fence.token.raw();
                    step.last_token = token;
                    if kind == Some(PhaseKind::Prepare) {
                        step.prepare_token = token;
                    }
                    kind.into_iter()
                        .for_each(|kind| step.note_assigned(kind, token));
                }
                (ChangeKind::Complete(_), Some(kind)) => step.note_done(kind, address.ordinal),
                (ChangeKind::Die(_) | ChangeKind::Doubt(_), Some(kind)) => step.note_dead(kind),
                (_, _) => {}
            }
            let Some(table) = step.table_mut(address.generation, address.phase) else {
                continue;
            };
            let ordinal = change.address.ordinal;
            match change.kind {
                ChangeKind::Assign(record) => {
                    table.retries.remove(&ordinal);
                    table.leases.insert(ordinal, Stored { record, bytes });
                }
                ChangeKind::Complete(_) | ChangeKind::Release | ChangeKind::Supersede => {
                    table.leases.remove(&ordinal);
                }
                ChangeKind::Reopen => drop(run.facts.remove(&change.address.step)),
                ChangeKind::FindLost => {}
                ChangeKind::Delay(record) => {
                    table.leases.remove(&ordinal);
                    table.retries.insert(ordinal, Stored { record, bytes });
                }
                ChangeKind::Die(record) | ChangeKind::Doubt(record) => {
                    table.leases.remove(&ordinal);
                    table.dead.insert(ordinal, Stored { record, bytes });
                }
                ChangeKind::Accept(record) => {
                    table.dead.insert(ordinal, Stored { record, bytes });
                }
                ChangeKind::Revive | ChangeKind::Resolve { .. } => {
                    table.dead.remove(&ordinal);
                    table.retries.remove(&ordinal);
                }
            }
        }
    }
}

fn walk(from: TaskState, kind: &ChangeKind) -> Result<TaskState, IllegalTransition> {
    kind.events(from == TaskState::RetryWait)
        .iter()
        .try_fold(from, |state, event| state.apply(*event))
}

fn table_of<'a>(cluster: &'a Cluster, run: &RunId, address: &TaskAddress) -> Option<&'a TaskTable> {
    cluster.runs.get(run)?.table(address)
}

fn place_of(run: &RunId, address: &TaskAddress) -> SegmentPlace {
    (
        *run,
        address.generation,
        address.step.clone(),
        address.phase,
        Segment::place(address.ordinal).0,
    )
}

fn segment_key((run, generation, step, phase, number): &SegmentPlace) -> Key {
    let number = u32::try_from(*number).unwrap_or(u32::MAX);
    RecordKey::Segment {
        run: *run,
        generation: *generation,
        step: step.clone(),
        phase: *phase,
        number,
    }
    .render()
}

/// The task's own records: what must hold of them, what becomes of them, and the bytes of the new
/// one.
fn records(
    change: &Change,
    table: &TaskTable,
    from: TaskState,
) -> Option<(Vec<Expect>, Vec<Op>, Vec<u8>)> {
    let (run, task, ordinal) = (change.run, change.task, change.address.ordinal);
    let attempt = RecordKey::Attempt { run, task }.render();
    let retry = RecordKey::Retry { run, task }.render();
    let dead = RecordKey::Dead { run, task }.render();
    let held_lease = || {
        table
            .leases
            .get(&ordinal)
            .map(|held| Expect::Bytes(attempt.clone(), held.bytes.clone()))
    };
    Some(match &change.kind {
        ChangeKind::Assign(lease) => {
            let bytes = lease.to_bytes();
            let mut ops = vec![Op::Put(attempt.clone(), bytes.clone())];
            if from == TaskState::RetryWait {
                ops.push(Op::Delete(retry));
            }
            (vec![Expect::Absent(attempt)], ops, bytes)
        }
        ChangeKind::Reopen | ChangeKind::FindLost => (Vec::new(), Vec::new(), Vec::new()),
        ChangeKind::Complete(_) | ChangeKind::Release | ChangeKind::Supersede => {
            (vec![held_lease()?], vec![Op::Delete(attempt)], Vec::new())
        }
        ChangeKind::Delay(record) => {
            let bytes = record.to_bytes();
            (
                vec![held_lease()?],
                vec![Op::Delete(attempt), Op::Put(retry, bytes.clone())],
                bytes,
            )
        }
        ChangeKind::Die(record) | ChangeKind::Doubt(record) => {
            let bytes = record.to_bytes();
            (
                vec![held_lease()?],
                vec![Op::Delete(attempt), Op::Put(dead, bytes.clone())],
                bytes,
            )
        }
        ChangeKind::Accept(record) => {
            let was = table.dead.get(&ordinal)?;
            let bytes = record.to_bytes();
            (
                vec![Expect::Bytes(dead.clone(), was.bytes.clone())],
                vec![Op::Put(dead, bytes.clone())],
                bytes,
            )
        }
        ChangeKind::Revive | ChangeKind::Resolve { .. } => (
            Vec::new(),
            vec![Op::Delete(dead), Op::Delete(retry)],
            Vec::new(),
        ),
    })
}

fn expect_bytes(expect: &Expect) -> usize {
    match expect {
        Expect::Absent(key) => key.len(),
        Expect::Bytes(key, value) => key.len() + value.len(),
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put(key, value) => key.len() + value.len(),
        Op::Delete(key) => key.len(),
    }
}
