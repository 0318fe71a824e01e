//! Which exit code a run's end, or a call's refusal, comes to.

use highwater_common::document::RunDocument;
use highwater_common::error_code::ErrorCode;
use highwater_common::status::RunStatus;
pub use highwater_runtime::ExitCode;
use tonic::Code;

/// What a verb that followed a run to its end exits with. A run that was left before its end counts
/// as interrupted; one that was only planned has done what was asked.
#[must_use]
pub(crate) fn of_run(run: &RunDocument) -> ExitCode {
    match run.status {
        RunStatus::Success | RunStatus::Planned => ExitCode::Success,
        RunStatus::Failed | RunStatus::Cancelled if run.tasks.in_doubt > 0 => ExitCode::InDoubt,
        RunStatus::Failed if run.committed => ExitCode::PartCommitted,
        RunStatus::Failed if is_stale(run) => ExitCode::Refused,
        RunStatus::Failed => ExitCode::NothingCommitted,
        RunStatus::Cancelled | RunStatus::Cancelling => ExitCode::Cancelled,
        RunStatus::Planning | RunStatus::Running => ExitCode::Interrupted,
    }
}

/// Whether a plan that was saved turned out not to hold any more before anything of it was done.
fn is_stale(run: &RunDocument) -> bool {
    let mut dead = run.steps.iter().flat_map(|step| &step.dead);
    run.saved_plan && dead.any(|task| task.code == ErrorCode::CoverageUnsettled.as_str())
}

/// What a refused or failed call comes to.
#[must_use]
pub(crate) const fn of_code(code: Code) -> ExitCode {
    match code {
        Code::Ok => ExitCode::Success,
        Code::InvalidArgument | Code::OutOfRange => ExitCode::Usage,
        Code::NotFound => ExitCode::NothingSelected,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Unauthenticated
        | Code::PermissionDenied => ExitCode::Unreachable,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => ExitCode::Refused,
        Code::Cancelled
        | Code::Unknown
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => ExitCode::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_run_that_ended_tells_whether_anything_was_committed() {
        for (status, committed, expected) in [
            (RunStatus::Success, true, 0),
            (RunStatus::Success, false, 0),
            (RunStatus::Failed, true, 3),
            (RunStatus::Failed, false, 7),
            (RunStatus::Cancelled, true, 8),
            (RunStatus::Cancelled, false, 8),
        ] {
            let mut run = samples::run();
            run.status = status;
            run.committed = committed;
            assert_eq!(
                of_run(&run).number(),
                expected,
                "{status}, committed: {committed}"
            );
        }
    }

    #[test]
    fn a_saved_plan_that_does_not_hold_any_more_is_refused() {
        let mut run = samples::failed_run();
        run.committed = false;
        run.saved_plan = true;
        assert_eq!(of_run(&run), ExitCode::NothingCommitted);
        for task in run.steps.iter_mut().flat_map(|step| &mut step.dead) {
            task.code = "coverage_unsettled".to_owned();
        }
        assert_eq!(of_run(&run), ExitCode::Refused);
        run.saved_plan = false;
        assert_eq!(of_run(&run), ExitCode::NothingCommitted);
    }

    #[test]
    fn a_refusal_an_unknown_name_and_a_dead_line_are_told_apart() {
        for (code, expected) in [
            (Code::Unavailable, 5),
            (Code::DeadlineExceeded, 5),
            (Code::Unauthenticated, 5),
            (Code::PermissionDenied, 5),
            (Code::FailedPrecondition, 6),
            (Code::AlreadyExists, 6),
            (Code::Aborted, 6),
            (Code::NotFound, 4),
            (Code::InvalidArgument, 2),
            (Code::Internal, 1),
            (Code::Unknown, 1),
        ] {
            assert_eq!(of_code(code).number(), expected, "{code:?}");
        }
    }
}
