//! A range of a table, in parallel: probe both sides, prepare the target, move each partition,
//! count what none of them took, ask the target what it has of them.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Backfill;

use super::{Run, other_work};
use crate::attempt::{
    AttemptContext, as_prepared, ask_for_commits, build, check_table, count_left_out, move_slice,
    prepare, probe,
};

#[async_trait]
impl Run for Backfill {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Probe => probe(self, cx).await,
            Work::Prepare => prepare(cx).await,
            Work::Partition(slice) => as_prepared(cx, move_slice(cx, *slice, &[]).await).await,
            Work::Count(whole) => count_left_out(cx.of, *whole).await,
            Work::Check => check_table(cx.of).await,
            Work::Close { phase } => ask_for_commits(cx.of, *phase).await,
            Work::Build => build(cx).await,
            Work::Publish
            | Work::Statements
            | Work::Command
            | Work::Replay
            | Work::Reconcile
            | Work::Follow
            | Work::Noop(_)
            | Work::Fence => Err(other_work(work)),
        }
    }
}
