//! Views for the tests of the engine, made without a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::controls::Controls;
use highwater_common::dag::Dag;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, SessionId, StepName};
use highwater_common::plan::{PhaseKind, Plan, StepPlan, plan_step};
use highwater_common::record::{
    DeadRecord, LeaseRecord, RetryRecord, RunIntent, RunRecord, TaskAddress, TaskHistory,
    WorkerRecord,
};
use highwater_common::segment::{Segment, TaskResult};
use highwater_common::spec::{Connection, Spec};
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::leases::Leases;
use super::outages::Outages;
use super::step::Step;
use super::stored::Stored;
use super::task_table::TaskTable;
use super::view::{Cluster, Run, Session};
use crate::fixtures::{facts, pipeline};

/// Partitions of every table.
const PARTITIONS: i64 = 6;

/// A cluster with one run in the middle of things, and more when its runs are put together with
/// others.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) cluster: Cluster,
}

/// A planned run of these steps, about to start.
pub(crate) fn view(limits: &str, steps: &[(&str, &str)]) -> View {
    let spec = pipeline("shop0", limits, steps);
    let id = ClusterId::from_bytes([1; 16]);
    let cluster = Cluster {
        id,
        pools: BTreeMap::new(),
        is_one_machine: false,
        runs: BTreeMap::new(),
        sessions: BTreeMap::new(),
        leases: Leases::default(),
        schedules: BTreeMap::new(),
    };
    let mut view = View { cluster };
    view.put(0, spec);
    view
}

/// Connects a worker with many slots.
pub(crate) fn session(cluster: &mut Cluster, no: usize, allow_noop: bool) -> SessionId {
    let id = SessionId::from_bytes([u8::try_from(no).unwrap() + 1; 16]);
    let record = WorkerRecord {
        session: id,
        slots: 100,
        labels: BTreeMap::new(),
        version: "0".to_owned(),
        allow_noop,
        cordoned: false,
        capabilities: BTreeSet::new(),
    };
    let worker = format!("w{no}").parse().unwrap();
    let deadline = Duration::from_secs(15);
    cluster.sessions.insert(
        id,
        Session {
            worker,
            record,
            deadline,
            heard: Duration::ZERO,
            draining: false,
            told_to_drain: false,
        },
    );
    id
}

/// Brings one task into a state, as a stored transaction would.
fn put_state(table: &mut TaskTable, ordinal: u64, to: TaskState) {
    let (number, index) = Segment::place(ordinal);
    let (from, (mut segment, _)) = (table.state(ordinal), table.segment_of(ordinal));
    let result = (to == TaskState::Done).then_some(TaskResult {
        rows: 1,
        millis: 1,
        attempts: 1,
    });
    match result {
        Some(result) => segment.set_done(index, result),
        None => segment.set(index, to),
    };
    let bytes = segment.to_bytes();
    table.put_segment(number, segment, bytes, &[(ordinal, from, to, result)]);
    table.leases.remove(&ordinal);
    table.retries.remove(&ordinal);
}

/// T1, in the view alone.
pub(crate) fn give(
    view: &mut View,
    run: RunId,
    address: &TaskAddress,
    session: SessionId,
    token: i64,
) {
    let step = view
        .cluster
        .runs
        .get_mut(&run)
        .unwrap()
        .steps
        .get_mut(&address.step)
        .unwrap();
    step.last_token = token;
    let table = step.table_mut(address.generation, address.phase).unwrap();
    put_state(table, address.ordinal, TaskState::Open);
    let record = LeaseRecord {
        address: address.clone(),
        attempt: AttemptNo::FIRST,
        fence: Fence {
            token: FencingToken::from_raw(token),
            nonce: Nonce::new(1),
        },
        worker: "w".parse().unwrap(),
        session,
        history: TaskHistory::default(),
    };
    table.leases.insert(
        address.ordinal,
        Stored {
            record,
            bytes: Vec::new(),
        },
    );
    view.reindex();
}

/// T2 of a task of the step's work, in the view alone.
pub(crate) fn finish(view: &mut View, step: &str, ordinal: u64) {
    let address = view.work(step, ordinal);
    put_state(view.table_mut(&address), ordinal, TaskState::Done);
    view.reindex();
}

