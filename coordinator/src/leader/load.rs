//! The barrier read: everything the store holds, as of one instant, made into the view of a new
//! term.

mod placing;
mod schedules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_common::id::{ClusterId, DocumentDigest, PipelineName, RunId, StepName, WorkerId};
use highwater_common::plan::{Plan, StepPlan};
use highwater_common::record::{
    DeadRecord, FormatRecord, LeaseRecord, RetryRecord, RunRecord, ScheduleRecord, StepRecord,
    WorkerRecord,
};
use highwater_common::spec::{self, Spec};
use highwater_proto::convert::FieldError;
use highwater_proto::convert::records::{StoredRecord, hi_from_bytes, part_from_bytes};

use placing::TaskPlace;

use super::contain::contained;
use super::facts;
use super::fresh_run::new_run;
use super::planning::set_plan;
use crate::engine::{Cluster, Leases, Run, Session, Stored};
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
}

/// What the store holds, and the high part of its tokens.
pub(crate) struct Loaded {
    pub(crate) cluster: Cluster,
    pub(crate) hi: Option<u64>,
    /// Records that no run refers to.
    pub(crate) orphans: Vec<Key>,
    /// The number of the latest record of what an operator did.
    pub(crate) audits: u64,
}

/// A step's record, if it can be read, and its bytes.
type FoundStep = (Option<StepRecord>, Vec<u8>);

/// Every record, sorted by what it is about.
#[derive(Default)]
struct Shelf {
    format: Option<FormatRecord>,
    hi: Option<u64>,
    audits: u64,
    workers: BTreeMap<WorkerId, WorkerRecord>,
    specs: BTreeMap<(PipelineName, DocumentDigest), Vec<u8>>,
    runs: BTreeMap<RunId, (RunRecord, Vec<u8>)>,
    facts: BTreeMap<(RunId, StepName), BTreeMap<u32, Vec<u8>>>,
    plans: BTreeMap<(RunId, u32, StepName), Vec<u8>>,
    /// With the bytes, which a later transaction compares: also of a record that cannot be read.
    steps: BTreeMap<(RunId, u32, StepName), FoundStep>,
    segments: Vec<(TaskPlace, u64, Vec<u8>)>,
    leases: Vec<(RunId, Stored<LeaseRecord>)>,
    retries: Vec<(RunId, Stored<RetryRecord>)>,
    dead: Vec<(RunId, Stored<DeadRecord>)>,
    keys: Vec<(Owner, Key)>,
    /// What cannot be read of a run, or of the spec of several; the first of each.
    damage: BTreeMap<RunId, String>,
    damaged_specs: BTreeMap<(PipelineName, DocumentDigest), String>,
    /// With the bytes, also of a record that cannot be read.
    schedules: BTreeMap<PipelineName, (Result<ScheduleRecord, FieldError>, Vec<u8>)>,
    /// Runs whose own record cannot be read.
    unread: BTreeSet<RunId>,
}

/// Who a record belongs to, and must not outlive.
#[derive(Clone)]
enum Owner {
    Run(RunId),
    Spec(PipelineName, DocumentDigest),
}

/// Reads everything. The time of the known sessions begins with the term, and not before all is
/// read.
///
/// # Errors
/// [`LoadError`] when the store does not answer, or holds what this version cannot read.
pub(crate) async fn load(
    store: &dyn RecordStore,
    fallback: ClusterId,
) -> Result<Loaded, LoadError> {
    let mut shelf = Shelf::default();
    for (key, value) in store.scan("").await? {
        shelf.put(&key, value)?;
    }
    let mut cluster = Cluster {
        id: shelf
            .format
            .as_ref()
            .map_or(fallback, |format| format.cluster),
        pools: BTreeMap::new(), // like what follows an option of whoever leads
        is_one_machine: false,
        runs: BTreeMap::new(),
        sessions: BTreeMap::new(),
        leases: Leases::default(),
        schedules: BTreeMap::new(),
    };
    for (worker, record) in std::mem::take(&mut shelf.workers) {
        let (deadline, heard) = (Duration::ZERO, Duration::ZERO);
        let session = Session {
            worker,
            deadline,
            heard,
            draining: false,
            told_to_drain: false,
            record,
        };
        cluster.sessions.insert(session.record.session, session);
    }
    let (hi, audits) = (shelf.hi, shelf.audits);
    let orphans = shelf.take_orphans();
    for (id, (record, stored)) in std::mem::take(&mut shelf.runs) {
        cluster.runs.insert(id, shelf.run(id, record, stored));
    }
    shelf.put_schedules(&mut cluster);
    shelf.place_tasks(&mut cluster);
    cluster.find_leases(Duration::ZERO);
    Ok(Loaded {
        cluster,
        hi,
        orphans,
        audits,
    })
}

