//! What a file says of times that cannot begin a run when they come.

use serde::{Deserialize, Serialize};

/// Instants that wait at the most: of more, the latest.
pub const WAITING_MAX: usize = 100;

/// What becomes of instants that nobody saw come, for instance because no coordinator led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run, for the latest of them.
    Latest,
    /// Nothing: only what is on time runs.
    None,
    /// A run for each, one after the other; of more than [`WAITING_MAX`], for the latest.
    All,
}

/// What becomes of an instant that comes while a run of the pipeline is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out.
    Skip,
    /// It waits until that run has ended. Unless all are caught up, only the latest waits.
    Queue,
}

/// What a schedule says of instants that cannot begin a run at their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Of those that were missed.
    pub catch_up: CatchUp,
    /// Of those that come while a run is under way.
    pub overlap: Overlap,
}
