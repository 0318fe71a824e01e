//! The fence of a stream: one run at a time owns it, and what others have committed of it stands
//! still.
//!
//! A file has one writer at a time, so whoever is inside a transaction that writes has no claim and
//! no guard in flight beside him.

use highwater_common::error_code::ErrorCode;
use highwater_common::id::RunId;
use highwater_common::stream::{PlanMark, RunMark, StreamOwner, Takeover, take_stream};
use highwater_common::token::FencingToken;
use highwater_runtime::failpoint;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::errors::DatabaseFile;
use super::sql;
use crate::connector::{ConnectorError, PrepareOutcome, StreamRequest};

/// What the ledger says of a run.
pub(super) async fn mark(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    run: &RunId,
) -> Result<RunMark, ConnectorError> {
    let row = sqlx::query("select state, fenced_by from _highwater_run where run_id = ?")
        .bind(run.to_string())
        .fetch_optional(conn)
        .await
        .map_err(place.failed("read the run's state"))?;
    let Some(row) = row else {
        return Ok(RunMark::Unknown);
    };
    let by = row
        .get::<Option<String>, _>(1)
        .and_then(|by| by.parse().ok());
    Ok(if row.get::<String, _>(0) == "R" {
        RunMark::Running
    } else {
        RunMark::Fenced { by }
    })
}

/// Takes the stream, inside the caller's transaction, and fences whoever else has rows of it. Gives
/// the answer to an attempt that may not have it.
pub(super) async fn take(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    wanted: &StreamRequest,
) -> Result<Option<PrepareOutcome>, ConnectorError> {
    let mine = StreamOwner {
        run: wanted.run,
        token: wanted.token,
        plan: wanted.plan,
    };
    let own = mark(conn, place, &wanted.run).await?;
    let owner = owner(conn, place, &wanted.stream).await?;
    let (former, leaves_plan) = match take_stream(&mine, own, owner.as_ref()) {
        Takeover::Take {
            former,
            leaves_plan,
        } => (former, leaves_plan),
        Takeover::Superseded => return Ok(Some(PrepareOutcome::Superseded)),
        Takeover::Fenced { newer } => return Ok(Some(PrepareOutcome::Fenced { newer })),
    };
    let (run, former) = (wanted.run.to_string(), former.map(|run| run.to_string()));
    let note = sqlx::query(
        "insert into _highwater_run (run_id, state) values (?, 'R') on conflict do \
                     nothing",
    )
    .bind(&run);
    let take = sqlx::query(
        "insert into _highwater_stream (stream_id, run_id, token, plan, taken_at)
         values (?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
         on conflict (stream_id) do update set run_id = excluded.run_id, token = max(token, excluded.token),
           plan = excluded.plan, taken_at = excluded.taken_at",
    )
    .bind(&wanted.stream)
    .bind(&run)
    .bind(wanted.token.raw())
    .bind(wanted.plan.as_ref().map(|plan| plan.as_bytes().to_vec()));
    let fence_runs = sqlx::query(
        "update _highwater_run set state = 'X', fenced_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), fenced_by = ?1
         where state = 'R' and run_id <> ?1
           and (run_id = ?3 or run_id in (select run_id from _highwater_task where stream_id = ?2))",
    )
    .bind(&run)
    .bind(&wanted.stream)
    .bind(&former);
    // Of the runs just fenced, and of the stream whoever claimed it.
    let fence_tasks = sqlx::query(
        "update _highwater_task set state = 'X' where state = 'O' and run_id <> ?1
           and (stream_id = ?2 or run_id in (select run_id from _highwater_run where fenced_by = ?1))",
    )
    .bind(&run)
    .bind(&wanted.stream);
    sql::run(conn, note)
        .await
        .map_err(place.failed("note the run"))?;
    sql::run(conn, take)
        .await
        .map_err(place.failed("take the stream"))?;
    failpoint::hit("stream::taken").await?;
    sql::run(conn, fence_runs)
        .await
        .map_err(place.failed("fence the stream's earlier runs"))?;
    failpoint::hit("stream::runs_fenced").await?;
    sql::run(conn, fence_tasks)
        .await
        .map_err(place.failed("fence the open tasks of the stream's earlier runs"))?;
    failpoint::hit("stream::tasks_fenced").await?;
    if leaves_plan {
        // Of another plan of this very run. Their rows go, so that a task that both plans have can
        // begin anew, and their guards match none.
        let give_up = sqlx::query(
            "delete from _highwater_task where state = 'O' and run_id = ? \
                                   and stream_id = ?",
        );
        let give_up = give_up.bind(&run).bind(&wanted.stream);
        sql::run(conn, give_up)
            .await
            .map_err(place.failed("give up the tasks of another plan"))?;
    }
    Ok(None)
}

/// The run that took a stream last, and for which of its plans.
pub(super) async fn owner(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
) -> Result<Option<StreamOwner>, ConnectorError> {
    let row = sqlx::query("select run_id, token, plan from _highwater_stream where stream_id = ?")
        .bind(stream)
        .fetch_optional(conn)
        .await
        .map_err(place.failed("read the stream's owner"))?;
    row.map(|row| {
        let run = row.get::<String, _>(0).parse().map_err(|_| {
            place.permanent(
                ErrorCode::LedgerUnreadable,
                "the ledger holds what no version has written: a run without an id",
            )
        })?;
        let plan = row
            .get::<Option<Vec<u8>>, _>(2)
            .and_then(|bytes| bytes.try_into().ok())
            .map(PlanMark::from_bytes);
        Ok(StreamOwner {
            run,
            token: FencingToken::from_raw(row.get(1)),
            plan,
        })
    })
    .transpose()
}
