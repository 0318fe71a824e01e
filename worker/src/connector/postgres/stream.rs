//! The fence of a stream: one run at a time owns it, and what others have committed of it stands
//! still. Never decides who may take a stream: that is `highwater_common::stream`'s business.

use futures_util::TryStreamExt;
use highwater_common::assignment::ErrorClass;
use highwater_common::coverage::Coverage;
use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{ClusterId, RunId};
use highwater_common::stream::{PlanMark, RunMark, StreamOwner, Takeover, take_stream};
use highwater_common::token::FencingToken;
use sqlx::postgres::PgRow;
use sqlx::{Executor, PgConnection, Row};
use uuid::Uuid;

use super::errors::{classify, fault, is_missing_relation, is_state, permanent, stumble};
use super::ledger::{self, SessionMark, uuid};
use super::other_sessions::{Ended, end_idle_claims, end_session, mark, set_lock_timeout};
use super::session::Endpoint;
use crate::connector::stored_slice::{ALL, NULL, RangeMerger, covering, kind_text, stored_slice};
use crate::connector::{ConnectorError, PrepareOutcome, StreamRequest};

/// Rounds of a fence, each of which ends the sessions that hold a task's row.
pub(super) const FENCE_ROUNDS_MAX: u32 = 3;

/// The most ranges of coverage that a probe brings home.
const COVERED_MAX: usize = 600;

/// A stream, and who wants it.
pub(super) struct Stream<'s> {
    pub(super) endpoint: &'s Endpoint,
    pub(super) request: &'s StreamRequest,
}

/// What came of taking a stream.
pub(super) enum Taken {
    /// It is the run's once the transaction that is open commits.
    Mine {
        /// The sessions of the attempts that were fenced.
        fenced: Vec<SessionMark>,
    },
    /// It is not, and no transaction is open.
    Not(PrepareOutcome),
}