/// T3 to its end of a task of the step's work, in the view alone.
pub(crate) fn kill(view: &mut View, step: &str, ordinal: u64) {
    let address = view.work(step, ordinal);
    kill_task(view, address);
}

/// T3 to its end, in the view alone.
pub(crate) fn kill_task(view: &mut View, address: TaskAddress) {
    let ordinal = address.ordinal;
    let work = view.run().work(&address).unwrap().to_string();
    let error = AttemptError::new(
        ErrorClass::Permanent,
        ErrorCode::UnknownTable,
        "the table is gone",
    );
    let table = view.table_mut(&address);
    put_state(table, ordinal, TaskState::Dead);
    let record = DeadRecord {
        accepted: String::new(),
        address,
        attempts: 1,
        work,
        error,
    };
    table.dead.insert(
        ordinal,
        Stored {
            record,
            bytes: Vec::new(),
        },
    );
}

impl View {
    fn put(&mut self, no: usize, spec: Spec) {
        let digest = DocumentDigest::of(&spec.canonical_json());
        let found = facts(PARTITIONS);
        let plan = |(name, step): (&StepName, &highwater_common::spec::Step)| {
            (
                name.clone(),
                plan_step(&spec.name, name, step, Some(&found)).unwrap(),
            )
        };
        let plan = Arc::new(Plan {
            spec_digest: digest,
            reference_time_micros: 1,
            steps: spec.steps.iter().map(plan).collect(),
        });
        let mut steps = BTreeMap::new();
        for name in spec.steps.keys() {
            let mut step = Step::fresh();
            step.follow(Arc::new(plan.steps[name].clone()), 1);
            steps.insert(name.clone(), step);
        }
        let id = RunId::from_bytes([u8::try_from(no).unwrap() + 1; 16]);
        let record = RunRecord {
            pipeline: spec.name.clone(),
            spec_digest: digest,
            spec_parts: 1,
            base_dir: String::new(),
            reference_time_micros: 1 + i64::try_from(no).unwrap(),
            intent: RunIntent::Run,
            status: RunStatus::Running,
            generation: 1,
            plan_parts: 1,
            plan_digest: None,
            ended_micros: None,
            reason: String::new(),
            committed: false,
            adopts: false,
            is_saved: false,
            errand: None,
            controls: Controls::default(),
            trace: None,
        };
        let dag = Arc::new(Dag::of(&spec).unwrap());
        let (facts, orders) = (BTreeMap::new(), BTreeMap::new());
        let spec = Arc::new(spec);
        let run = Run {
            id,
            record,
            stored: Vec::new(),
            whole: Arc::clone(&spec),
            spec,
            dag,
            facts,
            plan: Some(plan),
            steps,
            damage: None,
            outages: Outages::default(),
            moved_millis: None,
            orders,
        };
        self.cluster.runs.insert(id, run);
    }

    /// Brings in order what follows from the runs.
    fn reindex(&mut self) {
        self.cluster.find_leases(Duration::ZERO);
    }

    /// The only run.
    pub(crate) fn run(&self) -> &Run {
        self.cluster.runs.values().next().unwrap()
    }

    pub(crate) fn run_mut(&mut self) -> &mut Run {
        self.cluster.runs.values_mut().next().unwrap()
    }

    fn step_mut(&mut self, step: &str) -> &mut Step {
        self.run_mut()
            .steps
            .get_mut(&step.parse::<StepName>().unwrap())
            .unwrap()
    }

    /// Makes the run the `no`th, of a pipeline of its own, with a limit of the source's
    /// connections.
    pub(crate) fn rename(&mut self, no: usize, connections: Option<u32>) {
        let mut spec = self.run().spec.as_ref().clone();
        spec.name = format!("shop{no}").parse().unwrap();
        if let Some(Connection::Postgres {
            max_connections, ..
        }) = spec.connections.values_mut().next()
        {
            *max_connections = connections;
        }
        self.cluster.runs.clear();
        self.put(no, spec);
    }

