//! The worker: pulls leased tasks, moves rows, commits them exactly once.

pub mod connector;
pub mod supervisor;
