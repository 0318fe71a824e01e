//! A wrapper around a target that plays faults: refuses, applies and loses the answer, holds, or is
//! slow.
//!
//! The target behind it is a real one; only the answers, and when they come, are played.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::chunk::Reached;
use highwater_common::close::Ordinals;
use highwater_common::commit::{CommitPermit, LedgerRow};
use highwater_common::errand::StreamReceipts;
use highwater_common::facts::{ColumnFacts, Engine, TargetFacts};
use highwater_common::id::{ClusterId, ConnectionName, RunId, TaskId};
use highwater_common::range::Slice;
use highwater_common::spec::TableName;
use tokio::sync::Semaphore;

use super::{
    ApplyTx, Bounds, Builds, CheckTx, Checks, Claim, ClaimOutcome, Claimed, CloseRequest,
    CommitFailure, ConnectorError, ExchangeTx, FenceReport, ForgetOutcome, ForgetRequest,
    GuardStep, Matched, MergeTx, PrepareOutcome, PrepareRequest, ReconcileTx, ReplaceTx, RowFormat,
    RowStream, Rows, Shadows, Stages, Target, TargetProbe, TargetTx, WriteRequest,
};

/// A call on a target, or on what its claims give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetOp {
    /// [`Target::probe`].
    Probe,
    /// [`Target::prepare`].
    Prepare,
    /// [`Target::claim`].
    Claim,
    /// [`Claimed::begin`].
    Begin,
    /// [`TargetTx::insert`].
    Insert,
    /// [`TargetTx::guard`].
    Guard,
    /// [`TargetTx::commit`].
    Commit,
    /// [`Target::ledger_row`].
    LedgerRow,
    /// [`Target::fence_run`].
    FenceRun,
    /// [`Target::adopt`].
    Adopt,
}

/// What becomes of one call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It fails with an error of this class and does nothing.
    Reject(ErrorClass),
    /// It does its work, and the caller hears only that the connection is gone.
    AppliedAnswerLost,
    /// It waits at the gate before it does anything.
    Hold(Gate),
    /// It does its work so much later.
    Slow(Duration),
}

/// A gate that a held call stands at until a test opens it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Sides>);

#[derive(Debug)]
struct Sides {
    arrived: Semaphore,
    opened: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Sides {
            arrived: Semaphore::new(0),
            opened: Semaphore::new(0),
        }))
    }
}

impl Gate {
    /// Waits until a call stands at the gate.
    pub async fn reached(&self) {
        if let Ok(arrival) = self.0.arrived.acquire().await {
            arrival.forget();
        }
    }

    /// Lets one call through.
    pub fn open(&self) {
        self.0.opened.add_permits(1);
    }

    async fn pass(&self) {
        self.0.arrived.add_permits(1);
        if let Ok(pass) = self.0.opened.acquire().await {
            pass.forget();
        }
    }
}

/// The faults to come, call by call.
#[derive(Debug, Clone, Default)]
struct Script(Arc<Mutex<BTreeMap<TargetOp, VecDeque<Fault>>>>);

/// What is left of a fault once the call may begin.
enum Turn {
    Work,
    WorkAndLose,
}

impl Script {
    fn add(&self, op: TargetOp, fault: Fault) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(op)
            .or_default()
            .push_back(fault);
    }

    async fn play(&self, op: TargetOp) -> Result<Turn, ConnectorError> {
        let fault = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(&op)
            .and_then(VecDeque::pop_front);
        match fault {
            None => Ok(Turn::Work),
            Some(Fault::Reject(class)) => Err(error(class, "fault_rejected", op)),
            Some(Fault::AppliedAnswerLost) => Ok(Turn::WorkAndLose),
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                Ok(Turn::Work)
            }
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(Turn::Work)
            }
        }
    }
}

impl Turn {
    /// The answer, or its loss; what a lost answer held is dropped, as a broken connection drops
    /// it.
    fn told<T>(self, op: TargetOp, answer: Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        match self {
            Self::Work => answer,
            Self::WorkAndLose => {
                answer.and_then(|_lost| Err(error(ErrorClass::Transient, "fault_answer_lost", op)))
            }
        }
    }
}

