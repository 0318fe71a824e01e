//! A range of a table, in parallel: probe both sides, prepare the target, move each partition,
//! count what none of them took, ask the target what it has of them.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, ErrorClass, FACTS_BYTES_MAX, Outcome, Work};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{Adopted, StepFacts};
use highwater_common::spec::Backfill;
use highwater_common::strategy::Load as _;
use highwater_common::stream::PlanMark;
use highwater_runtime::failpoint;

use super::{Run, other_work};
use crate::attempt::{
    AttemptContext, as_prepared, ask_for_commits, count_left_out, count_outside_of_declared,
    malformed, move_slice, superseded,
};
use crate::connector::{PrepareOutcome, PrepareRequest, SourceProbe, StreamRequest, TargetProbe};
use crate::patience::{Call, answered};

#[async_trait]
impl Run for Backfill {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Probe => probe(self, cx).await,
            Work::Prepare => prepare(cx).await,
            Work::Partition(slice) => as_prepared(cx, move_slice(cx, *slice).await).await,
            Work::Count(whole) => count_left_out(cx.of, *whole).await,
            Work::Close { phase } => ask_for_commits(cx.of, *phase).await,
            Work::Noop(_) | Work::Fence => Err(other_work(work)),
        }
    }
}

async fn probe(backfill: &Backfill, cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let (Some((_, from)), Some((_, to))) = (&context.order.source, &context.order.target) else {
        return Err(malformed("nothing to probe"));
    };
    failpoint::hit_on("attempt::before_probe", &context.worker).await?;
    let Some(asked) = backfill.probe() else {
        return Err(malformed("nothing to probe"));
    };
    let (column, triggers) = (asked.partition_column.to_owned(), asked.triggers);
    let (source, target) = (context.source()?, context.target()?);
    let asked = SourceProbe {
        table: from.table.clone(),
        exclude: from.exclude.clone(),
        partition_column: Some(column.clone()),
        bounds_declared: asked.bounds_declared,
    };
    let mut facts = answered(
        Call::Probe,
        &from.connection,
        context.stall(),
        source.probe(&asked),
    )
    .await?;
    if let Some(partition) = &mut facts.partition {
        partition.left_out =
            count_outside_of_declared(context, source.as_ref(), backfill, partition).await?;
    }
    let source = facts;
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
    let stream =
        highwater_common::plan::stream_id(&context.order.pipeline, &context.order.step, backfill);
    let asked = TargetProbe {
        cluster: context.order.cluster,
        table: to.table.clone(),
        source_engine: source.engine,
        columns: source.columns.clone(),
        partition: source.partition.as_ref().map(|facts| (column, facts.kind)),
        stream,
        triggers,
        exchange: false,
    };
    let target = context.of_target(Call::Probe, target.probe(&asked)).await?;
    let json = serde_json::to_vec(&StepFacts {
        source,
        target,
        adopted,
        receipts: None,
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
             leave columns out with `from.exclude`",
            from.table,
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

async fn prepare(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let (context, assignment) = (cx.of, cx.assignment);
    let (order, load_order) = (&context.order, context.load_order()?);
    let (Some((_, from)), Some((_, to))) = (&context.order.source, &context.order.target) else {
        return Err(malformed("no tables"));
    };
    let request = PrepareRequest {
        cluster: context.order.cluster,
        table: to.table.clone(),
        source_table: from.table.clone(),
        columns: load_order.columns.clone(),
        source_engine: context.source_engine(),
        key: load_order.key.clone(),
        partition_column: load_order.cut_by.as_ref().map(|by| by.column.clone()),
        mode: load_order.write.mode,
        triggers: load_order.write.triggers,
        stream: StreamRequest {
            stream: load_order.stream.clone(),
            run: order.run,
            plan: Some(PlanMark::of(order.generation, &load_order.cut)),
            token: assignment.fence.token,
            kind: load_order.cut_by.as_ref().map(|by| by.kind),
        },
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
        } => Ok(Outcome::Prepared {
            warnings,
            coverage: coverage.digest(),
            fingerprint,
        }),
        PrepareOutcome::Superseded => superseded(context, target.as_ref()).await,
        PrepareOutcome::Fenced { newer } => Ok(Outcome::Fenced { newer }),
    }
}
