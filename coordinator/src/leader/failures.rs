//! What becomes of a task whose attempt failed, was lost, or gave it back.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{AttemptNo, TaskId, WorkerId};
use highwater_common::plan::PhaseKind;
use highwater_common::record::{DeadRecord, RetryRecord, TaskHistory};
use highwater_common::retry::{RetryDecision, RetryHistory, counts, decide};
use highwater_common::spec::RetryPolicy;
use rand::RngExt;

use super::Leader;
use super::batch::Planned;
use super::runs::cut;
use crate::engine::{Change, ChangeKind};

/// The longest code of an error that a record keeps, in bytes.
const CODE_BYTES_MAX: usize = 64;
/// Workers that a task's history names at the most: two are enough to condemn it.
const CRASHED_WORKERS_MAX: usize = 8;
/// Workers on which a task failed that its history names at the most; of more the latest ones.
const FAILED_WORKERS_MAX: usize = 8;

impl Leader {
    /// A task whose attempt gave it back: what was counted before stays counted, this attempt is
    /// not. One that may not be repeated unasked is in doubt: nobody says whether it had begun.
    pub(super) fn released(&self, task: &TaskId) -> Option<Planned> {
        if !self.may_run_again(task) {
            let (class, code) = (ErrorClass::Crash, ErrorCode::Released);
            let error = AttemptError::new(class, code, "its worker gave it back, or lost it");
            return self.doubted(task, error);
        }
        let (lease, run) = self.lease(task)?;
        // Who has followed a log for a while gives it back in good order, and what it met before is
        // over: it would add up for as long as the run lasts.
        let is_over = run.kind(&lease.address) == Some(PhaseKind::Follow)
            || (lease.attempt == AttemptNo::FIRST && lease.history == TaskHistory::default());
        let kind = if is_over {
            ChangeKind::Release
        } else {
            ChangeKind::Delay(RetryRecord {
                address: lease.address.clone(),
                attempts: lease.attempt.get() - 1,
                history: lease.history.clone(),
                not_before_millis: 0,
                error: AttemptError::new(
                    ErrorClass::Transient,
                    ErrorCode::Released,
                    "the worker gave the task back",
                ),
            })
        };
        Some(
            Change {
                run: run.id,
                task: *task,
                address: lease.address.clone(),
                kind,
            }
            .into(),
        )
    }

    /// A task whose attempt failed, or was lost on `crashed`.
    pub(super) fn failed(
        &mut self,
        task: &TaskId,
        error: AttemptError,
        crashed: Option<&WorkerId>,
    ) -> Option<Planned> {
        let jitter: f64 = self.rng.random();
        let now = self.clock.wall_millis();
        let (lease, _) = self.lease(task)?;
        let mut history = lease.history.clone();
        let has_committed = error.committed_rows > history.committed_rows;
        if has_committed {
            (history.committed_rows, history.breaks) = (error.committed_rows, 0);
        }
        if let Some(worker) = crashed {
            history.crashes = history.crashes.saturating_add(1);
            if history.crashed_on.len() < CRASHED_WORKERS_MAX {
                history.crashed_on.insert(worker.clone());
            }
        }
        let error = AttemptError {
            code: cut(&error.code, CODE_BYTES_MAX),
            ..error
        };
        // On one machine no worker reaches what another one does not.
        let may_differ = crashed.is_none() && !self.cluster.is_one_machine;
        let mut error = if may_differ {
            naming(error, &lease.worker)
        } else {
            error
        };
        if error.class == ErrorClass::Unreachable {
            let (worker, mut met) = (lease.worker.clone(), history.clone());
            if may_differ {
                note_failure(&mut met.failed_on, &worker);
            }
            match self.held_back(task, error, met, jitter) {
                Ok(planned) => return Some(planned),
                Err(counted) => error = counted,
            }
        }
        let (lease, run) = self.lease(task)?;
        let known = run.spec.steps.get(&lease.address.step)?;
        let must_not_die = run.kind(&lease.address) == Some(PhaseKind::Fence);
        let uncounted = u32::from(!counts(error.class, has_committed));
        let attempts = lease.attempt.get().saturating_sub(uncounted);
        let past = RetryHistory {
            attempts,
            crashes: history.crashes,
            crashed_workers: u32::try_from(history.crashed_on.len()).unwrap_or(u32::MAX),
        };
        // A fence is never given up: its run stays `cancelling` and says which target it waits for.
        let (class, policy) = match must_not_die {
            true => (
                ErrorClass::Transient,
                RetryPolicy {
                    max_attempts: u32::MAX,
                    ..RetryPolicy::default()
                },
            ),
            false => (error.class, known.retries.clone()),
        };
        let address = lease.address.clone();
        let work = run.work(&address)?.to_string();
        let is_doubted = leaves_doubt(&error, self.may_run_again(task));
        if is_doubted {
            return self.doubted(task, error);
        }
        let kind = match decide(class, &past, &policy, jitter) {
            RetryDecision::Retry { after } => {
                let wait = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                let not_before_millis = now.saturating_add(wait);
                if may_differ {
                    note_failure(&mut history.failed_on, &lease.worker);
                }
                ChangeKind::Delay(RetryRecord {
                    address: address.clone(),
                    attempts,
                    history,
                    not_before_millis,
                    error,
                })
            }
            RetryDecision::Dead => ChangeKind::Die(DeadRecord {
                accepted: String::new(),
                address: address.clone(),
                attempts,
                work,
                error,
            }),
            RetryDecision::Quarantine => {
                let message = format!(
                    "{} attempts were lost with their workers; the last: {}",
                    past.crashes, error.message
                );
                let error =
                    AttemptError::new(ErrorClass::Crash, ErrorCode::CrashesItsWorkers, message);
                ChangeKind::Die(DeadRecord {
                    accepted: String::new(),
                    address: address.clone(),
                    attempts,
                    work,
                    error,
                })
            }
        };
        Some(
            Change {
                run: run.id,
                task: *task,
                address,
                kind,
            }
            .into(),
        )
    }
}

