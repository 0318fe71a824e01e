//! The claim of a slice: who may load it, and what is left to be loaded.

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::error_code::ErrorCode;
use highwater_common::range::Slice;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;

use super::chunks::move_chunks;
use super::{AttemptContext, superseded};
use crate::connector::{Claim, ClaimOutcome};
use crate::patience::Call;

/// Claims the task, moves what is left of its slice, and commits the rows with its ledger row.
pub(crate) async fn move_slice(
    cx: &AttemptContext<'_>,
    slice: Slice,
) -> Result<Outcome, AttemptError> {
    let (context, assignment) = (cx.of, cx.assignment);
    let (order, load_order) = (&context.order, context.load_order()?);
    let target = context.target()?;
    let claim = Claim {
        cluster: order.cluster,
        run: order.run,
        task: assignment.task,
        generation: order.generation,
        plan: PlanMark::of(order.generation, &load_order.cut),
        step: order.step.clone(),
        phase: assignment.phase,
        ordinal: assignment.ordinal,
        stream: load_order.stream.clone(),
        slice,
        attempt: assignment.attempt,
        fence: assignment.fence,
        spec_digest: order.spec_digest,
        fingerprint: load_order.target_fingerprint.clone(),
    };
    failpoint::hit_on("attempt::before_claim", &context.worker).await?;
    match context.of_target(Call::Claim, target.claim(&claim)).await? {
        ClaimOutcome::Held(claimed) => {
            failpoint::hit_on("attempt::after_claim", &context.worker).await?;
            move_chunks(cx, target.as_ref(), claimed, slice).await
        }
        ClaimOutcome::Committed(receipt) => Ok(Outcome::Committed(receipt)),
        ClaimOutcome::Superseded => superseded(context, target.as_ref()).await,
        ClaimOutcome::Fenced { newer } => Ok(Outcome::Fenced { newer }),
        ClaimOutcome::SpecChanged => Err(spec_changed()),
        ClaimOutcome::PlanChanged => Err(plan_changed()),
    }
}

pub(super) fn spec_changed() -> AttemptError {
    let message = "the target holds this task for another version of the spec: begin a new run \
                   with `--new`";
    AttemptError::new(ErrorClass::Permanent, ErrorCode::SpecChanged, message)
}

fn plan_changed() -> AttemptError {
    let message = "the run has loaded the target under another plan since, which the store does \
                   not know, so that this one's tasks could load rows twice: was the store put \
                   back to a backup? Begin a new run with `--new`";
    AttemptError::new(ErrorClass::Permanent, ErrorCode::PlanChanged, message)
}
