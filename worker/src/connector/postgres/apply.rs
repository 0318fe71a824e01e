//! Applying the changes of a log in a data transaction of PostgreSQL: by COPY into a table of the
//! transaction's own, and from there into the table.

use async_trait::async_trait;
use highwater_common::error_code::ErrorCode;
use highwater_common::log::mark_text;
use highwater_common::spec::TableName;
use sqlx::Executor;

use super::data::{OpenTx, not_held};
use super::errors::permanent;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ApplyTx, ConnectorError, RowFormat, RowStream, WriteRequest};

/// Where rows wait.
const STAGE: &str = "pg_temp.highwater_changes";

#[async_trait]
impl ApplyTx for OpenTx {
    async fn mark(&mut self) -> Result<(), ConnectorError> {
        self.say("savepoint highwater_changes").await
    }

    async fn keep(&mut self) -> Result<(), ConnectorError> {
        self.say("release savepoint highwater_changes").await
    }

    async fn back(&mut self) -> Result<(), ConnectorError> {
        self.say("rollback to savepoint highwater_changes; release savepoint highwater_changes")
            .await
    }

    async fn remove(
        &mut self,
        request: &WriteRequest,
        keys: &mut dyn RowStream,
    ) -> Result<(), ConnectorError> {
        let table = self.held_table()?;
        let key = names(&request.merge_by.key);
        self.stage(&table, &[], &key, keys).await?;
        let delete = Sql::new(Dialect::Postgres, "delete from ")
            .table(&table)
            .text(" as held using ")
            .text(STAGE)
            .text(" as came where ");
        let delete = equal(delete, "held", &key, |_, name| Name::Same(name));
        self.finish(&table, [delete]).await
    }

    async fn update(
        &mut self,
        request: &WriteRequest,
        columns: &[usize],
        rows: &mut dyn RowStream,
    ) -> Result<(), ConnectorError> {
        let table = self.held_table()?;
        let (key, columns) = (names(&request.merge_by.key), named(request, columns));
        self.stage(&table, &[], &columns, rows).await?;
        let update = update(&table, &key, &columns);
        self.finish(&table, update).await
    }

    async fn change_key(
        &mut self,
        request: &WriteRequest,
        columns: &[usize],
        marks: Option<&str>,
        rows: &mut dyn RowStream,
    ) -> Result<(), ConnectorError> {
        let table = self.held_table()?;
        let (key, columns) = (names(&request.merge_by.key), named(request, columns));
        self.stage(&table, &key, &columns, rows).await?;
        if let Some(marks) = marks {
            self.make_room(&table, &key, marks).await?;
        }
        self.check_moves(&table, &key).await?;
        let came = |sql: Sql| sql.text(STAGE).text(" as came");
        let former = |sql: Sql| equal(sql, "held", &key, |at, _| Name::Former(at));
        let moved = Sql::new(Dialect::Postgres, "update ")
            .table(&table)
            .text(" as held set ");
        let moved = former(came(set(moved, &key).text(" from ")).text(" where "));
        let since = update(&table, &key, &columns);
        let statements = [moved].into_iter().chain(since);
        self.finish(&table, statements).await
    }

    async fn empty(&mut self) -> Result<(), ConnectorError> {
        let table = self.held_table()?;
        let delete = Sql::new(Dialect::Postgres, "delete from ").table(&table);
        let failed = self.session.failed(&format!("empty {table}"));
        let deleted = sqlx::raw_sql(delete.into_statement());
        let deleted = self.session.conn.execute(deleted).await;
        deleted.map(drop).map_err(failed)
    }

    async fn mark_all(&mut self, marks: &str, at: i64) -> Result<(), ConnectorError> {
        let table = self.held_table()?;
        let update = Sql::new(Dialect::Postgres, "update ")
            .table(&table)
            .text(" set ")
            .name(marks)
            .text(" = ")
            .literal(&mark_text(at))
            .text(" where ")
            .name(marks)
            .text(" is null");
        let failed = self.session.failed(&format!("mark the rows of {table}"));
        let marked = sqlx::raw_sql(update.into_statement());
        let marked = self.session.conn.execute(marked).await;
        marked.map(drop).map_err(failed)
    }
}

