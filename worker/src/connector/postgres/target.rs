//! The write side of a PostgreSQL connection, with its ledger.
//! Never commits a row but through a claim, a guard and the guard's permit.

mod facts;
mod fencing;

use std::fmt;

use async_trait::async_trait;
use highwater_common::close::{Ordinals, ledger_lost_message};
use highwater_common::commit::LedgerRow;
use highwater_common::coverage::Coverage;
use highwater_common::errand::StreamReceipts;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, Engine, TargetFacts};
use highwater_common::id::{ClusterId, ConnectionName, RunId, TaskId};
use highwater_common::plan::has_same_wire_form;
use highwater_common::spec::TableName;
use highwater_common::stream::RunMark;
use highwater_common::window::StoredWatermark;
use sqlx::{Connection, Executor, PgConnection};

use fencing::take_over;

use super::catalog::{find_table, qualified};
use super::claim::claim;
use super::connect::Urls;
use super::cuts;
use super::errors::{classify, is_missing_relation, permanent, stumble};
use super::ledger::{self, uuid};
use super::other_sessions::{end_idle_claims, set_lock_timeout};
use super::prepare::prepare;
use super::receipts;
use super::session::{Endpoint, SessionOptions, SessionRole};
use super::session_pool::SessionPool;
use super::stream::{self, FENCE_ROUNDS_MAX, Stream, Taken, read_coverage};
use super::triggers::check_right;
use super::watermark;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{
    Bounds, Builds, Checks, Claim, ClaimOutcome, CloseRequest, ConnectorError, FenceReport,
    ForgetOutcome, ForgetRequest, KeptBounds, LogPosition, PlaceRequest, PrepareOutcome,
    PrepareRequest, RowFormat, Shadows, Stages, Target, TargetProbe, Watermarks,
};
use crate::supervisor::Supervisor;

/// Writes tables of a PostgreSQL database, 13 or later.
pub struct PostgresTarget {
    endpoint: Endpoint,
    supervisor: Supervisor,
}

impl PostgresTarget {
    /// A target at `url`, whose references to secrets are resolved already. Nothing is opened yet.
    /// Begins and commits run in loops of `supervisor`, to their end.
    ///
    /// # Errors
    /// Permanent `malformed_url`.
    pub fn new(
        url: impl Into<Urls>,
        connection: ConnectionName,
        supervisor: Supervisor,
    ) -> Result<Self, ConnectorError> {
        Self::with_options(url, connection, supervisor, SessionOptions::default())
    }

    /// Like [`PostgresTarget::new`], with other limits.
    ///
    /// # Errors
    /// Permanent `malformed_url`.
    pub fn with_options(
        url: impl Into<Urls>,
        connection: ConnectionName,
        supervisor: Supervisor,
        options: SessionOptions,
    ) -> Result<Self, ConnectorError> {
        Ok(Self {
            endpoint: Endpoint::new(&url.into(), connection, options)?,
            supervisor,
        })
    }

    /// Takes sessions from `session_pool`, and puts them there once they have done their work.
    #[must_use]
    pub fn keeping(self, session_pool: Option<SessionPool>) -> Self {
        Self {
            endpoint: self.endpoint.keeping(session_pool),
            ..self
        }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn failed(&self, what: &'static str) -> impl Fn(sqlx::Error) -> ConnectorError + '_ {
        move |error| classify(&self.endpoint, what, error)
    }
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget")
            .field("endpoint", &self.endpoint)
            .finish()
    }
}

#[async_trait]
impl Bounds for PostgresTarget {
    async fn kept(&self, stream: &str) -> Result<Vec<KeptBounds>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let kept = cuts::kept(&mut conn, &self.endpoint, stream).await;
        conn.close().await.ok();
        kept
    }
}

