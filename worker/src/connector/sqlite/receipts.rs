//! Receipts and the table they speak of: whether the one can still be true of the other.
//!
//! SQLite has no number that a table keeps and no other one ever gets: a table that is dropped and
//! made anew may take the same page, the same row of the schema and the same text. But a new entry
//! always comes after all that are there, and no VACUUM, dump or rename changes the order of
//! tables. So an empty table of our own stands behind the tables that were noted: whatever stands
//! behind it was made later.

use highwater_common::errand::{ForgetPlan, StreamReceipts};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::RunId;
use highwater_common::range::Slice;
use highwater_common::spec::TableName;
use highwater_common::stream::{RowsExpected, TableFound, contradiction, receipts_message};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::errors::DatabaseFile;
use super::{sql, watermark};
use crate::connector::stored_slice::{StoredSlice, stored_slice};
use crate::connector::{ConnectorError, ForgetRequest};

/// True for an entry of the schema that stands behind the marker.
const IS_BEHIND: &str =
    "s.rowid > (select m.rowid from main.sqlite_schema m where m.name = '_highwater_marker')";

/// Refuses to go on where the stream's receipts say that rows are, and there are none: no table,
/// another one, or an empty one.
pub(super) async fn check(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    name: &TableName,
    is_there: bool,
) -> Result<(), ConnectorError> {
    let found = if !is_there {
        TableFound::Missing
    } else if is_remade(conn, place, stream, name).await? {
        TableFound::Remade
    } else {
        let any = sql::once(format!(
            "select exists (select 1 from {})",
            sql::table(name)
        ));
        let any = any
            .fetch_one(&mut *conn)
            .await
            .map_err(place.failed(format!("look at the rows of {name}")))?;
        if any.get::<i64, _>(0) != 0 {
            TableFound::Filled
        } else {
            TableFound::Empty
        }
    };
    if found == TableFound::Filled {
        return Ok(());
    }
    let receipts = sqlx::query(
        "select slice_kind, range_start, range_end, rows from _highwater_task where stream_id = ? and state = 'C'
         order by committed_at desc, token desc",
    )
    .bind(stream)
    .fetch_all(conn)
    .await
    .map_err(place.failed("read the receipts of the step"))?;
    let mut expecting = RowsExpected::default();
    let is_expected = receipts.iter().any(|row| {
        let rows = u64::try_from(row.get::<i64, _>(3)).unwrap_or(0);
        let slice = stored_slice(&row.get::<String, _>(0), row.get(1), row.get(2));
        slice.is_some_and(|slice| expecting.earlier(&slice, rows))
    });
    match contradiction(found, is_expected) {
        None => Ok(()),
        Some(why) => Err(place.permanent(
            ErrorCode::ReceiptsWithoutRows,
            receipts_message("the target", &format!("`{name}`"), why),
        )),
    }
}

async fn is_remade(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    name: &TableName,
) -> Result<bool, ConnectorError> {
    let behind = format!(
        "select exists (select 1 from _highwater_stream where stream_id = ?1 and table_name is not null
           and (remade <> 0 or exists (select 1 from main.sqlite_schema s
             where s.type in ('table', 'view') and s.name = ?2 collate nocase and {IS_BEHIND})))"
    );
    let found = sql::once(behind)
        .bind(stream)
        .bind(&name.name)
        .fetch_one(conn)
        .await;
    found
        .map(|row| row.get::<i64, _>(0) != 0)
        .map_err(place.failed("read the ledger's note of a table"))
}

