//! Sends transactions, and finds out what became of those whose answer was lost.

use std::time::Duration;

use highwater_runtime::failpoint::{self, Struck};

use crate::store::keys::RecordKey;
use crate::store::{Expect, Key, Op, StoreError, StoreTxn, TxnOutcome, Value};

use super::Leader;
use super::batch::Batch;
use crate::engine::{ChangeKind, OpenLease};

/// How often a transaction whose answer was lost is asked about.
const UNKNOWN_ATTEMPTS_MAX: u32 = 6;
/// How long the first of those waits.
const UNKNOWN_WAIT: Duration = Duration::from_millis(100);

/// Records that one transaction deletes at the most.
const DELETES_MAX: usize = 100;

/// Why a term is over.
#[derive(Debug, thiserror::Error)]
pub enum TermEnded {
    /// Somebody else leads, or nobody does.
    #[error("the leader's record is no longer this one's")]
    Deposed,
    /// The store holds something that this leader never wrote: it was rewound, or another leader
    /// wrote.
    #[error("the store's records at {keys} are not the ones this leader knows")]
    Rewound {
        /// Which records, at most three.
        keys: String,
    },
    /// The store has no room. What was to be written was not, so the leadership stays: work goes on
    /// in a new term once there is room.
    #[error("the store took nothing more")]
    Full(#[source] StoreError),
    /// The store does not answer, or refuses.
    #[error("failed to write to the store")]
    Store(#[source] StoreError),
    /// The fate of a transaction stayed unknown.
    #[error("the store did not tell what became of a transaction")]
    Unresolved,
}

/// As if the store's answer had been lost for good.
impl From<Struck> for TermEnded {
    fn from(_: Struck) -> Self {
        Self::Unresolved
    }
}

impl Leader {
    /// Applies a transaction of this term.
    ///
    /// # Errors
    /// [`TermEnded`] when it is not applied: the view may no longer be what the store holds.
    pub(super) async fn commit_now(&self, txn: StoreTxn) -> Result<(), TermEnded> {
        let mut wait = UNKNOWN_WAIT;
        let mut was_unknown = false;
        for attempt in 0..UNKNOWN_ATTEMPTS_MAX {
            match self.store.commit(txn.clone()).await {
                Ok(TxnOutcome::Applied) => return Ok(()),
                Ok(TxnOutcome::Refused(values)) => {
                    return self.judge_refusal(&txn, was_unknown, &values);
                }
                // A transaction changes a record that it compares, so asking with the same one is
                // asking and not repeating: at most one of them applies. Those that compare nothing
                // of the kind put or delete the same once more.
                Ok(TxnOutcome::Unknown) => was_unknown = true,
                Err(error @ StoreError::Unreachable { .. })
                    if attempt + 1 < UNKNOWN_ATTEMPTS_MAX =>
                {
                    tracing::warn!(%error, "the store did not answer");
                }
                // One that was sent before may be on its way still: then the leadership must not
                // stay, for it would be let in.
                Err(StoreError::Full { .. }) if was_unknown => return Err(TermEnded::Unresolved),
                Err(error @ StoreError::Full { .. }) => return Err(TermEnded::Full(error)),
                Err(error) => return Err(TermEnded::Store(error)),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(TermEnded::Unresolved)
    }

    fn judge_refusal(
        &self,
        txn: &StoreTxn,
        was_unknown: bool,
        values: &[(Key, Option<Value>)],
    ) -> Result<(), TermEnded> {
        if was_unknown && is_applied(txn, values) {
            return Ok(());
        }
        let leader = RecordKey::Leader.render();
        let leads = values
            .iter()
            .any(|(key, value)| *key == leader && value.as_deref() == Some(self.term.as_slice()));
        if !leads {
            return Err(TermEnded::Deposed);
        }
        let holds = |expect: &Expect| match expect {
            Expect::Absent(key) => value_of(values, key).is_none(),
            Expect::Bytes(key, bytes) => value_of(values, key) == Some(bytes),
        };
        let key = |expect: &Expect| match expect {
            Expect::Absent(key) | Expect::Bytes(key, _) => key.clone(),
        };
        let keys: Vec<Key> = txn
            .expects
            .iter()
            .filter(|expect| !holds(expect))
            .take(3)
            .map(key)
            .collect();
        Err(TermEnded::Rewound {
            keys: keys.join(", "),
        })
    }

    /// Applies a batch and brings it into the view.
    pub(super) async fn commit_batch(&mut self, batch: Batch) -> Result<(), TermEnded> {
        if batch.is_empty() {
            return Ok(());
        }
        let names = batch.names();
        for name in &names {
            failpoint::hit(&format!("{name}::before")).await?;
        }
        let txn = batch.txn(&self.term);
        self.stored_bytes += txn.ops.iter().map(Op::size_bytes).sum::<usize>();
        self.commit(txn).await?;
        for name in &names {
            failpoint::hit(&format!("{name}::after")).await?;
        }
        let now = self.clock.wall_micros();
        for change in batch.changes() {
            self.events.note(&self.cluster, change, now);
        }
        let since = self.clock.monotonic();
        for change in batch.changes() {
            if let ChangeKind::Assign(lease) = &change.kind {
                let (run, address, session) = (change.run, change.address.clone(), lease.session);
                self.cluster.leases.insert(
                    change.task,
                    OpenLease {
                        run,
                        address,
                        session,
                        since,
                        doing: None,
                    },
                );
                continue;
            }
            self.cluster.leases.remove(&change.task);
            if matches!(change.kind, ChangeKind::Complete(_)) {
                self.done.insert(change.task);
            }
        }
        batch.apply(&mut self.cluster);
        Ok(())
    }

    /// Deletes records that nothing refers to any more, in as many transactions as they need.
    pub(super) async fn delete(&self, keys: Vec<Key>) -> Result<(), TermEnded> {
        self.delete_while(&[], keys).await
    }

    /// The same, as long as `expects` hold.
    pub(super) async fn delete_while(
        &self,
        expects: &[Expect],
        keys: Vec<Key>,
    ) -> Result<(), TermEnded> {
        for some in keys.chunks(DELETES_MAX) {
            let ops = some.iter().cloned().map(Op::Delete).collect();
            self.commit_records("deletion", expects.to_vec(), ops)
                .await?;
        }
        Ok(())
    }

    /// Applies single records of this term: `expects`, and that this leader leads. `name` is what
    /// tests call the transaction.
    pub(super) async fn commit_records(
        &self,
        name: &str,
        mut expects: Vec<Expect>,
        ops: Vec<Op>,
    ) -> Result<(), TermEnded> {
        expects.push(Expect::Bytes(RecordKey::Leader.render(), self.term.clone()));
        failpoint::hit(&format!("{name}::before")).await?;
        self.commit(StoreTxn { expects, ops }).await?;
        failpoint::hit(&format!("{name}::after")).await?;
        Ok(())
    }
}

fn value_of<'a>(values: &'a [(Key, Option<Value>)], key: &str) -> Option<&'a Value> {
    values
        .iter()
        .find(|(other, _)| other == key)
        .and_then(|(_, value)| value.as_ref())
}

/// True when every record that the transaction compared and changed is as the transaction leaves
/// it.
fn is_applied(txn: &StoreTxn, values: &[(Key, Option<Value>)]) -> bool {
    let mut changed = 0;
    for op in &txn.ops {
        let (key, wanted) = match op {
            Op::Put(key, value) => (key, Some(value)),
            Op::Delete(key) => (key, None),
        };
        if values.iter().any(|(other, _)| other == key) {
            changed += 1;
            if value_of(values, key) != wanted {
                return false;
            }
        }
    }
    changed > 0
}
