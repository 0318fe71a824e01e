//! Asks the target which of a step's commits it still holds.

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_common::error_code::ErrorCode;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;

use super::{AttemptContext, OrderContext, malformed};
use crate::connector::CloseRequest;
use crate::patience::Call;

/// Looks up the receipts of the tasks of a phase.
pub(crate) async fn ask_for_commits(
    context: &OrderContext,
    phase: u8,
) -> Result<Outcome, AttemptError> {
    failpoint::hit_on("attempt::before_close", &context.worker).await?;
    let request = close_request(context, phase)?;
    let target = context.target()?;
    Ok(Outcome::Closed(
        context
            .of_target(Call::Close, target.committed(&request))
            .await?,
    ))
}

/// How a task that moves rows has ended. One that met a target which is not as the step's prepare
/// left it has the target prepared again; where the ledger is gone, only if no rows can be there
/// twice then.
pub(crate) async fn as_prepared(
    cx: &AttemptContext<'_>,
    ended: Result<Outcome, AttemptError>,
) -> Result<Outcome, AttemptError> {
    match ended {
        Err(changed) if changed.code == ErrorCode::TargetChanged => {
            Ok(Outcome::Unprepared(changed))
        }
        Err(missing) if missing.code == ErrorCode::LedgerMissing => {
            let request = close_request(cx.of, cx.assignment.phase)?;
            let target = cx.of.target()?;
            cx.of
                .of_target(Call::Close, target.committed(&request))
                .await?;
            Ok(Outcome::Unprepared(missing))
        }
        ended => ended,
    }
}

/// Which commits of a phase are asked for.
pub(super) fn close_request(
    context: &OrderContext,
    phase: u8,
) -> Result<CloseRequest, AttemptError> {
    let (order, load_order) = (&context.order, context.load_order()?);
    let (_, to) = order
        .target
        .as_ref()
        .ok_or_else(|| malformed("no target"))?;
    Ok(CloseRequest {
        cluster: order.cluster,
        run: order.run,
        plan: PlanMark::of(order.generation, &load_order.cut),
        step: order.step.clone(),
        phase,
        table: to.table.clone(),
        mode: load_order.write.mode,
    })
}