/// Notes which table the stream's rows go to from now on. Before the marker moves, tables of other
/// streams that were made anew are noted as such: behind it they could not be told any more.
pub(super) async fn note(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    name: &TableName,
) -> Result<(), ConnectorError> {
    let failed = || place.failed("note the table of a stream");
    let remade = format!(
        "update _highwater_stream set remade = 1 where table_name is not null and exists (select 1 from main.sqlite_schema s
           where s.type in ('table', 'view') and s.name = table_name collate nocase and {IS_BEHIND})"
    );
    sql::run(conn, sql::once(remade)).await.map_err(failed())?;
    let note = sqlx::query(
        "update _highwater_stream set table_name = ?2, remade = 0 where \
                            stream_id = ?1",
    );
    sql::run(conn, note.bind(stream).bind(&name.name))
        .await
        .map_err(failed())?;
    let stands = format!(
        "select exists (select 1 from main.sqlite_schema where name = '_highwater_marker')
           and not exists (select 1 from main.sqlite_schema s where s.name = ?1 collate nocase and {IS_BEHIND})"
    );
    let stands = sql::once(stands)
        .bind(&name.name)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed())?;
    if stands.get::<i64, _>(0) == 0 {
        for statement in [
            "drop table if exists main._highwater_marker",
            "create table main._highwater_marker (unused integer) strict",
        ] {
            sql::run(conn, sqlx::query(statement))
                .await
                .map_err(failed())?;
        }
    }
    Ok(())
}

/// What the ledger holds of a stream, and how many of its receipts `by` has voided.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    by: Option<&RunId>,
) -> Result<StreamReceipts, ConnectorError> {
    let mut found = StreamReceipts {
        stream: stream.to_owned(),
        ..StreamReceipts::default()
    };
    let rows = sqlx::query(
        "select slice_kind, range_start, range_end, rows, state, voided_by is ?2 from _highwater_task
         where stream_id = ?1 and state in ('C', 'V') order by range_start nulls first",
    )
    .bind(stream)
    .bind(by.map(RunId::to_string))
    .fetch_all(&mut *conn)
    .await
    .map_err(place.failed("read the receipts of the step"))?;
    for row in rows {
        if row.get::<String, _>(4) == "V" {
            found.voided = found.voided.saturating_add(1);
            found.forgotten = found
                .forgotten
                .saturating_add(u64::from(by.is_some() && row.get::<i64, _>(5) != 0));
            continue;
        }
        found.receipts = found.receipts.saturating_add(1);
        found.rows = found
            .rows
            .saturating_add(u64::try_from(row.get::<i64, _>(3)).unwrap_or(0));
        if let Some(slice) = stored_slice(&row.get::<String, _>(0), row.get(1), row.get(2)) {
            found.coverage.insert(&slice);
        }
    }
    found.watermark = watermark::read(conn, place, stream).await?;
    Ok(found)
}

/// Voids receipts of a stream, inside the transaction that has taken it.
pub(super) async fn void(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &ForgetRequest,
) -> Result<StreamReceipts, ConnectorError> {
    let (stream, run) = (&request.stream.stream, &request.stream.run);
    let held = sqlx::query(
        "select distinct slice_kind, range_start, range_end from _highwater_task where stream_id = \
         ? and state = 'C'",
    )
    .bind(stream)
    .fetch_all(&mut *conn)
    .await
    .map_err(place.failed("read the receipts of the step"))?;
    let slices: Vec<_> = held
        .iter()
        .filter_map(|row| stored_slice(&row.get::<String, _>(0), row.get(1), row.get(2)))
        .collect();
    let plan = ForgetPlan::of(&request.forget, &request.tz, &slices)
        .map_err(|why| place.permanent(ErrorCode::ReceiptInPart, why))?;
    let meant = plan
        .range
        .map(|range| StoredSlice::of(&Slice::Range(range)));
    let void = sqlx::query(
        "update _highwater_task set state = 'V', voided_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), voided_by = ?2, void_reason = ?3
         where stream_id = ?1 and state = 'C' and (?4 is null or slice_kind = ?4
           and (?5 is null or range_start >= ?5) and (?6 is null or range_end <= ?6))",
    )
    .bind(stream)
    .bind(run.to_string())
    .bind(&request.forget.reason)
    .bind(meant.as_ref().map(|meant| meant.kind.as_ref()))
    .bind(meant.as_ref().and_then(|meant| meant.start))
    .bind(meant.as_ref().and_then(|meant| meant.end));
    sql::run(conn, void)
        .await
        .map_err(place.failed("void the receipts of the step"))?;
    watermark::lower(conn, place, stream, plan.range.as_ref()).await?;
    read(conn, place, stream, Some(run)).await
}
