//! The coordinator's life: it campaigns, leads for a term, and campaigns again.
//! Never decides about tasks: that is the engine's, and the leader carries it out.

use std::sync::Arc;
use std::time::Duration;

use highwater_common::id::ClusterId;
use highwater_common::record::{FormatRecord, LeaderRecord};
use highwater_proto::convert::records::{Stored, hi_to_bytes};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::ServiceError;
use crate::failpoint;
use crate::leader::{Fallen, Leader, LoadError, Request, Term, load};
use crate::options::CoordinatorOptions;
use crate::store::keys::RecordKey;
use crate::store::{Campaign, Expect, Op, RecordStore, StoreError, StoreTxn, TxnOutcome};

/// Requests that wait for the leader at the most.
const INBOX_MAX: usize = 1024;
/// How long a failed campaign waits before the next.
const CAMPAIGN_WAIT: Duration = Duration::from_millis(500);

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
    store: Arc<dyn RecordStore>,
    options: CoordinatorOptions,
    clock: Clock,
    rng: StdRng,
    inbox: mpsc::Receiver<Request>,
    version: watch::Sender<u64>,
    role: watch::Sender<Role>,
}

/// What a coordinator is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Neither: it campaigns, or reads the store for a term to come.
    BetweenTerms,
    /// It leads.
    Leading,
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
}

