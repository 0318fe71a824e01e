//! Receipts and the table they speak of: whether the one can still be true of the other.
//! Never decides what contradicts what: that is `highwater_common::stream`'s business.

use futures_util::TryStreamExt;
use highwater_common::errand::{ForgetPlan, StreamReceipts};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::RunId;
use highwater_common::range::Slice;
use highwater_common::spec::TableName;
use highwater_common::stream::{RowsExpected, TableFound, contradiction, receipts_message};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::catalog::Table;
use super::errors::{classify, permanent};
use super::ledger::{self, uuid};
use super::session::Endpoint;
use super::watermark;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::stored_slice::{StoredSlice, stored_slice};
use crate::connector::{ConnectorError, ForgetRequest};

/// Which table the rows of a stream went to: an oid means nothing in another database, such as one
/// restored from a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    database: String,
    oid: i64,
}

/// Refuses to go on where the stream's receipts say that rows are, and there are none: no table,
/// another one, or an empty one.
pub(super) async fn check(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    name: &TableName,
    table: Option<&Table>,
) -> Result<(), ConnectorError> {
    let failed = |error| {
        classify(
            endpoint,
            &format!("compare {name} with its receipts"),
            error,
        )
    };
    let found = match table {
        None => TableFound::Missing,
        Some(table) if is_remade(conn, endpoint, stream, table).await? => TableFound::Remade,
        Some(_) => {
            let any = Sql::new(Dialect::Postgres, "select exists (select from ")
                .table(name)
                .text(")");
            let any = sqlx::query_scalar::<_, bool>(any.into_statement()).persistent(false);
            if any.fetch_one(&mut *conn).await.map_err(failed)? {
                TableFound::Filled
            } else {
                TableFound::Empty
            }
        }
    };
    if found == TableFound::Filled {
        return Ok(());
    }
    let expected = are_rows_expected(conn, stream).await.map_err(failed)?;
    match contradiction(found, expected) {
        None => Ok(()),
        Some(why) => Err(permanent(
            ErrorCode::ReceiptsWithoutRows,
            receipts_message(&endpoint.to_string(), &name.to_string(), why),
        )),
    }
}

async fn is_remade(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    table: &Table,
) -> Result<bool, ConnectorError> {
    let failed = |error| classify(endpoint, "read the ledger's note of a table", error);
    let noted = sqlx::query(
        "select table_database, table_oid::int8 as oid from highwater.stream where stream_id = $1 \
         and table_oid is not null",
    )
    .bind(stream)
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed)?;
    let Some(noted) = noted else { return Ok(false) };
    let noted = Identity {
        database: noted
            .try_get::<Option<String>, _>("table_database")
            .map_err(failed)?
            .unwrap_or_default(),
        oid: noted.try_get("oid").map_err(failed)?,
    };
    let database = ledger::read_database(conn, endpoint).await?;
    Ok(noted.database == database && noted.oid != table.oid)
}

/// Notes which table the stream's rows go to from now on. Of another one it is not known that its
/// rows are the step's own, which a resync has noted.
pub(super) async fn note(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    table: &Table,
) -> Result<(), ConnectorError> {
    let database = ledger::read_database(conn, endpoint).await?;
    sqlx::query(
        "update highwater.stream set table_database = $2, table_oid = $3::int8::oid, resync = resync \
         and table_database is not distinct from $2 and table_oid is not distinct from \
         $3::int8::oid where stream_id = $1",
    )
    .bind(stream)
    .bind(database)
    .bind(table.oid)
    .execute(&mut *conn)
    .await
    .map(drop)
    .map_err(|error| classify(endpoint, "note the table of a stream", error))
}

