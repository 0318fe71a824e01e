//! The coordinator: turns steps into leased tasks and keeps their records.

pub mod store;
pub mod supervisor;
