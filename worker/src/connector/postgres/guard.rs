//! The guard: what a commit says to the ledger, last in its transaction.
//!
//! A task that commits in chunks keeps a receipt of the part that is committed, beside its own row:
//! so the rows are covered whatever becomes of the task. The receipt goes when the task's own row
//! takes its place.

use highwater_common::chunk::Reached;
use highwater_common::cursor::Cursor;
use highwater_common::range::{CursorRange, Slice};

use super::data::Session;
use super::ledger::uuid;
use super::watermark::identity_text;
use crate::connector::stored_slice::{StoredSlice, cursor_text, kind_text};
use crate::connector::{ConnectorError, GuardStep, Matched, Next, WatermarkMove};

/// The task's row takes the step if it is still the session's, and stands where it was `reached`;
/// then the watermark does.
pub(super) async fn guard(
    session: &mut Session,
    reached: &Reached,
    step: &GuardStep,
) -> Result<Matched, ConnectorError> {
    // A task of no slice covers nothing, and keeps no receipt of a part of it.
    let keeps = session.claim.slice.is_some();
    let kept = match step.next {
        Next::Continue { .. } | Next::Committed if !keeps => 1,
        Next::Continue { cursor } => keep_part(session, step, cursor).await?,
        Next::Committed if reached.chunks > 0 => drop_part(session).await?,
        Next::Committed => 1,
    };
    if kept != 1 {
        return Ok(Matched {
            ledger: 0,
            watermark: None,
        });
    }
    let failed = session.failed("guard a commit");
    let (state, cursor) = match step.next {
        Next::Continue { cursor } => ("O", Some(cursor_text(cursor))),
        Next::Committed => ("C", None),
    };
    let claim = &session.claim;
    let guarded = sqlx::query(
        "update highwater.task set state = $6, chunk = chunk + 1, cursor = coalesce($7, cursor), \
            rows = rows + $8, bytes = bytes + $9, \
            committed_at = case $6 when 'C' then clock_timestamp() end \
            where run_id = $1 and task_id = $2 and token = $3 and nonce = $4 and state = 'O' \
            and chunk = $5",
    )
    .bind(uuid(claim.run.as_bytes()))
    .bind(uuid(claim.task.as_bytes()))
    .bind(claim.fence.token.raw())
    .bind(uuid(&claim.fence.nonce.to_bytes()))
    .bind(i32::try_from(reached.chunks).unwrap_or(i32::MAX))
    .bind(state)
    .bind(cursor)
    .bind(number(step.chunk.rows))
    .bind(number(step.chunk.bytes))
    .execute(&mut session.conn)
    .await
    .map_err(failed)?;
    let watermark = match &step.watermark {
        Some(to) => Some(move_watermark(session, to).await?),
        None => None,
    };
    Ok(Matched {
        ledger: guarded.rows_affected(),
        watermark,
    })
}

/// The receipt of what is committed of the task: it grows with each chunk.
async fn keep_part(
    session: &mut Session,
    step: &GuardStep,
    cursor: Cursor,
) -> Result<u64, ConnectorError> {
    let failed = session.failed("keep the receipt of a chunk");
    let claim = &session.claim;
    let start = match claim.slice {
        Some(Slice::Range(range)) => range.start(),
        Some(Slice::Null) | None => None,
    };
    // A range without a kind of its own has the cursor's.
    let part = CursorRange::new(start, Some(cursor)).map(Slice::Range);
    let part = StoredSlice::of_task(part.ok().or(claim.slice).as_ref());
    let kept = sqlx::query(
        "insert into highwater.task as task (run_id, task_id, token, nonce, state, spec_digest, \
            generation, step, phase, ordinal, plan, stream_id, slice_kind, range_start, \
            range_end, attempt, rows, bytes, part, committed_at) \
            values ($1, $2, $3, $4, 'C', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
            $17, true, clock_timestamp()) \
            on conflict (run_id, task_id) do update set token = excluded.token, \
            nonce = excluded.nonce, attempt = excluded.attempt, range_end = excluded.range_end, \
            rows = task.rows + excluded.rows, bytes = task.bytes + excluded.bytes, \
            committed_at = excluded.committed_at where task.state = 'C'",
    )
    .bind(uuid(claim.run.as_bytes()))
    .bind(uuid(claim.task.part().as_bytes()))
    .bind(claim.fence.token.raw())
    .bind(uuid(&claim.fence.nonce.to_bytes()))
    .bind(claim.spec_digest.as_bytes().as_slice())
    .bind(i32::try_from(claim.generation).unwrap_or(i32::MAX))
    .bind(claim.step.as_str())
    .bind(i16::from(claim.phase))
    .bind(number(claim.ordinal))
    .bind(claim.plan.as_bytes().as_slice())
    .bind(&claim.stream)
    .bind(kind_text(cursor.kind()))
    .bind(part.start)
    .bind(part.end)
    .bind(i32::try_from(claim.attempt.get()).unwrap_or(i32::MAX))
    .bind(number(step.chunk.rows))
    .bind(number(step.chunk.bytes))
    .execute(&mut session.conn)
    .await
    .map_err(failed)?;
    Ok(kept.rows_affected())
}

async fn drop_part(session: &mut Session) -> Result<u64, ConnectorError> {
    let failed = session.failed("replace the receipt of a part");
    let dropped = sqlx::query(
        "delete from highwater.task where run_id = $1 and task_id = $2 and state = 'C'",
    )
    .bind(uuid(session.claim.run.as_bytes()))
    .bind(uuid(session.claim.task.part().as_bytes()))
    .execute(&mut session.conn)
    .await
    .map_err(failed)?;
    Ok(dropped.rows_affected())
}

async fn move_watermark(session: &mut Session, to: &WatermarkMove) -> Result<u64, ConnectorError> {
    let failed = session.failed("move the watermark");
    let (token, position) = (session.claim.fence.token.raw(), cursor_text(to.position));
    if let (Some(seen), Some(log)) = (to.seen, &to.log) {
        let moved = sqlx::query(
            "update highwater.watermark set position = $2, version = version + 1, token = $3, \
                updated_at = now(), log_identity = coalesce($5, log_identity), \
                reached_at = coalesce(to_timestamp($6::float8 / 1000000), reached_at), \
                live_since = case when $7 then coalesce(live_since, now()) else live_since end \
                where stream_id = $1 and version = $4",
        )
        .bind(&to.stream)
        .bind(&position)
        .bind(token)
        .bind(number(seen))
        .bind(identity_text(log.identity.as_ref()))
        .bind(log.reached_at)
        .bind(log.is_live);
        let moved = moved.execute(&mut session.conn).await.map_err(failed)?;
        return Ok(moved.rows_affected());
    }
    let moved = match to.seen {
        Some(seen) => sqlx::query(
            "update highwater.watermark set position = $2, version = version + 1, token = $3, \
                updated_at = now() where stream_id = $1 and version = $4",
        )
        .bind(&to.stream)
        .bind(&position)
        .bind(token)
        .bind(number(seen)),
        None => sqlx::query(
            "insert into highwater.watermark (stream_id, position, version, token) \
                values ($1, $2, 1, $3) on conflict do nothing",
        )
        .bind(&to.stream)
        .bind(&position)
        .bind(token),
    };
    let moved = moved.execute(&mut session.conn).await.map_err(failed)?;
    Ok(moved.rows_affected())
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
