//! A worker's life: it registers, pulls, runs attempts and tells their outcomes, and begins a new
//! session when it lost one.

use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{Assignment, AttemptError, Outcome};
use highwater_common::id::WorkerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::attempt::OrderContext;
use crate::attempts::Attempts;
use crate::backoff::Backoff;
use crate::coordinator_api::{ApiError, CoordinatorApi, Registered, WorkerOptions};
use crate::dispatch::run;
use crate::heartbeat;
use crate::meter::Progress;
use crate::metrics::{HasSession, StepMetrics, WorkerMetrics};
use crate::orders::Orders;
use crate::supervisor::{SpawnKind, Supervisor};
use crate::traces::{self, Allowance};

/// How long a worker that ends tries to give a task or its session back; without an answer that
/// waits for the session's time to run out.
const RELEASE_WAIT: Duration = Duration::from_secs(2);
/// How long a worker without attempts waits for what is left: commits that nobody waits for any
/// more, sessions being closed. A server that is silent would hold it for ever, and the ledger
/// knows what a commit comes to.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Why a worker stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The coordinator will not have it.
    #[error("worker {worker} cannot work")]
    Refused {
        /// Which worker.
        worker: WorkerId,
        /// What the coordinator said.
        #[source]
        source: ApiError,
    },
    /// Worker and coordinator do not trust each other, and never have.
    #[error("worker {worker} cannot reach a coordinator")]
    Distrust {
        /// Which worker.
        worker: WorkerId,
        /// Why, in words.
        #[source]
        source: ApiError,
    },
}

/// A worker, not yet running.
pub struct Worker {
    options: WorkerOptions,
    api: Arc<dyn CoordinatorApi>,
    supervisor: Supervisor,
    orders: Orders,
    metrics: Arc<WorkerMetrics>,
    has_session: watch::Sender<bool>,
    allowance: Allowance,
}

/// One connected life of the worker.
struct Session {
    registered: Registered,
    attempts: Arc<Attempts>,
    slots: Arc<Semaphore>,
    /// Cancelled when the session is lost, or the worker ends.
    over: CancellationToken,
    /// Cancelled when the worker ends at once.
    stop: CancellationToken,
}

impl Worker {
    /// A worker that asks `api` for work.
    #[must_use]
    pub fn new(options: WorkerOptions, api: Arc<dyn CoordinatorApi>) -> Self {
        #[cfg(feature = "failpoints")]
        let api = crate::stumbling::Stumbling::around(api, options.id.to_string());
        Self {
            options,
            api,
            supervisor: Supervisor::default(),
            orders: Orders::default(),
            metrics: Arc::default(),
            has_session: watch::Sender::new(false),
            allowance: Allowance::full(Instant::now()),
        }
    }

    /// The same, which counts what it does.
    #[must_use]
    pub fn counted_by(mut self, metrics: WorkerMetrics) -> Self {
        self.metrics = Arc::new(metrics);
        self
    }

    /// Whether it has a session, now and later.
    #[must_use]
    pub fn has_session(&self) -> HasSession {
        HasSession(self.has_session.subscribe())
    }

