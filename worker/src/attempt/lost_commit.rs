//! A commit whose answer was lost: what the ledger says of it, and whose doing it is that it was
//! undone.

use std::time::Duration;

use highwater_common::assignment::{Assignment, AttemptError, ErrorClass, Outcome};
use highwater_common::commit::{Resume, resume};
use highwater_common::error_code::ErrorCode;

use super::{OrderContext, superseded};
use crate::connector::Target;
use crate::patience::Call;

/// How often the ledger is asked what became of a commit whose answer was lost.
const LEDGER_ATTEMPTS_MAX: u32 = 6;
/// How long the first of those waits.
const LEDGER_WAIT: Duration = Duration::from_millis(100);

/// What the ledger says of an attempt that does not know how it ended.
pub(super) async fn ask_ledger(
    context: &OrderContext,
    target: &dyn Target,
    assignment: &Assignment,
) -> Result<Outcome, AttemptError> {
    let mut wait = LEDGER_WAIT;
    let mut last: Option<AttemptError> = None;
    for _ in 0..LEDGER_ATTEMPTS_MAX {
        let asked = target.ledger_row(&context.order.run, &assignment.task);
        match context.of_target(Call::Ledger, asked).await {
            Ok(Some(row)) => match resume(&row, &assignment.fence, &context.order.spec_digest) {
                Resume::ReportOnly(receipt) => return Ok(Outcome::Committed(receipt)),
                Resume::Superseded => return superseded(context, target).await,
                Resume::SpecChanged => return Err(spec_changed()),
                Resume::Fenced { newer } => return Ok(Outcome::Fenced { newer }),
                // Not committed, or not yet: the next claim waits for a commit still in flight, and
                // sees what it did.
                Resume::Begin | Resume::Probe => {
                    return Err(uncertain("the ledger does not hold it as committed"));
                }
            },
            Ok(None) => {
                return Err(uncertain(
                    "the ledger has no row of it: the target may have lost data",
                ));
            }
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    let mut error = uncertain("the ledger could not be asked");
    if let Some(last) = last {
        error = uncertain(&format!("the ledger could not be asked: {}", last.message));
        if last.class == ErrorClass::Unreachable {
            (error.class, error.connection) = (last.class, last.connection);
        }
    }
    Err(error)
}

/// Why a commit was undone whose answer was lost: when its connection broke that is the
/// connection's doing, as it is before a COMMIT.
pub(super) fn undone_by(undone: AttemptError, lost: AttemptError) -> AttemptError {
    match (undone.class, lost.class) {
        (ErrorClass::Transient, ErrorClass::Unreachable) => AttemptError {
            class: lost.class,
            code: lost.code,
            connection: lost.connection,
            ..undone
        },
        _ => undone,
    }
}

pub(super) fn uncertain(why: &str) -> AttemptError {
    let message = format!("the answer to a commit was lost, and {why}; the next attempt finds out");
    AttemptError::new(ErrorClass::Transient, ErrorCode::CommitUnknown, message)
}

pub(super) fn spec_changed() -> AttemptError {
    let message = "the target holds this task for another version of the spec: begin a new run \
                   with `--new`";
    AttemptError::new(ErrorClass::Permanent, ErrorCode::SpecChanged, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_was_undone_with_its_connection_counts_no_attempt() {
        // GIVEN a commit that the ledger does not hold
        let undone = || uncertain("the ledger does not hold it as committed");
        let name = "warehouse".parse().expect("a name");
        // WHEN its answer was lost with the connection THEN it is the connection's outage, and says
        // what was uncertain
        let lost = AttemptError::unreachable(name, ErrorCode::ConnectionLost, "reset by peer");
        let of_outage = undone_by(undone(), lost.clone());
        assert_eq!(
            (of_outage.class, of_outage.code.as_str()),
            (ErrorClass::Unreachable, "connection_lost")
        );
        assert_eq!(
            (of_outage.connection, of_outage.message),
            (lost.connection.clone(), undone().message)
        );
        // WHEN the answer only took too long, or the spec has changed meanwhile THEN it is what it
        // was
        assert_eq!(undone_by(undone(), uncertain("too long")), undone());
        assert_eq!(undone_by(spec_changed(), lost), spec_changed());
    }
}
