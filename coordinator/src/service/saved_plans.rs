//! Plans that are saved, and those that come back.

use highwater_common::id::RunId;
use highwater_common::saved_plan::{SAVED_PLAN, SavedPlan};
use highwater_common::spec::Spec;
use highwater_proto::convert::FieldError;

use crate::error::ServiceError;
use crate::leader::Leader;

/// The plan of a submission that brings one.
pub(super) fn saved_plan(
    json: &[u8],
    plan_only: bool,
    spec: &Spec,
) -> Result<Option<Box<SavedPlan>>, ServiceError> {
    let wrong = |why: String| ServiceError::from(FieldError::new("saved_plan", why));
    if json.is_empty() {
        return Ok(None);
    }
    if plan_only {
        return Err(wrong("it is run, and not planned again".to_owned()));
    }
    let plan = SavedPlan::from_json(json).map_err(wrong)?;
    if plan.spec != *spec {
        return Err(wrong("it is of another spec than the run".to_owned()));
    }
    Ok(Some(Box::new(plan)))
}

/// All that a run's plan is made from.
pub(super) fn to_save(leader: &Leader, id: RunId) -> Result<SavedPlan, ServiceError> {
    let cluster = leader.cluster();
    let run = cluster
        .runs
        .get(&id)
        .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
    if !run.record.controls.selected.is_empty() {
        return Err(ServiceError::PartOfAPlan);
    }
    let plan = run
        .plan
        .as_ref()
        .ok_or_else(|| ServiceError::NeverPlanned {
            run: leader.short_of(&id),
        })?;
    let facts = run.facts.iter();
    Ok(SavedPlan {
        schema: SAVED_PLAN.to_owned(),
        cluster: cluster.id,
        spec_digest: run.record.spec_digest,
        plan_digest: plan.digest(),
        reference_time_micros: run.record.reference_time_micros,
        base_dir: run.record.base_dir.clone(),
        spec: run.spec.as_ref().clone(),
        facts: facts
            .map(|(step, facts)| (step.clone(), facts.as_ref().clone()))
            .collect(),
    })
}
