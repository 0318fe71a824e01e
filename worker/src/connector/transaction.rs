//! The data transaction, above what a connector can do: rows first, then the guard, then COMMIT,
//! each step consuming the one before.
//!
//! Never cancels a begin or a commit: they run in loops of their own, and whoever waits for them
//! may go away. Never leaves a transaction that could commit behind an error.

use std::fmt;
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Receipt};
use highwater_common::check::Found;
use highwater_common::chunk::Reached;
use highwater_common::commit::{CommitPermit, judge};
use highwater_common::error_code::ErrorCode;
use highwater_common::shrink::{refused_shrinking, shrinking_message};
use highwater_common::spec::{ExistingRows, TableName, WriteMode};
use highwater_runtime::failpoint;

use super::ConnectorError;
use super::checks::CheckRequest;
use super::exchange_requests::{ExchangeRequest, Exchanged};
use super::requests::{GuardStep, Merged, Next, WriteRequest};
use super::rows::RowStream;
use super::traits::{Claimed, CommitFailure, TargetTx};
use crate::supervisor::{SpawnKind, Supervisor};

/// How long the answer to BEGIN is waited for, once it is the attempt's turn: only a silent server
/// takes longer.
const BEGIN_WAIT: Duration = Duration::from_mins(1);
/// ExistingRows rows are counted up to this many: enough for a person to judge by.
const RESIDENT_COUNTED_MAX: u64 = 10_000;

/// A claim that stands, and can be worked under. Dropping it closes its connection.
pub struct HeldClaim {
    claimed: Box<dyn Claimed>,
    reached: Reached,
    supervisor: Supervisor,
}

impl fmt::Debug for HeldClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldClaim").finish_non_exhaustive()
    }
}

impl HeldClaim {
    /// A claim of a task whose commits have come as far as `reached`.
    pub(super) const fn new(
        claimed: Box<dyn Claimed>,
        reached: Reached,
        supervisor: Supervisor,
    ) -> Self {
        Self {
            claimed,
            reached,
            supervisor,
        }
    }

    /// The same claim with another way to what it stands for.
    #[cfg(any(test, feature = "contract"))]
    pub(super) fn wrapped(self, wrap: impl FnOnce(Box<dyn Claimed>) -> Box<dyn Claimed>) -> Self {
        Self {
            claimed: wrap(self.claimed),
            ..self
        }
    }

    /// How far the commits of the task have come.
    #[must_use]
    pub const fn reached(&self) -> Reached {
        self.reached
    }

    /// Opens the data transaction on the connection that claimed.
    ///
    /// # Errors
    /// Those of the connector; `connection_lost` when the process ends meanwhile.
    pub async fn begin(mut self) -> Result<DataTx, ConnectorError> {
        self.claimed.ready().await?;
        let Self {
            claimed,
            reached,
            supervisor,
        } = self;
        let connection = claimed.connection().clone();
        let begun = supervisor.spawn(SpawnKind::Commit, claimed.begin());
        match tokio::time::timeout(BEGIN_WAIT, begun).await {
            Ok(Ok(tx)) => Ok(DataTx {
                tx: tx?,
                reached,
                supervisor,
            }),
            Ok(Err(_)) => Err(broken_off(ErrorCode::ConnectionLost, "a begin")),
            Err(_) => {
                let waited = BEGIN_WAIT.as_secs();
                let message = format!(
                    "cannot begin a transaction on {connection}: no answer within {waited} s"
                );
                let silent = AttemptError::unreachable(connection, ErrorCode::Silent, message);
                Err(ConnectorError::of_report(silent))
            }
        }
    }
}

/// An open data transaction. After an error, or dropped at any await, the connection closes, the
/// server rolls back, and nothing is left that could commit.
pub struct DataTx {
    pub(super) tx: Box<dyn TargetTx>,
    reached: Reached,
    supervisor: Supervisor,
}

