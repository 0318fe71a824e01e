//! What a person asks of a step's target beside a run.

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::errand::{Clean, Errand, Forget, PlaceWatermark, Resync, Undo};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::StepFacts;
use highwater_common::shadow::{Beside, ShadowKind, is_of_step};
use highwater_common::undo::Refused;
use highwater_runtime::failpoint;

use super::context::shadows;
use super::exchange::again_while_blocked;
use super::log_errand::{drop_log, standing};
use super::window::watermarks;
use super::{AttemptContext, OrderContext, malformed, superseded};
use crate::connector::{
    ForgetOutcome, ForgetRequest, PlaceRequest, PrepareOutcome, ShadowFound, ShadowRequest,
    StreamRequest, Target, UndoOutcome, UndoRequest,
};
use crate::patience::Call;

/// Does what a person wants of the target, and looks at no table for a plan.
pub(crate) async fn errand(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    match &cx.of.order.errand {
        None => Err(malformed("no errand")),
        Some(Errand::Show { .. }) => show(cx.of).await,
        Some(Errand::Forget(forget)) => forget_as(cx, forget.clone(), false).await,
        Some(Errand::Undo(undo)) => self::undo(cx, undo).await,
        Some(Errand::Clean(clean)) => self::clean(cx.of, clean).await,
        Some(Errand::PlaceWatermark(wanted)) => place_watermark(cx, wanted).await,
        Some(Errand::Standing { .. }) => answer(&StepFacts {
            log: standing(cx.of).await?,
            ..StepFacts::of_errand(cx.of.source_engine())
        }),
        Some(Errand::Resync(wanted)) => resync(cx, wanted).await,
    }
}

async fn show(context: &OrderContext) -> Result<Outcome, AttemptError> {
    let (target, stream) = (context.target()?, context.stream()?);
    let receipts = target.receipts(&context.order.cluster, &stream).await?;
    let receipts = Some(receipts);
    answer(&StepFacts {
        receipts,
        ..StepFacts::of_errand(context.source_engine())
    })
}

/// Drops the slot, and voids position and receipts: the next run copies the table anew. In this
/// order, so that a log of what the table was before is never applied to what it is copied from
/// then. A target that cannot be reached, or whose ledger is another cluster's, is met before.
async fn resync(cx: &AttemptContext<'_>, wanted: &Resync) -> Result<Outcome, AttemptError> {
    let (target, stream) = (cx.of.target()?, cx.of.stream()?);
    target.receipts(&cx.of.order.cluster, &stream).await?;
    drop_log(cx.of).await?;
    let forget = Forget {
        step: wanted.step.clone(),
        from: None,
        to: None,
        reason: wanted.reason.clone(),
    };
    forget_as(cx, forget, true).await
}

/// Voids receipts; whether those rows are the step's own all the same is kept with the stream.
async fn forget_as(
    cx: &AttemptContext<'_>,
    forget: Forget,
    resyncs: bool,
) -> Result<Outcome, AttemptError> {
    let target = cx.of.target()?;
    let request = ForgetRequest {
        resyncs,
        ..forget_request(cx, forget)?
    };
    match target.forget(&request).await? {
        ForgetOutcome::Done(receipts) => answer(&StepFacts {
            receipts: Some(receipts),
            ..StepFacts::of_errand(cx.of.source_engine())
        }),
        ForgetOutcome::Not(why) => not_taken(cx.of, target.as_ref(), &why).await,
    }
}

async fn place_watermark(
    cx: &AttemptContext<'_>,
    wanted: &PlaceWatermark,
) -> Result<Outcome, AttemptError> {
    let target = cx.of.target()?;
    let watermarks = watermarks(target.as_ref())?;
    let request = PlaceRequest {
        cluster: cx.of.order.cluster,
        stream: taking(cx)?,
        to: wanted.to.clone(),
        identity: None,
        tz: cx.of.order.strategy.load().zone().to_owned(),
    };
    match watermarks.place(&request).await? {
        ForgetOutcome::Done(receipts) => answer(&StepFacts {
            receipts: Some(receipts),
            ..StepFacts::of_errand(cx.of.source_engine())
        }),
        ForgetOutcome::Not(why) => not_taken(cx.of, target.as_ref(), &why).await,
    }
}

async fn undo(cx: &AttemptContext<'_>, undo: &Undo) -> Result<Outcome, AttemptError> {
    let forget = Forget {
        step: undo.step.clone(),
        from: None,
        to: None,
        reason: undo.reason.clone(),
    };
    let lock_wait = cx.of.order.strategy.load().exchange_lock_wait();
    let request = UndoRequest {
        forget: forget_request(cx, forget)?,
        table: cx.of.tables()?.1.table.clone(),
        lock_wait: lock_wait.ok_or_else(|| malformed("a step that exchanges no tables"))?,
    };
    again_while_blocked(cx, || undo_once(cx, &request)).await
}

