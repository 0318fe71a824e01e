//! The claim: raises the fence of a task, in a short transaction of its own, on the connection that
//! will do the work. Never waits for ever behind a zombie: the session that held the task before is
//! ended, known by its process and its start.

use std::time::Duration;

use highwater_common::assignment::ErrorClass;
use highwater_common::chunk::Reached;
use highwater_common::commit::{Resume, resume};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::ClusterId;
use highwater_common::stream::{claimed_since, may_claim};
use highwater_common::token::FencingToken;
use sqlx::{Executor, PgConnection, Row};
use uuid::Uuid;

use super::data::{PgClaim, Session};
use super::errors::{classify, fault, is_missing_relation, is_state, permanent, stumble};
use super::ledger::{self, FoundRow, SessionMark, check_cluster, check_fingerprint, uuid};
use super::other_sessions::{Ended, end_session, mark, own_mark, set_lock_timeout};
use super::session::{Endpoint, SessionRole};
use super::stream::plan_mark;
use crate::connector::stored_slice::StoredSlice;
use crate::connector::{Claim, ClaimOutcome, ConnectorError, HeldClaim};
use crate::supervisor::Supervisor;

/// Rounds of one claim. Each one more means that another session changed the row in between, or
/// held it and was ended.
const ROUNDS_MAX: u32 = 5;
const LOCK_TIMEOUT: &str = "55P03";

/// What one round of a claim came to.
enum Round {
    Over(Decided),
    Again,
    /// Another session holds the row's lock.
    Blocked,
}

enum Decided {
    /// The target was adopted by another cluster since this connection looked.
    Adopted(ClusterId),
    Held(Reached),
    Outcome(ClaimOutcome),
    InDoubt,
}

struct Claiming<'c> {
    conn: PgConnection,
    endpoint: &'c Endpoint,
    claim: &'c Claim,
    me: SessionMark,
    /// The sessions of the attempts whose fences it takes.
    former: Vec<SessionMark>,
    /// How the last try to end a session of the task came out.
    hindered: Ended,
}

/// Claims, and hands the connection on when the fence stands.
pub(super) async fn claim(
    endpoint: &Endpoint,
    supervisor: &Supervisor,
    claim: &Claim,
) -> Result<ClaimOutcome, ConnectorError> {
    let mut conn = endpoint.open_or_take(SessionRole::Target).await?;
    check_cluster(&mut conn, endpoint, &claim.cluster).await?;
    check_fingerprint(&mut conn, endpoint, &claim.fingerprint).await?;
    let me = own_mark(&mut conn)
        .await
        .map_err(|error| classify(endpoint, "claim a task", error))?;
    let mut claiming = Claiming {
        conn,
        endpoint,
        claim,
        me,
        former: Vec::new(),
        hindered: Ended::Gone,
    };
    claiming
        .set_lock_timeout(endpoint.session().claim_lock_timeout)
        .await?;
    for _ in 0..ROUNDS_MAX {
        match claiming.round().await? {
            Round::Again => (),
            Round::Blocked => claiming.end_former().await?,
            Round::Over(Decided::Outcome(outcome)) => return Ok(outcome),
            Round::Over(Decided::Adopted(holder)) => {
                ledger::check_holder(endpoint, &holder, &claim.cluster)?;
            }
            Round::Over(Decided::InDoubt) => {
                let message = format!(
                    "task {} has begun something on {endpoint} that is not one transaction, and \
                     nobody knows how it ended; look at the target, then close the task by hand",
                    claim.task
                );
                return Err(permanent(ErrorCode::InDoubt, message));
            }
            Round::Over(Decided::Held(reached)) => {
                claiming
                    .set_lock_timeout(endpoint.session().lock_timeout)
                    .await?;
                // The fence stands already; the former session could only hold locks that the work
                // would wait for.
                claiming.end_former().await?;
                let held = PgClaim(Session {
                    conn: claiming.conn,
                    endpoint: endpoint.clone(),
                    claim: claim.clone(),
                    is_spent: false,
                });
                let held = HeldClaim::new(Box::new(held), reached, supervisor.clone());
                return Ok(ClaimOutcome::Held(held));
            }
        }
    }
    let message = format!(
        "task {} on {endpoint} could not be claimed: another session keeps its ledger row locked; \
         pg_stat_activity shows which{}",
        claim.task,
        claiming.hindered.advice()
    );
    Err(fault(
        ErrorClass::Resource,
        ErrorCode::ClaimBlocked,
        message,
    ))
}

