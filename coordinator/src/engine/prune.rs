//! Which runs are forgotten: the store and the view would otherwise grow with every run for ever.

use std::collections::BTreeMap;

use highwater_common::id::{PipelineName, RunId};
use highwater_common::record::RunIntent;

use super::view::{Cluster, Run};

/// Ended runs that each pipeline keeps, and as many plans that nobody ran.
pub(crate) const RUNS_KEPT: usize = 20;
/// How long a plan that nobody ran is kept, in microseconds.
const PLAN_KEPT_MICROS: i64 = 3_600_000_000;

/// The runs to forget as of `now_micros` by the leader's wall clock, oldest first: of each pipeline
/// the ended runs beyond the latest [`RUNS_KEPT`], and the plans that are older than an hour or
/// beyond as many.
#[must_use]
pub(crate) fn prunable(cluster: &Cluster, now_micros: i64) -> Vec<RunId> {
    let mut kept: BTreeMap<(&PipelineName, bool), usize> = BTreeMap::new();
    let mut forgotten: Vec<RunId> = cluster
        .newest_first()
        .into_iter()
        .filter(|run| is_prunable(run, &mut kept, now_micros))
        .map(|run| run.id)
        .collect();
    forgotten.reverse();
    forgotten
}

fn is_prunable<'a>(
    run: &'a Run,
    kept: &mut BTreeMap<(&'a PipelineName, bool), usize>,
    now_micros: i64,
) -> bool {
    let is_plan = run.record.intent == RunIntent::Plan;
    if !is_plan && !run.record.status.has_ended() {
        return false;
    }
    let count = kept.entry((&run.record.pipeline, is_plan)).or_default();
    *count = count.saturating_add(1);
    *count > RUNS_KEPT
        || (is_plan
            && run
                .record
                .reference_time_micros
                .saturating_add(PLAN_KEPT_MICROS)
                < now_micros)
}
