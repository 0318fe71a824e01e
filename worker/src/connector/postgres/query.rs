//! A source that is a query: what it answers, held and counted. It is read as a table is, in a
//! transaction that only reads, and sees names as the role's own search path has them.

use std::time::Duration;

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{Engine, TableFacts};
use highwater_common::spec::{ColumnRules, Relation, SourceRows};
use sqlx::{Column as _, Connection, Executor, PgConnection, Row, SqlSafeStr, Statement};

use super::casts::cast_columns;
use super::catalog::{Table, unknown_column};
use super::columns::{Typed, typed};
use super::errors::{classify, is_state, permanent};
use super::pins::{Path, set_path};
use super::policies::{MISSING_RIGHT, hidden_rows, see_visible_rows};
use super::session::Endpoint;
use crate::connector::ConnectorError;
use crate::connector::sql_text::{Dialect, Sql, described_query};

const READ_ONLY: &str = "begin isolation level read committed, read only";
/// What a server says of a text that is no SELECT, of several, and of one that writes.
const NO_SELECT: [&str; 3] = ["42601", "0A000", "42P10"];
/// The name that the server gives a column without one.
const UNNAMED: &str = "?column?";

/// The facts of what a query answers.
pub(super) async fn probe_query(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
    rules: &ColumnRules,
    rows: SourceRows,
) -> Result<TableFacts, ConnectorError> {
    let failed = |error| classify(endpoint, &format!("read {relation}"), error);
    conn.execute(READ_ONLY).await.map_err(failed)?;
    let filtered = match touch(conn, relation).await {
        Ok(()) => false,
        Err(error) => {
            conn.execute("rollback").await.map_err(failed)?;
            if !is_filtered(conn, relation, &error).await {
                return Err(refused(endpoint, relation, error));
            }
            if rows == SourceRows::All {
                return Err(hidden_rows(conn, endpoint, relation).await);
            }
            see_visible_rows(conn, endpoint).await?;
            conn.execute(READ_ONLY).await.map_err(failed)?;
            true
        }
    };
    let table = describe(conn, endpoint, relation).await?;
    if let Some(name) = rules.named().find(|name| table.column(name).is_none()) {
        return Err(unknown_column(endpoint, relation, &table, name));
    }
    let is_read = |name: &String| !rules.exclude.contains(name);
    let columns = table.facts().filter(|column| is_read(&column.name));
    let columns = columns.cloned().collect();
    let columns = cast_columns(conn, endpoint, relation, columns, &rules.casts).await?;
    let estimated = estimate(conn, relation).await.map_err(failed)?;
    conn.execute("rollback").await.map_err(failed)?;
    Ok(TableFacts {
        definition: None,
        engine: Engine::Postgres,
        columns,
        key: Vec::new(),
        rows: estimated,
        rows_exact: false,
        bytes: 0,
        filtered,
        partition: None,
    })
}

/// The columns of a query's answer, in the transaction that is open. The server judges the text by
/// itself: as one statement, and nothing else.
///
/// # Errors
/// Permanent `query_refused`.
pub(super) async fn describe(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
) -> Result<Table, ConnectorError> {
    let failed = |error| classify(endpoint, &format!("read {relation}"), error);
    let text = described_query(relation.query().unwrap_or_default());
    set_path(conn, Path::Own).await.map_err(failed)?;
    // What an earlier transaction has prepared may be of other types by now.
    conn.clear_cached_statements().await.map_err(failed)?;
    let prepared = conn.prepare(text.into_sql_str()).await;
    let prepared = prepared.map_err(|error| refused(endpoint, relation, error))?;
    let answered: Vec<Answered> = prepared.columns().iter().map(Answered::of).collect();
    conn.clear_cached_statements().await.map_err(failed)?;
    set_path(conn, Path::Catalog).await.map_err(failed)?;
    let refuse = |why: String| {
        let message = format!("{relation} on {endpoint} cannot be read: {why}");
        permanent(ErrorCode::QueryRefused, message)
    };
    if answered.is_empty() {
        return Err(refuse(
            "it answers with no column; write a SELECT".to_owned(),
        ));
    }
    for (at, one) in answered.iter().enumerate() {
        if one.name == UNNAMED {
            let nth = at + 1;
            return Err(refuse(format!(
                "column {nth} has no name; give it one by `as`"
            )));
        }
        if answered.iter().take(at).any(|other| other.name == one.name) {
            let name = &one.name;
            return Err(refuse(format!(
                "two columns are called {name}; give one of them another name by `as`"
            )));
        }
    }
    let columns = columns_of(conn, &answered).await.map_err(failed)?;
    if let Some(column) = columns.iter().find(|column| column.prints_names) {
        return Err(refuse(format!(
            "the text of column {} names objects of the catalog as the search path has them; cast \
             it to text there",
            column.facts.name
        )));
    }
    Ok(Table { oid: 0, columns })
}

