//! Answers for the checks of a step, each within a savepoint that is undone: what it asks may be
//! anybody's SQL, and neither writes nor leaves a setting behind.

use async_trait::async_trait;
use highwater_common::check::Found;
use highwater_common::spec::TableName;
use sqlx::{Executor, PgConnection};

use super::data::{OpenTx, not_held, only};
use super::errors::classify;
use super::pins::OWN_PATH;
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{CheckRequest, CheckTx, ConnectorError, Question};

#[async_trait]
impl CheckTx for OpenTx {
    async fn ask(&mut self, request: &CheckRequest) -> Result<Found, ConnectorError> {
        let held = self.held.as_ref().ok_or_else(not_held)?;
        let session = &mut self.session;
        ask(&mut session.conn, &session.endpoint, &held.table, request).await
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
                let count = only(count, rows).into_statement();
                let count = sqlx::query_scalar::<_, i64>(count).persistent(false);
                let count = u64::try_from(count.fetch_one(&mut *conn).await?).unwrap_or(0);
                all = all.saturating_add(count);
            }
            Ok(Found::Rows(all))
        }
    }
}
