//! Removing rows in a data transaction of PostgreSQL: the keys that the source has come by COPY into a
//! table of the transaction's own, and the server finds the rows that none of them names.

use async_trait::async_trait;
use highwater_common::spec::TableName;
use sqlx::Executor;

use super::data::{OpenTx, copy_statement, not_held, only};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{
    Compared, ConnectorError, MergeBy, ReconcileTx, RowStream, Rows, WriteRequest,
};

/// Where keys wait. It is dropped with its transaction.
const KEYS: &str = "pg_temp.highwater_keys";

#[async_trait]
impl ReconcileTx for OpenTx {
    async fn remove_missing(
        &mut self,
        request: &WriteRequest,
        keys: &mut dyn RowStream,
    ) -> Result<Compared, ConnectorError> {
        let Some(held) = &self.held else {
            return Err(not_held());
        };
        let table = held.table.clone();
        let what = format!("remove from {table} what the source has no more");
        let failed = self.session.failed(&what);
        let make = match self.has_keys {
            true => Sql::new(Dialect::Postgres, "truncate pg_temp.highwater_keys"),
            false => make(&table, request),
        };
        let made = sqlx::raw_sql(make.into_statement());
        self.session.conn.execute(made).await.map_err(&failed)?;
        self.has_keys = true;
        let copy = copy_statement(request, Sql::new(Dialect::Postgres, "copy ").text(KEYS));
        let came = self.copy(&what, &copy, request.format, keys).await?;
        // How many keys the server thinks there are decides how it compares them.
        let analyze = self.session.conn.execute("analyze pg_temp.highwater_keys");
        analyze.await.map_err(&failed)?;
        let living = sqlx::query_scalar::<_, i64>(living(&table, request).into_statement());
        let living = living.persistent(false);
        let held = living.fetch_one(&mut self.session.conn).await;
        let held = held.map_err(&failed)?;
        let remove = sqlx::raw_sql(remove(&table, request).into_statement());
        let removed = self.session.conn.execute(remove).await.map_err(&failed)?;
        if let Some(unmark) = unmark(&table, request) {
            let unmark = sqlx::raw_sql(unmark.into_statement());
            self.session.conn.execute(unmark).await.map_err(&failed)?;
        }
        Ok(Compared {
            came,
            held: u64::try_from(held).unwrap_or(0),
            gone: removed.rows_affected(),
        })
    }
}

/// Makes the table in which keys wait: one for all ranges of the transaction, for each that was ever made in it keeps
/// its locks. The transaction idles while the source is asked for its keys, for as long as that takes.
fn make(table: &TableName, request: &WriteRequest) -> Sql {
    let sql = "set local idle_in_transaction_session_timeout = 0; create temp table highwater_keys";
    Sql::new(Dialect::Postgres, sql)
        .text(" on commit drop as select ")
        .names(request.merge_by.key.iter().map(String::as_str))
        .text(" from ")
        .table(table)
        .text(" with no data")
}

/// Counts the rows that are compared.
fn living(table: &TableName, request: &WriteRequest) -> Sql {
    let count = Sql::new(Dialect::Postgres, "select count(*) from ").table(table);
    let count = only(count, &request.rows);
    match (&request.merge_by.marks, &request.rows) {
        (None, _) => count,
        (Some(marks), Rows::All) => count.text(" where ").name(marks).text(" is null"),
        (Some(marks), Rows::Slice(_) | Rows::Placed(_)) => {
            count.text(" and ").name(marks).text(" is null")
        }
    }
}

/// Removes the rows that no key names.
fn remove(table: &TableName, request: &WriteRequest) -> Sql {
    let by = &request.merge_by;
    let sql = match &by.marks {
        None => Sql::new(Dialect::Postgres, "delete from ")
            .table(table)
            .text(" as held"),
        Some(marks) => Sql::new(Dialect::Postgres, "update ")
            .table(table)
            .text(" as held set ")
            .name(marks)
            .text(" = now()"),
    };
    let mut sql = named_by_key(
        only(sql, &request.rows)
            .text(and(&request.rows))
            .text("not "),
        by,
    );
    for name in &by.key {
        sql = sql.text(" and held.").name(name).text(" is not null");
    }
    match &by.marks {
        None => sql,
        Some(marks) => sql.text(" and held.").name(marks).text(" is null"),
    }
}

/// Takes the mark off rows that a key names: they came back with a cursor value that no window brings.
fn unmark(table: &TableName, request: &WriteRequest) -> Option<Sql> {
    let by = &request.merge_by;
    let marks = by.marks.as_ref()?;
    let sql = Sql::new(Dialect::Postgres, "update ")
        .table(table)
        .text(" as held set ")
        .name(marks)
        .text(" = null");
    let sql = only(sql, &request.rows).text(and(&request.rows));
    let sql = sql.text("held.").name(marks).text(" is not null and ");
    Some(named_by_key(sql, by))
}

/// What comes before a condition behind [`only`].
const fn and(rows: &Rows) -> &'static str {
    match rows {
        Rows::All => " where ",
        Rows::Slice(_) | Rows::Placed(_) => " and ",
    }
}

/// Whether a key names the row that is held.
fn named_by_key(sql: Sql, by: &MergeBy) -> Sql {
    let mut sql = sql
        .text("exists (select from ")
        .text(KEYS)
        .text(" as came where ");
    for (at, name) in by.key.iter().enumerate() {
        sql = sql
            .text(if at > 0 { " and held." } else { "held." })
            .name(name)
            .text(" = came.")
            .name(name);
    }
    sql.text(")")
}
