//! What is asked of workers: to take no more work, to take work again, or to finish and end.

use highwater_common::roles::Role;
use highwater_proto::v1 as pb;
use highwater_proto::v1::set_worker_request::Action;
use tonic::{Request, Status};

use super::gate::Permit;
use super::operator::word;
use crate::coordinator::CoordinatorHandle;
use crate::leader::{Request as Ask, WorkerAction};

/// Tells a worker what to do.
pub(super) async fn set(
    handle: &CoordinatorHandle,
    request: Request<pb::SetWorkerRequest>,
) -> Result<(), Status> {
    let word = word(&request, String::new());
    // Workers belong to all pipelines.
    Permit::of(request.extensions()).check("SetWorker", Role::Admin, None)?;
    let request = request.into_inner();
    let action = match request.action() {
        Action::Unspecified => {
            return Err(Status::invalid_argument(
                "action: what is the worker to do?",
            ));
        }
        Action::Cordon => WorkerAction::Cordon,
        Action::Uncordon => WorkerAction::Uncordon,
        Action::Drain => WorkerAction::Drain,
    };
    let worker = request.worker;
    let asked = handle.ask(|reply| Ask::SetWorker {
        worker,
        action,
        word,
        reply,
    });
    Ok(asked.await?)
}
