//! The coordinator's life: it campaigns, leads for a term, and campaigns again.
//! Never decides about tasks: that is the engine's, and the leader carries it out.

mod campaign;
mod full;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_common::id::ClusterId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use campaign::cluster_id;
use campaign::{Campaigned, Campaigner};

use crate::clock::Clock;
use crate::error::ServiceError;
use crate::leader::{Leader, LoadError, Request, Telling, Term, TermEnded, load};
use crate::options::CoordinatorOptions;
use crate::store::{Leadership, RecordStore, StoreError};

/// Requests that wait for the leader at the most.
const INBOX_MAX: usize = 1024;
/// How long a failed campaign waits before the next.
const CAMPAIGN_WAIT: Duration = Duration::from_millis(500);
/// How long requests wait for a campaign that is under way.
const CAMPAIGN_PATIENCE: Duration = Duration::from_secs(5);

/// Why a coordinator stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The store holds what this version cannot read; going on would lose it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store refuses, or is held by another process.
    #[error("failed to campaign for the lead")]
    Store(#[source] StoreError),
    /// The options contradict each other.
    #[error("the options contradict each other: {0}")]
    Options(String),
}

/// A coordinator, not yet running.
pub struct Coordinator {
    campaigner: Campaigner,
    inbox: mpsc::Receiver<Request>,
    version: watch::Sender<u64>,
    role: watch::Sender<Role>,
    telling: Arc<Telling>,
}

/// What a coordinator is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Neither: it campaigns, or reads the store for a term to come.
    BetweenTerms,
    /// It leads.
    Leading,
    /// The store has no room: those who look are answered, and everybody else waits.
    OutOfSpace,
    /// Another one leads, and listens there.
    Following {
        /// The leader's address; empty when it told none.
        leader: String,
    },
}

/// Where the services reach the leader. Cheap to clone.
#[derive(Clone)]
pub struct CoordinatorHandle {
    requests: mpsc::Sender<Request>,
    version: watch::Receiver<u64>,
    role: watch::Receiver<Role>,
    store: Arc<dyn RecordStore>,
    options: CoordinatorOptions,
    telling: Arc<Telling>,
}

