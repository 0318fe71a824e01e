//! The data transaction: rows first, then the guard, then COMMIT, each step consuming the one
//! before. Never leaves a transaction that could commit behind an error: every error drops the
//! connection, and the server rolls back.

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, ErrorClass, Receipt};
use highwater_common::commit::{CommitPermit, judge};
use highwater_common::facts::{ColumnFacts, Engine};
use highwater_common::id::{RunId, TaskId};
use highwater_common::plan::{Compat, compat, has_same_wire_form};
use highwater_common::range::Slice;
use highwater_common::spec::{Resident, Triggers, WriteMode};
use highwater_common::token::Fence;
use highwater_runtime::failpoint;
use sqlx::{Executor, PgConnection, Row};
use tokio::sync::oneshot;

use super::catalog::{find_table, qualified, unknown_column, unknown_table};
use super::errors::{
    classify, fault, is_missing_relation, is_refusal, permanent, transaction_pooling,
};
use super::ledger::uuid;
use super::pins::{OWN_PATH, PINNED};
use super::session::Endpoint;
use super::slices::{ALL, NULL, StoredSlice};
use super::triggers::{SKIP, refusal};
use crate::connector::column_form::ColumnForm;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::value_text::encode_value;
use crate::connector::{
    Claim, Claimed, CommitOutcome, ConnectorError, DataTx, GuardOutcome, Guarded, RowBatch,
    RowFormat, RowStream, Value, WriteRequest,
};
use crate::supervisor::{SpawnKind, Supervisor};

/// Encoded rows are sent in frames of about this size.
const FRAME_BYTES: usize = 128 * 1024;
/// How long the answer to BEGIN is waited for. It needs no lock, so that only a silent server takes
/// longer.
const BEGIN_WAIT: Duration = Duration::from_mins(1);
/// Resident rows are counted up to this many: enough for a person to judge by.
const RESIDENT_COUNTED_MAX: i64 = 10_000;

/// A session with a fence in the ledger. Dropping it closes the connection.
struct Session {
    conn: PgConnection,
    endpoint: Endpoint,
    supervisor: Supervisor,
    run: RunId,
    task: TaskId,
    fence: Fence,
    chunk: i32,
}

impl Session {
    fn failed(&self, what: &str) -> impl Fn(sqlx::Error) -> ConnectorError + use<> {
        let (endpoint, what) = (self.endpoint.clone(), what.to_owned());
        move |error| classify(&endpoint, &what, error)
    }
}

/// A claim that stands.
pub(super) struct Held(Session);

impl Held {
    pub(super) fn new(
        conn: PgConnection,
        endpoint: Endpoint,
        supervisor: Supervisor,
        claim: &Claim,
        chunk: i32,
    ) -> Self {
        let (run, task, fence) = (claim.run, claim.task, claim.fence);
        Self(Session {
            conn,
            endpoint,
            supervisor,
            run,
            task,
            fence,
            chunk,
        })
    }
}

#[async_trait]
impl Claimed for Held {
    async fn begin(self: Box<Self>) -> Result<Box<dyn DataTx>, ConnectorError> {
        let (tell, told) = oneshot::channel();
        let (supervisor, endpoint) = (self.0.supervisor.clone(), self.0.endpoint.clone());
        // Whoever waits may go away: the transaction then comes back from the channel and closes
        // its connection.
        supervisor.spawn(SpawnKind::Commit, async move {
            tell.send(open_transaction(self.0).await).ok()
        });
        match tokio::time::timeout(BEGIN_WAIT, told).await {
            Ok(Ok(opened)) => opened.map(|tx| Box::new(tx) as Box<dyn DataTx>),
            Ok(Err(_)) => {
                let message = format!(
                    "beginning a transaction on {endpoint} broke off with its \
                                       process"
                );
                Err(fault(ErrorClass::Transient, "connection_lost", message))
            }
            Err(_) => {
                let waited = BEGIN_WAIT.as_secs();
                let message = format!(
                    "cannot begin a transaction on {endpoint}: no answer within \
                                       {waited} s"
                );
                let connection = endpoint.connection().clone();
                Err(ConnectorError::of_report(AttemptError::unreachable(
                    connection, "silent", message,
                )))
            }
        }
    }
}

