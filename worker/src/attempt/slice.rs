//! A slice on its way: claim, begin, move, guard, commit. The order of these is the whole safety of
//! a load.

use std::sync::Arc;

use highwater_common::assignment::{Assignment, AttemptError, ErrorClass, Outcome, Settled};
use highwater_common::facts::ColumnFacts;
use highwater_common::range::Slice;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;

use super::lost_commit::{ask_ledger, uncertain, undone_by};
use super::{AttemptContext, OrderContext, malformed, superseded};
use crate::connector::{
    Claim, ClaimOutcome, Claimed, CommitOutcome, ConnectorError, DataTx, GuardOutcome, Guarded,
    ReadRequest, RowFormat, RowStream, Source, Target, WriteRequest,
};
use crate::meter::{Metered, Progress};
use crate::patience::{Call, unless_stalled};

/// Claims the task, moves its slice, and commits both with its ledger row.
pub(crate) async fn move_slice(
    cx: &AttemptContext<'_>,
    slice: Slice,
) -> Result<Outcome, AttemptError> {
    let (context, assignment, progress) = (cx.of, cx.assignment, cx.progress);
    let (order, settled) = (&context.order, context.settled()?);
    let target = context.target()?;
    let claim = Claim {
        cluster: order.cluster,
        run: order.run,
        task: assignment.task,
        generation: order.generation,
        plan: PlanMark::of(order.generation, &settled.cut),
        step: order.step.clone(),
        phase: assignment.phase,
        ordinal: assignment.ordinal,
        stream: settled.stream.clone(),
        slice,
        attempt: assignment.attempt,
        fence: assignment.fence,
        spec_digest: order.spec_digest,
        fingerprint: settled.target_fingerprint.clone(),
    };
    failpoint::hit_on("attempt::before_claim", &context.worker).await?;
    match context.of_target(Call::Claim, target.claim(&claim)).await? {
        ClaimOutcome::Held(claimed) => {
            failpoint::hit_on("attempt::after_claim", &context.worker).await?;
            let format = format(context, target.as_ref(), settled).await?;
            move_rows(
                context,
                target.as_ref(),
                claimed,
                assignment,
                slice,
                format,
                progress,
            )
            .await
        }
        ClaimOutcome::Committed(receipt) => Ok(Outcome::Committed(receipt)),
        ClaimOutcome::Superseded => superseded(context, target.as_ref()).await,
        ClaimOutcome::Fenced { newer } => Ok(Outcome::Outrun { newer }),
        ClaimOutcome::SpecChanged => Err(spec_changed()),
        ClaimOutcome::PlanChanged => Err(plan_changed()),
    }
}

pub(super) fn spec_changed() -> AttemptError {
    let message = "the target holds this task for another version of the spec: begin a new run \
                   with `--new`";
    AttemptError::new(ErrorClass::Permanent, "spec_changed", message)
}

fn plan_changed() -> AttemptError {
    let message = "the run has loaded the target under another plan since, which the store does \
                   not know, so that this one's tasks could load rows twice: was the store put \
                   back to a backup? Begin a new run with `--new`";
    AttemptError::new(ErrorClass::Permanent, "plan_changed", message)
}

async fn format(
    context: &OrderContext,
    target: &dyn Target,
    settled: &Settled,
) -> Result<RowFormat, AttemptError> {
    let agreed = context.format.get_or_try_init(async || {
        let (_, to) = context
            .order
            .target
            .as_ref()
            .ok_or_else(|| malformed("no target"))?;
        let own: Vec<ColumnFacts> = context
            .of_target(Call::Columns, target.columns(&to.table))
            .await?;
        let offered = context.source()?.formats(&settled.columns);
        let taken = target.formats(context.source_engine(), &settled.columns, &own);
        offered
            .into_iter()
            .find(|format| taken.contains(format))
            .ok_or_else(|| {
                malformed(
                    "no \
            common row format",
                )
            })
    });
    agreed.await.copied()
}

