//! The data transaction of an attempt: claimed, begun, written, guarded, committed. Each step
//! consumes the one before it, and an error closes the connection, so that nothing is left that
//! could commit.

use async_trait::async_trait;
use highwater_common::assignment::Receipt;
use highwater_common::commit::{CommitPermit, judge};
use highwater_common::id::{RunId, TaskId};
use highwater_common::spec::{Resident, WriteMode};
use highwater_common::token::Fence;
use highwater_runtime::failpoint;

use super::catalogue;
use super::errors::{Place, is_refusal};
use super::insert::Inserter;
use super::ledger;
use super::position::{self, Condition};
use super::queue::{Turn, turn};
use super::session::Session;
use super::sql;
use crate::connector::{
    Claimed, CommitOutcome, ConnectorError, DataTx, GuardOutcome, Guarded, RowBatch, RowStream,
    WriteRequest,
};
use crate::supervisor::{SpawnKind, Supervisor};

/// The chunk that an attempt commits: the first version makes one chunk of each partition.
const FIRST_CHUNK: i64 = 0;

/// Whose attempt this is.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) place: Place,
    pub(super) supervisor: Supervisor,
    pub(super) run: RunId,
    pub(super) task: TaskId,
    pub(super) fence: Fence,
    /// The file as it was claimed.
    pub(super) fingerprint: String,
}

/// A claim that stands, and the connection that made it.
pub(super) struct SqliteClaimed {
    pub(super) session: Session,
    pub(super) attempt: Attempt,
}

/// An open transaction. The fields are dropped in their order: the connection closes before the
/// next writer's turn.
struct SqliteTx {
    session: Session,
    _turn: Turn,
    attempt: Attempt,
}

struct SqliteGuarded {
    tx: Box<SqliteTx>,
    permit: CommitPermit,
}

#[async_trait]
impl Claimed for SqliteClaimed {
    async fn begin(self: Box<Self>) -> Result<Box<dyn DataTx>, ConnectorError> {
        let Self {
            mut session,
            attempt,
        } = *self;
        let place = attempt.place.clone();
        let Some(turn) = turn(place.path()).await else {
            return Err(place.lost(
                "the wait for the \
            file's turn",
            ));
        };
        let supervisor = attempt.supervisor.clone();
        let begun = supervisor.spawn(SpawnKind::Commit, async move {
            match sql::run(session.conn(), sqlx::query("begin immediate")).await {
                Ok(_) => Ok(SqliteTx {
                    session,
                    _turn: turn,
                    attempt,
                }),
                Err(error) => {
                    session.close().await;
                    Err(attempt.place.driver("begin the transaction", error))
                }
            }
        });
        match begun.await {
            Ok(tx) => Ok(Box::new(tx?)),
            Err(_) => Err(place.lost("begin")),
        }
    }
}

