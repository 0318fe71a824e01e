//! The data transaction of PostgreSQL: what can be done in it, each a statement or two.
//! Never leaves a transaction that could commit behind an error: every error drops the connection,
//! and the server rolls back.

use async_trait::async_trait;
use highwater_common::chunk::Reached;
use highwater_common::commit::CommitPermit;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, Engine};
use highwater_common::id::ConnectionName;
use highwater_common::plan::{Compat, compat, has_same_wire_form};
use highwater_common::range::Slice;
use highwater_common::spec::{TableName, Triggers, WriteMode};
use sqlx::{Connection, Executor, PgConnection, Row};

use super::catalog::{find_table, qualified, unknown_column, unknown_table};
use super::errors::{classify, is_missing_relation, is_refusal, permanent, transaction_pooling};
use super::guard::guard;
use super::pins::{OWN_PATH, PINNED};
use super::session::Endpoint;
use super::triggers::{SKIP, refusal};
use crate::connector::column_form::ColumnForm;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::stored_slice::{ALL, NULL, StoredSlice};
use crate::connector::value_text::encode_value;
use crate::connector::{
    ApplyTx, CheckTx, Claim, Claimed, CommitFailure, ConnectorError, ExchangeTx, GuardStep,
    Matched, MergeTx, ReconcileTx, ReplaceTx, RowBatch, RowFormat, RowStream, Rows, ScriptTx,
    TargetTx, Value, WriteRequest,
};

/// Encoded rows are sent in frames of about this size.
const FRAME_BYTES: usize = 128 * 1024;
/// A session with a fence in the ledger. Dropping it closes the connection.
pub(super) struct Session {
    pub(super) conn: PgConnection,
    pub(super) endpoint: Endpoint,
    pub(super) claim: Claim,
    /// Whether statements of the user's own have run in it: then nobody else gets it.
    pub(super) is_spent: bool,
}

impl Session {
    pub(super) fn failed(&self, what: &str) -> impl Fn(sqlx::Error) -> ConnectorError + use<> {
        let (endpoint, what) = (self.endpoint.clone(), what.to_owned());
        move |error| classify(&endpoint, &what, error)
    }
}

/// A claim that stands.
pub(super) struct PgClaim(pub(super) Session);

#[async_trait]
impl Claimed for PgClaim {
    fn connection(&self) -> &ConnectionName {
        self.0.endpoint.connection()
    }

    async fn begin(self: Box<Self>) -> Result<Box<dyn TargetTx>, ConnectorError> {
        let mut session = self.0;
        let failed = session.failed("begin a transaction");
        let begin = session.conn.execute("begin isolation level read committed");
        begin.await.map_err(failed)?;
        Ok(Box::new(OpenTx {
            session,
            held: None,
            has_keys: false,
        }))
    }

    async fn release(self: Box<Self>) {
        let Session {
            conn,
            endpoint,
            is_spent,
            ..
        } = self.0;
        match is_spent {
            true => drop(conn.close().await),
            false => endpoint.keep_or_close(conn).await,
        }
    }
}

/// An open data transaction.
pub(super) struct OpenTx {
    pub(super) session: Session,
    pub(super) held: Option<HeldTable>,
    /// Whether it has the table in which keys wait that are compared.
    pub(super) has_keys: bool,
}
/// The table that is written, under a lock.
pub(super) struct HeldTable {
    /// By its schema, too.
    pub(super) table: TableName,
    /// Its own columns, in the order that rows come in.
    columns: Vec<ColumnFacts>,
}

#[async_trait]
impl TargetTx for OpenTx {
    fn place(&self) -> String {
        self.session.endpoint.to_string()
    }

    async fn hold(&mut self, request: &WriteRequest) -> Result<(), ConnectorError> {
        let session = &mut self.session;
        let table = qualified(&mut session.conn, &session.endpoint, &request.table).await?;
        let request = &WriteRequest {
            table,
            ..request.clone()
        };
        let columns = self.hold_table(request).await?;
        self.held = Some(HeldTable {
            table: request.table.clone(),
            columns,
        });
        self.show_token(request.triggers).await?;
        match request.rewrites_table() {
            true => self.defer_constraints().await,
            false => Ok(()),
        }
    }

