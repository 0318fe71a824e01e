//! Counts the rows of the source that no partition of a step has taken.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_common::facts::PartitionFacts;
use highwater_common::left_out::LeftOut;
use highwater_common::range::CursorRange;
use highwater_common::strategy::Load;
use highwater_runtime::failpoint;

use super::{OrderContext, malformed};
use crate::connector::{LeftOutRequest, Source};
use crate::patience::{Call, answered};

/// How long a server may count what a step has left out.
const COUNT_TIME: Duration = Duration::from_mins(1);

/// How long a server may count for a plan, which can do without.
const PLAN_TIME: Duration = Duration::from_secs(5);

/// Counts the rows outside of the range that the step declares, before it is planned. `None` when
/// it declares none.
pub(super) async fn count_outside_of_declared(
    context: &OrderContext,
    source: &dyn Source,
    load: &dyn Load,
    partition: &PartitionFacts,
) -> Result<Option<LeftOut>, AttemptError> {
    let (Some(whole), (from, _)) = (load.declared(partition.kind), context.tables()?) else {
        return Ok(None);
    };
    let request = LeftOutRequest {
        table: context.cut_table()?.clone(),
        partition_column: partition.column.clone(),
        form: partition.form,
        whole,
        within: PLAN_TIME,
    };
    let counting = source.count_left_out(&request);
    Ok(Some(
        answered(Call::Count, &from.connection, context.stall(), counting).await?,
    ))
}

/// Counts what the step's partitions, now that they have ended, left where it is.
pub(crate) async fn count_left_out(
    context: &OrderContext,
    whole: CursorRange,
) -> Result<Outcome, AttemptError> {
    let cut_by = context.cut_by()?;
    let (_, from) = context
        .order
        .source
        .as_ref()
        .ok_or_else(|| malformed("no source"))?;
    let request = LeftOutRequest {
        table: context.cut_table()?.clone(),
        partition_column: cut_by.column.clone(),
        form: cut_by.source_form,
        whole,
        within: COUNT_TIME,
    };
    failpoint::hit_on("attempt::before_count", &context.worker).await?;
    let source = context.source()?;
    let counting = source.count_left_out(&request);
    Ok(Outcome::Counted(
        answered(Call::Count, &from.connection, context.stall(), counting).await?,
    ))
}
