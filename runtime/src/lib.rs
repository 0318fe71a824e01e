//! What the three programs share: spawned loops with owners, failpoints, signals, exit codes,
//! logging, health and metrics, and how a daemon starts and ends.
//!
//! Never knows what a program is for: neither coordinator nor worker is named here.

pub mod admin;
pub mod daemon;
mod exit;
pub mod failpoint;
mod interrupt;
pub mod logging;
pub mod metrics;
mod supervisor;
pub mod telemetry;

pub use exit::ExitCode;
pub use interrupt::Interrupts;
pub use supervisor::{CancelledBy, SpawnKind, StillRunning, Supervisor};

/// An error and its causes on one line, for people.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
