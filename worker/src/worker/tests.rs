//! Many workers on a clock that is held, before a coordinator that is away for a while.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use highwater_common::id::{ClusterId, DocumentDigest, SessionId, TaskId};
use highwater_common::token::Fence;

use super::*;
use crate::coordinator_api::{AttemptReport, HeartbeatAnswer, Pulled};
use crate::programs::AllowedPrograms;

const WORKERS: usize = 500;

/// Nobody leads until `back`; then everybody is let in.
struct Away {
    back: Instant,
    /// When somebody asked to be let in.
    asked: Mutex<Vec<Instant>>,
    /// When somebody was.
    let_in: Mutex<Vec<Instant>>,
}

#[async_trait]
impl CoordinatorApi for Away {
    async fn register(&self, _: &WorkerOptions) -> Result<Registered, ApiError> {
        self.asked.lock().expect("a test").push(Instant::now());
        if Instant::now() < self.back {
            return Err(ApiError::Unavailable("nobody leads".to_owned()));
        }
        self.let_in.lock().expect("a test").push(Instant::now());
        Ok(Registered {
            session: SessionId::from_bytes([1; 16]),
            ttl: Duration::from_secs(15),
            heartbeat: Duration::from_secs(3),
            stop_margin: Duration::from_secs(3),
            pull_wait: Duration::from_secs(20),
            cluster: ClusterId::from_bytes([2; 16]),
            capabilities: std::collections::BTreeSet::new(),
        })
    }

    async fn pull(&self, _: SessionId, _: u32, _: &[DocumentDigest]) -> Result<Pulled, ApiError> {
        std::future::pending().await
    }

    async fn heartbeat(
        &self,
        _: SessionId,
        _: &[AttemptReport],
        _: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        Ok(HeartbeatAnswer::default())
    }

    async fn complete(
        &self,
        _: SessionId,
        _: TaskId,
        _: Fence,
        _: Outcome,
        _: u64,
    ) -> Result<bool, ApiError> {
        Ok(true)
    }

    async fn leave(&self, _: SessionId) -> Result<(), ApiError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn workers_that_lost_their_coordinator_together_come_back_apart() {
    // GIVEN many workers that all begin to look for a coordinator in one moment, and none for a
    // minute
    let began = Instant::now();
    let api = Arc::new(Away {
        back: began + Duration::from_secs(60),
        asked: Mutex::default(),
        let_in: Mutex::default(),
    });
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let supervisor = Supervisor::default();
    for no in 0..WORKERS {
        let id = format!("w{no}").parse().expect("a name");
        let options = WorkerOptions {
            id,
            slots: 1,
            labels: BTreeMap::new(),
            allow_noop: true,
            programs: AllowedPrograms::default(),
        };
        let worker = Worker::new(options, Arc::<Away>::clone(&api));
        let (drain, stop) = (drain.clone(), stop.clone());
        supervisor.spawn(SpawnKind::Attempt, async move {
            worker.run(drain, stop).await.expect("never refused")
        });
    }
    // WHEN it is there, THEN all are back soon
    tokio::time::sleep_until(api.back + Duration::from_secs(5) + Duration::from_millis(1)).await;
    assert_eq!(api.let_in.lock().expect("a test").len(), WORKERS);
    // AND never has more than a small part of them asked at once, as soon as they had been refused
    // a few times
    let asked = api.asked.lock().expect("a test").clone();
    let mut a_tenth = BTreeMap::new();
    for at in asked {
        *a_tenth
            .entry((at - began).as_millis() / 100)
            .or_insert(0_usize) += 1;
    }
    let most = a_tenth
        .iter()
        .filter(|(at, _)| **at >= 200)
        .map(|(_, asked)| *asked)
        .max();
    assert!(
        most.is_some_and(|most| most < WORKERS / 6),
        "{most:?} of {WORKERS} in a tenth of a second: {a_tenth:?}"
    );
    drain.cancel();
}

/// Answers a pull only when the worker has stopped to wait for it, as a coordinator does whose
/// answer and the worker's drain cross each other.
#[derive(Default)]
struct Crossing {
    drain: CancellationToken,
    left: Mutex<u32>,
}

#[async_trait]
impl CoordinatorApi for Crossing {
    async fn register(&self, _: &WorkerOptions) -> Result<Registered, ApiError> {
        Ok(Registered {
            session: SessionId::from_bytes([1; 16]),
            ttl: Duration::from_secs(15),
            heartbeat: Duration::from_secs(3),
            stop_margin: Duration::from_secs(3),
            pull_wait: Duration::from_secs(20),
            cluster: ClusterId::from_bytes([2; 16]),
            capabilities: std::collections::BTreeSet::new(),
        })
    }

    async fn pull(&self, _: SessionId, _: u32, _: &[DocumentDigest]) -> Result<Pulled, ApiError> {
        self.drain.cancel();
        std::future::pending().await
    }

    async fn heartbeat(
        &self,
        _: SessionId,
        _: &[AttemptReport],
        _: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        Ok(HeartbeatAnswer::default())
    }

    async fn complete(
        &self,
        _: SessionId,
        _: TaskId,
        _: Fence,
        _: Outcome,
        _: u64,
    ) -> Result<bool, ApiError> {
        Ok(true)
    }

    async fn leave(&self, _: SessionId) -> Result<(), ApiError> {
        *self.left.lock().expect("a test") += 1;
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_gives_its_session_back_and_waits_for_no_answer() {
    // GIVEN a worker that is told to drain while it waits for work
    let api = Arc::new(Crossing::default());
    let options = WorkerOptions {
        id: "w1".parse().expect("a name"),
        slots: 1,
        labels: BTreeMap::new(),
        allow_noop: true,
        programs: AllowedPrograms::default(),
    };
    let worker = Worker::new(options, Arc::<Crossing>::clone(&api));
    // WHEN it ends, THEN it has said so, once, and ends though nobody answers
    let ended = worker.run(api.drain.clone(), CancellationToken::new());
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    assert!(ended.is_ok_and(|ended| ended.is_ok()));
    assert_eq!(*api.left.lock().expect("a test"), 1);
}
