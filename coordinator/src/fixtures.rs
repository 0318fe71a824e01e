//! What the tests of engine and leader share: pipelines, facts, a coordinator on a store with
//! planted faults, and workers that answer as they are told.
#![allow(
    clippy::disallowed_methods,
    reason = "tests own their time and their loops"
)]

mod hands;
mod worker;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{
    Assignment, AttemptError, Checked, ErrorClass, Outcome, Receipt, Work,
};
use highwater_common::close::{ORDINALS_MAX, Ordinals};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{
    ColumnFacts, ColumnKind, CursorForm, Engine, PartitionFacts, StepFacts, TableFacts, TargetFacts,
};
use highwater_common::id::{DocumentDigest, RunId, SessionId};
use highwater_common::spec::{self, Spec};
use highwater_common::status::RunStatus;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use worker::{FakeWorker, tell};

use crate::clock::Clock;
use crate::coordinator::{Coordinator, CoordinatorError, CoordinatorHandle};
use crate::engine::Cluster;
use crate::error::ServiceError;
use crate::leader::{Leader, Request, Submission, Word};
use crate::options::{CoordinatorOptions, SessionOptions};
use crate::store::faulty::Faulty;
use crate::store::memory::MemoryStore;

/// A pipeline with these steps, each a line of YAML. `$load` stands for a backfill of a table with
/// the step's name.
pub(crate) fn pipeline(name: &str, limits: &str, steps: &[(&str, &str)]) -> Spec {
    let mut text = format!(
        "version: 1\nname: {name}\nconnections:\n  source: {{type: postgres, url: \
         \"${{env:SOURCE}}\"}}\n  target: {{type: postgres, url: \
         \"${{env:TARGET}}\"}}\n{limits}\nsteps:\n"
    );
    for (step, rest) in steps {
        let load = format!(
            "    strategy: {{type: backfill}}\n    from: {{connection: source, table: \
             {step}}}\n    to: {{connection: target, table: {step}}}\n    partition: {{by: \
             integer, column: id, width: 1}}\n    write: {{mode: replace_partition}}\n"
        );
        let _ = writeln!(text, "  {step}:\n{}", rest.replace("$load", &load));
    }
    spec::parse(&text, &BTreeMap::new()).unwrap_or_else(|problems| {
        panic!(
            "{text}\n{}",
            problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        )
    })
}

/// One step that loads.
pub(crate) fn one_load() -> Spec {
    pipeline("shop", "", &[("orders", "$load")])
}

/// What a probe finds of a table that is cut into so many partitions.
pub(crate) fn facts(partitions: i64) -> StepFacts {
    let column = ColumnFacts {
        name: "id".to_owned(),
        type_name: "bigint".to_owned(),
        kind: ColumnKind::Int64,
        nullable: false,
        binary_portable: true,
        definition: None,
        origin: None,
    };
    StepFacts {
        source: TableFacts {
            definition: None,
            filtered: false,
            engine: Engine::Postgres,
            columns: vec![column],
            key: vec!["id".to_owned()],
            rows: partitions.unsigned_abs(),
            rows_exact: true,
            bytes: 8 * partitions.unsigned_abs(),
            partition: Some(PartitionFacts {
                column: "id".to_owned(),
                kind: CursorKind::Integer,
                form: CursorForm::Native,
                min: Some(Cursor::Integer(0)),
                max: Some(Cursor::Integer(partitions - 1)),
                nullable: false,
                left_out: None,
                null_rows: Some(0),
                indexed: true,
                placing: None,
                histogram: Vec::new(),
                empty: Vec::new(),
            }),
        },
        target: TargetFacts {
            engine: Engine::Postgres,
            fingerprint: "pg-1".to_owned(),
            table: None,
            created_as: Vec::new(),
            uncarried: Vec::new(),
            covered: Vec::new(),
            covered_null: false,
        },
        window: None,
        adopted: None,
        receipts: None,
        undone: None,
        beside: None,
        log: None,
    }
}

/// What an attempt answers when all went well; tables have so many partitions of one row each.
pub(crate) fn well(assignment: &Assignment, partitions: i64) -> Outcome {
    match assignment.work {
        Work::Probe => Outcome::Probed(serde_json::to_vec(&facts(partitions)).unwrap()),
        Work::Prepare => prepared(&Coverage::default()),
        Work::Noop(_) | Work::Build | Work::Command => Outcome::Done,
        Work::Partition(_) | Work::Publish | Work::Reconcile | Work::Statements | Work::Replay => {
            Outcome::Committed(Receipt { rows: 1, bytes: 8 })
        }
        Work::Follow => Outcome::Released,
        Work::Check => Outcome::Checked(Checked {
            table: String::new(),
            answers: Vec::new(),
            committed: None,
        }),
        Work::Fence => Outcome::RunFenced { attempts: 0 },
        Work::Count(_) => Outcome::Counted(highwater_common::left_out::LeftOut::NONE),
        Work::Close { .. } => Outcome::Closed(Ordinals::of_ranges([(0, ORDINALS_MAX - 1)])),
    }
}

