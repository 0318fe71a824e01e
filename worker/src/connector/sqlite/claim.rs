//! The claim: raises a task's fence in a short transaction of its own.

use highwater_common::assignment::ErrorClass;
use highwater_common::chunk::Reached;
use highwater_common::commit::{LedgerState, Resume, resume};
use highwater_common::error_code::ErrorCode;
use highwater_common::stream::{claimed_since, may_claim};
use highwater_common::token::FencingToken;
use highwater_runtime::failpoint;

use super::errors::{DatabaseFile, is_busy};
use super::ledger::FoundRow;
use super::process::{self, Process};
use super::session::{BUSY_TIMEOUT, Session};
use super::{ledger, sql, stream};
use crate::connector::stored_slice::StoredSlice;
use crate::connector::{Claim, ConnectorError};

/// What a claim came to.
pub(super) enum Answer {
    /// What the task's row means.
    Is(Resume),
    /// The run took the stream for another plan.
    PlanChanged,
}

/// What a claim found.
pub(super) struct Raised {
    /// Which file the target is.
    pub(super) fingerprint: String,
    /// How far the task's commits have come.
    pub(super) reached: Reached,
}

/// Claims on `session`; [`Resume::Begin`] is the only answer under which it may go on. Whatever
/// comes out of it, no transaction is left open on a session that is given back.
pub(super) async fn claim(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
) -> Result<(Answer, Raised), ConnectorError> {
    if let Err(error) = sql::run(session.conn(), sqlx::query("begin immediate")).await {
        return Err(if is_busy(&error) {
            held_up(session, place, claim, error).await
        } else {
            place.driver("begin the claim", error)
        });
    }
    let fingerprint = check_target(session, place, claim).await?;
    let (answer, reached) = decide(session, place, claim).await?;
    let end = match answer {
        Answer::Is(Resume::Begin) => "commit",
        Answer::PlanChanged
        | Answer::Is(
            Resume::ReportOnly(_)
            | Resume::Superseded
            | Resume::SpecChanged
            | Resume::Fenced { .. }
            | Resume::Probe,
        ) => "rollback",
    };
    sql::run(session.conn(), sqlx::query(end))
        .await
        .map_err(place.failed("end the claim"))?;
    failpoint::hit("claim::committed").await?;
    Ok((
        answer,
        Raised {
            fingerprint,
            reached,
        },
    ))
}

async fn decide(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
) -> Result<(Answer, Reached), ConnectorError> {
    let nothing = Reached::default();
    let run = claim.run.to_string();
    let state: Option<String> = sqlx::query_scalar(
        "select state from _highwater_run where run_id \
        = ?",
    )
    .bind(&run)
    .fetch_optional(session.conn())
    .await
    .map_err(place.failed("read the run's state"))?;
    match state.as_deref() {
        Some("X") => return Ok((Answer::Is(Resume::Superseded), nothing)),
        Some(_) => {}
        None => {
            let note = sqlx::query("insert into _highwater_run (run_id, state) values (?, 'R')")
                .bind(&run);
            sql::run(session.conn(), note)
                .await
                .map_err(place.failed("note the run"))?;
        }
    }
    let owner = stream::owner(session.conn(), place, &claim.stream).await?;
    let taken = owner
        .filter(|owner| owner.run == claim.run)
        .and_then(|owner| owner.plan);
    if !may_claim(taken.as_ref(), &claim.plan) {
        return Ok((Answer::PlanChanged, nothing));
    }
    failpoint::hit("claim::marked").await?;
    if claim.runs_alone
        && let Some(newer) = take_turn(session, place, claim).await?
    {
        return Ok((Answer::Is(Resume::Fenced { newer }), nothing));
    }
    raise(session, place, claim).await?;
    failpoint::hit("claim::raised").await?;
    match ledger::row(session.conn(), place, &claim.run, &claim.task).await? {
        Some(found) => {
            let answer = resume(&found.row, &claim.fence, &claim.spec_digest);
            if claim.runs_alone && answer == Resume::Begin {
                take_fences(session, place, claim).await?;
            }
            Ok((Answer::Is(answer), found.reached))
        }
        None => Err(place.permanent(
            ErrorCode::LedgerUnreadable,
            "the claim that was just written is not there",
        )),
    }
}