fn error(class: ErrorClass, code: &str, op: TargetOp) -> ConnectorError {
    ConnectorError {
        report: AttemptError::received(
            class,
            code.to_owned(),
            format!("{op:?}: a fault was played"),
        ),
        source: None,
    }
}

/// A target that plays faults.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Target>,
    script: Script,
}

impl Faulty {
    /// `inner`, without a fault until [`Faulty::next`] adds one.
    #[must_use]
    pub fn around(inner: Arc<dyn Target>) -> Self {
        Self {
            inner,
            script: Script::default(),
        }
    }

    /// The next call of `op` that has no fault yet gets this one.
    pub fn next(&self, op: TargetOp, fault: Fault) {
        self.script.add(op, fault);
    }
}

#[async_trait]
impl Target for Faulty {
    async fn probe(&self, probe: &TargetProbe) -> Result<TargetFacts, ConnectorError> {
        let turn = self.script.play(TargetOp::Probe).await?;
        turn.told(TargetOp::Probe, self.inner.probe(probe).await)
    }

    async fn prepare(&self, request: &PrepareRequest) -> Result<PrepareOutcome, ConnectorError> {
        let turn = self.script.play(TargetOp::Prepare).await?;
        turn.told(TargetOp::Prepare, self.inner.prepare(request).await)
    }

    async fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, ConnectorError> {
        let turn = self.script.play(TargetOp::Claim).await?;
        let outcome = turn.told(TargetOp::Claim, self.inner.claim(claim).await)?;
        Ok(match outcome {
            ClaimOutcome::Held(held) => {
                let script = self.script.clone();
                let around =
                    |inner| -> Box<dyn Claimed> { Box::new(FaultyClaimed { inner, script }) };
                ClaimOutcome::Held(held.wrapped(around))
            }
            ClaimOutcome::Committed(receipt) => ClaimOutcome::Committed(receipt),
            ClaimOutcome::Superseded => ClaimOutcome::Superseded,
            ClaimOutcome::Fenced { newer } => ClaimOutcome::Fenced { newer },
            ClaimOutcome::SpecChanged => ClaimOutcome::SpecChanged,
            ClaimOutcome::PlanChanged => ClaimOutcome::PlanChanged,
        })
    }

