//! How the lead is won: the campaign, and the barrier that begins a term.
//! Never leads: what was won is handed back.

use std::sync::Arc;

use highwater_common::id::ClusterId;
use highwater_common::record::{FormatRecord, LeaderRecord};
use highwater_proto::convert::records::{StoredRecord, hi_to_bytes};
use highwater_runtime::failpoint;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::CoordinatorError;
use crate::clock::Clock;
use crate::leader::{LoadError, Term, load};
use crate::options::CoordinatorOptions;
use crate::store::keys::RecordKey;
use crate::store::{
    Campaign, Expect, Leadership, Op, RecordStore, StoreError, StoreTxn, TxnOutcome,
};

/// What wins the leadership: everything of a coordinator but its requests.
pub(super) struct Campaigner {
    pub(super) store: Arc<dyn RecordStore>,
    pub(super) options: CoordinatorOptions,
    pub(super) clock: Clock,
    pub(super) rng: StdRng,
}

/// What came of a campaign.
pub(super) enum Campaigned {
    /// The leadership is won, and the store is read.
    Won(Box<dyn Leadership>, Box<Term>),
    /// Somebody else leads, there if it is known.
    Held(Option<String>),
    /// Nobody leads, and the store has no room for anybody's leadership.
    Full(StoreError),
    /// The store did not answer, or did not say what became of the barrier.
    Failed,
}

impl Campaigner {
    /// Tells when the leadership may have changed hands, if the store can; else it is asked now and
    /// then.
    pub(super) async fn hints(&self) -> Option<watch::Receiver<u64>> {
        let hints = self.store.hints(&RecordKey::Leader.render()).await;
        hints
            .inspect_err(|error| tracing::warn!(%error, "the store gives no hints"))
            .ok()
    }

    /// T0 and the barrier: wins the leadership, reads everything, raises `hi`.
    pub(super) async fn campaign(&mut self) -> Result<Campaigned, CoordinatorError> {
        let record = LeaderRecord {
            term: self.rng.random(),
            address: self.options.address.clone(),
        }
        .to_bytes();
        let key = RecordKey::Leader.render();
        let leadership = match self
            .store
            .campaign(&key, record.clone(), self.options.leader_ttl)
            .await
        {
            Ok(Campaign::Won(leadership)) => leadership,
            Ok(Campaign::Held(leader)) => {
                let address = LeaderRecord::from_bytes(&leader)
                    .ok()
                    .map(|leader| leader.address);
                return Ok(Campaigned::Held(
                    address.filter(|address| !address.is_empty()),
                ));
            }
            Err(error @ StoreError::Unreachable { .. }) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store does not answer"
                );
                return Ok(Campaigned::Failed);
            }
            Err(error @ StoreError::Full { .. }) => return Ok(Campaigned::Full(error)),
            Err(error) => return Err(CoordinatorError::Store(error)),
        };
        match self.barrier(record).await {
            Ok(Some(term)) => return Ok(Campaigned::Won(leadership, Box::new(term))),
            Ok(None) => {}
            Err(LoadError::Store(error @ StoreError::Full { .. })) => {
                resign(leadership).await;
                return Ok(Campaigned::Full(error));
            }
            Err(LoadError::Store(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store could not be read"
                );
            }
            Err(error @ (LoadError::Record { .. } | LoadError::Key(_))) => {
                resign(leadership).await;
                return Err(error.into());
            }
        }
        resign(leadership).await;
        Ok(Campaigned::Failed)
    }

    /// Reads everything, and raises `hi` from what was read. `None` when it did not apply for
    /// certain: a raised `hi` costs nothing, so the campaign begins anew.
    pub(super) async fn barrier(&mut self, record: Vec<u8>) -> Result<Option<Term>, LoadError> {
        let fresh = ClusterId::from_bytes(self.rng.random());
        let mut loaded = load(self.store.as_ref(), fresh).await?;
        loaded.cluster.pools = self.options.pools.clone();
        loaded.cluster.is_one_machine = self.options.is_exclusive;
        let hi = loaded.hi.map_or(1, |hi| hi + 1);
        let format = FormatRecord {
            cluster: loaded.cluster.id,
        }
        .to_bytes();
        let (hi_key, format_key) = (RecordKey::High.render(), RecordKey::Format.render());
        let seen = match loaded.hi {
            Some(hi) => Expect::Bytes(hi_key.clone(), hi_to_bytes(hi)),
            None => Expect::Absent(hi_key.clone()),
        };
        let expects = vec![
            Expect::Bytes(RecordKey::Leader.render(), record.clone()),
            seen,
        ];
        let ops = vec![
            Op::Put(hi_key, hi_to_bytes(hi)),
            Op::Put(format_key, format),
        ];
        let raised = match failpoint::hit("t0::before").await {
            Ok(()) => self.store.commit(StoreTxn { expects, ops }).await?,
            Err(_told_to_fail) => TxnOutcome::Unknown,
        };
        let raised = match failpoint::hit("t0::after").await {
            Ok(()) => raised,
            Err(_told_to_fail) => TxnOutcome::Unknown,
        };
        match raised {
            TxnOutcome::Applied => {
                tracing::info!(hi, cluster = %loaded.cluster.id, "leading");
                Ok(Some(Term {
                    record,
                    hi,
                    cluster: loaded.cluster,
                    orphans: loaded.orphans,
                    audits: loaded.audits,
                }))
            }
            TxnOutcome::Refused(_) | TxnOutcome::Unknown => Ok(None),
        }
    }
}

async fn resign(leadership: Box<dyn Leadership>) {
    if let Err(error) = leadership.resign().await {
        tracing::warn!(%error, "an unused lead ends by its time to live");
    }
}

/// The id of the cluster whose store this is; a store that has none yet gets one.
///
/// # Errors
/// [`CoordinatorError`] when the store cannot be read, or does not take the id.
pub async fn cluster_id(store: &dyn RecordStore) -> Result<ClusterId, CoordinatorError> {
    let key = RecordKey::Format.render();
    if let Some(bytes) = store.get(&key).await.map_err(CoordinatorError::Store)? {
        let read = FormatRecord::from_bytes(&bytes);
        let read = read.map_err(|source| {
            CoordinatorError::Load(LoadError::Record {
                key: key.clone(),
                source,
            })
        })?;
        return Ok(read.cluster);
    }
    let record = FormatRecord {
        cluster: ClusterId::from_bytes(rand::rng().random()),
    };
    let txn = StoreTxn {
        expects: vec![Expect::Absent(key.clone())],
        ops: vec![Op::Put(key, record.to_bytes())],
    };
    match store.commit(txn).await.map_err(CoordinatorError::Store)? {
        TxnOutcome::Applied => Ok(record.cluster),
        TxnOutcome::Refused(_) | TxnOutcome::Unknown => Err(CoordinatorError::Options(
            "the store was given an id by another process meanwhile; ask again".to_owned(),
        )),
    }
}
