//! Keeps the session alive, apart from all work: a busy worker never looks dead, and a worker that
//! may have been declared dead ends its own attempts first.

use std::sync::Arc;
use std::time::Duration;

use highwater_runtime::failpoint;
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::coordinator_api::{ApiError, CoordinatorApi, Registered};

/// While nobody hears them heartbeats come so many times as often: the next leader is to be found
/// as soon as there is one.
const UNHEARD_PAUSE_PART: u32 = 6;

/// The loop of one session.
pub(crate) struct Heartbeat {
    pub(crate) api: Arc<dyn CoordinatorApi>,
    /// Whose session it is.
    pub(crate) worker: String,
    pub(crate) registered: Registered,
    pub(crate) attempts: Arc<Attempts>,
    /// Ended here when the session is lost; ends the loop when the worker does.
    pub(crate) over: CancellationToken,
    pub(crate) drain: CancellationToken,
}

impl Heartbeat {
    /// Beats until the session is over.
    pub(crate) async fn run(self) {
        // The coordinator's TTL may have been running since the acknowledged heartbeat was *sent*,
        // so that is what counts.
        let patience = self
            .registered
            .ttl
            .saturating_sub(self.registered.stop_margin);
        let mut acked_sent_at = Instant::now();
        let mut is_heard = true;
        loop {
            let stop_at = acked_sent_at + patience;
            let pause = self.pause(is_heard);
            tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                () = tokio::time::sleep_until((Instant::now() + pause).min(stop_at)) => {}
            }
            // Here a test makes a zombie: a worker that neither beats nor notices that it does not.
            failpoint::hit_on("heartbeat::silent", &self.worker)
                .await
                .ok();
            let sent_at = Instant::now();
            let reports = self.attempts.reports();
            let answer = tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                () = tokio::time::sleep_until(stop_at) => Err(ApiError::Unavailable("no answer in \
                    time".to_owned())),
                answer = self.api.heartbeat(self.registered.session, &reports, self.drain.is_cancelled()) => answer,
            };
            is_heard = answer.is_ok();
            match answer {
                Ok(answer) => {
                    tracing::debug!(
                        micros = sent_at.elapsed().as_micros(),
                        "a heartbeat was acknowledged"
                    );
                    acked_sent_at = sent_at;
                    answer
                        .end
                        .into_iter()
                        .for_each(|nonce| self.attempts.end(nonce));
                    if answer.drain && !self.drain.is_cancelled() {
                        tracing::info!("an operator asked this worker to drain");
                        self.drain.cancel();
                    }
                }
                Err(ApiError::SessionEnded) => {
                    tracing::warn!("the session has ended: attempts stop");
                    break;
                }
                Err(error) => tracing::debug!(%error, "a heartbeat was not acknowledged"),
            }
            if Instant::now() >= acked_sent_at + patience {
                tracing::warn!(
                    "no heartbeat was acknowledged in time: attempts stop before others begin them"
                );
                break;
            }
        }
        self.attempts.end_all();
        self.over.cancel();
    }

    /// The time between two heartbeats: ± 20 %, so that many workers do not beat as one, and ± 50 %
    /// of the shorter time while nobody hears them, for then they all began to wait in the same
    /// moment.
    fn pause(&self, is_heard: bool) -> Duration {
        let heartbeat = self.registered.heartbeat;
        let mut rng = rand::rng();
        if is_heard {
            heartbeat.mul_f64(rng.random_range(0.8..1.2))
        } else {
            (heartbeat / UNHEARD_PAUSE_PART).mul_f64(rng.random_range(0.5..1.5))
        }
    }
}

#[cfg(test)]
mod tests;
