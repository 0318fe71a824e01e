//! The gRPC services: decode, ask, encode. No decisions.

mod control;
mod documents;
mod errands;
mod finding;
mod gate;
mod limits;
mod operator;
mod relay;
mod saved_plans;
mod schedules;
mod submissions;
mod watching;
mod worker;
mod workers;

use highwater_proto::v1::control_service_server::ControlServiceServer;
use highwater_proto::v1::worker_service_server::WorkerServiceServer;

use crate::coordinator::CoordinatorHandle;
pub use control::ControlApi;
pub use gate::{Gate, Gated};
use limits::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
pub use limits::{Deadlines, limited_server};
pub use worker::WorkerApi;

/// The service that workers speak to.
#[must_use]
pub fn worker_service(handle: CoordinatorHandle) -> WorkerServiceServer<WorkerApi> {
    WorkerServiceServer::new(WorkerApi::new(handle))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
}

/// The service that the command line speaks to.
#[must_use]
pub fn control_service(handle: CoordinatorHandle) -> ControlServiceServer<ControlApi> {
    ControlServiceServer::new(ControlApi::new(handle))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
}