    /// Works until `drain`, then finishes what it has and ends; a partition that is moved in chunks
    /// is given back after the next one. `stop` ends it at once, giving its tasks back.
    ///
    /// # Errors
    /// [`WorkerError`] when the coordinator will not have the worker at all.
    pub async fn run(
        mut self,
        drain: CancellationToken,
        stop: CancellationToken,
    ) -> Result<(), WorkerError> {
        let mut is_known = false;
        while !drain.is_cancelled() {
            let registered = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                registered = self.register(is_known) => registered?,
            };
            is_known = true;
            self.metrics.session_began();
            self.has_session.send_replace(true);
            let session = Session {
                registered,
                attempts: Arc::default(),
                slots: Arc::new(Semaphore::new(
                    usize::try_from(self.options.slots).unwrap_or(1),
                )),
                over: stop.child_token(),
                stop: stop.clone(),
            };
            self.work(&session, &drain).await;
            self.has_session.send_replace(false);
            if drain.is_cancelled() || stop.is_cancelled() {
                self.leave(&session).await;
            }
        }
        // no attempt is left: nobody takes up a session any more
        self.supervisor.cancel_token().cancel();
        if let Err(still_running) = self.supervisor.wait(LAST_WAIT).await {
            tracing::warn!(
                %still_running,
                "a database does not answer: what it was told last is left to it, and its ledger \
                 knows what came of that"
            );
        }
        Ok(())
    }

    /// Registers, as soon as somebody leads. A worker that was known before waits for certificates
    /// and roles to be mended, too.
    async fn register(&self, is_known: bool) -> Result<Registered, WorkerError> {
        let mut backoff = Backoff::default();
        loop {
            match self.api.register(&self.options).await {
                Ok(registered) => {
                    tracing::debug!(coordinator_knows = ?registered.capabilities, "registered");
                    return Ok(registered);
                }
                Err(source @ ApiError::Refused(_)) => {
                    return Err(WorkerError::Refused {
                        worker: self.options.id.clone(),
                        source,
                    });
                }
                Err(source @ ApiError::NotAllowed(_)) if !is_known => {
                    return Err(WorkerError::Refused {
                        worker: self.options.id.clone(),
                        source,
                    });
                }
                Err(source @ ApiError::Distrust { .. }) if !is_known => {
                    return Err(WorkerError::Distrust {
                        worker: self.options.id.clone(),
                        source,
                    });
                }
                Err(error) => {
                    tracing::warn!(worker = %self.options.id, %error, "not registered yet")
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Gives the session back: what was on its way to this worker when it stopped to ask, and what
    /// it could not complete, goes to others at once and is no attempt of a worker that was lost.
    async fn leave(&self, session: &Session) {
        let told = self.api.leave(session.registered.session);
        match tokio::time::timeout(RELEASE_WAIT, told).await {
            Ok(Ok(()) | Err(ApiError::SessionEnded)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the session runs out by itself"),
            Err(_) => tracing::debug!("the session runs out by itself: no answer in time"),
        }
    }

    /// Pulls and runs until the session is over, or the worker drains.
    async fn work(&mut self, session: &Session, drain: &CancellationToken) {
        let beat = heartbeat::Heartbeat {
            api: Arc::clone(&self.api),
            worker: self.options.id.to_string(),
            registered: session.registered.clone(),
            attempts: Arc::clone(&session.attempts),
            over: session.over.clone(),
            drain: drain.clone(),
        };
        let beating = self.supervisor.spawn(SpawnKind::Heartbeat, beat.run());
        let mut backoff = Backoff::default();
        loop {
            let permit = tokio::select! {
                biased;
                () = session.over.cancelled() => break,
                () = drain.cancelled() => break,
                permit = Arc::clone(&session.slots).acquire_owned() => permit,
            };
            let Ok(first) = permit else { break };
            let free = 1 + u32::try_from(session.slots.available_permits()).unwrap_or(u32::MAX);
            let known = self.orders.digests();
            let pulled = tokio::select! {
                biased;
                () = session.over.cancelled() => break,
                () = drain.cancelled() => break,
                pulled = self.api.pull(session.registered.session, free, &known) => pulled,
            };
            match pulled {
                Ok(pulled) => {
                    backoff = Backoff::default();
                    let (worker, supervisor) =
                        (self.options.id.to_string(), self.supervisor.clone());
                    let programs = self.options.programs.clone();
                    self.orders.learn(pulled.orders, |json| {
                        Ok(OrderContext::new(
                            serde_json::from_slice(json)?,
                            worker.clone(),
                            programs.clone(),
                            supervisor.clone(),
                        ))
                    });
                    self.start(session, pulled.assignments, first, drain);
                    self.orders.forget();
                }
                Err(ApiError::SessionEnded) => {
                    session.over.cancel();
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "no work for now");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
        // What runs now ends by itself (drain), by its token (session lost), or with the process.
        let all = self.options.slots.max(1);
        let _ = session.slots.acquire_many(all).await;
        session.over.cancel();
        let _ = beating.await;
    }

    fn start(
        &mut self,
        session: &Session,
        assignments: Vec<Assignment>,
        first: OwnedSemaphorePermit,
        drain: &CancellationToken,
    ) {
        let mut permit = Some(first);
        for assignment in assignments {
            // More tasks than slots were never asked for; without a slot a task waits for its
            // heartbeat to miss it.
            let Some(slot) = permit
                .take()
                .or_else(|| Arc::clone(&session.slots).try_acquire_owned().ok())
            else {
                break;
            };
            let order = self.orders.of(&assignment.order);
            let metrics = (order.as_ref().ok()).map(|order| self.metrics.of_step(&order.order));
            let attempt = RunAttempt {
                api: Arc::clone(&self.api),
                registered: session.registered.clone(),
                attempts: Arc::clone(&session.attempts),
                cancel: session.over.child_token(),
                drain: drain.clone(),
                stop: session.stop.clone(),
                assignment,
                order,
                metrics,
            };
            let span = traces::of_attempt(
                attempt.order.as_deref().ok(),
                &attempt.assignment,
                &mut self.allowance,
            );
            let running = async move {
                attempt.run().await;
                drop(slot);
            };
            self.supervisor
                .spawn(SpawnKind::Attempt, running.instrument(span));
        }
    }
}

/// One attempt with everything it needs, on its way into a loop of its own.
struct RunAttempt {
    api: Arc<dyn CoordinatorApi>,
    registered: Registered,
    attempts: Arc<Attempts>,
    cancel: CancellationToken,
    drain: CancellationToken,
    stop: CancellationToken,
    assignment: Assignment,
    order: Result<Arc<OrderContext>, AttemptError>,
    /// What it counts by; nothing where the order is not known.
    metrics: Option<StepMetrics>,
}

impl RunAttempt {
    async fn run(self) {
        let progress = Arc::new(Progress::counted_by(self.metrics.clone()));
        self.attempts.begin(
            self.assignment.clone(),
            Arc::clone(&progress),
            self.cancel.clone(),
        );
        let began = Instant::now();
        let outcome = match &self.order {
            Ok(order) => tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                outcome = run(order, &self.assignment, &progress, &self.drain) => Some(outcome),
            },
            Err(error) => Some(Outcome::Failed(error.clone())),
        };
        let took = began.elapsed();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if let Some(metrics) = &self.metrics {
            metrics.ended(outcome.as_ref(), took);
        }
        traces::ended(&Span::current(), outcome.as_ref());
        match outcome {
            Some(outcome) => {
                let told = self.report(outcome, millis, progress.get().0 > 0);
                told.instrument(traces::of_completion()).await;
            }
            None if self.stop.is_cancelled() => self.release(millis).await,
            None => {} // whoever ended the attempt no longer waits for it
        }
        self.attempts.forget(self.assignment.fence.nonce);
    }

    /// Gives the task back, so that it is no attempt of a worker that was lost. Whatever of it is
    /// still on its way to the target is outrun by the next claim.
    async fn release(&self, millis: u64) {
        let (session, task, fence) = (
            self.registered.session,
            self.assignment.task,
            self.assignment.fence,
        );
        let told = self
            .api
            .complete(session, task, fence, Outcome::Released, millis);
        match tokio::time::timeout(RELEASE_WAIT, told).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%task, %error, "a task was not given back"),
            Err(_) => tracing::warn!(%task, "a task was not given back: no answer in time"),
        }
    }

    /// Tells the coordinator, until it hears or the session is over. Losing the answer is harmless:
    /// the ledger knows.
    async fn report(&self, outcome: Outcome, millis: u64, has_read: bool) {
        if let Outcome::Failed(error) = &outcome {
            tracing::warn!(task = %self.assignment.task, class = %error.class, code = error.code, "{}", error.message);
        }
        let mut backoff = Backoff::default();
        while !self.cancel.is_cancelled() {
            let (session, task, fence) = (
                self.registered.session,
                self.assignment.task,
                self.assignment.fence,
            );
            match self
                .api
                .complete(session, task, fence, outcome.clone(), millis)
                .await
            {
                Ok(true) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.counted(&outcome, self.assignment.work, has_read);
                    }
                    return;
                }
                Ok(false) => {
                    tracing::info!(task = %self.assignment.task, "a completion came too late to \
                        count");
                    return;
                }
                Err(ApiError::SessionEnded | ApiError::Refused(_)) => return,
                Err(
                    ApiError::Unavailable(_)
                    | ApiError::Distrust { .. }
                    | ApiError::NotAllowed(_)
                    | ApiError::NotLeader { .. }
                    | ApiError::Answer(_),
                ) => {}
            }
            if self.drain.is_cancelled() && backoff.is_long() {
                // nobody listens, and the process wants to end; the ledger has what was committed
                return;
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