impl Stream<'_> {
    /// Begins a transaction, makes the ledger where it is missing and takes the stream. Whoever
    /// takes it waits for the guards in flight; a session that holds its rows without going on is
    /// ended.
    pub(super) async fn take(
        &self,
        conn: &mut PgConnection,
        cluster: &ClusterId,
    ) -> Result<Taken, ConnectorError> {
        let failed = |error| classify(self.endpoint, "take the stream", error);
        for _ in 0..FENCE_ROUNDS_MAX {
            conn.execute("begin isolation level read committed")
                .await
                .map_err(failed)?;
            ledger::lock_making(conn, self.endpoint).await?;
            ledger::make(conn, self.endpoint, cluster).await?;
            let mine = StreamOwner {
                run: self.request.run,
                token: self.request.token,
                plan: self.request.plan,
            };
            let own = read_mark(conn, &mine.run).await.map_err(failed)?;
            let owner = self.owner(conn).await.map_err(failed)?;
            let (former, leaves_plan) = match take_stream(&mine, own, owner.as_ref()) {
                Takeover::Take {
                    former,
                    leaves_plan,
                } => (former, leaves_plan),
                Takeover::Superseded => {
                    conn.execute("rollback").await.map_err(failed)?;
                    return Ok(Taken::Not(PrepareOutcome::Superseded));
                }
                Takeover::Fenced { newer } => {
                    conn.execute("rollback").await.map_err(failed)?;
                    return Ok(Taken::Not(PrepareOutcome::Fenced { newer }));
                }
            };
            match self.fence_all(conn, former.as_ref(), leaves_plan).await {
                Ok(fenced) => return Ok(Taken::Mine { fenced }),
                Err(error) if is_state(&error, "55P03") => {
                    conn.execute("rollback").await.map_err(failed)?;
                    self.end_holders(conn, former.as_ref()).await?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let message = format!(
            "the stream {} could not be taken on {}: task rows of an earlier run stay locked; \
             pg_stat_activity shows by whom",
            self.request.stream, self.endpoint
        );
        Err(fault(
            ErrorClass::Resource,
            ErrorCode::FenceBlocked,
            message,
        ))
    }

    async fn owner(&self, conn: &mut PgConnection) -> Result<Option<StreamOwner>, sqlx::Error> {
        let row = sqlx::query(
            "select run_id, token, plan from highwater.stream where stream_id = \
                               $1",
        )
        .bind(&self.request.stream)
        .fetch_optional(&mut *conn)
        .await?;
        let owner = |row: PgRow| {
            let run: Uuid = row.try_get("run_id")?;
            let token = FencingToken::from_raw(row.try_get("token")?);
            let plan = plan_mark(row.try_get("plan")?);
            Ok(StreamOwner {
                run: RunId::from_bytes(run.into_bytes()),
                token,
                plan,
            })
        };
        row.map(owner).transpose()
    }

    async fn fence_all(
        &self,
        conn: &mut PgConnection,
        former: Option<&RunId>,
        leaves_plan: bool,
    ) -> Result<Vec<SessionMark>, sqlx::Error> {
        let mut fenced = self.fence_others(conn, former).await?;
        if leaves_plan {
            set_lock_timeout(conn, self.endpoint.session().claim_lock_timeout).await?;
            fenced.extend(self.give_up_own(conn).await?);
            set_lock_timeout(conn, self.endpoint.session().lock_timeout).await?;
        }
        Ok(fenced)
    }

    /// Gives up the run's own open tasks of the stream, which are of another plan of it, after its
    /// claims in flight: a later one reads which plan the stream was taken for. Their rows go, so
    /// that a task that both plans have can begin anew, and their guards match none.
    async fn give_up_own(&self, conn: &mut PgConnection) -> Result<Vec<SessionMark>, sqlx::Error> {
        let mine = uuid(self.request.run.as_bytes());
        sqlx::query("select from highwater.run where run_id = $1 for no key update")
            .bind(mine)
            .execute(&mut *conn)
            .await?;
        let rows = sqlx::query(
            "delete from highwater.task where state = 'O' and run_id = $1 and stream_id = $2 \
             returning session_id, (extract(epoch from session_start) * 1000000)::int8 as \
             session_micros",
        )
        .bind(mine)
        .bind(&self.request.stream)
        .fetch_all(&mut *conn)
        .await?;
        let mut given_up = Vec::new();
        for row in rows {
            given_up.extend(mark(
                row.try_get("session_id")?,
                row.try_get("session_micros")?,
            ));
        }
        Ok(given_up)
    }

    /// Notes the new owner, and fences whoever else has rows of the stream: the runs first, which
    /// waits for their claims in flight, then their open tasks, which waits for their guards. Gives
    /// the sessions of those tasks.
    async fn fence_others(
        &self,
        conn: &mut PgConnection,
        former: Option<&RunId>,
    ) -> Result<Vec<SessionMark>, sqlx::Error> {
        let StreamRequest {
            stream, run, token, ..
        } = self.request;
        let (mine, former) = (uuid(run.as_bytes()), former.map(|run| uuid(run.as_bytes())));
        set_lock_timeout(conn, self.endpoint.session().claim_lock_timeout).await?;
        sqlx::query(
            "insert into highwater.run (run_id, state) values ($1, 'R') on conflict do \
                     nothing",
        )
        .bind(mine)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "insert into highwater.stream as stream (stream_id, run_id, token, plan) values ($1, \
             $2, $3, $4) \
             on conflict (stream_id) do update \
             set run_id = excluded.run_id, token = greatest(stream.token, excluded.token), plan = \
             excluded.plan, \
             taken_at = now()",
        )
        .bind(stream)
        .bind(mine)
        .bind(token.raw())
        .bind(
            self.request
                .plan
                .as_ref()
                .map(|plan| plan.as_bytes().as_slice()),
        )
        .execute(&mut *conn)
        .await?;
        stumble("stream::taken").await?;
        let runs = sqlx::query_scalar::<_, Uuid>(
            "update highwater.run set state = 'X', fenced_at = now(), fenced_by = $1 \
             where state = 'R' and run_id <> $1 \
             and (run_id = $3 or run_id in (select run_id from highwater.task where stream_id = \
             $2)) returning run_id",
        )
        .bind(mine)
        .bind(stream)
        .bind(former)
        .fetch_all(&mut *conn)
        .await?;
        stumble("stream::runs_fenced").await?;
        // Two statements, for the sake of two indexes: every open task of the runs just fenced, and
        // every other one of the stream, such as of a run whose cancel was cut off between its two
        // halves.
        let of_runs = sqlx::query(
            "update highwater.task set state = 'X' where state = 'O' and run_id <> $1 and run_id = \
             any ($2) \
             returning session_id, (extract(epoch from session_start) * 1000000)::int8 as \
             session_micros",
        )
        .bind(mine)
        .bind(runs);
        let of_stream = sqlx::query(
            "update highwater.task set state = 'X' where state = 'O' and run_id <> $1 and \
             stream_id = $2 \
             returning session_id, (extract(epoch from session_start) * 1000000)::int8 as \
             session_micros",
        )
        .bind(mine)
        .bind(stream);
        let mut rows = of_runs.fetch_all(&mut *conn).await?;
        rows.extend(of_stream.fetch_all(&mut *conn).await?);
        let mut fenced = Vec::new();
        for row in rows {
            fenced.extend(mark(
                row.try_get("session_id")?,
                row.try_get("session_micros")?,
            ));
        }
        stumble("stream::tasks_fenced").await?;
        set_lock_timeout(conn, self.endpoint.session().lock_timeout).await?;
        Ok(fenced)
    }

    /// Ends the sessions of the stream's open tasks, which are all of other runs or of another
    /// plan: one of them holds its row without going on.
    async fn end_holders(
        &self,
        conn: &mut PgConnection,
        former: Option<&RunId>,
    ) -> Result<(), ConnectorError> {
        let failed = |error| classify(self.endpoint, "end the sessions of an earlier run", error);
        end_idle_claims(conn, self.endpoint.session().claim_lock_timeout / 2)
            .await
            .map_err(failed)?;
        let rows = sqlx::query(
            "select session_id, (extract(epoch from session_start) * 1000000)::int8 as \
             session_micros from highwater.task \
             where state = 'O' and (stream_id = $1 or run_id = $2)",
        )
        .bind(&self.request.stream)
        .bind(former.map(|run| uuid(run.as_bytes())))
        .fetch_all(&mut *conn)
        .await
        .map_err(failed)?;
        for row in rows {
            let session = mark(
                row.try_get("session_id").map_err(failed)?,
                row.try_get("session_micros").map_err(failed)?,
            );
            if let Some(session) = session {
                end_session(conn, session).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Ends what the fence has made vain: it could commit nothing, and would only hold locks on the
    /// table.
    pub(super) async fn end_fenced(&self, conn: &mut PgConnection, fenced: &[SessionMark]) {
        for session in fenced {
            match end_session(conn, *session).await {
                Ok(Ended::Gone) => (),
                Ok(Ended::LivesOn | Ended::NotAllowed | Ended::NotVisible) => {
                    tracing::warn!(target = %self.endpoint, pid = session.pid, "a fenced session \
                        could not be ended")
                }
                Err(error) => {
                    tracing::warn!(target = %self.endpoint, pid = session.pid, %error, "a fenced \
                        session could not be ended");
                    return;
                }
            }
        }
    }
}

/// What the ledger says of a run.
pub(super) async fn read_mark(
    conn: &mut PgConnection,
    run: &RunId,
) -> Result<RunMark, sqlx::Error> {
    let found = sqlx::query("select state, fenced_by from highwater.run where run_id = $1")
        .bind(uuid(run.as_bytes()))
        .fetch_optional(&mut *conn)
        .await;
    let row = match found {
        Ok(row) => row,
        Err(error) if is_missing_relation(&error) => None,
        Err(error) => return Err(error),
    };
    let Some(row) = row else {
        return Ok(RunMark::Unknown);
    };
    let (state, by): (String, Option<Uuid>) = (row.try_get("state")?, row.try_get("fenced_by")?);
    let by = by.map(|by| RunId::from_bytes(by.into_bytes()));
    Ok(if state == "R" {
        RunMark::Running
    } else {
        RunMark::Fenced { by }
    })
}

/// The mark of a plan, unless nobody has put one there.
pub(super) fn plan_mark(stored: Option<Vec<u8>>) -> Option<PlanMark> {
    stored
        .and_then(|bytes| bytes.try_into().ok())
        .map(PlanMark::from_bytes)
}

/// What the stream's committed tasks cover, whoever committed them, but for `own`. Read as it
/// comes, so that a million rows need the memory of their gaps.
pub(super) async fn read_coverage(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    stream: &str,
    kind: CursorKind,
    own: Option<(&RunId, &PlanMark)>,
) -> Result<Coverage, ConnectorError> {
    let failed = |error| classify(endpoint, "read the ledger's coverage", error);
    let mut merger = RangeMerger::new(kind);
    let mut covered_null = false;
    let (own_kind, mut other) = (kind_text(kind), None);
    let mut rows = sqlx::query(
        "select distinct slice_kind, range_start, range_end from highwater.task \
         where stream_id = $1 and state = 'C' \
         and not (run_id is not distinct from $2 and plan is not distinct from $3) order by \
         range_start nulls first, range_end, slice_kind",
    )
    .bind(stream)
    .bind(own.map(|(run, _)| uuid(run.as_bytes())))
    .bind(own.map(|(_, plan)| plan.as_bytes().to_vec()))
    .fetch(&mut *conn);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let slice_kind: String = row.try_get("slice_kind").map_err(failed)?;
        if slice_kind == NULL {
            covered_null = true;
            continue;
        }
        let (start, end) = (
            row.try_get("range_start").map_err(failed)?,
            row.try_get("range_end").map_err(failed)?,
        );
        if slice_kind != ALL && slice_kind != own_kind {
            other = other.or_else(|| stored_slice(&slice_kind, start, end));
            continue;
        }
        merger.push(start, end);
        if merger.len() > COVERED_MAX {
            // To leave some out would load them twice.
            let message = format!(
                "the ledger on {endpoint} holds more than {COVERED_MAX} separate ranges of \
                 {stream}; fill the gaps in ascending order, or reprocess all"
            );
            return Err(permanent(ErrorCode::CoverageTooScattered, message));
        }
    }
    Ok(covering(merger, other, covered_null))
}
