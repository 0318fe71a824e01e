//! The coordinator's life: it campaigns, leads for a term, and campaigns again.
//! Never decides about tasks: that is the engine's, and the leader carries it out.

mod full;

use std::sync::Arc;
use std::time::Duration;

use highwater_common::id::ClusterId;
use highwater_common::record::{FormatRecord, LeaderRecord};
use highwater_proto::convert::records::{StoredRecord, hi_to_bytes};
use highwater_runtime::failpoint;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::ServiceError;
use crate::leader::{Leader, LoadError, Request, Term, TermEnded, load};
use crate::options::CoordinatorOptions;
use crate::store::keys::RecordKey;
use crate::store::{
    Campaign, Expect, Leadership, Op, RecordStore, StoreError, StoreTxn, TxnOutcome,
};

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
}

/// What wins the leadership: everything of a coordinator but its requests.
struct Campaigner {
    store: Arc<dyn RecordStore>,
    options: CoordinatorOptions,
    clock: Clock,
    rng: StdRng,
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

/// What came of a campaign.
enum Campaigned {
    /// The leadership is won, and the store is read.
    Won(Box<dyn Leadership>, Box<Term>),
    /// Somebody else leads, there if it is known.
    Held(Option<String>),
    /// Nobody leads, and the store has no room for anybody's leadership.
    Full(StoreError),
    /// The store did not answer, or did not say what became of the barrier.
    Failed,
}

/// Where the services reach the leader. Cheap to clone.
#[derive(Clone)]
pub struct CoordinatorHandle {
    requests: mpsc::Sender<Request>,
    version: watch::Receiver<u64>,
    role: watch::Receiver<Role>,
    store: Arc<dyn RecordStore>,
    options: CoordinatorOptions,
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
        let handle = CoordinatorHandle {
            requests,
            version: seen,
            role: seen_role,
            store: Arc::clone(&store),
            options: options.clone(),
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

impl Campaigner {
    /// Tells when the leadership may have changed hands, if the store can; else it is asked now and
    /// then.
    async fn hints(&self) -> Option<watch::Receiver<u64>> {
        let hints = self.store.hints(&RecordKey::Leader.render()).await;
        hints
            .inspect_err(|error| tracing::warn!(%error, "the store gives no hints"))
            .ok()
    }

    /// T0 and the barrier: wins the leadership, reads everything, raises `hi`.
    async fn campaign(&mut self) -> Result<Campaigned, CoordinatorError> {
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
    async fn barrier(&mut self, record: Vec<u8>) -> Result<Option<Term>, LoadError> {
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
