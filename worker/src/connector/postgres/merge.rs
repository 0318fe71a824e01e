//! Merging rows in a data transaction of PostgreSQL: by COPY into a table of the transaction's own,
//! and from there, the newest of each key, into the table.

use async_trait::async_trait;
use highwater_common::spec::TableName;
use sqlx::Executor;

use super::data::{OpenTx, copy_statement, not_held};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, MergeBy, MergeTx, Merged, RowStream, Rows, WriteRequest};

/// Where rows wait. It is dropped with its transaction.
const STAGE: &str = "pg_temp.highwater_stage";

#[async_trait]
impl MergeTx for OpenTx {
    async fn merge(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<Merged, ConnectorError> {
        let Some(held) = &self.held else {
            return Err(not_held());
        };
        let table = held.table.clone();
        let what = format!("merge {} into {table}", request.rows);
        let failed = self.session.failed(&what);
        let columns = || request.columns.iter().map(|column| column.name.as_str());
        let stage = Sql::new(Dialect::Postgres, "create temp table highwater_stage")
            .text(" on commit drop as select ")
            .names(columns())
            .text(" from ")
            .table(&table)
            .text(" with no data");
        let made = sqlx::raw_sql(stage.into_statement());
        self.session.conn.execute(made).await.map_err(&failed)?;
        let copy = copy_statement(request, Sql::new(Dialect::Postgres, "copy ").text(STAGE));
        let came = self.copy(&what, &copy, request.format, rows).await?;
        let whole = matches!(request.rows, Rows::All);
        if let Some(marks) = request.merge_by.marks.as_ref().filter(|_| whole) {
            let mark = mark_missing(&table, &request.merge_by.key, marks);
            let marked = sqlx::raw_sql(mark.into_statement());
            self.session.conn.execute(marked).await.map_err(&failed)?;
        }
        let names: Vec<&str> = columns().collect();
        let upsert = sqlx::raw_sql(upsert(&table, &names, &request.merge_by).into_statement());
        let written = self.session.conn.execute(upsert).await.map_err(&failed)?;
        // A second chunk of the transaction's session begins with the name free.
        let drop = self
            .session
            .conn
            .execute("drop table pg_temp.highwater_stage");
        drop.await.map_err(&failed)?;
        Ok(Merged {
            came,
            repeated: match is_each_row_written(&names, &request.merge_by) {
                true => came.saturating_sub(written.rows_affected()),
                false => 0,
            },
        })
    }
}

/// Whether the server tells of every key that came: without a cursor all of them are written, and
/// rows that are nothing but their key say nothing that another could contradict.
fn is_each_row_written(columns: &[&str], by: &MergeBy) -> bool {
    by.cursor.is_none() && columns.len() > by.key.len()
}

/// Marks the rows that are not staged, unless they are marked.
fn mark_missing(table: &TableName, key: &[String], marks: &str) -> Sql {
    let mut sql = Sql::new(Dialect::Postgres, "update ")
        .table(table)
        .text(" as held set ")
        .name(marks)
        .text(" = now() where held.")
        .name(marks)
        .text(" is null and not exists (select from ")
        .text(STAGE)
        .text(" as came where ");
    for (at, name) in key.iter().enumerate() {
        sql = sql
            .text(if at > 0 { " and held." } else { "held." })
            .name(name)
            .text(" = came.")
            .name(name);
    }
    sql.text(")")
}

/// The newest staged row of each key, into the table, unless the one that is there is newer.
fn upsert(table: &TableName, columns: &[&str], by: &MergeBy) -> Sql {
    let key = || by.key.iter().map(String::as_str);
    let mut sql = Sql::new(Dialect::Postgres, "insert into ")
        .table(table)
        .text(" as held (")
        .names(columns.iter().copied())
        .text(") overriding system value select distinct on (")
        .names(key())
        .text(") ")
        .names(columns.iter().copied())
        .text(" from ")
        .text(STAGE)
        .text(" order by ")
        .names(key());
    if let Some(cursor) = &by.cursor {
        sql = sql.text(", ").name(cursor).text(" desc nulls last");
    }
    sql = sql.text(" on conflict (").names(key()).text(")");
    let is_key = |column: &&&str| by.key.iter().any(|key| key == **column);
    let mut others = columns.iter().filter(|column| !is_key(column)).peekable();
    sql = match (&by.marks, others.peek()) {
        (None, None) => return sql.text(" do nothing"),
        (None, Some(_)) => sql.text(" do update set "),
        (Some(marks), more) => sql
            .text(" do update set ")
            .name(marks)
            .text(if more.is_some() {
                " = null, "
            } else {
                " = null"
            }),
    };
    for (at, column) in others.enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        sql = sql
            .text(comma)
            .name(column)
            .text(" = excluded.")
            .name(column);
    }
    match &by.cursor {
        None => sql,
        Some(cursor) => sql
            .text(" where held.")
            .name(cursor)
            .text(" is null or held.")
            .name(cursor)
            .text(" <= excluded.")
            .name(cursor),
    }
}
