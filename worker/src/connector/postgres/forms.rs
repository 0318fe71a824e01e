//! How a target's partition column holds positions: as values of its own type, or as text or
//! numbers that stand for times. Never reads a whole table: it looks at a sample of the rows, the
//! first and the last among them.

use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, CursorForm};
use highwater_common::spec::TableName;
use sqlx::PgConnection;

use super::columns::Column;
use super::errors::{classify, permanent};
use super::session::Endpoint;
use crate::connector::position::{common_form, epoch_form};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, Value};

/// Rows looked at beside the first and the last.
const SAMPLE_ROWS: i64 = 10_000;
/// Letters of a text looked at: more than any form of a time has.
const SAMPLE_LETTERS: i64 = 40;

/// The form of the positions of `kind` in a column of a target; `None` when its type could hold
/// them in more than one form and it holds none yet, and when its type cannot hold them.
pub(super) async fn position_form(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
    column: &Column,
    kind: CursorKind,
) -> Result<Option<CursorForm>, ConnectorError> {
    if let Some(form) = form_of_type(column, kind) {
        return Ok(Some(form));
    }
    let name = &column.facts.name;
    let failed = |error| classify(endpoint, &format!("look at {name} of {table}"), error);
    match (column.facts.kind, kind) {
        (_, CursorKind::Integer | CursorKind::Placed(_)) => Ok(None),
        (ColumnKind::Text, CursorKind::Instant | CursorKind::Civil | CursorKind::Date) => {
            let values = sample(conn, table, name).await.map_err(failed)?;
            match common_form(&values) {
                Ok(form) => Ok(form.map(|(_, form)| form)),
                Err(_) => Err(permanent(
                    ErrorCode::PartitionForm,
                    format!(
                        "column {name} of the target table {table} on {endpoint} holds texts of \
                         several forms, or no times, so that its ranges cannot be replaced; bring \
                         them to one form, or load another table"
                    ),
                )),
            }
        }
        (ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64, CursorKind::Instant) => {
            match ends(conn, table, name).await.map_err(failed)? {
                (Some(min), Some(max)) => epoch_form(min, max).map(Some).ok_or_else(|| {
                    let message = format!(
                        "column {name} of the target table {table} on {endpoint} holds {min} to \
                         {max}: neither seconds nor milliseconds since 1970 throughout"
                    );
                    permanent(ErrorCode::PartitionForm, message)
                }),
                (None, _) | (_, None) => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

/// The form in which the server itself compares the column with bounds of the kind, if it does.
fn form_of_type(column: &Column, kind: CursorKind) -> Option<CursorForm> {
    match column.position? {
        (own, form) if own == kind => Some(form),
        // A day is compared with a civil time as its first moment.
        (CursorKind::Civil, form) if kind == CursorKind::Date => Some(form),
        (
            CursorKind::Integer
            | CursorKind::Instant
            | CursorKind::Civil
            | CursorKind::Date
            | CursorKind::Placed(_),
            _,
        ) => None,
    }
}

async fn sample(
    conn: &mut PgConnection,
    table: &TableName,
    column: &str,
) -> Result<Vec<Value>, sqlx::Error> {
    let end = |sql: Sql, function: &'static str| {
        let sql = sql
            .text(") union all (select ")
            .text(function)
            .text("(")
            .name(column);
        sql.text(" collate \"C\") from ").table(table)
    };
    let sql = Sql::new(Dialect::Postgres, "select left(v::text, ")
        .integer(SAMPLE_LETTERS)
        .text(") from ((select ");
    let sql = sql
        .name(column)
        .text(" as v from ")
        .table(table)
        .text(" where ")
        .name(column);
    let sql = end(
        end(sql.text(" is not null limit ").integer(SAMPLE_ROWS), "min"),
        "max",
    );
    let sql = sql.text(")) s where v is not null").into_statement();
    let texts = sqlx::query_scalar::<_, String>(sql)
        .persistent(false)
        .fetch_all(&mut *conn)
        .await?;
    Ok(texts.into_iter().map(Value::Text).collect())
}

async fn ends(
    conn: &mut PgConnection,
    table: &TableName,
    column: &str,
) -> Result<(Option<i64>, Option<i64>), sqlx::Error> {
    let sql = Sql::new(Dialect::Postgres, "select min(")
        .name(column)
        .text(")::int8, max(")
        .name(column);
    let sql = sql.text(")::int8 from ").table(table).into_statement();
    sqlx::query_as(sql)
        .persistent(false)
        .fetch_one(&mut *conn)
        .await
}
