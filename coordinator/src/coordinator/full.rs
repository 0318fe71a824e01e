//! A store without room: whoever looks is answered, whoever works is not taken for silent, and
//! everybody else waits, until somebody has made room. Nothing is lost meanwhile: a transaction
//! that a full store refuses is not applied.

use std::time::Duration;

use highwater_common::id::ClusterId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Coordinator, Role};
use crate::error::ServiceError;
use crate::leader::{Leader, LoadError, Request, Term, load};
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op, StoreError, StoreTxn};

/// How long a full store is left alone before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How many times it is asked between two words of it in the log.
const ASKED_BETWEEN_WORDS: u32 = 30;

impl Coordinator {
    /// Keeps the leadership while the store has no room, and answers what needs none. Returns the
    /// next term once there is room, or nothing when the leadership is lost, or the coordinator is
    /// to end.
    pub(super) async fn hold_without_room(
        &mut self,
        full: &StoreError,
        record: &[u8],
        mut lost: watch::Receiver<bool>,
        cancel: &CancellationToken,
    ) -> Option<Term> {
        let trouble = trouble(full);
        self.role.send_replace(Role::OutOfSpace);
        let mut view = self.view(record, &trouble).await;
        for asked in 0_u32.. {
            if asked.is_multiple_of(ASKED_BETWEEN_WORDS) {
                tracing::error!("{trouble}");
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                _ = lost.wait_for(|lost| *lost) => return None,
                is_over = self.answer_for(view.as_ref(), true, &trouble) => if is_over { return None },
            }
            self.let_history_go().await;
            match self.next_term(record).await {
                Ok(Some(term)) => {
                    tracing::info!("the store has room again: going on");
                    return Some(term);
                }
                Err(LoadError::Store(StoreError::Full { .. } | StoreError::Unreachable { .. })) => {
                }
                // somebody else leads, or another term will tell what is wrong
                Ok(None) | Err(_) => return None,
            }
            if view.is_none() {
                view = self.view(record, &trouble).await;
            }
        }
        None
    }

    /// The next term, once the store takes something; `None` when the leadership is somebody
    /// else's, or nobody knows.
    async fn next_term(&mut self, record: &[u8]) -> Result<Option<Term>, LoadError> {
        let (store, hi) = (&self.campaigner.store, RecordKey::High.render());
        if let Some(bytes) = store.get(&hi).await? {
            // The smallest thing that can be written, which changes nothing: only a store that took
            // it is worth reading whole.
            let expects = vec![
                Expect::Bytes(RecordKey::Leader.render(), record.to_vec()),
                Expect::Bytes(hi.clone(), bytes.clone()),
            ];
            store
                .commit(StoreTxn {
                    expects,
                    ops: vec![Op::Put(hi, bytes)],
                })
                .await?;
        }
        self.campaigner.barrier(record.to_vec()).await
    }

    /// Waits a while for room for anybody's leadership, and answers those who look. True when the
    /// coordinator is to end.
    pub(super) async fn wait_for_room(
        &mut self,
        full: &StoreError,
        cancel: &CancellationToken,
    ) -> bool {
        let trouble = trouble(full);
        if *self.role.borrow() != Role::OutOfSpace {
            tracing::error!("{trouble}");
        }
        self.role.send_replace(Role::OutOfSpace);
        let view = self.view(&[], &trouble).await;
        self.let_history_go().await;
        tokio::select! {
            biased;
            () = cancel.cancelled() => true,
            is_over = self.answer_for(view.as_ref(), false, &trouble) => is_over,
        }
    }

    /// What the store holds, for those who look; nothing when it cannot be read either.
    async fn view(&mut self, record: &[u8], trouble: &str) -> Option<Leader> {
        let store = &self.campaigner.store;
        let loaded = load(store.as_ref(), ClusterId::from_bytes([0; 16])).await;
        let loaded = loaded
            .inspect_err(|error| tracing::warn!(%error, "a store without room cannot be read"))
            .ok()?;
        let mut cluster = loaded.cluster;
        let options = &self.campaigner.options;
        (cluster.pools, cluster.is_one_machine) = (options.pools.clone(), options.is_exclusive);
        let hi = loaded.hi.unwrap_or(0);
        let mut view = self.leader(Term {
            record: record.to_vec(),
            hi,
            cluster,
            orphans: Vec::new(),
            audits: 0,
        });
        view.say(trouble.to_owned());
        // whoever watches is told why nothing moves
        self.version.send_modify(|version| *version += 1);
        Some(view)
    }

    /// Answers for [`ASK_AGAIN`]. Heartbeats are heard by whoever `holds` the leadership: while
    /// nothing is written nobody's attempt can be given to another worker. True when nobody will
    /// ask any more.
    async fn answer_for(&mut self, view: Option<&Leader>, holds: bool, trouble: &str) -> bool {
        let until = tokio::time::sleep(ASK_AGAIN);
        tokio::pin!(until);
        loop {
            let request = tokio::select! {
                biased;
                () = &mut until => return false,
                request = self.inbox.recv() => request,
            };
            let Some(request) = request else { return true };
            match (request, view) {
                (Request::Look(look), Some(view)) => look(Ok(view)),
                (Request::Heartbeat { session, reply, .. }, Some(view))
                    if holds && view.has_session(&session) =>
                {
                    let _ = reply.send(Ok((Vec::new(), false))); // whoever has gone asks again
                }
                (request, _) => request.refuse(ServiceError::StoreFull(trouble.to_owned())),
            }
        }
    }

    /// Lets go of history, so that there is something to win by a defragmentation.
    async fn let_history_go(&self) {
        if let Err(error) = self.campaigner.store.compact().await {
            tracing::debug!(%error, "a full store keeps its history");
        }
    }
}

/// What people are told.
fn trouble(full: &StoreError) -> String {
    format!(
        "{full}: it takes nothing new, nothing is lost, and work goes on by itself once there is \
         room. etcd: compact it, defragment each member, and disarm the alarm NOSPACE"
    )
}
