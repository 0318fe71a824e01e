//! The commit of what an attempt has written, once its guard was asked.

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_runtime::failpoint;
use tracing::Instrument as _;

use super::lost_commit::{ask_ledger, uncertain, undone_by};
use super::{AttemptContext, OrderContext};
use crate::connector::{
    CommitOutcome, ConnectorError, DataTx, GuardOutcome, GuardStep, Guarded, HeldClaim, Target,
};
use crate::patience::unless_stalled;
use crate::traces;

/// What came of a commit.
pub(super) enum Committing {
    /// It is durable; the claim lives on when the task goes on with another chunk.
    Committed(Option<HeldClaim>),
    /// The ledger says how the task stands.
    Over(Outcome),
}

/// Asks for the guard, and commits what it holds for.
pub(super) async fn guard_and_commit(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    tx: DataTx,
    step: &GuardStep,
) -> Result<Committing, AttemptError> {
    let guarding = async {
        failpoint::hit_on("attempt::before_guard", &cx.of.worker).await?;
        Ok(tx.guard(step).await?)
    };
    let (stall, sides) = (cx.of.stall(), cx.of.sides()?);
    let guarded = unless_stalled(cx.progress, stall, sides, guarding).await?;
    commit(cx, target, guarded).await
}

/// Commits, unless the guard was lost; asks the ledger where no answer came.
pub(super) async fn commit(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    guarded: GuardOutcome,
) -> Result<Committing, AttemptError> {
    let span = traces::of_commit(cx.progress);
    commit_or_ask(cx, target, guarded).instrument(span).await
}

async fn commit_or_ask(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    guarded: GuardOutcome,
) -> Result<Committing, AttemptError> {
    let context = cx.of;
    let asked = || ask_ledger(context, target, cx.assignment);
    let GuardOutcome::Holds(guarded) = guarded else {
        let outcome = asked().await?;
        cx.progress.count_commit(match outcome {
            Outcome::Committed(_) => "replayed",
            Outcome::Superseded { .. } => "superseded",
            _ => "fenced",
        });
        return Ok(Committing::Over(outcome));
    };
    failpoint::hit_on("attempt::before_commit", &context.worker).await?;
    let committed = committed_or_unknown(context, guarded).await?;
    failpoint::hit_on("attempt::after_commit", &context.worker).await?;
    match committed {
        CommitOutcome::Committed(claimed) => {
            cx.progress.count_commit("committed");
            Ok(Committing::Committed(claimed))
        }
        CommitOutcome::Refused(error) => Err(error.into()),
        CommitOutcome::Unknown(error) => {
            cx.progress.count_commit("unknown");
            let task = &cx.assignment.task;
            tracing::warn!(%task, %error, "a commit's answer was lost: asking the ledger");
            let outcome = asked().await;
            outcome
                .map(Committing::Over)
                .map_err(|undone| undone_by(undone, error.report))
        }
    }
}

/// The answer to COMMIT. A commit is never cancelled: it goes on in its own loop, and whoever
/// waited for it too long asks the ledger instead.
async fn committed_or_unknown(
    context: &OrderContext,
    guarded: Guarded,
) -> Result<CommitOutcome, AttemptError> {
    let target = context.sides()?.target;
    Ok(tokio::time::timeout(context.stall(), guarded.commit())
        .await
        .unwrap_or_else(|_| {
            let message =
                format!("{target} did not answer a commit within the step's limits.stall");
            CommitOutcome::Unknown(ConnectorError::of_report(uncertain(&message)))
        }))
}
