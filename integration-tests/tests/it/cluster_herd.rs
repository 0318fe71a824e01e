//! Thousands of workers at one cluster: each is the real one, with lines of its own, and all of
//! them lose their coordinator at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use highwater_common::assignment::Outcome;
use highwater_common::id::{DocumentDigest, SessionId, TaskId};
use highwater_common::token::Fence;
use highwater_integration_tests::cluster::{ClusterOptions, Daemons};
use highwater_integration_tests::{Etcd, until};
use highwater_worker::{
    AllowedPrograms, ApiError, AttemptReport, ClusterCoordinator, CoordinatorApi, HeartbeatAnswer,
    Pulled, Registered, Worker, WorkerOptions,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const WORKERS: usize = 2_000;
/// How long they may take to come, and to lose their session while nobody is there.
const LIMIT: Duration = Duration::from_secs(90);
/// How long all of them may take to be back. On a machine of its own it takes seconds.
const BACK: Duration = Duration::from_secs(30);

/// The real way to the coordinators, and what came of it.
struct Watched {
    inner: ClusterCoordinator,
    /// Whether the coordinator has answered something, or was asked for a new session, since the
    /// test looked last.
    is_heard: AtomicBool,
    has_asked_anew: AtomicBool,
    registrations: AtomicU32,
}

impl Watched {
    fn heard<T>(&self, answer: Result<T, ApiError>) -> Result<T, ApiError> {
        self.is_heard.fetch_or(answer.is_ok(), Ordering::Relaxed);
        answer
    }
}

#[async_trait]
impl CoordinatorApi for Watched {
    async fn register(&self, options: &WorkerOptions) -> Result<Registered, ApiError> {
        self.has_asked_anew.store(true, Ordering::Relaxed);
        let answer = self.inner.register(options).await;
        self.registrations
            .fetch_add(u32::from(answer.is_ok()), Ordering::Relaxed);
        self.heard(answer)
    }

    async fn pull(
        &self,
        session: SessionId,
        free: u32,
        known: &[DocumentDigest],
    ) -> Result<Pulled, ApiError> {
        self.inner.pull(session, free, known).await
    }

    async fn heartbeat(
        &self,
        session: SessionId,
        attempts: &[AttemptReport],
        draining: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        self.heard(self.inner.heartbeat(session, attempts, draining).await)
    }

    async fn complete(
        &self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        millis: u64,
    ) -> Result<bool, ApiError> {
        self.inner
            .complete(session, task, fence, outcome, millis)
            .await
    }

    async fn leave(&self, session: SessionId) -> Result<(), ApiError> {
        self.inner.leave(session).await
    }
}

/// Many workers in this process.
struct Herd {
    workers: Vec<Arc<Watched>>,
    running: JoinSet<()>,
}

impl Herd {
    fn start(addresses: &[String]) -> Self {
        let (mut workers, mut running) = (Vec::new(), JoinSet::new());
        for no in 0..WORKERS {
            let watched = Arc::new(Watched {
                inner: ClusterCoordinator::new(addresses, None).unwrap(),
                is_heard: AtomicBool::new(false),
                has_asked_anew: AtomicBool::new(false),
                registrations: AtomicU32::new(0),
            });
            let options = WorkerOptions {
                programs: AllowedPrograms::default(),
                id: format!("w{no}").parse().unwrap(),
                slots: 4,
                labels: BTreeMap::new(),
                allow_noop: true,
            };
            let worker = Worker::new(options, Arc::<Watched>::clone(&watched));
            workers.push(watched);
            running.spawn(async move {
                worker
                    .run(CancellationToken::new(), CancellationToken::new())
                    .await
                    .unwrap()
            });
        }
        Self { workers, running }
    }

    /// Forgets what was seen so far.
    fn look_anew(&self) {
        for worker in &self.workers {
            worker.is_heard.store(false, Ordering::Relaxed);
            worker.has_asked_anew.store(false, Ordering::Relaxed);
        }
    }

    fn count(&self, of: impl Fn(&Watched) -> bool) -> usize {
        self.workers.iter().filter(|worker| of(worker)).count()
    }

    /// Waits until the coordinator has answered all of them, and returns how long that took from
    /// `began`.
    async fn until_all(
        &self,
        what: &str,
        began: Instant,
        of: impl Fn(&Watched) -> bool,
    ) -> Duration {
        let all = until(what, LIMIT, async || {
            Ok((self.count(&of) == WORKERS).then(|| began.elapsed()))
        });
        all.await
            .map_err(|error| error.context(format!("{} of {WORKERS}", self.count(&of))))
            .unwrap()
    }

    fn registrations(&self) -> u32 {
        self.workers
            .iter()
            .map(|worker| worker.registrations.load(Ordering::Relaxed))
            .sum()
    }
}

/// The sockets of this process.
fn sockets() -> usize {
    let files = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok);
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

async fn until_listed(daemons: &Daemons) {
    let listed = until("the leader to list all workers", LIMIT, async || {
        let Ok(status) = daemons.cluster_status().await else {
            return Ok(None);
        };
        let workers = status["workers"].as_array().map_or(0, Vec::len);
        Ok((workers == WORKERS).then_some(()))
    });
    listed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_workers_reconnect_without_a_herd() {
    // GIVEN two coordinators over an etcd, and two thousand workers
    let etcd = Etcd::start().await.unwrap();
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(12),
        heartbeat: Duration::from_secs(3),
        stop_margin: Duration::from_secs(3),
        ..ClusterOptions::default()
    };
    let mut daemons = Daemons::new(options, etcd.endpoint()).unwrap();
    for _ in 0..2 {
        daemons.add_coordinator("test").await.unwrap();
    }
    let leader = daemons.leader().await.unwrap();
    let herd = Herd::start(daemons.addresses());
    let came = herd
        .until_all("all to come", Instant::now(), |worker| {
            worker.is_heard.load(Ordering::Relaxed)
        })
        .await;
    until_listed(&daemons).await;
    // WHEN the leader is killed
    daemons.coordinator(leader).kill().unwrap();
    herd.look_anew();
    // THEN the next one hears all of them
    let heard = herd
        .until_all("all to be heard", Instant::now(), |worker| {
            worker.is_heard.load(Ordering::Relaxed)
        })
        .await;
    until_listed(&daemons).await;
    let kept = u32::try_from(2 * WORKERS)
        .unwrap()
        .saturating_sub(herd.registrations());
    // WHEN that one is killed as well, and nobody is there until every session is over
    daemons.coordinator(1 - leader).kill().unwrap();
    herd.look_anew();
    herd.until_all("all to have lost their session", Instant::now(), |worker| {
        worker.has_asked_anew.load(Ordering::Relaxed)
    })
    .await;
    let before = herd.registrations();
    herd.look_anew();
    daemons.restart_coordinator(leader).await.unwrap();
    // THEN all of them are registered anew, soon after one listens again
    let back = herd
        .until_all("all to be back", Instant::now(), |worker| {
            worker.is_heard.load(Ordering::Relaxed)
        })
        .await;
    until_listed(&daemons).await;
    let anew = herd.registrations() - before;
    eprintln!(
        "{WORKERS} workers: came in {came:.1?}; after the leader's death heard in {heard:.1?}, \
         {kept} of them in their session; after an outage registered in {back:.1?}, by {anew} \
         registrations; {} sockets",
        sockets()
    );
    // AND both within their time
    assert!(heard < BACK && back < BACK, "{heard:.1?}, {back:.1?}");
    // AND hardly any of them twice, because its answer came too late
    assert!(
        usize::try_from(anew).unwrap() < WORKERS * 2,
        "{anew} registrations"
    );
    // AND none of them has more lines than there are coordinators
    assert!(sockets() < 2 * WORKERS + 100, "{} sockets", sockets());
    drop(herd.running);
}
