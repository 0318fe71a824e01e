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
use crate::connector::{
    ExchangeRequest, GuardStep, HeldClaim, ShadowFound, ShadowKind, ShadowRequest, Target,
};
use crate::patience::{Call, unless_stalled};

/// How often an attempt tries to get the locks of an exchange.
const TRIES: u32 = 60;

/// The request about the step's shadow.
pub(super) fn shadow_request(context: &OrderContext) -> Result<ShadowRequest, AttemptError> {
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
    let found = context.of_target(Call::Prepare, shadows.find()).await?;
    for orphan in orphans(found, &request) {
        let (table, run) = (&orphan.table, &orphan.run);
        tracing::info!(%table, %run, "dropping what an ended run has loaded");
        context
            .of_target(Call::Prepare, shadows.drop(&orphan))
            .await?;
    }
    Ok(())
}

/// The shadows that earlier runs of the stream have left. One that came later than the run's own is
/// a newer run's, which has taken the stream since.
fn orphans(mut found: Vec<ShadowFound>, of: &ShadowRequest) -> Vec<ShadowFound> {
    found.retain(|one| one.kind == ShadowKind::Shadow && one.stream == of.stream);
    let own = found.iter().find(|one| one.run == of.run);
    let Some(made) = own.map(|own| own.since_micros) else {
        return Vec::new();
    };
    found.retain(|one| one.run != of.run && one.since_micros <= made);
    found
}

/// Builds what the shadow lacks.
pub(crate) async fn build_shadow(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let request = shadow_request(cx.of)?;
    failpoint::hit_on("attempt::before_build", &cx.of.worker).await?;
    let target = cx.of.target()?;
    let shadows = shadows(target.as_ref())?;
    cx.at_work(shadows.finish(&request, cx.progress.doing()))
        .await?;
    failpoint::hit_on("attempt::after_build", &cx.of.worker).await?;
    Ok(Outcome::Done)
}

/// Checks what the exchange left to be checked, and drops what exchanges have kept for long enough.
pub(crate) async fn settle_exchange(
    cx: &AttemptContext<'_>,
    keep_old: Option<Duration>,
) -> Result<(), AttemptError> {
    let context = cx.of;
    let request = shadow_request(context)?;
    let target = context.target()?;
    let shadows = shadows(target.as_ref())?;
    cx.at_work(shadows.validate(&request, cx.progress.doing()))
        .await?;
    let found = context.of_target(Call::Prepare, shadows.find()).await?;
    for old in kept_enough(found, &request, keep_old) {
        context.of_target(Call::Prepare, shadows.drop(&old)).await?;
    }
    Ok(())
}

/// The tables that exchanges of the stream have kept for long enough: at the moment of this
/// request's exchange they were as old as `keep_old` says, or, where it says nothing, there at all.
fn kept_enough(
    mut found: Vec<ShadowFound>,
    of: &ShadowRequest,
    keep_old: Option<Duration>,
) -> Vec<ShadowFound> {
    found.retain(|one| one.kind == ShadowKind::Kept && one.stream == of.stream);
    let own = found.iter().find(|one| one.identity == of.identity);
    let Some(now) = own.map(|own| own.since_micros) else {
        return Vec::new();
    };
    let least = keep_old.map_or(1, |old| i64::try_from(old.as_micros()).unwrap_or(i64::MAX));
    found.retain(|one| now.saturating_sub(one.since_micros) >= least);
    found
}

/// Drops what was loaded, once it is published in place.
pub(crate) async fn drop_shadow(context: &OrderContext) -> Result<(), AttemptError> {
    let request = shadow_request(context)?;
    let target = context.target()?;
    let shadows = shadows(target.as_ref())?;
    for found in shadows.find().await? {
        let is_own = found.stream == request.stream && found.run == request.run;
        if is_own && found.kind == ShadowKind::Shadow {
            shadows.drop(&found).await?;
        }
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
        let rows = weigh_shadow(cx, target, request, loaded).await?;
        exchange_once(cx, target, claimed, request, lock_wait, rows).await
    };
    again_while_blocked(cx, once).await
}

/// Whether a publish that failed with this code is tried again after so many tries.
fn is_tried_again(code: &str, tried: u32) -> bool {
    let is_blocked = [ErrorCode::SwapBlocked, ErrorCode::LockTimeout];
    is_blocked.iter().any(|blocked| code == blocked.as_str()) && tried < TRIES
}

