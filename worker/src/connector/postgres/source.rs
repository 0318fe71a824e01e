//! The read side of a PostgreSQL connection.
//! Never writes: its sessions are read-only by the server's own word.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, TableFacts};
use highwater_common::id::ConnectionName;
use highwater_common::left_out::LeftOut;
use highwater_common::placing::Placing;
use highwater_common::spec::{Relation, SourceRows, TableName};
use highwater_common::window::Horizon;
use sqlx::{Connection, Executor, PgConnection, Row};

use super::casts::{read_column, still_cast};
use super::catalog::{
    Table, qualified, qualified_relation, source_table, unknown_column, unknown_table,
};
use super::checks::count;
use super::columns::Column;
use super::connect::Urls;
use super::copy_out::{CopyOrder, CopyOut};
use super::errors::{classify, is_missing_relation, permanent, transaction_pooling};
use super::hashes::still_hashed;
use super::horizon::horizon;
use super::keysets::still_ordered;
use super::left_out::left_out;
use super::pins::{PINNED, Path, set_path};
use super::policies::{self, hidden_rows, look_at_source};
use super::positions::position_at;
use super::probe::probe_source;
use super::query::{self, count_query};
use super::session::{Endpoint, SessionOptions, SessionRole};
use super::session_pool::SessionPool;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{
    ChangeLog, ComparedKeys, ConnectorError, Doing, HorizonRequest, Horizons, LeftOutRequest,
    Pages, ReadRequest, RowFormat, RowStream, Rows, SliceRows, Snapshots, Source, SourceProbe,
    Surveys,
};
use crate::supervisor::Supervisor;

/// Reads tables of a PostgreSQL database, 13 or later.
#[derive(Clone)]
pub struct PostgresSource {
    pub(super) endpoint: Endpoint,
    rows: SourceRows,
    doing: Doing,
}

impl PostgresSource {
    /// A source at `url`, whose references to secrets are resolved already. Nothing is opened yet.
    /// A source spawns nothing: what it reads stops with its reader.
    ///
    /// # Errors
    /// Permanent `malformed_url`.
    pub fn new(
        url: impl Into<Urls>,
        connection: ConnectionName,
        _supervisor: Supervisor,
    ) -> Result<Self, ConnectorError> {
        Self::with_options(url, connection, SessionOptions::default())
    }

    /// Like [`PostgresSource::new`], with other limits.
    ///
    /// # Errors
    /// Permanent `malformed_url`.
    pub fn with_options(
        url: impl Into<Urls>,
        connection: ConnectionName,
        options: SessionOptions,
    ) -> Result<Self, ConnectorError> {
        Ok(Self {
            endpoint: Endpoint::new(&url.into(), connection, options)?.reading(),
            rows: SourceRows::All,
            doing: Doing::default(),
        })
    }

    /// Means these rows, where row level security hides some.
    #[must_use]
    pub fn seeing(self, rows: SourceRows) -> Self {
        Self { rows, ..self }
    }

    /// Takes sessions from `session_pool`, and puts them there once they have done their work.
    #[must_use]
    pub fn keeping(self, session_pool: Option<SessionPool>) -> Self {
        Self {
            endpoint: self.endpoint.keeping(session_pool),
            ..self
        }
    }
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSource")
            .field("endpoint", &self.endpoint)
            .finish()
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn tell(&mut self, doing: &Doing) {
        self.doing = doing.clone();
    }

