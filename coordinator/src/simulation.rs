//! A cluster in one thread and in time that only tests have: two coordinators, workers that pause, crash and repeat
//! themselves, a store that loses answers, and a target with the ledger's rules. One seed, one schedule.
//!
//! What is checked is named as everywhere: I1 at most one commit of a task · I2 nothing commits after an acknowledged cancel ·
//! I3 a token with its nonce is issued once, and tokens grow per task · I4 what is done is committed · I5 what was acknowledged
//! stays · I11 everything ends.
#![allow(clippy::disallowed_methods, reason = "tests own their time and their loops")]

mod target;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::Work;
use highwater_common::id::RunId;
use highwater_common::record::TaskAddress;
use highwater_common::retry::QUARANTINE_CODE;
use highwater_common::status::RunStatus;
use highwater_common::task::TaskState;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::coordinator::CoordinatorHandle;
use crate::engine::Cluster;
use crate::error::ServiceError;
use crate::fixtures::{Running, options, pipeline, start, submission};
use crate::leader::Request;
use crate::options::{CoordinatorOptions, SessionOptions};
use crate::store::faulty::{Fault, Faulty};
use crate::store::memory::MemoryStore;
use crate::store::{Op, RecordStore, StoreTxn};
use target::Target;
use worker::SimulatedWorker;

/// How long the faults last.
const FAULTS: Duration = Duration::from_secs(90);
/// Every run ends within this time after the last fault: a worker's session, an office's time to live, and the longest wait
/// between two attempts, several times over.
const ENDS_WITHIN: Duration = Duration::from_secs(1800);

/// Both coordinators together are asked so often at the most, 200 ms apart.
const ASKS_MAX: usize = 20_000;

/// The seeds of a test: `HIGHWATER_SEED` alone, when it is set, else the first `count`.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("HIGHWATER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

/// Both coordinators, as those see them who want something.
#[derive(Clone)]
pub(crate) struct Doors {
    handles: Arc<std::sync::Mutex<[CoordinatorHandle; 2]>>,
}

impl Doors {
    fn handle(&self, at: usize) -> CoordinatorHandle {
        self.handles.lock().unwrap()[at % 2].clone()
    }

    /// Asks one coordinator after the other until one answers for itself.
    async fn ask<T>(
        &self,
        mut request: impl FnMut(tokio::sync::oneshot::Sender<Result<T, ServiceError>>) -> Request,
    ) -> Result<T, ServiceError> {
        for at in 0..ASKS_MAX {
            match self.handle(at).ask(&mut request).await {
                Err(ServiceError::BetweenTerms | ServiceError::NotLeader { .. } | ServiceError::StoreFull(_)) => {}
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("I11: nobody leads any more")
    }

    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Cluster) -> T + Clone + Send + 'static) -> T {
        let answer = self.ask(|reply| {
            let look = look.clone();
            Request::Look(Box::new(move |leader| {
                let _ = reply.send(leader.map(|leader| look(leader.cluster())));
            }))
        });
        answer.await.expect("a look has no other error")
    }
}

/// As a cluster has them, but with pulls that end between two heartbeats.
fn simulated_options() -> CoordinatorOptions {
    let sessions = SessionOptions { pull_wait: Duration::from_secs(1), ..SessionOptions::default() };
    CoordinatorOptions { sessions, ..options() }
}

