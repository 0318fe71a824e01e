//! What waits for a person, of the runs of a pipeline.

use std::collections::BTreeSet;

use highwater_common::id::{PipelineName, StepName};
use highwater_common::record::RunIntent;

use super::step::Step;
use super::view::{Cluster, Run};

/// A run of which something waits for a person that a run of the steps `asked` would do again: each
/// of them is looked for in the newest run that has it. A run of the whole pipeline would also do
/// again what its latest run has of steps that are in the file no more.
#[must_use]
pub(crate) fn in_doubt<'a>(
    cluster: &'a Cluster,
    pipeline: &PipelineName,
    mut asked: BTreeSet<StepName>,
    is_whole: bool,
) -> Option<&'a Run> {
    let is_doubted = |step: &Step| step.tables().any(|table| table.counts.in_doubt > 0);
    let runs = cluster.newest_first().into_iter();
    let real =
        runs.filter(|run| run.record.pipeline == *pipeline && run.record.intent != RunIntent::Plan);
    for (at, run) in real.enumerate() {
        let mut steps = run.steps.iter();
        let is_latest_of_all = is_whole && at == 0;
        if steps.any(|(name, step)| (is_latest_of_all || asked.contains(name)) && is_doubted(step))
        {
            return Some(run);
        }
        asked.retain(|name| !run.steps.contains_key(name));
        if asked.is_empty() {
            break;
        }
    }
    None
}
