//! A run's plan: made from what the probes found, frozen, and followed by its steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_common::id::{RunId, StepName};
use highwater_common::plan::Plan;
use highwater_common::record::RECORD_BYTES_MAX;
use highwater_common::status::RunEvent;
use highwater_proto::convert::records::document_to_parts;

use super::contain::contained;
use super::{Leader, TermEnded};
use crate::engine::Run;
use crate::store::keys::RecordKey;

impl Leader {
    /// Makes the plan from what the probes found, and freezes it.
    pub(super) async fn plan(&mut self, id: RunId) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let facts: BTreeMap<_, _> = run
            .facts
            .iter()
            .map(|(name, facts)| (name.clone(), facts.as_ref().clone()))
            .collect();
        // An errand is over with its probes: there is nothing to do afterwards.
        let (spec_digest, reference_time_micros) =
            (run.record.spec_digest, run.record.reference_time_micros);
        let planned = contained("planning", || {
            highwater_runtime::failpoint::panic_at("plan", &run.record.pipeline);
            let plan = match run.record.errand {
                Some(_) => Ok(Plan {
                    spec_digest,
                    reference_time_micros,
                    steps: BTreeMap::new(),
                }),
                None => Plan::new(&run.spec, spec_digest, reference_time_micros, &facts),
            };
            plan.inspect(look_through)
        });
        let plan = match planned {
            Ok(Ok(plan)) => Arc::new(plan),
            Err(panic) => return self.move_run(id, RunEvent::Refused, panic).await,
            Ok(Err(problems)) => {
                let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return self.move_run(id, RunEvent::Refused, text.join("\n")).await;
            }
        };
        let generation = 1;
        let mut parts = Vec::new();
        let mut plan_parts = 0;
        for (step, plan) in &plan.steps {
            let json = serde_json::to_vec(plan).unwrap_or_default();
            for (bytes, part) in document_to_parts(&json, RECORD_BYTES_MAX - 64)
                .into_iter()
                .zip(0..)
            {
                parts.push((
                    RecordKey::Plan {
                        run: id,
                        generation,
                        step: step.clone(),
                        part,
                    }
                    .render(),
                    bytes,
                ));
                plan_parts += 1;
            }
        }
        self.put_parts("plan_parts", parts).await?;
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let mut record = run.record.clone();
        record.generation = generation;
        record.plan_parts = plan_parts;
        record.plan_digest = Some(plan.digest());
        record.status = match record.status.apply(RunEvent::Planned) {
            Ok(status) => status,
            Err(illegal) => {
                tracing::error!(run = %id, %illegal, "a plan came for a run that needs none");
                return Ok(());
            }
        };
        self.put_run(id, record).await?;
        if let Some(run) = self.cluster.runs.get_mut(&id) {
            set_plan(run, plan, &BTreeMap::new());
        }
        Ok(())
    }
}

/// Derives what the leader will ask of a plan again and again, so that what cannot be derived shows
/// where it is contained.
pub(super) fn look_through(plan: &Plan) {
    for step in plan.steps.values() {
        for (number, phase) in step.numbered() {
            let last = phase.len().saturating_sub(1);
            for ordinal in [0, last / 2, last] {
                let _ = step.work(number, ordinal).map(|work| work.to_string());
            }
        }
    }
}

/// Gives a run its plan, and each step its tasks: under the first generation, or the one that it
/// was planned in last.
pub(super) fn set_plan(run: &mut Run, plan: Arc<Plan>, generations: &BTreeMap<StepName, u32>) {
    let names: Vec<StepName> = run.steps.keys().cloned().collect();
    run.plan = Some(plan);
    for name in names {
        follow_plan(run, &name, generations.get(&name).copied().unwrap_or(1));
    }
}

/// Gives a step the tasks that its run's plan has for it, as a generation of its own of which
/// nothing is stored yet.
pub(super) fn follow_plan(run: &mut Run, name: &StepName, generation: u32) {
    let planned = run.plan.as_ref().and_then(|plan| plan.steps.get(name));
    if let (Some(step), Some(planned)) = (run.steps.get_mut(name), planned) {
        step.follow(Arc::new(planned.clone()), generation);
    }
}
