//! Counts the rows of the source that no partition of a step has taken.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_common::range::CursorRange;

use super::{OrderContext, malformed};
use crate::connector::LeftOutRequest;
use crate::failpoint;
use crate::patience::{Call, answered};

/// How long a server may count what a step has left out.
const COUNT_TIME: Duration = Duration::from_mins(1);

/// Counts what the step's partitions, now that they have ended, left where it is.
pub(super) async fn count(context: &OrderContext, whole: CursorRange) -> Result<Outcome, AttemptError> {
    let settled = context.settled()?;
    let (_, from) = context.order.source.as_ref().ok_or_else(|| malformed("no source"))?;
    let request = LeftOutRequest {
        table: from.table.clone(),
        partition_column: settled.partition_column.clone(),
        form: settled.source_form,
        whole,
        within: COUNT_TIME,
    };
    failpoint::hit_on("attempt::before_count", &context.worker).await?;
    let source = context.source()?;
    let counting = source.count_left_out(&request);
    Ok(Outcome::Counted(answered(Call::Count, &from.connection, context.stall(), counting).await?))
}
