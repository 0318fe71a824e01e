//! Spawns every loop of the worker, by kind, so that who cancels it is a table and not a habit.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a spawned loop is for, which settles how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnKind {
    /// Asks for work; cancelled first.
    Puller,
    /// Keeps the session alive; cancelled last.
    Heartbeat,
    /// One attempt of a task; cancelled by its own token.
    Attempt,
    /// A begin or a commit on a target; never cancelled, runs to its end.
    Commit,
    /// Closes a session that no task took up; cancelled when no attempt is left.
    Shelf,
}

/// Owns every spawned loop of one worker.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Supervisor {
    /// A supervisor whose loops end with `cancel`.
    #[must_use]
    pub fn new(cancel: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), cancel }
    }

    /// The token that ends the loops of this supervisor.
    #[must_use]
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Runs `future` apart from the caller. Dropping the handle drops the wait, never the work.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, kind: SpawnKind, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tracing::trace!(?kind, "spawned");
        tokio::spawn(self.tracker.track_future(future))
    }

    /// Waits until every loop has ended, and not longer than `limit`; false when some have not. New ones may still begin while
    /// it waits.
    pub async fn wait(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
