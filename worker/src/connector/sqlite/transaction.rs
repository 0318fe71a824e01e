//! The data transaction of SQLite: what can be done in it, each a statement or two. An error closes
//! the connection, so that nothing is left that could commit.

use async_trait::async_trait;
use highwater_common::chunk::Reached;
use highwater_common::commit::CommitPermit;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::ConnectionName;
use highwater_common::range::Slice;

use super::catalog;
use super::errors::{DatabaseFile, is_refusal};
use super::guard::guard;
use super::insert::Inserter;
use super::position;
use super::queue::{Turn, turn};
use super::session::Session;
use super::{ledger, sql};
use crate::connector::{
    CheckTx, Claim, Claimed, CommitFailure, ConnectorError, GuardStep, Matched, MergeTx,
    ReconcileTx, RowBatch, RowStream, Rows, ScriptTx, TargetTx, WriteRequest,
};

/// Whose attempt this is.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) place: DatabaseFile,
    pub(super) claim: Claim,
    /// The file as it was claimed.
    pub(super) fingerprint: String,
}

/// A claim that stands, and the connection that made it.
pub(super) struct SqliteClaimed {
    /// The right to write to the file, once it is this attempt's turn.
    turn: Option<Turn>,
    session: Session,
    attempt: Attempt,
}

impl SqliteClaimed {
    pub(super) const fn new(session: Session, attempt: Attempt) -> Self {
        Self {
            turn: None,
            session,
            attempt,
        }
    }
}

/// An open transaction. The fields are dropped in their order: the connection closes before the
/// next writer's turn.
pub(super) struct SqliteTx {
    pub(super) session: Session,
    _turn: Option<Turn>,
    pub(super) attempt: Attempt,
    held: Option<HeldTable>,
}

/// The table that is written. No other connection alters it meanwhile: a file has one writer.
pub(super) struct HeldTable {
    /// As it stands in a statement.
    pub(super) sql: String,
    /// For messages.
    name: String,
    table: catalog::Table,
}

#[async_trait]
impl Claimed for SqliteClaimed {
    fn connection(&self) -> &ConnectionName {
        self.attempt.place.connection()
    }

    async fn ready(&mut self) -> Result<(), ConnectorError> {
        let place = &self.attempt.place;
        match turn(place.path()).await {
            Some(turn) => {
                self.turn = Some(turn);
                Ok(())
            }
            None => Err(place.lost("the wait for the file's turn")),
        }
    }

    async fn begin(self: Box<Self>) -> Result<Box<dyn TargetTx>, ConnectorError> {
        let Self {
            turn,
            mut session,
            attempt,
        } = *self;
        if let Err(error) = sql::run(session.conn(), sqlx::query("begin immediate")).await {
            session.close().await;
            return Err(attempt.place.driver("begin the transaction", error));
        }
        Ok(Box::new(SqliteTx {
            session,
            _turn: turn,
            attempt,
            held: None,
        }))
    }

    async fn release(self: Box<Self>) {
        self.session.close().await;
    }
}

#[async_trait]
impl TargetTx for SqliteTx {
    fn place(&self) -> String {
        self.attempt.place.to_string()
    }

    async fn hold(&mut self, request: &WriteRequest) -> Result<(), ConnectorError> {
        let place = &self.attempt.place;
        let table = catalog::existing(self.session.conn(), place, &request.table).await?;
        self.held = Some(HeldTable {
            sql: sql::table(&request.table),
            name: request.table.to_string(),
            table,
        });
        Ok(())
    }

    async fn has_receipts(&mut self, stream: &str, slice: &Slice) -> Result<bool, ConnectorError> {
        ledger::overlaps(self.session.conn(), &self.attempt.place, stream, slice).await
    }

    async fn count(&mut self, rows: &Rows, most: u64) -> Result<u64, ConnectorError> {
        use sqlx::Row;

        let (held, only) = (self.held()?, position::of_rows(rows));
        let failed = self
            .attempt
            .place
            .failed(format!("count {rows} of {}", held.name));
        let (table, only_those) = (&held.sql, &only.text);
        let text = match i64::try_from(most) {
            Ok(most) => format!(
                "select count(*) from (select 1 from {table} where {only_those} limit {most})"
            ),
            Err(_) => format!("select count(*) from {table} where {only_those}"),
        };
        let counted = sql::bound(text, &only).fetch_one(self.session.conn()).await;
        let count: i64 = counted.map_err(failed)?.get(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn delete(&mut self, rows: &Rows) -> Result<(), ConnectorError> {
        let (held, only) = (self.held()?, position::of_rows(rows));
        let failed = self
            .attempt
            .place
            .failed(format!("delete {rows} of {}", held.name));
        let text = format!("delete from {} where {}", held.sql, only.text);
        let deleted = sql::run(self.session.conn(), sql::bound(text, &only)).await;
        deleted.map(drop).map_err(failed)
    }

    async fn insert(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let into = self.held()?.sql.clone();
        self.insert_into(&into, request, rows).await
    }

    fn scripting(&mut self) -> Option<&mut dyn ScriptTx> {
        Some(self)
    }

    fn checking(&mut self) -> Option<&mut dyn CheckTx> {
        Some(self)
    }

    fn reconciling(&mut self) -> Option<&mut dyn ReconcileTx> {
        Some(self)
    }

    fn merging(&mut self) -> Option<&mut dyn MergeTx> {
        Some(self)
    }

    async fn guard(
        &mut self,
        reached: &Reached,
        step: &GuardStep,
    ) -> Result<Matched, ConnectorError> {
        guard(self.session.conn(), &self.attempt, reached, step).await
    }

    async fn roll_back(self: Box<Self>) {
        self.session.close().await;
    }

    /// The server is this very process: its locks are gone when this returns.
    async fn discard(self: Box<Self>) {
        self.session.close().await;
    }

    async fn commit(
        self: Box<Self>,
        _permit: CommitPermit,
    ) -> Result<Box<dyn Claimed>, CommitFailure> {
        let Self {
            mut session,
            _turn: turn,
            attempt,
            ..
        } = *self;
        if let Err(error) = sql::run(session.conn(), sqlx::query("commit")).await {
            // What a refusal left open is rolled back with it.
            session.close().await;
            let is_refusal = is_refusal(&error);
            let error = attempt.place.driver("commit", error);
            return Err(match is_refusal {
                true => CommitFailure::Refused(error),
                false => CommitFailure::Unknown(error),
            });
        }
        drop(turn);
        Ok(Box::new(SqliteClaimed::new(session, attempt)))
    }
}

impl SqliteTx {
    /// Inserts rows, of the columns of the held table, into the table that `into` names.
    pub(super) async fn insert_into(
        &mut self,
        into: &str,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let place = self.attempt.place.clone();
        let mut inserter = Inserter::new(&place, request, &self.held()?.table, into)?;
        while let Some(batch) = rows.next().await? {
            let RowBatch::Rows(batch) = batch else {
                return Err(place.permanent(
                    ErrorCode::WrongFormat,
                    "a COPY stream came where SQLite takes typed values; this is a bug",
                ));
            };
            for row in batch {
                inserter.add(self.session.conn(), row).await?;
            }
        }
        inserter.finish(self.session.conn()).await
    }

    pub(super) fn held(&self) -> Result<&HeldTable, ConnectorError> {
        self.held.as_ref().ok_or_else(|| {
            self.attempt.place.permanent(
                ErrorCode::TableNotHeld,
                "a table is written that was not held; this is a bug",
            )
        })
    }
}
