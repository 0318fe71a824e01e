//! Where the window of a step begins that goes on where its last run ended, and how far it may reach.

use highwater_common::assignment::{AttemptError, StepOrder};
use highwater_common::cursor::CursorKind;
use highwater_common::plan::stream_id;
use highwater_common::strategy::WindowRequest;
use highwater_common::window::{Horizon, WindowFacts};

use super::{OrderContext, malformed};
use crate::connector::{HorizonRequest, Source, Target, Watermarks};
use crate::patience::{Call, answered};

/// What the step's probe asks for a window that begins at a watermark, if it has one.
pub(super) fn window_of(order: &StepOrder) -> Option<WindowRequest<'_>> {
    let asked = order.strategy.load().probe()?.window;
    asked.filter(|asked| asked.keeps_watermark)
}

/// Where the window begins. How far it may reach is not asked.
pub(super) async fn behind(
    context: &OrderContext,
    target: &dyn Target,
    asked: WindowRequest<'_>,
) -> Result<WindowFacts, AttemptError> {
    if !asked.keeps_watermark {
        return Ok(WindowFacts::default());
    }
    let (order, stream) = (&context.order, context.stream()?);
    let asked_of = watermarks(target)?.watermark(&stream);
    let watermark = context.of_target(Call::Ledger, asked_of).await?;
    let continued = match (asked.continues, asked.follows_log) {
        (None, false) => None,
        (step, _) => {
            let (from, to) = context.tables()?;
            let stream = stream_id(&order.pipeline, step.unwrap_or(&order.step), Some(from), to);
            let asked = target.receipts(&order.cluster, &stream);
            let receipts = context.of_target(Call::Ledger, asked).await?;
            Some(receipts.coverage)
        }
    };
    let table = &context.target_table()?.table;
    let asked_of = watermarks(target)?.is_resynced(&stream, table);
    let resyncs = asked.follows_log && context.of_target(Call::Ledger, asked_of).await?;
    Ok(WindowFacts {
        horizon: None,
        watermark,
        continued,
        resyncs,
        slot: None,
    })
}

/// How a target keeps watermarks.
pub(super) fn watermarks(target: &dyn Target) -> Result<&dyn Watermarks, AttemptError> {
    target
        .watermarks()
        .ok_or_else(|| malformed("a target that keeps no watermarks"))
}

/// How far a window may reach that is read from now on, after the newest position of `column` was
/// read.
pub(super) async fn horizon(
    context: &OrderContext,
    source: &dyn Source,
    asked: WindowRequest<'_>,
    column: &str,
    kind: CursorKind,
) -> Result<Option<Horizon>, AttemptError> {
    let (Some(horizons), (from, _)) = (source.horizons(), context.tables()?) else {
        return Ok(None);
    };
    let request = HorizonRequest {
        table: context.cut_table()?.clone(),
        column: column.to_owned(),
        kind,
        rule: asked.horizon,
    };
    let asked = horizons.horizon(&request);
    answered(Call::Probe, &from.connection, context.stall(), asked)
        .await
        .map(Some)
}
