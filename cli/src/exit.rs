//! The exit codes: what a script may branch on. They only grow; a number never changes its meaning.

use highwater_common::status::RunStatus;
use highwater_common::view::RunDocument;
use tonic::Code;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// What was asked for is done, or there was nothing to do.
    Success = 0,
    /// Something that should not happen did.
    Unexpected = 1,
    /// The command line or the pipeline file is wrong. Nothing was changed.
    Usage = 2,
    /// The run failed, and part of it is committed.
    PartCommitted = 3,
    /// Nothing matches: no such run, no such step, no run at all.
    NothingSelected = 4,
    /// The coordinator cannot be reached, or does not let this caller in.
    Unreachable = 5,
    /// What was asked for is refused as things stand: another run is active, another process holds the store, no `-y`.
    Refused = 6,
    /// The run failed, and nothing of it is committed.
    NothingCommitted = 7,
    /// The run was cancelled.
    Cancelled = 8,
    /// `wait` was given a limit, and the run took longer. It goes on.
    TimedOut = 124,
    /// Ctrl-C or SIGTERM came first. A run is resumed by running it again.
    Interrupted = 130,
}

impl ExitCode {
    /// Every code, in the order of the numbers.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::Unexpected,
        Self::Usage,
        Self::PartCommitted,
        Self::NothingSelected,
        Self::Unreachable,
        Self::Refused,
        Self::NothingCommitted,
        Self::Cancelled,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// The number that the process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a verb that followed a run to its end exits with. A run that was left before its end counts as interrupted;
    /// one that was only planned has done what was asked.
    #[must_use]
    pub const fn of_run(run: &RunDocument) -> Self {
        match run.status {
            RunStatus::Success | RunStatus::Planned => Self::Success,
            RunStatus::Failed if run.committed => Self::PartCommitted,
            RunStatus::Failed => Self::NothingCommitted,
            RunStatus::Cancelled | RunStatus::Cancelling => Self::Cancelled,
            RunStatus::Planning | RunStatus::Running => Self::Interrupted,
        }
    }

    /// What a refused or failed call comes to.
    #[must_use]
    pub const fn of_code(code: Code) -> Self {
        match code {
            Code::Ok => Self::Success,
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::NotFound => Self::NothingSelected,
            Code::Unavailable | Code::DeadlineExceeded | Code::Unauthenticated | Code::PermissionDenied => {
                Self::Unreachable
            }
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Self::Refused,
            Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Self::Unexpected,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
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
            assert_eq!(ExitCode::of_run(&run).number(), expected, "{status}, committed: {committed}");
        }
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
            assert_eq!(ExitCode::of_code(code).number(), expected, "{code:?}");
        }
    }

    #[test]
    fn the_numbers_never_change() {
        let numbers: Vec<u8> = ExitCode::ALL.into_iter().map(ExitCode::number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 124, 130]);
    }
}