    async fn ledger_row(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<LedgerRow>, ConnectorError> {
        let turn = self.script.play(TargetOp::LedgerRow).await?;
        turn.told(TargetOp::LedgerRow, self.inner.ledger_row(run, task).await)
    }

    async fn committed(&self, request: &CloseRequest) -> Result<Ordinals, ConnectorError> {
        self.inner.committed(request).await
    }

    async fn fence_run(
        &self,
        cluster: &ClusterId,
        run: &RunId,
    ) -> Result<FenceReport, ConnectorError> {
        let turn = self.script.play(TargetOp::FenceRun).await?;
        turn.told(TargetOp::FenceRun, self.inner.fence_run(cluster, run).await)
    }

    async fn fenced_by(&self, run: &RunId) -> Result<Option<RunId>, ConnectorError> {
        self.inner.fenced_by(run).await
    }

    async fn receipts(
        &self,
        cluster: &ClusterId,
        stream: &str,
    ) -> Result<StreamReceipts, ConnectorError> {
        self.inner.receipts(cluster, stream).await
    }

    async fn forget(&self, request: &ForgetRequest) -> Result<ForgetOutcome, ConnectorError> {
        self.inner.forget(request).await
    }

    async fn adopt(&self, cluster: &ClusterId) -> Result<Option<ClusterId>, ConnectorError> {
        let turn = self.script.play(TargetOp::Adopt).await?;
        turn.told(TargetOp::Adopt, self.inner.adopt(cluster).await)
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<ColumnFacts>, ConnectorError> {
        self.inner.columns(table).await
    }

    fn checks(&self) -> Option<&dyn Checks> {
        self.inner.checks()
    }

    fn stages(&self) -> Option<&dyn Stages> {
        self.inner.stages()
    }

    fn bounds(&self) -> Option<&dyn Bounds> {
        self.inner.bounds()
    }

    fn shadows(&self) -> Option<&dyn Shadows> {
        self.inner.shadows()
    }

    fn builds(&self) -> Option<&dyn Builds> {
        self.inner.builds()
    }

    fn formats(
        &self,
        from: Engine,
        columns: &[ColumnFacts],
        own: &[ColumnFacts],
    ) -> Vec<RowFormat> {
        self.inner.formats(from, columns, own)
    }
}

struct FaultyClaimed {
    inner: Box<dyn Claimed>,
    script: Script,
}

#[async_trait]
impl Claimed for FaultyClaimed {
    fn connection(&self) -> &ConnectionName {
        self.inner.connection()
    }

    async fn ready(&mut self) -> Result<(), ConnectorError> {
        self.inner.ready().await
    }

    async fn begin(self: Box<Self>) -> Result<Box<dyn TargetTx>, ConnectorError> {
        let turn = self.script.play(TargetOp::Begin).await?;
        let inner = turn.told(TargetOp::Begin, self.inner.begin().await)?;
        Ok(Box::new(FaultyTx {
            inner,
            script: self.script,
        }))
    }

    async fn release(self: Box<Self>) {
        self.inner.release().await;
    }
}

struct FaultyTx {
    inner: Box<dyn TargetTx>,
    script: Script,
}

#[async_trait]
impl TargetTx for FaultyTx {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn hold(&mut self, request: &WriteRequest) -> Result<(), ConnectorError> {
        self.inner.hold(request).await
    }

    async fn has_receipts(&mut self, stream: &str, slice: &Slice) -> Result<bool, ConnectorError> {
        self.inner.has_receipts(stream, slice).await
    }

    async fn count(&mut self, rows: &Rows, most: u64) -> Result<u64, ConnectorError> {
        self.inner.count(rows, most).await
    }

    async fn delete(&mut self, rows: &Rows) -> Result<(), ConnectorError> {
        self.inner.delete(rows).await
    }

    async fn insert(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let turn = self.script.play(TargetOp::Insert).await?;
        turn.told(TargetOp::Insert, self.inner.insert(request, rows).await)
    }

    fn merging(&mut self) -> Option<&mut dyn MergeTx> {
        self.inner.merging()
    }

    fn applying(&mut self) -> Option<&mut dyn ApplyTx> {
        self.inner.applying()
    }

    fn reconciling(&mut self) -> Option<&mut dyn ReconcileTx> {
        self.inner.reconciling()
    }

    fn checking(&mut self) -> Option<&mut dyn CheckTx> {
        self.inner.checking()
    }

    fn replacing(&mut self) -> Option<&mut dyn ReplaceTx> {
        self.inner.replacing()
    }

    fn exchanging(&mut self) -> Option<&mut dyn ExchangeTx> {
        self.inner.exchanging()
    }

    async fn guard(
        &mut self,
        reached: &Reached,
        step: &GuardStep,
    ) -> Result<Matched, ConnectorError> {
        let turn = self.script.play(TargetOp::Guard).await?;
        turn.told(TargetOp::Guard, self.inner.guard(reached, step).await)
    }

    async fn roll_back(self: Box<Self>) {
        self.inner.roll_back().await;
    }

    async fn discard(self: Box<Self>) {
        self.inner.discard().await;
    }

    async fn commit(
        self: Box<Self>,
        permit: CommitPermit,
    ) -> Result<Box<dyn Claimed>, CommitFailure> {
        let turn = self.script.play(TargetOp::Commit).await;
        let turn = turn.map_err(CommitFailure::Unknown)?;
        let inner = self.inner.commit(permit).await?;
        match turn {
            Turn::Work => Ok(Box::new(FaultyClaimed {
                inner,
                script: self.script,
            })),
            Turn::WorkAndLose => Err(CommitFailure::Unknown(error(
                ErrorClass::Transient,
                "fault_answer_lost",
                TargetOp::Commit,
            ))),
        }
    }
}