async fn move_rows(
    context: &OrderContext,
    target: &dyn Target,
    claimed: Box<dyn Claimed>,
    assignment: &Assignment,
    slice: Slice,
    format: RowFormat,
    progress: &Arc<Progress>,
) -> Result<Outcome, AttemptError> {
    let settled = context.settled()?;
    let (Some((_, from)), Some((_, to))) = (&context.order.source, &context.order.target) else {
        return Err(malformed("no tables"));
    };
    let read = ReadRequest {
        table: from.table.clone(),
        columns: settled.columns.clone(),
        partition_column: settled.partition_column.clone(),
        form: settled.source_form,
        slice,
        format,
    };
    let write = WriteRequest {
        table: to.table.clone(),
        columns: settled.columns.clone(),
        partition_column: settled.partition_column.clone(),
        form: settled.target_form,
        slice,
        mode: settled.write.mode,
        triggers: settled.write.triggers,
        resident: settled.write.resident,
        format,
        stream: settled.stream.clone(),
    };
    let source = context.source()?;
    let (tx, inner) =
        begin_with_rows(reading(context, progress, source.as_ref(), &read), claimed).await?;
    progress.note_reached();
    failpoint::hit_on("attempt::after_begin", &context.worker).await?;
    let moving = async {
        let mut rows = Metered::new(inner, Arc::clone(progress), context.worker.clone());
        let (tx, receipt) = tx.write(&write, &mut rows).await?;
        drop(rows);
        failpoint::hit_on("attempt::before_guard", &context.worker).await?;
        Ok((tx.guard(&receipt).await?, receipt))
    };
    let (guarded, receipt) =
        unless_stalled(progress, context.stall(), context.sides()?, moving).await?;
    match guarded {
        GuardOutcome::Lost => ask_ledger(context, target, assignment).await,
        GuardOutcome::Holds(guarded) => {
            failpoint::hit_on("attempt::before_commit", &context.worker).await?;
            let committed = committed_or_unknown(context, guarded).await?;
            failpoint::hit_on("attempt::after_commit", &context.worker).await?;
            match committed {
                CommitOutcome::Committed => Ok(Outcome::Committed(receipt)),
                CommitOutcome::Refused(error) => Err(error.into()),
                CommitOutcome::Unknown(error) => {
                    tracing::warn!(task = %assignment.task, %error, "a commit's answer was lost: \
                        asking the ledger");
                    ask_ledger(context, target, assignment)
                        .await
                        .map_err(|undone| undone_by(undone, error.report))
                }
            }
        }
    }
}

/// The source answers first, and only then the target's transaction begins: a scan may take an hour
/// to its first row, and a target ends a transaction that idles for long. A begin is not watched
/// for a stall, because it may wait for its turn.
pub(crate) async fn begin_with_rows<E: From<ConnectorError>>(
    reading: impl Future<Output = Result<Box<dyn RowStream>, E>>,
    claimed: Box<dyn Claimed>,
) -> Result<(Box<dyn DataTx>, Box<dyn RowStream>), E> {
    let rows = reading.await?;
    let tx = claimed.begin().await?;
    Ok((tx, rows))
}

/// The source's rows, unless it says nothing for too long.
async fn reading(
    context: &OrderContext,
    progress: &Progress,
    source: &dyn Source,
    read: &ReadRequest,
) -> Result<Box<dyn RowStream>, AttemptError> {
    progress.wait_for_source(true);
    let asked = async { Ok(source.read(read).await?) };
    let rows = unless_stalled(progress, context.stall(), context.sides()?, asked).await;
    progress.wait_for_source(false);
    rows
}

/// The answer to COMMIT. A commit is never cancelled: it goes on in its own loop, and whoever
/// waited for it too long asks the ledger instead.
async fn committed_or_unknown(
    context: &OrderContext,
    guarded: Box<dyn Guarded>,
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
