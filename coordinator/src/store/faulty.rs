//! Plays every fault of a store around any store, by name, so that callers can be tested against
//! each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::{Campaign, Key, Leadership, Op, RecordStore, StoreError, StoreTxn, TxnOutcome, Value};

/// What goes wrong with one commit.
#[derive(Debug)]
pub enum Fault {
    /// It is answered by [`StoreError::Rejected`]; nothing is applied.
    Rejected,
    /// It is answered by [`StoreError::Unreachable`]; nothing is applied.
    Unreachable,
    /// It is answered by [`StoreError::Full`]; nothing is applied.
    Full,
    /// It is answered by [`TxnOutcome::Unknown`], and was applied.
    AppliedAnswerLost,
    /// It is answered by [`TxnOutcome::Unknown`], and never arrived.
    NeverArrived,
    /// It waits until its [`Held`] is released, then goes its way.
    Held(HeldCommit),
    /// It goes its way after a delay.
    Slow(Duration),
}

/// The commit's side of a [`Held`].
#[derive(Debug)]
pub struct HeldCommit {
    arrived: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// The test's side of a commit that is held.
#[derive(Debug)]
pub struct Held {
    arrival: Option<oneshot::Receiver<()>>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// A hold, and the fault that obeys it.
    #[must_use]
    pub fn new() -> (Self, Fault) {
        let (arrived, arrival) = oneshot::channel();
        let (release, released) = oneshot::channel();
        (
            Self {
                arrival: Some(arrival),
                release,
            },
            Fault::Held(HeldCommit { arrived, released }),
        )
    }

    /// Waits until the commit is there and held.
    pub async fn arrived(&mut self) {
        if let Some(arrival) = self.arrival.take() {
            arrival.await.ok();
        }
    }

