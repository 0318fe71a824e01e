//! Spawns every loop of a program, by kind, so that who cancels it is a table and not a habit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the loops of a program are for. Each program has an enum of its own.
pub trait SpawnKind: fmt::Debug + Copy + Ord + Send + 'static {
    /// The program's table: who ends a loop of this kind.
    fn cancelled_by(self) -> CancelledBy;
}

/// Who ends a spawned loop before it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelledBy {
    /// Nobody: it runs to its end, also when nobody waits for that end any more.
    Nobody,
    /// Whoever spawned it, by a token or by letting go of what the loop serves.
    Owner,
    /// The supervisor's token, which the loop listens to.
    Supervisor,
}

/// Owns every spawned loop of one program, or of a part of it.
#[derive(Debug)]
pub struct Supervisor<K> {
    tracker: TaskTracker,
    cancel: CancellationToken,
    running: Arc<Running<K>>,
}

impl<K> Clone for Supervisor<K> {
    fn clone(&self) -> Self {
        Self {
            tracker: self.tracker.clone(),
            cancel: self.cancel.clone(),
            running: Arc::clone(&self.running),
        }
    }
}

impl<K> Default for Supervisor<K> {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl<K> Supervisor<K> {
    /// A supervisor whose token is `cancel`.
    #[must_use]
    pub fn new(cancel: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            cancel,
            running: Arc::default(),
        }
    }

    /// The token that ends the loops which are [`CancelledBy::Supervisor`].
    #[must_use]
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }
}

impl<K: SpawnKind> Supervisor<K> {
    /// Runs `future` apart from the caller. Dropping the handle drops the wait, never the work.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    pub fn spawn<F>(&self, kind: K, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let counted = Counted::begin(&self.running, kind);
        tracing::trace!(?kind, "spawned");
        tokio::spawn(self.tracker.track_future(async move {
            let _counted = counted;
            future.await
        }))
    }

    /// Waits until every loop has ended, and not longer than `limit`. New ones may still begin
    /// while it waits.
    ///
    /// # Errors
    /// Those that have not ended by then.
    pub async fn wait(&self, limit: Duration) -> Result<(), StillRunning<K>> {
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StillRunning(self.running.lock().clone())),
        }
    }
}

/// Loops that a supervisor waited for in vain, by kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct StillRunning<K: SpawnKind>(BTreeMap<K, usize>);

impl<K: SpawnKind> fmt::Display for StillRunning<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, count)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let ended_by = match kind.cancelled_by() {
                CancelledBy::Nobody => "runs to its end",
                CancelledBy::Owner => "its owner ends it",
                CancelledBy::Supervisor => "was told to end",
            };
            write!(f, "{comma}{count} {kind:?} ({ended_by})")?;
        }
        Ok(())
    }
}

/// How many loops of each kind run now.
#[derive(Debug)]
struct Running<K>(Mutex<BTreeMap<K, usize>>);

impl<K> Default for Running<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Running<K> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running loop. It is counted until it ends, however it does.
struct Counted<K: SpawnKind> {
    running: Arc<Running<K>>,
    kind: K,
}

impl<K: SpawnKind> Counted<K> {
    fn begin(running: &Arc<Running<K>>, kind: K) -> Self {
        *running.lock().entry(kind).or_default() += 1;
        Self {
            running: Arc::clone(running),
            kind,
        }
    }
}

impl<K: SpawnKind> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(count) = running.get_mut(&self.kind) {
            *count = count.saturating_sub(1);
        }
        running.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Kind {
        Commit,
        Watch,
    }

    impl SpawnKind for Kind {
        fn cancelled_by(self) -> CancelledBy {
            match self {
                Self::Commit => CancelledBy::Nobody,
                Self::Watch => CancelledBy::Supervisor,
            }
        }
    }

    #[tokio::test]
    async fn dropping_the_handle_drops_the_wait_and_never_the_work() {
        // GIVEN a loop that waits for a word, whose handle is gone
        let supervisor = Supervisor::<Kind>::default();
        let (go_on, told) = oneshot::channel::<()>();
        let (tell, done) = oneshot::channel();
        drop(supervisor.spawn(Kind::Commit, async move {
            told.await.ok();
            tell.send("committed").ok();
        }));
        // WHEN the word comes, and even the supervisor's token was cancelled before
        supervisor.cancel_token().cancel();
        go_on.send(()).expect("the loop listens");
        // THEN the loop has gone on to its end
        assert_eq!(done.await, Ok("committed"));
        assert_eq!(supervisor.wait(Duration::from_secs(60)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn loops_that_do_not_end_are_named_by_kind_with_who_should_have_ended_them() {
        // GIVEN two commits without an answer, one that panics, and a loop that listens to the
        // token
        let supervisor = Supervisor::<Kind>::default();
        for _ in 0..2 {
            supervisor.spawn(Kind::Commit, std::future::pending::<()>());
        }
        supervisor.spawn(Kind::Commit, async { panic!("a defect") });
        let stuck = Supervisor::clone(&supervisor);
        supervisor.spawn(Kind::Watch, async move {
            stuck.cancel_token().cancelled().await
        });
        // WHEN it is waited for
        let early = supervisor
            .wait(Duration::from_secs(1))
            .await
            .expect_err("they run");
        supervisor.cancel_token().cancel();
        let late = supervisor
            .wait(Duration::from_secs(1))
            .await
            .expect_err("the commits run");
        // THEN those that still run are told
        assert_eq!(
            early.to_string(),
            "2 Commit (runs to its end), 1 Watch (was told to end)"
        );
        assert_eq!(late.to_string(), "2 Commit (runs to its end)");
    }
}
