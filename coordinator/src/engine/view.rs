//! The leader's picture of everything it commands: what the store holds, and who is alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{LoadOrder, StepOrder, Work};
use highwater_common::capability::Capabilities;
use highwater_common::dag::Dag;
use highwater_common::errand::Errand;
use highwater_common::facts::StepFacts;
use highwater_common::id::{
    ClusterId, DocumentDigest, PipelineName, PoolName, RunId, SessionId, StepName, TaskId, WorkerId,
};
use highwater_common::plan::{PhaseKind, Plan};
use highwater_common::record::{RunIntent, RunRecord, TaskAddress, WorkerRecord};
use highwater_common::spec::Spec;
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::turn::PRIORITY;

use super::leases::{Leases, OpenLease};
use super::outages::Outages;
use super::scheduled::Scheduled;
use super::step::{Stage, Step};
use super::task_table::TaskTable;

/// Everything the leader knows. Rebuilt from the store at the start of each term.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// Whose store this is.
    pub id: ClusterId,
    /// The pools that hold over all runs: tasks at once, by name.
    pub pools: BTreeMap<PoolName, u32>,
    /// Its workers are all of one machine, and of one process: then each carries every label.
    pub is_one_machine: bool,
    /// The runs, ended ones too.
    pub runs: BTreeMap<RunId, Run>,
    /// The workers that are connected.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Who holds which task; follows from the runs.
    pub leases: Leases,
    /// The pipelines that run by themselves.
    pub schedules: BTreeMap<PipelineName, Scheduled>,
}

/// A worker that is connected.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// What it calls itself.
    pub worker: WorkerId,
    /// What the store holds of it.
    pub record: WorkerRecord,
    /// When its session ends unless it is heard of, by the leader's monotonic clock.
    pub deadline: Duration,
    /// When it was last heard of.
    pub heard: Duration,
    /// It takes no more work.
    pub draining: bool,
    /// An operator asked it to finish and end; told with its next heartbeat.
    pub(crate) told_to_drain: bool,
}

impl Session {
    /// Whether it may be given new tasks.
    #[must_use]
    pub(crate) const fn takes_work(&self) -> bool {
        !self.draining && !self.record.cordoned
    }

    /// What it can run.
    #[must_use]
    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities::of_worker(&self.record.capabilities, self.record.allow_noop)
    }
}

/// An order as its workers get it: the digest, and the JSON of a `StepOrder`.
pub(crate) type OrderText = (DocumentDigest, Arc<Vec<u8>>);

/// A run with its plan and its steps.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The run.
    pub id: RunId,
    /// What the store holds of it.
    pub record: RunRecord,
    /// The record's bytes in the store.
    pub stored: Vec<u8>,
    /// What it executes: the steps that were asked for.
    pub spec: Arc<Spec>,
    /// Its pipeline, with the steps that were not.
    pub whole: Arc<Spec>,
    /// The order of its steps.
    pub dag: Arc<Dag>,
    /// What the probes found.
    pub facts: BTreeMap<StepName, Arc<StepFacts>>,
    /// What will be done, once planned.
    pub plan: Option<Arc<Plan>>,
    /// Its steps.
    pub steps: BTreeMap<StepName, Step>,
    /// Why the run cannot go on, when what the store holds of it can no longer be carried out.
    pub(crate) damage: Option<String>,
    /// The connections that could not be reached lately.
    pub(crate) outages: Outages,
    /// When the leader first looked after anything of it had moved, or after it was first seen in this
    /// term: in milliseconds since 1970, by the leader's clock. What it has waited since then only
    /// decides whose turn it is.
    pub(crate) moved_millis: Option<i64>,
    /// What the workers are told of a step, by generation.
    pub orders: BTreeMap<(StepName, u32), OrderText>,
}

impl Run {
    /// False when the spec cannot be read: then nobody knows steps, tables or targets.
    #[must_use]
    pub(crate) fn knows_its_steps(&self) -> bool {
        self.damage.is_none() || !self.spec.steps.is_empty()
    }