async fn open_transaction(mut session: Session) -> Result<OpenTx, ConnectorError> {
    let failed = session.failed("begin a transaction");
    session
        .conn
        .execute("begin isolation level read committed")
        .await
        .map_err(&failed)?;
    Ok(OpenTx(session))
}

/// An open data transaction.
struct OpenTx(Session);

#[async_trait]
impl DataTx for OpenTx {
    async fn write(
        mut self: Box<Self>,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<(Box<dyn DataTx>, Receipt), ConnectorError> {
        let table = qualified(&mut self.0.conn, &self.0.endpoint, &request.table).await?;
        let request = &WriteRequest {
            table,
            ..request.clone()
        };
        let own = self.hold_table(request).await?;
        self.show_token(request.triggers).await?;
        match request.mode {
            WriteMode::Append => (),
            WriteMode::ReplacePartition => self.empty_slice(request).await?,
        }
        let copied = self.copy(request, &own, rows).await?;
        let read = rows.rows();
        if copied != read {
            let message = format!(
                "{read} rows of {} were read and {copied} written to {} on {}; does a trigger \
                 leave rows out? Nothing was kept",
                request.slice, request.table, self.0.endpoint
            );
            return Err(permanent("count_mismatch", message));
        }
        match request.mode {
            WriteMode::Append => (),
            WriteMode::ReplacePartition => self.recount(request, read).await?,
        }
        Ok((
            self,
            Receipt {
                rows: read,
                bytes: rows.bytes(),
            },
        ))
    }

    async fn guard(mut self: Box<Self>, receipt: &Receipt) -> Result<GuardOutcome, ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed("guard a commit");
        let guarded = sqlx::query(
            "update highwater.task set state = 'C', rows = $6, bytes = $7, committed_at = \
             clock_timestamp() \
             where run_id = $1 and task_id = $2 and token = $3 and nonce = $4 and state = 'O' and \
             chunk = $5",
        )
        .bind(uuid(session.run.as_bytes()))
        .bind(uuid(session.task.as_bytes()))
        .bind(session.fence.token.raw())
        .bind(uuid(&session.fence.nonce.to_bytes()))
        .bind(session.chunk)
        .bind(i64::try_from(receipt.rows).unwrap_or(i64::MAX))
        .bind(i64::try_from(receipt.bytes).unwrap_or(i64::MAX))
        .execute(&mut session.conn)
        .await
        .map_err(failed)?;
        match judge(guarded.rows_affected(), None) {
            Ok(permit) => Ok(GuardOutcome::Holds(Box::new(GuardedTx {
                session: self.0,
                permit,
            }))),
            Err(_) => {
                // Best said aloud, so that the locks are gone when the answer arrives; closing
                // would do it too.
                session.conn.execute("rollback").await.ok();
                Ok(GuardOutcome::Lost)
            }
        }
    }
}