    /// Every step runs, and is prepared.
    pub(crate) fn begin(&mut self) {
        for step in self.run_mut().steps.values_mut() {
            step.record.status = StepStatus::Running;
            let prepare = step
                .planned_tables()
                .find(|(_, phase, _)| phase.kind == PhaseKind::Prepare);
            if let Some(prepare) = prepare.map(|(number, _, _)| number) {
                put_state(step.table_mut(1, prepare).unwrap(), 0, TaskState::Done);
            }
        }
    }

    /// Brings a task into some state that it may have been in.
    pub(crate) fn disturb(&mut self, step: &str, ordinal: u64, how: u8, now_millis: i64) {
        let address = self.work(step, ordinal);
        let Some(_) = self.run().work(&address) else {
            return;
        };
        match how % 5 {
            0 => give_now(self, &address),
            1 => finish(self, step, ordinal),
            2 | 3 => {
                let error = AttemptError::new(
                    ErrorClass::Transient,
                    ErrorCode::BrokenStream,
                    "the connection broke",
                );
                let not_before_millis = if how % 5 == 2 {
                    now_millis - 1
                } else {
                    now_millis + 5_000
                };
                let table = self.table_mut(&address);
                put_state(table, ordinal, TaskState::RetryWait);
                let failed_on: &[&str] =
                    [&[][..], &["w0"], &["w1", "w0"]][usize::from(how / 5) % 3];
                let failed_on = failed_on
                    .iter()
                    .map(|worker| worker.parse().unwrap())
                    .collect();
                let history = TaskHistory {
                    failed_on,
                    ..TaskHistory::default()
                };
                let record = RetryRecord {
                    address,
                    attempts: 1,
                    history,
                    not_before_millis,
                    error,
                };
                table.retries.insert(
                    ordinal,
                    Stored {
                        record,
                        bytes: Vec::new(),
                    },
                );
            }
            _ => put_state(self.table_mut(&address), ordinal, TaskState::Pending),
        }
        self.reindex();
    }

    /// An attempt ends well.
    pub(crate) fn end(&mut self, run: RunId, address: &TaskAddress) {
        let step = self
            .cluster
            .runs
            .get_mut(&run)
            .unwrap()
            .steps
            .get_mut(&address.step)
            .unwrap();
        put_state(
            step.table_mut(address.generation, address.phase).unwrap(),
            address.ordinal,
            TaskState::Done,
        );
        self.reindex();
    }

    /// The fence of a step stands.
    pub(crate) fn finish_fence(&mut self, step: &str) {
        put_state(
            self.step_mut(step).table_mut(0, 1).unwrap(),
            0,
            TaskState::Done,
        );
    }

    /// A task of the step's work.
    pub(crate) fn work(&self, step: &str, ordinal: u64) -> TaskAddress {
        let step: StepName = step.parse().unwrap();
        TaskAddress {
            step: step.clone(),
            ..self.run().steps[&step].work(ordinal)
        }
    }

    /// The only task of a phase of a kind.
    pub(crate) fn single(&self, step: &str, kind: PhaseKind) -> TaskAddress {
        let name: StepName = step.parse().unwrap();
        let phase = self.run().steps[&name]
            .planned_tables()
            .find(|(_, phase, _)| phase.kind == kind)
            .unwrap()
            .0;
        TaskAddress {
            step: name,
            generation: 1,
            phase,
            ordinal: 0,
        }
    }

    fn table_mut(&mut self, address: &TaskAddress) -> &mut TaskTable {
        let step = self.run_mut().steps.get_mut(&address.step).unwrap();
        step.table_mut(address.generation, address.phase).unwrap()
    }

    /// The plan of a step all of which is committed already.
    pub(crate) fn covered_plan(&self, step: &str) -> StepPlan {
        let run = self.run();
        let name: StepName = step.parse().unwrap();
        let mut found = facts(PARTITIONS);
        found.target.covered = vec![highwater_common::range::CursorRange::ALL];
        plan_step(&run.spec.name, &name, &run.spec.steps[&name], Some(&found)).unwrap()
    }

    pub(crate) fn replan(&mut self, step: &str, plan: StepPlan) {
        self.step_mut(step).follow(Arc::new(plan), 1);
    }
}

fn give_now(view: &mut View, address: &TaskAddress) {
    let run = view.run().id;
    give(view, run, address, SessionId::from_bytes([9; 16]), 0);
}