/// Read only as far as it must be: as a rule the latest receipt settles it.
async fn are_rows_expected(conn: &mut PgConnection, stream: &str) -> Result<bool, sqlx::Error> {
    let mut receipts = sqlx::query(
        "select slice_kind, range_start, range_end, rows from highwater.task where stream_id = $1 \
         and state = 'C' \
         order by committed_at desc, token desc",
    )
    .bind(stream)
    .fetch(&mut *conn);
    let mut expecting = RowsExpected::default();
    while let Some(row) = receipts.try_next().await? {
        let slice = slice_in(&row)?;
        let rows: i64 = row.try_get("rows")?;
        if slice.is_some_and(|slice| expecting.earlier(&slice, u64::try_from(rows).unwrap_or(0))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the ledger holds of a stream, and how many of its receipts `by` has voided.
pub(super) async fn read(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    by: Option<&RunId>,
) -> Result<StreamReceipts, ConnectorError> {
    let failed = |error| classify(endpoint, "read the receipts of a step", error);
    let mut found = StreamReceipts {
        stream: stream.to_owned(),
        ..StreamReceipts::default()
    };
    let mut rows = sqlx::query(
        "select slice_kind, range_start, range_end, rows, state, voided_by is not distinct from $2 \
         as mine \
         from highwater.task where stream_id = $1 and state in ('C', 'V') order by range_start \
         nulls first",
    )
    .bind(stream)
    .bind(by.map(|run| uuid(run.as_bytes())))
    .fetch(&mut *conn);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let (state, mine): (String, bool) = (
            row.try_get("state").map_err(failed)?,
            row.try_get("mine").map_err(failed)?,
        );
        if state == "V" {
            found.voided = found.voided.saturating_add(1);
            found.forgotten = found
                .forgotten
                .saturating_add(u64::from(by.is_some() && mine));
            continue;
        }
        let rows: i64 = row.try_get("rows").map_err(failed)?;
        found.receipts = found.receipts.saturating_add(1);
        found.rows = found.rows.saturating_add(u64::try_from(rows).unwrap_or(0));
        if let Some(slice) = slice_in(&row).map_err(failed)? {
            found.coverage.insert(&slice);
        }
    }
    drop(rows);
    found.watermark = watermark::read(conn, endpoint, stream).await?;
    Ok(found)
}

fn slice_in(row: &PgRow) -> Result<Option<Slice>, sqlx::Error> {
    let kind: String = row.try_get("slice_kind")?;
    Ok(stored_slice(
        &kind,
        row.try_get("range_start")?,
        row.try_get("range_end")?,
    ))
}

/// Voids receipts of a stream, inside the transaction that has taken it.
pub(super) async fn void(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &ForgetRequest,
) -> Result<StreamReceipts, ConnectorError> {
    let failed = |error| classify(endpoint, "void the receipts of a step", error);
    let (stream, run) = (&request.stream.stream, &request.stream.run);
    let held = sqlx::query(
        "select distinct slice_kind, range_start, range_end from highwater.task where stream_id = \
         $1 and state = 'C'",
    )
    .bind(stream)
    .fetch_all(&mut *conn)
    .await
    .map_err(failed)?;
    let mut slices = Vec::with_capacity(held.len());
    for row in &held {
        slices.extend(slice_in(row).map_err(failed)?);
    }
    let plan = ForgetPlan::of(&request.forget, &request.tz, &slices)
        .map_err(|why| permanent(ErrorCode::ReceiptInPart, why))?;
    let meant = plan
        .range
        .map(|range| StoredSlice::of(&Slice::Range(range)));
    sqlx::query(
        "update highwater.task set state = 'V', voided_at = now(), voided_by = $2, void_reason = $3 \
         where stream_id = $1 and state = 'C' and ($4::text is null or slice_kind = $4 \
         and ($5::int8 is null or range_start >= $5) and ($6::int8 is null or range_end <= $6))",
    )
    .bind(stream)
    .bind(uuid(run.as_bytes()))
    .bind(&request.forget.reason)
    .bind(meant.as_ref().map(|meant| meant.kind.as_ref()))
    .bind(meant.as_ref().and_then(|meant| meant.start))
    .bind(meant.as_ref().and_then(|meant| meant.end))
    .execute(&mut *conn)
    .await
    .map_err(failed)?;
    sqlx::query("update highwater.stream set resync = $2 where stream_id = $1")
        .bind(stream)
        .bind(request.resyncs)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    watermark::lower(conn, endpoint, stream, plan.range.as_ref()).await?;
    read(conn, endpoint, stream, Some(run)).await
}
