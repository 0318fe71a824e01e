//! The load strategies: how an attempt of each of their phases runs. What they decide stands in
//! `highwater_common::strategy`.

mod backfill;
mod cdc;
mod exec;
mod full_refresh;
mod incremental;
mod noop;
mod sql;
mod swap;

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::spec::Strategy;

use crate::attempt::{AttemptContext, malformed};

/// How a strategy's attempts run.
#[async_trait]
pub(crate) trait Run: Sync {
    /// Runs one attempt of a task of one of its phases.
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError>;
}

/// How the attempts of a step with this strategy run.
pub(crate) fn run_of(strategy: &Strategy) -> &dyn Run {
    match strategy {
        Strategy::Backfill(backfill) => backfill.as_ref(),
        Strategy::FullRefresh(refresh) => refresh.as_ref(),
        Strategy::Swap(swap) => swap.as_ref(),
        Strategy::Incremental(incremental) => incremental.as_ref(),
        Strategy::Sql(script) => script.as_ref(),
        Strategy::Exec(program) => program.as_ref(),
        Strategy::Cdc(cdc) => cdc.as_ref(),
        Strategy::Noop(noop) => noop,
    }
}

/// Work that no phase of the strategy has.
fn other_work(work: &Work) -> AttemptError {
    malformed(&format!("`{work}`, which its strategy does not know"))
}
