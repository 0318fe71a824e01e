//! One task that waits: a strategy to throw away, which shows what a new one takes.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Pause;

use super::{Run, other_work};
use crate::attempt::AttemptContext;

#[async_trait]
impl Run for Pause {
    async fn run(&self, _: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Noop(_) => {
                tokio::time::sleep(self.lasts).await;
                Ok(Outcome::Done)
            }
            other => Err(other_work(other)),
        }
    }
}