impl OpenTx {
    fn held_table(&self) -> Result<TableName, ConnectorError> {
        let held = self.held.as_ref().map(|held| held.table.clone());
        held.ok_or_else(not_held)
    }

    async fn say(&mut self, statement: &'static str) -> Result<(), ConnectorError> {
        let failed = self.session.failed("apply changes");
        let said = self.session.conn.execute(sqlx::raw_sql(statement)).await;
        said.map(drop).map_err(failed)
    }

    /// Stages rows of these columns, behind those of a `former` key.
    async fn stage(
        &mut self,
        table: &TableName,
        former: &[&str],
        columns: &[&str],
        rows: &mut dyn RowStream,
    ) -> Result<(), ConnectorError> {
        let what = format!("apply changes to {table}");
        let mut make = Sql::new(
            Dialect::Postgres,
            "create temp table highwater_changes on commit drop as select ",
        );
        let (mut names, all) = (Vec::new(), former.len() + columns.len());
        for (at, name) in former.iter().chain(columns).enumerate() {
            // The key is there twice, as it was and as it is.
            let own = match at < former.len() {
                true => former_name(at),
                false => (*name).to_owned(),
            };
            make = make.name(name).text(" as ").name(&own);
            make = make.text(if at + 1 < all { ", " } else { "" });
            names.push(own);
        }
        let make = make.text(" from ").table(table).text(" with no data");
        let failed = self.session.failed(&what);
        let made = sqlx::raw_sql(make.into_statement());
        self.session.conn.execute(made).await.map_err(failed)?;
        let copy = Sql::new(Dialect::Postgres, "copy ")
            .text(STAGE)
            .text(" (")
            .names(names.iter().map(String::as_str))
            .text(") from stdin (format text)");
        self.copy(&what, copy.as_str(), RowFormat::CopyText, rows)
            .await
            .map(drop)
    }

    /// Deletes the marked row that has the new key of a row that is there: in the source no row had it
    /// when that one took it.
    async fn make_room(
        &mut self,
        table: &TableName,
        key: &[&str],
        marks: &str,
    ) -> Result<(), ConnectorError> {
        let delete = Sql::new(Dialect::Postgres, "delete from ")
            .table(table)
            .text(" as dead using ")
            .text(STAGE)
            .text(" as came where dead.")
            .name(marks)
            .text(" is not null and ");
        let delete = equal(delete, "dead", key, |_, name| Name::Same(name));
        let delete = equal(delete.text(" and not ("), "dead", key, |at, _| {
            Name::Former(at)
        });
        let delete = delete.text(") and exists (select from ").table(table);
        let delete = equal(delete.text(" as held where "), "held", key, |at, _| {
            Name::Former(at)
        });
        let failed = self.session.failed(&format!("apply changes to {table}"));
        let deleted = sqlx::raw_sql(delete.text(")").into_statement());
        let deleted = self.session.conn.execute(deleted).await;
        deleted.map(drop).map_err(failed)
    }