    /// Lets the commit go its way; so does dropping this.
    pub fn release(self) {
        self.release.send(()).ok();
    }
}

/// A store with planted faults. Each is used up by the first commit that it fits.
#[derive(Clone)]
pub struct Faulty {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Arc<dyn RecordStore>,
    planted: Mutex<Planted>,
}

#[derive(Debug, Default)]
struct Planted {
    commits: VecDeque<(Key, Fault)>,
    reads_to_fail: u32,
    scans_take: Duration,
    is_full: bool,
    commits_seen: u64,
    reigns: Vec<Weak<watch::Sender<bool>>>,
}

impl Faulty {
    /// `inner` without faults, so far.
    #[must_use]
    pub fn around(inner: Arc<dyn RecordStore>) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner,
                planted: Mutex::default(),
            }),
        }
    }

    /// Plants `fault` for the next commit that has none yet.
    pub fn next(&self, fault: Fault) {
        self.next_that_changes("", fault);
    }

    /// Plants `fault` for the next commit that puts or deletes a key below `prefix`.
    pub fn next_that_changes(&self, prefix: &str, fault: Fault) {
        self.planted().commits.push_back((prefix.to_owned(), fault));
    }

    /// Holds the next commit that changes a key below `prefix`.
    #[must_use]
    pub fn hold_next_that_changes(&self, prefix: &str) -> Held {
        let (held, fault) = Held::new();
        self.next_that_changes(prefix, fault);
        held
    }

    /// Makes the next `reads` gets and scans fail as unreachable.
    pub fn fail_reads(&self, reads: u32) {
        self.planted().reads_to_fail = reads;
    }

    /// Lets the store run out of space, or have room again: until then it takes nothing new and no
    /// campaign, lets go of what it has, and answers reads.
    pub fn fill(&self, is_full: bool) {
        self.planted().is_full = is_full;
    }

    fn full(&self) -> StoreError {
        StoreError::Full {
            place: self.place(),
            source: Box::new(PlantedFault),
        }
    }

    /// Makes every scan answer so long after it has read.
    pub fn slow_scans(&self, takes: Duration) {
        self.planted().scans_take = takes;
    }

    /// Tells everyone who holds a leadership now that it may be lost; the records stay until the
    /// reigns are dropped.
    pub fn lose_reigns(&self) {
        for lost in self
            .planted()
            .reigns
            .drain(..)
            .filter_map(|leadership| leadership.upgrade())
        {
            lost.send_replace(true);
        }
    }

    /// Commits that were asked for so far, faulty ones included.
    #[must_use]
    pub fn commits_seen(&self) -> u64 {
        self.planted().commits_seen
    }

    /// Faults that no commit has met yet.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.planted().commits.len()
    }

    fn take_fault(&self, txn: &StoreTxn) -> Option<Fault> {
        let mut planted = self.planted();
        planted.commits_seen += 1;
        let fits = |prefix: &Key| {
            prefix.is_empty()
                || txn
                    .ops
                    .iter()
                    .any(|op: &Op| op.key().starts_with(prefix.as_str()))
        };
        let at = planted
            .commits
            .iter()
            .position(|(prefix, _)| fits(prefix))?;
        planted.commits.remove(at).map(|(_, fault)| fault)
    }

    fn read(&self) -> Result<(), StoreError> {
        let mut planted = self.planted();
        if planted.reads_to_fail == 0 {
            return Ok(());
        }
        planted.reads_to_fail -= 1;
        Err(StoreError::Unreachable {
            place: self.place(),
            source: Box::new(PlantedFault),
        })
    }

    fn planted(&self) -> MutexGuard<'_, Planted> {
        self.shared
            .planted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RecordStore for Faulty {
    async fn get(&self, key: &str) -> Result<Option<Value>, StoreError> {
        self.read()?;
        self.shared.inner.get(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError> {
        self.read()?;
        let takes = self.planted().scans_take;
        let records = self.shared.inner.scan(prefix).await;
        tokio::time::sleep(takes).await;
        records
    }

    async fn commit(&self, txn: StoreTxn) -> Result<TxnOutcome, StoreError> {
        if self.planted().is_full && txn.ops.iter().any(|op| matches!(op, Op::Put(..))) {
            return Err(self.full());
        }
        match self.take_fault(&txn) {
            None => {}
            Some(Fault::Rejected) => {
                return Err(StoreError::Rejected {
                    place: self.place(),
                    source: Box::new(PlantedFault),
                });
            }
            Some(Fault::Unreachable) => {
                return Err(StoreError::Unreachable {
                    place: self.place(),
                    source: Box::new(PlantedFault),
                });
            }
            Some(Fault::Full) => return Err(self.full()),
            Some(Fault::AppliedAnswerLost) => {
                // A refusal applies nothing either way, and its answer is lost as well.
                self.shared.inner.commit(txn).await?;
                return Ok(TxnOutcome::Unknown);
            }
            Some(Fault::NeverArrived) => return Ok(TxnOutcome::Unknown),
            Some(Fault::Held(HeldCommit { arrived, released })) => {
                arrived.send(()).ok();
                released.await.ok();
            }
            Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        }
        self.shared.inner.commit(txn).await
    }

    async fn hints(&self, prefix: &str) -> Result<watch::Receiver<u64>, StoreError> {
        self.shared.inner.hints(prefix).await
    }

    async fn campaign(
        &self,
        key: &str,
        value: Value,
        ttl: Duration,
    ) -> Result<Campaign, StoreError> {
        if self.planted().is_full {
            // As in etcd: nobody new gets a leadership, and whoever has one keeps it.
            return self
                .shared
                .inner
                .get(key)
                .await?
                .map_or_else(|| Err(self.full()), |held| Ok(Campaign::Held(held)));
        }
        match self.shared.inner.campaign(key, value, ttl).await? {
            Campaign::Won(leadership) => {
                let lost = Arc::new(watch::Sender::new(false));
                self.planted().reigns.push(Arc::downgrade(&lost));
                Ok(Campaign::Won(Box::new(FaultyReign { leadership, lost })))
            }
            held @ Campaign::Held(_) => Ok(held),
        }
    }

    async fn compact(&self) -> Result<(), StoreError> {
        self.shared.inner.compact().await
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.shared.inner.size_bytes().await
    }

    fn place(&self) -> String {
        self.shared.inner.place()
    }
}

/// Tells of planted losses only. Lives on, whatever it says: a lost leadership is one whose holder
/// must assume so.
#[derive(Debug)]
struct FaultyReign {
    leadership: Box<dyn Leadership>,
    lost: Arc<watch::Sender<bool>>,
}

#[async_trait]
impl Leadership for FaultyReign {
    fn lost(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        self.leadership.resign().await
    }
}

/// The source of every planted error.
#[derive(Debug, thiserror::Error)]
#[error("a fault was planted here")]
struct PlantedFault;

#[cfg(test)]
mod tests;
