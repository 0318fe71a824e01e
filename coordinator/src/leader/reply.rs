//! What the leader answers.

use std::sync::Arc;

use highwater_common::assignment::Assignment;
use tokio::sync::oneshot;

use crate::error::ServiceError;

/// Where an answer goes. A caller that has gone is no error.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ServiceError>>;

/// A task on its way to a worker, with the order it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) assignment: Assignment,
    pub(crate) order: Arc<Vec<u8>>,
}
