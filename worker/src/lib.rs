//! The worker: pulls leased tasks, moves rows, commits them exactly once.
//!
//! Only `connector` knows a database, and only `secrets` knows a secret. The coordinator decides
//! what is done; a worker decides only how, and stops by itself when it may no longer be believed.

mod attempt;
mod attempts;
mod backoff;
pub mod connector;
mod coordinator_api;
mod dispatch;
mod failover;
pub mod guard;
mod heartbeat;
mod meter;
mod metrics;
mod orders;
mod patience;
mod programs;
mod secrets;
mod strategy;
#[cfg(feature = "failpoints")]
mod stumbling;
pub mod supervisor;
pub mod survey;
mod traces;
mod worker;

pub use coordinator_api::{
    ApiError, AttemptReport, CoordinatorApi, GrpcCoordinator, HeartbeatAnswer, Pulled, Registered,
    WorkerOptions,
};
pub use failover::ClusterCoordinator;
pub use metrics::{HasSession, WorkerMetrics};
pub use programs::{AllowedError, AllowedPrograms};
pub use worker::{Worker, WorkerError};
