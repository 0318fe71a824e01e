//! The loops that a worker spawns, and who ends each: a table, and not a habit.

use highwater_runtime::CancelledBy;

/// What a spawned loop is for, which settles how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpawnKind {
    /// Keeps the session alive; cancelled last, with the session.
    Heartbeat,
    /// One attempt of a task; cancelled by its own token.
    Attempt,
    /// A begin or a commit on a target; never cancelled, runs to its end.
    Commit,
    /// Closes a session that no task took up; cancelled when no attempt is left.
    SessionPool,
}

impl highwater_runtime::SpawnKind for SpawnKind {
    fn cancelled_by(self) -> CancelledBy {
        match self {
            Self::Heartbeat | Self::Attempt => CancelledBy::Owner,
            Self::Commit => CancelledBy::Nobody,
            Self::SessionPool => CancelledBy::Supervisor,
        }
    }
}

/// Owns every spawned loop of one worker.
pub type Supervisor = highwater_runtime::Supervisor<SpawnKind>;