/// A prepare that found this committed.
pub(crate) fn prepared(coverage: &Coverage) -> Outcome {
    Outcome::Prepared {
        warnings: Vec::new(),
        coverage: coverage.digest(),
        fingerprint: String::new(),
    }
}

/// A failure that another attempt may not meet.
pub(crate) fn transient() -> Outcome {
    Outcome::Failed(AttemptError::new(
        ErrorClass::Transient,
        ErrorCode::BrokenStream,
        "the connection broke",
    ))
}

/// A failure that every attempt meets.
pub(crate) fn permanent() -> Outcome {
    Outcome::Failed(AttemptError::new(
        ErrorClass::Permanent,
        ErrorCode::ConstraintViolation,
        "a value is missing",
    ))
}

/// Times of sessions in tests: pulls answer soon.
pub(crate) fn options() -> CoordinatorOptions {
    let sessions = SessionOptions {
        pull_wait: Duration::from_millis(100),
        ..SessionOptions::default()
    };
    CoordinatorOptions {
        sessions,
        allow_noop: true,
        ..CoordinatorOptions::default()
    }
}

/// A request to run `spec`.
pub(crate) fn submission(spec: &Spec, plan_only: bool, fresh: bool) -> Submission {
    let canonical = spec.canonical_json();
    let digest = DocumentDigest::of(&canonical);
    Submission {
        spec: Arc::new(spec.clone()),
        canonical,
        digest,
        base_dir: "/data".to_owned(),
        plan_only,
        fresh,
        adopts: false,
        errand: None,
        saved: None,
        selected: Vec::new(),
        by: "ann".to_owned(),
        trace: None,
    }
}

/// What an operator says.
pub(crate) fn word(reason: &str) -> Word {
    Word {
        by: "ann".to_owned(),
        reason: reason.to_owned(),
    }
}

/// A running coordinator.
pub(crate) struct Running {
    pub(crate) handle: CoordinatorHandle,
    pub(crate) cancel: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), CoordinatorError>>,
}

/// One coordinator on a store in memory, with faults planted around it.
pub(crate) struct Bench {
    pub(crate) memory: MemoryStore,
    pub(crate) store: Faulty,
    pub(crate) running: Running,
    pub(crate) partitions: i64,
    clock: Clock,
    options: CoordinatorOptions,
    rng: StdRng,
}

impl Bench {
    pub(crate) fn new(partitions: i64) -> Self {
        Self::with(partitions, 7, options())
    }

    pub(crate) fn with(partitions: i64, seed: u64, options: CoordinatorOptions) -> Self {
        let memory = MemoryStore::new();
        let store = Faulty::around(Arc::new(memory.clone()));
        let clock = Clock::simulated();
        let mut rng = StdRng::seed_from_u64(seed);
        let running = start(&store, &options, clock, rng.random());
        Self {
            memory,
            store,
            running,
            partitions,
            clock,
            options,
            rng,
        }
    }

    pub(crate) fn handle(&self) -> &CoordinatorHandle {
        &self.running.handle
    }