    /// Whether a committed task of the stream overlaps the slice.
    async fn has_receipts(&mut self, stream: &str, of: &Slice) -> Result<bool, ConnectorError> {
        let failed = self.session.failed("read the ledger");
        let slice = StoredSlice::of(of);
        let (mine, every) = match of {
            Slice::Null => (vec![NULL], false),
            Slice::Range(range) => (vec![slice.kind.as_ref(), ALL], range.kind().is_none()),
        };
        sqlx::query_scalar::<_, bool>(
            "select exists (select from highwater.task where stream_id = $1 and state = 'C' \
                and (slice_kind = any ($2) or ($3 and slice_kind not in ('null', 'table'))) \
                and ($4::int8 is null or range_end is null or range_end > $4) \
                and ($5::int8 is null or range_start is null or range_start < $5))",
        )
        .bind(stream)
        .bind(mine)
        .bind(every)
        .bind(slice.start)
        .bind(slice.end)
        .fetch_one(&mut self.session.conn)
        .await
        .map_err(failed)
    }

    async fn count(&mut self, rows: &Rows, most: u64) -> Result<u64, ConnectorError> {
        let Some(HeldTable { table, .. }) = &self.held else {
            return Err(not_held());
        };
        let failed = self.session.failed(&format!("count {rows} of {table}"));
        let counted = match i64::try_from(most) {
            Ok(most) => {
                let some = Sql::new(Dialect::Postgres, "select count(*) from (select from ");
                only(some.table(table), rows)
                    .text(" limit ")
                    .integer(most)
                    .text(") r")
            }
            Err(_) => only(
                Sql::new(Dialect::Postgres, "select count(*) from ").table(table),
                rows,
            ),
        };
        let found = sqlx::query_scalar::<_, i64>(counted.into_statement()).persistent(false);
        let found = found.fetch_one(&mut self.session.conn).await;
        found
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(failed)
    }

    async fn delete(&mut self, rows: &Rows) -> Result<(), ConnectorError> {
        let Some(HeldTable { table, .. }) = &self.held else {
            return Err(not_held());
        };
        let failed = self.session.failed(&format!("empty {rows} of {table}"));
        let delete = only(
            Sql::new(Dialect::Postgres, "delete from ").table(table),
            rows,
        );
        let deleted = self
            .session
            .conn
            .execute(sqlx::raw_sql(delete.into_statement()));
        deleted.await.map(drop).map_err(failed)
    }

    async fn insert(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let Some(held) = &self.held else {
            return Err(not_held());
        };
        let (what, statement) = (
            format!("copy {} into {}", request.rows, held.table),
            copy_statement(
                request,
                Sql::new(Dialect::Postgres, "copy ").table(&held.table),
            ),
        );
        self.copy(&what, &statement, request.format, rows).await
    }

    fn merging(&mut self) -> Option<&mut dyn MergeTx> {
        Some(self)
    }
    fn reconciling(&mut self) -> Option<&mut dyn ReconcileTx> {
        Some(self)
    }

    fn applying(&mut self) -> Option<&mut dyn ApplyTx> {
        Some(self)
    }

    fn checking(&mut self) -> Option<&mut dyn CheckTx> {
        Some(self)
    }

    fn exchanging(&mut self) -> Option<&mut dyn ExchangeTx> {
        Some(self)
    }

    fn scripting(&mut self) -> Option<&mut dyn ScriptTx> {
        Some(self)
    }

    fn replacing(&mut self) -> Option<&mut dyn ReplaceTx> {
        Some(self)
    }

    async fn guard(
        &mut self,
        reached: &Reached,
        step: &GuardStep,
    ) -> Result<Matched, ConnectorError> {
        guard(&mut self.session, reached, step).await
    }

    async fn roll_back(mut self: Box<Self>) {
        self.session.conn.execute("rollback").await.ok();
    }

    async fn discard(self: Box<Self>) {}

    async fn commit(
        self: Box<Self>,
        _permit: CommitPermit,
    ) -> Result<Box<dyn Claimed>, CommitFailure> {
        let mut session = self.session;
        let failed = session.failed("commit");
        match session.conn.execute("commit").await {
            Ok(_) => Ok(Box::new(PgClaim(session))),
            Err(error) if is_refusal(&error) => Err(CommitFailure::Refused(failed(error))),
            Err(error) => Err(CommitFailure::Unknown(failed(error))),
        }
    }
}

