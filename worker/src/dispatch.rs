//! One attempt of a task, to its end. What it does is its strategy's business, but for what belongs
//! to no plan: an errand, and the fence of a cancelled run.

use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{Assignment, AttemptError, ErrorClass, Outcome, Work};
use highwater_common::error_code::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::attempt::{AttemptContext, OrderContext, errand};
use crate::meter::Progress;
use crate::patience::Call;
use crate::strategy;

/// Runs one attempt to its end.
pub(crate) async fn run(
    context: &OrderContext,
    assignment: &Assignment,
    progress: &Arc<Progress>,
    drain: &CancellationToken,
) -> Outcome {
    let work = dispatch(AttemptContext {
        of: context,
        assignment,
        progress,
        drain,
    });
    // What follows a log ends with the run: no attempt of it takes too long.
    let limit = context.order.attempt_millis_max;
    let limit = limit.filter(|_| assignment.work != Work::Follow);
    let outcome = match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(Duration::from_millis(limit), work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!(
                    "the attempt took longer than {limit} ms, the step's limits.attempt: raise it, \
                     or cut smaller partitions"
                );
                let error =
                    AttemptError::new(ErrorClass::Resource, ErrorCode::AttemptTimeout, message);
                Err(error.keeping(progress.committed()))
            }
        },
    };
    outcome.unwrap_or_else(Outcome::Failed)
}

async fn dispatch(cx: AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let (context, work) = (cx.of, cx.assignment.work);
    match work {
        Work::Probe if context.order.errand.is_some() => errand(&cx).await,
        Work::Fence => {
            let target = context.target()?;
            let fencing = target.fence_run(&context.order.cluster, &context.order.run);
            let report = context.of_target(Call::Fence, fencing).await?;
            Ok(Outcome::RunFenced {
                attempts: report.attempts,
            })
        }
        Work::Probe
        | Work::Prepare
        | Work::Partition(_)
        | Work::Build
        | Work::Check
        | Work::Publish
        | Work::Reconcile
        | Work::Statements
        | Work::Command
        | Work::Replay
        | Work::Follow
        | Work::Noop(_)
        | Work::Count(_)
        | Work::Close { .. } => {
            strategy::run_of(&context.order.strategy)
                .run(&cx, &work)
                .await
        }
    }
}
