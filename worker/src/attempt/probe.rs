//! What a step's plan is made of: both sides' catalogues, and what the target's ledger says.

use highwater_common::assignment::{AttemptError, ErrorClass, FACTS_BYTES_MAX, Outcome};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{Adopted, StepFacts};
use highwater_common::id::ConnectionName;
use highwater_common::plan::{carried, wants_twin};
use highwater_common::strategy::{Load, PlacingRequest};
use highwater_common::window::WindowFacts;
use highwater_runtime::failpoint;

use super::left_out::count_outside_of_declared;
use super::{AttemptContext, OrderContext, log_errand, malformed, window};
use crate::connector::{KeptBounds, KeyProbe, PlacingProbe, SourceProbe, Target, TargetProbe};
use crate::patience::{Call, answered_at_work};

fn keeps_no_bounds(target: &ConnectionName) -> AttemptError {
    let message = format!(
        "a table that is cut `by: keyset` cannot be loaded into {target}: its kind of database keeps no \
         bounds with its receipts yet; use `by: hash`, or cut by a time or by a whole number"
    );
    let code = ErrorCode::UnsupportedPartitionColumn;
    AttemptError::new(ErrorClass::Permanent, code, message)
}

/// The bounds that the target keeps with the step's stream; `None` of one that keeps none.
async fn kept(
    context: &OrderContext,
    target: &dyn Target,
) -> Result<Option<Vec<KeptBounds>>, AttemptError> {
    let Some(bounds) = target.bounds() else {
        return Ok(None);
    };
    let stream = context.stream()?;
    let kept = context.of_target(Call::Ledger, bounds.kept(&stream));
    Ok(Some(kept.await?))
}

/// Finds out what the step's plan is made of, and tells it as JSON.
pub(crate) async fn probe(
    load: &dyn Load,
    cx: &AttemptContext<'_>,
) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let (from, to) = context.tables()?;
    failpoint::hit_on("attempt::before_probe", &context.worker).await?;
    let Some(asked) = load.probe() else {
        return Err(malformed("nothing to probe"));
    };
    let (triggers, exchange, window) = (asked.triggers, asked.exchange, asked.window);
    let (mut source, target) = (context.source()?, context.target()?);
    let doing = cx.progress.doing();
    source.tell(doing);
    let placing = match asked.placing {
        None => None,
        Some(PlacingRequest::Hash(columns)) => Some(PlacingProbe::Hash(columns.to_vec())),
        Some(PlacingRequest::Keys {
            columns,
            max_rows,
            goes_on,
        }) => Some(PlacingProbe::Keys(KeyProbe {
            columns: columns.to_vec(),
            max_rows,
            kept: kept(context, target.as_ref())
                .await?
                .ok_or_else(|| keeps_no_bounds(&to.connection))?,
            goes_on,
        })),
        Some(PlacingRequest::Auto { max_rows, goes_on }) => {
            let kept = kept(context, target.as_ref()).await?;
            Some(PlacingProbe::Auto {
                keeps_bounds: kept.is_some(),
                key: KeyProbe {
                    columns: Vec::new(),
                    max_rows,
                    kept: kept.unwrap_or_default(),
                    goes_on,
                },
            })
        }
    };
    let asked = SourceProbe {
        relation: from.relation.clone(),
        columns: from.columns.clone(),
        partition_column: asked.partition_column.map(str::to_owned),
        placing,
        bounds_declared: asked.bounds_declared,
        defined: wants_twin(to, context.source_engine(), context.target_engine()),
    };
    let probing = source.probe(&asked);
    let (connection, stall) = (&from.connection, context.stall());
    let probed = answered_at_work(Call::Probe, connection, stall, doing, probing).await;
    doing.say(String::new());
    let mut facts = probed?;
    if let Some(partition) = &mut facts.partition {
        partition.left_out =
            count_outside_of_declared(context, source.as_ref(), load, partition).await?;
    }
    let horizon = match (window, &facts.partition) {
        (Some(asked), Some(by)) => {
            window::horizon(context, source.as_ref(), asked, &by.column, by.kind).await?
        }
        (None, _) | (_, None) => None,
    };
    let source = facts.renamed(&from.columns.renames);
    let partition = source.partition.as_ref().map(|by| {
        if by.placing.is_some() {
            return (by.column.clone(), by.kind);
        }
        let arrives = source.arrival_of(&by.column);
        let name = arrives.map_or(&by.column, |column| &column.name);
        (name.clone(), by.kind)
    });
    // Before the target is probed, because the probe of one that is another cluster's is refused. A
    // repeat finds it this cluster's already.
    let adopted = match context.order.adopts {
        true => {
            let former = context
                .of_target(Call::Adopt, target.adopt(&context.order.cluster))
                .await?;
            Some(Adopted { former })
        }
        false => None,
    };
    let twin = source
        .definition
        .as_ref()
        .map(|definition| carried(definition, &source.columns).0);
    let asked = TargetProbe {
        twin,
        cluster: context.order.cluster,
        table: to.table.clone(),
        source_engine: source.engine,
        columns: source.columns.clone(),
        partition,
        stream: context.stream()?,
        triggers,
        exchange,
    };
    let probed = context.of_target(Call::Probe, target.probe(&asked)).await?;
    let window = match window {
        None => None,
        Some(asked) => Some(WindowFacts {
            horizon,
            slot: log_errand::slot(context).await?,
            ..window::behind(context, target.as_ref(), asked).await?
        }),
    };
    let json = serde_json::to_vec(&StepFacts {
        source,
        target: probed,
        window,
        adopted,
        receipts: None,
        undone: None,
        beside: None,
        log: None,
    })
    .map_err(|error| {
        AttemptError::new(
            ErrorClass::Permanent,
            ErrorCode::MalformedFacts,
            error.to_string(),
        )
    })?;
    if json.len() > FACTS_BYTES_MAX {
        let message = format!(
            "what is known of {} and {} takes {} bytes, and at most {FACTS_BYTES_MAX} can be kept: \
             exclude columns under `from.columns`",
            from.relation,
            to.table,
            json.len()
        );
        return Err(AttemptError::new(
            ErrorClass::Permanent,
            ErrorCode::FactsTooLarge,
            message,
        ));
    }
    failpoint::hit_on("attempt::after_probe", &context.worker).await?;
    Ok(Outcome::Probed(json))
}
