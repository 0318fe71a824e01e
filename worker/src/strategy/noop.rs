//! Holds a slot.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Noop;

use super::{Run, other_work};
use crate::attempt::AttemptContext;

#[async_trait]
impl Run for Noop {
    async fn run(&self, _: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Noop(_) => {
                tokio::time::sleep(self.hold).await;
                Ok(Outcome::Done)
            }
            Work::Probe
            | Work::Prepare
            | Work::Partition(_)
            | Work::Build
            | Work::Check
            | Work::Publish
            | Work::Statements
            | Work::Command
            | Work::Replay
            | Work::Reconcile
            | Work::Follow
            | Work::Fence
            | Work::Count(_)
            | Work::Close { .. } => Err(other_work(work)),
        }
    }
}