/// Notes the claim's token as the latest of the stream; that of a later one, if there is one.
async fn take_turn(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
) -> Result<Option<FencingToken>, ConnectorError> {
    let mine = claim.fence.token;
    let latest: Option<i64> = sqlx::query_scalar(
        "update _highwater_stream set token = max(token, ?) where stream_id = ? and run_id = ?
         returning token",
    )
    .bind(mine.raw())
    .bind(&claim.stream)
    .bind(claim.run.to_string())
    .fetch_optional(session.conn())
    .await
    .map_err(place.failed("note the claim's turn"))?;
    Ok(latest.and_then(|latest| claimed_since(FencingToken::from_raw(latest), mine)))
}

/// Takes the fences of the stream's other open tasks.
async fn take_fences(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
) -> Result<(), ConnectorError> {
    let fence = sqlx::query(
        "update _highwater_task set token = ?1, nonce = ?2 where run_id = ?3 and stream_id = ?4
           and task_id <> ?5 and state = 'O' and token <= ?1 and (token, nonce) <> (?1, ?2)",
    )
    .bind(claim.fence.token.raw())
    .bind(claim.fence.nonce.to_bytes().to_vec())
    .bind(claim.run.to_string())
    .bind(&claim.stream)
    .bind(claim.task.to_string());
    sql::run(session.conn(), fence)
        .await
        .map_err(place.failed("fence the stream's other tasks"))
        .map(drop)
}

async fn check_target(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
) -> Result<String, ConnectorError> {
    let Some(meta) = ledger::meta(session.conn(), place).await? else {
        let message = "the target has no ledger: it was deleted or replaced since the run was \
             prepared. Plan the run anew";
        return Err(place.permanent(ErrorCode::LedgerMissing, message));
    };
    ledger::belongs(place, &meta, &claim.cluster)?;
    let found = ledger::fingerprint(place, Some(&meta)).await?;
    if ledger::is_same_target(&claim.fingerprint, &found) {
        return Ok(found);
    }
    let message = format!(
        "the target is another file than the one the run was planned for (it was {}, it is \
         {found}). Plan the run anew",
        claim.fingerprint
    );
    Err(place.permanent(ErrorCode::TargetChanged, message))
}

/// Writes the fence unless a rule of the ledger forbids it; who won is read afterwards, never
/// guessed from a count.
async fn raise(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
) -> Result<(), ConnectorError> {
    let slice = StoredSlice::of_task(claim.slice.as_ref());
    let own = Process::own();
    let fence = sqlx::query(
        "insert into _highwater_task (run_id, task_id, token, nonce, state, generation, step, phase, ordinal, plan, stream_id,
           slice_kind, range_start, range_end, attempt, spec_digest, session_id, session_start, claimed_at)
         values (?, ?, ?, ?, 'O', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
         on conflict (run_id, task_id) do update set token = excluded.token, nonce = excluded.nonce,
           attempt = excluded.attempt, session_id = excluded.session_id, session_start = excluded.session_start,
           claimed_at = excluded.claimed_at
         where _highwater_task.state = 'O' and _highwater_task.token < excluded.token
           and _highwater_task.spec_digest = excluded.spec_digest",
    )
    .bind(claim.run.to_string())
    .bind(claim.task.to_string())
    .bind(claim.fence.token.raw())
    .bind(claim.fence.nonce.to_bytes().to_vec())
    .bind(i64::from(claim.generation))
    .bind(claim.step.as_str())
    .bind(i64::from(claim.phase))
    .bind(i64::try_from(claim.ordinal).unwrap_or(i64::MAX))
    .bind(claim.plan.as_bytes().to_vec())
    .bind(&claim.stream)
    .bind(slice.kind)
    .bind(slice.start)
    .bind(slice.end)
    .bind(i64::from(claim.attempt.get()))
    .bind(claim.spec_digest.to_string())
    .bind(own.pid)
    .bind(&own.start);
    sql::run(session.conn(), fence)
        .await
        .map_err(place.failed("raise the fence"))?;
    Ok(())
}

