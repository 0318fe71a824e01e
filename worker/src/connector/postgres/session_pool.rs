//! Sessions between two tasks: one that has done its work to the end may serve the next task of the
//! same order, for opening one costs more than a small partition does. Never holds a session that
//! is in a transaction, that met an error, or that an open ledger row names.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use crate::supervisor::{SpawnKind, Supervisor};

/// How long a session waits for its next task before it is closed.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// How long a session's goodbye may take.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);

/// The waiting sessions of one side of one order: at most as many as its tasks ever held at once.
#[derive(Clone)]
pub struct SessionPool {
    idle: Arc<Mutex<Vec<Idle>>>,
    supervisor: Supervisor,
}

/// A session that waits.
struct Idle {
    conn: PgConnection,
    /// What it was opened with: a secret may be another one by now.
    url: Arc<str>,
    since: Instant,
}

impl SessionPool {
    /// An empty session pool. What lies on it is closed by a loop of `supervisor`.
    #[must_use]
    pub fn new(supervisor: Supervisor) -> Self {
        Self {
            idle: Arc::default(),
            supervisor,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that was opened with `url`, the latest first.
    pub(super) fn take(&self, url: &str) -> Option<PgConnection> {
        let mut idle = self.lock();
        let at = idle.iter().rposition(|idle| *idle.url == *url)?;
        Some(idle.remove(at).conn)
    }

    /// Puts a session back, outside of any transaction.
    pub(super) fn put(&self, conn: PgConnection, url: &Arc<str>) {
        self.lock().push(Idle {
            conn,
            url: Arc::clone(url),
            since: Instant::now(),
        });
        let session_pool = self.clone();
        self.supervisor.spawn(SpawnKind::SessionPool, async move {
            tokio::select! {
                () = session_pool.supervisor.cancel_token().cancelled() => {}
                () = tokio::time::sleep(IDLE_MAX) => {}
            }
            session_pool.clear().await;
        });
    }

    /// Closes what has waited long enough; everything once the worker ends.
    async fn clear(&self) {
        let is_over = self.supervisor.cancel_token().is_cancelled();
        let over: Vec<Idle> = self
            .lock()
            .extract_if(.., |idle| is_over || idle.since.elapsed() >= IDLE_MAX)
            .collect();
        for idle in over {
            close(idle.conn).await;
        }
    }
}

/// Says goodbye, and does not wait for a server that is silent: dropping the session closes it as
/// well.
pub(super) async fn close(conn: PgConnection) {
    tokio::time::timeout(GOODBYE_WAIT, conn.close()).await.ok();
}

impl fmt::Debug for SessionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool")
            .field("idle", &self.lock().len())
            .finish_non_exhaustive()
    }
}
