//! The guard: what a commit says to the ledger, last in its transaction.
//!
//! A task that commits in chunks keeps a receipt of the part that is committed, beside its own row:
//! so the rows are covered whatever becomes of the task. The receipt goes when the task's own row
//! takes its place.

use highwater_common::chunk::Reached;
use highwater_common::cursor::Cursor;
use highwater_common::error_code::ErrorCode;
use highwater_common::range::{CursorRange, Slice};
use sqlx::sqlite::SqliteConnection;

use super::transaction::Attempt;
use super::{ledger, sql};
use crate::connector::stored_slice::{StoredSlice, cursor_text, kind_text};
use crate::connector::{ConnectorError, GuardStep, Matched, Next, WatermarkMove};

/// The task's row takes the step if it is still the attempt's, and stands where it was `reached`;
/// then the watermark does.
pub(super) async fn guard(
    conn: &mut SqliteConnection,
    attempt: &Attempt,
    reached: &Reached,
    step: &GuardStep,
) -> Result<Matched, ConnectorError> {
    check_file(conn, attempt).await?;
    // A task of no slice covers nothing, and keeps no receipt of a part of it.
    let keeps = attempt.claim.slice.is_some();
    let kept = match step.next {
        Next::Continue { .. } | Next::Committed if !keeps => 1,
        Next::Continue { cursor } => keep_part(conn, attempt, step, cursor).await?,
        Next::Committed if reached.chunks > 0 => drop_part(conn, attempt).await?,
        Next::Committed => 1,
    };
    if kept != 1 {
        return Ok(Matched {
            ledger: 0,
            watermark: None,
        });
    }
    let (state, cursor) = match step.next {
        Next::Continue { cursor } => ("O", Some(cursor_text(cursor))),
        Next::Committed => ("C", None),
    };
    let claim = &attempt.claim;
    let guarded = sqlx::query(
        "update _highwater_task set state = ?6, chunk = chunk + 1, cursor = coalesce(?7, cursor),
           rows = rows + ?8, bytes = bytes + ?9,
           committed_at = case ?6 when 'C' then strftime('%Y-%m-%dT%H:%M:%fZ', 'now') end
         where run_id = ?1 and task_id = ?2 and token = ?3 and nonce = ?4 and state = 'O'
           and chunk = ?5",
    )
    .bind(claim.run.to_string())
    .bind(claim.task.to_string())
    .bind(claim.fence.token.raw())
    .bind(claim.fence.nonce.to_bytes().to_vec())
    .bind(i64::from(reached.chunks))
    .bind(state)
    .bind(cursor)
    .bind(number(step.chunk.rows))
    .bind(number(step.chunk.bytes));
    let guarded = sql::run(conn, guarded)
        .await
        .map_err(attempt.place.failed("guard the commit"))?;
    let watermark = match &step.watermark {
        Some(to) => Some(move_watermark(conn, attempt, to).await?),
        None => None,
    };
    Ok(Matched {
        ledger: guarded,
        watermark,
    })
}

/// A file that was unlinked or replaced under the open connection would take the rows along.
async fn check_file(conn: &mut SqliteConnection, attempt: &Attempt) -> Result<(), ConnectorError> {
    let place = &attempt.place;
    let found = match ledger::meta(conn, place).await? {
        Some(meta) => ledger::fingerprint(place, Some(&meta)).await?,
        None => String::new(),
    };
    if found == attempt.fingerprint {
        return Ok(());
    }
    let message = "the database file was replaced while the attempt was writing. Plan the run anew";
    Err(place.permanent(ErrorCode::TargetChanged, message))
}

/// The receipt of what is committed of the task: it grows with each chunk.
async fn keep_part(
    conn: &mut SqliteConnection,
    attempt: &Attempt,
    step: &GuardStep,
    cursor: Cursor,
) -> Result<u64, ConnectorError> {
    let claim = &attempt.claim;
    let start = match claim.slice {
        Some(Slice::Range(range)) => range.start(),
        Some(Slice::Null) | None => None,
    };
    // A range without a kind of its own has the cursor's.
    let part = CursorRange::new(start, Some(cursor)).map(Slice::Range);
    let part = StoredSlice::of_task(part.ok().or(claim.slice).as_ref());
    let keep = sqlx::query(
        "insert into _highwater_task (run_id, task_id, token, nonce, state, spec_digest, generation,
           step, phase, ordinal, plan, stream_id, slice_kind, range_start, range_end, attempt, rows,
           bytes, part, session_id, session_start, claimed_at, committed_at)
         select run_id, ?3, token, nonce, 'C', spec_digest, generation, step, phase, ordinal, plan,
           stream_id, ?4, ?5, ?6, attempt, ?7, ?8, 1, session_id, session_start, claimed_at,
           strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
         from _highwater_task where run_id = ?1 and task_id = ?2
         on conflict (run_id, task_id) do update set token = excluded.token, nonce = excluded.nonce,
           attempt = excluded.attempt, range_end = excluded.range_end,
           rows = _highwater_task.rows + excluded.rows,
           bytes = _highwater_task.bytes + excluded.bytes, committed_at = excluded.committed_at
         where _highwater_task.state = 'C'",
    )
    .bind(claim.run.to_string())
    .bind(claim.task.to_string())
    .bind(claim.task.part().to_string())
    .bind(kind_text(cursor.kind()))
    .bind(part.start)
    .bind(part.end)
    .bind(number(step.chunk.rows))
    .bind(number(step.chunk.bytes));
    let kept = sql::run(conn, keep).await;
    kept.map_err(attempt.place.failed("keep the receipt of a chunk"))
}

async fn drop_part(conn: &mut SqliteConnection, attempt: &Attempt) -> Result<u64, ConnectorError> {
    let drop =
        sqlx::query("delete from _highwater_task where run_id = ? and task_id = ? and state = 'C'")
            .bind(attempt.claim.run.to_string())
            .bind(attempt.claim.task.part().to_string());
    let dropped = sql::run(conn, drop).await;
    dropped.map_err(attempt.place.failed("replace the receipt of a part"))
}

async fn move_watermark(
    conn: &mut SqliteConnection,
    attempt: &Attempt,
    to: &WatermarkMove,
) -> Result<u64, ConnectorError> {
    let (token, position) = (attempt.claim.fence.token.raw(), cursor_text(to.position));
    let moves = match to.seen {
        Some(seen) => sqlx::query(
            "update _highwater_watermark set position = ?2, version = version + 1, token = ?3,
               updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             where stream_id = ?1 and version = ?4",
        )
        .bind(to.stream.clone())
        .bind(position.clone())
        .bind(token)
        .bind(number(seen)),
        None => sqlx::query(
            "insert into _highwater_watermark (stream_id, position, version, token, updated_at)
             values (?1, ?2, 1, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
             on conflict do nothing",
        )
        .bind(to.stream.clone())
        .bind(position.clone())
        .bind(token),
    };
    let moved = sql::run(conn, moves).await;
    moved.map_err(attempt.place.failed("move the watermark"))
}

fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