impl Leader {
    /// A task whose attempt has ended, or was lost, so that nobody knows whether it was done.
    fn doubted(&self, task: &TaskId, error: AttemptError) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let address = lease.address.clone();
        let record = DeadRecord {
            accepted: String::new(),
            address: address.clone(),
            attempts: lease.attempt.get(),
            work: run.work(&address)?.to_string(),
            error: in_doubt(error),
        };
        Some(
            Change {
                run: run.id,
                task: *task,
                address,
                kind: ChangeKind::Doubt(record),
            }
            .into(),
        )
    }

    /// Whether an attempt of a task whose end nobody knows may be followed by another one.
    pub(super) fn may_run_again(&self, task: &TaskId) -> bool {
        let Some((lease, run)) = self.lease(task) else {
            return true;
        };
        let is_work = run.kind(&lease.address).is_some_and(PhaseKind::is_work);
        let step = run.spec.steps.get(&lease.address.step);
        !is_work || step.is_none_or(|step| step.strategy.load().may_run_again())
    }
}

/// Whether nobody knows how far an attempt has come: it says so itself, or it was ended while it did
/// what may not be repeated unasked.
fn leaves_doubt(error: &AttemptError, may_run_again: bool) -> bool {
    let is_ended = error.class == ErrorClass::Crash || error.is_of(&[ErrorCode::AttemptTimeout]);
    error.is_of(&[ErrorCode::InDoubt]) || (is_ended && !may_run_again)
}

/// The error of a task that waits for a person.
fn in_doubt(error: AttemptError) -> AttemptError {
    let message = format!(
        "nobody knows whether it was done: look, and say so by `highwater resolve RUN STEP --applied` \
         or `--not-applied`. {}",
        error.message
    );
    AttemptError::new(error.class, ErrorCode::InDoubt, message)
}

/// Puts a worker to the end of those on which a task failed.
fn note_failure(failed_on: &mut Vec<WorkerId>, worker: &WorkerId) {
    failed_on.retain(|known| known != worker);
    if failed_on.len() >= FAILED_WORKERS_MAX {
        failed_on.remove(0);
    }
    failed_on.push(worker.clone());
}

/// The error with the worker that met it: what one worker meets another one may not.
fn naming(error: AttemptError, worker: &WorkerId) -> AttemptError {
    let on = format!(" (on worker {worker})");
    if error.message.ends_with(&on) {
        return error;
    }
    let message = cut(
        &error.message,
        AttemptError::MESSAGE_BYTES_MAX.saturating_sub(on.len()),
    ) + &on;
    AttemptError {
        connection: error.connection,
        committed_rows: error.committed_rows,
        ..AttemptError::received(error.class, error.code, message)
    }
}
