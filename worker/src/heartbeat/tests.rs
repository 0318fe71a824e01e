//! The heartbeat on a clock that is held, before a coordinator that answers slowly and then not at
//! all.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use highwater_common::assignment::{Assignment, Outcome, Work};
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, SessionId, TaskId};
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::*;
use crate::coordinator_api::WorkerOptions;
use crate::coordinator_api::{AttemptReport, HeartbeatAnswer, Pulled};

/// How long the coordinator takes for the heartbeat that it acknowledges.
const ANSWER_TAKES: Duration = Duration::from_millis(1_900);

/// Acknowledges the first heartbeat after a while, and no other.
#[derive(Default)]
struct Slow {
    heartbeats: AtomicU32,
    /// When the heartbeat that was acknowledged had been sent.
    sent_at: std::sync::OnceLock<Instant>,
}

#[async_trait]
impl CoordinatorApi for Slow {
    async fn register(&self, _: &WorkerOptions) -> Result<Registered, ApiError> {
        Ok(registered())
    }

    async fn pull(&self, _: SessionId, _: u32, _: &[DocumentDigest]) -> Result<Pulled, ApiError> {
        Ok(Pulled::default())
    }

    async fn heartbeat(
        &self,
        _: SessionId,
        _: &[AttemptReport],
        _: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        if self.heartbeats.fetch_add(1, Ordering::Relaxed) > 0 {
            return std::future::pending().await;
        }
        self.sent_at.get_or_init(Instant::now);
        tokio::time::sleep(ANSWER_TAKES).await;
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

/// Answers each heartbeat at once with what is next, and then that the session has ended.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<HeartbeatAnswer, ApiError>>>,
    /// When each heartbeat was sent.
    sent_at: Mutex<Vec<Instant>>,
}

#[async_trait]
impl CoordinatorApi for Scripted {
    async fn register(&self, _: &WorkerOptions) -> Result<Registered, ApiError> {
        Ok(registered())
    }

    async fn pull(&self, _: SessionId, _: u32, _: &[DocumentDigest]) -> Result<Pulled, ApiError> {
        Ok(Pulled::default())
    }

