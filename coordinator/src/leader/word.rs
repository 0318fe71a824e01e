//! What a person says, and who it is.

/// What a person says of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Those that are in doubt were done.
    Applied,
    /// Those that are in doubt were not done.
    NotApplied,
    /// The run goes on without those that are dead.
    Accepted,
}

/// Who says something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// Who, as far as it is known.
    pub(crate) by: String,
    /// Why; empty where nobody is asked for a reason.
    pub(crate) reason: String,
}
