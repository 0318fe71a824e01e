//! What a worker asks of the coordinator: a trait, and the client that speaks gRPC.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use highwater_common::assignment::{Assignment, Outcome};
use highwater_common::capability::Capabilities;
use highwater_common::id::{ClusterId, DocumentDigest, SessionId, TaskId, WorkerId};
use highwater_common::token::{Fence, Nonce};
use highwater_net::trace::CallTraced;
use highwater_net::{ConnectFailure, Connection};
use highwater_proto::convert::FieldError;
use highwater_proto::convert::wire::{
    digest_from, nonce_from, outcome_to, session_from, session_to,
};
use highwater_proto::v1 as pb;
use highwater_proto::v1::worker_service_client::WorkerServiceClient;
use highwater_proto::{LEADER_METADATA, PROTOCOL_VERSION};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::programs::AllowedPrograms;

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// What it calls itself.
    pub id: WorkerId,
    /// Tasks at once.
    pub slots: u32,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// Whether it holds no-op tasks.
    pub allow_noop: bool,
    /// The programs that it runs.
    pub programs: AllowedPrograms,
}

/// A session, and the times the coordinator keeps it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The session.
    pub session: SessionId,
    /// It ends when no heartbeat came for so long.
    pub ttl: Duration,
    /// How often one is due.
    pub heartbeat: Duration,
    /// The worker ends its own attempts so long before.
    pub stop_margin: Duration,
    /// How long a pull waits for work.
    pub pull_wait: Duration,
    /// Who commands.
    pub cluster: ClusterId,
    /// What the coordinator knows to hand out; none from one of before these words.
    pub capabilities: BTreeSet<String>,
}

/// Work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pulled {
    /// Tasks, each under its own fence.
    pub assignments: Vec<Assignment>,
    /// Orders that the worker did not hold: the JSON of `StepOrder`, by digest.
    pub orders: BTreeMap<DocumentDigest, Vec<u8>>,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub nonce: Nonce,
    /// Rows read so far.
    pub rows: u64,
    /// Bytes read so far.
    pub bytes: u64,
    /// Whether every connection that it needs has answered it.
    pub reached: bool,
    /// What it says that it is doing, while an answer takes long; else empty.
    pub doing: String,
}

/// What the coordinator answers a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeartbeatAnswer {
    /// Attempts that shall end.
    pub end: Vec<Nonce>,
    /// The worker shall drain.
    pub drain: bool,
}

/// Why the coordinator did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The session is over: whatever the worker has belongs to somebody else.
    #[error("the session has ended")]
    SessionEnded,
    /// Nobody answered, or nobody leads: ask again.
    #[error("the coordinator is unavailable: {0}")]
    Unavailable(String),
    /// Somebody listens there, and one of the two does not trust the other.
    #[error("no connection to the coordinator at {address}: {failure}")]
    Distrust {
        /// Where.
        address: String,
        /// Why, in words.
        failure: ConnectFailure,
    },
    /// This coordinator does not lead, and names who does.
    #[error("the coordinator does not lead: {leader} does")]
    NotLeader {
        /// Where the leader listens.
        leader: String,
    },
    /// The coordinator will not: another protocol, a malformed request.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// The coordinator lets the worker do nothing: its roles do not name it.
    #[error("the coordinator does not let this worker in: {0}")]
    NotAllowed(String),
    /// The coordinator answered something that cannot be read.
    #[error("the coordinator's answer cannot be read")]
    Answer(#[from] FieldError),
}

/// The coordinator as a worker sees it.
///
/// Every call may be repeated: a repeated registration begins another session, a repeated
/// completion is harmless, and an assignment whose answer was lost returns to pending by itself.
#[async_trait]
pub trait CoordinatorApi: Send + Sync + 'static {
    /// Begins a session.
    async fn register(&self, options: &WorkerOptions) -> Result<Registered, ApiError>;
    /// Waits for work for at most `free` slots, given the orders it still holds.
    async fn pull(
        &self,
        session: SessionId,
        free: u32,
        known: &[DocumentDigest],
    ) -> Result<Pulled, ApiError>;
    /// Keeps the session alive.
    async fn heartbeat(
        &self,
        session: SessionId,
        attempts: &[AttemptReport],
        draining: bool,
    ) -> Result<HeartbeatAnswer, ApiError>;
    /// Tells how an attempt ended; false when it no longer counts.
    async fn complete(
        &self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        millis: u64,
    ) -> Result<bool, ApiError>;
    /// Ends the session in good order: what it was given and has not completed goes back, uncounted.
    async fn leave(&self, session: SessionId) -> Result<(), ApiError>;
}

/// The coordinator over gRPC.
#[derive(Debug, Clone)]
pub struct GrpcCoordinator {
    client: WorkerServiceClient<CallTraced<Channel>>,
    connection: Option<Connection>,
}

/// What a call may take beyond the time it waits by design.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a heartbeat may take: behind a coordinator that is frozen there is time to find its
/// successor.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a pull waits by design.
const PULL_TIMEOUT: Duration = Duration::from_secs(60);

