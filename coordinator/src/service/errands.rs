//! What a person may ask of the targets beside a run: checked before a run is begun for it.

use highwater_common::errand::{Clean, Errand, Forget, PlaceWatermark, Resync, Undo};
use highwater_common::id::{PipelineName, StepName};
use highwater_common::roles::Role;
use highwater_common::spec;
use highwater_proto::convert::FieldError;
use tonic::Status;

use super::gate::Permit;
use crate::error::ServiceError;

/// Refuses an errand that no step of the spec can do.
pub(super) fn check_errand(
    errand: &Errand,
    plan_only: bool,
    spec: &spec::Spec,
) -> Result<(), ServiceError> {
    let wrong = |problem: &str| Err(FieldError::new("errand", problem.to_owned()).into());
    if !plan_only {
        return wrong("it goes together with plan_only");
    }
    match errand.reason() {
        Some(reason) if reason.trim().is_empty() => return wrong("the reason is empty"),
        Some(reason) if reason.len() > Errand::REASON_BYTES_MAX => {
            return wrong("the reason is too long: at most 1024 bytes");
        }
        Some(_) | None => {}
    }
    let step = match errand {
        Errand::Show { step } | Errand::Standing { step } | Errand::Clean(Clean { step, .. }) => {
            step.as_ref()
        }
        Errand::Resync(Resync { step, .. }) => {
            let known = spec.steps.get(step);
            if known.is_some_and(|known| known.strategy.load().log().is_none()) {
                return wrong("the step follows no log: only `cdc` does");
            }
            Some(step)
        }
        Errand::Forget(Forget { step, .. }) => Some(step),
        Errand::PlaceWatermark(PlaceWatermark { step, .. }) => {
            let kept = spec.steps.get(step).map(|step| {
                let window = step.strategy.load().probe().and_then(|asked| asked.window);
                window.is_some_and(|window| window.keeps_watermark && !window.follows_log)
            });
            if kept == Some(false) {
                return wrong("the step keeps no watermark: only `incremental` does");
            }
            Some(step)
        }
        Errand::Undo(Undo { step, .. }) => {
            let known = spec.steps.get(step);
            if known.is_some_and(|known| known.strategy.load().exchange_lock_wait().is_none()) {
                return Err(ServiceError::NoExchange(step.clone()));
            }
            Some(step)
        }
    };
    let moves_rows = |name: &StepName| {
        spec.steps
            .get(name)
            .is_some_and(|step| step.strategy.load().sides().target.is_some())
    };
    match step.filter(|name| !moves_rows(name)) {
        Some(name) if !spec.steps.contains_key(name) => {
            Err(ServiceError::UnknownStep(name.clone()))
        }
        Some(_) => wrong("the step moves no rows, so no ledger knows it"),
        None => Ok(()),
    }
}

/// Refuses what its caller may not submit of this pipeline. Whoever takes back what was loaded, or over
/// what belongs to another cluster, is an admin.
pub(super) fn permit_submission(
    permit: &Permit,
    adopts: bool,
    errand: Option<&Errand>,
    pipeline: &PipelineName,
) -> Result<(), Status> {
    if adopts {
        return permit.check("an adoption", Role::Admin, None);
    }
    let (what, needs) = match errand {
        None => ("Submit", Role::Operator),
        Some(
            Errand::Show { .. }
            | Errand::Standing { .. }
            | Errand::Clean(Clean { drops: false, .. }),
        ) => ("a look at targets", Role::Operator),
        Some(Errand::Clean(Clean { drops: true, .. })) => ("dropping tables", Role::Admin),
        Some(Errand::Forget(_)) => ("forgetting receipts", Role::Admin),
        Some(Errand::Undo(_)) => ("undoing a swap", Role::Admin),
        Some(Errand::PlaceWatermark(_)) => ("placing a watermark", Role::Admin),
        Some(Errand::Resync(_)) => ("a log begun anew", Role::Admin),
    };
    permit.check(what, needs, Some(pipeline))
}
