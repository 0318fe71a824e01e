//! The connectors: the only place that knows a database. A read side, a write side, one contract
//! for each.

mod apply;
mod checks;
pub mod column_form;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod copy_binary;
pub mod copy_text;
mod doing;
mod exchange_requests;
#[cfg(any(test, feature = "contract"))]
pub mod faulty;
mod log;
mod open;
mod position;
pub mod postgres;
mod receipt_requests;
mod reconcile;
mod redaction;
mod remove_missing;
mod requests;
mod rows;
mod script;
pub mod sql_text;
pub mod sqlite;
mod staging;
mod stored_slice;
mod surveys;
mod traits;
mod transaction;
pub mod value_text;
mod watermarks;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_runtime::failpoint::Struck;

pub use checks::{CheckRequest, CheckTx, Checks, Question};
pub use doing::Doing;
pub use exchange_requests::{
    ExchangeRequest, Exchanged, ShadowFound, ShadowKind, ShadowRequest, UndoOutcome, UndoRequest,
};
pub use log::{
    ApplyRequest, ApplyTx, ChangeLog, ChangeStream, LogEnd, LogOpened, LogPosition, LogRequest,
    LogShown,
};
pub use open::{open_source, open_target};
pub use postgres::SessionPool;
pub use receipt_requests::{CloseRequest, ForgetOutcome, ForgetRequest, PlaceRequest};
pub use reconcile::{Compared, ComparedKeys, ReconcileTx};
pub use requests::{
    BuildRequest, Claim, FenceReport, GuardStep, HorizonRequest, KeptBounds, KeyProbe,
    LeftOutRequest, LogMark, Matched, MergeBy, Merged, Next, PlacingProbe, PrepareOutcome,
    PrepareRequest, ReadRequest, SourceProbe, StreamRequest, TargetProbe, WatermarkMove,
    WriteRequest,
};
pub use rows::{PlacedRows, RowBatch, RowFormat, RowStream, Rows, SliceRows, Value};
pub use script::{BoundStatement, BoundValue, ScriptTx};
pub use staging::{Pages, ReplaceTx, Snapshot, Snapshots, StageRequest, Stages};
pub use surveys::{ServerAsFound, Stamping, Survey, SurveyRequest, Surveys, TABLES_MAX};
pub use traits::{
    Bounds, Builds, ClaimOutcome, Claimed, CommitFailure, ExchangeTx, Horizons, MergeTx, Shadows,
    Source, Target, TargetTx,
};
pub use transaction::{CommitOutcome, DataTx, GuardOutcome, Guarded, HeldClaim};
pub use watermarks::Watermarks;

/// Why a connector failed: what a decision and a person need, with the driver's error behind it.
/// Its message never holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", report.message)]
pub struct ConnectorError {
    /// Class, code and message.
    pub report: AttemptError,
    /// What the driver said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    /// A failure that no driver reported.
    pub(crate) fn new(class: ErrorClass, code: ErrorCode, message: impl Into<String>) -> Self {
        Self::of_report(AttemptError::new(class, code, message))
    }

    /// A failure that no driver reported.
    pub(crate) const fn of_report(report: AttemptError) -> Self {
        Self {
            report,
            source: None,
        }
    }
}

impl From<Struck> for ConnectorError {
    fn from(struck: Struck) -> Self {
        Self::of_report(struck.into())
    }
}