impl std::fmt::Debug for CoordinatorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoordinatorHandle").field("store", &self.store.place()).finish_non_exhaustive()
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
        let rng = StdRng::from_rng(&mut rand::rng());
        Ok((Self { store, options, clock: Clock::default(), rng, inbox, version, role }, handle))
    }

    /// Leads whenever it can, until `cancel`.
    ///
    /// # Errors
    /// [`CoordinatorError`] when the store can never be led: it is held, refuses, or cannot be read.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), CoordinatorError> {
        loop {
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                outcome = self.campaign() => outcome?,
            };
            match outcome {
                Some((reign, term)) => {
                    let lost = reign.lost();
                    let rng = StdRng::from_rng(&mut self.rng);
                    let (store, sessions) = (Arc::clone(&self.store), self.options.sessions);
                    let mut leader = Leader::new(store, sessions, self.clock, rng, self.version.clone(), term);
                    let fallen = match self.options.is_exclusive {
                        true => leader.release_everything().await,
                        false => Ok(()),
                    };
                    self.role.send_replace(Role::Leading);
                    let fallen = match fallen {
                        Ok(()) => leader.run(&mut self.inbox, lost, &cancel).await,
                        Err(fallen) => Err(fallen),
                    };
                    self.role.send_replace(Role::BetweenTerms);
                    if let Err(error) = reign.resign().await {
                        tracing::warn!(%error, "the lead ends by its time to live");
                    }
                    match fallen {
                        Ok(()) => return Ok(()),
                        Err(
                            fallen @ (Fallen::Deposed | Fallen::Rewound { .. } | Fallen::Store(_) | Fallen::Unresolved),
                        ) => {
                            tracing::warn!(error = &fallen as &dyn std::error::Error, "the term is over");
                        }
                    }
                }
                None => self.answer_as_follower(),
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(CAMPAIGN_WAIT) => {}
            }
        }
    }

    /// Answers those who only look, from what the store holds now, without leading. Whatever would change something stays
    /// unanswered.
    ///
    /// # Errors
    /// [`CoordinatorError`] when the store cannot be read.
    pub async fn observe(mut self, cancel: CancellationToken) -> Result<(), CoordinatorError> {
        let now = self.clock.monotonic();
        let loaded = load(self.store.as_ref(), ClusterId::from_bytes([0; 16]), now, self.options.sessions.ttl).await?;
        let mut cluster = loaded.cluster;
        cluster.sessions.clear(); // nobody here can tell who is alive
        let term = Term { record: Vec::new(), hi: loaded.hi.unwrap_or(0), cluster };
        let (store, sessions) = (Arc::clone(&self.store), self.options.sessions);
        let leader = Leader::new(store, sessions, self.clock, self.rng, self.version.clone(), term);
        self.role.send_replace(Role::Leading); // as far as those who look can tell
        loop {
            let request = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                request = self.inbox.recv() => request,
            };
            match request {
                Some(Request::Look(look)) => look(&leader),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// T0 and the barrier: wins the office, raises `hi`, reads everything. `None` when somebody else leads.
    async fn campaign(&mut self) -> Result<Option<(Box<dyn crate::store::Reign>, Term)>, CoordinatorError> {
        let record = LeaderRecord { term: self.rng.random(), address: self.options.address.clone() }.to_bytes();
        let key = RecordKey::Leader.render();
        let reign = match self.store.campaign(&key, record.clone(), self.options.leader_ttl).await {
            Ok(Campaign::Won(reign)) => reign,
            Ok(Campaign::Held(holder)) => {
                let leader = LeaderRecord::from_bytes(&holder).map(|record| record.address).unwrap_or_default();
                self.role.send_replace(Role::Following { leader });
                return Ok(None);
            }
            Err(error @ StoreError::Unreachable { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the store does not answer");
                return Ok(None);
            }
            Err(error) => return Err(CoordinatorError::Store(error)),
        };
        let fresh = ClusterId::from_bytes(self.rng.random());
        let loaded = load(self.store.as_ref(), fresh, self.clock.monotonic(), self.options.sessions.ttl).await;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(LoadError::Store(error @ StoreError::Unreachable { .. })) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the store fell silent while it was read");
                return Ok(None); // the lead ends by its time to live
            }
            Err(error) => return Err(error.into()),
        };
        let hi = loaded.hi.map_or(1, |hi| hi + 1);
        let format = FormatRecord { cluster: loaded.cluster.id }.to_bytes();
        let (hi_key, format_key) = (RecordKey::High.render(), RecordKey::Format.render());
        let mut expects = vec![Expect::Bytes(key, record.clone())];
        expects.push(match loaded.hi {
            Some(hi) => Expect::Bytes(hi_key.clone(), hi_to_bytes(hi)),
            None => Expect::Absent(hi_key.clone()),
        });
        let ops = vec![Op::Put(hi_key, hi_to_bytes(hi)), Op::Put(format_key, format)];
        let raised = match failpoint::hit("t0::before").await {
            Ok(()) => self.store.commit(StoreTxn { expects, ops }).await,
            Err(_told_to_fail) => Ok(TxnOutcome::Unknown),
        };
        let raised = match failpoint::hit("t0::after").await {
            Ok(()) => raised,
            Err(_told_to_fail) => Ok(TxnOutcome::Unknown),
        };
        match raised {
            Ok(TxnOutcome::Applied) => {
                tracing::info!(hi, cluster = %loaded.cluster.id, "leading");
                Ok(Some((reign, Term { record, hi, cluster: loaded.cluster })))
            }
            // Another was faster, or the answer was lost: a raised `hi` costs nothing, so the campaign begins anew.
            Ok(TxnOutcome::Refused(_) | TxnOutcome::Unknown) | Err(_) => {
                if let Err(error) = reign.resign().await {
                    tracing::warn!(%error, "an unused lead ends by its time to live");
                }
                Ok(None)
            }
        }
    }

    /// Refuses what came while somebody else leads.
    fn answer_as_follower(&mut self) {
        while self.inbox.try_recv().is_ok() {} // dropping a request tells its caller to ask again
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
        let read = read.map_err(|source| CoordinatorError::Load(LoadError::Record { key: key.clone(), source }))?;
        return Ok(read.cluster);
    }
    let record = FormatRecord { cluster: ClusterId::from_bytes(rand::rng().random()) };
    let txn = StoreTxn { expects: vec![Expect::Absent(key.clone())], ops: vec![Op::Put(key, record.to_bytes())] };
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
            return Err(ServiceError::NotLeader { leader: (!leader.is_empty()).then(|| leader.clone()) });
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| ServiceError::BetweenTerms)?;
        answer.await.map_err(|_| ServiceError::BetweenTerms)?
    }

    /// Looks at the leader's view.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Leader) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.ask(|reply| {
            Request::Look(Box::new(move |leader| {
                let _ = reply.send(look(leader));
            }))
        })
        .await
    }
}