/// A column as the server describes it.
struct Answered {
    name: String,
    oid: i64,
    /// The table and its column that it is, where it is one.
    origin: Option<(i64, i16)>,
}

impl Answered {
    fn of(column: &sqlx::postgres::PgColumn) -> Self {
        let origin = column.relation_id().zip(column.relation_attribute_no());
        Self {
            name: column.name().to_owned(),
            oid: column.type_info().oid().map_or(0, |oid| i64::from(oid.0)),
            origin: origin.map(|(table, at)| (i64::from(table.0), at)),
        }
    }
}

/// What the catalog says of the types. A server describes no modifiers: only a column of a table
/// has them there.
async fn columns_of(
    conn: &mut PgConnection,
    answered: &[Answered],
) -> Result<Vec<super::columns::Column>, sqlx::Error> {
    let oids: Vec<i64> = answered.iter().map(|one| one.oid).collect();
    let (tables, places): (Vec<i64>, Vec<i16>) = answered
        .iter()
        .map(|one| one.origin.unwrap_or_default())
        .unzip();
    let written: Vec<String> = sqlx::query_scalar(
        "select format_type(u.oid::oid, coalesce(a.atttypmod, -1)) \
         from unnest($1::int8[], $2::int8[], $3::int2[]) with ordinality \
         u (oid, origin, place, nth) left join pg_attribute a on a.attrelid = u.origin::oid \
         and a.attnum = u.place and a.atttypid = u.oid::oid order by u.nth",
    )
    .bind(oids)
    .bind(tables)
    .bind(places)
    .fetch_all(&mut *conn)
    .await?;
    let columns = answered.iter().zip(written).map(|(one, written)| Typed {
        name: one.name.clone(),
        oid: one.oid,
        written,
    });
    typed(conn, columns.collect()).await
}

/// Reads no row, and is refused as a read of them would be; locks what is read until the
/// transaction ends. One statement, whatever the text says.
pub(super) async fn touch(conn: &mut PgConnection, relation: &Relation) -> Result<(), sqlx::Error> {
    set_path(conn, Path::Own).await?;
    let touch = Sql::new(Dialect::Postgres, "select from ")
        .relation(relation)
        .text(" limit 0")
        .into_statement();
    sqlx::query(touch)
        .persistent(false)
        .execute(&mut *conn)
        .await?;
    set_path(conn, Path::Catalog).await
}

/// Whether the server refused because policies would hide rows. Outside of a transaction.
pub(super) async fn is_filtered(
    conn: &mut PgConnection,
    relation: &Relation,
    error: &sqlx::Error,
) -> bool {
    if !is_state(error, MISSING_RIGHT) {
        return false;
    }
    let begin = "begin isolation level read committed, read only; set local row_security = on";
    let allowed = conn.execute(begin).await.is_ok() && touch(conn, relation).await.is_ok();
    conn.execute("rollback").await.is_ok() && allowed
}

/// The error of a text that the server does not take for a query that is only read.
pub(super) fn refused(
    endpoint: &Endpoint,
    relation: &Relation,
    error: sqlx::Error,
) -> ConnectorError {
    let is_no_select = NO_SELECT.iter().any(|state| is_state(&error, state));
    let mut told = classify(endpoint, &format!("read {relation}"), error);
    if is_no_select {
        told.report.code = ErrorCode::QueryRefused.to_string();
        told.report
            .message
            .push_str("; `from.query` is one SELECT that only reads");
    }
    told
}

/// The rows that the server expects.
async fn estimate(conn: &mut PgConnection, relation: &Relation) -> Result<u64, sqlx::Error> {
    set_path(conn, Path::Own).await?;
    let explain = Sql::new(Dialect::Postgres, "explain select * from ").relation(relation);
    let lines: Vec<String> = sqlx::query_scalar(explain.into_statement())
        .persistent(false)
        .fetch_all(&mut *conn)
        .await?;
    set_path(conn, Path::Catalog).await?;
    let rows = |line: &String| {
        let (_, rest) = line.split_once(" rows=")?;
        rest.split_once(' ')?.0.parse().ok()
    };
    Ok(lines.first().and_then(rows).unwrap_or(0))
}

/// Counts the rows of the answer, in the transaction that is open.
pub(super) async fn count_query(
    conn: &mut PgConnection,
    relation: &Relation,
    within: Duration,
) -> Result<u64, sqlx::Error> {
    let millis = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
    let limit = Sql::new(Dialect::Postgres, "set local statement_timeout = ").integer(millis);
    conn.execute(sqlx::raw_sql(limit.into_statement())).await?;
    set_path(conn, Path::Own).await?;
    let count = Sql::new(Dialect::Postgres, "select count(*) from ").relation(relation);
    let row = sqlx::query(count.into_statement())
        .persistent(false)
        .fetch_one(conn)
        .await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
}
