//! Counts the rows of a source that lie outside of a range, with one statement.
//! Never for longer than it is given: what takes longer is not known, and that is said.

use highwater_common::facts::{ColumnKind, CursorForm};
use highwater_common::left_out::{COUNTED_MAX, LeftOut, Tally};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::SourceRows;
use sqlx::{Executor, PgConnection, Row};

use super::catalog::{Table, is_indexed, source_table, unknown_column};
use super::columns::Column;
use super::errors::{classify, is_state};
use super::nulls::doubt_not_null;
use super::policies::look_at_source;
use super::probe::{STATEMENT_TIMEOUT, is_soon_counted, size};
use super::session::Endpoint;
use super::text_positions::has_place;
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
    let failed = |error| {
        classify(
            endpoint,
            &format!("read the catalog of {}", asked.table),
            error,
        )
    };
    look_at_source(conn, endpoint, &asked.table, rows).await?;
    doubt_not_null(conn, &mut table).await.map_err(failed)?;
    let indexed = is_indexed(conn, table.oid, &asked.partition_column)
        .await
        .map_err(failed)?;
    let (estimate, bytes) = size(conn, table.oid).await.map_err(failed)?;
    let cost = match (indexed, is_soon_counted(estimate, bytes)) {
        (true, _) => Cost::OfIndex,
        (false, true) => Cost::OfScan,
        (false, false) => Cost::TooHigh,
    };
    count(conn, endpoint, &table, asked, cost).await
}

/// The conditions of rows outside of the range: before it, behind it, without a value, and those
/// whose value is no position. `None` where there can be none.
struct Outside([Option<Sql>; 4]);

impl Outside {
    fn of(column: &Column, asked: &LeftOutRequest) -> Self {
        let (name, form) = (&asked.partition_column, asked.form);
        let fragment = || Sql::new(Dialect::Postgres, "");
        let side = |start, end| {
            let range = CursorRange::new(start, end).ok()?;
            Some(fragment().slice(name, form, &Slice::Range(range)))
        };
        let before = asked
            .whole
            .start()
            .and_then(|start| side(None, Some(start)));
        let behind = asked.whole.end().and_then(|end| side(Some(end), None));
        let null = column
            .facts
            .nullable
            .then(|| fragment().slice(name, form, &Slice::Null));
        if matches!(form, CursorForm::TextDate | CursorForm::TextTime { .. }) {
            let placed = || has_place(fragment(), name, form);
            let outside: Vec<&Sql> = before.iter().chain(&behind).collect();
            let stray = outside.split_first().map(|(first, others)| {
                let any = others
                    .iter()
                    .fold(fragment().text("(").sql(first), |any, other| {
                        any.text(" or ").sql(other)
                    });
                any.text(") and not (").sql(&placed()).text(")")
            });
            let and_placed = |side: Sql| side.text(" and ").sql(&placed());
            return Self([before.map(and_placed), behind.map(and_placed), null, stray]);
        }
        if column.facts.kind != ColumnKind::Numeric {
            return Self([before, behind, null, None]);
        }
        // The server puts NaN behind all numbers, which is no place that anybody declares.
        let nan = || fragment().name(name).text(" = 'NaN'::numeric");
        let stray = behind.is_some().then(nan);
        let behind = behind.map(|behind| behind.text(" and not ").sql(&nan()));
        Self([before, behind, null, stray])
    }
}

/// The rows of each kind that there may be; those that no NOT NULL and no declared bound lets lie
/// outside are none.
async fn count(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &Table,
    asked: &LeftOutRequest,
    cost: Cost,
) -> Result<LeftOut, ConnectorError> {
    let column = table.column(&asked.partition_column).ok_or_else(|| {
        unknown_column(
            endpoint,
            &asked.table.clone().into(),
            table,
            &asked.partition_column,
        )
    })?;
    let outside = Outside::of(column, asked);
    if outside.0.iter().all(Option::is_none) {
        return Ok(LeftOut::NONE);
    }
    let tallies = match cost {
        Cost::TooHigh => None,
        Cost::OfScan => counted(conn, endpoint, asked, by_one_scan(asked, &outside)).await?,
        Cost::OfIndex => counted(conn, endpoint, asked, by_index(asked, &outside)).await?,
    };
    let tally = |at: usize| match (&outside.0[at], tallies) {
        (None, _) => Tally::Exactly(0),
        (Some(_), None) => Tally::Unknown,
        (Some(_), Some(tallies)) => Tally::of(tallies[at].unsigned_abs()),
    };
    Ok(LeftOut {
        before: tally(0),
        behind: tally(1),
        null: tally(2),
        stray: tally(3),
    })
}

/// `None` when it took too long.
async fn counted(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    asked: &LeftOutRequest,
    statement: Sql,
) -> Result<Option<[i64; 4]>, ConnectorError> {
    let failed = |error| {
        classify(
            endpoint,
            &format!("count the rows of {} that no partition takes", asked.table),
            error,
        )
    };
    let millis = i64::try_from(asked.within.as_millis()).unwrap_or(i64::MAX);
    let limit = Sql::new(Dialect::Postgres, "set statement_timeout = ")
        .integer(millis)
        .into_statement();
    conn.execute(sqlx::raw_sql(limit)).await.map_err(failed)?;
    let row = match sqlx::query(statement.into_statement())
        .persistent(false)
        .fetch_one(&mut *conn)
        .await
    {
        Ok(row) => row,
        Err(error) if is_state(&error, STATEMENT_TIMEOUT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let at = |at: usize| row.try_get::<i64, _>(at).map_err(failed);
    Ok(Some([at(0)?, at(1)?, at(2)?, at(3)?]))
}

/// A count for each kind, which an index finds without the rows of the others, and each no further
/// than it is told.
fn by_index(asked: &LeftOutRequest, outside: &Outside) -> Sql {
    let past = i64::try_from(COUNTED_MAX)
        .unwrap_or(i64::MAX)
        .saturating_add(1);
    outside.0.iter().enumerate().fold(
        Sql::new(Dialect::Postgres, "select "),
        |sql, (at, condition)| {
            let sql = if at > 0 { sql.text(", ") } else { sql };
            match condition {
                None => sql.text("0::int8"),
                Some(condition) => sql
                    .text("(select count(*) from (select from ")
                    .table(&asked.table)
                    .text(" where ")
                    .sql(condition)
                    .text(" limit ")
                    .integer(past)
                    .text(") b)"),
            }
        },
    )
}

/// One scan for all kinds, in which a view computes each value once.
fn by_one_scan(asked: &LeftOutRequest, outside: &Outside) -> Sql {
    let counts = outside.0.iter().enumerate().fold(
        Sql::new(Dialect::Postgres, "select "),
        |sql, (at, condition)| {
            let sql = if at > 0 { sql.text(", ") } else { sql };
            match condition {
                None => sql.text("0::int8"),
                Some(condition) => sql.text("count(*) filter (where ").sql(condition).text(")"),
            }
        },
    );
    counts
        .text(" from (select ")
        .name(&asked.partition_column)
        .text(" from ")
        .table(&asked.table)
        .text(" offset 0) b")
}
