//! Answers for the checks of a step. What they ask may be anybody's SQL: it neither writes nor runs
//! for longer than it may.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use highwater_common::assignment::ErrorClass;
use highwater_common::check::Found;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{TableName, query_about};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, TypeInfo, ValueRef};

use super::errors::DatabaseFile;
use super::session::{Purpose, Session};
use super::target::SqliteTarget;
use super::transaction::SqliteTx;
use super::{catalog, position, sql};
use crate::connector::{CheckRequest, CheckTx, Checks, ConnectorError, Question, Rows};

#[async_trait]
impl CheckTx for SqliteTx {
    async fn ask(&mut self, request: &CheckRequest) -> Result<Found, ConnectorError> {
        let table = self.held()?.sql.clone();
        let place = self.attempt.place.clone();
        ask(&mut self.session, &place, &table, request).await
    }
}

#[async_trait]
impl Checks for SqliteTarget {
    async fn ask(&self, request: &CheckRequest) -> Result<Found, ConnectorError> {
        let mut session = Session::open(self.place(), Purpose::Write).await?;
        let found = async {
            catalog::existing(session.conn(), self.place(), &request.table).await?;
            ask(
                &mut session,
                self.place(),
                &sql::table(&request.table),
                request,
            )
            .await
        }
        .await;
        session.close().await;
        found
    }
}

/// Counts rows of a source.
pub(super) async fn count(
    session: &mut Session,
    place: &DatabaseFile,
    table: &TableName,
    rows: &[Rows],
    within: Duration,
) -> Result<u64, ConnectorError> {
    let request = CheckRequest {
        table: table.clone(),
        question: Question::Rows(rows.to_vec()),
        within,
    };
    match ask(session, place, &sql::table(table), &request).await? {
        Found::Rows(rows) => Ok(rows),
        other => Err(place.permanent(ErrorCode::DriverError, format!("a count answers {other:?}"))),
    }
}

/// Answers; after an error the session is of no more use.
async fn ask(
    session: &mut Session,
    place: &DatabaseFile,
    table: &str,
    request: &CheckRequest,
) -> Result<Found, ConnectorError> {
    let abandon = session.abandon_flag();
    let conn = session.conn();
    let asked = async {
        sql::run(conn, sqlx::query("pragma query_only = on")).await?;
        let found = answer(conn, table, &request.question).await?;
        sql::run(conn, sqlx::query("pragma query_only = off")).await?;
        Ok(found)
    };
    let what = format!("check {}", request.table);
    match tokio::time::timeout(request.within, asked).await {
        Ok(found) => found.map_err(place.failed(what)),
        Err(_) => {
            abandon.store(true, Ordering::Relaxed);
            let (class, code) = (ErrorClass::Resource, ErrorCode::StatementTimeout);
            let message = format!("cannot {what}: no answer within {:?}", request.within);
            Err(place.error(class, code, message))
        }
    }
}

async fn answer(
    conn: &mut SqliteConnection,
    table: &str,
    question: &Question,
) -> Result<Found, sqlx::Error> {
    match question {
        Question::Rows(kinds) => {
            let mut all: u64 = 0;
            for rows in kinds {
                let only = position::of_rows(rows);
                let text = format!("select count(*) from {table} where {}", only.text);
                let found = sql::bound(text, &only).fetch_one(&mut *conn).await?;
                let count = u64::try_from(found.get::<i64, _>(0)).unwrap_or(0);
                all = all.saturating_add(count);
            }
            Ok(Found::Rows(all))
        }
        Question::Nulls(columns) => {
            let nulls = each(columns, " or ", "is null");
            let text = format!("select count(*) from {table} where {nulls}");
            number(conn, text).await.map(Found::Nulls)
        }
        Question::Shared(columns) => {
            let there = each(columns, " and ", "is not null");
            let by = sql::idents(columns.iter().map(String::as_str));
            let text = format!(
                "select count(*) from (select 1 from {table} where {there} group by {by} having \
                 count(*) > 1)"
            );
            number(conn, text).await.map(Found::Shared)
        }
        Question::Query(query) => {
            let text = format!("select * from (\n{}\n) limit 2", query_about(query, table));
            let rows = sql::once(text).fetch_all(conn).await?;
            Ok(match rows.as_slice() {
                [] => Found::Odd("no row"),
                [row] if row.len() != 1 => Found::Odd("a row of several columns"),
                [row] => match row.try_get_unchecked::<Option<i64>, _>(0) {
                    Ok(None) => Found::Truth(None),
                    Ok(Some(0)) if is_whole(row) => Found::Truth(Some(false)),
                    Ok(Some(1)) if is_whole(row) => Found::Truth(Some(true)),
                    Ok(Some(_)) | Err(_) => Found::Odd("a value that is neither 1 nor 0"),
                },
                [_, _, ..] => Found::Odd("several rows"),
            })
        }
    }
}

/// SQLite makes a number of everything, a text included.
fn is_whole(row: &SqliteRow) -> bool {
    row.try_get_raw(0)
        .is_ok_and(|value| matches!(value.type_info().name(), "INTEGER" | "BOOLEAN"))
}

async fn number(conn: &mut SqliteConnection, text: String) -> Result<u64, sqlx::Error> {
    let found = sql::once(text).fetch_one(conn).await?;
    Ok(u64::try_from(found.get::<i64, _>(0)).unwrap_or(0))
}

/// A condition on each of the columns.
fn each(columns: &[String], between: &str, is: &str) -> String {
    let conditions = columns
        .iter()
        .map(|column| format!("{} {is}", sql::ident(column)));
    conditions.collect::<Vec<_>>().join(between)
}