async fn undo_once(
    cx: &AttemptContext<'_>,
    request: &UndoRequest,
) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let target = context.target()?;
    let Some(shadows) = target.shadows() else {
        let to = context.tables()?.1;
        let why = Refused::NoneKept;
        let message = why.message(&to.table.to_string(), to.connection.as_str());
        return Err(AttemptError::new(
            ErrorClass::Permanent,
            why.code(),
            message,
        ));
    };
    let undoing = context.of_target(Call::Prepare, shadows.undo(request));
    let (mut undone, left) = match undoing.await? {
        UndoOutcome::Done { undone, left } => (undone, left),
        UndoOutcome::Not(why) => return not_taken(context, target.as_ref(), &why).await,
    };
    tracing::info!(table = %undone.table, kept = %undone.kept, "exchanged back");
    failpoint::hit_on("attempt::after_undo", &context.worker).await?;
    let left = ShadowRequest {
        table: request.table.clone(),
        identity: left,
        run: context.order.run,
        stream: request.forget.stream.stream.clone(),
    };
    // It takes as long as a scan, so it comes after the exchange, which nothing of it takes back.
    let validating = cx.at_work(shadows.validate(&left, cx.progress.doing()));
    match validating.await {
        Ok(()) => {}
        Err(error) if error.class == ErrorClass::Permanent => {
            let why = error.message;
            undone
                .warnings
                .push(format!("foreign keys stay not valid: {why}"));
        }
        Err(error) => return Err(error),
    }
    answer(&StepFacts {
        undone: Some(undone),
        ..StepFacts::of_errand(context.source_engine())
    })
}

/// Looks for what the step's runs have left beside the table that is read, whichever tables they
/// read from and wrote to. No run of the pipeline is under way while it is dropped; one that has
/// failed, and could go on with its shadow, is fenced first: nothing of it commits any more.
async fn clean(context: &OrderContext, clean: &Clean) -> Result<Outcome, AttemptError> {
    let (order, target) = (&context.order, context.target()?);
    let mut beside = Vec::new();
    let mut found = match target.shadows() {
        Some(shadows) => context.of_target(Call::Prepare, shadows.find()).await?,
        None => Vec::new(),
    };
    found.retain(|one| {
        is_of_step(&one.stream, &order.pipeline, &order.step)
            && (clean.kept || one.kind != ShadowKind::Kept)
    });
    for one in found {
        let problem = match clean.drops {
            true => drop_found(context, target.as_ref(), &one).await?,
            false => None,
        };
        beside.push(Beside {
            table: one.table.to_string(),
            of: one.of.to_string(),
            kind: one.kind,
            run: one.run,
            since_micros: one.since_micros,
            dropped: clean.drops && problem.is_none(),
            problem,
        });
    }
    answer(&StepFacts {
        beside: Some(beside),
        ..StepFacts::of_errand(context.source_engine())
    })
}

/// Drops what was found; gives why it cannot be, where somebody else's things depend on it.
async fn drop_found(
    context: &OrderContext,
    target: &dyn Target,
    found: &ShadowFound,
) -> Result<Option<String>, AttemptError> {
    if found.kind == ShadowKind::Shadow {
        let fencing = target.fence_run(&context.order.cluster, &found.run);
        context.of_target(Call::Fence, fencing).await?;
    }
    failpoint::hit_on("attempt::before_drop", &context.worker).await?;
    let dropping = shadows(target)?.drop(found);
    match context.of_target(Call::Prepare, dropping).await {
        Ok(()) => {
            let (table, run) = (&found.table, &found.run);
            tracing::info!(%table, %run, "dropped");
            Ok(None)
        }
        Err(error) if error.class == ErrorClass::Permanent => Ok(Some(error.message)),
        Err(error) => Err(error),
    }
}

/// Whose receipts are voided, and by whom: the stream is taken as by a prepare.
fn forget_request(cx: &AttemptContext<'_>, forget: Forget) -> Result<ForgetRequest, AttemptError> {
    let order = &cx.of.order;
    Ok(ForgetRequest {
        cluster: order.cluster,
        stream: taking(cx)?,
        forget,
        tz: order.strategy.load().zone().to_owned(),
        resyncs: false,
    })
}

/// The step's stream, taken for no plan.
fn taking(cx: &AttemptContext<'_>) -> Result<StreamRequest, AttemptError> {
    Ok(StreamRequest {
        stream: cx.of.stream()?,
        run: cx.of.order.run,
        plan: None,
        token: cx.assignment.fence.token,
        kind: None,
    })
}

async fn not_taken(
    context: &OrderContext,
    target: &dyn Target,
    why: &PrepareOutcome,
) -> Result<Outcome, AttemptError> {
    match why {
        PrepareOutcome::Fenced { newer } => Ok(Outcome::Fenced { newer: *newer }),
        PrepareOutcome::Superseded | PrepareOutcome::Prepared { .. } => {
            superseded(context, target).await
        }
    }
}

fn answer(facts: &StepFacts) -> Result<Outcome, AttemptError> {
    let json = serde_json::to_vec(facts).map_err(|error| {
        AttemptError::new(
            ErrorClass::Permanent,
            ErrorCode::MalformedFacts,
            error.to_string(),
        )
    })?;
    Ok(Outcome::Probed(json))
}