impl Shelf {
    fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), LoadError> {
        let parsed = RecordKey::parse(key)?;
        let owner = owner(&parsed);
        self.keys
            .extend(owner.clone().map(|owner| (owner, key.to_owned())));
        let run = match &parsed {
            RecordKey::Run(run) => Some(*run),
            _ => None,
        };
        let Err(problem) = self.take(parsed, value) else {
            return Ok(());
        };
        match owner {
            // A record of another form is a sign of another version, which must not be taken for
            // damage.
            _ if problem.is_of_another_form() => Err(LoadError::Record {
                key: key.to_owned(),
                source: problem,
            }),
            Some(Owner::Run(run)) => {
                self.spoil(
                    run,
                    format!("the record at {key} cannot be read: {problem}"),
                );
                Ok(())
            }
            Some(Owner::Spec(name, digest)) => {
                self.damaged_specs
                    .entry((name, digest))
                    .or_insert_with(|| format!("{key}: {problem}"));
                Ok(())
            }
            None if run.is_some() => {
                tracing::error!(%key, %problem, "the record of a run cannot be read: the run is \
                    left out, and its records stay");
                self.unread.extend(run);
                Ok(())
            }
            None => Err(LoadError::Record {
                key: key.to_owned(),
                source: problem,
            }),
        }
    }

    /// Notes why a run cannot go on; the first reason stays.
    fn spoil(&mut self, run: RunId, why: String) {
        self.damage.entry(run).or_insert(why);
    }

    fn take(&mut self, key: RecordKey, value: Vec<u8>) -> Result<(), FieldError> {
        match key {
            RecordKey::Format => self.format = Some(FormatRecord::from_bytes(&value)?),
            RecordKey::High => self.hi = Some(hi_from_bytes(&value)?),
            RecordKey::Worker(id) => {
                self.workers.insert(id, WorkerRecord::from_bytes(&value)?);
            }
            RecordKey::Pipeline { name, digest, .. } => {
                let part = part_from_bytes(&value)?;
                // keys come in order, so parts do
                self.specs.entry((name, digest)).or_default().extend(part);
            }
            RecordKey::Run(id) => {
                self.runs
                    .insert(id, (RunRecord::from_bytes(&value)?, value));
            }
            RecordKey::Facts { run, step, part } => {
                self.facts
                    .entry((run, step))
                    .or_default()
                    .insert(part, part_from_bytes(&value)?);
            }
            RecordKey::Plan {
                run,
                generation,
                step,
                ..
            } => {
                self.plans
                    .entry((run, generation, step))
                    .or_default()
                    .extend(part_from_bytes(&value)?);
            }
            RecordKey::Step {
                run,
                generation,
                step,
            } => {
                let (record, problem) = match StepRecord::from_bytes(&value) {
                    Ok(record) => (Some(record), None),
                    Err(problem) => (None, Some(problem)),
                };
                self.steps.insert((run, generation, step), (record, value));
                return problem.map_or(Ok(()), Err);
            }
            RecordKey::Segment {
                run,
                generation,
                step,
                phase,
                number,
            } => {
                self.segments
                    .push(((run, generation, step, phase), u64::from(number), value));
            }
            RecordKey::Attempt { run, .. } => {
                self.leases.push((
                    run,
                    Stored {
                        record: LeaseRecord::from_bytes(&value)?,
                        bytes: value,
                    },
                ));
            }
            RecordKey::Retry { run, .. } => {
                self.retries.push((
                    run,
                    Stored {
                        record: RetryRecord::from_bytes(&value)?,
                        bytes: value,
                    },
                ));
            }
            RecordKey::Dead { run, .. } => {
                self.dead.push((
                    run,
                    Stored {
                        record: DeadRecord::from_bytes(&value)?,
                        bytes: value,
                    },
                ));
            }
            RecordKey::Schedule(name) => match ScheduleRecord::from_bytes(&value) {
                Err(problem) if problem.is_of_another_form() => return Err(problem),
                read => {
                    self.schedules.insert(name, (read, value));
                }
            },
            // The leader's own record was compared when it was put; the others are for people.
            RecordKey::Audit(number) => self.audits = self.audits.max(number),
            RecordKey::Leader | RecordKey::Watermark(_) => {}
        }
        Ok(())
    }

    /// The keys of records whose run is no more, or never came to be.
    fn take_orphans(&mut self) -> Vec<Key> {
        if !self.unread.is_empty() {
            return Vec::new(); // whose a record is cannot be told for certain
        }
        let keys = std::mem::take(&mut self.keys);
        let specs: BTreeSet<(&PipelineName, &DocumentDigest)> = self
            .runs
            .values()
            .map(|(record, _)| (&record.pipeline, &record.spec_digest))
            .collect();
        let is_orphan = |owner: &Owner| match owner {
            Owner::Run(run) => !self.runs.contains_key(run),
            Owner::Spec(name, digest) => {
                !specs.contains(&(name, digest)) && !self.is_scheduled(name, digest)
            }
        };
        keys.into_iter()
            .filter(|(owner, _)| is_orphan(owner))
            .map(|(_, key)| key)
            .collect()
    }

    /// The run with all that can be read of it. What cannot be read damages this run and no other.
    fn run(&mut self, id: RunId, record: RunRecord, stored: Vec<u8>) -> Run {
        let found = self.spec_of(&record.pipeline, record.spec_digest);
        let spec = found.unwrap_or_else(|why| {
            self.spoil(id, why);
            nothing(&record.pipeline)
        });
        let generation = record.generation;
        let mut run = new_run(id, record, stored, Arc::new(spec));
        let names: Vec<StepName> = run.steps.keys().cloned().collect();
        let mut plans = BTreeMap::new();
        let mut generations = BTreeMap::new();
        let mut records = Vec::new();
        for name in names {
            if let Some(parts) = self.facts.remove(&(id, name.clone())) {
                match facts::from_parts(parts) {
                    Ok(found) => run
                        .facts
                        .extend(found.map(|found| (name.clone(), Arc::new(found)))),
                    Err(problem) => {
                        self.spoil(id, format!("the facts of {name} cannot be read: {problem}"))
                    }
                }
            }
            // A plan of a later generation than the run's was cut off before it counted.
            let of_step =
                (1..=generation).filter(|no| self.plans.contains_key(&(id, *no, name.clone())));
            let of_step: Vec<u32> = of_step.collect();
            let latest = of_step.last().copied().unwrap_or(generation);
            generations.insert(
                name.clone(),
                (latest, u32::try_from(of_step.len()).unwrap_or(u32::MAX)),
            );
            if let Some(json) = self.plans.remove(&(id, latest, name.clone())) {
                // For instance because the zone's rules have changed since.
                let read = contained("reading a plan", || {
                    serde_json::from_slice::<StepPlan>(&json)
                });
                match read.and_then(|read| read.map_err(|error| error.to_string())) {
                    Ok(plan) => {
                        plans.insert(name.clone(), plan);
                    }
                    Err(why) => self.spoil(
                        id,
                        format!("the plan of {name} can no longer be read: {why}"),
                    ),
                }
            }
            records.extend(
                self.steps
                    .remove(&(id, latest, name.clone()))
                    .map(|found| (name, found)),
            );
        }
        if generation > 0 {
            let (digest, time) = (run.record.spec_digest, run.record.reference_time_micros);
            let plan = Arc::new(Plan {
                spec_digest: digest,
                reference_time_micros: time,
                steps: plans,
            });
            let latest = generations
                .iter()
                .map(|(name, (latest, _))| (name.clone(), *latest))
                .collect();
            let derived = contained("loading the run", || {
                highwater_runtime::failpoint::panic_at("load", &run.record.pipeline);
                let mut planned = run.clone();
                set_plan(&mut planned, plan, &latest);
                planned
            });
            match derived {
                Ok(planned) => run = planned,
                Err(panic) => self.spoil(id, panic),
            }
        }
        for (name, (record, bytes)) in records {
            if let Some(step) = run.steps.get_mut(&name) {
                step.record = record.unwrap_or_else(|| step.record.clone());
                step.stored = Some(bytes);
            }
        }
        for (name, (latest, plans)) in generations {
            if let Some(step) = run.steps.get_mut(&name) {
                // also without a plan that can be read: its records are kept under it
                step.generation = latest;
                step.replans = plans.saturating_sub(1);
            }
        }
        run
    }

    /// The spec of a pipeline, or in words why it cannot be read.
    fn spec_of(&self, name: &PipelineName, digest: DocumentDigest) -> Result<Spec, String> {
        let key = (name.clone(), digest);
        let place = format!("pipeline/{}/{}", key.0, key.1);
        if let Some(why) = self.damaged_specs.get(&key) {
            return Err(format!("the stored spec cannot be read: {why}"));
        }
        let Some(canonical) = self.specs.get(&key) else {
            return Err(format!("the stored spec {place} is missing"));
        };
        let read = contained("reading a spec", || spec::from_canonical(canonical))?;
        read.map_err(|problems| {
            format!(
                "the stored spec {place} cannot be read: {}",
                listed(&problems)
            )
        })
    }
}

/// A spec that says nothing, in place of one that cannot be read.
fn nothing(pipeline: &PipelineName) -> Spec {
    Spec {
        version: 1,
        name: pipeline.clone(),
        connections: BTreeMap::new(),
        limits: spec::RunLimits {
            tasks: None,
            priority: None,
        },
        pools: BTreeMap::new(),
        schedule: None,
        steps: BTreeMap::new(),
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
        | RecordKey::Schedule(_)
        | RecordKey::Audit(_) => None,
    }
}

/// Problems, one after the other.
pub(crate) fn listed(problems: &[spec::Problem]) -> String {
    problems
        .iter()
        .map(|problem| problem.message.clone())
        .collect::<Vec<_>>()
        .join("; ")
}