impl OpenTx {
    /// Locks the table against being altered and finds its columns in the order that rows come in.
    async fn hold_table(
        &mut self,
        request: &WriteRequest,
    ) -> Result<Vec<ColumnFacts>, ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed(&format!("write {}", request.table));
        let lock = Sql::new(Dialect::Postgres, "lock table ")
            .table(&request.table)
            .text(
                " in row \
            exclusive mode",
            );
        match session
            .conn
            .execute(sqlx::raw_sql(lock.into_statement()))
            .await
        {
            Ok(_) => (),
            Err(error) if is_missing_relation(&error) => {
                session.conn.execute("rollback").await.map_err(&failed)?;
                return Err(
                    unknown_table(&mut session.conn, &session.endpoint, &request.table).await,
                );
            }
            Err(error) => return Err(failed(error)),
        }
        // Only what is read under the lock stays true.
        let Some(table) = find_table(&mut session.conn, &request.table)
            .await
            .map_err(&failed)?
        else {
            return Err(unknown_table(&mut session.conn, &session.endpoint, &request.table).await);
        };
        let own = request.columns.iter().map(|column| {
            let Some(found) = table.column(&column.name) else {
                return Err(unknown_column(
                    &session.endpoint,
                    &request.table,
                    &table,
                    &column.name,
                ));
            };
            let facts = found.facts.clone();
            match changed_type(request.format, column, &facts) {
                None => Ok(facts),
                Some(reason) => {
                    let message = format!(
                        "column {} of {} on {} is {} by now, and rows come as {}: {reason}; plan \
                         anew with --new",
                        column.name,
                        request.table,
                        session.endpoint,
                        facts.type_name,
                        column.type_name
                    );
                    Err(permanent("schema_changed", message))
                }
            }
        });
        own.collect()
    }

    /// What the table's own defaults and triggers may ask for: the attempt's token, and the role's
    /// own search path. And whether its triggers act at all.
    async fn show_token(&mut self, triggers: Triggers) -> Result<(), ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed("begin a transaction");
        let token = session.fence.token.raw().to_string();
        let show =
            Sql::new(Dialect::Postgres, "select set_config('highwater.token', ").literal(&token);
        let show = show
            .text(", true), ")
            .text(OWN_PATH)
            .text(", ")
            .text(PINNED);
        let show = match triggers {
            Triggers::Fire => show,
            Triggers::Skip => show.text(", ").text(SKIP),
        };
        let shown = session
            .conn
            .fetch_one(sqlx::raw_sql(show.into_statement()))
            .await;
        let shown = shown.map_err(|error| match triggers {
            Triggers::Fire => failed(error),
            Triggers::Skip => refusal(&session.endpoint, error),
        })?;
        match shown
            .try_get::<Option<String>, _>(2)
            .map_err(failed)?
            .as_deref()
        {
            Some("target") => Ok(()),
            _ => Err(transaction_pooling(&session.endpoint)),
        }
    }

    async fn empty_slice(&mut self, request: &WriteRequest) -> Result<(), ConnectorError> {
        match request.resident {
            Resident::Replace => (),
            Resident::Fail => self.refuse_residents(request).await?,
        }
        let session = &mut self.0;
        let failed = session.failed(&format!("empty {} of {}", request.slice, request.table));
        let delete = slice_of(
            request,
            Sql::new(Dialect::Postgres, "delete from ").table(&request.table),
        );
        session
            .conn
            .execute(sqlx::raw_sql(delete.into_statement()))
            .await
            .map(drop)
            .map_err(failed)
    }

    /// Rows that no run of this stream has put there are somebody's: they are not replaced unasked.
    async fn refuse_residents(&mut self, request: &WriteRequest) -> Result<(), ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed(&format!("count {} of {}", request.slice, request.table));
        let counted =
            Sql::new(Dialect::Postgres, "select count(*) from (select from ").table(&request.table);
        let counted = slice_of(request, counted)
            .text(" limit ")
            .integer(RESIDENT_COUNTED_MAX)
            .text(
                ") \
            r",
            );
        let resident = scalar(&mut session.conn, counted).await.map_err(failed)?;
        // Most slices are empty, and an empty one needs no look at a ledger of a million rows.
        if resident == 0 || self.is_own_slice(request).await? {
            return Ok(());
        }
        let session = &self.0;
        let at_least = if resident == RESIDENT_COUNTED_MAX {
            "at least "
        } else {
            ""
        };
        let message = format!(
            "{} on {} holds {at_least}{resident} rows in {} that no run of this step has written; \
             nothing was touched. To replace them set `write.resident: replace`, or write to \
             another table",
            request.table, session.endpoint, request.slice
        );
        Err(permanent("resident_rows", message))
    }

    /// Whether a committed task of the stream overlaps the slice.
    async fn is_own_slice(&mut self, request: &WriteRequest) -> Result<bool, ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed("read the ledger");
        let slice = StoredSlice::of(&request.slice);
        let (mine, every) = match request.slice {
            Slice::Null => (vec![NULL], false),
            Slice::Range(range) => (vec![slice.kind, ALL], range.kind().is_none()),
        };
        sqlx::query_scalar::<_, bool>(
            "select exists (select from highwater.task where stream_id = $1 and state = 'C' \
                and (slice_kind = any ($2) or ($3 and slice_kind <> 'null')) \
                and ($4::int8 is null or range_end is null or range_end > $4) \
                and ($5::int8 is null or range_start is null or range_start < $5))",
        )
        .bind(&request.stream)
        .bind(mine)
        .bind(every)
        .bind(slice.start)
        .bind(slice.end)
        .fetch_one(&mut session.conn)
        .await
        .map_err(failed)
    }

    async fn copy(
        &mut self,
        request: &WriteRequest,
        own: &[ColumnFacts],
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed(&format!("copy {} into {}", request.slice, request.table));
        let statement = copy_statement(request);
        let mut copy = session
            .conn
            .copy_in_raw(&statement)
            .await
            .map_err(&failed)?;
        let mut frame = Vec::new();
        let forms: Vec<ColumnForm> = own.iter().map(ColumnForm::of).collect();
        while let Some(batch) = rows.next().await? {
            match (request.format, batch) {
                (RowFormat::CopyBinary | RowFormat::CopyText, RowBatch::Copy(bytes)) => {
                    copy.send(bytes).await.map_err(&failed)?;
                }
                (RowFormat::Values, RowBatch::Rows(batch)) => {
                    for row in &batch {
                        encode_row(row, &forms, &mut frame)?;
                        if frame.len() >= FRAME_BYTES {
                            copy.send(frame.as_slice()).await.map_err(&failed)?;
                            frame.clear();
                        }
                    }
                }
                (RowFormat::CopyBinary | RowFormat::CopyText, RowBatch::Rows(_))
                | (RowFormat::Values, RowBatch::Copy(_)) => {
                    let message = "rows came in another format than was agreed upon; this is a bug \
                                   of Highwater's";
                    return Err(permanent("wrong_format", message));
                }
            }
        }
        if !frame.is_empty() {
            copy.send(frame).await.map_err(&failed)?;
        }
        copy.finish().await.map_err(&failed)
    }

    /// Counts the slice in the target: neither the source's count nor COPY's own is evidence of
    /// what is there now.
    async fn recount(&mut self, request: &WriteRequest, read: u64) -> Result<(), ConnectorError> {
        let session = &mut self.0;
        let failed = session.failed(&format!("count {} of {}", request.slice, request.table));
        let counted = slice_of(
            request,
            Sql::new(Dialect::Postgres, "select count(*) from ").table(&request.table),
        );
        let found = scalar(&mut session.conn, counted).await.map_err(failed)?;
        if u64::try_from(found) == Ok(read) {
            return Ok(());
        }
        let message = format!(
            "{read} rows of {} were written to {} on {}, and {found} are found there; does a \
             trigger move rows, does the column's type round, or does somebody else write? Nothing \
             was kept",
            request.slice, request.table, session.endpoint
        );
        Err(permanent("replaced_range_counts_differently", message))
    }
}