#[async_trait]
impl Watermarks for PostgresTarget {
    async fn watermark(&self, stream: &str) -> Result<Option<StoredWatermark>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let found = watermark::read(&mut conn, &self.endpoint, stream).await;
        conn.close().await.ok();
        found
    }

    async fn log_position(&self, stream: &str) -> Result<Option<LogPosition>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let found = watermark::read_log(&mut conn, &self.endpoint, stream).await;
        conn.close().await.ok();
        found
    }

    async fn is_resynced(&self, stream: &str, table: &TableName) -> Result<bool, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let found = watermark::is_resynced(&mut conn, &self.endpoint, stream, table).await;
        conn.close().await.ok();
        found
    }

    async fn place(&self, request: &PlaceRequest) -> Result<ForgetOutcome, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let stream = Stream {
            endpoint: &self.endpoint,
            request: &request.stream,
        };
        let fenced = match stream.take(&mut conn, &request.cluster).await? {
            Taken::Mine { fenced } => fenced,
            Taken::Not(outcome) => return Ok(ForgetOutcome::Not(outcome)),
        };
        watermark::place(&mut conn, &self.endpoint, request).await?;
        let name = &request.stream.stream;
        let left = receipts::read(&mut conn, &self.endpoint, name, None).await?;
        conn.execute("commit")
            .await
            .map_err(self.failed("place a watermark"))?;
        stream.end_fenced(&mut conn, &fenced).await;
        conn.close().await.ok();
        Ok(ForgetOutcome::Done(left))
    }
}

