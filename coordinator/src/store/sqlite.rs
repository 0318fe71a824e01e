//! Records in one SQLite file, for a coordinator that is alone: the embedded mode.
//!
//! Every statement runs on one connection, in a loop of its own (`connection.rs`), so that a caller
//! that gives up waiting never leaves a transaction open for the next one. A lock file beside the
//! database admits one process; that is why lease deadlines may live in memory, and why opening may
//! drop the records of old leases: their holders are gone.

mod connection;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use self::connection::{Connection, Request};
use super::hints::HintBoard;
use super::leases::{Holder, Leases};
use super::{Campaign, Key, Leadership, RecordStore, StoreError, StoreTxn, TxnOutcome, Value};
use crate::supervisor::{SpawnKind, Supervisor};

/// Requests that wait for the connection at the most; further callers wait before they queue.
const REQUESTS_MAX: usize = 64;

/// How a database file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// As its one holder.
    Holder,
    /// Beside a holder, or without one; changes nothing.
    ReadOnly,
}

/// One SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    requests: mpsc::Sender<Request>,
    leases: Leases,
    hints: Arc<HintBoard>,
}

impl SqliteStore {
    /// Opens the database at `path`, making it if there is none, and holds it until
    /// [`SqliteStore::close`], or until the store and every term in it are gone. The lock file
    /// stands beside it, with the extension `lock`.
    ///
    /// # Errors
    /// [`StoreError::HeldElsewhere`] when another process, or another store of this one, holds it;
    /// [`StoreError::Unreachable`] when the file cannot be opened; [`StoreError::Rejected`] when it
    /// is of another format.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = take_lock(path)?;
        Self::open_as(path, Access::Holder, Some(lock)).await
    }

    /// Opens the database at `path` to look at it, held by a process or not. Changes are refused,
    /// hints never come, and records tied to a lease are not shown: nobody here can tell whether
    /// their holder lives.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when there is no such database; [`StoreError::Rejected`] when it
    /// is of another format.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, Access::ReadOnly, None).await
    }

    async fn open_as(path: &Path, access: Access, lock: Option<File>) -> Result<Self, StoreError> {
        let (leases, hints) = (Leases::default(), Arc::new(HintBoard::default()));
        let connection =
            Connection::open(path, access, lock, leases.clone(), Arc::clone(&hints)).await?;
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        Supervisor::default().spawn(SpawnKind::StoreConnection, connection.run(inbox));
        Ok(Self {
            path: path.to_owned(),
            requests,
            leases,
            hints,
        })
    }

    /// Carries out what is queued, closes the database and lets go of its lock. Later calls find it
    /// unreachable.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when it is closed already.
    pub async fn close(&self) -> Result<(), StoreError> {
        ask(&self.requests, &self.path, Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        ask(&self.requests, &self.path, request).await
    }
}

/// Where the connection's loop puts what a caller waits for.
type Answer<T> = oneshot::Sender<T>;

#[async_trait]
impl RecordStore for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<Value>, StoreError> {
        self.ask(|answer| Request::Get(key.to_owned(), answer))
            .await?
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError> {
        self.ask(|answer| Request::Scan(prefix.to_owned(), answer))
            .await?
    }

    async fn commit(&self, txn: StoreTxn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Request::Commit(txn, answer))
            .await
            .map_err(|_| closed(&self.path))?;
        // The loop took the transaction and died before its answer: it may have been applied.
        answered.await.unwrap_or(Ok(TxnOutcome::Unknown))
    }

    async fn hints(&self, prefix: &str) -> Result<watch::Receiver<u64>, StoreError> {
        Ok(self.hints.subscribe(prefix))
    }

    async fn campaign(
        &self,
        key: &str,
        value: Value,
        ttl: Duration,
    ) -> Result<Campaign, StoreError> {
        // The holder exists before the record: if this call is dropped on its way, the lease still
        // has an end.
        let holder = self.leases.grant(ttl);
        let (key, lease) = (key.to_owned(), holder.id);
        match self
            .ask(|answer| Request::Campaign {
                key,
                value,
                lease,
                answer,
            })
            .await??
        {
            None => Ok(Campaign::Won(Box::new(SqliteReign {
                holder,
                requests: self.requests.clone(),
                path: self.path.clone(),
            }))),
            Some(held) => {
                holder.end();
                Ok(Campaign::Held(held))
            }
        }
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let size_of = async |path: PathBuf| tokio::fs::metadata(path).await.map(|file| file.len());
        let database = size_of(self.path.clone())
            .await
            .map_err(|error| unreachable(&self.path, error))?;
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        // There is no log between a clean end and the first write.
        Ok(database + size_of(log.into()).await.unwrap_or(0))
    }

    fn place(&self) -> String {
        place_of(&self.path)
    }
}

#[derive(Debug)]
struct SqliteReign {
    holder: Holder,
    requests: mpsc::Sender<Request>,
    path: PathBuf,
}

#[async_trait]
impl Leadership for SqliteReign {
    fn lost(&self) -> watch::Receiver<bool> {
        self.holder.lost()
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        let lease = self.holder.id;
        ask(&self.requests, &self.path, |answer| {
            Request::EndLease(lease, answer)
        })
        .await??;
        self.holder.end();
        Ok(())
    }
}

/// Only for requests that may be repeated: a loop that died before its answer is an error here.
async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    path: &Path,
    request: impl FnOnce(Answer<T>) -> Request,
) -> Result<T, StoreError> {
    let (answer, answered) = oneshot::channel();
    requests
        .send(request(answer))
        .await
        .map_err(|_| closed(path))?;
    answered.await.map_err(|_| closed(path))
}

fn take_lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = path.with_extension("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path);
    let lock = lock.map_err(|error| unreachable(path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::HeldElsewhere {
            place: place_of(path),
        }),
        Err(TryLockError::Error(error)) => Err(unreachable(path, error)),
    }
}

fn place_of(path: &Path) -> String {
    path.display().to_string()
}

fn unreachable(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unreachable {
        place: place_of(path),
        source: Box::new(source),
    }
}

fn closed(path: &Path) -> StoreError {
    unreachable(path, Closed)
}

/// The store was closed, or its loop has ended.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
struct Closed;

#[cfg(test)]
mod tests;
