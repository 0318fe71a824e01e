//! One point in time of a table, read by several sessions: a transaction exports its snapshot, and
//! every session that imports it sees the same rows.

use std::sync::Mutex;

use async_trait::async_trait;
use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{Relation, SourceRows, TableName};
use sqlx::{Executor, PgConnection};

use super::catalog::qualified_relation;
use super::copy_out::CopyOut;
use super::errors::{classify, fault, is_state};
use super::session::SessionRole;
use super::source::{PostgresSource, copy_order};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, Pages, ReadRequest, RowStream, Snapshot, Snapshots};

/// PostgreSQL 14: finds the rows of some pages without reading the others.
const READS_PAGES: u32 = 140_000;
/// What a server says of a snapshot that nobody holds, each in words of its own version.
const NOT_HELD: [&str; 3] = ["22023", "42704", "55000"];

/// The table is locked against being rewritten, or its rows would lie in other pages.
struct HeldSnapshot {
    source: PostgresSource,
    request: ReadRequest,
    relation: Relation,
    /// By which other sessions find it.
    id: String,
    pieces: Vec<Pages>,
    /// Nobody speaks with it: as long as it is there, the snapshot is.
    _holder: Mutex<PgConnection>,
}

#[async_trait]
impl Snapshots for PostgresSource {
    async fn hold(
        &self,
        request: &ReadRequest,
        readers: u32,
    ) -> Result<Box<dyn Snapshot>, ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open(SessionRole::Source).await?;
        let relation = qualified_relation(&mut conn, endpoint, &request.relation).await?;
        let failed = |error| classify(endpoint, &format!("hold a snapshot of {relation}"), error);
        // It idles for as long as the others read.
        let begin = self.begin_at(Sql::new(
            Dialect::Postgres,
            "begin isolation level repeatable read, read only; \
             set local idle_in_transaction_session_timeout = 0",
        ));
        self.hold(&mut conn, begin, &relation, &request.columns)
            .await?;
        let pages = match (conn.server_version_num(), relation.table()) {
            (Some(version), Some(table)) if version >= READS_PAGES => pages(&mut conn, table).await,
            (_, _) => Ok(0),
        };
        let pages = pages.map_err(failed)?;
        let id = sqlx::query_scalar::<_, String>("select pg_catalog.pg_export_snapshot()");
        let id = id.fetch_one(&mut conn).await.map_err(failed)?;
        tracing::debug!(%relation, id, "holding a snapshot");
        Ok(Box::new(HeldSnapshot {
            source: self.clone(),
            request: request.clone(),
            relation,
            id,
            pieces: Pages::cut(pages, readers),
            _holder: Mutex::new(conn),
        }))
    }
}

#[async_trait]
impl Snapshot for HeldSnapshot {
    fn pieces(&self) -> &[Pages] {
        &self.pieces
    }

    async fn read(&self, piece: Pages) -> Result<Box<dyn RowStream>, ConnectorError> {
        let source = &self.source;
        let mut conn = source.endpoint().open_or_take(SessionRole::Source).await?;
        self.import(&mut conn).await?;
        let begun = Sql::new(Dialect::Postgres, "set transaction read only");
        source
            .hold(&mut conn, begun, &self.relation, &self.request.columns)
            .await?;
        let order = copy_order(source.endpoint(), &self.request, &self.relation, piece);
        Ok(Box::new(CopyOut::begin(conn, order).await?))
    }
}

impl HeldSnapshot {
    /// Begins a transaction at the point in time.
    async fn import(&self, conn: &mut PgConnection) -> Result<(), ConnectorError> {
        let begin = Sql::new(
            Dialect::Postgres,
            "begin isolation level repeatable read, read only; set transaction snapshot ",
        );
        let begin = self.source.begin_at(begin.literal(&self.id));
        let begun = conn.execute(sqlx::raw_sql(begin.into_statement())).await;
        begun.map(drop).map_err(|error| {
            let is_lost = NOT_HELD.iter().any(|state| is_state(&error, state));
            let what = format!("read {} at a held point in time", self.relation);
            let told = classify(self.source.endpoint(), &what, error);
            match is_lost {
                true => fault(
                    ErrorClass::Transient,
                    ErrorCode::SnapshotLost,
                    format!(
                        "{}: the session that held it has ended, so the copy begins anew",
                        told.report.message
                    ),
                ),
                false => told,
            }
        })
    }
}

impl PostgresSource {
    /// The beginning of a transaction, that sees the rows which are meant.
    fn begin_at(&self, begin: Sql) -> Sql {
        match self.rows() {
            SourceRows::All => begin,
            SourceRows::Visible => begin.text("; set local row_security = on"),
        }
    }
}

/// How many pages the rows lie in, of a table that keeps them in pages of its own.
async fn pages(conn: &mut PgConnection, table: &TableName) -> Result<u64, sqlx::Error> {
    let pages = sqlx::query_scalar::<_, i64>(
        "select pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8 \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         join pg_catalog.pg_am m on m.oid = c.relam where n.nspname = $1 and c.relname = $2 \
         and c.relkind in ('r', 'm') and m.amname = 'heap' and not c.relhassubclass",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_optional(conn)
    .await?;
    Ok(pages
        .and_then(|pages| u64::try_from(pages).ok())
        .unwrap_or(0))
}