    async fn heartbeat(
        &self,
        _: SessionId,
        _: &[AttemptReport],
        _: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        self.sent_at
            .lock()
            .expect("unpoisoned")
            .push(Instant::now());
        let next = self.answers.lock().expect("unpoisoned").pop_front();
        next.unwrap_or(Err(ApiError::SessionEnded))
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

/// What is left of a session whose heartbeats were answered so.
struct Beaten {
    sent_at: Vec<Instant>,
    drain: CancellationToken,
    over: CancellationToken,
    began: Instant,
}

async fn beaten(
    answers: impl IntoIterator<Item = Result<HeartbeatAnswer, ApiError>>,
    attempt: &CancellationToken,
    drain: CancellationToken,
) -> Beaten {
    let api = Arc::new(Scripted {
        answers: Mutex::new(answers.into_iter().collect()),
        sent_at: Mutex::default(),
    });
    let attempts = Arc::new(Attempts::default());
    attempts.begin(assignment(), Arc::default(), attempt.clone());
    let (over, began) = (CancellationToken::new(), Instant::now());
    let beat = Heartbeat {
        api: Arc::<Scripted>::clone(&api),
        worker: "w1".to_owned(),
        registered: registered(),
        attempts,
        over: over.clone(),
        drain: drain.clone(),
    };
    beat.run().await;
    let sent_at = api.sent_at.lock().expect("unpoisoned").clone();
    Beaten {
        sent_at,
        drain,
        over,
        began,
    }
}

fn registered() -> Registered {
    Registered {
        session: SessionId::from_bytes([1; 16]),
        ttl: Duration::from_secs(15),
        heartbeat: Duration::from_secs(3),
        stop_margin: Duration::from_secs(3),
        pull_wait: Duration::from_secs(20),
        cluster: ClusterId::from_bytes([2; 16]),
        capabilities: std::collections::BTreeSet::new(),
    }
}

fn assignment() -> Assignment {
    Assignment {
        task: TaskId::from_bytes([3; 16]),
        attempt: AttemptNo::FIRST,
        fence: Fence {
            token: FencingToken::from_raw(1),
            nonce: Nonce::new(1),
        },
        work: Work::Prepare,
        phase: 0,
        ordinal: 0,
        order: DocumentDigest::of(b"an order"),
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_end_before_the_time_to_live_that_began_when_the_heartbeat_was_sent() {
    // GIVEN a heartbeat whose answer takes a while, and no answer after that
    let (api, attempts) = (Arc::new(Slow::default()), Arc::new(Attempts::default()));
    let attempt = CancellationToken::new();
    attempts.begin(assignment(), Arc::default(), attempt.clone());
    let over = CancellationToken::new();
    let beat = Heartbeat {
        api: Arc::<Slow>::clone(&api),
        worker: "w1".to_owned(),
        registered: registered(),
        attempts,
        over: over.clone(),
        drain: CancellationToken::new(),
    };
    // WHEN the heartbeat beats to its end
    beat.run().await;
    // THEN the attempts end a margin before the coordinator may give them to others: its time to
    // live may have been running since the heartbeat was sent, not since its answer came
    assert!(attempt.is_cancelled() && over.is_cancelled());
    let sent_at = *api.sent_at.get().expect("one was sent");
    let Registered {
        ttl, stop_margin, ..
    } = registered();
    let ended_after = sent_at.elapsed();
    assert!(
        ended_after <= ttl - stop_margin + Duration::from_millis(10),
        "{ended_after:?}"
    );
    assert!(
        ended_after >= ttl - stop_margin - Duration::from_millis(10),
        "not needlessly early: {ended_after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_ends_its_attempts() {
    // GIVEN a coordinator that knows the session no more WHEN a heartbeat says so
    let attempt = CancellationToken::new();
    let beaten = beaten([], &attempt, CancellationToken::new()).await;
    // THEN its attempts end at once, and so does the session
    assert!(attempt.is_cancelled() && beaten.over.is_cancelled());
    assert_eq!(beaten.sent_at.len(), 1);
    assert!(beaten.began.elapsed() < Duration::from_secs(4));
    assert!(!beaten.drain.is_cancelled(), "nobody asked for that");
}

#[tokio::test(start_paused = true)]
async fn a_worker_drains_when_it_is_asked_to() {
    for asked in [false, true] {
        // GIVEN an answer that asks for it or does not WHEN it comes
        let answer = HeartbeatAnswer {
            drain: asked,
            ..HeartbeatAnswer::default()
        };
        let attempt = CancellationToken::new();
        let beaten = beaten([Ok(answer)], &attempt, CancellationToken::new()).await;
        // THEN the worker drains, or goes on
        assert_eq!(beaten.drain.is_cancelled(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_coordinator_ends_is_ended() {
    // GIVEN an attempt, and an answer that ends it, and one that ends another
    for (nonce, ends) in [(1, true), (2, false)] {
        let answer = HeartbeatAnswer {
            end: vec![Nonce::new(nonce)],
            ..HeartbeatAnswer::default()
        };
        let attempt = CancellationToken::new();
        let ended = async {
            attempt.cancelled().await;
            Instant::now()
        };
        // WHEN it comes, and the session ends with the heartbeat after it
        let (beaten, ended_at) = tokio::join!(
            beaten([Ok(answer)], &attempt, CancellationToken::new()),
            ended
        );
        // THEN the attempt ended with the answer, or not before the session did
        let first_answer = beaten.sent_at[0];
        let with_answer = ended_at == first_answer;
        assert_eq!(with_answer, ends);
        assert_eq!(beaten.sent_at.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_more_often_while_nobody_hears_them() {
    // GIVEN a coordinator that hears ten heartbeats, and then is away for eight
    let heard = std::iter::repeat_with(|| Ok(HeartbeatAnswer::default())).take(10);
    let unheard = std::iter::repeat_with(|| Err(ApiError::Unavailable("away".to_owned()))).take(8);
    // WHEN the session lasts THEN it outlives the answers that it misses
    let attempt = CancellationToken::new();
    let beaten = beaten(heard.chain(unheard), &attempt, CancellationToken::new()).await;
    assert_eq!(beaten.sent_at.len(), 19);
    // AND the pauses are the heartbeat's, a fifth more or less, and then a sixth of it, a half more
    // or less
    let pauses: Vec<Duration> = beaten
        .sent_at
        .windows(2)
        .map(|two| two[1] - two[0])
        .collect();
    let Registered { heartbeat, .. } = registered();
    let millisecond = Duration::from_millis(1);
    for pause in &pauses[..10] {
        let expected = heartbeat.mul_f64(0.8)..=heartbeat.mul_f64(1.2) + millisecond;
        assert!(expected.contains(pause), "{pauses:?}");
    }
    for pause in &pauses[10..] {
        let expected = heartbeat.mul_f64(0.5 / 6.0)..=heartbeat.mul_f64(1.5 / 6.0) + millisecond;
        assert!(expected.contains(pause), "{pauses:?}");
    }
    assert!(
        pauses.iter().any(|pause| *pause != pauses[0]),
        "they are spread"
    );
}