#[async_trait]
impl DataTx for SqliteTx {
    async fn write(
        mut self: Box<Self>,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<(Box<dyn DataTx>, Receipt), ConnectorError> {
        match self.replace(request, rows).await {
            Ok(receipt) => Ok((self, receipt)),
            Err(error) => {
                self.session.close().await;
                Err(error)
            }
        }
    }

    async fn guard(mut self: Box<Self>, receipt: &Receipt) -> Result<GuardOutcome, ConnectorError> {
        match self.matched(receipt).await.map(|rows| judge(rows, None)) {
            Ok(Ok(permit)) => Ok(GuardOutcome::Holds(Box::new(SqliteGuarded {
                tx: self,
                permit,
            }))),
            Ok(Err(_not_held)) => {
                self.session.close().await;
                Ok(GuardOutcome::Lost)
            }
            Err(error) => {
                self.session.close().await;
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Guarded for SqliteGuarded {
    async fn commit(self: Box<Self>) -> CommitOutcome {
        let Self { tx, permit } = *self;
        let place = tx.attempt.place.clone();
        let supervisor = tx.attempt.supervisor.clone();
        let committed = supervisor.spawn(SpawnKind::Commit, tx.commit(permit));
        match committed.await {
            Ok(outcome) => outcome,
            Err(_) => CommitOutcome::Unknown(place.lost("commit")),
        }
    }
}

impl SqliteTx {
    async fn commit(mut self: Box<Self>, _permit: CommitPermit) -> CommitOutcome {
        let place = self.attempt.place.clone();
        if let Err(error) = failpoint::hit("commit_before").await {
            return CommitOutcome::Unknown(error.into());
        }
        let ended = sql::run(self.session.conn(), sqlx::query("commit")).await;
        // What a refusal left open is rolled back with it.
        self.session.close().await;
        match ended {
            Ok(_rows) => (),
            Err(error) if is_refusal(&error) => {
                return CommitOutcome::Refused(place.driver("commit", error));
            }
            Err(error) => return CommitOutcome::Unknown(place.driver("commit", error)),
        }
        match failpoint::hit("commit_answer_lost").await {
            Ok(()) => CommitOutcome::Committed,
            Err(error) => CommitOutcome::Unknown(error.into()),
        }
    }

    /// The number of ledger rows that still are this attempt's, which become committed: the guard.
    async fn matched(&mut self, receipt: &Receipt) -> Result<u64, ConnectorError> {
        let Attempt {
            place,
            run,
            task,
            fence,
            fingerprint,
            ..
        } = &self.attempt;
        let place = place.clone();
        // A file that was unlinked or replaced under the open connection would take the rows along.
        let found = match ledger::meta(self.session.conn(), &place).await? {
            Some(meta) => ledger::fingerprint(&place, Some(&meta)).await?,
            None => String::new(),
        };
        if found != *fingerprint {
            let message = "the database file was replaced while the attempt was writing. Plan the \
                           run anew";
            return Err(place.permanent("target_changed", message));
        }
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let guard = sqlx::query(
            "update _highwater_task set state = 'C', rows = ?, bytes = ?, chunk = chunk + 1,
               committed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             where run_id = ? and task_id = ? and token = ? and nonce = ? and state = 'O' and chunk = ?",
        )
        .bind(count(receipt.rows))
        .bind(count(receipt.bytes))
        .bind(run.to_string())
        .bind(task.to_string())
        .bind(fence.token.raw())
        .bind(fence.nonce.to_bytes().to_vec())
        .bind(FIRST_CHUNK);
        sql::run(self.session.conn(), guard)
            .await
            .map_err(place.failed("guard the commit"))
    }

    async fn replace(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<Receipt, ConnectorError> {
        let place = self.attempt.place.clone();
        let table = catalogue::existing(self.session.conn(), &place, &request.table).await?;
        let condition =
            position::condition(&request.partition_column, &request.slice, request.form);
        match request.mode {
            WriteMode::Append => {}
            WriteMode::ReplacePartition => self.empty(request, &condition).await?,
        }
        let mut inserter = Inserter::new(&place, request, &table)?;
        while let Some(batch) = rows.next().await? {
            let RowBatch::Rows(batch) = batch else {
                return Err(place.permanent(
                    "row_format",
                    "a COPY stream came where SQLite takes \
                    typed values",
                ));
            };
            for row in batch {
                inserter.add(self.session.conn(), row).await?;
            }
        }
        let inserted = inserter.finish(self.session.conn()).await?;
        let receipt = Receipt {
            rows: rows.rows(),
            bytes: rows.bytes(),
        };
        self.check(request, &condition, &receipt, inserted).await?;
        Ok(receipt)
    }

    /// Deletes the slice's rows, once it is clear that they may be deleted.
    async fn empty(
        &mut self,
        request: &WriteRequest,
        condition: &Condition,
    ) -> Result<(), ConnectorError> {
        let place = self.attempt.place.clone();
        let own = match request.resident {
            Resident::Replace => true,
            Resident::Fail => {
                ledger::overlaps(self.session.conn(), &place, &request.stream, &request.slice)
                    .await?
            }
        };
        if !own {
            let resident = self.count(request, condition).await?;
            if resident > 0 {
                let message = format!(
                    "`{}` already holds {resident} rows of {}, and no run of this stream has \
                     loaded them. Remove them, or say `write.resident: replace`",
                    request.table, request.slice
                );
                return Err(place.permanent("resident_rows", message));
            }
        }
        let text = format!(
            "delete from {} where {}",
            sql::table(&request.table),
            condition.text
        );
        sql::run(self.session.conn(), sql::bound(text, condition))
            .await
            .map_err(place.failed(format!("delete {} of {}", request.slice, request.table)))?;
        Ok(())
    }

    /// Counts in the target, not in ourselves: triggers, conversions and zones show up here.
    async fn check(
        &mut self,
        request: &WriteRequest,
        condition: &Condition,
        receipt: &Receipt,
        inserted: u64,
    ) -> Result<(), ConnectorError> {
        let place = self.attempt.place.clone();
        let (table, slice, read) = (&request.table, &request.slice, receipt.rows);
        if inserted != read {
            let message = format!(
                "{read} rows of {slice} were read, and `{table}` took {inserted}. Look for \
                 triggers on the table that drop or add rows"
            );
            return Err(place.permanent("count_mismatch", message));
        }
        match request.mode {
            WriteMode::Append => Ok(()),
            WriteMode::ReplacePartition => {
                let found = self.count(request, condition).await?;
                if found == read {
                    return Ok(());
                }
                let message = format!(
                    "{read} rows of {slice} were read, and `{table}` holds {found} rows of it \
                     after they were written. Look for triggers that move rows, and whether `{}` \
                     keeps its values",
                    request.partition_column
                );
                Err(place.permanent("replaced_range_counts_differently", message))
            }
        }
    }

    async fn count(
        &mut self,
        request: &WriteRequest,
        condition: &Condition,
    ) -> Result<u64, ConnectorError> {
        use sqlx::Row;

        let failed = || {
            self.attempt
                .place
                .failed(format!("count {} of {}", request.slice, request.table))
        };
        let text = format!(
            "select count(*) from {} where {}",
            sql::table(&request.table),
            condition.text
        );
        let (place, query) = (failed(), sql::bound(text, condition));
        let row = query.fetch_one(self.session.conn()).await.map_err(place)?;
        Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or(0))
    }
}
