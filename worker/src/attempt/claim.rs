//! The claim of a slice: who may load it, and what is left to be loaded.

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::chunk::ChunkSize;
use highwater_common::error_code::ErrorCode;
use highwater_common::range::Slice;
use highwater_common::spec::Check;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;
use tracing::Instrument as _;

use super::chunks::move_chunks;
use super::lost_commit::spec_changed;
use super::{AttemptContext, superseded};
use crate::connector::{Claim, ClaimOutcome, HeldClaim, Target};
use crate::patience::Call;
use crate::traces;

/// Claims the task, moves what is left of its slice, and commits the rows with its ledger row.
///
/// Where it is moved in chunks, one that took a database longer than a statement may is tried again
/// at half its size, by the same attempt: it claims once more, and goes on behind what it has
/// committed. A host that is silent says nothing to smaller ones either, and ends the attempt.
/// `checks` are asked before the last commit, which is not made where one of them fails.
pub(crate) async fn move_slice(
    cx: &AttemptContext<'_>,
    slice: Slice,
    checks: &[Check],
) -> Result<Outcome, AttemptError> {
    let mut size = cx.of.load_order()?.chunk.as_ref().map(ChunkSize::first);
    loop {
        let error = match claim_and_move(cx, slice, checks, &mut size).await {
            Err(error) if error.code == ErrorCode::StatementTimeout => error,
            ended => return ended,
        };
        let Some(half) = size.and_then(ChunkSize::half) else {
            return Err(error);
        };
        let (task, rows) = (&cx.assignment.task, half.rows());
        tracing::warn!(%task, rows, %error.message, "a chunk took too long: it is tried in halves");
        size = Some(half);
    }
}

async fn claim_and_move(
    cx: &AttemptContext<'_>,
    slice: Slice,
    checks: &[Check],
    size: &mut Option<ChunkSize>,
) -> Result<Outcome, AttemptError> {
    let target = cx.of.target()?;
    match claim(cx, target.as_ref(), slice).await? {
        Claiming::Held(claimed) => {
            move_chunks(cx, target.as_ref(), claimed, slice, checks, size).await
        }
        Claiming::Over(outcome) => Ok(outcome),
    }
}

/// What came of a claim.
pub(super) enum Claiming {
    /// The work may begin.
    Held(HeldClaim),
    /// There is none, or it is not this attempt's.
    Over(Outcome),
}

/// Claims the task.
pub(super) async fn claim(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    slice: Slice,
) -> Result<Claiming, AttemptError> {
    let covers = !cx.of.load_order()?.write.mode.replaces_all();
    claim_of(cx, target, covers.then_some(slice)).await
}

/// Claims the task, which covers this slice if any.
pub(super) async fn claim_of(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    slice: Option<Slice>,
) -> Result<Claiming, AttemptError> {
    let (context, assignment) = (cx.of, cx.assignment);
    let (order, load_order) = (&context.order, context.load_order()?);
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
        runs_alone: load_order.write.runs_alone(),
        attempt: assignment.attempt,
        fence: assignment.fence,
        spec_digest: order.spec_digest,
        fingerprint: load_order.target_fingerprint.clone(),
    };
    failpoint::hit_on("attempt::before_claim", &context.worker).await?;
    let claiming = context.of_target(Call::Claim, target.claim(&claim));
    match claiming.instrument(traces::of_claim()).await? {
        ClaimOutcome::Held(claimed) => {
            failpoint::hit_on("attempt::after_claim", &context.worker).await?;
            Ok(Claiming::Held(claimed))
        }
        ClaimOutcome::Committed(receipt) => {
            cx.progress.count_commit("replayed"); // by an attempt before, whose answer was lost
            Ok(Claiming::Over(Outcome::Committed(receipt)))
        }
        ClaimOutcome::Superseded => superseded(context, target).await.map(Claiming::Over),
        ClaimOutcome::Fenced { newer } => Ok(Claiming::Over(Outcome::Fenced { newer })),
        ClaimOutcome::SpecChanged => Err(spec_changed()),
        ClaimOutcome::PlanChanged => Err(plan_changed()),
    }
}

fn plan_changed() -> AttemptError {
    let message = "the run has loaded the target under another plan since, which the store does \
                   not know, so that this one's tasks could load rows twice: was the store put \
                   back to a backup? Begin a new run with `--new`";
    AttemptError::new(ErrorClass::Permanent, ErrorCode::PlanChanged, message)
}
