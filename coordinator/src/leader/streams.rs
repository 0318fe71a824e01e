//! Streams: what a target says of whom they belong to, and what becomes of a step whose stream is
//! not as it was planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::StepFacts;
use highwater_common::id::{DocumentDigest, RunId, StepName, TaskId};
use highwater_common::plan::{Plan, StepPlan, plan_step};
use highwater_common::record::{RECORD_BYTES_MAX, RunIntent, TaskAddress};
use highwater_common::status::StepStatus;
use highwater_common::stream::{AfterFence, REPLANS_MAX, after_fence};
use highwater_proto::convert::records::document_to_parts;

use super::batch::Planned;
use super::contain::contained;
use super::planning::follow_plan;
use super::saved_plans::{may_plan_again, stale_step};
use super::word::Word;
use super::{Leader, TermEnded};
use crate::engine::{Change, ChangeKind};
use crate::store::Expect;
use crate::store::keys::{RecordKey, prefix};

impl Leader {
    /// A target says that nothing of a run commits any more, although the store wants it: another
    /// run took one of its streams, or it was cancelled and the store was put back to before that.
    /// Either way all of it ends, in every target.
    pub(super) async fn learn_of_fence(
        &mut self,
        task: &TaskId,
        by: Option<RunId>,
    ) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.leases.get(task).map(|open| open.run) else {
            return Ok(());
        };
        let wished = self
            .cluster
            .runs
            .get(&run)
            .is_some_and(|run| run.record.intent == RunIntent::Cancel);
        if wished {
            return Ok(());
        }
        let reason = match by {
            Some(by) => format!(
                "superseded: run {} of the pipeline took its stream in a target; what is missing \
                 is loaded by a new run",
                self.short_of(&by)
            ),
            None => "a target says that the run was cancelled".to_owned(),
        };
        let word = Word {
            by: "highwater".to_owned(),
            reason,
        };
        let _ = self.cancel(run, &word).await?;
        Ok(())
    }

    /// What a step does whose prepare found this coverage. `None` for a task that is nobody's any
    /// more.
    pub(super) fn after_fence(&self, task: &TaskId, found: &DocumentDigest) -> Option<AfterFence> {
        let (lease, run) = self.lease(task)?;
        let step = run.steps.get(&lease.address.step)?;
        Some(after_fence(
            step.plan.as_ref()?.depends_on.as_ref(),
            found,
            match run.record.is_saved && !may_plan_again(run, step, &lease.address.step) {
                true => REPLANS_MAX, // as it was shown, or not at all
                false => step.replans,
            },
        ))
    }

    /// Why the step of a task is not planned once more.
    pub(super) fn not_planned_again(&self, task: &TaskId) -> AttemptError {
        let is_saved = self.lease(task).is_some_and(|(_, run)| run.record.is_saved);
        match is_saved {
            true => stale_step(),
            false => unsettled(),
        }
    }

    /// T5: the changes that bring a step back to its probe, when its prepare found another coverage
    /// than the plan's. `None` when nothing is to be planned again.
    ///
    /// What was found out before goes first, and the prepare ends last: cut off in between, it is
    /// simply done once more.
    pub(super) async fn plan_again(
        &mut self,
        task: &TaskId,
        outcome: &Outcome,
    ) -> Result<Option<Vec<Planned>>, TermEnded> {
        let Outcome::Prepared { coverage, .. } = outcome else {
            return Ok(None);
        };
        if self.after_fence(task, coverage) != Some(AfterFence::PlanAgain) {
            return Ok(None);
        }
        let Some((lease, run)) = self.lease(task) else {
            return Ok(None);
        };
        let (id, address) = (run.id, lease.address.clone());
        let probe = TaskAddress {
            step: address.step.clone(),
            generation: 0,
            phase: 0,
            ordinal: 0,
        };
        let Some(probe_task) = run.task_id(&probe) else {
            return Ok(None);
        };
        tracing::info!(run = %id, step = %address.step, "others committed since the plan was made: \
            planning the step again");
        self.forget_facts(id, &address.step).await?;
        let reopen = Change {
            run: id,
            task: probe_task,
            address: probe,
            kind: ChangeKind::Reopen,
        };
        let supersede = Change {
            run: id,
            task: *task,
            address,
            kind: ChangeKind::Supersede,
        };
        Ok(Some(vec![reopen.into(), supersede.into()]))
    }

    /// New facts may have fewer parts, and none of the former ones must be left behind them. A
    /// store that was put back to when the run had no plan keeps them: there they are what the plan
    /// is to be made from, and nobody would find them out again.
    async fn forget_facts(&mut self, run: RunId, step: &StepName) -> Result<(), TermEnded> {
        let Some(known) = self.cluster.runs.get(&run) else {
            return Ok(());
        };
        let is_as_known = Expect::Bytes(RecordKey::Run(run).render(), known.stored.clone());
        let found = self
            .store
            .scan(&prefix::facts(&run))
            .await
            .map_err(TermEnded::Store)?;
        let is_of_step = |key: &String| matches!(RecordKey::parse(key), Ok(RecordKey::Facts { step: of, .. }) if of == *step);
        let keys = found
            .into_iter()
            .map(|(key, _)| key)
            .filter(is_of_step)
            .collect();
        self.delete_while(&[is_as_known], keys).await
    }

    /// Plans a step again from what its second probe found, under the run's next generation. The
    /// other steps go on under theirs.
    pub(super) async fn replan(&mut self, id: RunId, name: &StepName) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let (Some(known), Some(plan)) = (run.spec.steps.get(name), run.plan.clone()) else {
            return Ok(());
        };
        let facts: Option<Arc<StepFacts>> = run.facts.get(name).cloned();
        let planned = contained("planning", || {
            plan_step(&run.spec.name, name, known, facts.as_deref())
        });
        let planned = match planned {
            Ok(Ok(planned)) => planned,
            Err(panic) => return self.put_step(id, name, StepStatus::Failed, panic).await,
            Ok(Err(problems)) => {
                let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return self
                    .put_step(id, name, StepStatus::Failed, text.join("\n"))
                    .await;
            }
        };
        let generation = run.record.generation.saturating_add(1);
        let json = serde_json::to_vec(&planned).unwrap_or_default();
        let parts = document_to_parts(&json, RECORD_BYTES_MAX - 64)
            .into_iter()
            .zip(0..);
        let key = |part| {
            RecordKey::Plan {
                run: id,
                generation,
                step: name.clone(),
                part,
            }
            .render()
        };
        let parts: Vec<(String, Vec<u8>)> = parts.map(|(bytes, part)| (key(part), bytes)).collect();
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let mut steps: BTreeMap<StepName, StepPlan> = plan.steps.clone();
        steps.insert(name.clone(), planned);
        let plan = Plan {
            steps,
            ..plan.as_ref().clone()
        };
        let mut record = run.record.clone();
        record.generation = generation;
        record.plan_parts = record.plan_parts.saturating_add(count);
        record.plan_digest = Some(plan.digest());
        self.put_parts("plan_parts", parts).await?;
        self.put_run(id, record).await?;
        if let Some(run) = self.cluster.runs.get_mut(&id) {
            run.plan = Some(Arc::new(plan));
            if let Some(step) = run.steps.get_mut(name) {
                step.replans = step.replans.saturating_add(1);
            }
            follow_plan(run, name, generation);
        }
        Ok(())
    }
}

/// Why a step is not planned once more.
fn unsettled() -> AttemptError {
    let message = format!(
        "the step was planned {} times, and each time what the target's ledger holds of its stream \
         had changed before it could begin: does another cluster, or a person, write to the \
         ledger? Run the pipeline again once it is at rest",
        REPLANS_MAX + 1
    );
    AttemptError::new(ErrorClass::Permanent, ErrorCode::CoverageUnsettled, message)
}
