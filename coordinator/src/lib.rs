//! The coordinator: turns steps into leased tasks, keeps their records, and hands them to workers.
//!
//! A request goes from a service to the one leader, whose view of the cluster changes only together
//! with the store. What follows from the view is decided by a pure engine. Nothing here knows a
//! database, and only `store/etcd` knows etcd.

mod clock;
mod coordinator;
mod engine;
mod error;
#[cfg(test)]
mod fixtures;
mod leader;
mod metrics;
mod options;
mod service;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod supervisor;
mod survey;

pub use coordinator::{Coordinator, CoordinatorError, CoordinatorHandle, Role, cluster_id};
pub use error::ServiceError;
pub use leader::{LoadError, TermEnded};
pub use metrics::observe;
pub use options::{CoordinatorOptions, SessionOptions};
pub use service::{
    ControlApi, Deadlines, Gate, Gated, WorkerApi, control_service, limited_server, worker_service,
};
pub use survey::{StoreSurvey, survey};