    /// Kills the coordinator, wherever it is, starts another, and waits for the leadership's time
    /// to live until that one leads.
    pub(crate) async fn kill(&mut self) {
        self.running.ended.abort();
        let seed = self.rng.random();
        let former = std::mem::replace(
            &mut self.running,
            start(&self.store, &self.options, self.clock, seed),
        );
        let _ = former.ended.await;
        while self.handle().look(|_| Ok(())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Begins a new term of the same coordinator.
    pub(crate) async fn new_term(&self) {
        let before = self.look(|leader| leader.term().1).await;
        self.store.lose_reigns();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.look(|leader| leader.term().1).await > before {
                return;
            }
        }
        panic!("no new term");
    }

    /// Looks at the leader's view; between two terms, once the next one has begun.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Leader) -> T + Clone + Send + 'static,
    ) -> T {
        for _ in 0..1_000 {
            let look = look.clone();
            match self.handle().look(move |leader| Ok(look(leader))).await {
                Ok(seen) => return seen,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        panic!("nobody leads");
    }

    pub(crate) async fn submit(&self, spec: &Spec) -> RunId {
        self.submit_as(spec, false).await
    }

    pub(crate) async fn submit_as(&self, spec: &Spec, plan_only: bool) -> RunId {
        loop {
            let submission = submission(spec, plan_only, false);
            match self
                .handle()
                .ask(|reply| Request::Submit { submission, reply })
                .await
            {
                Ok((run, _)) => return run,
                Err(ServiceError::BetweenTerms | ServiceError::NotLeader { .. }) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn cancel(&self, run: RunId) -> Result<(), ServiceError> {
        self.handle()
            .ask(|reply| Request::Cancel {
                run,
                word: word("enough"),
                reply,
            })
            .await
    }

    pub(crate) async fn retry(&self, run: RunId) -> Result<u64, ServiceError> {
        self.handle()
            .ask(|reply| Request::Retry {
                run,
                selections: Vec::new(),
                verdict: None,
                word: word(""),
                reply,
            })
            .await
    }

    pub(crate) async fn status(&self, run: RunId) -> RunStatus {
        self.look(move |leader| leader.cluster().runs[&run].record.status)
            .await
    }

    pub(crate) async fn worker(&self, name: &str) -> FakeWorker {
        let mut session = [0; 16];
        session[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
        FakeWorker::register(self.handle().clone(), name, SessionId::from_bytes(session))
            .await
            .unwrap()
    }

    /// Lets `worker` do everything well until the run has ended.
    pub(crate) async fn finish(&self, worker: &mut FakeWorker, run: RunId) -> RunStatus {
        for _ in 0..10_000 {
            let status = self.status(run).await;
            if status.has_ended() {
                return status;
            }
            for assignment in worker.pull(16).await.unwrap() {
                let outcome = well(&assignment, self.partitions);
                worker.complete(&assignment, outcome).await.unwrap();
            }
            worker.beat().await.unwrap();
        }
        panic!("the run does not end");
    }

    /// Submits a pipeline of one load and lets `worker` bring it to where its partitions can begin.
    pub(crate) async fn prepared(&self, worker: &mut FakeWorker) -> RunId {
        let run = self.submit(&one_load()).await;
        for _ in 0..2 {
            let assignment = worker.take_one().await;
            assert!(
                matches!(assignment.work, Work::Probe | Work::Prepare),
                "{assignment:?}"
            );
            assert!(
                worker
                    .complete(&assignment, well(&assignment, self.partitions))
                    .await
                    .unwrap()
            );
        }
        run
    }

    /// The view in memory, and the view that the store would give a new leader, at a moment when
    /// neither changes.
    pub(crate) async fn views(&self) -> (String, String) {
        loop {
            let held = self.look(|leader| portrait(leader.cluster())).await;
            let nobody = highwater_common::id::ClusterId::from_bytes([0; 16]);
            let loaded = crate::leader::load(&self.store, nobody).await;
            let is_still = held == self.look(|leader| portrait(leader.cluster())).await;
            if let Ok(loaded) = loaded
                && is_still
            {
                return (held, portrait(&loaded.cluster));
            }
        }
    }
}

pub(crate) fn start(
    store: &Faulty,
    options: &CoordinatorOptions,
    clock: Clock,
    seed: u64,
) -> Running {
    let (coordinator, handle) =
        Coordinator::simulated(Arc::new(store.clone()), options.clone(), clock, seed);
    let cancel = CancellationToken::new();
    Running {
        handle,
        cancel: cancel.clone(),
        ended: tokio::spawn(coordinator.run(cancel)),
    }
}

/// Everything of a view that a new leader must know as well.
pub(crate) fn portrait(cluster: &Cluster) -> String {
    let mut text = format!("cluster {}\n", cluster.id);
    for session in cluster.leases.holders() {
        let held: Vec<_> = cluster
            .leases
            .held_by(session)
            .map(|(task, open)| (task, &open.address))
            .collect();
        let _ = writeln!(text, "held by {session} {held:?}");
    }
    for (name, scheduled) in &cluster.schedules {
        let next = scheduled.next_moment();
        let _ = writeln!(text, "schedule {name} {:?} {next:?}", scheduled.record);
    }
    for (session, known) in &cluster.sessions {
        let _ = writeln!(
            text,
            "session {session} {} {:?}",
            known.worker, known.record
        );
    }
    for (id, run) in &cluster.runs {
        let plan = run.plan.as_ref().map(|plan| plan.digest());
        let _ = writeln!(
            text,
            "run {id} {:?} facts {:?} plan {plan:?}",
            run.record,
            run.facts.keys()
        );
        for (name, step) in &run.steps {
            let _ = writeln!(
                text,
                " step {name} {} {} {:?}",
                step.generation, step.replans, step.record
            );
            let _ = writeln!(text, "  {} ranges committed without a gap", step.reached());
            for table in step.tables() {
                let states: Vec<u8> = (0..table.len)
                    .map(|ordinal| table.state(ordinal).code())
                    .collect();
                let pending: std::collections::BTreeSet<u64> = table.pending().collect();
                let _ = writeln!(
                    text,
                    "  {states:?} {:?} rows {} pending {pending:?}",
                    table.counts, table.rows
                );
                let _ = writeln!(
                    text,
                    "  {:?}\n  {:?}\n  {:?}",
                    table.leases, table.retries, table.dead
                );
            }
        }
    }
    text
}
