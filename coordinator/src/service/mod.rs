//! The gRPC services: decode, ask, encode. No decisions.

mod control;
mod relay;
mod worker;

use highwater_proto::v1::control_service_server::ControlServiceServer;
use highwater_proto::v1::worker_service_server::WorkerServiceServer;

use crate::coordinator::CoordinatorHandle;
pub use control::ControlApi;
pub use worker::WorkerApi;

/// The largest message that the services take, in bytes: a spec of 1 MiB, and its envelope.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The service that workers speak to.
#[must_use]
pub fn worker_service(handle: CoordinatorHandle) -> WorkerServiceServer<WorkerApi> {
    WorkerServiceServer::new(WorkerApi::new(handle)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// The service that the command line speaks to.
#[must_use]
pub fn control_service(handle: CoordinatorHandle) -> ControlServiceServer<ControlApi> {
    ControlServiceServer::new(ControlApi::new(handle)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
