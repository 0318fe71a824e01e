//! A table that takes the place of the one that is read: made before it is loaded, finished once it
//! is, exchanged in one transaction with the task's receipt, and what is left behind cleared away.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt};
use highwater_common::error_code::ErrorCode;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::shrink::unfit_to_publish;
use highwater_runtime::failpoint;

use super::claim::{Claiming, claim};
use super::close::close_request;
use super::commit::{Committing, commit};
use super::context::shadows;
use super::{AttemptContext, OrderContext, malformed};
use crate::backoff::Backoff;
use crate::connector::{ExchangeRequest, GuardStep, HeldClaim, ShadowKind, ShadowRequest, Target};
use crate::patience::{Call, unless_stalled};

/// How often an attempt tries to get the locks of an exchange.
const TRIES: u32 = 60;

/// The request about the step's shadow.
fn shadow_request(context: &OrderContext) -> Result<ShadowRequest, AttemptError> {
    context
        .shadow()?
        .ok_or_else(|| malformed("no table that takes another's place"))
}

/// Makes the shadow, and drops those of earlier runs of the stream: the prepare has fenced them, and
/// a run that was cancelled or superseded never comes back. Makes none where the table that it
/// is to be like was made just now: then the step is planned again.
pub(crate) async fn make_shadow(context: &OrderContext) -> Result<(), AttemptError> {
    let request = shadow_request(context)?;
    if request.identity.is_empty() {
        return Ok(());
    }
    let target = context.target()?;
    let shadows = shadows(target.as_ref())?;
    context
        .of_target(Call::Prepare, shadows.make(&request))
        .await?;
    let mut found = shadows.find().await?;
    found.retain(|one| one.kind == ShadowKind::Shadow && one.stream == request.stream);
    let own = found.iter().find(|one| one.run == request.run);
    let Some(made) = own.map(|own| own.since_micros) else {
        return Ok(());
    };
    // One that came later is a newer run's, which has taken the stream since.
    for orphan in found {
        if orphan.run != request.run && orphan.since_micros <= made {
            let (table, run) = (&orphan.table, &orphan.run);
            tracing::info!(%table, %run, "dropping what an ended run has loaded");
            shadows.drop(&orphan).await?;
        }
    }
    Ok(())
}

/// Builds what the shadow lacks.
pub(crate) async fn build_shadow(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let request = shadow_request(cx.of)?;
    failpoint::hit_on("attempt::before_build", &cx.of.worker).await?;
    let target = cx.of.target()?;
    shadows(target.as_ref())?.finish(&request).await?;
    failpoint::hit_on("attempt::after_build", &cx.of.worker).await?;
    Ok(Outcome::Done)
}

/// Checks what the exchange left to be checked, and drops what earlier exchanges have kept.
pub(crate) async fn settle_exchange(context: &OrderContext) -> Result<(), AttemptError> {
    let request = shadow_request(context)?;
    let target = context.target()?;
    let shadows = shadows(target.as_ref())?;
    shadows.validate(&request).await?;
    let mut found = shadows.find().await?;
    found.retain(|one| one.kind == ShadowKind::Kept && one.stream == request.stream);
    let own = found.iter().find(|one| one.identity == request.identity);
    let Some(kept) = own.map(|own| own.since_micros) else {
        return Ok(());
    };
    for older in found.iter().filter(|one| one.since_micros < kept) {
        shadows.drop(older).await?;
    }
    Ok(())
}

/// Exchanges the two tables, with the task's receipt. `loaded` is the phase that has loaded the
/// shadow. Where a lock is not got in time everything is rolled back, so that nobody waits behind
/// it for long.
pub(crate) async fn exchange(
    cx: &AttemptContext<'_>,
    loaded: u8,
    lock_wait: Duration,
) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let (request, target) = (shadow_request(context)?, context.target()?);
    let (request, target) = (&request, target.as_ref());
    let once = || async move {
        let claimed = match claim(cx, target, Slice::Range(CursorRange::ALL)).await? {
            Claiming::Held(claimed) => claimed,
            Claiming::Over(outcome) => return Ok(outcome),
        };
        let rows = check(cx, target, request, loaded).await?;
        exchange_once(cx, target, claimed, request, lock_wait, rows).await
    };
    again_while_blocked(cx, once).await
}

/// Tries an exchange again a little later, as long as it is blocked: by whoever reads the tables.
pub(super) async fn again_while_blocked<F>(
    cx: &AttemptContext<'_>,
    mut once: impl FnMut() -> F,
) -> Result<Outcome, AttemptError>
where
    F: Future<Output = Result<Outcome, AttemptError>>,
{
    let (mut tried, mut backoff) = (0, Backoff::default());
    loop {
        tried += 1;
        match once().await {
            Err(blocked) if blocked.code == ErrorCode::SwapBlocked && tried < TRIES => {
                if cx.drain.is_cancelled() {
                    return Ok(Outcome::Released);
                }
                let wait = backoff.next_wait();
                tracing::info!(tried, ?wait, code = blocked.code, "{}", blocked.message);
                tokio::time::sleep(wait).await;
            }
            ended => return ended,
        }
    }
}

/// Makes sure that the shadow is whole; gives its rows.
async fn check(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    request: &ShadowRequest,
    loaded: u8,
) -> Result<u64, AttemptError> {
    let (context, load_order) = (cx.of, cx.of.load_order()?);
    let shadow = load_order.shadow.as_ref();
    let tasks = shadow.ok_or_else(|| malformed("no shadow"))?.tasks;
    let close = close_request(context, loaded)?;
    let found = shadows(target)?.weigh(request, &close).await?;
    let to = context.tables()?.1;
    let (table, place) = (to.table.to_string(), to.connection.to_string());
    match unfit_to_publish(found, tasks, load_order.shrinking, &table, &place) {
        None => Ok(found.rows),
        Some((code, why)) => Err(AttemptError::new(ErrorClass::Permanent, code, why)),
    }
}

async fn exchange_once(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    claimed: HeldClaim,
    request: &ShadowRequest,
    lock_wait: Duration,
    rows: u64,
) -> Result<Outcome, AttemptError> {
    let (context, progress) = (cx.of, cx.progress);
    let by = shadows(target)?.name(request)?;
    let request = ExchangeRequest {
        table: request.table.clone(),
        identity: request.identity.clone(),
        by,
        run: request.run,
        stream: request.stream.clone(),
        lock_wait,
    };
    let tx = claimed.begin().await?;
    progress.note_reached();
    failpoint::hit_on("attempt::after_begin", &context.worker).await?;
    let receipt = Receipt { rows, bytes: 0 };
    let exchanging = async {
        let (tx, exchanged) = tx.exchange(&request).await?;
        tracing::info!(table = %request.table, kept = %exchanged.kept, "exchanged");
        failpoint::hit_on("attempt::before_guard", &context.worker).await?;
        Ok(tx.guard(&GuardStep::last(receipt)).await?)
    };
    let guarded = unless_stalled(progress, context.stall(), context.sides()?, exchanging).await?;
    match commit(cx, target, guarded).await? {
        Committing::Committed(_) => Ok(Outcome::Committed(receipt)),
        Committing::Over(outcome) => Ok(outcome),
    }
}
