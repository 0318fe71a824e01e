//! The log that a step follows: opened before its table is copied, and held to the position that the
//! target has.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::error_code::ErrorCode;
use highwater_common::log::{LogIdentity, Lsn};
use highwater_common::spec::Bound;
use highwater_common::window::StoredWatermark;
use highwater_runtime::failpoint;

use super::prepare::stream_request;
use super::window::{behind, watermarks, window_of};
use super::{AttemptContext, OrderContext, malformed, superseded};
use crate::connector::{
    ChangeLog, ConnectorError, ForgetOutcome, LogOpened, LogPosition, LogRequest, PlaceRequest,
    PrepareOutcome, Source, Target,
};
use crate::patience::{Call, answered};

/// How long a prepare waits for transactions that were open before the log.
pub(super) const OPEN_WAIT: Duration = Duration::from_mins(4);

pub(super) fn change_log(source: &dyn Source) -> Result<&dyn ChangeLog, AttemptError> {
    source
        .change_log()
        .ok_or_else(|| malformed("a source that keeps no log"))
}

/// Makes the log begin before the table is copied, and stores where, before anything is copied: or
/// holds the log that is there to the position that the target has. Gives what became of the task
/// where the stream is not the run's any more.
pub(crate) async fn open_log(
    cx: &AttemptContext<'_>,
    log: &LogRequest,
) -> Result<Option<Outcome>, AttemptError> {
    let context = cx.of;
    let (source, target) = (context.source()?, context.target()?);
    let source = change_log(source.as_ref())?;
    let asked = window_of(&context.order).ok_or_else(|| malformed("no position in a log"))?;
    let found = behind(context, target.as_ref(), asked).await?;
    let after = found.watermark.map(position).transpose()?;
    let opened = of_source(context, source.open(log, after, OPEN_WAIT)).await?;
    if let Some(after) = after {
        let held = held_position(context, target.as_ref()).await?;
        check_identity(
            context,
            log,
            after,
            held.and_then(|of| of.identity),
            &opened,
        )?;
    }
    failpoint::hit_on("replay::after_open", &context.worker).await?;
    if after.is_none() && found.is_copied() {
        return Err(no_position(context)?);
    }
    if after.is_none() {
        let place = PlaceRequest {
            cluster: context.order.cluster,
            stream: stream_request(cx)?,
            to: Some(Bound(opened.begins.to_cursor().to_string())),
            identity: Some(opened.identity),
            tz: "UTC".to_owned(),
        };
        let placing = watermarks(target.as_ref())?.place(&place);
        match context.of_target(Call::Prepare, placing).await? {
            ForgetOutcome::Done(_) => {}
            ForgetOutcome::Not(PrepareOutcome::Fenced { newer }) => {
                return Ok(Some(Outcome::Fenced { newer }));
            }
            ForgetOutcome::Not(PrepareOutcome::Superseded | PrepareOutcome::Prepared { .. }) => {
                return superseded(context, target.as_ref()).await.map(Some);
            }
        }
    }
    if !found.is_copied() {
        of_source(context, source.settle(OPEN_WAIT)).await?;
    }
    Ok(None)
}

pub(super) async fn of_source<T>(
    context: &OrderContext,
    asked: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, AttemptError> {
    let source = context.sides()?.source;
    answered(Call::Prepare, source, context.stall(), asked).await
}

/// Where the target says that it is in the log, and of which log that is.
pub(super) async fn held_position(
    context: &OrderContext,
    target: &dyn Target,
) -> Result<Option<LogPosition>, AttemptError> {
    let stream = context.stream()?;
    let asked = watermarks(target)?.log_position(&stream);
    context.of_target(Call::Ledger, asked).await
}

/// Refuses a log that has not told all since the position was stored. What an earlier version has
/// stored says nothing of that, and what is there now is taken for it.
pub(super) fn check_identity(
    context: &OrderContext,
    log: &LogRequest,
    after: Lsn,
    stored: Option<LogIdentity>,
    now: &LogOpened,
) -> Result<(), AttemptError> {
    let untold = stored.map_or_else(Vec::new, |stored| stored.untold(&now.identity));
    if untold.is_empty() {
        return Ok(());
    }
    let source = context.sides()?.source;
    let message = format!(
        "the log of {} on {source} has not told all that happened behind {after}, and nothing is \
         applied: {}. {}",
        log.table,
        untold.join("; "),
        anew(context)
    );
    let (class, code) = (ErrorClass::Permanent, ErrorCode::SourceChanged);
    Err(AttemptError::new(class, code, message))
}

/// How a table is copied anew whose log cannot be followed any further.
fn anew(context: &OrderContext) -> String {
    let step = &context.order.step;
    format!("`highwater cdc resync FILE {step} --reason TEXT` copies the table anew")
}

pub(super) fn position(at: StoredWatermark) -> Result<Lsn, AttemptError> {
    Lsn::of_cursor(at.position).ok_or_else(|| malformed("a watermark that is no position in a log"))
}

pub(super) fn no_position(context: &OrderContext) -> Result<AttemptError, AttemptError> {
    let (from, to) = context.tables()?;
    let message = format!(
        "{} no longer says up to where of the log of {} it is a copy, and nothing is applied: {}",
        to.table,
        from.relation,
        anew(context)
    );
    let (class, code) = (ErrorClass::Permanent, ErrorCode::LogGap);
    Ok(AttemptError::new(class, code, message))
}