struct Simulation {
    seed: u64,
    rng: StdRng,
    store: Faulty,
    clock: Clock,
    running: [Running; 2],
    doors: Doors,
    target: Arc<Target>,
    stop: CancellationToken,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let store = Faulty::around(Arc::new(MemoryStore::new()));
        let clock = Clock::simulated();
        let running = [(); 2].map(|()| start(&store, &simulated_options(), clock, rng.random()));
        let handles = [running[0].handle.clone(), running[1].handle.clone()];
        let doors = Doors { handles: Arc::new(std::sync::Mutex::new(handles)) };
        let target = Arc::new(Target::new(seed));
        Self { seed, rng, store, clock, running, doors, target, stop: CancellationToken::new() }
    }

    fn start_workers(&mut self) {
        for no in 0..3 {
            let worker = SimulatedWorker {
                name: format!("w{no}"),
                door: no,
                doors: self.doors.clone(),
                target: Arc::clone(&self.target),
                rng: StdRng::seed_from_u64(self.rng.random()),
                faults_until: tokio::time::Instant::now() + FAULTS,
            };
            let stop = self.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = worker.run() => {}
                }
            });
        }
    }

    /// One fault, drawn by lot.
    async fn fault(&mut self) {
        match self.rng.random_range(0..13) {
            0 | 1 => self.store.next(Fault::AppliedAnswerLost),
            2 | 3 => self.store.next(Fault::NeverArrived),
            4 => self.store.next(Fault::Unreachable),
            5 => self.store.next(Fault::Rejected),
            6 => self.store.next(Fault::Slow(Duration::from_millis(self.rng.random_range(1..4000)))),
            7 => self.store.fail_reads(self.rng.random_range(1..4)),
            8 => self.store.lose_reigns(),
            // It has no room for a while.
            10 => {
                let (store, takes) = (self.store.clone(), Duration::from_millis(self.rng.random_range(1..20_000)));
                store.fill(true);
                tokio::spawn(async move {
                    tokio::time::sleep(takes).await;
                    store.fill(false);
                });
            }
            // The office's lease is revoked: for a while there are two who believe that they lead.
            9 => {
                let ops = vec![Op::Delete("leader".to_owned())];
                let revoked = MemoryCommit(&self.store).past_faults(StoreTxn { expects: Vec::new(), ops }).await;
                assert!(revoked);
            }
            _ => {
                let at = self.rng.random_range(0..2);
                self.running[at].ended.abort();
                self.running[at] = start(&self.store, &simulated_options(), self.clock, self.rng.random());
                self.doors.handles.lock().unwrap()[at] = self.running[at].handle.clone();
            }
        }
    }

    async fn run(mut self) {
        self.start_workers();
        let loads = [
            ("a", "$load    retries: {max_attempts: 60, max: 20s}"),
            ("b", "$load    depends_on: [a]\n    retries: {max_attempts: 60, max: 20s}"),
        ];
        let noop =
            [("n", "    strategy: {type: noop, tasks: 6, hold: 50ms}\n    retries: {max_attempts: 60, max: 20s}")];
        let specs = [pipeline("shop", "limits: {tasks: 5}", &loads), pipeline("bench", "", &noop)];
        let mut runs = Vec::new();
        for spec in &specs {
            runs.push(self.submit(spec).await);
        }
        let until = tokio::time::Instant::now() + FAULTS;
        let is_cancelled = self.seed.is_multiple_of(3);
        let cancel_at = tokio::time::Instant::now() + Duration::from_millis(self.rng.random_range(0..60_000));
        let canceller = is_cancelled.then(|| {
            let (doors, target, run) = (self.doors.clone(), Arc::clone(&self.target), runs[0]);
            tokio::spawn(async move {
                tokio::time::sleep_until(cancel_at).await;
                cancel(&doors, &target, run).await;
            })
        });
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..8_000))).await;
            self.fault().await;
        }
        self.target.heal();
        self.store.fill(false);
        for run in &runs {
            self.ends(*run).await;
        }
        if let Some(canceller) = canceller {
            canceller.await.expect("the cancel was acknowledged");
        }
        // Zombies that are still on their way must find every door closed.
        tokio::time::sleep(Duration::from_secs(120)).await;
        self.check(&runs).await;
        self.stop.cancel();
        for running in &self.running {
            running.cancel.cancel();
        }
    }

    async fn submit(&self, spec: &highwater_common::spec::Spec) -> RunId {
        let ask = |reply| Request::Submit { submission: submission(spec, false, false), reply };
        self.doors.ask(ask).await.expect("a run begins").0
    }

    /// I11.
    async fn ends(&self, run: RunId) {
        let deadline = tokio::time::Instant::now() + ENDS_WITHIN;
        loop {
            let status = self.doors.look(move |cluster| cluster.runs[&run].record.status).await;
            if status.has_ended() {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                let view = self.doors.look(crate::fixtures::portrait).await;
                panic!("I11, HIGHWATER_SEED={}: run {run} is still {status}\n{view}", self.seed);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// I4 and I5, once everything has ended; I1 to I3 were checked where they can break.
    async fn check(&self, runs: &[RunId]) {
        let target = Arc::clone(&self.target);
        let (seed, runs) = (self.seed, runs.to_vec());
        let problems = self.doors.look(move |cluster| {
            let mut problems = Vec::new();
            for id in &runs {
                let run = &cluster.runs[id];
                for (name, step) in &run.steps {
                    let generation = step.generation;
                    for ordinal in 0..step.work.len {
                        let address = TaskAddress { step: name.clone(), generation, ordinal };
                        let (Some(task), Some(Work::Partition(_))) = (run.task_id(&address), run.work(&address)) else {
                            continue;
                        };
                        let is_done = step.work.state(ordinal) == TaskState::Done;
                        if is_done && !target.is_committed(*id, task) {
                            problems.push(format!("I4: task {task} is done and not committed"));
                        }
                        if target.is_acknowledged(task) && !is_done {
                            problems.push(format!("I5: task {task} was acknowledged and is not done"));
                        }
                    }
                }
                let counts: u64 = run.steps.values().map(|step| step.counts().done).sum();
                let expected: u64 = run.steps.values().map(|step| step.work.len.saturating_sub(1)).sum();
                if run.record.status == RunStatus::Success && counts != expected {
                    problems.push(format!("run {id} succeeded with {counts} of {expected} tasks"));
                }
                // Workers that die all the time make a task look like poison; nothing else may end one here.
                let dead = run.steps.values().flat_map(|step| step.wide.dead.values().chain(step.work.dead.values()));
                let others = dead.filter(|held| held.record.error.code != QUARANTINE_CODE);
                problems.extend(others.map(|held| format!("run {id} failed: {:?}", held.record)));
                let is_poisoned = run.steps.values().any(|step| step.wide.counts.dead + step.work.counts.dead > 0);
                if run.record.status == RunStatus::Failed && !is_poisoned {
                    problems.push(format!("run {id} failed: {}", run.record.reason));
                }
            }
            problems
        });
        let problems = problems.await;
        assert!(problems.is_empty(), "HIGHWATER_SEED={seed}: {problems:#?}");
    }
}

/// Cancels a run and waits for the acknowledgement: the run's status.
async fn cancel(doors: &Doors, target: &Target, run: RunId) {
    match doors.ask(|reply| Request::Cancel { run, reason: "enough".to_owned(), reply }).await {
        Ok(()) => {}
        Err(ServiceError::RunEnded { .. }) => return,
        Err(error) => panic!("a cancel is refused: {error}"),
    }
    loop {
        let status = doors.look(move |cluster| cluster.runs[&run].record.status).await;
        if status == RunStatus::Cancelled {
            return target.acknowledge_cancel(run);
        }
        assert!(!status.has_ended(), "a run that is to be cancelled is {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Commits around the planted faults, as something outside the cluster would.
struct MemoryCommit<'a>(&'a Faulty);

impl MemoryCommit<'_> {
    async fn past_faults(&self, txn: StoreTxn) -> bool {
        loop {
            if let Ok(crate::store::TxnOutcome::Applied) = self.0.commit(txn.clone()).await {
                return true;
            }
        }
    }
}

#[test]
fn a_cluster_under_faults_commits_every_row_once_and_ends() {
    for seed in seeds(200) {
        let began = std::time::Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let simulated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.expect("a runtime").block_on(async { Simulation::new(seed).run().await })
        }));
        if let Err(panic) = simulated {
            eprintln!("replay with HIGHWATER_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        if began.elapsed() > Duration::from_secs(5) {
            eprintln!("HIGHWATER_SEED={seed} took {:?}", began.elapsed());
        }
    }
}
