//! The barrier read: everything the store holds, as of one instant, made into the view of a new term.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_common::facts::StepFacts;
use highwater_common::id::{ClusterId, DocumentDigest, PipelineName, RunId, StepName, WorkerId};
use highwater_common::plan::{Plan, StepPlan};
use highwater_common::record::{
    DeadRecord, FormatRecord, LeaseRecord, RetryRecord, RunRecord, StepRecord, WorkerRecord,
};
use highwater_common::segment::Segment;
use highwater_common::spec::{self, Spec};
use highwater_proto::convert::FieldError;
use highwater_proto::convert::records::{Stored, hi_from_bytes, part_from_bytes};

use super::runs::{new_run, set_plan};
use crate::engine::{Cluster, Held, Leases, Run, Session};
use crate::store::keys::{KeyError, RecordKey};
use crate::store::{Key, RecordStore, StoreError};

/// Why a store cannot be read as Highwater's.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store does not answer.
    #[error("failed to read the store")]
    Store(#[from] StoreError),
    /// A record is damaged, or of a form that this version does not know.
    #[error("the record at {key} cannot be read")]
    Record {
        /// Which.
        key: String,
        /// What is wrong with it.
        #[source]
        source: FieldError,
    },
    /// A key is none of ours.
    #[error("the store holds something that is not Highwater's")]
    Key(#[from] KeyError),
    /// A document is damaged, or was written by a version that knew other keys.
    #[error("the document at {key} cannot be read: {problem}")]
    Document {
        /// Which.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the store holds, and the high part of its tokens.
pub(crate) struct Loaded {
    pub(crate) cluster: Cluster,
    pub(crate) hi: Option<u64>,
    /// Records that no run refers to.
    pub(crate) orphans: Vec<Key>,
}

/// Every record, sorted by what it is about.
#[derive(Default)]
struct Shelf {
    format: Option<FormatRecord>,
    hi: Option<u64>,
    workers: BTreeMap<WorkerId, WorkerRecord>,
    specs: BTreeMap<(PipelineName, DocumentDigest), Vec<u8>>,
    runs: BTreeMap<RunId, (RunRecord, Vec<u8>)>,
    facts: BTreeMap<(RunId, StepName), Vec<u8>>,
    plans: BTreeMap<(RunId, u32, StepName), Vec<u8>>,
    steps: BTreeMap<(RunId, u32, StepName), (StepRecord, Vec<u8>)>,
    segments: Vec<(RunId, u32, StepName, u64, Vec<u8>)>,
    leases: Vec<(RunId, Held<LeaseRecord>)>,
    retries: Vec<(RunId, Held<RetryRecord>)>,
    dead: Vec<(RunId, Held<DeadRecord>)>,
    keys: Vec<(Owner, Key)>,
}

/// Who a record belongs to, and must not outlive.
enum Owner {
    Run(RunId),
    Spec(PipelineName, DocumentDigest),
}

/// Reads everything. The time of the known sessions begins with the term, and not before all is read.
///
/// # Errors
/// [`LoadError`] when the store does not answer, or holds what this version cannot read.
pub(crate) async fn load(store: &dyn RecordStore, fallback: ClusterId) -> Result<Loaded, LoadError> {
    let mut shelf = Shelf::default();
    for (key, value) in store.scan("").await? {
        shelf.put(&key, value)?;
    }
    let mut cluster = Cluster {
        id: shelf.format.as_ref().map_or(fallback, |format| format.cluster),
        pools: BTreeMap::new(), // like what follows an option of whoever leads
        is_one_machine: false,
        runs: BTreeMap::new(),
        sessions: BTreeMap::new(),
        leases: Leases::default(),
    };
    for (worker, record) in std::mem::take(&mut shelf.workers) {
        let (deadline, heard) = (Duration::ZERO, Duration::ZERO);
        let session = Session { worker, deadline, heard, draining: false, told_to_drain: false, record };
        cluster.sessions.insert(session.record.session, session);
    }
    let hi = shelf.hi;
    let orphans = shelf.take_orphans();
    for (id, (record, stored)) in std::mem::take(&mut shelf.runs) {
        cluster.runs.insert(id, shelf.run(id, record, stored)?);
    }
    shelf.place_tasks(&mut cluster)?;
    cluster.leases = Leases::of(&cluster.runs, Duration::ZERO);
    Ok(Loaded { cluster, hi, orphans })
}

impl Shelf {
    fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), LoadError> {
        let at = |source| LoadError::Record { key: key.to_owned(), source };
        let parsed = RecordKey::parse(key)?;
        self.keys.extend(owner(&parsed).map(|owner| (owner, key.to_owned())));
        match parsed {
            RecordKey::Format => self.format = Some(FormatRecord::from_bytes(&value).map_err(at)?),
            RecordKey::High => self.hi = Some(hi_from_bytes(&value).map_err(at)?),
            RecordKey::Worker(id) => {
                self.workers.insert(id, WorkerRecord::from_bytes(&value).map_err(at)?);
            }
            RecordKey::Pipeline { name, digest, .. } => {
                let part = part_from_bytes(&value).map_err(at)?;
                self.specs.entry((name, digest)).or_default().extend(part); // keys come in order, so parts do
            }
            RecordKey::Run(id) => {
                self.runs.insert(id, (RunRecord::from_bytes(&value).map_err(at)?, value));
            }
            RecordKey::Facts { run, step, .. } => {
                self.facts.entry((run, step)).or_default().extend(part_from_bytes(&value).map_err(at)?);
            }
            RecordKey::Plan { run, generation, step, .. } => {
                self.plans.entry((run, generation, step)).or_default().extend(part_from_bytes(&value).map_err(at)?);
            }
            RecordKey::Step { run, generation, step } => {
                self.steps.insert((run, generation, step), (StepRecord::from_bytes(&value).map_err(at)?, value));
            }
            RecordKey::Segment { run, generation, step, number } => {
                self.segments.push((run, generation, step, u64::from(number), value));
            }
            RecordKey::Attempt { run, .. } => {
                self.leases.push((run, Held { record: LeaseRecord::from_bytes(&value).map_err(at)?, bytes: value }));
            }
            RecordKey::Retry { run, .. } => {
                self.retries.push((run, Held { record: RetryRecord::from_bytes(&value).map_err(at)?, bytes: value }));
            }
            RecordKey::Dead { run, .. } => {
                self.dead.push((run, Held { record: DeadRecord::from_bytes(&value).map_err(at)?, bytes: value }));
            }
            // The leader's own record was compared when it was put; the others are for people.
            RecordKey::Leader | RecordKey::Watermark(_) | RecordKey::Audit(_) => {}
        }
        Ok(())
    }

    /// The keys of records whose run is no more, or never came to be.
    fn take_orphans(&mut self) -> Vec<Key> {
        let specs: BTreeSet<(&PipelineName, &DocumentDigest)> =
            self.runs.values().map(|(record, _)| (&record.pipeline, &record.spec_digest)).collect();
        let is_orphan = |owner: &Owner| match owner {
            Owner::Run(run) => !self.runs.contains_key(run),
            Owner::Spec(name, digest) => !specs.contains(&(name, digest)),
        };
        let keys = std::mem::take(&mut self.keys);
        keys.into_iter().filter(|(owner, _)| is_orphan(owner)).map(|(_, key)| key).collect()
    }

    fn run(&mut self, id: RunId, record: RunRecord, stored: Vec<u8>) -> Result<Run, LoadError> {
        let damaged = |key: String, problem: String| LoadError::Document { key, problem };
        let of_spec = (record.pipeline.clone(), record.spec_digest);
        let canonical = self.specs.get(&of_spec).map(Vec::as_slice).unwrap_or_default();
        let spec: Spec = spec::from_canonical(canonical)
            .map_err(|problems| damaged(format!("pipeline/{}/{}", of_spec.0, of_spec.1), listed(&problems)))?;
        let generation = record.generation;
        let mut run = new_run(id, record, stored, Arc::new(spec));
        let names: Vec<StepName> = run.steps.keys().cloned().collect();
        let mut plans = BTreeMap::new();
        for name in names {
            if let Some(json) = self.facts.remove(&(id, name.clone())) {
                let facts: StepFacts = serde_json::from_slice(&json)
                    .map_err(|error| damaged(format!("facts/{id}/{name}"), error.to_string()))?;
                run.facts.insert(name.clone(), Arc::new(facts));
            }
            if let Some(json) = self.plans.remove(&(id, generation, name.clone())) {
                // One plan that cannot be read, for instance because the zone's rules have changed since, ends its own run and
                // no other.
                match serde_json::from_slice::<StepPlan>(&json) {
                    Ok(plan) => {
                        plans.insert(name.clone(), plan);
                    }
                    Err(error) => run.damage = Some(format!("the plan of {name} can no longer be read: {error}")),
                }
            }
            if let Some((record, bytes)) = self.steps.remove(&(id, generation, name.clone()))
                && let Some(step) = run.steps.get_mut(&name)
            {
                step.record = record;
                step.stored = Some(bytes);
            }
        }
        if generation > 0 {
            let (digest, time) = (run.record.spec_digest, run.record.reference_time_micros);
            let plan = Plan { spec_digest: digest, reference_time_micros: time, steps: plans };
            set_plan(&mut run, Arc::new(plan));
        }
        Ok(run)
    }

    /// Puts every task where it stands.
    fn place_tasks(self, cluster: &mut Cluster) -> Result<(), LoadError> {
        for (run, generation, step, number, bytes) in self.segments {
            let Some(step) = cluster.runs.get_mut(&run).and_then(|run| run.steps.get_mut(&step)) else { continue };
            let segment = Segment::from_bytes(&bytes).map_err(|error| LoadError::Document {
                key: format!("seg/{run}/{generation}/…/{number}"),
                problem: error.to_string(),
            })?;
            step.track_mut(generation).load(number, segment, bytes);
        }
        for step in cluster.runs.values_mut().flat_map(|run| run.steps.values_mut()) {
            step.wide.settle();
            step.work.settle();
        }
        for (run, held) in self.leases {
            if let Some(step) = step_of(cluster, &run, &held.record.address.step) {
                step.track_mut(held.record.address.generation).leases.insert(held.record.address.ordinal, held);
            }
        }
        for (run, held) in self.retries {
            if let Some(step) = step_of(cluster, &run, &held.record.address.step) {
                step.track_mut(held.record.address.generation).retries.insert(held.record.address.ordinal, held);
            }
        }
        for (run, held) in self.dead {
            if let Some(step) = step_of(cluster, &run, &held.record.address.step) {
                step.track_mut(held.record.address.generation).dead.insert(held.record.address.ordinal, held);
            }
        }
        Ok(())
    }
}

/// Who the record at a key belongs to, if it must not outlive them.
fn owner(key: &RecordKey) -> Option<Owner> {
    match key {
        RecordKey::Pipeline { name, digest, .. } => Some(Owner::Spec(name.clone(), *digest)),
        RecordKey::Facts { run, .. }
        | RecordKey::Plan { run, .. }
        | RecordKey::Step { run, .. }
        | RecordKey::Segment { run, .. }
        | RecordKey::Attempt { run, .. }
        | RecordKey::Retry { run, .. }
        | RecordKey::Dead { run, .. } => Some(Owner::Run(*run)),
        RecordKey::Format
        | RecordKey::Leader
        | RecordKey::High
        | RecordKey::Worker(_)
        | RecordKey::Run(_)
        | RecordKey::Watermark(_)
        | RecordKey::Audit(_) => None,
    }
}

/// Problems, one after the other.
pub(crate) fn listed(problems: &[spec::Problem]) -> String {
    problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
}

fn step_of<'a>(cluster: &'a mut Cluster, run: &RunId, step: &StepName) -> Option<&'a mut crate::engine::Step> {
    cluster.runs.get_mut(run)?.steps.get_mut(step)
}