    /// True while a later run of the pipeline waits for this one. A run that is cancelled before it
    /// had a plan is no reason to wait: whatever of it may be under way, the later one fences it,
    /// stream by stream.
    #[must_use]
    pub(crate) fn holds_back(&self) -> bool {
        self.is_active()
            && !(self.record.intent == RunIntent::Cancel && self.record.generation == 0)
    }

    /// True while a person takes back by it what other runs of the pipeline have loaded: none of
    /// them goes on meanwhile.
    #[must_use]
    pub(crate) fn takes_back(&self) -> bool {
        self.record.status == RunStatus::Planning
            && (self.record.errand.as_ref()).is_some_and(Errand::takes_back)
    }

    /// True when the run may have changed a target, as far as the store knows: it had a plan that
    /// somebody wanted to run, or still may get one.
    #[must_use]
    pub(crate) fn may_have_begun(&self) -> bool {
        self.record.intent != RunIntent::Plan
            && (self.record.generation > 0 || !self.record.status.has_ended())
    }

    /// True while the run may still commit something, or holds the pipeline.
    #[must_use]
    pub(crate) fn is_active(&self) -> bool {
        !self.record.status.has_ended() && self.record.intent != RunIntent::Plan
    }

    /// Why an operator wants no task of a step to be handed out, if one does. What ends a cancelled
    /// run waits for nobody.
    #[must_use]
    pub(crate) fn hold(&self, name: &StepName) -> Option<String> {
        if self.record.status == RunStatus::Cancelling || self.record.controls.is_empty() {
            return None;
        }
        let sides = self.spec.steps.get(name)?.strategy.load().sides();
        self.record.controls.hold(name, sides.connections())
    }

    /// How many tasks of the run may be open at once: what an operator said, or else its file.
    #[must_use]
    pub(crate) fn tasks_max(&self) -> Option<u32> {
        self.record.controls.limits.tasks.or(self.spec.limits.tasks)
    }

    /// Its priority among runs: what an operator said, or else its file.
    #[must_use]
    pub(crate) fn priority(&self) -> u32 {
        let said = self.record.controls.limits.priority;
        said.or(self.spec.limits.priority).unwrap_or(PRIORITY)
    }

    /// How many tasks of a step may be open at once.
    #[must_use]
    pub(crate) fn step_tasks_max(&self, name: &StepName) -> Option<u32> {
        let said = self.record.controls.limits.steps.get(name).copied();
        said.or_else(|| self.spec.steps.get(name)?.limits.tasks)
    }

    /// What the task at `address` does. `None` for an address outside the plan.
    #[must_use]
    pub(crate) fn work(&self, address: &TaskAddress) -> Option<Work> {
        if address.generation == 0 {
            return match (PhaseKind::of_no_plan(address.phase)?, address.ordinal) {
                (PhaseKind::Probe, 0) => Some(Work::Probe),
                (PhaseKind::Fence, 0) => Some(Work::Fence),
                (_, _) => None,
            };
        }
        // Of a plan that the step no longer follows nothing is known.
        let step = self
            .steps
            .get(&address.step)
            .filter(|step| step.generation == address.generation)?;
        step.plan.as_ref()?.work(address.phase, address.ordinal)
    }

    /// What the task at `address` is for.
    #[must_use]
    pub(crate) fn kind(&self, address: &TaskAddress) -> Option<PhaseKind> {
        self.steps
            .get(&address.step)?
            .kind(address.generation, address.phase)
    }

    /// The tasks beside the one at `address`, and itself.
    #[must_use]
    pub(crate) fn table(&self, address: &TaskAddress) -> Option<&TaskTable> {
        self.steps.get(&address.step)?.table_of(address)
    }

