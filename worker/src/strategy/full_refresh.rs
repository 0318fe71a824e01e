//! A whole table, put in the place of another's rows: probe both sides, prepare the target, publish
//! what the source holds, ask the target whether it still has it.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::FullRefresh;

use super::{Run, other_work};
use crate::attempt::{
    AttemptContext, as_prepared, ask_for_commits, build, prepare, probe, replace_all,
};

#[async_trait]
impl Run for FullRefresh {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Probe => probe(self, cx).await,
            Work::Prepare => prepare(cx).await,
            Work::Publish => {
                let checks = &cx.of.load_order()?.checks;
                as_prepared(cx, replace_all(cx, checks).await).await
            }
            Work::Close { phase } => ask_for_commits(cx.of, *phase).await,
            Work::Build => build(cx).await,
            Work::Partition(_)
            | Work::Check
            | Work::Count(_)
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
