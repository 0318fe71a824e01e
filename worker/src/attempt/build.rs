//! What a table that was made for the step still lacks, built once its rows are there.

use highwater_common::assignment::{AttemptError, Outcome};
use highwater_runtime::failpoint;

use super::{AttemptContext, OrderContext, malformed};
use crate::connector::BuildRequest;

/// Sessions that build a table at most: each may take as much memory as the server lends to one.
const SESSIONS_MAX: u32 = 4;

/// Builds what the step's table lacks.
pub(crate) async fn build(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let (context, load_order) = (cx.of, cx.of.load_order()?);
    let twin = load_order.twin.clone();
    let request = BuildRequest {
        table: context.tables()?.1.table.clone(),
        twin: twin.ok_or_else(|| malformed("nothing to build"))?,
        stream: load_order.stream.clone(),
        sessions: sessions(context),
    };
    failpoint::hit_on("attempt::before_build", &context.worker).await?;
    let target = context.target()?;
    let builds = target
        .builds()
        .ok_or_else(|| malformed("a target that builds nothing later"))?;
    cx.at_work(builds.build(&request, cx.progress.doing()))
        .await?;
    failpoint::hit_on("attempt::after_build", &context.worker).await?;
    Ok(Outcome::Done)
}

/// One where connections are limited: a task counts as one of them.
fn sessions(context: &OrderContext) -> u32 {
    let target = context.order.target.as_ref();
    let limited = target.and_then(|(of, _)| of.max_connections());
    limited.map_or(SESSIONS_MAX, |_| 1)
}
