//! Records in memory, for tests and simulation. Nothing survives the last handle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::hints::HintBoard;
use super::leases::{Holder, LeaseId, Leases};
use super::{Campaign, Key, Leadership, Op, RecordStore, StoreError, StoreTxn, TxnOutcome, Value};

/// A map behind a mutex. Clones share their records, like several clients of one store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    records: Mutex<BTreeMap<Key, Record>>,
    leases: Leases,
    hints: HintBoard,
}

#[derive(Debug)]
struct Record {
    value: Value,
    lease: Option<LeaseId>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The records, without those whose lease has ended.
    fn records(&self) -> MutexGuard<'_, BTreeMap<Key, Record>> {
        // Nothing can panic between the changes of one transaction, so the map is whole even if its
        // last user died.
        let mut records = self
            .shared
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ended = self.shared.leases.take_ended(Instant::now());
        if !ended.is_empty() {
            self.remove_leased(&mut records, &ended);
        }
        records
    }

    /// What a backup of the store would hold now: everything but what is tied to a lease.
    #[cfg(test)]
    pub(crate) fn backup(&self) -> BTreeMap<Key, Value> {
        let records = self.records();
        let lasting = records.iter().filter(|(_, record)| record.lease.is_none());
        lasting
            .map(|(key, record)| (key.clone(), record.value.clone()))
            .collect()
    }

    /// Puts the store back to a backup, under the feet of whoever uses it. What is tied to a lease
    /// stays as it is.
    #[cfg(test)]
    pub(crate) fn restore(&self, backup: BTreeMap<Key, Value>) {
        let mut records = self.records();
        records.retain(|_, record| record.lease.is_some());
        records.extend(
            backup
                .into_iter()
                .map(|(key, value)| (key, Record { value, lease: None })),
        );
        let changed: Vec<Key> = records.keys().cloned().collect();
        drop(records);
        self.shared.hints.changed(changed.iter().map(Key::as_str));
    }

    fn remove_leased(&self, records: &mut BTreeMap<Key, Record>, ended: &[LeaseId]) {
        let gone: Vec<Key> = records
            .extract_if(.., |_, record| {
                record.lease.is_some_and(|lease| ended.contains(&lease))
            })
            .map(|(key, _)| key)
            .collect();
        self.shared.hints.changed(gone.iter().map(Key::as_str));
    }
}

#[async_trait]
impl RecordStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.records().get(key).map(|record| record.value.clone()))
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError> {
        let records = self.records();
        let below = records
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix));
        Ok(below
            .map(|(key, record)| (key.clone(), record.value.clone()))
            .collect())
    }

    async fn commit(&self, txn: StoreTxn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        let mut records = self.records();
        let value_of = |key: &str| records.get(key).map(|record| record.value.as_slice());
        if !txn
            .expects
            .iter()
            .all(|expect| expect.holds(value_of(expect.key())))
        {
            let current = txn.expects.iter().map(|expect| expect.key());
            let current = current
                .map(|key| (key.to_owned(), value_of(key).map(<[u8]>::to_vec)))
                .collect();
            return Ok(TxnOutcome::Refused(current));
        }
        let changed: Vec<Key> = txn.ops.iter().map(|op| op.key().to_owned()).collect();
        for op in txn.ops {
            match op {
                Op::Put(key, value) => drop(records.insert(key, Record { value, lease: None })),
                Op::Delete(key) => drop(records.remove(&key)),
            }
        }
        drop(records);
        self.shared.hints.changed(changed.iter().map(Key::as_str));
        Ok(TxnOutcome::Applied)
    }

    async fn hints(&self, prefix: &str) -> Result<watch::Receiver<u64>, StoreError> {
        Ok(self.shared.hints.subscribe(prefix))
    }

    async fn campaign(
        &self,
        key: &str,
        value: Value,
        ttl: Duration,
    ) -> Result<Campaign, StoreError> {
        let mut records = self.records();
        if let Some(record) = records.get(key) {
            return Ok(Campaign::Held(record.value.clone()));
        }
        let holder = self.shared.leases.grant(ttl);
        records.insert(
            key.to_owned(),
            Record {
                value,
                lease: Some(holder.id),
            },
        );
        drop(records);
        self.shared.hints.changed(std::iter::once(key));
        Ok(Campaign::Won(Box::new(MemoryReign {
            holder,
            store: self.clone(),
        })))
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let bytes: usize = self
            .records()
            .iter()
            .map(|(key, record)| key.len() + record.value.len())
            .sum();
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

#[derive(Debug)]
struct MemoryReign {
    holder: Holder,
    store: MemoryStore,
}

#[async_trait]
impl Leadership for MemoryReign {
    fn lost(&self) -> watch::Receiver<bool> {
        self.holder.lost()
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        let Self { holder, store } = *self;
        store.remove_leased(&mut store.records(), &[holder.id]);
        holder.end();
        Ok(())
    }
}