/// A guarded transaction.
struct GuardedTx {
    session: Session,
    permit: CommitPermit,
}

#[async_trait]
impl Guarded for GuardedTx {
    async fn commit(self: Box<Self>) -> CommitOutcome {
        let (tell, told) = oneshot::channel();
        let (supervisor, endpoint) = (
            self.session.supervisor.clone(),
            self.session.endpoint.clone(),
        );
        supervisor.spawn(SpawnKind::Commit, async move {
            let GuardedTx {
                mut session,
                permit,
            } = *self;
            let outcome = commit_permitted(&mut session, permit).await;
            // Before anybody hears of it, so that the next attempt finds the session; its ledger
            // row is committed.
            if matches!(outcome, CommitOutcome::Committed) {
                session.endpoint.keep_or_close(session.conn).await;
            }
            tell.send(outcome).ok();
        });
        match told.await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!(
                    "the answer to a commit on {endpoint} was lost; its ledger knows what \
                             became of it"
                );
                CommitOutcome::Unknown(fault(ErrorClass::Transient, "commit_unknown", message))
            }
        }
    }
}

/// The only COMMIT of data. The permit is used up with it, however it ends.
async fn commit_permitted(session: &mut Session, _permit: CommitPermit) -> CommitOutcome {
    let failed = session.failed("commit");
    if let Err(error) = failpoint::hit("commit_before").await {
        return CommitOutcome::Unknown(error.into());
    }
    match session.conn.execute("commit").await {
        Ok(_) => (),
        Err(error) if is_refusal(&error) => return CommitOutcome::Refused(failed(error)),
        Err(error) => return CommitOutcome::Unknown(failed(error)),
    }
    match failpoint::hit("commit_answer_lost").await {
        Ok(()) => CommitOutcome::Committed,
        Err(error) => CommitOutcome::Unknown(error.into()),
    }
}

