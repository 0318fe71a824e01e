//! A target's ledger and its tables in memory, on the decisions that every connector makes: who
//! takes a stream, the claim, the guard and the fence, and what they must never let through.
//!
//! A ledger row belongs to a run, but what is counted here belongs to the stream: each position of
//! an appended table is to be there once, whichever runs, plans and tasks brought it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use highwater_common::assignment::{Assignment, LoadOrder, Outcome, Receipt, StepOrder, Work};
use highwater_common::close::Ordinals;
use highwater_common::commit::{CommitPermit, LedgerRow, LedgerState, Resume, judge, resume};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::StepFacts;
use highwater_common::id::{RunId, StepName, TaskId};
use highwater_common::ledger::{self, ClaimStep};
use highwater_common::plan::stream_id;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::Strategy;
use highwater_common::stream::{PlanMark, RunMark, StreamOwner, Takeover, may_claim, take_stream};
use highwater_common::token::{Fence, FencingToken};
use tokio::sync::Notify;

use crate::fixtures::facts;

/// What every partition brings.
pub(super) const RECEIPT: Receipt = Receipt { rows: 1, bytes: 8 };
/// Where the rows of every table lie at first, and at last: it grows at both ends, so that plans of
/// different times cut it in different ways.
const ROWS_AT_FIRST: (i64, i64) = (0, 2);
const ROWS_AT_LAST: (i64, i64) = (-3, 6);
/// The positions that are counted: those of the table, and one beyond each end, for partitions
/// there are open.
const POSITIONS: std::ops::RangeInclusive<i64> = -4..=7;

/// A target that is wrong in one way: what is promised breaks on it, and the simulation must say
/// so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// A claim begins although a newer run has fenced its own.
    ClaimIgnoresNewerRun,
    /// A claim begins for a plan that its run has left.
    ClaimIgnoresPlan,
    /// Neither a probe nor a prepare reads what has been committed.
    CoverageNotConsulted,
    /// The runs of a stream are fenced, and what they have under way is not.
    OpenTasksLeft,
    /// A fence passes over rows whose guard has matched.
    GuardsPassedOver,
    /// A run that takes its stream for another plan leaves its open tasks of the former one.
    FormerPlanLeft,
    /// A close tells of commits that are lost.
    LostCommitsTold,
}

/// A row of the ledger, and where its rows lie.
#[derive(Debug, Clone)]
struct Row {
    row: LedgerRow,
    stream: String,
    slice: Slice,
    plan: PlanMark,
    /// Its step, phase and ordinal.
    place: (StepName, u8, u64),
}

/// What the target held at a moment: a copy of its files, or a standby that lags.
pub(super) struct Backup {
    marks: BTreeMap<RunId, RunMark>,
    rows: BTreeMap<(RunId, TaskId), Row>,
    streams: BTreeMap<String, StreamOwner>,
    loaded: BTreeMap<String, BTreeMap<i64, u32>>,
}

/// Commits that the target has answered and holds no more.
#[derive(Debug, Default)]
struct Losses {
    /// How often it was put back.
    count: u32,
    /// Those that were not made again: after which time they were lost, and their rows.
    missing: BTreeMap<(RunId, TaskId), (u32, Row)>,
    /// All that ever were.
    ever: BTreeSet<TaskId>,
    /// The latest close of each step that was counted: its token, and after which time it read the
    /// target.
    closed: BTreeMap<(RunId, StepName), (FencingToken, u32)>,
}

#[derive(Debug, Default)]
struct Ledger {
    marks: BTreeMap<RunId, RunMark>,
    rows: BTreeMap<(RunId, TaskId), Row>,
    streams: BTreeMap<String, StreamOwner>,
    /// Whose guard has matched: its transaction holds the row until it commits, or until its
    /// session is ended.
    guarded: BTreeMap<(RunId, TaskId), Fence>,
    /// Whose session has claimed and lives. All end when the target is put back.
    claimed: BTreeMap<(RunId, TaskId), Fence>,
    losses: Losses,
    /// Which life of the server: another one once it has failed over.
    life: u32,
    /// How often the row at each position was loaded.
    loaded: BTreeMap<String, BTreeMap<i64, u32>>,
    rows_lie: (i64, i64),
    issued: BTreeSet<(FencingToken, u128)>,
    latest: BTreeMap<TaskId, FencingToken>,
    acknowledged: BTreeSet<TaskId>,
    cancelled: BTreeSet<RunId>,
    violations: Vec<String>,
    is_rewound: bool,
    is_healed: bool,
}

