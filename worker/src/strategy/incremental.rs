//! What a table has got since the last run: probe both sides, prepare the target, move the window
//! with its watermark, ask the target what it has of it, and remove what the source has no more.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Incremental;

use super::{Run, other_work};
use crate::attempt::{
    AttemptContext, as_prepared, ask_for_commits, build, check_table, move_slice, prepare_with,
    probe, reconcile,
};

#[async_trait]
impl Run for Incremental {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Probe => probe(self, cx).await,
            Work::Prepare => {
                let mode = cx.of.load_order()?.write.mode;
                prepare_with(cx, &self.own_columns(), mode).await
            }
            Work::Partition(slice) => as_prepared(cx, move_slice(cx, *slice, &[]).await).await,
            Work::Reconcile => as_prepared(cx, reconcile(cx).await).await,
            Work::Check => check_table(cx.of).await,
            Work::Close { phase } => ask_for_commits(cx.of, *phase).await,
            Work::Build => build(cx).await,
            Work::Count(_)
            | Work::Publish
            | Work::Statements
            | Work::Command
            | Work::Replay
            | Work::Follow
            | Work::Noop(_)
            | Work::Fence => Err(other_work(work)),
        }
    }
}
