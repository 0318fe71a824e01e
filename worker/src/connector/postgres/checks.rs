//! Answers for the checks of a step, each within a savepoint that is undone: what it asks may be
//! anybody's SQL, and neither writes nor leaves a setting behind.

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::check::Found;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{TableName, query_about};
use sqlx::{Executor, PgConnection, Row};

use super::catalog::qualified;
use super::data::{OpenTx, not_held, only};
use super::errors::{classify, permanent};
use super::pins::OWN_PATH;
use super::session::{Endpoint, SessionRole};
use super::target::PostgresTarget;
use crate::connector::sql_text::{Dialect, Sql, quoted_table};
use crate::connector::{CheckRequest, CheckTx, Checks, ConnectorError, Question, Rows};

#[async_trait]
impl CheckTx for OpenTx {
    async fn ask(&mut self, request: &CheckRequest) -> Result<Found, ConnectorError> {
        let held = self.held.as_ref().ok_or_else(not_held)?;
        let session = &mut self.session;
        ask(&mut session.conn, &session.endpoint, &held.table, request).await
    }
}

#[async_trait]
impl Checks for PostgresTarget {
    async fn ask(&self, request: &CheckRequest) -> Result<Found, ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open_or_take(SessionRole::Target).await?;
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let failed = |error| classify(endpoint, &format!("check {table}"), error);
        let begin = "begin isolation level read committed, read only";
        conn.execute(begin).await.map_err(failed)?;
        let found = ask(&mut conn, endpoint, &table, request).await?;
        conn.execute("rollback").await.map_err(failed)?;
        endpoint.keep_or_close(conn).await;
        Ok(found)
    }
}

/// Counts rows of a source, in the transaction that is open.
pub(super) async fn count(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
    rows: &[Rows],
    within: Duration,
) -> Result<u64, ConnectorError> {
    let request = CheckRequest {
        table: table.clone(),
        question: Question::Rows(rows.to_vec()),
        within,
    };
    match ask(conn, endpoint, table, &request).await? {
        Found::Rows(rows) => Ok(rows),
        other => Err(permanent(
            ErrorCode::DriverError,
            format!("a count answers {other:?}"),
        )),
    }
}

/// Answers in the transaction that is open. After an error it can only be rolled back.
async fn ask(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
    request: &CheckRequest,
) -> Result<Found, ConnectorError> {
    let failed = |error| classify(endpoint, &format!("check {table}"), error);
    let millis = i64::try_from(request.within.as_millis()).unwrap_or(i64::MAX);
    let begin = Sql::new(
        Dialect::Postgres,
        "savepoint highwater_check; set local transaction_read_only = on; set local \
         statement_timeout = ",
    );
    let begin = begin.integer(millis).text("; select ").text(OWN_PATH);
    let begun = conn.execute(sqlx::raw_sql(begin.into_statement())).await;
    begun.map_err(failed)?;
    let found = answer(conn, table, &request.question).await;
    let found = found.map_err(failed)?;
    let undo = "rollback to savepoint highwater_check; release savepoint highwater_check";
    let undone = conn.execute(sqlx::raw_sql(undo)).await;
    undone.map_err(failed)?;
    Ok(found)
}

async fn answer(
    conn: &mut PgConnection,
    table: &TableName,
    question: &Question,
) -> Result<Found, sqlx::Error> {
    match question {
        Question::Rows(kinds) => {
            let mut all: u64 = 0;
            for rows in kinds {
                let count = Sql::new(Dialect::Postgres, "select count(*) from ").table(table);
                all = all.saturating_add(number(conn, only(count, rows)).await?);
            }
            Ok(Found::Rows(all))
        }
        Question::Nulls(columns) => {
            let select = Sql::new(Dialect::Postgres, "select count(*) from ").table(table);
            let nulls = each(select.text(" where "), columns, " or ", " is null");
            number(conn, nulls).await.map(Found::Nulls)
        }
        Question::Shared(columns) => {
            let select = Sql::new(Dialect::Postgres, "select count(*) from (select from ");
            let select = select.table(table).text(" where ");
            let shared = each(select, columns, " and ", " is not null").text(" group by ");
            let shared = shared.names(columns.iter().map(String::as_str));
            let shared = shared.text(" having count(*) > 1) shared");
            number(conn, shared).await.map(Found::Shared)
        }
        Question::Query(sql) => {
            let query = query_about(sql, &quoted_table(table));
            let answer = Sql::new(Dialect::Postgres, "select * from ").query(&query);
            let answer = answer.text(" highwater_check limit 2").into_statement();
            let rows = sqlx::query(answer)
                .persistent(false)
                .fetch_all(conn)
                .await?;
            Ok(match rows.as_slice() {
                [] => Found::Odd("no row"),
                [row] if row.len() != 1 => Found::Odd("a row of several columns"),
                [row] => row
                    .try_get(0)
                    .map_or(Found::Odd("a value that is no boolean"), Found::Truth),
                [_, _, ..] => Found::Odd("several rows"),
            })
        }
    }
}

async fn number(conn: &mut PgConnection, select: Sql) -> Result<u64, sqlx::Error> {
    let count = sqlx::query_scalar::<_, i64>(select.into_statement()).persistent(false);
    Ok(u64::try_from(count.fetch_one(conn).await?).unwrap_or(0))
}

/// A condition on each of the columns.
fn each(sql: Sql, columns: &[String], between: &'static str, is: &'static str) -> Sql {
    columns.iter().enumerate().fold(sql, |sql, (at, column)| {
        let sql = if at > 0 { sql.text(between) } else { sql };
        sql.name(column).text(is)
    })
}
