//! A table that is read at one point in time by several sessions, into a table of the attempt's own,
//! and published from there in one transaction with the task's receipt.
//!
//! The attempt is what holds the point in time: with it everything that was read is gone, and the
//! next one begins anew, at a point in time of its own. What an earlier one still writes goes to a
//! table that nobody publishes.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt, Staging};
use highwater_common::error_code::ErrorCode;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{Check, TableName, WriteMode};
use highwater_common::token::FencingToken;
use highwater_runtime::failpoint;

use super::check::{Asked, commit_checked, count_source};
use super::chunks::{format, read_request, write_request};
use super::claim::{Claiming, claim};
use super::context::shadows;
use super::exchange::{again_while_blocked, shadow_request, weigh_shadow};
use super::{AttemptContext, OrderContext, malformed, move_slice};
use crate::connector::{
    GuardStep, HeldClaim, Pages, Rows, Snapshot, StageRequest, Stages, Target, WriteRequest,
};
use crate::meter::Metered;
use crate::patience::{Call, unless_stalled};

const ALL: Slice = Slice::Range(CursorRange::ALL);

/// Puts what the source holds in the place of the table's rows, as the plan says. `checks` are asked
/// before the commit, which is not made where one of them fails.
pub(crate) async fn replace_all(
    cx: &AttemptContext<'_>,
    checks: &[Check],
) -> Result<Outcome, AttemptError> {
    match staging(cx.of)? {
        Some(staging) => replace_staged(cx, staging, checks).await,
        None => move_slice(cx, ALL, checks).await,
    }
}

/// How the rows wait, with no more sessions than the connections may have.
fn staging(context: &OrderContext) -> Result<Option<Staging>, AttemptError> {
    let Some(staging) = context.load_order()?.staging else {
        return Ok(None);
    };
    let (order, sides) = (&context.order, context.sides()?);
    let most = |side: Option<u32>| match sides.source == sides.target {
        true => side.map_or(u32::MAX, |both| both / 2),
        false => side.unwrap_or(u32::MAX),
    };
    let source = order.source.as_ref().map(|(of, _)| of.max_connections());
    let target = order.target.as_ref().map(|(of, _)| of.max_connections());
    let (source, target) = (most(source.flatten()), most(target.flatten()));
    Ok(staging.within(source.min(target)))
}

async fn replace_staged(
    cx: &AttemptContext<'_>,
    staging: Staging,
    checks: &[Check],
) -> Result<Outcome, AttemptError> {
    let target = cx.of.target()?;
    let claimed = match claim(cx, target.as_ref(), ALL).await? {
        Claiming::Held(claimed) => claimed,
        Claiming::Over(outcome) => return Ok(outcome),
    };
    let ended = read_and_publish(cx, staging, checks, target.as_ref(), claimed).await;
    let own = cx.assignment.fence.token;
    drop_stages(cx.of, target.as_ref(), |attempt| attempt == own).await;
    ended
}

async fn read_and_publish(
    cx: &AttemptContext<'_>,
    staging: Staging,
    checks: &[Check],
    target: &dyn Target,
    claimed: HeldClaim,
) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let source = count_source(context, checks).await?;
    let stages = target
        .stages()
        .ok_or_else(|| malformed("a target where no rows can wait"))?;
    let stage = make_stage(cx, target, stages).await?;
    let write = write_request(context, target, ALL, format(context, target).await?)?;
    let to_stage = WriteRequest {
        table: stage.clone(),
        ..write.clone()
    };
    let read = read_all(cx, staging, stages, &to_stage).await?;
    let publishing = Publishing {
        write,
        from: stage,
        read,
        checks,
        source,
    };
    publish(cx, target, claimed, &publishing).await
}

/// Brings the table that is read to hold the rows of the step's shadow, which the phase `loaded` has
/// loaded. `checks` are asked before the commit, which is not made where one of them fails.
pub(crate) async fn publish_in_place(
    cx: &AttemptContext<'_>,
    loaded: u8,
    checks: &[Check],
) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let (request, target) = (shadow_request(context)?, context.target()?);
    let target = target.as_ref();
    let claimed = match claim(cx, target, ALL).await? {
        Claiming::Held(claimed) => claimed,
        Claiming::Over(outcome) => return Ok(outcome),
    };
    let rows = weigh_shadow(cx, target, &request, loaded).await?;
    let source = count_source(context, checks).await?;
    let shadow = shadows(target)?.name(&request)?;
    let write = write_request(context, target, ALL, format(context, target).await?)?;
    let publishing = Publishing {
        write: WriteRequest {
            table: request.table,
            rows: Rows::All,
            mode: WriteMode::ReplaceTable,
            ..write
        },
        from: shadow,
        read: Receipt { rows, bytes: 0 },
        checks,
        source,
    };
    publish(cx, target, claimed, &publishing).await
}

/// Rows that are all there, to be published.
struct Publishing<'a> {
    /// To the table that is read.
    write: WriteRequest,
    /// Where they wait.
    from: TableName,
    /// How many they are.
    read: Receipt,
    /// Asked before the commit.
    checks: &'a [Check],
    /// The source's rows, where a check asks for them.
    source: Option<u64>,
}

