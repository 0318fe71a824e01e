//! The exit codes: what a script may branch on. They only grow; a number never changes its meaning.

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
    /// What was asked for is refused as things stand: another run is active, another process holds
    /// the store, no `-y`.
    Refused = 6,
    /// The run failed, and nothing of it is committed.
    NothingCommitted = 7,
    /// The run was cancelled.
    Cancelled = 8,
    /// Something of the run is in doubt, and waits for a person.
    InDoubt = 9,
    /// A plan was asked for by an exit code, and there is something to do.
    WorkToDo = 10,
    /// `wait` was given a limit, and the run took longer. It goes on.
    TimedOut = 124,
    /// Ctrl-C or SIGTERM came first. A run is resumed by running it again.
    Interrupted = 130,
}

impl ExitCode {
    /// Every code, in the order of the numbers.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Unexpected,
        Self::Usage,
        Self::PartCommitted,
        Self::NothingSelected,
        Self::Unreachable,
        Self::Refused,
        Self::NothingCommitted,
        Self::Cancelled,
        Self::InDoubt,
        Self::WorkToDo,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// The number that the process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
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

    #[test]
    fn the_numbers_never_change() {
        let numbers: Vec<u8> = ExitCode::ALL.into_iter().map(ExitCode::number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 124, 130]);
    }
}
