//! Row level security: policies that would hide rows are an error, unless just the visible rows are
//! meant. Never takes an answer with rows missing for the whole table: sessions are pinned to
//! `row_security = off`, by which the server refuses a statement rather than filter it.

use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{Relation, SourceRows, TableName};
use sqlx::{Executor, PgConnection};

use super::errors::{classify, is_state, permanent};
use super::session::Endpoint;
use crate::connector::ConnectorError;
use crate::connector::sql_text::{Dialect, Sql};

pub(super) const MISSING_RIGHT: &str = "42501";

/// Makes the session see what is meant of the source's table, outside of a transaction. Answers
/// whether policies hide rows of it from the role.
///
/// # Errors
/// Permanent `row_level_security` when they do and all rows are meant.
pub(super) async fn look_at_source(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
    rows: SourceRows,
) -> Result<bool, ConnectorError> {
    let Err(error) = touch(conn, table).await else {
        return Ok(false);
    };
    if !is_filtered(conn, table, &error).await {
        return Err(classify(endpoint, &format!("read {table}"), error));
    }
    match rows {
        SourceRows::Visible => see_visible_rows(conn, endpoint).await.map(|()| true),
        SourceRows::All => Err(hidden_rows(conn, endpoint, &table.clone().into()).await),
    }
}

/// Makes the session see only the rows that policies let the role see.
pub(super) async fn see_visible_rows(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
) -> Result<(), ConnectorError> {
    let set = conn.execute("set row_security = on").await;
    set.map(drop)
        .map_err(|error| classify(endpoint, "see the visible rows", error))
}

/// Why a source's rows cannot be read whole, once the server has refused to.
pub(super) async fn hidden_rows(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &Relation,
) -> ConnectorError {
    let role = role(conn).await;
    let message = format!(
        "row level security of {table} on {endpoint} hides rows from {role}: read as its owner or \
         as a role with BYPASSRLS, or say `from.rows: visible` to load only the rows that {role} \
         may see"
    );
    permanent(ErrorCode::RowLevelSecurity, message)
}

/// Refuses a target whose policies hold for the role: rows that they hide can be neither found, nor
/// deleted, nor counted.
pub(super) async fn look_at_target(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
) -> Result<(), ConnectorError> {
    let Err(error) = touch(conn, table).await else {
        return Ok(());
    };
    if !is_filtered(conn, table, &error).await {
        return Err(classify(endpoint, &format!("read {table}"), error));
    }
    let role = role(conn).await;
    let message = format!(
        "row level security of {table} on {endpoint} holds for {role}: rows that it hides could be \
         neither replaced nor counted, and the server takes no COPY there; load as the table's \
         owner or as a role with BYPASSRLS"
    );
    Err(permanent(ErrorCode::RowLevelSecurity, message))
}

/// Whether the server refused because policies would hide rows, rather than for want of a right.
/// The two share one SQLSTATE, and their words are in the server's language: so it is asked with
/// the policies in force. Outside of a transaction.
pub(super) async fn is_filtered(
    conn: &mut PgConnection,
    table: &TableName,
    refused: &sqlx::Error,
) -> bool {
    if !is_state(refused, MISSING_RIGHT) {
        return false;
    }
    let allowed =
        conn.execute("set row_security = on").await.is_ok() && touch(conn, table).await.is_ok();
    conn.execute("set row_security = off").await.is_ok() && allowed
}

/// Reads no row, and is refused as a read of them would be.
async fn touch(conn: &mut PgConnection, table: &TableName) -> Result<(), sqlx::Error> {
    let touch = Sql::new(Dialect::Postgres, "select from ")
        .table(table)
        .text(" limit 0")
        .into_statement();
    conn.execute(sqlx::raw_sql(touch)).await.map(drop)
}

/// The session's role, for a message.
async fn role(conn: &mut PgConnection) -> String {
    sqlx::query_scalar::<_, String>("select current_user::text")
        .fetch_one(conn)
        .await
        .unwrap_or_else(|_| "the connection's role".to_owned())
}
