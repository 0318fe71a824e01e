//! The heartbeat on a clock that is held, before a coordinator that answers slowly and then not at
//! all.

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
