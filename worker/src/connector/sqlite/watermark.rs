//! Where the watermarks of a target's streams stand.

use highwater_common::error_code::ErrorCode;
use highwater_common::range::CursorRange;
use highwater_common::window::{Lowered, StoredWatermark, lowered, placed};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::errors::DatabaseFile;
use super::{ledger, sql};
use crate::connector::stored_slice::{cursor_text, stored_cursor};
use crate::connector::{ConnectorError, PlaceRequest};

/// Where a stream's watermark stands; `None` without one, and in a file without a ledger.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
) -> Result<Option<StoredWatermark>, ConnectorError> {
    if ledger::meta(conn, place).await?.is_none() {
        return Ok(None);
    }
    let asked =
        sqlx::query("select position, version from _highwater_watermark where stream_id = ?");
    let found = asked.bind(stream).fetch_optional(conn).await;
    let Some(row) = found.map_err(place.failed("read the watermark"))? else {
        return Ok(None);
    };
    let (position, version): (String, i64) = (row.get(0), row.get(1));
    match (stored_cursor(&position), u64::try_from(version)) {
        (Some(position), Ok(version)) => Ok(Some(StoredWatermark { position, version })),
        (_, Err(_)) | (None, _) => Err(place.permanent(
            ErrorCode::LedgerUnreadable,
            format!(
                "the watermark of {stream} is `{position}`, version {version}, which no version of \
                 Highwater has written"
            ),
        )),
    }
}

/// Puts a stream's watermark back to where rows are forgotten, inside the transaction that has taken
/// the stream.
pub(super) async fn lower(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    forgotten: Option<&CursorRange>,
) -> Result<(), ConnectorError> {
    let Some(at) = read(conn, place, stream).await? else {
        return Ok(());
    };
    let lowering = match lowered(at.position, forgotten) {
        Lowered::Stays => return Ok(()),
        Lowered::Removed => {
            sqlx::query("delete from _highwater_watermark where stream_id = ?1").bind(stream)
        }
        Lowered::To(start) => sqlx::query(
            "update _highwater_watermark set position = ?2, version = version + 1,
               updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where stream_id = ?1",
        )
        .bind(stream)
        .bind(cursor_text(start)),
    };
    let lowering = sql::run(conn, lowering).await;
    lowering
        .map(drop)
        .map_err(place.failed("put the watermark back"))
}

/// Puts a stream's watermark where a person wants it, inside the transaction that has taken the
/// stream.
pub(super) async fn place(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &PlaceRequest,
) -> Result<(), ConnectorError> {
    let stream = &request.stream.stream;
    let Some(to) = &request.to else {
        return lower(conn, place, stream, None).await;
    };
    let current = read(conn, place, stream).await?;
    let at = placed(to, current.map(|at| at.position.kind()), &request.tz)
        .map_err(|error| place.permanent(ErrorCode::BadPosition, error.to_string()))?;
    let placing = sqlx::query(
        "insert into _highwater_watermark (stream_id, position, version, token, updated_at)
         values (?1, ?2, 1, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
         on conflict (stream_id) do update set position = excluded.position,
           version = version + 1, token = excluded.token, updated_at = excluded.updated_at",
    )
    .bind(stream)
    .bind(cursor_text(at))
    .bind(request.stream.token.raw());
    let placing = sql::run(conn, placing).await;
    placing
        .map(drop)
        .map_err(place.failed("place the watermark"))
}