impl GrpcCoordinator {
    /// A client on `channel`, which connects by itself, again and again.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        const PULL_BYTES_MAX: usize = 16 * 1024 * 1024;
        Self {
            client: WorkerServiceClient::new(CallTraced::over(channel))
                .max_decoding_message_size(PULL_BYTES_MAX),
            connection: None,
        }
    }

    /// A client on a connection that knows why it failed.
    #[must_use]
    pub fn over(connection: Connection) -> Self {
        Self {
            connection: Some(connection.clone()),
            ..Self::new(connection.channel)
        }
    }

    /// What a failed call means.
    fn error(&self, status: Status) -> ApiError {
        let error = ApiError::from(status);
        let failure = self
            .connection
            .as_ref()
            .and_then(|connection| Some((connection.address(), connection.failure()?)));
        match (error, failure) {
            (ApiError::Unavailable(_), Some((address, failure))) if failure.is_distrust => {
                ApiError::Distrust {
                    address: address.to_owned(),
                    failure,
                }
            }
            (ApiError::Unavailable(why), Some((_, failure))) => {
                ApiError::Unavailable(format!("{why}: {failure}"))
            }
            (error, _) => error,
        }
    }
}

fn timed<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        if let Some(leader) = status
            .metadata()
            .get(LEADER_METADATA)
            .and_then(|leader| leader.to_str().ok())
        {
            return Self::NotLeader {
                leader: leader.to_owned(),
            };
        }
        match status.code() {
            Code::Aborted => Self::SessionEnded,
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::NotAllowed(status.message().to_owned())
            }
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::OutOfRange => Self::Refused(status.message().to_owned()),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Unavailable(status.message().to_owned()),
        }
    }
}

/// What the worker says it can do.
fn capabilities(options: &WorkerOptions) -> Capabilities {
    let all = Capabilities::of_program(options.allow_noop);
    match options.programs.is_empty() {
        true => all.without(Capabilities::EXEC),
        false => all,
    }
}

#[async_trait]
impl CoordinatorApi for GrpcCoordinator {
    async fn register(&self, options: &WorkerOptions) -> Result<Registered, ApiError> {
        let request = pb::RegisterRequest {
            protocol: PROTOCOL_VERSION,
            worker: options.id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: options.slots,
            labels: options.labels.clone().into_iter().collect(),
            allow_noop: options.allow_noop,
            capabilities: capabilities(options).words().into_iter().collect(),
        };
        let answer = self
            .client
            .clone()
            .register(timed(request, CALL_TIMEOUT))
            .await
            .map_err(|status| self.error(status))?
            .into_inner();
        let cluster: [u8; 16] = answer.cluster.as_slice().try_into().map_err(|_| {
            FieldError::new(
                "cluster",
                format!("{} bytes, expected 16", answer.cluster.len()),
            )
        })?;
        Ok(Registered {
            session: session_from(&answer.session)?,
            ttl: Duration::from_millis(answer.ttl_millis),
            heartbeat: Duration::from_millis(answer.heartbeat_millis),
            stop_margin: Duration::from_millis(answer.stop_margin_millis),
            pull_wait: Duration::from_millis(answer.pull_wait_millis),
            cluster: ClusterId::from_bytes(cluster),
            capabilities: answer.capabilities.into_iter().collect(),
        })
    }

    async fn pull(
        &self,
        session: SessionId,
        free: u32,
        known: &[DocumentDigest],
    ) -> Result<Pulled, ApiError> {
        let request = pb::PullRequest {
            session: session_to(&session),
            free_slots: free,
            known_orders: known
                .iter()
                .map(|digest| digest.as_bytes().to_vec())
                .collect(),
        };
        let answer = self
            .client
            .clone()
            .pull(timed(request, PULL_TIMEOUT))
            .await
            .map_err(|status| self.error(status))?
            .into_inner();
        let mut pulled = Pulled::default();
        for order in answer.orders {
            pulled
                .orders
                .insert(digest_from(&order.digest, "orders.digest")?, order.json);
        }
        for assignment in answer.assignments {
            pulled.assignments.push(
                assignment
                    .try_into()
                    .map_err(|error: FieldError| error.under("assignments"))?,
            );
        }
        Ok(pulled)
    }

    async fn heartbeat(
        &self,
        session: SessionId,
        attempts: &[AttemptReport],
        draining: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        let attempts = attempts.iter().map(|attempt| pb::AttemptProgress {
            task: attempt.task.as_bytes().to_vec(),
            nonce: attempt.nonce.to_bytes().to_vec(),
            rows: attempt.rows,
            bytes: attempt.bytes,
            reached: attempt.reached,
            doing: attempt.doing.clone(),
        });
        let request = pb::HeartbeatRequest {
            session: session_to(&session),
            attempts: attempts.collect(),
            draining,
        };
        let answer = self
            .client
            .clone()
            .heartbeat(timed(request, HEARTBEAT_TIMEOUT))
            .await
            .map_err(|status| self.error(status))?
            .into_inner();
        let end = answer
            .end
            .iter()
            .map(|nonce| nonce_from(nonce))
            .collect::<Result<_, _>>()?;
        Ok(HeartbeatAnswer {
            end,
            drain: answer.drain,
        })
    }

    async fn complete(
        &self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        millis: u64,
    ) -> Result<bool, ApiError> {
        let request = pb::CompleteRequest {
            session: session_to(&session),
            task: task.as_bytes().to_vec(),
            fence: Some(fence.into()),
            outcome: Some(outcome_to(outcome)),
            millis,
        };
        let answer = self
            .client
            .clone()
            .complete(timed(request, CALL_TIMEOUT))
            .await;
        Ok(answer
            .map_err(|status| self.error(status))?
            .into_inner()
            .counted)
    }

    async fn leave(&self, session: SessionId) -> Result<(), ApiError> {
        let request = pb::LeaveRequest {
            session: session_to(&session),
        };
        let answer = self
            .client
            .clone()
            .leave(timed(request, CALL_TIMEOUT))
            .await;
        answer.map(drop).map_err(|status| self.error(status))
    }
}
