//! Removing rows in a data transaction of PostgreSQL: the keys that the source has come by COPY into a
//! table of the transaction's own, and the server finds the rows that none of them names.

use async_trait::async_trait;
use highwater_common::spec::TableName;
use sqlx::Executor;

use super::data::{OpenTx, copy_statement, not_held, only};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{Compared, ConnectorError, ReconcileTx, RowStream, Rows, WriteRequest};

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
        let make = Sql::new(Dialect::Postgres, "create temp table highwater_keys")
            .text(" on commit drop as select ")
            .names(request.merge_by.key.iter().map(String::as_str))
            .text(" from ")
            .table(&table)
            .text(" with no data");
        let made = sqlx::raw_sql(make.into_statement());
        self.session.conn.execute(made).await.map_err(&failed)?;
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
        // The next range of the transaction finds the name free.
        let drop = self
            .session
            .conn
            .execute("drop table pg_temp.highwater_keys");
        drop.await.map_err(&failed)?;
        Ok(Compared {
            came,
            held: u64::try_from(held).unwrap_or(0),
            gone: removed.rows_affected(),
        })
    }
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
    let mut sql = only(sql, &request.rows).text(match &request.rows {
        Rows::All => " where not exists (select from ",
        Rows::Slice(_) | Rows::Placed(_) => " and not exists (select from ",
    });
    sql = sql.text(KEYS).text(" as came where ");
    for (at, name) in by.key.iter().enumerate() {
        sql = sql
            .text(if at > 0 { " and held." } else { "held." })
            .name(name)
            .text(" = came.")
            .name(name);
    }
    sql = sql.text(")");
    for name in &by.key {
        sql = sql.text(" and held.").name(name).text(" is not null");
    }
    match &by.marks {
        None => sql,
        Some(marks) => sql.text(" and held.").name(marks).text(" is null"),
    }
}
