//! A program of the user's own.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Program;

use super::{Run, other_work};
use crate::attempt::{AttemptContext, run_program};

#[async_trait]
impl Run for Program {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Command => run_program(cx, self).await,
            Work::Probe
            | Work::Prepare
            | Work::Partition(_)
            | Work::Build
            | Work::Check
            | Work::Publish
            | Work::Statements
            | Work::Replay
            | Work::Reconcile
            | Work::Follow
            | Work::Count(_)
            | Work::Noop(_)
            | Work::Fence
            | Work::Close { .. } => Err(other_work(work)),
        }
    }
}
