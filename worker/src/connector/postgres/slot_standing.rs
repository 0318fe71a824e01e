//! What a server shows of a replication slot, and dropping it.

use highwater_common::error_code::ErrorCode;
use highwater_common::log::{Lsn, SlotStanding};
use sqlx::{Connection, PgConnection, Row};

use super::errors::{classify, permanent};
use super::session::{Endpoint, SessionRole};
use super::slot::position;
use crate::connector::{ConnectorError, LogRequest, LogShown};

const MEBIBYTE: i64 = 1 << 20;

/// Reads it; changes nothing.
pub(super) async fn read(
    endpoint: &Endpoint,
    request: &LogRequest,
) -> Result<LogShown, ConnectorError> {
    let mut conn = endpoint.open_or_take(SessionRole::Source).await?;
    let failed = |error| classify(endpoint, "look at the replication slots", error);
    let now = sqlx::query(
        "select (extract(epoch from clock_timestamp()) * 1000000)::int8 as at, \
         pg_current_wal_insert_lsn()::text as ends, (select setting::int8 from pg_settings where \
         name = 'max_slot_wal_keep_size') as keep",
    )
    .fetch_one(&mut conn)
    .await
    .map_err(failed)?;
    let at = now.try_get("at").map_err(failed)?;
    let end: String = now.try_get("ends").map_err(failed)?;
    // In MiB; -1 for no limit. PostgreSQL has it from 13 on.
    let keep: Option<i64> = now.try_get("keep").map_err(failed)?;
    let keep_bytes = keep.and_then(|keep| u64::try_from(keep.checked_mul(MEBIBYTE)?).ok());
    let slot = read_slot(&mut conn, endpoint, &request.slot).await?;
    endpoint.keep_or_close(conn).await;
    Ok(LogShown {
        slot,
        keep_bytes,
        end: position(endpoint, &end)?,
        at,
    })
}

async fn read_slot(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    name: &str,
) -> Result<Option<SlotStanding>, ConnectorError> {
    let failed = |error| classify(endpoint, "look at the replication slots", error);
    let found = sqlx::query(
        "select active, confirmed_flush_lsn::text as confirmed, coalesce(wal_status, '') as status, \
         coalesce(greatest(pg_current_wal_insert_lsn() - restart_lsn, 0), 0)::int8 as retained from \
         pg_replication_slots where slot_name = $1",
    )
    .bind(name)
    .fetch_optional(conn)
    .await
    .map_err(failed)?;
    let Some(row) = found else {
        return Ok(None);
    };
    let confirmed: Option<String> = row.try_get("confirmed").map_err(failed)?;
    let confirmed: Option<Result<Lsn, ConnectorError>> =
        confirmed.map(|text| position(endpoint, &text));
    let retained: i64 = row.try_get("retained").map_err(failed)?;
    Ok(Some(SlotStanding {
        active: row.try_get("active").map_err(failed)?,
        confirmed: confirmed.transpose()?,
        wal_status: row.try_get("status").map_err(failed)?,
        retained_bytes: u64::try_from(retained).unwrap_or(0),
    }))
}

/// Drops a slot that a table of this database is followed by.
pub(super) async fn drop_slot(
    endpoint: &Endpoint,
    request: &LogRequest,
) -> Result<(), ConnectorError> {
    let slot = &request.slot;
    let what = format!("drop the replication slot {slot}");
    let failed = |error| classify(endpoint, &what, error);
    let mut conn = endpoint.open(SessionRole::Source).await?;
    let is_ours = "select coalesce(database = current_database() and plugin = 'pgoutput', false) \
                   from pg_replication_slots where slot_name = $1";
    let found: Option<bool> = sqlx::query_scalar(is_ours)
        .bind(slot)
        .fetch_optional(&mut conn)
        .await
        .map_err(failed)?;
    let refused = |why: &str| {
        let message = format!("the replication slot {slot} on {endpoint} is not dropped: {why}");
        Err(permanent(ErrorCode::LogUnsupported, message))
    };
    match found {
        None => return Ok(()),
        Some(false) => {
            return refused("it is not one that a table of this database is followed by");
        }
        Some(true) if !request.makes => {
            let why = format!(
                "its connection is `read_only`: `select pg_drop_replication_slot('{slot}')` there, \
                 `select pg_create_logical_replication_slot('{slot}', 'pgoutput')`, and \
                 `highwater coverage forget`, then run with `write.resident: replace`"
            );
            return refused(&why);
        }
        Some(true) => {}
    }
    // Whoever made it anew meanwhile has one that another session may read: then it stays.
    sqlx::query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
    )
    .bind(slot)
    .execute(&mut conn)
    .await
    .map_err(failed)?;
    conn.close().await.ok();
    Ok(())
}
