//! Statements of the user's own: prepare the target's ledger, run them, ask the target whether it
//! still has what they did.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::Script;

use super::{Run, other_work};
use crate::attempt::{AttemptContext, ask_for_commits, prepare, run_statements};

#[async_trait]
impl Run for Script {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Prepare => prepare(cx).await,
            Work::Statements => ended(run_statements(cx, &self.sql, None).await),
            Work::Partition(period) => ended(run_statements(cx, &self.sql, Some(*period)).await),
            Work::Close { phase } => ask_for_commits(cx.of, *phase).await,
            Work::Probe
            | Work::Build
            | Work::Check
            | Work::Publish
            | Work::Command
            | Work::Count(_)
            | Work::Replay
            | Work::Reconcile
            | Work::Follow
            | Work::Noop(_)
            | Work::Fence => Err(other_work(work)),
        }
    }
}

/// A target that is another one now is to be prepared again.
fn ended(ran: Result<Outcome, AttemptError>) -> Result<Outcome, AttemptError> {
    match ran {
        Err(error) if error.is_of(&[ErrorCode::TargetChanged]) => Ok(Outcome::Unprepared(error)),
        ended => ended,
    }
}