/// Another process holds the write lock. If it is this task's former attempt, still writing
/// although its lease is over, it is ended: it could not commit any more, and it stands in
/// everybody's way.
async fn held_up(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
    error: sqlx::Error,
) -> ConnectorError {
    let Some(writer) = process::writer_of(place.path()).await else {
        return place.driver("begin the claim", error);
    };
    let waited = BUSY_TIMEOUT.as_secs();
    if let Some(former) = former_attempt_of(session, place, claim, writer).await
        && former.end().await
    {
        let message = format!(
            "process {writer}, the task's former attempt, still held the file's write lock after \
             {waited} s and was ended; the next attempt goes on"
        );
        return place.error(ErrorClass::Resource, ErrorCode::FormerAttemptEnded, message);
    }
    let message = format!(
        "process {writer} has held the file's write lock for more than {waited} s. Wait for it, or \
         end it if it hangs"
    );
    place.error(ErrorClass::Resource, ErrorCode::WriteLockHeld, message)
}

/// The process of the task's former attempt, if it is the writer and holds no other task's claim.
async fn former_attempt_of(
    session: &mut Session,
    place: &DatabaseFile,
    claim: &Claim,
    writer: i64,
) -> Option<Process> {
    let FoundRow {
        row,
        session: former,
        ..
    } = ledger::row(session.conn(), place, &claim.run, &claim.task)
        .await
        .ok()??;
    let others: i64 = sqlx::query_scalar(
        "select count(*) from _highwater_task where state = 'O' and session_id = ? and session_start = ?
         and not (run_id = ? and task_id = ?)",
    )
    .bind(former.pid)
    .bind(&former.start)
    .bind(claim.run.to_string())
    .bind(claim.task.to_string())
    .fetch_one(session.conn())
    .await
    .ok()?;
    let suspect = Suspect {
        is_earlier: is_earlier(row.state, row.fence.token, claim.fence.token),
        other_claims: others,
        is_writer: former.pid == writer,
        is_this_process: former == *Process::own(),
    };
    suspect.may_be_ended().then_some(former)
}

/// Whether the claim that the ledger has in `state` is open, and gives way to one with this token.
fn is_earlier(state: LedgerState, claimed: FencingToken, by: FencingToken) -> bool {
    state == LedgerState::Open && claimed < by
}

/// What is known of the process that claimed a task before.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// Its claim is open, and older than the one that waits.
    is_earlier: bool,
    /// Claims of other tasks that it holds: work that would end with it.
    other_claims: i64,
    /// It is the process that holds the file's lock.
    is_writer: bool,
    is_this_process: bool,
}

impl Suspect {
    /// Nobody's process is ended but the one whose claim has been handed on, and which does nothing
    /// else.
    const fn may_be_ended(self) -> bool {
        self.is_earlier && self.other_claims == 0 && self.is_writer && !self.is_this_process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_claim_of_a_smaller_token_is_earlier() {
        let (first, second) = (FencingToken::from_raw(1), FencingToken::from_raw(2));
        assert!(is_earlier(LedgerState::Open, first, second));
        assert!(!is_earlier(LedgerState::Open, second, first));
        assert!(!is_earlier(LedgerState::Open, second, second));
        for ended in [
            LedgerState::Intent,
            LedgerState::Committed,
            LedgerState::Fenced,
            LedgerState::Voided,
        ] {
            assert!(!is_earlier(ended, first, second), "{ended:?}");
        }
    }

    #[test]
    fn only_a_former_attempt_that_holds_the_lock_and_nothing_else_is_ended() {
        let former = Suspect {
            is_earlier: true,
            other_claims: 0,
            is_writer: true,
            is_this_process: false,
        };
        assert!(former.may_be_ended());
        let others = [
            Suspect {
                is_earlier: false,
                ..former
            },
            Suspect {
                other_claims: 1,
                ..former
            },
            Suspect {
                is_writer: false,
                ..former
            },
            Suspect {
                is_this_process: true,
                ..former
            },
        ];
        for other in others {
            assert!(!other.may_be_ended(), "{other:?}");
        }
    }
}
