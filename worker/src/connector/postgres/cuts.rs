//! The bounds of keys that the ledger keeps with its streams: receipts name them by numbers.

use std::collections::BTreeMap;

use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::placing::{KeyBound, KeyPlacing, Placing, PlacingId};
use highwater_common::range::Slice;
use serde_json::json;
use sqlx::{Executor, PgConnection, Row};

use super::errors::{classify, is_missing_relation, permanent};
use super::session::Endpoint;
use crate::connector::stored_slice::stored_slice;
use crate::connector::{ConnectorError, KeptBounds};

const MAKE_TABLE: &str = "
create table if not exists highwater.bound (
    stream_id text not null,
    rule text not null,
    number bigint not null,
    key_values text[] not null,
    primary key (stream_id, rule, number))";

/// Those that the stream's committed receipts speak of, and all others of their rules.
///
/// # Errors
/// Permanent `receipts_without_rows` when one of them is not there any more.
pub(super) async fn kept(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
) -> Result<Vec<KeptBounds>, ConnectorError> {
    let spoken_of = spoken_of(conn, endpoint, stream).await?;
    if spoken_of.is_empty() {
        return Ok(Vec::new());
    }
    let mut kept = read(conn, endpoint, stream).await?;
    for (rule, numbers) in &spoken_of {
        let bounds = kept.iter().find(|kept| kept.rule == *rule);
        let is_there = |number: &i64| {
            let bounds = bounds
                .map(|kept| kept.bounds.as_slice())
                .unwrap_or_default();
            bounds
                .binary_search_by_key(number, |bound| bound.number)
                .is_ok()
        };
        if !numbers.iter().all(is_there) {
            let message = format!(
                "receipts of {stream} on {endpoint} end at keys that `highwater.bound` does not hold any \
                 more: it was emptied, or restored without them, and nothing says which rows they speak \
                 of. Put it back, or give the step another name and an empty table"
            );
            return Err(permanent(ErrorCode::ReceiptsWithoutRows, message));
        }
    }
    kept.retain(|kept| spoken_of.contains_key(&kept.rule));
    Ok(kept)
}

/// The numbers that committed receipts end at, of each rule by a key.
async fn spoken_of(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
) -> Result<BTreeMap<PlacingId, Vec<i64>>, ConnectorError> {
    let failed = |error| classify(endpoint, "read the receipts of a step", error);
    let read = sqlx::query(
        "select distinct slice_kind, range_start, range_end from highwater.task where stream_id = $1 \
         and state = 'C' and slice_kind like 'placed:%'",
    )
    .bind(stream)
    .fetch_all(&mut *conn)
    .await;
    let rows = match read {
        Ok(rows) => rows,
        Err(error) if is_missing_relation(&error) => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found: BTreeMap<PlacingId, Vec<i64>> = BTreeMap::new();
    for row in rows {
        let kind: String = row.try_get("slice_kind").map_err(failed)?;
        let start: Option<i64> = row.try_get("range_start").map_err(failed)?;
        let end: Option<i64> = row.try_get("range_end").map_err(failed)?;
        let Some(Slice::Range(range)) = stored_slice(&kind, start, end) else {
            continue; // no version of ours has written it
        };
        if let Some(CursorKind::Placed(rule)) = range.kind()
            && !rule.places_null()
        {
            found
                .entry(rule)
                .or_default()
                .extend(start.into_iter().chain(end));
        }
    }
    Ok(found)
}

async fn read(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
) -> Result<Vec<KeptBounds>, ConnectorError> {
    let failed = |error| classify(endpoint, "read the bounds of a step", error);
    let read = sqlx::query(
        "select rule, number, key_values from highwater.bound where stream_id = $1 order by rule, \
         number",
    )
    .bind(stream)
    .fetch_all(&mut *conn)
    .await;
    let rows = match read {
        Ok(rows) => rows,
        Err(error) if is_missing_relation(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut kept: Vec<KeptBounds> = Vec::new();
    for row in rows {
        let rule: String = row.try_get("rule").map_err(failed)?;
        // What no version has written is of no rule that could keep it.
        let Ok(rule) = rule.parse() else { continue };
        let bound = KeyBound {
            number: row.try_get("number").map_err(failed)?,
            values: row.try_get("key_values").map_err(failed)?,
        };
        match kept.last_mut().filter(|last| last.rule == rule) {
            Some(last) => last.bounds.push(bound),
            None => kept.push(KeptBounds {
                rule,
                bounds: vec![bound],
            }),
        }
    }
    Ok(kept)
}

/// Puts the bounds of a plan there, in the transaction that has taken the stream. What a committed
/// receipt ends at stays: the plan has the same, or all of its own behind them.
///
/// # Errors
/// Permanent `schema_changed` when it has not: it was made before they were committed.
pub(super) async fn keep(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    keys: &KeyPlacing,
) -> Result<(), ConnectorError> {
    let failed = |error| classify(endpoint, "keep the bounds of a step", error);
    let rule = Placing::Keys(keys.clone()).id();
    // A role that does not own the ledger may make no table in it.
    let is_there: bool = sqlx::query_scalar("select to_regclass('highwater.bound') is not null")
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if !is_there {
        conn.execute(sqlx::raw_sql(MAKE_TABLE))
            .await
            .map_err(failed)?;
    }
    sqlx::query(
        "delete from highwater.bound b where stream_id = $1 and rule = $2 and not exists (select \
         from highwater.task t where t.stream_id = $1 and t.state = 'C' and t.slice_kind = 'placed:' || $2 \
         and b.number in (t.range_start, t.range_end))",
    )
    .bind(stream)
    .bind(rule.to_string())
    .execute(&mut *conn)
    .await
    .map_err(failed)?;
    let first = keys.bounds.first().map_or(i64::MAX, |bound| bound.number);
    let own = |bound: &KeyBound| bound.number < first || keys.bound(bound.number) == Some(bound);
    let kept = read(conn, endpoint, stream).await?;
    let kept = kept.iter().filter(|kept| kept.rule == rule);
    if !kept.flat_map(|kept| &kept.bounds).all(own) {
        let message = format!(
            "receipts of {stream} on {endpoint} end at other keys than the plan cuts at, because \
             another run has committed them since it was made; plan anew with --new"
        );
        return Err(permanent(ErrorCode::SchemaChanged, message));
    }
    let bounds = keys.bounds.iter();
    let bounds = json!(bounds.map(|of| (of.number, &of.values)).collect::<Vec<_>>());
    sqlx::query(
        "insert into highwater.bound (stream_id, rule, number, key_values) \
         select $1, $2, (b ->> 0)::int8, array(select t.value from jsonb_array_elements_text(b -> 1) \
         with ordinality t(value, place) order by t.place) from jsonb_array_elements($3::jsonb) b \
         on conflict do nothing",
    )
    .bind(stream)
    .bind(rule.to_string())
    .bind(bounds.to_string())
    .execute(&mut *conn)
    .await
    .map_err(failed)?;
    Ok(())
}
