//! The bounds of keys that the ledger keeps with its streams: receipts name them by numbers.

use highwater_common::error_code::ErrorCode;
use highwater_common::placing::{KeyBound, KeyPlacing, Placing};
use sqlx::{PgConnection, Row};

use super::errors::{classify, is_missing_relation, permanent};
use super::session::Endpoint;
use crate::connector::{ConnectorError, KeptBounds};

/// Those of a stream that has committed receipts by their rule.
pub(super) async fn kept(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
) -> Result<Vec<KeptBounds>, ConnectorError> {
    let failed = |error| classify(endpoint, "read the bounds of a step", error);
    let read = sqlx::query(
        "select rule, number, key_values from highwater.bound b where stream_id = $1 and exists \
         (select from highwater.task t where t.stream_id = $1 and t.state = 'C' \
         and t.slice_kind = 'placed:' || b.rule) order by rule, number",
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
/// receipt ends at stays.
///
/// # Errors
/// Permanent `schema_changed` when the plan lacks one of those: it was made before they were committed.
pub(super) async fn keep(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    keys: &KeyPlacing,
) -> Result<(), ConnectorError> {
    let failed = |error| classify(endpoint, "keep the bounds of a step", error);
    let rule = Placing::Keys(keys.clone()).id().to_string();
    sqlx::query(
        "delete from highwater.bound b where stream_id = $1 and rule = $2 and not exists (select \
         from highwater.task t where t.stream_id = $1 and t.state = 'C' and t.slice_kind = 'placed:' || $2 \
         and b.number in (t.range_start, t.range_end))",
    )
    .bind(stream)
    .bind(&rule)
    .execute(&mut *conn)
    .await
    .map_err(failed)?;
    let spoken_of = sqlx::query(
        "select number, key_values from highwater.bound where stream_id = $1 and rule = $2",
    )
    .bind(stream)
    .bind(&rule)
    .fetch_all(&mut *conn)
    .await
    .map_err(failed)?;
    for row in spoken_of {
        let bound = KeyBound {
            number: row.try_get("number").map_err(failed)?,
            values: row.try_get("key_values").map_err(failed)?,
        };
        if keys.bound(bound.number) != Some(&bound) {
            let message = format!(
                "receipts of {stream} on {endpoint} end at other keys than the plan cuts at, because \
                 another run has committed them since it was made; plan anew with --new"
            );
            return Err(permanent(ErrorCode::SchemaChanged, message));
        }
    }
    for bound in &keys.bounds {
        sqlx::query(
            "insert into highwater.bound (stream_id, rule, number, key_values) values ($1, $2, $3, $4) \
             on conflict do nothing",
        )
        .bind(stream)
        .bind(&rule)
        .bind(bound.number)
        .bind(&bound.values)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    }
    Ok(())
}
