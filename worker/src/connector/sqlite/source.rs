//! The read side: facts of a table, and the rows of a slice.

mod probe;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, TableFacts};
use highwater_common::id::ConnectionName;
use highwater_common::left_out::LeftOut;
use highwater_common::spec::{Relation, TableName};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use probe::{COUNTED_ROWS_MAX, Probing, known};

use super::catalog;
use super::errors::DatabaseFile;
use super::query::readable;
use super::rows::{SqliteRows, value_of};
use super::session::{Purpose, Session};
use super::{checks, left_out, position, sql};
use crate::connector::{
    ConnectorError, LeftOutRequest, ReadRequest, RowFormat, RowStream, Rows, SliceRows, Source,
    SourceProbe, Surveys,
};
use crate::supervisor::Supervisor;

/// A SQLite file to read from. It is opened read-only, per read.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    place: DatabaseFile,
    supervisor: Supervisor,
}

impl SqliteSource {
    /// The file at `path`, which `connection` names in messages.
    #[must_use]
    pub fn new(path: PathBuf, connection: ConnectionName, supervisor: Supervisor) -> Self {
        Self {
            place: DatabaseFile::new(Path::new(&path), connection),
            supervisor,
        }
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn probe(&self, probe: &SourceProbe) -> Result<TableFacts, ConnectorError> {
        let mut session = Session::open(&self.place, Purpose::Read).await?;
        let facts = async {
            let conn = session.conn();
            let table = &readable(conn, &self.place, &probe.relation).await?;
            let place = &self.place;
            Probing {
                place,
                probe,
                table,
            }
            .facts(conn)
            .await
        }
        .await;
        session.close().await;
        facts
    }

    async fn count_left_out(&self, request: &LeftOutRequest) -> Result<LeftOut, ConnectorError> {
        let mut session = Session::open(&self.place, Purpose::Read).await?;
        let counted = self.left_out(session.conn(), request).await;
        session.close().await;
        counted
    }

    async fn read(&self, request: &ReadRequest) -> Result<Box<dyn RowStream>, ConnectorError> {
        match request.format {
            RowFormat::Values => {}
            RowFormat::CopyBinary | RowFormat::CopyText => {
                return Err(self.place.permanent(
                    ErrorCode::RowFormat,
                    "SQLite gives rows as typed values only",
                ));
            }
        }
        let mut session = Session::open(&self.place, Purpose::Read).await?;
        // Asked before the rows, so that a name that is gone is told by name and not by SQLite's
        // first complaint.
        let name = readable(session.conn(), &self.place, &request.relation).await?;
        let table = catalog::existing(session.conn(), &self.place, &name).await?;
        let by = request.rows.slice().map(|of| of.column.as_str());
        let read = request.columns.iter().map(ColumnFacts::source_name);
        for column in read.chain(by) {
            known(&self.place, &table, &request.relation, column)?;
        }
        if let Rows::Placed(of) = &request.rows
            && !of.are_all()
        {
            let message = "SQLite places no rows by itself; plan anew with --new";
            return Err(self
                .place
                .permanent(ErrorCode::UnsupportedPartitionColumn, message));
        }
        let condition = position::of_rows(&request.rows);
        Ok(Box::new(SqliteRows::begin(
            session,
            self.place.clone(),
            &self.supervisor,
            (request, &name),
            condition,
        )))
    }

    async fn count(
        &self,
        from: &Relation,
        rows: &[Rows],
        within: Duration,
    ) -> Result<u64, ConnectorError> {
        let mut session = Session::open(&self.place, Purpose::Read).await?;
        let counted = async {
            let table = readable(session.conn(), &self.place, from).await?;
            catalog::existing(session.conn(), &self.place, &table).await?;
            checks::count(&mut session, &self.place, &table, rows, within).await
        }
        .await;
        session.close().await;
        counted
    }

    fn surveys(&self) -> Option<&dyn Surveys> {
        Some(self)
    }

    async fn position_at(
        &self,
        table: &TableName,
        of: &SliceRows,
        kind: CursorKind,
        before: u64,
    ) -> Result<Option<Cursor>, ConnectorError> {
        let only = position::condition(&of.column, &of.slice, of.form);
        let (column, name) = (sql::ident(&of.column), sql::table(table));
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let text = format!(
            "select {column} from {name} where {} order by {column} limit 1 offset {before}",
            only.text
        );
        let mut session = Session::open(&self.place, Purpose::Read).await?;
        let found = sql::bound(text, &only).fetch_optional(session.conn()).await;
        let found = found.map_err(self.place.failed(format!("look into {table}")));
        let value = found.map(|row| row.and_then(|row| value_of(row.try_get_raw(0).ok()?).ok()));
        session.close().await;
        Ok(value?.and_then(|value| position::cursor(&value, kind, of.form)))
    }
}

impl SqliteSource {
    pub(super) const fn place(&self) -> &DatabaseFile {
        &self.place
    }

    async fn left_out(
        &self,
        conn: &mut SqliteConnection,
        request: &LeftOutRequest,
    ) -> Result<LeftOut, ConnectorError> {
        let table = catalog::existing(conn, &self.place, &request.table).await?;
        known(
            &self.place,
            &table,
            &request.table.clone().into(),
            &request.partition_column,
        )?;
        let is_cheap = table.leads_with(&request.partition_column) || {
            let largest = format!("select max(rowid) from {}", sql::table(&request.table));
            let failed = self
                .place
                .failed(format!("count the rows of {}", request.table));
            let largest: Option<i64> = match table.has_rowid {
                true => sql::once(largest)
                    .fetch_one(&mut *conn)
                    .await
                    .and_then(|row| row.try_get(0))
                    .map_err(failed)?,
                false => None,
            };
            largest.is_none_or(|largest| largest <= COUNTED_ROWS_MAX)
        };
        left_out::count(conn, &self.place, &table, request, is_cheap).await
    }
}