impl std::fmt::Debug for CoordinatorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoordinatorHandle")
            .field("store", &self.store.place())
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// A coordinator over `store`, seeded by the system's randomness.
    ///
    /// # Errors
    /// [`CoordinatorError::Options`] when the options contradict each other.
    pub fn new(
        store: Arc<dyn RecordStore>,
        options: CoordinatorOptions,
    ) -> Result<(Self, CoordinatorHandle), CoordinatorError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(CoordinatorError::Options(problems.join("; ")));
        }
        Ok(Self::assembled(
            store,
            options,
            Clock::default(),
            StdRng::from_rng(&mut rand::rng()),
        ))
    }

    /// A coordinator whose time and randomness a test holds.
    #[cfg(test)]
    pub(crate) fn simulated(
        store: Arc<dyn RecordStore>,
        options: CoordinatorOptions,
        clock: Clock,
        seed: u64,
    ) -> (Self, CoordinatorHandle) {
        Self::assembled(store, options, clock, StdRng::seed_from_u64(seed))
    }

    fn assembled(
        store: Arc<dyn RecordStore>,
        options: CoordinatorOptions,
        clock: Clock,
        rng: StdRng,
    ) -> (Self, CoordinatorHandle) {
        let (requests, inbox) = mpsc::channel(INBOX_MAX);
        let (version, seen) = watch::channel(0);
        let (role, seen_role) = watch::channel(Role::BetweenTerms);
        let telling = Arc::new(Telling::default());
        let handle = CoordinatorHandle {
            requests,
            version: seen,
            role: seen_role,
            store: Arc::clone(&store),
            options: options.clone(),
            telling: Arc::clone(&telling),
        };
        (
            Self {
                campaigner: Campaigner {
                    store,
                    options,
                    clock,
                    rng,
                },
                inbox,
                version,
                role,
                telling,
            },
            handle,
        )
    }

    /// Leads whenever it can, until `cancel`.
    ///
    /// # Errors
    /// [`CoordinatorError`] when the store can never be led: it is held, refuses, or cannot be
    /// read.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), CoordinatorError> {
        let mut is_first_term = true;
        let mut hints = self.campaigner.hints().await;
        loop {
            if let Some(hints) = &mut hints {
                hints.mark_unchanged(); // what comes from here on was not seen by the campaign
            }
            let Some(campaigned) = self.campaign(&cancel).await? else {
                return Ok(());
            };
            match campaigned {
                Campaigned::Won(leadership, term) => {
                    let is_over = self.lead(leadership, *term, is_first_term, &cancel).await;
                    is_first_term = false;
                    // whoever waits for a change asks again, and hears
                    self.version.send_modify(|version| *version += 1);
                    if is_over {
                        return Ok(());
                    }
                    // Requests wait meanwhile: the next term begins at once, unless the store is in
                    // trouble.
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Ok(()),
                        () = tokio::time::sleep(CAMPAIGN_WAIT) => {}
                    }
                }
                Campaigned::Held(leader) => {
                    self.role.send_replace(Role::Following {
                        leader: leader.clone().unwrap_or_default(),
                    });
                    let wait = self.campaigner.options.leader_ttl / 2;
                    let refusal = || ServiceError::NotLeader {
                        leader: leader.clone(),
                    };
                    if self.stand_by(refusal, wait, hints.as_mut(), &cancel).await {
                        return Ok(());
                    }
                }
                Campaigned::Full(error) => {
                    if self.wait_for_room(&error, &cancel).await {
                        return Ok(());
                    }
                }
                Campaigned::Failed => {
                    self.role.send_replace(Role::BetweenTerms);
                    if self
                        .stand_by(|| ServiceError::BetweenTerms, CAMPAIGN_WAIT, None, &cancel)
                        .await
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Campaigns; `None` when cancelled. Requests wait for the outcome, but not for a store that
    /// hangs.
    async fn campaign(
        &mut self,
        cancel: &CancellationToken,
    ) -> Result<Option<Campaigned>, CoordinatorError> {
        let campaign = self.campaigner.campaign();
        tokio::pin!(campaign);
        let patience = tokio::time::sleep(CAMPAIGN_PATIENCE);
        tokio::pin!(patience);
        let mut is_late = false;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(None),
                campaigned = &mut campaign => return campaigned.map(Some),
                () = &mut patience, if !is_late => is_late = true,
                Some(request) = self.inbox.recv(), if is_late => request.refuse(ServiceError::BetweenTerms),
            }
        }
    }

    /// Leads for one term. True when the coordinator is to end.
    async fn lead(
        &mut self,
        leadership: Box<dyn Leadership>,
        mut term: Term,
        mut is_first_term: bool,
        cancel: &CancellationToken,
    ) -> bool {
        let record = term.record.clone();
        self.telling.terms.fetch_add(1, Ordering::Relaxed);
        let ended = loop {
            let mut leader = self.leader(term);
            // Only what was leased before this process began is gone for certain: workers outlive a
            // term.
            let ended =
                match self.campaigner.options.is_exclusive && std::mem::take(&mut is_first_term) {
                    true => leader.release_everything().await,
                    false => Ok(()),
                };
            self.role.send_replace(Role::Leading);
            let ended = match ended {
                Ok(()) => leader.run(&mut self.inbox, leadership.lost(), cancel).await,
                Err(ended) => Err(ended),
            };
            match ended {
                Err(TermEnded::Full(error)) => match self
                    .hold_without_room(&error, &record, leadership.lost(), cancel)
                    .await
                {
                    Some(next) => term = next,
                    None if cancel.is_cancelled() => break Ok(()),
                    None => break Err(TermEnded::Full(error)),
                },
                ended => break ended,
            }
        };
        self.role.send_replace(Role::BetweenTerms);
        self.telling.counts.send_replace(None); // whoever leads next counts
        if let Err(error) = leadership.resign().await {
            tracing::warn!(%error, "the lead ends by its time to live");
        }
        match ended {
            Ok(()) => true,
            Err(
                ended @ (TermEnded::Full(_)
                | TermEnded::Deposed
                | TermEnded::Rewound { .. }
                | TermEnded::Store(_)
                | TermEnded::Unresolved),
            ) => {
                tracing::warn!(error = &ended as &dyn std::error::Error, "the term is over");
                false
            }
        }
    }

    /// A leader of this term.
    fn leader(&mut self, term: Term) -> Leader {
        let Campaigner {
            store,
            options,
            clock,
            rng,
        } = &mut self.campaigner;
        let rng = StdRng::from_rng(rng);
        Leader::new(
            Arc::clone(store),
            options.sessions,
            *clock,
            rng,
            self.version.clone(),
            term,
        )
        .telling(Arc::clone(&self.telling))
    }

    /// Refuses what comes, until `wait` has passed or the leadership may have become free. True
    /// when the coordinator is to end.
    async fn stand_by(
        &mut self,
        refusal: impl Fn() -> ServiceError,
        wait: Duration,
        mut hints: Option<&mut watch::Receiver<u64>>,
        cancel: &CancellationToken,
    ) -> bool {
        let waited = tokio::time::sleep(wait);
        tokio::pin!(waited);
        loop {
            let hinted = async {
                let has_changed = match &mut hints {
                    Some(hints) => hints.changed().await.is_ok(),
                    None => false,
                };
                if !has_changed {
                    // nobody hints any more: the wait alone ends this
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return true,
                request = self.inbox.recv() => match request {
                    Some(request) => request.refuse(refusal()),
                    None => return true,
                },
                () = hinted => return false,
                () = &mut waited => return false,
            }
        }
    }

    /// Answers those who only look, from what the store holds now, without leading. Whatever would
    /// change something stays unanswered.
    ///
    /// # Errors
    /// [`CoordinatorError`] when the store cannot be read.
    pub async fn observe(mut self, cancel: CancellationToken) -> Result<(), CoordinatorError> {
        let Campaigner {
            store,
            options,
            clock,
            rng,
        } = self.campaigner;
        let loaded = load(store.as_ref(), ClusterId::from_bytes([0; 16])).await?;
        let mut cluster = loaded.cluster;
        (cluster.pools, cluster.is_one_machine) = (options.pools, options.is_exclusive);
        cluster.sessions.clear(); // nobody here can tell who is alive
        let term = Term {
            record: Vec::new(),
            hi: loaded.hi.unwrap_or(0),
            cluster,
            orphans: Vec::new(),
            audits: 0,
        };
        let leader = Leader::new(
            store,
            options.sessions,
            clock,
            rng,
            self.version.clone(),
            term,
        );
        self.role.send_replace(Role::Leading); // as far as those who look can tell
        loop {
            let request = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                request = self.inbox.recv() => request,
            };
            match request {
                Some(Request::Look(look)) => look(Ok(&leader)),
                Some(request) => request.refuse(ServiceError::BetweenTerms),
                None => return Ok(()),
            }
        }
    }
}

impl CoordinatorHandle {
    /// Changes after every turn of the leader.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// What the coordinator was started with.
    pub(crate) const fn options(&self) -> &CoordinatorOptions {
        &self.options
    }

    /// The store, for those who only look at its size.
    pub(crate) fn store(&self) -> &Arc<dyn RecordStore> {
        &self.store
    }

    /// What the coordinator tells of itself in numbers.
    pub(crate) const fn telling(&self) -> &Arc<Telling> {
        &self.telling
    }

    /// What the coordinator is at the moment.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Asks the leader, and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, ServiceError>>) -> Request,
    ) -> Result<T, ServiceError> {
        if let Role::Following { leader } = &*self.role.borrow() {
            return Err(ServiceError::NotLeader {
                leader: (!leader.is_empty()).then(|| leader.clone()),
            });
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| ServiceError::BetweenTerms)?;
        answer.await.map_err(|_| ServiceError::BetweenTerms)?
    }

    /// Looks at the leader's view.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Leader) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.ask(|reply| {
            Request::Look(Box::new(move |leader| {
                let _ = reply.send(leader.and_then(look));
            }))
        })
        .await
    }
}