impl DataTx {
    /// Empties the rows' place when the mode asks for it, or makes sure that it is empty; then
    /// writes every row of `rows`, and, when replacing, counts again and fails unless the target
    /// holds exactly the rows read.
    ///
    /// # Errors
    /// Those of the connector and of `rows`; permanent `resident_rows`, `count_mismatch` and
    /// `replaced_range_counts_differently`.
    pub async fn write(
        mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<(Self, Receipt), ConnectorError> {
        match write(self.tx.as_mut(), request, rows).await {
            Ok(receipt) => Ok((self, receipt)),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }

    /// Brings the table to hold the rows that wait in `stage`, and no other ones: as many as were
    /// `read`, or fails.
    ///
    /// # Errors
    /// Those of the connector; permanent `staging_unsupported`, `replaced_range_counts_differently`
    /// and the codes of a table that may not shrink so far.
    pub async fn replace_by(
        mut self,
        request: &WriteRequest,
        stage: &TableName,
        read: u64,
    ) -> Result<Self, ConnectorError> {
        match replace_by(self.tx.as_mut(), request, stage, read).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }

    /// Lets one table take the place of another, of a target that can.
    ///
    /// # Errors
    /// Those of [`ExchangeTx::exchange`](super::ExchangeTx::exchange); permanent
    /// `exchange_unsupported`.
    pub async fn exchange(
        mut self,
        request: &ExchangeRequest,
    ) -> Result<(Self, Exchanged), ConnectorError> {
        let exchanged = match self.tx.exchanging() {
            Some(exchanging) => exchanging.exchange(request).await,
            None => {
                let message = format!(
                    "{} cannot let a table take the place of {}",
                    self.tx.place(),
                    request.table
                );
                Err(permanent(ErrorCode::ExchangeUnsupported, message))
            }
        };
        match exchanged {
            Ok(exchanged) => Ok((self, exchanged)),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }

    /// Answers about what was written, of a target that can.
    ///
    /// # Errors
    /// Those of [`CheckTx::ask`](super::CheckTx::ask); permanent `check_unsupported`.
    pub async fn ask(mut self, request: &CheckRequest) -> Result<(Self, Found), ConnectorError> {
        let found = match self.tx.checking() {
            Some(checking) => checking.ask(request).await,
            None => {
                let message = format!("{} cannot answer checks", self.tx.place());
                Err(permanent(ErrorCode::CheckUnsupported, message))
            }
        };
        match found {
            Ok(found) => Ok((self, found)),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }

    /// Gives up what was written: when this returns, its locks are gone.
    pub async fn give_up(self) {
        self.tx.roll_back().await;
    }

    /// The database, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.tx.place()
    }

    /// The guard. The last statement before COMMIT: nothing can be written after it.
    ///
    /// # Errors
    /// Those of the connector.
    pub async fn guard(mut self, step: &GuardStep) -> Result<GuardOutcome, ConnectorError> {
        let judged = self.tx.guard(&self.reached, step).await;
        match judged.map(|matched| judge(matched.ledger, matched.watermark)) {
            Ok(Ok(permit)) => Ok(GuardOutcome::Holds(Guarded {
                tx: self.tx,
                supervisor: self.supervisor,
                permit,
                reached: match step.next {
                    Next::Continue { cursor } => Some(self.reached.and(step.chunk, cursor)),
                    Next::Committed => None,
                },
            })),
            Ok(Err(_not_held)) => {
                self.tx.roll_back().await;
                Ok(GuardOutcome::Lost)
            }
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }
}

async fn write(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    rows: &mut dyn RowStream,
) -> Result<Receipt, ConnectorError> {
    tx.hold(request).await?;
    let into = &request.rows;
    match request.mode {
        WriteMode::Append | WriteMode::Exchange | WriteMode::Statements => {}
        WriteMode::Merge => return merge(tx, request, rows).await,
        WriteMode::ReplaceTable => return replace_table(tx, request, rows).await,
        WriteMode::ReplacePartition => {
            match request.resident {
                ExistingRows::Replace => {}
                ExistingRows::Fail => refuse_residents(tx, request).await?,
            }
            tx.delete(into).await?;
        }
    }
    let receipt = insert(tx, request, rows).await?;
    if request.mode == WriteMode::ReplacePartition {
        count_again(tx, request, receipt.rows).await?;
    }
    Ok(receipt)
}

/// All rows of the table that do not wait in `stage` go, and those that it lacks are there then.
async fn replace_by(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    stage: &TableName,
    read: u64,
) -> Result<(), ConnectorError> {
    tx.hold(request).await?;
    let held = tx.count(&request.rows, u64::MAX).await?;
    refuse_shrinking(tx, request, held, read)?;
    let Some(replacing) = tx.replacing() else {
        let message = format!("{} cannot publish the rows of {stage}", tx.place());
        return Err(permanent(ErrorCode::StagingUnsupported, message));
    };
    replacing.replace_by(request, stage).await?;
    count_again(tx, request, read).await
}

fn refuse_shrinking(
    tx: &dyn TargetTx,
    request: &WriteRequest,
    held: u64,
    read: u64,
) -> Result<(), ConnectorError> {
    let Some(code) = refused_shrinking(held, read, request.shrinking) else {
        return Ok(());
    };
    let table = request.table.to_string();
    let message = shrinking_message(held, read, &table, &tx.place());
    Err(permanent(code, message))
}

/// All rows of the table go, and those that come are there in their place.
async fn replace_table(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    rows: &mut dyn RowStream,
) -> Result<Receipt, ConnectorError> {
    let held = tx.count(&request.rows, u64::MAX).await?;
    tx.delete(&request.rows).await?;
    let receipt = insert(tx, request, rows).await?;
    refuse_shrinking(tx, request, held, receipt.rows)?;
    count_again(tx, request, receipt.rows).await?;
    Ok(receipt)
}

/// Writes every row, and makes sure that the server took them.
async fn insert(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    rows: &mut dyn RowStream,
) -> Result<Receipt, ConnectorError> {
    let (into, table) = (&request.rows, &request.table);
    let written = tx.insert(request, rows).await?;
    let read = rows.rows();
    if written != read {
        let message = format!(
            "{read} rows of {into} were read and {written} written to {table} on {}; does a \
             trigger leave rows out? Nothing was kept",
            tx.place()
        );
        return Err(permanent(ErrorCode::CountMismatch, message));
    }
    Ok(Receipt {
        rows: read,
        bytes: rows.bytes(),
    })
}

/// Neither the source's count nor the server's own is evidence of what is there now.
async fn count_again(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    read: u64,
) -> Result<(), ConnectorError> {
    let (into, table) = (&request.rows, &request.table);
    let found = tx.count(into, u64::MAX).await?;
    if found == read {
        return Ok(());
    }
    let message = format!(
        "{read} rows of {into} were written to {table} on {}, and {found} are found there; does a \
         trigger move rows, does the column's type round, or does somebody else write? Nothing was \
         kept",
        tx.place()
    );
    Err(permanent(
        ErrorCode::ReplacedRangeCountsDifferently,
        message,
    ))
}

pub(super) async fn merge(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
    rows: &mut dyn RowStream,
) -> Result<Receipt, ConnectorError> {
    let (into, table) = (&request.rows, &request.table);
    let Some(merging) = tx.merging() else {
        let message = format!("{} cannot merge rows into {table}", tx.place());
        return Err(permanent(ErrorCode::MergeUnsupported, message));
    };
    let Merged { came, repeated } = merging.merge(request, rows).await?;
    let read = rows.rows();
    if came != read {
        let message = format!(
            "{read} rows of {into} were read and {came} came to {}; nothing was kept",
            tx.place()
        );
        return Err(permanent(ErrorCode::CountMismatch, message));
    }
    if repeated > 0 {
        let key = request.merge_by.key.join(", ");
        let message = format!(
            "{repeated} of {read} rows of {into} share their {key} with another one, or a trigger \
             of {table} on {} leaves them out; nothing was kept. Name the column that tells which \
             row is newer in `write.cursor`, or columns that tell the rows apart in `write.key`",
            tx.place()
        );
        return Err(permanent(ErrorCode::RepeatedKey, message));
    }
    Ok(Receipt {
        rows: read,
        bytes: rows.bytes(),
    })
}

/// Rows that no run of this stream has put there are somebody's: they are not replaced unasked.
async fn refuse_residents(
    tx: &mut dyn TargetTx,
    request: &WriteRequest,
) -> Result<(), ConnectorError> {
    let into = &request.rows;
    let resident = tx.count(into, RESIDENT_COUNTED_MAX).await?;
    // Most slices are empty, and an empty one needs no look at a ledger of a million rows.
    if resident == 0 {
        return Ok(());
    }
    if let Some(of) = into.slice()
        && tx.has_receipts(&request.stream, &of.slice).await?
    {
        return Ok(());
    }
    let at_least = match resident {
        RESIDENT_COUNTED_MAX => "at least ",
        _ => "",
    };
    let message = format!(
        "{} on {} holds {at_least}{resident} rows in {into} that no run of this step has written; \
         nothing was touched. To replace them set `write.resident: replace`, or write to another \
         table",
        request.table,
        tx.place()
    );
    Err(permanent(ErrorCode::ResidentRows, message))
}

/// What the guard found.
pub enum GuardOutcome {
    /// The row is still this attempt's; only COMMIT is left.
    Holds(Guarded),
    /// It is not; everything was rolled back. The ledger row, asked anew, says whose it is.
    Lost,
}

/// A guarded transaction: the only thing left to do is to commit it.
pub struct Guarded {
    tx: Box<dyn TargetTx>,
    supervisor: Supervisor,
    permit: CommitPermit,
    /// How far the task's commits have come with this one; `None` when it is the last.
    reached: Option<Reached>,
}

impl Guarded {
    /// Commits. Runs to its end apart from the caller.
    pub async fn commit(self) -> CommitOutcome {
        let supervisor = self.supervisor.clone();
        match supervisor.spawn(SpawnKind::Commit, self.run()).await {
            Ok(outcome) => outcome,
            Err(_) => CommitOutcome::Unknown(broken_off(ErrorCode::CommitUnknown, "a commit")),
        }
    }

    /// The only COMMIT of data. The permit is used up with it, however it ends.
    async fn run(self) -> CommitOutcome {
        if let Err(error) = failpoint::hit("commit_before").await {
            return CommitOutcome::Unknown(error.into());
        }
        let claimed = match self.tx.commit(self.permit).await {
            Ok(claimed) => claimed,
            Err(CommitFailure::Refused(error)) => return CommitOutcome::Refused(error),
            Err(CommitFailure::Unknown(error)) => return CommitOutcome::Unknown(error),
        };
        let claim = match self.reached {
            Some(reached) => Some(HeldClaim::new(claimed, reached, self.supervisor)),
            None => {
                // Before anybody hears of it, so that the next attempt finds the session.
                claimed.release().await;
                None
            }
        };
        match failpoint::hit("commit_answer_lost").await {
            Ok(()) => CommitOutcome::Committed(claim),
            Err(error) => CommitOutcome::Unknown(error.into()),
        }
    }
}

/// What came of a commit.
#[derive(Debug)]
pub enum CommitOutcome {
    /// Durable. The claim lives on when the task goes on with another chunk.
    Committed(Option<HeldClaim>),
    /// The server answered that it did not commit, and why: everything was rolled back.
    Refused(ConnectorError),
    /// The answer was lost: only the ledger, asked on a new connection, knows.
    Unknown(ConnectorError),
}

pub(super) fn permanent(code: ErrorCode, message: String) -> ConnectorError {
    ConnectorError::of_report(AttemptError::new(ErrorClass::Permanent, code, message))
}

fn broken_off(code: ErrorCode, what: &str) -> ConnectorError {
    let message = format!("{what} broke off with its process; the ledger knows what became of it");
    ConnectorError::of_report(AttemptError::new(ErrorClass::Transient, code, message))
}
