//! Views for the tests of the engine, made without a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::dag::Dag;
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, SessionId, StepName};
use highwater_common::plan::{Plan, StepPlan, plan_step};
use highwater_common::record::{
    DeadRecord, LeaseRecord, RetryRecord, RunRecord, RunWish, TaskAddress, TaskHistory, WorkerRecord,
};
use highwater_common::segment::{Segment, TaskResult};
use highwater_common::spec::{Connection, Spec};
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::leases::Leases;
use super::outages::Outages;
use super::step::{FENCE_ORDINAL, Held, PREPARE_ORDINAL, Step, Track};
use super::view::{Cluster, Run, Session};
use crate::fixtures::{facts, pipeline};

/// Partitions of every table.
const PARTITIONS: i64 = 6;

/// A cluster with one run in the middle of things, and more when its runs are put together with others.
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
    cluster
        .sessions
        .insert(id, Session { worker, record, deadline, heard: Duration::ZERO, draining: false, told_to_drain: false });
    id
}

/// Brings one task into a state, as a stored transaction would.
fn put_state(track: &mut Track, ordinal: u64, to: TaskState) {
    let (number, index) = Segment::place(ordinal);
    let (from, (mut segment, _)) = (track.state(ordinal), track.segment_of(ordinal));
    let result = (to == TaskState::Done).then_some(TaskResult { rows: 1, millis: 1, attempts: 1 });
    match result {
        Some(result) => segment.set_done(index, result),
        None => segment.set(index, to),
    };
    let bytes = segment.to_bytes();
    track.put_segment(number, segment, bytes, &[(ordinal, from, to, result)]);
    track.leases.remove(&ordinal);
    track.retries.remove(&ordinal);
}

/// T1, in the view alone.
pub(crate) fn give(view: &mut View, run: RunId, address: &TaskAddress, session: SessionId, token: i64) {
    let step = view.cluster.runs.get_mut(&run).unwrap().steps.get_mut(&address.step).unwrap();
    step.last_token = token;
    let track = step.track_mut(address.generation);
    put_state(track, address.ordinal, TaskState::Open);
    let record = LeaseRecord {
        address: address.clone(),
        attempt: AttemptNo::FIRST,
        fence: Fence { token: FencingToken::from_raw(token), nonce: Nonce::new(1) },
        worker: "w".parse().unwrap(),
        session,
        history: TaskHistory::default(),
    };
    track.leases.insert(address.ordinal, Held { record, bytes: Vec::new() });
    view.reindex();
}

/// T2, in the view alone.
pub(crate) fn finish(view: &mut View, step: &str, ordinal: u64) {
    put_state(&mut view.step_mut(step).work, ordinal, TaskState::Done);
    view.reindex();
}

/// T3 to its end, in the view alone.
pub(crate) fn kill(view: &mut View, step: &str, ordinal: u64) {
    let address = TaskAddress { step: step.parse().unwrap(), generation: 1, ordinal };
    let work = view.run().work(&address).unwrap().to_string();
    let error = AttemptError::new(ErrorClass::Permanent, "gone", "the table is gone");
    let track = &mut view.step_mut(step).work;
    put_state(track, ordinal, TaskState::Dead);
    let record = DeadRecord { address, attempts: 1, work, error };
    track.dead.insert(ordinal, Held { record, bytes: Vec::new() });
}

impl View {
    fn put(&mut self, no: usize, spec: Spec) {
        let digest = DocumentDigest::of(&spec.canonical_json());
        let found = facts(PARTITIONS);
        let plan = |(name, step): (&StepName, &highwater_common::spec::Step)| {
            (name.clone(), plan_step(&spec.name, name, step, Some(&found)).unwrap())
        };
        let plan = Arc::new(Plan {
            spec_digest: digest,
            reference_time_micros: 1,
            steps: spec.steps.iter().map(plan).collect(),
        });
        let mut steps = BTreeMap::new();
        for (name, known) in &spec.steps {
            let mut step = Step::fresh();
            step.work = Track::planned(Arc::new(plan.steps[name].clone()), &known.strategy);
            step.generation = 1;
            steps.insert(name.clone(), step);
        }
        let id = RunId::from_bytes([u8::try_from(no).unwrap() + 1; 16]);
        let record = RunRecord {
            pipeline: spec.name.clone(),
            spec_digest: digest,
            spec_parts: 1,
            base_dir: String::new(),
            reference_time_micros: 1 + i64::try_from(no).unwrap(),
            wish: RunWish::Run,
            status: RunStatus::Running,
            generation: 1,
            plan_parts: 1,
            plan_digest: None,
            ended_micros: None,
            reason: String::new(),
            committed: false,
            adopts: false,
            errand: None,
        };
        let dag = Arc::new(Dag::of(&spec).unwrap());
        let (facts, orders) = (BTreeMap::new(), BTreeMap::new());
        let run = Run {
            id,
            record,
            stored: Vec::new(),
            spec: Arc::new(spec),
            dag,
            facts,
            plan: Some(plan),
            steps,
            damage: None,
            outages: Outages::default(),
            orders,
        };
        self.cluster.runs.insert(id, run);
    }

