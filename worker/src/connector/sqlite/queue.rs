//! The queue of writers on one file. SQLite has one writer at a time: within this process attempts
//! wait their turn here, in the order they came, instead of racing through SQLite's busy timeout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One queue per file, process-wide, because several targets may mean the same file. Holds no file
/// that nobody waits for.
static QUEUES: Mutex<BTreeMap<PathBuf, Weak<Semaphore>>> = Mutex::new(BTreeMap::new());

/// The right to write to a file, as far as this process is concerned. Dropping it lets the next one
/// go.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    _queue: Arc<Semaphore>,
}

/// Waits for the turn to write to the file at `path`. Dropping the wait leaves the queue.
pub(super) async fn turn(path: &Path) -> Option<Turn> {
    let queue = queue_of(&identity(path));
    let permit = Arc::clone(&queue).acquire_owned().await.ok()?;
    Some(Turn {
        _permit: permit,
        _queue: queue,
    })
}

fn queue_of(file: &Path) -> Arc<Semaphore> {
    let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(queue) = queues.get(file).and_then(Weak::upgrade) {
        return queue;
    }
    queues.retain(|_, queue| queue.strong_count() > 0);
    let queue = Arc::new(Semaphore::new(1));
    queues.insert(file.to_owned(), Arc::downgrade(&queue));
    queue
}

/// The file's real path, so that two ways to write it meet in one queue. A file that does not exist
/// yet has its folder's.
fn identity(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (
        path.parent().and_then(|folder| folder.canonicalize().ok()),
        path.file_name(),
    ) {
        (Some(folder), Some(name)) => folder.join(name),
        (None, _) | (_, None) => path.to_owned(),
    }
}
