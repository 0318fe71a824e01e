//! Answers for the checks of a step. What they ask may be anybody's SQL: it neither writes nor runs
//! for longer than it may.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use highwater_common::assignment::ErrorClass;
use highwater_common::check::Found;
use highwater_common::error_code::ErrorCode;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::errors::DatabaseFile;
use super::session::Session;
use super::transaction::SqliteTx;
use super::{position, sql};
use crate::connector::{CheckRequest, CheckTx, ConnectorError, Question};

#[async_trait]
impl CheckTx for SqliteTx {
    async fn ask(&mut self, request: &CheckRequest) -> Result<Found, ConnectorError> {
        let table = self.held()?.sql.clone();
        let place = self.attempt.place.clone();
        ask(&mut self.session, &place, &table, request).await
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
    }
}
