//! The stream taken, and the target made ready: once a step, before anything is moved.

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_common::facts::ColumnFacts;
use highwater_common::spec::WriteMode;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;

use super::window::{behind, window_of};
use super::{AttemptContext, superseded};
use crate::connector::{PrepareOutcome, PrepareRequest, StreamRequest};
use crate::patience::Call;

/// Takes the step's stream, and makes the ledger and the target table where they are missing.
pub(crate) async fn prepare(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let mode = cx.of.load_order()?.write.mode;
    prepare_with(cx, &[], mode).await
}

/// The same, of a table that has columns of its own, too, which the copied rows do not bring, and
/// that is asked whether it can be written in this `mode`.
pub(crate) async fn prepare_with(
    cx: &AttemptContext<'_>,
    own: &[ColumnFacts],
    mode: WriteMode,
) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let (order, load_order) = (&context.order, context.load_order()?);
    let to = context.target_table()?;
    let source = context.order.source.as_ref();
    let request = PrepareRequest {
        cluster: context.order.cluster,
        table: to.table.clone(),
        // Statements read what they like.
        source: source.map_or_else(
            || to.table.clone().into(),
            |(_, from)| from.relation.clone(),
        ),
        columns: [load_order.columns.as_slice(), own].concat(),
        source_engine: context.source_engine(),
        key: load_order.key.clone(),
        twin: load_order.twin.clone(),
        placing: load_order.cut_by.as_ref().and_then(|by| by.placing.clone()),
        partition_column: load_order
            .cut_by
            .as_ref()
            .filter(|by| by.placing.is_none())
            .map(|by| by.in_target().0.to_owned()),
        mode,
        triggers: load_order.write.triggers,
        on_schema_change: load_order.write.on_schema_change,
        stream: stream_request(cx)?,
    };
    failpoint::hit_on("attempt::prepare", &context.worker).await?;
    let target = context.target()?;
    let prepared = context
        .of_target(Call::Prepare, target.prepare(&request))
        .await?;
    failpoint::hit_on("attempt::after_prepare", &context.worker).await?;
    match prepared {
        PrepareOutcome::Prepared {
            warnings,
            coverage,
            fingerprint,
        } => {
            let coverage = match window_of(order) {
                Some(asked) => {
                    let appended = load_order.write.mode == WriteMode::Append;
                    let facts = behind(context, target.as_ref(), asked).await?;
                    facts.digest(appended.then_some(&coverage))
                }
                None => coverage.digest(),
            };
            Ok(Outcome::Prepared {
                warnings,
                coverage,
                fingerprint,
            })
        }
        PrepareOutcome::Superseded => superseded(context, target.as_ref()).await,
        PrepareOutcome::Fenced { newer } => Ok(Outcome::Fenced { newer }),
    }
}

/// The step's stream, taken for the plan.
pub(super) fn stream_request(cx: &AttemptContext<'_>) -> Result<StreamRequest, AttemptError> {
    let (order, load_order) = (&cx.of.order, cx.of.load_order()?);
    Ok(StreamRequest {
        stream: load_order.stream.clone(),
        run: order.run,
        plan: Some(PlanMark::of(order.generation, &load_order.cut)),
        token: cx.assignment.fence.token,
        kind: load_order.cut_by.as_ref().map(|by| by.kind),
    })
}