    /// The phase of a step whose tasks may be handed out, by generation and number.
    #[must_use]
    pub(crate) fn due_phase(&self, name: &StepName) -> Option<(u32, u8)> {
        const PROBE: (u32, u8) = (0, 0);
        const FENCE: (u32, u8) = (0, 1);
        let (step, known) = (self.steps.get(name)?, self.spec.steps.get(name)?);
        match self.record.status {
            RunStatus::Planning => self.probes(name).then_some(PROBE),
            RunStatus::Cancelling => known.strategy.load().sides().target.map(|_| FENCE),
            RunStatus::Running if step.is_replanned() => Some(PROBE),
            RunStatus::Running if step.record.status == StepStatus::Running => {
                match step.stage(known.tolerate_dead) {
                    Stage::In(phase) => Some((step.generation, step.due_before(phase))),
                    Stage::Failed(_) | Stage::Over => None,
                }
            }
            RunStatus::Planned
            | RunStatus::Running
            | RunStatus::Success
            | RunStatus::Failed
            | RunStatus::Cancelled => None,
        }
    }

    /// True while somebody holds the task at `address`.
    #[must_use]
    pub(crate) fn is_open(&self, address: &TaskAddress) -> bool {
        let is_current =
            |step: &&Step| address.generation == 0 || address.generation == step.generation;
        let step = self.steps.get(&address.step).filter(is_current);
        let table = step.and_then(|step| step.table_of(address));
        table.is_some_and(|table| table.leases.contains_key(&address.ordinal))
    }

    fn open_leases(&self, since: Duration) -> impl Iterator<Item = (TaskId, OpenLease)> {
        let tables = self.steps.values().flat_map(Step::tables);
        let held = tables.flat_map(|table| table.leases.values());
        held.filter_map(move |held| {
            let (address, session) = (held.record.address.clone(), held.record.session);
            let lease = OpenLease {
                run: self.id,
                address,
                session,
                since,
                doing: None,
            };
            Some((self.task_id(&lease.address)?, lease))
        })
    }

    /// The id of the task at `address`.
    #[must_use]
    pub(crate) fn task_id(&self, address: &TaskAddress) -> Option<TaskId> {
        let work = self.work(address)?;
        Some(TaskId::derive(
            &self.id,
            address.generation,
            &address.step,
            address.phase,
            &work.to_string(),
        ))
    }

    /// What all tasks of a step and generation have in common. `None` for an unknown step.
    #[must_use]
    pub(crate) fn order(
        &self,
        cluster: ClusterId,
        step: &StepName,
        generation: u32,
    ) -> Option<StepOrder> {
        let known = self.spec.steps.get(step)?;
        let sides = known.strategy.load().sides();
        let connection = |name| self.spec.connections.get(name).cloned();
        let source = match sides.source {
            Some(source) => Some((connection(&source.connection)?, source.clone())),
            None => None,
        };
        let target = match sides.target {
            Some(target) => Some((connection(&target.connection)?, target.clone())),
            None => None,
        };
        let load_order = match generation {
            0 => None,
            _ => self.steps.get(step).and_then(|step| {
                let load_order = step.plan.as_ref()?.load_order.clone()?;
                let target_fingerprint = step.fingerprint()?.to_owned();
                Some(LoadOrder {
                    target_fingerprint,
                    ..load_order
                })
            }),
        };
        Some(StepOrder {
            cluster,
            run: self.id,
            pipeline: self.record.pipeline.clone(),
            generation,
            step: step.clone(),
            spec_digest: self.record.spec_digest,
            base_dir: self.record.base_dir.clone(),
            reference_time_micros: self.record.reference_time_micros,
            strategy: known.strategy.clone(),
            attempt_millis_max: known.limits.attempt.map(millis),
            stall_millis_max: millis(known.limits.stall),
            source,
            target,
            load_order,
            adopts: generation == 0 && self.record.adopts,
            errand: self
                .record
                .errand
                .clone()
                .filter(|errand| generation == 0 && errand.is_about(step)),
            trace: self.record.trace,
        })
    }

