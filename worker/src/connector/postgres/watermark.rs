//! Where the watermarks of a target's streams stand.

use highwater_common::error_code::ErrorCode;
use highwater_common::log::LogIdentity;
use highwater_common::range::CursorRange;
use highwater_common::spec::TableName;
use highwater_common::window::{Lowered, StoredWatermark, lowered, placed};
use sqlx::{Executor, PgConnection, Row};

use super::catalog::qualified_or_new;
use super::errors::{classify, permanent};
use super::ledger;
use super::session::Endpoint;
use crate::connector::stored_slice::{cursor_text, stored_cursor};
use crate::connector::{ConnectorError, LogPosition, PlaceRequest};

/// Where a stream's watermark stands; `None` without one, and in a target without a ledger.
pub(super) async fn read(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
) -> Result<Option<StoredWatermark>, ConnectorError> {
    let failed = |error| classify(endpoint, "read the watermark", error);
    let there: bool = sqlx::query_scalar("select to_regclass('highwater.watermark') is not null")
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if !there {
        return Ok(None);
    }
    let row = sqlx::query("select position, version from highwater.watermark where stream_id = $1")
        .bind(stream)
        .fetch_optional(conn)
        .await
        .map_err(failed)?;
    let Some(row) = row else {
        return Ok(None);
    };
    let position: String = row.try_get("position").map_err(failed)?;
    let version: i64 = row.try_get("version").map_err(failed)?;
    match (stored_cursor(&position), u64::try_from(version)) {
        (Some(position), Ok(version)) => Ok(Some(StoredWatermark { position, version })),
        (_, Err(_)) | (None, _) => {
            let message = format!(
                "the watermark of {stream} on {endpoint} is `{position}`, version {version}, which \
                 no version of Highwater has written"
            );
            Err(permanent(ErrorCode::LedgerUnreadable, message))
        }
    }
}

/// The same with what is kept beside a position in a log.
pub(super) async fn read_log(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
) -> Result<Option<LogPosition>, ConnectorError> {
    let Some(watermark) = read(conn, endpoint, stream).await? else {
        return Ok(None);
    };
    let failed = |error| classify(endpoint, "read the position in the log", error);
    conn.execute("begin").await.map_err(failed)?;
    ledger::lock_making(conn, endpoint).await?;
    ledger::make_tables(conn, endpoint).await?;
    conn.execute("commit").await.map_err(failed)?;
    let row = sqlx::query(
        "select log_identity, (extract(epoch from reached_at) * 1000000)::int8 as reached_at, \
         (extract(epoch from live_since) * 1000000)::int8 as live_since from highwater.watermark \
         where stream_id = $1",
    )
    .bind(stream)
    .fetch_optional(conn)
    .await
    .map_err(failed)?;
    let Some(row) = row else {
        return Ok(None);
    };
    let identity: Option<String> = row.try_get("log_identity").map_err(failed)?;
    let identity = identity.map(|text| serde_json::from_str(&text));
    let identity = identity.transpose().map_err(|error| {
        let message = format!(
            "what {endpoint} keeps of the log that {stream} follows cannot be read: {error}"
        );
        permanent(ErrorCode::LedgerUnreadable, message)
    })?;
    Ok(Some(LogPosition {
        watermark,
        identity,
        reached_at: row.try_get("reached_at").map_err(failed)?,
        live_since: row.try_get("live_since").map_err(failed)?,
    }))
}

/// Whether the table is the one that the stream is to be copied anew into.
pub(super) async fn is_resynced(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    table: &TableName,
) -> Result<bool, ConnectorError> {
    let failed = |error| classify(endpoint, "read what the ledger says of a stream", error);
    let there: bool = sqlx::query_scalar("select to_regclass('highwater.stream') is not null")
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if !there {
        return Ok(false);
    }
    let table = qualified_or_new(conn, endpoint, table).await?;
    // A ledger that an earlier version has made has no such column.
    sqlx::query_scalar(
        "select exists (select from highwater.stream s join pg_class c on c.oid = s.table_oid join \
         pg_namespace n on n.oid = c.relnamespace where s.stream_id = $1 and n.nspname = $2 and \
         c.relname = $3 and coalesce((to_jsonb(s) ->> 'resync')::boolean, false))",
    )
    .bind(stream)
    .bind(table.schema.as_deref())
    .bind(&table.name)
    .fetch_one(conn)
    .await
    .map_err(failed)
}

/// What is kept beside a position, as the ledger holds it.
pub(super) fn identity_text(identity: Option<&LogIdentity>) -> Option<String> {
    identity.and_then(|identity| serde_json::to_string(identity).ok())
}

/// Puts a stream's watermark back to where rows are forgotten, inside the transaction that has taken
/// the stream.
pub(super) async fn lower(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    forgotten: Option<&CursorRange>,
) -> Result<(), ConnectorError> {
    let Some(at) = read(conn, endpoint, stream).await? else {
        return Ok(());
    };
    let lowering = match lowered(at.position, forgotten) {
        Lowered::Stays => return Ok(()),
        Lowered::Removed => {
            sqlx::query("delete from highwater.watermark where stream_id = $1").bind(stream)
        }
        Lowered::To(start) => sqlx::query(
            "update highwater.watermark set position = $2, version = version + 1, updated_at = \
             now() where stream_id = $1",
        )
        .bind(stream)
        .bind(cursor_text(start)),
    };
    let lowering = lowering.execute(conn).await;
    lowering
        .map(drop)
        .map_err(|error| classify(endpoint, "put the watermark back", error))
}

/// Puts a stream's watermark where a person wants it, inside the transaction that has taken the
/// stream.
pub(super) async fn place(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &PlaceRequest,
) -> Result<(), ConnectorError> {
    let stream = &request.stream.stream;
    let Some(to) = &request.to else {
        return lower(conn, endpoint, stream, None).await;
    };
    let current = read(conn, endpoint, stream).await?;
    let at = placed(to, current.map(|at| at.position.kind()), &request.tz)
        .map_err(|error| permanent(ErrorCode::BadPosition, error.to_string()))?;
    let placing = sqlx::query(
        "insert into highwater.watermark as held (stream_id, position, version, token, \
         log_identity) values ($1, $2, 1, $3, $4) on conflict (stream_id) do update set position = \
         excluded.position, version = held.version + 1, token = excluded.token, updated_at = now(), \
         log_identity = excluded.log_identity, reached_at = null, live_since = null",
    )
    .bind(stream)
    .bind(cursor_text(at))
    .bind(request.stream.token.raw())
    .bind(identity_text(request.identity.as_ref()))
    .execute(conn)
    .await;
    placing
        .map(drop)
        .map_err(|error| classify(endpoint, "place the watermark", error))
}
