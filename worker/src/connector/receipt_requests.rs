//! What a target is asked of its receipts beside a load.

use highwater_common::errand::{Forget, StreamReceipts};
use highwater_common::id::{ClusterId, RunId, StepName};
use highwater_common::log::LogIdentity;
use highwater_common::spec::{Bound, TableName, WriteMode};
use highwater_common::stream::PlanMark;

use super::{PrepareOutcome, StreamRequest};

/// A person's word that some receipts of a stream are no longer true.
#[derive(Debug, Clone)]
pub struct ForgetRequest {
    /// Who asks.
    pub cluster: ClusterId,
    /// The stream, and who takes it for that.
    pub stream: StreamRequest,
    /// Which receipts, and why.
    pub forget: Forget,
    /// The zone in which days and times without one are read.
    pub tz: String,
    /// Whether the rows that the table holds stay the stream's own, so that it may be copied anew over
    /// them.
    pub resyncs: bool,
}

/// A person's word that a stream's next window begins elsewhere.
#[derive(Debug, Clone)]
pub struct PlaceRequest {
    /// Who asks.
    pub cluster: ClusterId,
    /// The stream, and who takes it for that.
    pub stream: StreamRequest,
    /// Where; without it, at the first row.
    pub to: Option<Bound>,
    /// Of which table and server it is, of a position in a source's log.
    pub identity: Option<LogIdentity>,
    /// The zone in which days and times without one are read.
    pub tz: String,
}

/// What came of a [`ForgetRequest`] or a [`PlaceRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForgetOutcome {
    /// Done; this is what the ledger holds now.
    Done(StreamReceipts),
    /// The stream could not be taken: why is what a prepare would have been told.
    Not(PrepareOutcome),
}

/// Whose commits are asked for.
#[derive(Debug, Clone)]
pub struct CloseRequest {
    /// Who asks.
    pub cluster: ClusterId,
    /// The run.
    pub run: RunId,
    /// Which plan of it.
    pub plan: PlanMark,
    /// The step.
    pub step: StepName,
    /// The phase of the plan.
    pub phase: u8,
    /// The table that was loaded.
    pub table: TableName,
    /// How it was loaded.
    pub mode: WriteMode,
}
