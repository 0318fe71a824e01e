//! The record store: what may be attempted, and by whom. Three backends, one contract.

mod check;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod etcd;
#[cfg(any(test, feature = "contract"))]
pub mod faulty;
mod hints;
pub mod keys;
mod leases;
pub mod memory;
mod prefix;
pub mod records;
pub mod sqlite;
#[cfg(test)]
mod store_contract;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

/// A record's key, below the cluster's prefix: `run/…`, `att/…`. Ordered as bytes.
pub type Key = String;
/// A record's value: protobuf with a `format` number, opaque to the store.
pub type Value = Vec<u8>;

/// Operations, and compares, that one transaction may hold at the most; etcd's own limit is 128.
pub const TXN_OPERATIONS_MAX: usize = 120;
/// Bytes of keys and values that one transaction may hold at the most.
pub const TXN_BYTES_MAX: usize = 512 * 1024;

/// What must hold for a transaction to apply. Compares value bytes: a restored store issues
/// revisions again, but bytes with a fresh nonce do not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The key has no value.
    Absent(Key),
    /// The key has exactly these bytes.
    Bytes(Key, Value),
}

/// What a transaction does, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a value.
    Put(Key, Value),
    /// Removes a value; removing none is no error.
    Delete(Key),
}

/// A compare-and-commit. A key stands at most once in `expects` and at most once in `ops`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreTxn {
    /// What must hold.
    pub expects: Vec<Expect>,
    /// What is then done.
    pub ops: Vec<Op>,
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Every expect held and every op is applied, durably.
    Applied,
    /// Some expect did not hold; nothing is applied. Holds the current value of every key that
    /// `expects` named.
    Refused(Vec<(Key, Option<Value>)>),
    /// The answer was lost: applied or not, never half. The caller must read back.
    Unknown,
}

/// Who holds a leadership, after an attempt to win it.
#[derive(Debug)]
pub enum Campaign {
    /// The caller holds it for as long as the term lives.
    Won(Box<dyn Leadership>),
    /// Somebody else holds it.
    Held(Value),
}

/// A won leadership: its record exists until it is resigned, or until its time to live passes
/// without a renewal. Dropping it stops renewing.
#[async_trait]
pub trait Leadership: Send + Sync + std::fmt::Debug {
    /// Turns to `true` when the leadership may be lost: the holder's own monotonic clock has not
    /// seen a renewal in time.
    fn lost(&self) -> watch::Receiver<bool>;
    /// Gives the leadership up at once; an error leaves it to the time to live.
    async fn resign(self: Box<Self>) -> Result<(), StoreError>;
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No endpoint answered in time; a read may be repeated.
    #[error("the store at {place} is unreachable")]
    Unreachable {
        /// Which store.
        place: String,
        /// What was met.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store answered that it will not: a limit, a right, a damaged file.
    #[error("the store at {place} refused")]
    Rejected {
        /// Which store.
        place: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store has no room: it takes nothing new until somebody makes some. What it was asked to
    /// do it has not done; it still answers reads.
    #[error("the store at {place} is out of space")]
    Full {
        /// Which store.
        place: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The transaction is over [`TXN_OPERATIONS_MAX`] or [`TXN_BYTES_MAX`], or names a key twice:
    /// nothing was sent.
    #[error("the transaction was not sent: {reason}")]
    Malformed {
        /// What is over.
        reason: String,
    },
    /// Another process holds the embedded store.
    #[error("{place} is held by another process")]
    HeldElsewhere {
        /// The file.
        place: String,
    },
}

/// An ordered map of bytes with compare-and-commit.
///
/// The guarantees, which the contract suite checks on every backend:
/// - **One total order**: `commit` checks every expect and applies every op at one instant; two
///   commits never interleave.
/// - **Durable**: `Applied` is answered only once a crash of the store cannot lose it.
/// - **Never half**: an `Unknown` was applied wholly or not at all.
/// - **Reads**: `get` and `scan` see every commit that was answered `Applied` to this client before
///   they began; `scan` sees one instant of the whole prefix. A read may be repeated.
/// - **Hints**: `hints` may wake late, or for nothing, and may miss; nothing may rest on it but
///   speed.
#[async_trait]
pub trait RecordStore: Send + Sync + 'static {
    /// The value of `key`, if it has one.
    async fn get(&self, key: &str) -> Result<Option<Value>, StoreError>;

    /// Every record whose key starts with `prefix`, ascending by key, as of one instant. Reads in
    /// pages of bounded size.
    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError>;

    /// Applies all of `txn`, or nothing.
    ///
    /// # Errors
    /// [`StoreError`] only when it is certain that nothing was applied; else the outcome is
    /// [`TxnOutcome::Unknown`].
    async fn commit(&self, txn: StoreTxn) -> Result<TxnOutcome, StoreError>;

    /// A receiver that changes, sooner or later, after a record below `prefix` has.
    async fn hints(&self, prefix: &str) -> Result<watch::Receiver<u64>, StoreError>;

    /// Puts `value` at `key` if it is absent, tied to a lease of `ttl` that the term renews. Does
    /// not wait.
    async fn campaign(
        &self,
        key: &str,
        value: Value,
        ttl: Duration,
    ) -> Result<Campaign, StoreError>;

    /// Lets go of the history that the store keeps apart from its records. Records stay as they
    /// are. The leader calls it at least every minute, and more often the faster it writes; a
    /// backend without history does nothing.
    async fn compact(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Bytes that the store takes on disk, for people and metrics.
    async fn size_bytes(&self) -> Result<u64, StoreError>;

    /// What the store is called in messages: a file's path, or endpoints without credentials.
    fn place(&self) -> String;
}