/// Why the target's column no longer takes rows as they come: prepare looked at it, and somebody
/// may have altered it since.
fn changed_type(format: RowFormat, from: &ColumnFacts, own: &ColumnFacts) -> Option<String> {
    let is_read_alike = match format {
        RowFormat::CopyBinary => has_same_wire_form(from, own),
        RowFormat::CopyText => true,
        // Each value is looked at, by the column's type as it is now.
        RowFormat::Values => return None,
    };
    match compat(Engine::Postgres, from, Engine::Postgres, own) {
        Compat::Refused(reason) => Some(reason),
        Compat::Carried | Compat::ByValue(_) if is_read_alike => None,
        Compat::Carried | Compat::ByValue(_) => Some("their binary forms differ".to_owned()),
    }
}

fn slice_of(request: &WriteRequest, sql: Sql) -> Sql {
    sql.text(" where ")
        .slice(&request.partition_column, request.form, &request.slice)
}

fn copy_statement(request: &WriteRequest) -> String {
    let copy = Sql::new(Dialect::Postgres, "copy ")
        .table(&request.table)
        .text(" (")
        .names(request.columns.iter().map(|column| column.name.as_str()));
    let copy = match request.format {
        RowFormat::CopyBinary => copy.text(") from stdin (format binary)"),
        RowFormat::CopyText | RowFormat::Values => copy.text(") from stdin (format text)"),
    };
    copy.as_str().to_owned()
}

fn encode_row(
    row: &[Value],
    columns: &[ColumnForm],
    frame: &mut Vec<u8>,
) -> Result<(), ConnectorError> {
    if row.len() != columns.len() {
        let message = format!(
            "a row has {} values where {} were asked for; this is a bug",
            row.len(),
            columns.len()
        );
        return Err(permanent("wrong_format", message));
    }
    for (at, (value, column)) in row.iter().zip(columns).enumerate() {
        if at > 0 {
            frame.push(b'\t');
        }
        encode_value(value, column, frame)
            .map_err(|error| permanent(error.code(), error.to_string()))?;
    }
    frame.push(b'\n');
    Ok(())
}

async fn scalar(conn: &mut PgConnection, sql: Sql) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar::<_, i64>(sql.into_statement())
        .persistent(false)
        .fetch_one(&mut *conn)
        .await
}