/// Publishes in one transaction with the task's receipt. While others hold the table it is tried again,
/// under a claim of its own each time: the rows are there already.
async fn publish(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    claimed: HeldClaim,
    of: &Publishing<'_>,
) -> Result<Outcome, AttemptError> {
    let mut claimed = Some(claimed);
    let once = || {
        let held = claimed.take();
        async move {
            let held = match held {
                Some(held) => held,
                None => match claim(cx, target, ALL).await? {
                    Claiming::Held(held) => held,
                    Claiming::Over(outcome) => return Ok(outcome),
                },
            };
            publish_once(cx, target, held, of).await
        }
    };
    again_while_blocked(cx, once).await
}

async fn publish_once(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    claimed: HeldClaim,
    of: &Publishing<'_>,
) -> Result<Outcome, AttemptError> {
    let (context, progress) = (cx.of, cx.progress);
    let (write, read) = (&of.write, of.read);
    let tx = claimed.begin().await?;
    progress.note_reached();
    failpoint::hit_on("attempt::after_begin", &context.worker).await?;
    let publishing = async { Ok(tx.replace_by(write, &of.from, read.rows).await?) };
    let (stall, sides) = (context.stall(), context.sides()?);
    let tx = unless_stalled(progress, stall, sides, publishing).await?;
    let asked = Asked {
        table: &write.table,
        checks: of.checks,
        source: of.source,
    };
    commit_checked(cx, target, tx, asked, GuardStep::last(read), read).await
}

/// Makes the attempt's own, and drops those of earlier attempts of the stream, by their tokens: its
/// claim stands, so none of them publishes anything any more.
async fn make_stage(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    stages: &dyn Stages,
) -> Result<TableName, AttemptError> {
    let (context, load_order) = (cx.of, cx.of.load_order()?);
    let request = StageRequest {
        table: context.tables()?.1.table.clone(),
        run: context.order.run,
        stream: load_order.stream.clone(),
        attempt: cx.assignment.fence,
    };
    let columns: Vec<&str> = load_order
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let making = stages.make(&request, &columns);
    let stage = context.of_target(Call::Prepare, making).await?;
    failpoint::hit_on("attempt::after_stage", &context.worker).await?;
    drop_stages(context, target, |attempt| attempt < request.attempt.token).await;
    Ok(stage)
}

/// Reads the table at one point in time, piece by piece, into the attempt's own.
async fn read_all(
    cx: &AttemptContext<'_>,
    staging: Staging,
    stages: &dyn Stages,
    write: &WriteRequest,
) -> Result<Receipt, AttemptError> {
    let (context, progress) = (cx.of, cx.progress);
    let source = context.source()?;
    let snapshots = source
        .snapshots()
        .ok_or_else(|| malformed("a source without a point in time that can be held"))?;
    let read = read_request(context, ALL, write.format)?;
    let (stall, sides) = (context.stall(), context.sides()?);
    progress.note(Receipt::default());
    progress.wait_for_source(true);
    let holding = async { Ok(snapshots.hold(&read, staging.readers).await?) };
    let snapshot = unless_stalled(progress, stall, sides, holding).await?;
    progress.wait_for_source(false);
    progress.note_reached();
    failpoint::hit_on("attempt::after_snapshot", &context.worker).await?;
    let pieces = snapshot.pieces();
    tracing::debug!(table = %write.table, pieces = pieces.len(), "reading at one point in time");
    let reading = stream::iter(pieces.iter().copied())
        .map(|piece| read_piece(cx, snapshot.as_ref(), piece, stages, write))
        .buffer_unordered(usize::try_from(staging.readers).unwrap_or(1))
        .try_fold(Receipt::default(), async |all, moved| Ok(all.and(moved)));
    unless_stalled(progress, stall, sides, reading).await
}

async fn read_piece(
    cx: &AttemptContext<'_>,
    snapshot: &dyn Snapshot,
    piece: Pages,
    stages: &dyn Stages,
    write: &WriteRequest,
) -> Result<Receipt, AttemptError> {
    let worker = &cx.of.worker;
    failpoint::hit_on("attempt::before_piece", worker).await?;
    let inner = snapshot.read(piece).await?;
    let mut rows = Metered::new(inner, Arc::clone(cx.progress), worker.clone());
    let taken = stages.fill(write, &mut rows).await?;
    let moved = rows.moved();
    if taken == moved.rows {
        return Ok(moved);
    }
    let message = format!(
        "{} rows of {piece} were read and {taken} written to {}; nothing was published",
        moved.rows, write.table
    );
    let (class, code) = (ErrorClass::Permanent, ErrorCode::CountMismatch);
    Err(AttemptError::new(class, code, message))
}

/// Drops some of the tables that rows of the step's stream have waited in, by whose they are. One that
/// stays is nobody's harm: the next run drops it.
async fn drop_stages(
    context: &OrderContext,
    target: &dyn Target,
    is_meant: impl Fn(FencingToken) -> bool,
) {
    let dropping = async {
        let (shadows, stream) = (shadows(target)?, &context.load_order()?.stream);
        for found in context.of_target(Call::Close, shadows.find()).await? {
            if found.stream == *stream && found.attempt.is_some_and(&is_meant) {
                let dropping = shadows.drop(&found);
                context.of_target(Call::Close, dropping).await?;
            }
        }
        Ok::<_, AttemptError>(())
    };
    if let Err(error) = dropping.await {
        tracing::warn!(%error.message, "a table that rows have waited in is left behind");
    }
}
