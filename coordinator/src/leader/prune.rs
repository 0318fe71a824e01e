//! Forgets old runs, with all their records: neither the store nor the view grows for ever.

use highwater_common::id::RunId;

use super::{Leader, TermEnded};
use crate::engine::{Run, prunable};
use crate::store::keys::{RecordKey, prefix};
use crate::store::{Expect, Key, Op, StoreError};

impl Leader {
    /// Forgets what need not be kept, after a run began or ended.
    ///
    /// A run's own record goes first, in one transaction: from then on nothing can read the others,
    /// and what a crash leaves of them is found by the next term.
    pub(super) async fn prune(&mut self) -> Result<(), TermEnded> {
        if !std::mem::take(&mut self.may_prune) {
            return Ok(());
        }
        let orphans = std::mem::take(&mut self.orphans);
        self.delete(orphans).await?;
        for id in prunable(&self.cluster, self.clock.wall_micros()) {
            self.forget(id).await?;
        }
        Ok(())
    }

    async fn forget(&mut self, id: RunId) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let key = RecordKey::Run(id).render();
        self.commit_records(
            "run_dropped",
            vec![Expect::Bytes(key.clone(), run.stored.clone())],
            vec![Op::Delete(key)],
        )
        .await?;
        let Some(run) = self.cluster.runs.remove(&id) else {
            return Ok(());
        };
        self.cluster.leases.forget(&id);
        tracing::debug!(run = %id, pipeline = %run.record.pipeline, "an old run is forgotten");
        match self.records_of(&run).await {
            Ok(keys) => self.delete(keys).await,
            Err(error) => {
                tracing::warn!(run = %id, %error, "the records of an old run stay until the next \
                    term");
                Ok(())
            }
        }
    }

    /// The keys of everything that only `run` needed.
    async fn records_of(&self, run: &Run) -> Result<Vec<Key>, StoreError> {
        let id = &run.id;
        let mut keys = Vec::new();
        for prefix in [
            prefix::facts(id),
            prefix::plans(id),
            prefix::steps(id),
            prefix::segments(id),
            prefix::attempts(id),
            prefix::retries(id),
            prefix::dead(id),
        ] {
            keys.extend(
                self.store
                    .scan(&prefix)
                    .await?
                    .into_iter()
                    .map(|(key, _)| key),
            );
        }
        let spec = |run: &Run| (run.record.pipeline.clone(), run.record.spec_digest);
        let (name, digest) = spec(run);
        let scheduled = self.cluster.schedules.get(&name);
        let is_scheduled = scheduled.is_some_and(|of| of.record.spec_digest == digest);
        let mut runs = self.cluster.runs.values();
        if !is_scheduled && !runs.any(|other| spec(other) == spec(run)) {
            let parts = 0..run.record.spec_parts;
            keys.extend(parts.map(|part| {
                RecordKey::Pipeline {
                    name: name.clone(),
                    digest,
                    part,
                }
                .render()
            }));
        }
        Ok(keys)
    }
}