#[async_trait]
impl Target for PostgresTarget {
    async fn probe(&self, probe: &TargetProbe) -> Result<TargetFacts, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let failed = self.failed("probe the target");
        let millis =
            i64::try_from(self.endpoint.session().probe_timeout.as_millis()).unwrap_or(i64::MAX);
        let limit = Sql::new(Dialect::Postgres, "set statement_timeout = ")
            .integer(millis)
            .into_statement();
        conn.execute(sqlx::raw_sql(limit)).await.map_err(&failed)?;
        conn.execute("set default_transaction_read_only = on")
            .await
            .map_err(&failed)?;
        let holder = ledger::read_cluster(&mut conn, &self.endpoint).await?;
        if let Some(holder) = &holder {
            ledger::check_holder(&self.endpoint, holder, &probe.cluster)?;
        }
        check_right(&mut conn, &self.endpoint, probe.triggers).await?;
        let fingerprint = ledger::read_fingerprint(&mut conn, &self.endpoint).await?;
        let table = qualified(&mut conn, &self.endpoint, &probe.table).await?;
        let probe = &TargetProbe {
            table,
            ..probe.clone()
        };
        let table = self.table_facts(&mut conn, probe).await?;
        let created_as = if table.is_none() {
            self.created_as(&mut conn, probe).await?
        } else {
            Vec::new()
        };
        let uncarried = self.uncarried(&mut conn, probe, table.as_ref()).await?;
        let (covered, covered_null) = match (&holder, &probe.partition) {
            (Some(_), Some((_, kind))) => {
                let found = find_table(&mut conn, &probe.table).await.map_err(&failed)?;
                receipts::check(
                    &mut conn,
                    &self.endpoint,
                    &probe.stream,
                    &probe.table,
                    found.as_ref(),
                )
                .await?;
                let coverage = match found {
                    Some(_) => {
                        read_coverage(&mut conn, &self.endpoint, &probe.stream, *kind, None).await?
                    }
                    None => Coverage::default(),
                };
                (coverage.told(*kind), coverage.null())
            }
            (None, _) | (_, None) => (Vec::new(), false),
        };
        conn.close().await.ok();
        Ok(TargetFacts {
            engine: Engine::Postgres,
            fingerprint,
            table,
            created_as,
            uncarried,
            covered,
            covered_null,
        })
    }

    async fn prepare(&self, request: &PrepareRequest) -> Result<PrepareOutcome, ConnectorError> {
        prepare(&self.endpoint, request).await
    }

    async fn claim(&self, asked: &Claim) -> Result<ClaimOutcome, ConnectorError> {
        claim(&self.endpoint, &self.supervisor, asked).await
    }

    async fn ledger_row(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<LedgerRow>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let found = match ledger::read_row(&mut conn, run, task).await {
            Ok(found) => found.map(|found| found.row),
            Err(error) if is_missing_relation(&error) => None,
            Err(error) => return Err(classify(&self.endpoint, "read the ledger", error)),
        };
        conn.close().await.ok();
        Ok(found)
    }

    async fn committed(&self, request: &CloseRequest) -> Result<Ordinals, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let found = match ledger::read_cluster(&mut conn, &self.endpoint).await? {
            Some(holder) => {
                ledger::check_holder(&self.endpoint, &holder, &request.cluster)?;
                ledger::committed(&mut conn, request)
                    .await
                    .map_err(self.failed("read what the step has committed"))?
            }
            None if request.mode.adds() && self.holds_rows(&mut conn, &request.table).await? => {
                let message =
                    ledger_lost_message(&self.endpoint.to_string(), &request.table.to_string());
                return Err(permanent(ErrorCode::LedgerMissing, message));
            }
            None => Ordinals::default(),
        };
        conn.close().await.ok();
        Ok(found)
    }

    async fn fence_run(
        &self,
        cluster: &ClusterId,
        run: &RunId,
    ) -> Result<FenceReport, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        // Whoever the target belongs to by now: a run's id is nobody else's, and this cluster might
        // get the target back.
        self.make_ledger(&mut conn, cluster).await?;
        // First the run: this waits for the claims in flight, and every later one sees it. A claim
        // is short.
        let failed = self.failed("fence a run");
        set_lock_timeout(&mut conn, self.endpoint.session().claim_lock_timeout)
            .await
            .map_err(&failed)?;
        for round in 0..FENCE_ROUNDS_MAX {
            let fenced = sqlx::query(
                "insert into highwater.run as run (run_id, state, fenced_at) values ($1, 'X', \
                 now()) \
                 on conflict (run_id) do update set state = 'X', fenced_at = \
                 coalesce(run.fenced_at, excluded.fenced_at)",
            )
            .bind(uuid(run.as_bytes()))
            .execute(&mut conn)
            .await;
            if !self.is_blocked(fenced.map(drop), round)? {
                break;
            }
            let idle = self.endpoint.session().claim_lock_timeout / 2;
            end_idle_claims(&mut conn, idle)
                .await
                .map_err(self.failed("end a claim that stopped halfway"))?;
        }
        stumble("fence::marked")
            .await
            .map_err(self.failed("fence the run"))?;
        set_lock_timeout(&mut conn, self.endpoint.session().lock_timeout)
            .await
            .map_err(&failed)?;
        let attempts = self.fence_tasks(&mut conn, run).await?;
        stumble("fence::committed")
            .await
            .map_err(self.failed("fence the run"))?;
        conn.close().await.ok();
        Ok(FenceReport { attempts })
    }

    async fn fenced_by(&self, run: &RunId) -> Result<Option<RunId>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let mark = stream::read_mark(&mut conn, run)
            .await
            .map_err(self.failed("read the run's mark"))?;
        conn.close().await.ok();
        Ok(match mark {
            RunMark::Fenced { by } => by,
            RunMark::Unknown | RunMark::Running => None,
        })
    }

    async fn receipts(
        &self,
        cluster: &ClusterId,
        stream: &str,
    ) -> Result<StreamReceipts, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let found = match ledger::read_cluster(&mut conn, &self.endpoint).await? {
            None => StreamReceipts {
                stream: stream.to_owned(),
                ..StreamReceipts::default()
            },
            Some(holder) => {
                ledger::check_holder(&self.endpoint, &holder, cluster)?;
                receipts::read(&mut conn, &self.endpoint, stream, None).await?
            }
        };
        conn.close().await.ok();
        Ok(found)
    }

    async fn forget(&self, request: &ForgetRequest) -> Result<ForgetOutcome, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let stream = Stream {
            endpoint: &self.endpoint,
            request: &request.stream,
        };
        let fenced = match stream.take(&mut conn, &request.cluster).await? {
            Taken::Mine { fenced } => fenced,
            Taken::Not(outcome) => return Ok(ForgetOutcome::Not(outcome)),
        };
        let left = receipts::void(&mut conn, &self.endpoint, request).await?;
        conn.execute("commit")
            .await
            .map_err(self.failed("void the receipts of a step"))?;
        stream.end_fenced(&mut conn, &fenced).await;
        conn.close().await.ok();
        Ok(ForgetOutcome::Done(left))
    }

    fn watermarks(&self) -> Option<&dyn Watermarks> {
        Some(self)
    }

    async fn adopt(&self, cluster: &ClusterId) -> Result<Option<ClusterId>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let failed = self.failed("adopt the target");
        for round in 0..FENCE_ROUNDS_MAX {
            conn.execute("begin isolation level read committed")
                .await
                .map_err(&failed)?;
            ledger::lock_making(&mut conn, &self.endpoint).await?;
            ledger::make_tables(&mut conn, &self.endpoint).await?;
            let former = ledger::read_cluster(&mut conn, &self.endpoint).await?;
            let taken = match former {
                None => ledger::make(&mut conn, &self.endpoint, cluster)
                    .await
                    .map(|()| Ok(()))?,
                Some(former) => take_over(&mut conn, cluster, former != *cluster).await,
            };
            if !self.is_blocked(taken, round)? {
                conn.execute("commit").await.map_err(&failed)?;
                conn.close().await.ok();
                return Ok(former);
            }
            conn.execute("rollback").await.map_err(&failed)?;
            self.end_sessions(&mut conn, None).await?;
        }
        Err(self.fence_blocked("the former cluster"))
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<ColumnFacts>, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Target).await?;
        let table = qualified(&mut conn, &self.endpoint, table).await?;
        let found = find_table(&mut conn, &table)
            .await
            .map_err(self.failed("read the target's columns"))?;
        conn.close().await.ok();
        Ok(found.map_or_else(Vec::new, |table| table.facts().cloned().collect()))
    }

    fn checks(&self) -> Option<&dyn Checks> {
        Some(self)
    }

    fn stages(&self) -> Option<&dyn Stages> {
        Some(self)
    }

    fn builds(&self) -> Option<&dyn Builds> {
        Some(self)
    }

    fn bounds(&self) -> Option<&dyn Bounds> {
        Some(self)
    }

    fn shadows(&self) -> Option<&dyn Shadows> {
        Some(self)
    }

    fn formats(
        &self,
        from: Engine,
        columns: &[ColumnFacts],
        own: &[ColumnFacts],
    ) -> Vec<RowFormat> {
        if from != Engine::Postgres {
            return vec![RowFormat::Values];
        }
        let is_same = |column: &ColumnFacts| {
            // A table that is still to be made gets the source's own types.
            let found = own.iter().find(|own| own.name == column.name);
            found.map_or(own.is_empty() && column.binary_portable, |own| {
                has_same_wire_form(column, own)
            })
        };
        let mut formats = vec![RowFormat::CopyText, RowFormat::Values];
        if columns.iter().all(is_same) {
            formats.insert(0, RowFormat::CopyBinary);
        }
        formats
    }
}

impl PostgresTarget {
    async fn any_row(
        &self,
        conn: &mut PgConnection,
        table: &TableName,
    ) -> Result<bool, ConnectorError> {
        let any = Sql::new(Dialect::Postgres, "select exists (select from ")
            .table(table)
            .text(")");
        let read = sqlx::query_scalar::<_, bool>(any.into_statement())
            .persistent(false)
            .fetch_one(conn)
            .await;
        read.map_err(self.failed("look for rows of the target table"))
    }

    /// Whether there is such a table, and a row in it.
    async fn holds_rows(
        &self,
        conn: &mut PgConnection,
        table: &TableName,
    ) -> Result<bool, ConnectorError> {
        let table = qualified(conn, &self.endpoint, table).await?;
        match find_table(conn, &table)
            .await
            .map_err(self.failed("look for the target table"))?
        {
            Some(_) => self.any_row(conn, &table).await,
            None => Ok(false),
        }
    }
}
