//! The service that workers speak to.

use std::collections::BTreeMap;

use highwater_common::capability::Capabilities;
use highwater_common::id::{SessionId, WorkerId};
use highwater_common::record::{RECORD_BYTES_MAX, WorkerRecord};
use highwater_proto::PROTOCOL_VERSION;
use highwater_proto::convert::FieldError;
use highwater_proto::convert::records::StoredRecord;
use highwater_proto::convert::wire::{
    digest_from, fence_from, nonce_from, outcome_from, session_from, session_to, task_from,
};
use highwater_proto::v1 as pb;
use highwater_proto::v1::worker_service_server::WorkerService;
use rand::RngExt;
use tonic::{Request, Response, Status};

use super::limits::DOING_CHARS_MAX;
use crate::coordinator::CoordinatorHandle;
use crate::error::ServiceError;
use crate::leader::{Beat, Request as Ask};

/// The service that workers speak to.
#[derive(Debug)]
pub struct WorkerApi {
    handle: CoordinatorHandle,
}

impl WorkerApi {
    pub(super) const fn new(handle: CoordinatorHandle) -> Self {
        Self { handle }
    }
}

#[tonic::async_trait]
impl WorkerService for WorkerApi {
    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let request = request.into_inner();
        if request.protocol != PROTOCOL_VERSION {
            return Err(ServiceError::Protocol {
                theirs: request.protocol,
            }
            .into());
        }
        let worker: WorkerId = request
            .worker
            .parse()
            .map_err(|error| Status::invalid_argument(format!("worker: {error}")))?;
        let session = SessionId::from_bytes(rand::rng().random());
        let record = WorkerRecord {
            session,
            slots: request.slots,
            labels: request.labels.into_iter().collect(),
            version: request.version,
            allow_noop: request.allow_noop,
            cordoned: false,
            capabilities: request.capabilities.into_iter().collect(),
        };
        let size = record.to_bytes().len();
        if size > RECORD_BYTES_MAX {
            let problem = format!(
                "with them the worker's record takes {size} bytes, at most \
                                   {RECORD_BYTES_MAX}"
            );
            return Err(
                ServiceError::from(FieldError::new("labels and capabilities", problem)).into(),
            );
        }
        let cluster = self
            .handle
            .ask(|reply| Ask::Register {
                worker,
                record,
                reply,
            })
            .await?;
        let times = self.handle.options().sessions;
        let known = Capabilities::of_program(self.handle.options().allow_noop);
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(pb::RegisterResponse {
            session: session_to(&session),
            ttl_millis: millis(times.ttl),
            heartbeat_millis: millis(times.heartbeat),
            stop_margin_millis: millis(times.stop_margin),
            pull_wait_millis: millis(times.pull_wait),
            cluster: cluster.as_bytes().to_vec(),
            capabilities: known.words().into_iter().collect(),
        }))
    }

    async fn pull(
        &self,
        request: Request<pb::PullRequest>,
    ) -> Result<Response<pb::PullResponse>, Status> {
        let request = request.into_inner();
        let session = session_from(&request.session).map_err(ServiceError::from)?;
        let mut known = Vec::new();
        for digest in &request.known_orders {
            known.push(digest_from(digest, "known_orders").map_err(ServiceError::from)?);
        }
        let granted = self
            .handle
            .ask(|reply| Ask::Pull {
                session,
                free: request.free_slots,
                reply,
            })
            .await?;
        let mut orders = BTreeMap::new();
        for one in &granted {
            if !known.contains(&one.assignment.order) {
                orders
                    .entry(one.assignment.order)
                    .or_insert_with(|| one.order.as_ref().clone());
            }
        }
        let orders = orders
            .into_iter()
            .map(|(digest, json)| pb::Order {
                digest: digest.as_bytes().to_vec(),
                json,
            })
            .collect();
        let assignments = granted
            .into_iter()
            .map(|one| one.assignment.into())
            .collect();
        Ok(Response::new(pb::PullResponse {
            assignments,
            orders,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        let session = session_from(&request.session).map_err(ServiceError::from)?;
        let mut beat = Beat {
            draining: request.draining,
            ..Beat::default()
        };
        for attempt in &request.attempts {
            let task = task_from(&attempt.task).map_err(ServiceError::from)?;
            beat.attempts.push((
                task,
                nonce_from(&attempt.nonce).map_err(ServiceError::from)?,
            ));
            beat.reached.extend(attempt.reached.then_some(task));
            if !attempt.doing.is_empty() {
                let words = attempt.doing.chars().take(DOING_CHARS_MAX).collect();
                beat.doing.push((task, words));
            }
        }
        let (end, drain) = self
            .handle
            .ask(|reply| Ask::Heartbeat {
                session,
                beat,
                reply,
            })
            .await?;
        let end = end
            .into_iter()
            .map(|nonce| nonce.to_bytes().to_vec())
            .collect();
        Ok(Response::new(pb::HeartbeatResponse { end, drain }))
    }

    async fn complete(
        &self,
        request: Request<pb::CompleteRequest>,
    ) -> Result<Response<pb::CompleteResponse>, Status> {
        let request = request.into_inner();
        let session = session_from(&request.session).map_err(ServiceError::from)?;
        let task = task_from(&request.task).map_err(ServiceError::from)?;
        let fence = fence_from(request.fence).map_err(ServiceError::from)?;
        let outcome = outcome_from(request.outcome).map_err(ServiceError::from)?;
        let millis = request.millis;
        let counted = self
            .handle
            .ask(|reply| Ask::Complete {
                session,
                task,
                fence,
                outcome,
                millis,
                reply,
            })
            .await?;
        Ok(Response::new(pb::CompleteResponse { counted }))
    }

    async fn leave(
        &self,
        request: Request<pb::LeaveRequest>,
    ) -> Result<Response<pb::LeaveResponse>, Status> {
        let session = session_from(&request.into_inner().session).map_err(ServiceError::from)?;
        self.handle
            .ask(|reply| Ask::Leave { session, reply })
            .await?;
        Ok(Response::new(pb::LeaveResponse {}))
    }
}
