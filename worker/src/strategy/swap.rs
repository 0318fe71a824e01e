//! A table loaded beside the one that is read: probe both sides, prepare the two, load the new one,
//! build what it lacks, exchange them, ask the target whether it still has that.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Swap;

use super::{Run, other_work};
use crate::attempt::{
    AttemptContext, as_prepared, ask_for_commits, build, build_shadow, check_table, count_left_out,
    drop_shadow, exchange, make_shadow, move_slice, prepare, probe, publish_in_place,
    settle_exchange,
};

/// The phase that loads, in every plan of a swap.
const LOAD: u8 = 1;

/// A table that the step itself has made, to let another take its place, still lacks what only its
/// rows tell: where its sequences go on.
async fn finish_made(cx: &AttemptContext<'_>) -> Result<(), AttemptError> {
    match cx.of.load_order()?.twin {
        Some(_) => build(cx).await.map(drop),
        None => Ok(()),
    }
}

#[async_trait]
impl Run for Swap {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Probe => probe(self, cx).await,
            Work::Prepare => {
                let prepared = prepare(cx).await?;
                if matches!(prepared, Outcome::Prepared { .. }) {
                    make_shadow(cx.of).await?;
                }
                Ok(prepared)
            }
            Work::Partition(slice) => as_prepared(cx, move_slice(cx, *slice, &[]).await).await,
            Work::Count(whole) => count_left_out(cx.of, *whole).await,
            Work::Build => build_shadow(cx).await,
            Work::Check => check_table(cx.of).await,
            Work::Publish if self.is_in_place() => {
                let checks = &cx.of.load_order()?.checks;
                as_prepared(cx, publish_in_place(cx, LOAD, checks).await).await
            }
            Work::Publish => as_prepared(cx, exchange(cx, LOAD, self.lock_timeout).await).await,
            Work::Close { phase } if self.is_in_place() => {
                let closed = ask_for_commits(cx.of, *phase).await?;
                if matches!(&closed, Outcome::Closed(there) if there.count() > 0) {
                    drop_shadow(cx.of).await?;
                    finish_made(cx).await?;
                }
                Ok(closed)
            }
            Work::Close { phase } => {
                settle_exchange(cx, self.keep_old).await?;
                finish_made(cx).await?;
                ask_for_commits(cx.of, *phase).await
            }
            Work::Statements
            | Work::Command
            | Work::Replay
            | Work::Reconcile
            | Work::Follow
            | Work::Noop(_)
            | Work::Fence => Err(other_work(work)),
        }
    }
}