impl Claiming<'_> {
    async fn round(&mut self) -> Result<Round, ConnectorError> {
        match self.try_round().await {
            Ok(round) => Ok(round),
            Err(error) if is_state(&error, LOCK_TIMEOUT) => {
                self.run("rollback").await?;
                Ok(Round::Blocked)
            }
            Err(error) if is_missing_relation(&error) => {
                let message = format!(
                    "there is no ledger on {}; was it dropped? Start a new run",
                    self.endpoint
                );
                Err(permanent(ErrorCode::LedgerMissing, message))
            }
            Err(error) => Err(classify(self.endpoint, "claim a task", error)),
        }
    }

    async fn try_round(&mut self) -> Result<Round, sqlx::Error> {
        let (run, task) = (
            uuid(self.claim.run.as_bytes()),
            uuid(self.claim.task.as_bytes()),
        );
        self.conn
            .execute("begin isolation level read committed")
            .await?;
        // Held until the claim commits: whoever adopts the target waits for it, and then fences
        // what it claimed.
        let holder =
            sqlx::query_scalar::<_, Uuid>("select cluster_id from highwater.meta for share")
                .fetch_optional(&mut self.conn)
                .await?
                .map(|holder| ClusterId::from_bytes(holder.into_bytes()));
        if let Some(holder) = holder.filter(|holder| *holder != self.claim.cluster) {
            self.conn.execute("rollback").await?;
            return Ok(Round::Over(Decided::Adopted(holder)));
        }
        if self.claim.runs_alone
            && let Some(newer) = self.take_turn().await?
        {
            self.conn.execute("rollback").await?;
            return Ok(Round::Over(Decided::Outcome(ClaimOutcome::Fenced {
                newer,
            })));
        }
        let state = sqlx::query_scalar::<_, String>(
            "select state from highwater.run where run_id \
            = $1 for share",
        )
        .bind(run)
        .fetch_optional(&mut self.conn)
        .await?;
        match state.as_deref() {
            Some("R") => (),
            Some(_) => {
                self.conn.execute("rollback").await?;
                return Ok(Round::Over(Decided::Outcome(ClaimOutcome::Superseded)));
            }
            None => {
                // In a transaction of its own, then again: one statement for both would not see a
                // fence put in between.
                self.conn.execute("rollback").await?;
                sqlx::query(
                    "insert into highwater.run (run_id, state) values ($1, 'R') on \
                             conflict do nothing",
                )
                .bind(run)
                .execute(&mut self.conn)
                .await?;
                return Ok(Round::Again);
            }
        }
        stumble("claim::marked").await?;
        // Read before the upsert overwrites it. A later attempt's session is not this one's to end.
        // And which plan the stream was taken for: whoever takes it for another one waits for the
        // run's mark, which this holds.
        let former = sqlx::query(
            "select t.session_id, (extract(epoch from t.session_start) * 1000000)::int8 as \
                session_micros, \
                (select plan from highwater.stream where stream_id = $4 and run_id = $1) as plan \
                from (values (1)) one left join highwater.task t on t.run_id = $1 and t.token < $3 \
                and (t.task_id = $2 or ($5 and t.stream_id = $4 and t.state = 'O'))",
        )
        .bind(run)
        .bind(task)
        .bind(self.claim.fence.token.raw())
        .bind(&self.claim.stream)
        .bind(self.claim.runs_alone)
        .fetch_all(&mut self.conn)
        .await?;
        self.former.clear();
        for former in &former {
            if !may_claim(
                plan_mark(former.try_get("plan")?).as_ref(),
                &self.claim.plan,
            ) {
                self.conn.execute("rollback").await?;
                return Ok(Round::Over(Decided::Outcome(ClaimOutcome::PlanChanged)));
            }
            self.former.extend(mark(
                former.try_get("session_id")?,
                former.try_get("session_micros")?,
            ));
        }
        if let Some(reached) = self.upsert().await? {
            if self.claim.runs_alone {
                self.take_fences().await?;
            }
            stumble("claim::raised").await?;
            self.conn.execute("commit").await?;
            stumble("claim::committed").await?;
            return Ok(Round::Over(Decided::Held(reached)));
        }
        let found = ledger::read_row(&mut self.conn, &self.claim.run, &self.claim.task).await?;
        self.conn.execute("commit").await?;
        match found {
            // It was not there a moment ago and is not there now: an insert of another session was
            // rolled back.
            None => Ok(Round::Again),
            Some(found) => self.decide(&found).await,
        }
    }

    /// Keeps the claims of the stream's other tasks waiting until this one has ended, and notes its
    /// token. The token of a later one, if there is one. Before the run's mark: whoever takes the
    /// stream for another run locks them in this order, too.
    async fn take_turn(&mut self) -> Result<Option<FencingToken>, sqlx::Error> {
        let mine = self.claim.fence.token;
        let latest = sqlx::query_scalar::<_, i64>(
            "update highwater.stream set token = greatest(token, $3) where stream_id = $1 and \
             run_id = $2 returning token",
        )
        .bind(&self.claim.stream)
        .bind(uuid(self.claim.run.as_bytes()))
        .bind(mine.raw())
        .fetch_optional(&mut self.conn)
        .await?;
        Ok(latest.and_then(|latest| claimed_since(FencingToken::from_raw(latest), mine)))
    }

    /// Takes the fences of the stream's other open tasks, after their guards in flight.
    async fn take_fences(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update highwater.task set token = $4, nonce = $5 where run_id = $1 and stream_id = $2 \
             and task_id <> $3 and state = 'O' and token <= $4 and (token, nonce) <> ($4, $5)",
        )
        .bind(uuid(self.claim.run.as_bytes()))
        .bind(&self.claim.stream)
        .bind(uuid(self.claim.task.as_bytes()))
        .bind(self.claim.fence.token.raw())
        .bind(uuid(&self.claim.fence.nonce.to_bytes()))
        .execute(&mut self.conn)
        .await
        .map(drop)
    }

    async fn upsert(&mut self) -> Result<Option<Reached>, sqlx::Error> {
        let claim = self.claim;
        let slice = StoredSlice::of_task(claim.slice.as_ref());
        let raised = sqlx::query(
            "insert into highwater.task as task (run_id, task_id, token, nonce, state, \
                spec_digest, session_id, \
                session_start, generation, step, phase, ordinal, plan, stream_id, slice_kind, \
                range_start, range_end, attempt) \
                values ($1, $2, $3, $4, 'O', $5, pg_backend_pid(), \
                (select backend_start from pg_stat_activity where pid = pg_backend_pid()), \
                $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                on conflict (run_id, task_id) do update set token = excluded.token, nonce = \
                excluded.nonce, \
                session_id = excluded.session_id, session_start = excluded.session_start, attempt \
                = excluded.attempt, \
                claimed_at = now() \
                where task.state = 'O' and task.token < excluded.token and task.spec_digest = \
                excluded.spec_digest \
                returning chunk, cursor, rows, bytes",
        )
        .bind(uuid(claim.run.as_bytes()))
        .bind(uuid(claim.task.as_bytes()))
        .bind(claim.fence.token.raw())
        .bind(uuid(&claim.fence.nonce.to_bytes()))
        .bind(claim.spec_digest.as_bytes().as_slice())
        .bind(i32::try_from(claim.generation).unwrap_or(i32::MAX))
        .bind(claim.step.as_str())
        .bind(i16::from(claim.phase))
        .bind(i64::try_from(claim.ordinal).unwrap_or(i64::MAX))
        .bind(claim.plan.as_bytes().as_slice())
        .bind(&claim.stream)
        .bind(slice.kind)
        .bind(slice.start)
        .bind(slice.end)
        .bind(i32::try_from(claim.attempt.get()).unwrap_or(i32::MAX))
        .fetch_optional(&mut self.conn)
        .await?;
        raised.map(|row| ledger::reached(&row)).transpose()
    }

    /// What the row means that the upsert left alone.
    async fn decide(&mut self, found: &FoundRow) -> Result<Round, sqlx::Error> {
        let outcome = match resume(&found.row, &self.claim.fence, &self.claim.spec_digest) {
            Resume::ReportOnly(receipt) => ClaimOutcome::Committed(receipt),
            Resume::Superseded => ClaimOutcome::Superseded,
            Resume::SpecChanged => ClaimOutcome::SpecChanged,
            Resume::Fenced { newer } => ClaimOutcome::Fenced { newer },
            Resume::Probe => return Ok(Round::Over(Decided::InDoubt)),
            Resume::Begin => return self.take_own_row(found).await,
        };
        Ok(Round::Over(Decided::Outcome(outcome)))
    }

    /// The row is this very attempt's: a claim of it whose answer was lost. Its session must be
    /// gone before this one takes its place, or two sessions would pass one guard.
    async fn take_own_row(&mut self, found: &FoundRow) -> Result<Round, sqlx::Error> {
        if found.session == Some(self.me) {
            self.former.clear();
            return Ok(Round::Over(Decided::Held(found.reached)));
        }
        if let Some(session) = found.session
            && self.end_and_see_gone(session).await? != Ended::Gone
        {
            return Ok(Round::Blocked);
        }
        let taken = sqlx::query(
            "update highwater.task set session_id = pg_backend_pid(), \
                session_start = (select backend_start from pg_stat_activity where pid = \
                pg_backend_pid()) \
                where run_id = $1 and task_id = $2 and token = $3 and nonce = $4 and state = 'O' \
                and session_id is not distinct from $5 and chunk = $6",
        )
        .bind(uuid(self.claim.run.as_bytes()))
        .bind(uuid(self.claim.task.as_bytes()))
        .bind(self.claim.fence.token.raw())
        .bind(uuid(&self.claim.fence.nonce.to_bytes()))
        .bind(found.session.map(|session| session.pid))
        .bind(i32::try_from(found.reached.chunks).unwrap_or(i32::MAX))
        .execute(&mut self.conn)
        .await?;
        self.former.clear();
        Ok(if taken.rows_affected() == 1 {
            Round::Over(Decided::Held(found.reached))
        } else {
            Round::Again
        })
    }

    /// Ends the sessions that claimed before, those that still live. Lacking the right to do so is
    /// not an error yet: it is one when the work then has to wait for such a session.
    async fn end_former(&mut self) -> Result<(), ConnectorError> {
        for former in std::mem::take(&mut self.former) {
            if former == self.me {
                continue;
            }
            let gone = self.end_and_see_gone(former).await;
            let gone = gone.map_err(|error| {
                classify(self.endpoint, "end a former attempt's session", error)
            })?;
            if gone != Ended::Gone {
                let advice = gone.advice();
                tracing::warn!(target = %self.endpoint, pid = former.pid, "a former attempt's \
                    session could not be ended{advice}");
            }
        }
        Ok(())
    }

    async fn end_and_see_gone(&mut self, session: SessionMark) -> Result<Ended, sqlx::Error> {
        let ended = end_session(&mut self.conn, session).await?;
        self.hindered = ended;
        Ok(ended)
    }

    async fn set_lock_timeout(&mut self, timeout: Duration) -> Result<(), ConnectorError> {
        let set = set_lock_timeout(&mut self.conn, timeout).await;
        set.map_err(|error| classify(self.endpoint, "claim a task", error))
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), ConnectorError> {
        let done = self.conn.execute(statement).await;
        done.map(drop)
            .map_err(|error| classify(self.endpoint, "claim a task", error))
    }
}