/// What a claim comes to.
pub(super) enum Claimed {
    /// The run was noted, and the claim has to look again.
    Noted,
    /// What the ledger row means; [`Resume::Begin`] is the only answer under which the attempt may
    /// go on.
    Is(Resume),
    /// The stream was taken for another plan of the run.
    PlanChanged,
    /// It is another server than the one that was prepared.
    Unprepared,
}

/// One target.
#[derive(Debug)]
pub(super) struct Target {
    is_broken: Option<Break>,
    ledger: Mutex<Ledger>,
    /// Told of every probe, as a worker receives it.
    probes: Notify,
    /// Told of every task that moves rows, as a worker receives it.
    loads: Notify,
}

impl Target {
    pub(super) fn new(is_broken: Option<Break>) -> Self {
        let ledger = Ledger {
            rows_lie: ROWS_AT_FIRST,
            ..Ledger::default()
        };
        Self {
            is_broken,
            ledger: Mutex::new(ledger),
            probes: Notify::new(),
            loads: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn is(&self, wrong: Break) -> bool {
        self.is_broken == Some(wrong)
    }

    /// No faults from here on.
    pub(super) fn heal(&self) {
        let mut ledger = self.lock();
        (ledger.is_healed, ledger.rows_lie) = (true, ROWS_AT_LAST);
    }

    pub(super) fn is_healed(&self) -> bool {
        self.lock().is_healed
    }

    /// The source gets one more row, before its first or behind its last.
    pub(super) fn grow(&self, is_behind: bool) {
        let mut ledger = self.lock();
        let (first, last) = ledger.rows_lie;
        ledger.rows_lie = match is_behind {
            true => (first, (last + 1).min(ROWS_AT_LAST.1)),
            false => ((first - 1).max(ROWS_AT_LAST.0), last),
        };
    }

    /// The store was put back: it gives tokens that it gave before, and has forgotten what it
    /// acknowledged.
    pub(super) fn note_rewound(&self) {
        self.lock().is_rewound = true;
    }

    pub(super) fn is_rewound(&self) -> bool {
        self.lock().is_rewound
    }

    pub(super) fn backup(&self) -> Backup {
        let ledger = self.lock();
        Backup {
            marks: ledger.marks.clone(),
            rows: ledger.rows.clone(),
            streams: ledger.streams.clone(),
            loaded: ledger.loaded.clone(),
        }
    }

    /// Puts the target back to a backup of itself, or lets a standby that lags take its place. All
    /// sessions end. False, and nothing is done, when that loses no commit, or when it loses a
    /// fence: who has the stream, or that a run is over. Of that nobody knows before a comparison
    /// finds a lost commit.
    pub(super) fn put_back(&self, backup: Backup, fails_over: bool) -> bool {
        let mut ledger = self.lock();
        let owner = |owner: &StreamOwner| (owner.run, owner.plan);
        let keeps_streams = ledger
            .streams
            .iter()
            .all(|(stream, now)| backup.streams.get(stream).map(owner) == Some(owner(now)));
        let fences = |marks: &BTreeMap<RunId, RunMark>| {
            let fenced = marks
                .iter()
                .filter(|(_, mark)| matches!(mark, RunMark::Fenced { .. }));
            fenced.map(|(run, _)| *run).collect::<BTreeSet<_>>()
        };
        let is_kept = |key: &(RunId, TaskId)| {
            let row = backup.rows.get(key);
            row.is_some_and(|row| row.row.state == LedgerState::Committed)
        };
        let committed = ledger.rows.iter();
        let lost: Vec<_> = committed
            .filter(|(key, row)| row.row.state == LedgerState::Committed && !is_kept(key))
            .map(|(key, row)| (*key, row.clone()))
            .collect();
        if lost.is_empty() || !keeps_streams || fences(&ledger.marks) != fences(&backup.marks) {
            return false;
        }
        let losses = &mut ledger.losses;
        losses.count += 1;
        for (key, row) in lost {
            losses.ever.insert(key.1);
            losses.missing.insert(key, (losses.count, row));
        }
        ledger.life += u32::from(fails_over);
        ledger.guarded.clear();
        ledger.claimed.clear();
        Backup {
            marks: ledger.marks,
            rows: ledger.rows,
            streams: ledger.streams,
            loaded: ledger.loaded,
        } = backup;
        true
    }

    /// How often the target has lost commits.
    pub(super) fn losses(&self) -> u32 {
        self.lock().losses.count
    }

    /// A close of a step was counted, which had read the target after so many losses.
    pub(super) fn note_closed(&self, order: &StepOrder, token: FencingToken, losses: u32) {
        let mut ledger = self.lock();
        let closed = ledger.losses.closed.entry((order.run, order.step.clone()));
        let closed = closed.or_insert((token, losses));
        *closed = (*closed).max((token, losses));
    }

    /// Whether a commit was lost after the step's close had looked for it.
    pub(super) fn is_lost_since(&self, run: RunId, step: &StepName, task: TaskId) -> bool {
        let losses = &self.lock().losses;
        let closed = losses.closed.get(&(run, step.clone()));
        let lost = losses.missing.get(&(run, task));
        lost.is_some_and(|(lost, _)| closed.is_none_or(|(_, read)| read < lost))
    }

    /// Whether a commit of the task was ever lost.
    pub(super) fn was_lost(&self, task: TaskId) -> bool {
        self.lock().losses.ever.contains(&task)
    }

    /// What was broken so far, each by the name of the invariant.
    pub(super) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    pub(super) fn is_violated(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    /// I3: an assignment that a worker has received.
    pub(super) fn received(&self, assignment: &Assignment) {
        match assignment.work {
            Work::Probe => self.probes.notify_waiters(),
            Work::Partition(_) => self.loads.notify_waiters(),
            Work::Prepare
            | Work::Build
            | Work::Check
            | Work::Publish
            | Work::Reconcile
            | Work::Statements
            | Work::Command
            | Work::Replay
            | Work::Follow
            | Work::Noop(_)
            | Work::Fence
            | Work::Count(_)
            | Work::Close { .. } => {}
        }
        let mut ledger = self.lock();
        let Fence { token, nonce } = assignment.fence;
        if !ledger.issued.insert((token, nonce.bits())) {
            ledger
                .violations
                .push(format!("I3: {token} came twice with one nonce"));
        }
        let former = ledger.latest.insert(assignment.task, token);
        if former >= Some(token) && !ledger.is_rewound {
            ledger
                .violations
                .push(format!("I3: {token} came after {former:?}"));
        }
    }

    /// Until a worker receives a probe.
    pub(super) async fn is_asked_for_a_plan(&self) {
        self.probes.notified().await;
    }

    /// Until a worker receives a task that moves rows.
    pub(super) async fn loads_begin(&self) {
        self.loads.notified().await;
    }

    /// What is found of a step before it is planned: its source as it is now, and what its stream's
    /// receipts cover.
    pub(super) fn probe(&self, order: &StepOrder) -> Outcome {
        let Strategy::Backfill(load) = &order.strategy else {
            panic!("{} is not to be probed", order.step)
        };
        let ledger = self.lock();
        let stream = stream_id(&order.pipeline, &order.step, Some(&load.from), &load.to);
        let (first, last) = ledger.rows_lie;
        let mut found: StepFacts = facts(last - first + 1);
        found.target.covered = self.covered(&ledger, &stream, None);
        let column = found
            .source
            .partition
            .as_mut()
            .expect("the step is cut by a column");
        (column.min, column.max) = (Some(Cursor::Integer(first)), Some(Cursor::Integer(last)));
        found.target.fingerprint = fingerprint(&ledger);
        Outcome::Probed(serde_json::to_vec(&found).unwrap())
    }

    /// The ranges of a stream that have been committed, whoever did it, but for this plan of this
    /// run.
    fn covered(
        &self,
        ledger: &Ledger,
        stream: &str,
        own: Option<(RunId, PlanMark)>,
    ) -> Vec<CursorRange> {
        if self.is(Break::CoverageNotConsulted) {
            return Vec::new();
        }
        let mut coverage = Coverage::default();
        let rows = ledger
            .rows
            .iter()
            .filter(|((run, _), row)| row.stream == stream && own != Some((*run, row.plan)));
        let committed = rows.filter(|(_, row)| row.row.state == LedgerState::Committed);
        committed.for_each(|(_, row)| coverage.insert(&row.slice));
        match coverage.contains(CursorKind::Integer, &Slice::Range(CursorRange::ALL)) {
            true => vec![CursorRange::ALL],
            false => coverage.ranges(CursorKind::Integer).collect(),
        }
    }

    /// The stream becomes the run's and its plan's, and whoever had it is fenced: one transaction.
    pub(super) fn prepare(&self, order: &StepOrder, assignment: &Assignment) -> Outcome {
        let mut ledger = self.lock();
        let load_order = order
            .load_order
            .as_ref()
            .expect("a step that is prepared was planned");
        let (run, stream) = (order.run, &load_order.stream);
        let mine = StreamOwner {
            run,
            token: assignment.fence.token,
            plan: Some(plan_of(order, load_order)),
        };
        let own = ledger.marks.get(&run).copied().unwrap_or(RunMark::Unknown);
        let owner = ledger.streams.get(stream).copied();
        let (former, leaves_plan) = match take_stream(&mine, own, owner.as_ref()) {
            Takeover::Take {
                former,
                leaves_plan,
            } => (former, leaves_plan),
            Takeover::Superseded => return Outcome::Superseded { by: fenced_by(own) },
            Takeover::Fenced { newer } => return Outcome::Fenced { newer },
        };
        ledger.marks.entry(run).or_insert(RunMark::Running);
        let token = owner.map_or(mine.token, |owner| owner.token.max(mine.token));
        ledger
            .streams
            .insert(stream.clone(), StreamOwner { token, ..mine });
        let others: BTreeSet<RunId> = ledger
            .rows
            .iter()
            .filter(|((of, _), row)| *of != run && row.stream == *stream)
            .map(|((of, _), _)| *of)
            .chain(former)
            .filter(|of| !matches!(ledger.marks.get(of), Some(RunMark::Fenced { .. })))
            .collect();
        for other in &others {
            ledger
                .marks
                .insert(*other, RunMark::Fenced { by: Some(run) });
        }
        if !self.is(Break::OpenTasksLeft) {
            let is_meant = |of: &RunId, row: &Row| {
                *of != run && (others.contains(of) || row.stream == *stream)
            };
            self.fence_tasks(&mut ledger, is_meant);
        }
        if leaves_plan && !self.is(Break::FormerPlanLeft) {
            let given_up = ledger.rows.extract_if(.., |(of, _), row| {
                *of == run && row.stream == *stream && row.row.state == LedgerState::Open
            });
            let given_up: BTreeSet<(RunId, TaskId)> = given_up.map(|(key, _)| key).collect();
            ledger.guarded.retain(|key, _| !given_up.contains(key));
        }
        let own = Some((run, plan_of(order, load_order)));
        let coverage = Coverage::of(&self.covered(&ledger, stream, own), false);
        Outcome::Prepared {
            warnings: Vec::new(),
            coverage: coverage.digest(),
            fingerprint: fingerprint(&ledger),
        }
    }

    /// The tasks of a phase of a run's plan that are committed.
    pub(super) fn committed(&self, order: &StepOrder, phase: u8) -> Outcome {
        let ledger = self.lock();
        let plan = plan_of(
            order,
            order
                .load_order
                .as_ref()
                .expect("a step that moves rows was planned"),
        );
        let of_phase = ledger.rows.iter().filter(|((run, _), row)| {
            (*run, row.plan, &row.place.0, row.place.1) == (order.run, plan, &order.step, phase)
        });
        let committed = of_phase.filter(|(_, row)| row.row.state == LedgerState::Committed);
        let mut ordinals: BTreeSet<u64> = committed.map(|(_, row)| row.place.2).collect();
        if self.is(Break::LostCommitsTold) {
            let missing = ledger.losses.missing.iter();
            let of_phase = missing.filter(|((run, _), (_, row))| {
                (*run, row.plan, &row.place.0, row.place.1) == (order.run, plan, &order.step, phase)
            });
            ordinals.extend(of_phase.map(|(_, (_, row))| row.place.2));
        }
        Outcome::Closed(Ordinals::of_ranges(
            ordinals.into_iter().map(|ordinal| (ordinal, ordinal)),
        ))
    }

    /// Ends what is open, after the guards in flight: a session that does not go on is ended.
    fn fence_tasks(&self, ledger: &mut Ledger, is_meant: impl Fn(&RunId, &Row) -> bool) {
        let Ledger { rows, guarded, .. } = ledger;
        for (key, row) in rows.iter_mut().filter(|((run, _), row)| is_meant(run, row)) {
            if self.is(Break::GuardsPassedOver) && guarded.contains_key(key) {
                continue;
            }
            row.row.state = ledger::fence(row.row.state);
            guarded.remove(key);
        }
    }

    pub(super) fn claim(
        &self,
        order: &StepOrder,
        assignment: &Assignment,
        slice: Slice,
    ) -> Claimed {
        let mut ledger = self.lock();
        let load_order = order
            .load_order
            .as_ref()
            .expect("a step that moves rows was planned");
        if load_order.target_fingerprint != fingerprint(&ledger) {
            return Claimed::Unprepared;
        }
        let (run, mine, key) = (order.run, assignment.fence, (order.run, assignment.task));
        let mut mark = match ledger.marks.get(&run) {
            None | Some(RunMark::Unknown) => None,
            Some(RunMark::Running) => Some(ledger::RunMark::Running),
            Some(RunMark::Fenced { .. }) => Some(ledger::RunMark::Fenced),
        };
        if self.is(Break::ClaimIgnoresNewerRun) {
            mark = mark.and(Some(ledger::RunMark::Running));
        }
        let step = ledger::claim(
            mark,
            ledger.rows.get(&key).map(|row| &row.row),
            &mine,
            &order.spec_digest,
        );
        let owner = ledger
            .streams
            .get(&load_order.stream)
            .filter(|owner| owner.run == run);
        let is_of_plan = may_claim(
            owner.and_then(|owner| owner.plan).as_ref(),
            &plan_of(order, load_order),
        );
        let is_fenced = mark == Some(ledger::RunMark::Fenced);
        match step {
            // In a transaction of its own: one for both would not see a fence that was put in
            // between.
            ClaimStep::NoteRun => {
                ledger.marks.insert(run, RunMark::Running);
                Claimed::Noted
            }
            _ if !is_of_plan && !is_fenced && !self.is(Break::ClaimIgnoresPlan) => {
                Claimed::PlanChanged
            }
            ClaimStep::Raise => {
                let (state, receipt) = (LedgerState::Open, Receipt::default());
                let row = LedgerRow {
                    state,
                    fence: mine,
                    spec_digest: order.spec_digest,
                    receipt,
                };
                let place = (order.step.clone(), assignment.phase, assignment.ordinal);
                let (stream, plan) = (load_order.stream.clone(), plan_of(order, load_order));
                ledger.rows.insert(
                    key,
                    Row {
                        row,
                        stream,
                        slice,
                        plan,
                        place,
                    },
                );
                // The former attempt's session, if it is there still, is ended.
                ledger.guarded.remove(&key);
                ledger.claimed.insert(key, mine);
                Claimed::Is(Resume::Begin)
            }
            ClaimStep::Stands(meaning) => Claimed::Is(meaning),
        }
    }

    /// The guard; with a permit the attempt's transaction holds its row.
    pub(super) fn guard(&self, order: &StepOrder, assignment: &Assignment) -> Option<CommitPermit> {
        let mut ledger = self.lock();
        let key = (order.run, assignment.task);
        if ledger.claimed.get(&key) != Some(&assignment.fence) {
            return None; // its session has ended
        }
        let matched = ledger::guard(ledger.rows.get(&key).map(|row| &row.row), &assignment.fence);
        let permit = judge(matched, None).ok()?;
        ledger.guarded.insert(key, assignment.fence);
        Some(permit)
    }

    /// The commit of what was guarded. True when the rows are in; false when the session was ended
    /// before.
    pub(super) fn commit(
        &self,
        _permit: CommitPermit,
        order: &StepOrder,
        assignment: &Assignment,
    ) -> bool {
        let mut ledger = self.lock();
        let (run, key) = (order.run, (order.run, assignment.task));
        if ledger.guarded.get(&key) != Some(&assignment.fence) {
            return false;
        }
        ledger.guarded.remove(&key);
        let Some(row) = ledger.rows.get_mut(&key) else {
            return false;
        };
        (row.row.state, row.row.receipt) = (LedgerState::Committed, RECEIPT);
        let (stream, slice) = (row.stream.clone(), row.slice);
        ledger.losses.missing.remove(&key);
        let loaded = ledger.loaded.entry(stream.clone()).or_default();
        let mut twice = Vec::new();
        for at in POSITIONS.filter(|at| holds(&slice, *at)) {
            let times = loaded.entry(at).or_default();
            *times += 1;
            if *times > 1 {
                twice.push(at);
            }
        }
        if !twice.is_empty() {
            ledger.violations.push(format!(
                "I1: run {run} has loaded {twice:?} of {stream} once \
                more, by {slice}"
            ));
        }
        if ledger.cancelled.contains(&run) {
            ledger.violations.push(format!(
                "I2: run {run} has committed {slice} of {stream} after \
                its cancel"
            ));
        }
        true
    }

    /// What the ledger says to an attempt that does not know how it ended; `None` without a row.
    pub(super) fn ask(&self, order: &StepOrder, assignment: &Assignment) -> Option<Resume> {
        let ledger = self.lock();
        let row = ledger.rows.get(&(order.run, assignment.task))?;
        Some(resume(&row.row, &assignment.fence, &order.spec_digest))
    }

    pub(super) fn is_committed(&self, run: RunId, task: TaskId) -> bool {
        self.lock()
            .rows
            .get(&(run, task))
            .is_some_and(|row| row.row.state == LedgerState::Committed)
    }

    /// I1, once everything has ended: the positions of a stream that were not loaded exactly once.
    pub(super) fn not_once(&self, stream: &str) -> Vec<(i64, u32)> {
        let ledger = self.lock();
        let times = |at| {
            ledger
                .loaded
                .get(stream)
                .and_then(|loaded| loaded.get(&at))
                .copied()
                .unwrap_or(0)
        };
        POSITIONS
            .map(|at| (at, times(at)))
            .filter(|(_, times)| *times != 1)
            .collect()
    }

    /// The run that took a stream of this one.
    pub(super) fn fenced_by(&self, run: RunId) -> Option<RunId> {
        self.lock().marks.get(&run).copied().and_then(fenced_by)
    }

    /// A cancel's fence.
    pub(super) fn fence(&self, run: RunId) {
        let mut ledger = self.lock();
        let by = ledger.marks.get(&run).copied().and_then(fenced_by);
        ledger.marks.insert(run, RunMark::Fenced { by });
        self.fence_tasks(&mut ledger, |of, _| *of == run);
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

/// Which server it is, and which life of it.
fn fingerprint(ledger: &Ledger) -> String {
    format!("life {}", ledger.life)
}

fn plan_of(order: &StepOrder, load_order: &LoadOrder) -> PlanMark {
    PlanMark::of(order.generation, &load_order.cut)
}

fn fenced_by(mark: RunMark) -> Option<RunId> {
    match mark {
        RunMark::Fenced { by } => by,
        RunMark::Unknown | RunMark::Running => None,
    }
}

/// Whether a slice takes the row at a position.
fn holds(slice: &Slice, at: i64) -> bool {
    let Slice::Range(range) = slice else {
        return false;
    };
    let is_from = range
        .start()
        .is_none_or(|start| start <= Cursor::Integer(at));
    is_from && range.end().is_none_or(|end| Cursor::Integer(at) < end)
}

/// The slice of a task that moves rows.
pub(super) fn slice_of(assignment: &Assignment) -> Option<Slice> {
    match assignment.work {
        Work::Partition(slice) => Some(slice),
        Work::Probe
        | Work::Prepare
        | Work::Build
        | Work::Check
        | Work::Publish
        | Work::Reconcile
        | Work::Statements
        | Work::Command
        | Work::Replay
        | Work::Follow
        | Work::Noop(_)
        | Work::Fence
        | Work::Count(_)
        | Work::Close { .. } => None,
    }
}
