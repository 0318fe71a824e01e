//! What a person asks of the log that a step follows: where it stands, and to begin it anew.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::CursorKind;
use highwater_common::log::{LogIdentity, LogStanding, Lsn, SlotStanding};
use highwater_common::range::{CursorRange, Slice};
use highwater_runtime::failpoint;

use super::log::{OPEN_WAIT, change_log, held_position, of_source, position};
use super::{OrderContext, malformed};
use crate::connector::{ChangeLog, LogRequest};
use crate::patience::Call;

/// Where the step stands in the log that it follows; nothing of one that follows none.
pub(super) async fn standing(context: &OrderContext) -> Result<Option<LogStanding>, AttemptError> {
    match request(context)? {
        Some(request) => look(context, &request).await.map(Some),
        None => Ok(None),
    }
}

/// The slot of the log that the step follows, if there is one.
pub(super) async fn slot(context: &OrderContext) -> Result<Option<SlotStanding>, AttemptError> {
    let Some(request) = request(context)? else {
        return Ok(None);
    };
    let source = context.source()?;
    let source = change_log(source.as_ref())?;
    let shown = of_source(context, source.standing(&request)).await?;
    Ok(shown.slot)
}

async fn look(context: &OrderContext, request: &LogRequest) -> Result<LogStanding, AttemptError> {
    let (source, target) = (context.source()?, context.target()?);
    let source = change_log(source.as_ref())?;
    let held = held_position(context, target.as_ref()).await?;
    let at = held.as_ref().map(|held| position(held.watermark));
    let at = at.transpose()?;
    let stream = context.stream()?;
    let asked = target.receipts(&context.order.cluster, &stream);
    let receipts = context.of_target(Call::Ledger, asked).await?;
    let found = of_source(context, source.standing(request)).await?;
    let stored = held.as_ref().and_then(|held| held.identity.clone());
    let log = context.order.strategy.load().log();
    let limit = log.and_then(|log| log.retained_max);
    let slot = found.slot.as_ref();
    Ok(LogStanding {
        alert: slot.and_then(|slot| slot.alert(&request.slot, limit)),
        slot: request.slot.clone(),
        publication: request.publication.clone(),
        found: found.slot,
        keep_bytes: found.keep_bytes,
        end: found.end,
        at: found.at,
        position: at,
        reached_at: held.as_ref().and_then(|held| held.reached_at),
        is_copied: is_copied(&receipts.coverage),
        live_since: held.as_ref().and_then(|held| held.live_since),
        gap: match at {
            None => None,
            Some(after) => gap(context, source, request, after, stored).await?,
        },
    })
}

/// Why the log cannot be followed from a position on, if it cannot.
async fn gap(
    context: &OrderContext,
    source: &dyn ChangeLog,
    request: &LogRequest,
    after: Lsn,
    stored: Option<LogIdentity>,
) -> Result<Option<String>, AttemptError> {
    let opening = source.open(request, Some(after), OPEN_WAIT);
    let opened = match of_source(context, opening).await {
        Ok(opened) => opened,
        Err(error) if error.class == ErrorClass::Permanent => return Ok(Some(error.message)),
        Err(error) => return Err(error),
    };
    let Some(stored) = stored else {
        return Ok(None);
    };
    // Whoever only looks knows no plan, and takes the columns that were copied last.
    let copied: Vec<&str> = stored.columns.iter().map(|of| of.name.as_str()).collect();
    let untold = stored.untold(&opened.identity.of_columns(&copied));
    Ok((!untold.is_empty()).then(|| untold.join("; ")))
}

/// Drops the slot with all that it keeps.
pub(super) async fn drop_log(context: &OrderContext) -> Result<(), AttemptError> {
    let request = request(context)?.ok_or_else(|| malformed("a step that follows no log"))?;
    let source = context.source()?;
    let source = change_log(source.as_ref())?;
    of_source(context, source.drop_slot(&request)).await?;
    failpoint::hit_on("attempt::after_drop_slot", &context.worker).await?;
    Ok(())
}

/// The log that the step follows, without its columns.
fn request(context: &OrderContext) -> Result<Option<LogRequest>, AttemptError> {
    let Some(log) = context.order.strategy.load().log() else {
        return Ok(None);
    };
    let source = context.order.source.as_ref();
    Ok(Some(LogRequest {
        slot: log.slot.to_owned(),
        publication: log.publication.to_owned(),
        table: context.cut_table()?.clone(),
        columns: Vec::new(),
        left_out: Vec::new(),
        key: Vec::new(),
        makes: source.is_some_and(|(connection, _)| !connection.is_read_only()),
    }))
}

fn is_copied(coverage: &Coverage) -> bool {
    coverage.contains(CursorKind::Integer, &Slice::Range(CursorRange::ALL))
}
