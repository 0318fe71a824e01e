//! Counts the rows of a source that lie outside of a range, with one statement.

use highwater_common::left_out::{COUNTED_MAX, LeftOut, Tally};
use highwater_common::range::{CursorRange, Slice};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::catalog::Table;
use super::errors::DatabaseFile;
use super::position::{Condition, condition, has_place};
use super::sql;
use crate::connector::{ConnectorError, LeftOutRequest};

/// The rows of each kind. A column of SQLite holds values of any type, so one that lies outside may
/// be no position at all.
pub(super) async fn count(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    table: &Table,
    asked: &LeftOutRequest,
    is_cheap: bool,
) -> Result<LeftOut, ConnectorError> {
    let (column, form) = (&asked.partition_column, asked.form);
    let nullable = table
        .column(column)
        .is_none_or(|column| column.facts.nullable);
    let side = |start, end| {
        let range = CursorRange::new(start, end).ok()?;
        Some(condition(column, &Slice::Range(range), form))
    };
    let before = asked
        .whole
        .start()
        .and_then(|start| side(None, Some(start)));
    let behind = asked.whole.end().and_then(|end| side(Some(end), None));
    let placed = has_place(column, form);
    let and_placed = |side: &Condition| Condition {
        text: format!("{} and ({placed})", side.text),
        ..side.clone()
    };
    let outside: Vec<&Condition> = before.iter().chain(&behind).collect();
    let stray = (!outside.is_empty()).then(|| {
        let any: Vec<&str> = outside.iter().map(|side| side.text.as_str()).collect();
        let bounds = outside
            .iter()
            .flat_map(|side| side.bounds.clone())
            .collect();
        Condition {
            text: format!("({}) and not ({placed})", any.join(" or ")),
            bounds,
        }
    });
    let kinds = [
        before.as_ref().map(and_placed),
        behind.as_ref().map(and_placed),
        nullable.then(|| condition(column, &Slice::Null, form)),
        stray,
    ];
    if kinds.iter().all(Option::is_none) {
        return Ok(LeftOut::NONE);
    }
    let tallies = if is_cheap {
        Some(counted(conn, place, asked, &kinds).await?)
    } else {
        None
    };
    let tally = |at: usize| match (&kinds[at], tallies) {
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

async fn counted(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    asked: &LeftOutRequest,
    kinds: &[Option<Condition>; 4],
) -> Result<[i64; 4], ConnectorError> {
    let failed = || {
        place.failed(format!(
            "count the rows of {} that no partition takes",
            asked.table
        ))
    };
    let past = COUNTED_MAX + 1;
    let columns = kinds.iter().map(|kind| match kind {
        None => "0".to_owned(),
        Some(Condition { text, .. }) => {
            let table = sql::table(&asked.table);
            format!("(select count(*) from (select 1 from {table} where {text} limit {past}))")
        }
    });
    let text = format!("select {}", columns.collect::<Vec<_>>().join(", "));
    let bounds = kinds
        .iter()
        .flatten()
        .flat_map(|kind| kind.bounds.clone())
        .collect();
    let all = Condition {
        text: String::new(),
        bounds,
    };
    let row = sql::bound(text, &all)
        .fetch_one(conn)
        .await
        .map_err(failed())?;
    let at = |at: usize| row.try_get::<i64, _>(at).map_err(failed());
    Ok([at(0)?, at(1)?, at(2)?, at(3)?])
}