impl OpenTx {
    /// Sends rows by a COPY statement, for the columns of the held table; gives the number that the
    /// server took.
    pub(super) async fn copy(
        &mut self,
        what: &str,
        statement: &str,
        format: RowFormat,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let Some(held) = &self.held else {
            return Err(not_held());
        };
        let forms: Vec<ColumnForm> = held.columns.iter().map(ColumnForm::of).collect();
        let Session { conn, endpoint, .. } = &mut self.session;
        copy_in(conn, endpoint, what, statement, (format, &forms), rows).await
    }

    /// Foreign keys that may wait are looked at when the rows are there again: by COMMIT.
    async fn defer_constraints(&mut self) -> Result<(), ConnectorError> {
        let failed = self.session.failed("defer the constraints");
        let deferred = self.session.conn.execute("set constraints all deferred");
        deferred.await.map(drop).map_err(failed)
    }

    /// Locks the table against being altered and finds its columns in the order that rows come in.
    async fn hold_table(
        &mut self,
        request: &WriteRequest,
    ) -> Result<Vec<ColumnFacts>, ConnectorError> {
        let session = &mut self.session;
        let failed = session.failed(&format!("write {}", request.table));
        let lock = Sql::new(Dialect::Postgres, "lock table ")
            .table(&request.table)
            .text(match request.mode {
                WriteMode::Append
                | WriteMode::ReplacePartition
                | WriteMode::Exchange
                | WriteMode::Statements
                | WriteMode::Merge => " in row exclusive mode",
                // Whoever else writes waits: what is counted at the end is what was written.
                WriteMode::ReplaceTable => " in share row exclusive mode",
            });
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
                    &request.table.clone().into(),
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
                    Err(permanent(ErrorCode::SchemaChanged, message))
                }
            }
        });
        own.collect()
    }

    /// What the table's own defaults and triggers may ask for: the attempt's token, and the role's
    /// own search path. And whether its triggers act at all.
    async fn show_token(&mut self, triggers: Triggers) -> Result<(), ConnectorError> {
        let session = &mut self.session;
        let failed = session.failed("begin a transaction");
        let token = session.claim.fence.token.raw().to_string();
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
}

/// Sends rows by a COPY statement, in the format that they come in, or from values in the columns'
/// forms; gives the number that the server took.
pub(super) async fn copy_in(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    what: &str,
    statement: &str,
    (format, forms): (RowFormat, &[ColumnForm]),
    rows: &mut dyn RowStream,
) -> Result<u64, ConnectorError> {
    let failed = |error| classify(endpoint, what, error);
    let mut copy = conn.copy_in_raw(statement).await.map_err(failed)?;
    let mut frame = Vec::new();
    while let Some(batch) = rows.next().await? {
        match (format, batch) {
            (RowFormat::CopyBinary | RowFormat::CopyText, RowBatch::Copy(bytes)) => {
                copy.send(bytes).await.map_err(failed)?;
            }
            (RowFormat::Values, RowBatch::Rows(batch)) => {
                for row in &batch {
                    encode_row(row, forms, &mut frame)?;
                    if frame.len() >= FRAME_BYTES {
                        copy.send(frame.as_slice()).await.map_err(failed)?;
                        frame.clear();
                    }
                }
            }
            (RowFormat::CopyBinary | RowFormat::CopyText, RowBatch::Rows(_))
            | (RowFormat::Values, RowBatch::Copy(_)) => {
                let message = "rows came in another format than was agreed upon; this is a bug of \
                               Highwater's";
                return Err(permanent(ErrorCode::WrongFormat, message));
            }
        }
    }
    if !frame.is_empty() {
        copy.send(frame).await.map_err(failed)?;
    }
    copy.finish().await.map_err(failed)
}

/// A call that comes before [`TargetTx::hold`].
pub(super) fn not_held() -> ConnectorError {
    permanent(
        ErrorCode::TableNotHeld,
        "a table is written that was not held; this is a bug",
    )
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

/// The statement, of some rows only.
pub(super) fn only(sql: Sql, rows: &Rows) -> Sql {
    match rows {
        Rows::All => sql,
        Rows::Slice(of) => sql.text(" where ").slice(&of.column, of.form, &of.slice),
        Rows::Placed(of) => sql.text(" where ").placed(&of.placing, &of.slice),
    }
}

/// The statement that takes the request's rows, after its beginning up to the table.
pub(super) fn copy_statement(request: &WriteRequest, copy_table: Sql) -> String {
    let copy = copy_table
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
        return Err(permanent(ErrorCode::WrongFormat, message));
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
