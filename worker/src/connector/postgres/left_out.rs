//! Counts the rows of a source that lie outside of a range, with one statement.
//! Never for longer than it is given: what takes longer is not known, and that is said.

use highwater_common::left_out::{COUNTED_MAX, LeftOut, Tally};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::SourceRows;
use sqlx::{Executor, PgConnection, Row};

use super::catalog::{Table, is_indexed, source_table, unknown_column};
use super::errors::{classify, is_state};
use super::nulls::doubt_not_null;
use super::policies::look_at_source;
use super::probe::{STATEMENT_TIMEOUT, is_soon_counted, size};
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, LeftOutRequest};

/// What it takes to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    OfIndex,
    OfScan,
    TooHigh,
}

/// The rows outside of the range, as the table is now.
pub(super) async fn left_out(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    asked: &LeftOutRequest,
    rows: SourceRows,
) -> Result<LeftOut, ConnectorError> {
    let mut table = source_table(conn, endpoint, &asked.table).await?;
    let failed = |error| classify(endpoint, &format!("read the catalogue of {}", asked.table), error);
    look_at_source(conn, endpoint, &asked.table, rows).await?;
    doubt_not_null(conn, &mut table).await.map_err(failed)?;
    let indexed = is_indexed(conn, table.oid, &asked.partition_column).await.map_err(failed)?;
    let (estimate, bytes) = size(conn, table.oid).await.map_err(failed)?;
    let cost = match (indexed, is_soon_counted(estimate, bytes)) {
        (true, _) => Cost::OfIndex,
        (false, true) => Cost::OfScan,
        (false, false) => Cost::TooHigh,
    };
    count(conn, endpoint, &table, asked, cost).await
}

/// The rows of each kind that there may be; those that no NOT NULL and no declared bound lets lie outside are none.
async fn count(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &Table,
    asked: &LeftOutRequest,
    cost: Cost,
) -> Result<LeftOut, ConnectorError> {
    let column = table
        .column(&asked.partition_column)
        .ok_or_else(|| unknown_column(endpoint, &asked.table, table, &asked.partition_column))?;
    let side = |start, end| CursorRange::new(start, end).ok().map(Slice::Range);
    let kinds = [
        asked.whole.start().and_then(|start| side(None, Some(start))),
        asked.whole.end().and_then(|end| side(Some(end), None)),
        column.facts.nullable.then_some(Slice::Null),
    ];
    if kinds.iter().all(Option::is_none) {
        return Ok(LeftOut::NONE);
    }
    let tallies = match cost {
        Cost::TooHigh => None,
        Cost::OfScan => counted(conn, endpoint, asked, by_one_scan(asked, &kinds)).await?,
        Cost::OfIndex => counted(conn, endpoint, asked, by_index(asked, &kinds)).await?,
    };
    let tally = |at: usize| match (kinds[at], tallies) {
        (None, _) => Tally::Exactly(0),
        (Some(_), None) => Tally::Unknown,
        (Some(_), Some(tallies)) => Tally::of(tallies[at].unsigned_abs()),
    };
    // A column has one type, so that each of its values has a place among the others.
    Ok(LeftOut { before: tally(0), behind: tally(1), null: tally(2), stray: Tally::Exactly(0) })
}

/// `None` when it took too long.
async fn counted(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    asked: &LeftOutRequest,
    statement: Sql,
) -> Result<Option<[i64; 3]>, ConnectorError> {
    let failed =
        |error| classify(endpoint, &format!("count the rows of {} that no partition takes", asked.table), error);
    let millis = i64::try_from(asked.within.as_millis()).unwrap_or(i64::MAX);
    let limit = Sql::new(Dialect::Postgres, "set statement_timeout = ").integer(millis).into_statement();
    conn.execute(sqlx::raw_sql(limit)).await.map_err(failed)?;
    let row = match sqlx::query(statement.into_statement()).persistent(false).fetch_one(&mut *conn).await {
        Ok(row) => row,
        Err(error) if is_state(&error, STATEMENT_TIMEOUT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let at = |at: usize| row.try_get::<i64, _>(at).map_err(failed);
    Ok(Some([at(0)?, at(1)?, at(2)?]))
}

/// A count for each kind, which an index finds without the rows of the others, and each no further than it is told.
fn by_index(asked: &LeftOutRequest, kinds: &[Option<Slice>; 3]) -> Sql {
    let past = i64::try_from(COUNTED_MAX).unwrap_or(i64::MAX).saturating_add(1);
    kinds.iter().enumerate().fold(Sql::new(Dialect::Postgres, "select "), |sql, (at, kind)| {
        let sql = if at > 0 { sql.text(", ") } else { sql };
        match kind {
            None => sql.text("0::int8"),
            Some(slice) => sql
                .text("(select count(*) from (select from ")
                .table(&asked.table)
                .text(" where ")
                .slice(&asked.partition_column, asked.form, slice)
                .text(" limit ")
                .integer(past)
                .text(") b)"),
        }
    })
}

/// One scan for all kinds, in which a view computes each value once.
fn by_one_scan(asked: &LeftOutRequest, kinds: &[Option<Slice>; 3]) -> Sql {
    let counts = kinds.iter().enumerate().fold(Sql::new(Dialect::Postgres, "select "), |sql, (at, kind)| {
        let sql = if at > 0 { sql.text(", ") } else { sql };
        match kind {
            None => sql.text("0::int8"),
            Some(slice) => {
                sql.text("count(*) filter (where ").slice(&asked.partition_column, asked.form, slice).text(")")
            }
        }
    });
    counts.text(" from (select ").name(&asked.partition_column).text(" from ").table(&asked.table).text(" offset 0) b")
}
