//! Runs that are watched: one loop a run asks the leader, at most so often, and all who watch it
//! are told the same. So what a run's followers cost the leader does not depend on how many they
//! are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use highwater_common::document::RunDocument;
use highwater_common::id::RunId;
use highwater_common::status::RunStatus;
use highwater_proto::v1 as pb;
use tokio::sync::watch;
use tonic::Status;

use super::documents::{document_of, encode};
use crate::coordinator::CoordinatorHandle;
use crate::error::ServiceError;
use crate::supervisor::{SpawnKind, Supervisor};

/// How often those who watch a run are told of changes at the most.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// How often a run is looked at although nothing of it is known to have changed: times that are
/// told pass by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What is shown of a run at the moment.
#[derive(Debug, Clone)]
enum Shown {
    /// Nothing yet.
    Nothing,
    /// The run as it stands.
    Run(Arc<pb::Document>),
    /// The run as it ended, or a plan that was made: nothing follows.
    Last(Arc<pb::Document>),
    /// It can be watched no longer.
    Failed(Status),
}

type Shows = BTreeMap<RunId, watch::Sender<Shown>>;

/// The runs that are watched, each by its loop.
#[derive(Debug, Clone)]
pub(super) struct Board {
    handle: CoordinatorHandle,
    supervisor: Supervisor,
    shows: Arc<Mutex<Shows>>,
}

impl Board {
    pub(super) fn of(handle: CoordinatorHandle) -> Self {
        Self {
            handle,
            supervisor: Supervisor::default(),
            shows: Arc::default(),
        }
    }

    /// A run's documents, from now until it has ended. One who is slow misses some, never the last.
    pub(super) fn watch(
        &self,
        id: RunId,
    ) -> impl Stream<Item = Result<pb::Document, Status>> + Send + use<> {
        let mut shown = self.join(id);
        shown.mark_changed(); // what others have been shown is news here
        futures_util::stream::unfold(Some(shown), async |shown| {
            let mut shown = shown?;
            loop {
                if shown.changed().await.is_err() {
                    return Some((Err(ServiceError::BetweenTerms.into()), None));
                }
                let now = shown.borrow_and_update().clone();
                match now {
                    Shown::Nothing => {}
                    Shown::Run(document) => {
                        return Some((Ok(document.as_ref().clone()), Some(shown)));
                    }
                    Shown::Last(document) => return Some((Ok(document.as_ref().clone()), None)),
                    Shown::Failed(status) => return Some((Err(status), None)),
                }
            }
        })
    }

    /// Joins those who watch a run already, or begins to.
    fn join(&self, id: RunId) -> watch::Receiver<Shown> {
        let mut shows = self.lock();
        if let Some(show) = shows.get(&id) {
            return show.subscribe();
        }
        let (show, shown) = watch::channel(Shown::Nothing);
        shows.insert(id, show.clone());
        let board = self.clone();
        self.supervisor
            .spawn(SpawnKind::Watch, async move { board.show(id, &show).await });
        shown
    }

    /// Shows a run whenever it changed, until it has ended or nobody watches.
    async fn show(&self, id: RunId, show: &watch::Sender<Shown>) {
        let mut version = self.handle.version();
        let mut last: Option<RunDocument> = None;
        loop {
            version.mark_unchanged();
            let document = match document_of(&self.handle, id).await {
                Ok(document) => document,
                Err(error) => return self.end(id, show, Shown::Failed(error.into())),
            };
            if last.as_ref() != Some(&document) {
                let encoded = match encode("run/v1", &document) {
                    Ok(encoded) => Arc::new(encoded),
                    Err(status) => return self.end(id, show, Shown::Failed(status)),
                };
                if document.status.has_ended() || document.status == RunStatus::Planned {
                    return self.end(id, show, Shown::Last(encoded));
                }
                show.send_replace(Shown::Run(encoded));
                last = Some(document);
            }
            tokio::time::sleep(SHOW_EVERY).await;
            tokio::select! {
                biased;
                () = show.closed() => if self.leave(id, show) { return },
                changed = version.changed() => if changed.is_err() {
                    return self.end(id, show, Shown::Failed(ServiceError::BetweenTerms.into()));
                },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Shows the last there is. Whoever comes from here on begins anew.
    fn end(&self, id: RunId, show: &watch::Sender<Shown>, last: Shown) {
        self.lock().remove(&id);
        show.send_replace(last);
    }

    /// Ends if nobody watches; somebody may have come just now.
    fn leave(&self, id: RunId, show: &watch::Sender<Shown>) -> bool {
        let mut shows = self.lock();
        let is_alone = show.receiver_count() == 0;
        if is_alone {
            shows.remove(&id);
        }
        is_alone
    }

    fn lock(&self) -> MutexGuard<'_, Shows> {
        // A map of channels is whole whatever its last user was doing.
        self.shows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
