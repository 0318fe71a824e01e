//! The ledger, as rows of the document. What is done to them is decided in `common`.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::assignment::Receipt;
use highwater_common::chunk::Reached;
use highwater_common::close::Ordinals;
use highwater_common::commit::{LedgerRow, LedgerState, Resume};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::Cursor;
use highwater_common::errand::{ForgetPlan, Forgetting, StreamReceipts, forgetting};
use highwater_common::id::{ClusterId, DocumentDigest, RunId, StepName, TaskId};
use highwater_common::ledger::{self, ClaimStep};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::stream::{
    PlanMark, RowsExpected, RunMark, StreamOwner, TableFound, Takeover, contradiction, may_claim,
    take_stream,
};
use highwater_common::token::{Fence, FencingToken};
use serde::{Deserialize, Serialize};

use super::table::Table;
use crate::connector::{
    Claim, CloseRequest, ForgetRequest, GuardStep, Matched, Next, PrepareOutcome, StreamRequest,
    WatermarkMove,
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) cluster: ClusterId,
    /// Random, made with the ledger.
    pub(super) id: String,
    runs: BTreeMap<RunId, Run>,
    streams: BTreeMap<String, Stream>,
    pub(super) tasks: Vec<Task>,
    /// The position, and its version.
    watermarks: BTreeMap<String, (Cursor, u64)>,
    commits: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Run {
    is_fenced: bool,
    by: Option<RunId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stream {
    run: RunId,
    token: FencingToken,
    plan: Option<[u8; 32]>,
    /// The table that its rows go to.
    table: Option<u64>,
}

/// What is noted of a task, or of the part of one that is committed in chunks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    run: RunId,
    task: TaskId,
    fence: Fence,
    state: String,
    spec: DocumentDigest,
    step: StepName,
    phase: u8,
    ordinal: u64,
    plan: [u8; 32],
    stream: String,
    slice: Option<Slice>,
    chunks: u32,
    cursor: Option<Cursor>,
    rows: u64,
    bytes: u64,
    is_part: bool,
    /// Which commit of the folder's it was.
    at: u64,
    voided: Option<(RunId, String)>,
}

/// What a claim came to.
pub(super) enum Answer {
    Is(Resume, Reached),
    PlanChanged,
}

impl Task {
    pub(super) fn state(&self) -> LedgerState {
        LedgerState::from_letter(&self.state).unwrap_or(LedgerState::Fenced)
    }

    fn become_(&mut self, state: LedgerState) {
        state.letter().clone_into(&mut self.state);
    }

    fn row(&self) -> LedgerRow {
        LedgerRow {
            state: self.state(),
            fence: self.fence,
            spec_digest: self.spec,
            receipt: self.receipt(),
        }
    }

    const fn receipt(&self) -> Receipt {
        Receipt {
            rows: self.rows,
            bytes: self.bytes,
        }
    }

    fn add(&mut self, chunk: Receipt) {
        let all = self.receipt().and(chunk);
        (self.rows, self.bytes) = (all.rows, all.bytes);
    }
}

