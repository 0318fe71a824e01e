//! What bounds a connection, a call and an answer: every number of the gRPC server in one place,
//! and the deadline of each call. Never decides what a call means.
//!
//! A caller has its own deadline too, a little longer, so that it hears the coordinator's word
//! rather than none.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use highwater_net::trace::ServeTraced;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Server;
use tower::Service;
use tower::layer::Layer;
use tower::layer::util::{Identity, Stack};

use super::gate::Gate;
use crate::coordinator::CoordinatorHandle;

/// The largest message that is taken, in bytes: the facts of a table of 2,000 columns, which are 2
/// MiB at the most, and their envelope.
pub(super) const REQUEST_BYTES_MAX: usize = 3 << 20;
/// The largest message that is sent, in bytes: a document of a run of many steps. Callers take as
/// much.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The most metadata of a call, in bytes: all of ours takes less than one.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// The largest frame, in bytes: what HTTP/2 gives everybody, so that no call holds a connection up
/// for long.
const FRAME_BYTES_MAX: u32 = 16 << 10;
/// Calls at once on one connection; further ones wait for their turn at the caller's. A worker has
/// one for each slot, and two more.
const CALLS_AT_ONCE_MAX: u32 = 256;
/// How often an idle connection is probed: finds a caller that went away without a word.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long the probe may take.
const KEEP_ALIVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Characters of what an attempt says that it does.
pub(super) const DOING_CHARS_MAX: usize = 300;
/// Runs that are watched at once on one coordinator, by all callers together: each document is made
/// for each of them.
const WATCHES_MAX: usize = 256;

/// How long a call may take, but for those below. Most take milliseconds; a change of leaders
/// within it takes seconds.
const CALL_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a cancel may wait for its fences: a target that is away may come back. The cancel goes
/// on without its caller.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// What stands before every call, the innermost first.
type Layers = Stack<Gate, Stack<Deadlines, Stack<ServeTraced, Identity>>>;

/// A server within these limits, which lets in whom the roles let in. A watched run is no call that ends: only its beginning has a
/// deadline.
#[must_use]
pub fn limited_server(handle: &CoordinatorHandle) -> Server<Layers> {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_WAIT_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(CALLS_AT_ONCE_MAX)
        .layer(ServeTraced)
        .layer(Deadlines {
            pull: handle.options().sessions.pull_wait + CALL_WAIT_MAX,
        })
        .layer(Gate::new(handle.options().roles.clone()))
}

/// Gives each call its deadline.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// A pull waits for work by design.
    pull: Duration,
}

impl Deadlines {
    /// How long the call of this path may take, and what its caller is told when it takes longer.
    fn of(self, path: &str) -> (Duration, &'static str) {
        match path.rsplit('/').next() {
            Some("Pull") => (self.pull, "ask again"),
            Some("Cancel") => (
                CANCEL_WAIT_MAX,
                "the run is being cancelled still, and cancelling it again waits on",
            ),
            _ => (
                CALL_WAIT_MAX,
                "it may have been done nonetheless: look, or ask again",
            ),
        }
    }
}

impl<S> Layer<S> for Deadlines {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed {
            inner,
            deadlines: *self,
        }
    }
}

/// A service whose calls have deadlines.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    deadlines: Deadlines,
}

impl<S> Service<Request<Body>> for Timed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (limit, next) = self.deadlines.of(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(answered) => answered,
                Err(_) => {
                    let why = format!(
                        "the coordinator had no answer within {} s; {next}",
                        limit.as_secs()
                    );
                    Ok(Status::deadline_exceeded(why).into_http())
                }
            }
        })
    }
}

/// Placement for those who watch runs.
#[derive(Debug, Clone)]
pub(super) struct Watches(Arc<Semaphore>);

impl Default for Watches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHES_MAX)))
    }
}

impl Watches {
    /// A seat, given back when it is dropped.
    ///
    /// # Errors
    /// Every seat is taken.
    pub(super) fn seat(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{WATCHES_MAX} runs are watched on this coordinator already; `highwater status` \
                 shows a run without watching it"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SessionOptions;

    /// Asks a service that answers after so long.
    async fn ask(path: &str, takes: Duration) -> Option<Status> {
        let slow = tower::service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        });
        let sessions = SessionOptions::default();
        let deadlines = Deadlines {
            pull: sessions.pull_wait + CALL_WAIT_MAX,
        };
        let mut timed = deadlines.layer(slow);
        let request = Request::builder()
            .uri(path)
            .body(Body::empty())
            .expect("a request");
        let answer = timed.call(request).await.expect("an answer");
        Status::from_header_map(answer.headers())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_and_says_so() {
        for (call, limit) in [
            ("Submit", 30),
            ("Heartbeat", 30),
            ("WatchRun", 30),
            ("Pull", 50),
            ("Cancel", 600),
        ] {
            // GIVEN a service that takes one second less than it may, THEN its answer comes
            let path = format!("/highwater.v1.SomeService/{call}");
            let limit = Duration::from_secs(limit);
            assert!(
                ask(&path, limit - Duration::from_secs(1)).await.is_none(),
                "{call}"
            );
            // WHEN it takes longer, THEN the caller hears for how long it was waited
            let status = ask(&path, limit + Duration::from_secs(1))
                .await
                .expect("a status");
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{call}");
            assert!(
                status
                    .message()
                    .contains(&format!("within {} s", limit.as_secs())),
                "{status}"
            );
        }
    }

    #[test]
    fn a_parked_pull_outlives_its_wait_by_far() {
        let sessions = SessionOptions::default();
        let deadlines = Deadlines {
            pull: sessions.pull_wait + CALL_WAIT_MAX,
        };
        assert!(deadlines.of("/highwater.v1.WorkerService/Pull").0 >= sessions.pull_wait * 2);
    }

    #[test]
    fn a_seat_is_refused_when_all_are_taken_and_given_again_when_one_is_free() {
        let watches = Watches::default();
        let mut seats: Vec<_> = (0..WATCHES_MAX)
            .map(|_| watches.seat().expect("a seat"))
            .collect();
        let refused = watches.seat().expect_err("no seat");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        seats.pop();
        assert!(watches.seat().is_ok());
    }
}