    async fn probe(&self, probe: &SourceProbe) -> Result<TableFacts, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Source).await?;
        let relation = qualified_relation(&mut conn, &self.endpoint, &probe.relation).await?;
        probe_source(
            &mut conn,
            &self.endpoint,
            &self.doing,
            &SourceProbe {
                relation,
                ..probe.clone()
            },
            self.rows,
        )
        .await
    }

    async fn count_left_out(&self, request: &LeftOutRequest) -> Result<LeftOut, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Source).await?;
        let table = qualified(&mut conn, &self.endpoint, &request.table).await?;
        left_out(
            &mut conn,
            &self.endpoint,
            &LeftOutRequest {
                table,
                ..request.clone()
            },
            self.rows,
        )
        .await
    }

    async fn read(&self, request: &ReadRequest) -> Result<Box<dyn RowStream>, ConnectorError> {
        let mut conn = self.endpoint.open_or_take(SessionRole::Source).await?;
        let relation = qualified_relation(&mut conn, &self.endpoint, &request.relation).await?;
        let begin = Sql::new(Dialect::Postgres, self.begin());
        let path = self
            .hold(&mut conn, begin, &relation, &request.columns)
            .await?;
        if let (Rows::Placed(of), Relation::Table(table)) = (&request.rows, &relation) {
            let failed = |error| classify(&self.endpoint, &format!("read {relation}"), error);
            set_path(&mut conn, Path::Catalog).await.map_err(failed)?;
            let table = source_table(&mut conn, &self.endpoint, table).await?;
            match &of.placing {
                Placing::Hash(hash) => {
                    still_hashed(&mut conn, &self.endpoint, &relation, &table, hash).await?;
                }
                Placing::Keys(keys) => {
                    let keys = (keys, &of.slice);
                    still_ordered(&mut conn, &self.endpoint, &relation, &table, keys).await?;
                }
            }
            set_path(&mut conn, path).await.map_err(failed)?;
        }
        let order = copy_order(&self.endpoint, request, &relation, Pages::ALL);
        Ok(Box::new(CopyOut::begin(conn, order).await?))
    }

    async fn position_at(
        &self,
        table: &TableName,
        of: &SliceRows,
        kind: CursorKind,
        before: u64,
    ) -> Result<Option<Cursor>, ConnectorError> {
        let mut conn = self.endpoint.open_or_take(SessionRole::Source).await?;
        let table = qualified(&mut conn, &self.endpoint, table).await?;
        let failed = |error| classify(&self.endpoint, &format!("look into {table}"), error);
        conn.execute(self.begin()).await.map_err(failed)?;
        let found = position_at(&mut conn, &table, of, kind, before)
            .await
            .map_err(failed)?;
        conn.execute("rollback").await.map_err(failed)?;
        self.endpoint.keep_or_close(conn).await;
        Ok(found)
    }

    async fn count(
        &self,
        from: &Relation,
        rows: &[Rows],
        within: Duration,
    ) -> Result<u64, ConnectorError> {
        let mut conn = self.endpoint.open_or_take(SessionRole::Source).await?;
        let failed = |error| classify(&self.endpoint, &format!("count {from}"), error);
        let counted = match from {
            Relation::Table(table) => {
                let table = qualified(&mut conn, &self.endpoint, table).await?;
                look_at_source(&mut conn, &self.endpoint, &table, self.rows).await?;
                conn.execute(self.begin()).await.map_err(failed)?;
                count(&mut conn, &self.endpoint, &table, rows, within).await?
            }
            Relation::Query(_) => {
                conn.execute(self.begin()).await.map_err(failed)?;
                let counted = count_query(&mut conn, from, within).await;
                counted.map_err(failed)?
            }
        };
        conn.execute("rollback").await.map_err(failed)?;
        self.endpoint.keep_or_close(conn).await;
        Ok(counted)
    }

    fn horizons(&self) -> Option<&dyn Horizons> {
        Some(self)
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn compared_keys(&self) -> Option<&dyn ComparedKeys> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn surveys(&self) -> Option<&dyn Surveys> {
        Some(self)
    }

    fn formats(&self, columns: &[ColumnFacts]) -> Vec<RowFormat> {
        let mut formats = vec![RowFormat::CopyText, RowFormat::Values];
        if columns.iter().all(|column| column.binary_portable) {
            formats.insert(0, RowFormat::CopyBinary);
        }
        formats
    }
}

#[async_trait]
impl Horizons for PostgresSource {
    async fn horizon(&self, request: &HorizonRequest) -> Result<Horizon, ConnectorError> {
        let mut conn = self.endpoint.open(SessionRole::Source).await?;
        let table = qualified(&mut conn, &self.endpoint, &request.table).await?;
        let request = HorizonRequest {
            table,
            ..request.clone()
        };
        let found = horizon(&mut conn, &self.endpoint, &request).await;
        conn.close().await.ok();
        found
    }
}

impl PostgresSource {
    /// Begins a transaction that sees the rows which are meant.
    const fn begin(&self) -> &'static str {
        match self.rows {
            SourceRows::All => "begin isolation level read committed, read only",
            SourceRows::Visible => {
                "begin isolation level read committed, read only; set local row_security = on"
            }
        }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) const fn rows(&self) -> SourceRows {
        self.rows
    }

    /// Locks what is read against being altered until the transaction of `begin` has ended, and
    /// makes sure that it still is what was planned: bytes of another type would otherwise be taken
    /// for the planned one's. Tells whose names are meant from then on.
    pub(super) async fn hold(
        &self,
        conn: &mut PgConnection,
        begin: Sql,
        relation: &Relation,
        columns: &[ColumnFacts],
    ) -> Result<Path, ConnectorError> {
        let endpoint = &self.endpoint;
        let failed = |error| classify(endpoint, &format!("read {relation}"), error);
        let begin = begin.text("; select ").text(PINNED).into_statement();
        let begun = conn.fetch_all(sqlx::raw_sql(begin)).await.map_err(failed)?;
        match begun.first().map(|row| row.try_get::<Option<String>, _>(0)) {
            Some(Ok(Some(pinned))) if pinned == "source" => (),
            _ => return Err(transaction_pooling(endpoint)),
        }
        // Only what is read under the lock stays true.
        let table = match relation {
            Relation::Table(name) => self.hold_table(conn, name).await?,
            Relation::Query(_) => self.hold_query(conn, relation).await?,
        };
        columns
            .iter()
            .try_for_each(|column| still_planned(endpoint, relation, &table, column))?;
        // A view's functions find what they find for the role itself. Names inside of values stay
        // whole.
        let is_read = |column: &Column| {
            let name = &column.facts.name;
            columns.iter().any(|read| read.source_name() == name)
        };
        let prints_names = still_cast(conn, endpoint, relation, columns).await?
            || table
                .columns
                .iter()
                .any(|column| column.prints_names && is_read(column));
        if !prints_names || relation.query().is_some() {
            set_path(conn, Path::Own).await.map_err(failed)?;
            return Ok(Path::Own);
        }
        Ok(Path::Catalog)
    }

    async fn hold_table(
        &self,
        conn: &mut PgConnection,
        name: &TableName,
    ) -> Result<Table, ConnectorError> {
        let failed = |error| classify(&self.endpoint, &format!("read {name}"), error);
        let lock = Sql::new(Dialect::Postgres, "select from ")
            .table(name)
            .text(" limit 0");
        let Err(error) = conn.execute(sqlx::raw_sql(lock.into_statement())).await else {
            return source_table(conn, &self.endpoint, name).await;
        };
        conn.execute("rollback").await.map_err(failed)?;
        if is_missing_relation(&error) {
            return Err(unknown_table(conn, &self.endpoint, name).await);
        }
        Err(match policies::is_filtered(conn, name, &error).await {
            true => hidden_rows(conn, &self.endpoint, &name.clone().into()).await,
            false => failed(error),
        })
    }

    async fn hold_query(
        &self,
        conn: &mut PgConnection,
        relation: &Relation,
    ) -> Result<Table, ConnectorError> {
        let failed = |error| classify(&self.endpoint, &format!("read {relation}"), error);
        let Err(error) = query::touch(conn, relation).await else {
            return query::describe(conn, &self.endpoint, relation).await;
        };
        conn.execute("rollback").await.map_err(failed)?;
        Err(match query::is_filtered(conn, relation, &error).await {
            true => hidden_rows(conn, &self.endpoint, relation).await,
            false => query::refused(&self.endpoint, relation, error),
        })
    }
}