    /// Brings in order what follows from the runs.
    fn reindex(&mut self) {
        self.cluster.leases = Leases::of(&self.cluster.runs, Duration::ZERO);
    }

    /// The only run.
    pub(crate) fn run(&self) -> &Run {
        self.cluster.runs.values().next().unwrap()
    }

    pub(crate) fn run_mut(&mut self) -> &mut Run {
        self.cluster.runs.values_mut().next().unwrap()
    }

    fn step_mut(&mut self, step: &str) -> &mut Step {
        self.run_mut().steps.get_mut(&step.parse::<StepName>().unwrap()).unwrap()
    }

    /// Makes the run the `no`th, of a pipeline of its own, with a limit of the source's connections.
    pub(crate) fn rename(&mut self, no: usize, connections: Option<u32>) {
        let mut spec = self.run().spec.as_ref().clone();
        spec.name = format!("shop{no}").parse().unwrap();
        if let Some(Connection::Postgres { max_connections, .. }) = spec.connections.values_mut().next() {
            *max_connections = connections;
        }
        self.cluster.runs.clear();
        self.put(no, spec);
    }

    /// Every step runs, and is prepared.
    pub(crate) fn begin(&mut self) {
        for step in self.run_mut().steps.values_mut() {
            step.record.status = StepStatus::Running;
            if step.work.state(PREPARE_ORDINAL) == TaskState::Pending {
                put_state(&mut step.work, PREPARE_ORDINAL, TaskState::Done);
            }
        }
    }

    /// Brings a task into some state that it may have been in.
    pub(crate) fn disturb(&mut self, step: &str, ordinal: u64, how: u8, now_millis: i64) {
        let address = TaskAddress { step: step.parse().unwrap(), generation: 1, ordinal };
        let Some(_) = self.run().work(&address) else { return };
        match how % 5 {
            0 => give_now(self, &address),
            1 => finish(self, step, ordinal),
            2 | 3 => {
                let error = AttemptError::new(ErrorClass::Transient, "broken", "the connection broke");
                let not_before_millis = if how % 5 == 2 { now_millis - 1 } else { now_millis + 5_000 };
                let track = &mut self.step_mut(step).work;
                put_state(track, ordinal, TaskState::RetryWait);
                let failed_on: &[&str] = [&[][..], &["w0"], &["w1", "w0"]][usize::from(how / 5) % 3];
                let failed_on = failed_on.iter().map(|worker| worker.parse().unwrap()).collect();
                let history = TaskHistory { failed_on, ..TaskHistory::default() };
                let record = RetryRecord { address, attempts: 1, history, not_before_millis, error };
                track.retries.insert(ordinal, Held { record, bytes: Vec::new() });
            }
            _ => put_state(&mut self.step_mut(step).work, ordinal, TaskState::Pending),
        }
        self.reindex();
    }

    /// An attempt ends well.
    pub(crate) fn end(&mut self, run: RunId, address: &TaskAddress) {
        let step = self.cluster.runs.get_mut(&run).unwrap().steps.get_mut(&address.step).unwrap();
        put_state(step.track_mut(address.generation), address.ordinal, TaskState::Done);
        self.reindex();
    }

    /// The fence of a step stands.
    pub(crate) fn finish_wide(&mut self, step: &str) {
        put_state(&mut self.step_mut(step).wide, FENCE_ORDINAL, TaskState::Done);
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
        let strategy = self.run().spec.steps[&step.parse::<StepName>().unwrap()].strategy.clone();
        self.step_mut(step).work = Track::planned(Arc::new(plan), &strategy);
    }
}

fn give_now(view: &mut View, address: &TaskAddress) {
    let run = view.run().id;
    give(view, run, address, SessionId::from_bytes([9; 16]), 0);
}
