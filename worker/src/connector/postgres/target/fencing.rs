//! How runs are fenced, and their sessions ended.

use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{ClusterId, RunId};
use sqlx::{Executor, PgConnection, Row};

use super::super::errors::{classify, fault, is_state};
use super::super::ledger::{self, SessionMark, uuid};
use super::super::other_sessions::{Ended, end_idle_claims, end_session};
use super::super::stream::FENCE_ROUNDS_MAX;
use super::PostgresTarget;
use crate::connector::ConnectorError;

impl PostgresTarget {
    pub(super) async fn make_ledger(
        &self,
        conn: &mut PgConnection,
        cluster: &ClusterId,
    ) -> Result<(), ConnectorError> {
        let failed = self.failed("make the ledger");
        conn.execute("begin isolation level read committed")
            .await
            .map_err(&failed)?;
        ledger::lock_making(conn, &self.endpoint).await?;
        ledger::make_whoever_holds(conn, &self.endpoint, cluster).await?;
        conn.execute("commit").await.map(drop).map_err(&failed)
    }

    /// Whether a fence has to wait for a lock once more.
    pub(super) fn is_blocked(
        &self,
        fenced: Result<(), sqlx::Error>,
        round: u32,
    ) -> Result<bool, ConnectorError> {
        match fenced {
            Ok(()) => Ok(false),
            Err(error) if is_state(&error, "55P03") && round + 1 < FENCE_ROUNDS_MAX => Ok(true),
            Err(error) => Err(classify(&self.endpoint, "fence a run", error)),
        }
    }

    /// Fences the open tasks of a run, in a statement of its own: this waits for the guards in
    /// flight, and every later one matches no row.
    pub(super) async fn fence_tasks(
        &self,
        conn: &mut PgConnection,
        run: &RunId,
    ) -> Result<u64, ConnectorError> {
        for round in 0..FENCE_ROUNDS_MAX {
            let fenced = sqlx::query(
                "update highwater.task set state = 'X' where run_id = $1 and \
                                      state = 'O'",
            )
            .bind(uuid(run.as_bytes()))
            .execute(&mut *conn)
            .await;
            let attempts = fenced
                .as_ref()
                .map_or(0, sqlx::postgres::PgQueryResult::rows_affected);
            if !self.is_blocked(fenced.map(drop), round)? {
                return Ok(attempts);
            }
            self.end_sessions(conn, Some(run)).await?;
        }
        Err(self.fence_blocked(&format!("run {run}")))
    }

    pub(super) fn fence_blocked(&self, whose: &str) -> ConnectorError {
        let message = format!(
            "{whose} could not be fenced on {}: its task rows stay locked",
            self.endpoint
        );
        fault(ErrorClass::Resource, ErrorCode::FenceBlocked, message)
    }

    /// Ends the sessions of open tasks, of a run or of all: one of them holds its row without going
    /// on.
    pub(super) async fn end_sessions(
        &self,
        conn: &mut PgConnection,
        run: Option<&RunId>,
    ) -> Result<(), ConnectorError> {
        let failed = self.failed("end the sessions of a run");
        end_idle_claims(conn, self.endpoint.session().claim_lock_timeout / 2)
            .await
            .map_err(&failed)?;
        let rows = sqlx::query(
            "select t.session_id, (extract(epoch from t.session_start) * 1000000)::int8 as \
             session_micros \
             from highwater.task t join pg_stat_activity a on a.pid = t.session_id \
             and coalesce(a.backend_start = t.session_start, true) \
             where ($1::uuid is null or t.run_id = $1) and t.state = 'O'",
        )
        .bind(run.map(|run| uuid(run.as_bytes())))
        .fetch_all(&mut *conn)
        .await
        .map_err(&failed)?;
        for row in rows {
            let pid = row.try_get("session_id").map_err(&failed)?;
            let started_micros = row.try_get("session_micros").map_err(&failed)?;
            let ended = end_session(
                conn,
                SessionMark {
                    pid,
                    started_micros,
                },
            )
            .await
            .map_err(&failed)?;
            if ended != Ended::Gone {
                let advice = ended.advice();
                tracing::warn!(target = %self.endpoint, pid, "a session of the run could not be \
                    ended{advice}");
            }
        }
        Ok(())
    }
}

/// Gives the target's mark to `cluster`, and fences what another one has claimed, all within one
/// transaction: cut off in between, a repeat would find the mark its own and fence nothing. A claim
/// holds the mark until it commits, so every claim of the former cluster is either fenced here or
/// refused; the last statement waits for the guards in flight.
pub(super) async fn take_over(
    conn: &mut PgConnection,
    cluster: &ClusterId,
    is_foreign: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query("update highwater.meta set cluster_id = $1, incarnation = incarnation + 1")
        .bind(uuid(cluster.as_bytes()))
        .execute(&mut *conn)
        .await?;
    if is_foreign {
        conn.execute("update highwater.run set state = 'X', fenced_at = now() where state = 'R'")
            .await?;
        conn.execute("update highwater.task set state = 'X' where state = 'O'")
            .await?;
    }
    Ok(())
}
