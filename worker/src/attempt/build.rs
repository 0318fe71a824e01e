//! What a table that was made for the step still lacks, built once its rows are there.

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_runtime::failpoint;

use super::{AttemptContext, malformed};
use crate::connector::BuildRequest;

/// Builds what the step's table lacks.
pub(crate) async fn build(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let (context, load_order) = (cx.of, cx.of.load_order()?);
    let twin = load_order.twin.clone();
    let request = BuildRequest {
        table: context.tables()?.1.table.clone(),
        twin: twin.ok_or_else(|| malformed("nothing to build"))?,
        stream: load_order.stream.clone(),
    };
    failpoint::hit_on("attempt::before_build", &context.worker).await?;
    let target = context.target()?;
    let builds = target
        .builds()
        .ok_or_else(|| malformed("a target that builds nothing later"))?;
    builds.build(&request).await?;
    failpoint::hit_on("attempt::after_build", &context.worker).await?;
    Ok(Outcome::Done)
}