    /// Makes sure that the rows whose keys change are the ones that the source had: each is there, or
    /// has its new key already, and no other row has that. Their large values are not in the log, and
    /// another row's must not be taken for theirs.
    async fn check_moves(&mut self, table: &TableName, key: &[&str]) -> Result<(), ConnectorError> {
        let there = |sql: Sql| {
            let sql = sql
                .text("exists (select from ")
                .table(table)
                .text(" as held where ");
            equal(sql, "held", key, |at, _| Name::Former(at)).text(")")
        };
        let taken = |sql: Sql| {
            let sql = sql
                .text("exists (select from ")
                .table(table)
                .text(" as other where ");
            let sql = equal(sql, "other", key, |_, name| Name::Same(name)).text(" and not (");
            equal(sql, "other", key, |at, _| Name::Former(at)).text("))")
        };
        let count = Sql::new(Dialect::Postgres, "select count(*) from ")
            .text(STAGE)
            .text(" as came where (");
        let count = taken(there(count).text(" and ")).text(") or not (");
        let count = taken(there(count).text(" or ")).text(")");
        let failed = self.session.failed(&format!("apply changes to {table}"));
        let strange = sqlx::query_scalar::<_, i64>(count.into_statement()).persistent(false);
        let strange = strange.fetch_one(&mut self.session.conn).await;
        match strange.map_err(failed)? {
            0 => Ok(()),
            rows => {
                let message = format!(
                    "the keys of {rows} rows of {table} on {} change in the log, which leaves out large \
                     values of theirs that stay, and the table does not have these rows as the source \
                     had: some changed while the table was copied, or somebody else writes. Nothing was \
                     kept. `alter table … replica identity full` in the source, and `highwater cdc \
                     resync FILE STEP --reason TEXT`",
                    self.session.endpoint
                );
                Err(permanent(ErrorCode::LogMismatch, message))
            }
        }
    }

    /// Runs what reads the stage, and drops it.
    async fn finish(
        &mut self,
        table: &TableName,
        statements: impl IntoIterator<Item = Sql> + Send,
    ) -> Result<(), ConnectorError> {
        let failed = self.session.failed(&format!("apply changes to {table}"));
        let mut script = Sql::new(Dialect::Postgres, "");
        for statement in statements {
            script = script.sql(&statement).text("; ");
        }
        let script = script.text("drop table ").text(STAGE);
        let run = sqlx::raw_sql(script.into_statement());
        let run = self.session.conn.execute(run).await;
        run.map(drop).map_err(failed)
    }
}

fn names(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn named<'r>(request: &'r WriteRequest, columns: &[usize]) -> Vec<&'r str> {
    let column = |at: &usize| request.columns.get(*at);
    let columns = columns.iter().filter_map(column);
    columns.map(|column| column.name.as_str()).collect()
}

/// What a staged column is called.
enum Name<'a> {
    Same(&'a str),
    Former(usize),
}

/// The staged name of a part of a former key.
fn former_name(at: usize) -> String {
    format!("highwater former key {at}")
}

/// That a row has the staged key.
fn equal<'a>(
    mut sql: Sql,
    row: &'static str,
    key: &[&'a str],
    staged: impl Fn(usize, &'a str) -> Name<'a>,
) -> Sql {
    for (at, name) in key.iter().enumerate() {
        sql = sql
            .text(if at > 0 { " and " } else { "" })
            .text(row)
            .text(".")
            .name(name)
            .text(" = came.");
        sql = match staged(at, name) {
            Name::Same(name) => sql.name(name),
            Name::Former(at) => sql.name(&former_name(at)),
        };
    }
    sql
}

/// Columns set to what is staged.
fn set(mut sql: Sql, columns: &[&str]) -> Sql {
    for (at, name) in columns.iter().enumerate() {
        sql = sql
            .text(if at > 0 { ", " } else { "" })
            .name(name)
            .text(" = came.")
            .name(name);
    }
    sql
}

/// The staged columns but for the key, into the rows that have it; nothing where there are none.
fn update(table: &TableName, key: &[&str], columns: &[&str]) -> Option<Sql> {
    let others = columns.iter().filter(|name| !key.contains(name));
    let others: Vec<&str> = others.copied().collect();
    if others.is_empty() {
        return None;
    }
    let update = Sql::new(Dialect::Postgres, "update ")
        .table(table)
        .text(" as held set ");
    let update = set(update, &others)
        .text(" from ")
        .text(STAGE)
        .text(" as came where ");
    Some(equal(update, "held", key, |_, name| Name::Same(name)))
}