/// Tries a publish again a little later, as long as it is blocked: by whoever reads or writes the
/// tables. What was loaded for it is still there.
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
            Err(blocked) if is_tried_again(&blocked.code, tried) => {
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
pub(super) async fn weigh_shadow(
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

#[cfg(test)]
mod tests {
    use highwater_common::id::RunId;
    use highwater_common::spec::TableName;

    use super::*;

    fn table(name: &str) -> TableName {
        TableName {
            schema: None,
            name: name.to_owned(),
        }
    }

    /// A table of the stream `s`, which run `run` has made what it is.
    fn found(name: &str, kind: ShadowKind, run: u8, since_micros: i64) -> ShadowFound {
        ShadowFound {
            table: table(name),
            identity: name.to_owned(),
            of: table("t"),
            kind,
            attempt: None,
            run: RunId::from_bytes([run; 16]),
            stream: "s".to_owned(),
            since_micros,
        }
    }

    fn of_other_stream(found: ShadowFound) -> ShadowFound {
        ShadowFound {
            stream: "other".to_owned(),
            ..found
        }
    }

    /// Run 2's.
    fn request(identity: &str) -> ShadowRequest {
        ShadowRequest {
            table: table("t"),
            identity: identity.to_owned(),
            run: RunId::from_bytes([2; 16]),
            stream: "s".to_owned(),
        }
    }

    fn names(found: &[ShadowFound]) -> Vec<&str> {
        found.iter().map(|one| one.table.name.as_str()).collect()
    }

    #[test]
    fn only_shadows_of_earlier_runs_of_the_stream_are_orphans() {
        let there = vec![
            found("before", ShadowKind::Shadow, 1, 10),
            found("as_old", ShadowKind::Shadow, 4, 20),
            found("own", ShadowKind::Shadow, 2, 20),
            found("newer", ShadowKind::Shadow, 3, 30),
            found("kept", ShadowKind::Kept, 1, 10),
            of_other_stream(found("another", ShadowKind::Shadow, 1, 10)),
        ];
        assert_eq!(
            names(&orphans(there.clone(), &request("t"))),
            ["before", "as_old"]
        );
        // Without a shadow of its own the run says nothing of what is earlier.
        let without: Vec<_> = there
            .into_iter()
            .filter(|one| one.table.name != "own")
            .collect();
        assert_eq!(names(&orphans(without, &request("t"))), Vec::<&str>::new());
    }

    #[test]
    fn only_what_earlier_exchanges_of_the_stream_kept_is_dropped() {
        let there = vec![
            found("before", ShadowKind::Kept, 1, 10),
            found("just_now", ShadowKind::Kept, 2, 20),
            found("at_once", ShadowKind::Kept, 3, 20),
            found("later", ShadowKind::Kept, 3, 30),
            found("shadow", ShadowKind::Shadow, 1, 10),
            of_other_stream(found("another", ShadowKind::Kept, 1, 10)),
        ];
        assert_eq!(
            names(&kept_enough(there.clone(), &request("just_now"), None)),
            ["before"]
        );
        let kept = |micros| {
            let keep_old = Some(Duration::from_micros(micros));
            kept_enough(there.clone(), &request("just_now"), keep_old)
        };
        assert_eq!(names(&kept(0)), ["before", "just_now", "at_once"]);
        assert_eq!(names(&kept(10)), ["before"]);
        assert_eq!(names(&kept(11)), Vec::<&str>::new());
        assert_eq!(
            names(&kept_enough(there.clone(), &request("gone"), None)),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn a_blocked_publish_is_tried_so_often_and_no_other_error_twice() {
        let blocked = ErrorCode::SwapBlocked.as_str();
        assert!(is_tried_again(ErrorCode::LockTimeout.as_str(), 1));
        assert!(is_tried_again(blocked, 1));
        assert!(is_tried_again(blocked, TRIES - 1));
        assert!(!is_tried_again(blocked, TRIES));
        assert!(!is_tried_again(blocked, TRIES + 1));
        assert!(!is_tried_again(ErrorCode::StatementTimeout.as_str(), 1));
    }
}
