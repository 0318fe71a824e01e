//! Asks the target which of a step's commits it still holds.

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_common::error_code::ErrorCode;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;

use super::{AttemptContext, OrderContext};
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
    let error = match ended {
        Err(error) => error,
        Ok(outcome) => return Ok(outcome),
    };
    match Remedy::of(&error.code) {
        Remedy::None => Err(error),
        Remedy::Prepare => Ok(Outcome::Unprepared(error)),
        Remedy::PrepareIfNothingIsThere => {
            let request = close_request(cx.of, cx.assignment.phase)?;
            let target = cx.of.target()?;
            cx.of
                .of_target(Call::Close, target.committed(&request))
                .await?;
            Ok(Outcome::Unprepared(error))
        }
    }
}

/// What helps against a target that refuses a claim.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    None,
    Prepare,
    PrepareIfNothingIsThere,
}

impl Remedy {
    /// By the code of the error.
    fn of(code: &str) -> Self {
        if code == ErrorCode::TargetChanged.as_str() {
            Self::Prepare
        } else if code == ErrorCode::LedgerMissing.as_str() {
            Self::PrepareIfNothingIsThere
        } else {
            Self::None
        }
    }
}

/// Which commits of a phase are asked for.
pub(super) fn close_request(
    context: &OrderContext,
    phase: u8,
) -> Result<CloseRequest, AttemptError> {
    let (order, load_order) = (&context.order, context.load_order()?);
    let to = context.target_table()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_prepared_again_where_that_is_what_it_lacks() {
        for (code, remedy) in [
            (ErrorCode::TargetChanged, Remedy::Prepare),
            (ErrorCode::LedgerMissing, Remedy::PrepareIfNothingIsThere),
            (ErrorCode::StatementTimeout, Remedy::None),
            (ErrorCode::ClaimBlocked, Remedy::None),
        ] {
            assert_eq!(Remedy::of(code.as_str()), remedy, "{code:?}");
        }
    }
}