fn still_planned(
    endpoint: &Endpoint,
    name: &Relation,
    table: &Table,
    planned: &ColumnFacts,
) -> Result<(), ConnectorError> {
    let column = planned.source_name();
    let Some(found) = table.column(column) else {
        return Err(unknown_column(endpoint, name, table, column));
    };
    let (type_name, definition) = planned
        .cast_from()
        .map_or((&planned.type_name, &planned.definition), |from| {
            (&from.type_name, &from.definition)
        });
    if found.facts.type_name == *type_name && found.facts.definition == *definition {
        return Ok(());
    }
    let message = if found.facts.type_name == *type_name {
        format!(
            "column {column} of {name} on {endpoint} is {type_name}, whose definition has changed \
             since the run was planned; plan anew with --new"
        )
    } else {
        format!(
            "column {column} of {name} on {endpoint} was {type_name} when the run was planned and \
             is {} now; plan anew with --new",
            found.facts.type_name
        )
    };
    Err(permanent(ErrorCode::SchemaChanged, message))
}

/// How rows of a table come by COPY, in a transaction that holds it.
pub(super) fn copy_order(
    endpoint: &Endpoint,
    request: &ReadRequest,
    relation: &Relation,
    pages: Pages,
) -> CopyOrder {
    let rows = match pages {
        Pages::ALL => request.rows.to_string(),
        some => some.to_string(),
    };
    CopyOrder {
        endpoint: endpoint.clone(),
        what: format!("{rows} of {relation}"),
        statement: copy_statement(request, relation, pages),
        format: request.format,
        columns: request.columns.clone(),
    }
}

fn copy_statement(request: &ReadRequest, relation: &Relation, pages: Pages) -> String {
    let copy = Sql::new(Dialect::Postgres, "copy (select ");
    let columns = request.columns.iter().enumerate();
    let select = columns.fold(copy, |sql, (at, column)| {
        let sql = if at > 0 { sql.text(", ") } else { sql };
        match column.cast_from() {
            Some(_) => read_column(sql, column.source_name(), column),
            None => sql.name(column.source_name()),
        }
    });
    let select = select.text(" from ").relation(relation);
    let select = match &request.rows {
        Rows::All => in_pages(select, pages),
        Rows::Slice(of) => {
            let only = select.text(" where ");
            only.slice(&of.column, of.form, &of.slice)
        }
        Rows::Placed(of) => select.text(" where ").placed(&of.placing, &of.slice),
    };
    let copy = match request.format {
        RowFormat::CopyBinary => select.text(") to stdout (format binary)"),
        RowFormat::CopyText | RowFormat::Values => select.text(") to stdout (format text)"),
    };
    copy.as_str().to_owned()
}

fn in_pages(select: Sql, pages: Pages) -> Sql {
    let page = |select: Sql, page: u64| {
        let page = i64::try_from(page).unwrap_or(i64::MAX);
        select.text("'(").integer(page).text(",0)'::pg_catalog.tid")
    };
    match pages {
        Pages::ALL => select,
        Pages { start, end: None } => page(select.text(" where ctid >= "), start),
        Pages {
            start,
            end: Some(end),
        } => {
            let from = page(select.text(" where ctid >= "), start);
            page(from.text(" and ctid < "), end)
        }
    }
}
