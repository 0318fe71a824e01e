//! What strikes the leadership from outside of the cluster.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::store::faulty::Faulty;
use crate::store::{Op, RecordStore, StoreTxn, TxnOutcome};

/// The leadership, as something outside of the cluster sees it.
pub(super) struct Election(Faulty);

impl Election {
    pub(super) fn of(store: &Faulty) -> Self {
        Self(store.clone())
    }

    /// Takes the record away. Who holds it is told within the time that a renewal takes.
    pub(super) async fn revoke(&self, rng: &mut StdRng) {
        let ops = vec![Op::Delete("leader".to_owned())];
        let txn = StoreTxn {
            expects: Vec::new(),
            ops,
        };
        // Past the planted faults.
        while !matches!(self.0.commit(txn.clone()).await, Ok(TxnOutcome::Applied)) {}
        let (store, takes) = (
            self.0.clone(),
            Duration::from_millis(rng.random_range(1..8_000)),
        );
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            store.lose_reigns();
        });
    }
}