    /// The order of a step and generation as its workers get it, made once.
    pub(crate) fn order_document(
        &mut self,
        cluster: ClusterId,
        address: &TaskAddress,
    ) -> Option<(DocumentDigest, Arc<Vec<u8>>)> {
        let generation = address.generation;
        let key = (address.step.clone(), generation);
        if let Some((digest, json)) = self.orders.get(&key) {
            return Some((*digest, Arc::clone(json)));
        }
        let order = self.order(cluster, &address.step, generation)?;
        let json = Arc::new(serde_json::to_vec(&order).ok()?);
        let digest = DocumentDigest::of(&json);
        self.orders.insert(key, (digest, Arc::clone(&json)));
        Some((digest, json))
    }

    /// Whether the run has something to find out about a step before it has a plan.
    #[must_use]
    pub(crate) fn probes(&self, name: &StepName) -> bool {
        let has_probe = self
            .spec
            .steps
            .get(name)
            .is_some_and(|step| step.strategy.load().probe().is_some());
        has_probe
            && self
                .record
                .errand
                .as_ref()
                .is_none_or(|errand| errand.is_about(name))
    }

    /// True while tasks of the run may be handed out at all.
    #[must_use]
    pub(crate) const fn wants_work(&self) -> bool {
        match self.record.status {
            RunStatus::Planning | RunStatus::Running | RunStatus::Cancelling => true,
            RunStatus::Planned | RunStatus::Success | RunStatus::Failed | RunStatus::Cancelled => {
                false
            }
        }
    }
}

impl Cluster {
    /// Finds anew who holds which task, as of `since`: from the leases of all runs.
    pub(crate) fn find_leases(&mut self, since: Duration) {
        let runs = self.runs.values();
        self.leases = runs.flat_map(|run| run.open_leases(since)).collect();
    }

    /// True when an older run of the same pipeline must end before `run` may begin, or an errand
    /// that takes something back. A plan alone touches nothing and waits for nobody.
    #[must_use]
    pub(crate) fn is_held_back(&self, run: &Run) -> bool {
        run.record.intent != RunIntent::Plan
            && self.runs.values().any(|other| {
                other.id != run.id
                    && other.record.pipeline == run.record.pipeline
                    && (other.holds_back() || other.takes_back())
                    && (other.record.reference_time_micros, other.id)
                        < (run.record.reference_time_micros, run.id)
            })
    }

    /// The latest run of the pipeline of `run` that came after it and may have changed a target: it
    /// owns their streams now, and `run` is superseded for ever.
    #[must_use]
    pub(crate) fn successor(&self, run: &Run) -> Option<&Run> {
        let began = |run: &Run| (run.record.reference_time_micros, run.id);
        let later = self.runs.values().filter(|other| {
            other.record.pipeline == run.record.pipeline
                && other.may_have_begun()
                && began(other) > began(run)
        });
        later.max_by_key(|other| began(other))
    }

    /// The later run by which a person has undone an exchange of a run's pipeline, and the step. It
    /// is all that it did, and it is over once it has a plan.
    #[must_use]
    pub(crate) fn undone_by(&self, run: &Run) -> Option<(&Run, &StepName)> {
        let began = |run: &Run| (run.record.reference_time_micros, run.id);
        self.runs.values().find_map(|other| {
            let is_later = other.record.pipeline == run.record.pipeline
                && other.record.generation > 0
                && began(other) > began(run);
            match &other.record.errand {
                Some(Errand::Undo(undo)) if is_later => Some((other, &undo.step)),
                Some(
                    Errand::Undo(_)
                    | Errand::Forget(_)
                    | Errand::Clean(_)
                    | Errand::PlaceWatermark(_)
                    | Errand::Resync(_)
                    | Errand::Standing { .. }
                    | Errand::Show { .. },
                )
                | None => None,
            }
        })
    }

    /// The runs, newest first.
    #[must_use]
    pub(crate) fn newest_first(&self) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.values().collect();
        // A run of a saved plan has the time of the plan, and comes before it.
        let began = |run: &Run| {
            let is_run = run.record.intent != RunIntent::Plan;
            (run.record.reference_time_micros, is_run, run.id)
        };
        runs.sort_by_key(|run| std::cmp::Reverse(began(run)));
        runs
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