impl Ledger {
    pub(super) fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            id: format!("{:016x}", rand::random::<u64>()),
            runs: BTreeMap::new(),
            streams: BTreeMap::new(),
            tasks: Vec::new(),
            watermarks: BTreeMap::new(),
            commits: 0,
        }
    }

    fn find(&self, run: &RunId, task: &TaskId) -> Option<usize> {
        let is_it = |own: &Task| own.run == *run && own.task == *task;
        self.tasks.iter().position(is_it)
    }

    pub(super) fn row(&self, run: &RunId, task: &TaskId) -> Option<LedgerRow> {
        self.find(run, task).map(|at| self.tasks[at].row())
    }

    pub(super) fn mark(&self, run: &RunId) -> RunMark {
        match self.runs.get(run) {
            None => RunMark::Unknown,
            Some(run) if run.is_fenced => RunMark::Fenced { by: run.by },
            Some(_) => RunMark::Running,
        }
    }

    fn owner(&self, stream: &str) -> Option<StreamOwner> {
        let owner = self.streams.get(stream)?;
        Some(StreamOwner {
            run: owner.run,
            token: owner.token,
            plan: owner.plan.map(PlanMark::from_bytes),
        })
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Answer {
        loop {
            let mark = match self.mark(&claim.run) {
                RunMark::Unknown => None,
                RunMark::Running => Some(ledger::RunMark::Running),
                RunMark::Fenced { .. } => Some(ledger::RunMark::Fenced),
            };
            let taken = self.owner(&claim.stream).filter(|own| own.run == claim.run);
            let taken = taken.and_then(|owner| owner.plan);
            if mark == Some(ledger::RunMark::Running) && !may_claim(taken.as_ref(), &claim.plan) {
                return Answer::PlanChanged;
            }
            let at = self.find(&claim.run, &claim.task);
            let row = at.map(|at| self.tasks[at].row());
            match ledger::claim(mark, row.as_ref(), &claim.fence, &claim.spec_digest) {
                ClaimStep::NoteRun => {
                    self.runs.insert(claim.run, Run::default());
                }
                ClaimStep::Raise => match at {
                    Some(at) => self.tasks[at].fence = claim.fence,
                    None => self.tasks.push(open(claim)),
                },
                ClaimStep::Stands(meaning) => {
                    let reached = at.map_or_else(Reached::default, |at| Reached {
                        chunks: self.tasks[at].chunks,
                        cursor: self.tasks[at].cursor,
                        receipt: self.tasks[at].receipt(),
                    });
                    return Answer::Is(meaning, reached);
                }
            }
        }
    }

    pub(super) fn guard(&mut self, claim: &Claim, reached: &Reached, step: &GuardStep) -> Matched {
        let at = self.find(&claim.run, &claim.task);
        let held = at.filter(|at| {
            let row = self.tasks[*at].row();
            ledger::guard(Some(&row), &claim.fence) == 1 && self.tasks[*at].chunks == reached.chunks
        });
        let Some(at) = held else {
            return Matched {
                ledger: 0,
                watermark: None,
            };
        };
        self.commits += 1;
        let part = self.find(&claim.run, &claim.task.part());
        let task = &mut self.tasks[at];
        task.add(step.chunk);
        (task.chunks, task.at) = (task.chunks + 1, self.commits);
        match step.next {
            Next::Committed => {
                task.become_(LedgerState::Committed);
                if let Some(part) = part {
                    self.tasks.remove(part);
                }
            }
            Next::Continue { cursor } => {
                task.cursor = Some(cursor);
                let mut receipt = Task {
                    task: claim.task.part(),
                    is_part: true,
                    slice: claim.slice.map(|slice| up_to(slice, cursor)),
                    ..task.clone()
                };
                receipt.become_(LedgerState::Committed);
                match part {
                    Some(part) => self.tasks[part] = receipt,
                    None => self.tasks.push(receipt),
                }
            }
        }
        Matched {
            ledger: 1,
            watermark: step.watermark.as_ref().map(|to| self.move_watermark(to)),
        }
    }

    fn move_watermark(&mut self, to: &WatermarkMove) -> u64 {
        let found = self.watermarks.get(&to.stream).map(|(_, version)| *version);
        if found != to.seen {
            return 0;
        }
        let next = (to.position, found.unwrap_or(0) + 1);
        self.watermarks.insert(to.stream.clone(), next);
        1
    }

    /// Nothing of these tasks commits any more. How many were open?
    fn fence_tasks(&mut self, is_meant: impl Fn(&Task) -> bool) -> u64 {
        let mut fenced = 0;
        for task in self.tasks.iter_mut().filter(|task| is_meant(task)) {
            fenced += u64::from(task.state() == LedgerState::Open);
            task.become_(ledger::fence(task.state()));
        }
        fenced
    }

    pub(super) fn fence_run(&mut self, run: RunId, by: Option<RunId>) -> u64 {
        let mark = self.runs.entry(run).or_default();
        if !mark.is_fenced {
            *mark = Run {
                is_fenced: true,
                by,
            };
        }
        self.fence_tasks(|task| task.run == run)
    }

    pub(super) fn fence_all(&mut self) {
        let runs: Vec<RunId> = self.runs.keys().copied().collect();
        for run in runs {
            self.fence_run(run, None);
        }
    }

    /// Takes a stream, or says why this attempt may not have it.
    pub(super) fn take(&mut self, wanted: &StreamRequest) -> Option<PrepareOutcome> {
        let mine = StreamOwner {
            run: wanted.run,
            token: wanted.token,
            plan: wanted.plan,
        };
        let owner = self.owner(&wanted.stream);
        let taken = take_stream(&mine, self.mark(&wanted.run), owner.as_ref());
        let (former, leaves_plan) = match taken {
            Takeover::Take {
                former,
                leaves_plan,
            } => (former, leaves_plan),
            Takeover::Superseded => return Some(PrepareOutcome::Superseded),
            Takeover::Fenced { newer } => return Some(PrepareOutcome::Fenced { newer }),
        };
        self.runs.entry(wanted.run).or_default();
        let is_other = |run: &RunId| *run != wanted.run;
        let had_it = self
            .tasks
            .iter()
            .filter(|task| task.stream == wanted.stream);
        let others: BTreeSet<RunId> = had_it.map(|task| task.run).chain(former).collect();
        for other in others.into_iter().filter(is_other) {
            self.fence_run(other, Some(wanted.run));
        }
        if leaves_plan {
            self.tasks.retain(|task| {
                let is_own = task.run == wanted.run && task.stream == wanted.stream;
                !is_own || task.state() != LedgerState::Open
            });
        }
        let table = self.streams.get(&wanted.stream).and_then(|own| own.table);
        let stream = Stream {
            run: wanted.run,
            token: owner.map_or(mine.token, |owner| owner.token.max(mine.token)),
            plan: wanted.plan.as_ref().map(|plan| *plan.as_bytes()),
            table,
        };
        self.streams.insert(wanted.stream.clone(), stream);
        None
    }

    /// Notes which table the stream's rows go to from now on.
    pub(super) fn note_table(&mut self, stream: &str, table: u64) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.table = Some(table);
        }
    }

    /// Why the stream's receipts cannot be those of the table that is there.
    pub(super) fn contradiction(
        &self,
        stream: &str,
        found: Option<&Table>,
    ) -> Option<&'static str> {
        let noted = self.streams.get(stream).and_then(|stream| stream.table);
        let found = match found {
            None => TableFound::Missing,
            Some(table) if noted.is_some_and(|noted| noted != table.id) => TableFound::Remade,
            Some(table) if table.rows.is_empty() => TableFound::Empty,
            Some(_) => TableFound::Filled,
        };
        let mut receipts: Vec<&Task> = self.committed_of(stream).collect();
        receipts.sort_by_key(|task| std::cmp::Reverse(task.at));
        let mut expecting = RowsExpected::default();
        let is_expected = receipts
            .iter()
            .filter_map(|task| Some((task.slice?, task.rows)))
            .any(|(slice, rows)| expecting.earlier(&slice, rows));
        contradiction(found, is_expected)
    }

    fn committed_of(&self, stream: &str) -> impl Iterator<Item = &Task> {
        let is_committed = |task: &&Task| task.state() == LedgerState::Committed;
        let of_stream = self.tasks.iter().filter(move |task| task.stream == stream);
        of_stream.filter(is_committed)
    }

    /// What is committed of a stream, but for one plan of one run.
    pub(super) fn coverage(&self, stream: &str, own: Option<(RunId, PlanMark)>) -> Coverage {
        let is_own = |task: &Task| {
            own.is_some_and(|(run, plan)| task.run == run && task.plan == *plan.as_bytes())
        };
        let mut coverage = Coverage::default();
        let others = self.committed_of(stream).filter(|task| !is_own(task));
        let slices = others.filter_map(|task| task.slice);
        slices.for_each(|slice| coverage.insert(&slice));
        coverage
    }

    pub(super) fn committed(&self, request: &CloseRequest) -> Ordinals {
        let of_phase = self.tasks.iter().filter(|task| {
            (task.run, &task.step, task.phase) == (request.run, &request.step, request.phase)
                && task.plan == *request.plan.as_bytes()
                && task.state() == LedgerState::Committed
                && !task.is_part
        });
        let all: BTreeSet<u64> = of_phase.map(|task| task.ordinal).collect();
        Ordinals::of_ranges(all.into_iter().map(|ordinal| (ordinal, ordinal)))
    }

    pub(super) fn receipts(&self, stream: &str, by: Option<RunId>) -> StreamReceipts {
        let voided = self.tasks.iter().filter(|task| task.stream == stream);
        let voided = voided
            .filter_map(|task| task.voided.as_ref())
            .map(|(run, _)| *run);
        StreamReceipts {
            stream: stream.to_owned(),
            receipts: self.committed_of(stream).count() as u64,
            rows: self.committed_of(stream).map(|task| task.rows).sum(),
            voided: voided.clone().count() as u64,
            forgotten: voided.filter(|run| Some(*run) == by).count() as u64,
            coverage: self.coverage(stream, None),
            watermark: None,
        }
    }

    pub(super) fn void(&mut self, request: &ForgetRequest) -> Result<StreamReceipts, String> {
        let (stream, run) = (&request.stream.stream, request.stream.run);
        let slices = self.committed_of(stream).filter_map(|task| task.slice);
        let slices: Vec<Slice> = slices.collect();
        let plan = ForgetPlan::of(&request.forget, &request.tz, &slices)?;
        for task in self.tasks.iter_mut().filter(|task| {
            task.stream == *stream
                && task.state() == LedgerState::Committed
                && task.slice.is_none_or(|slice| {
                    forgetting(&slice, plan.range.as_ref()) == Forgetting::Void
                })
        }) {
            task.become_(LedgerState::Voided);
            task.voided = Some((run, request.forget.reason.clone()));
        }
        Ok(self.receipts(stream, Some(run)))
    }
}

/// The row of a first claim.
fn open(claim: &Claim) -> Task {
    Task {
        run: claim.run,
        task: claim.task,
        fence: claim.fence,
        state: LedgerState::Open.letter().to_owned(),
        spec: claim.spec_digest,
        step: claim.step.clone(),
        phase: claim.phase,
        ordinal: claim.ordinal,
        plan: *claim.plan.as_bytes(),
        stream: claim.stream.clone(),
        slice: claim.slice,
        chunks: 0,
        cursor: None,
        rows: 0,
        bytes: 0,
        is_part: false,
        at: 0,
        voided: None,
    }
}

/// The part of a slice that is committed.
fn up_to(slice: Slice, cursor: Cursor) -> Slice {
    let start = match slice {
        Slice::Range(range) => range.start(),
        Slice::Null => None,
    };
    CursorRange::new(start, Some(cursor)).map_or(slice, Slice::Range)
}
