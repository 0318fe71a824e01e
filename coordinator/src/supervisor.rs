//! The loops that a coordinator and its stores spawn, and who ends each: a table, and not a habit.

use highwater_runtime::CancelledBy;

/// What a spawned loop is for, which settles how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpawnKind {
    /// Owns the connection of the embedded store; never cancelled, ends when the store is closed or
    /// let go.
    StoreConnection,
    /// Renews the lease of a won leadership; ends with its term.
    LeaseKeeper,
    /// Follows a prefix of the store for hints; ends with its last receiver, or with the store.
    StoreWatch,
    /// Tells somebody how a run goes; ends with the run, or when nobody listens.
    Watch,
}

impl highwater_runtime::SpawnKind for SpawnKind {
    fn cancelled_by(self) -> CancelledBy {
        match self {
            Self::StoreConnection => CancelledBy::Nobody,
            Self::LeaseKeeper | Self::Watch => CancelledBy::Owner,
            Self::StoreWatch => CancelledBy::Supervisor,
        }
    }
}

/// Owns every spawned loop of one coordinator, or of one store.
pub type Supervisor = highwater_runtime::Supervisor<SpawnKind>;
