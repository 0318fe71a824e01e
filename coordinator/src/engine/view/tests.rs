//! Which runs keep which others waiting.

use highwater_common::record::RunIntent;
use highwater_common::status::RunStatus;

use crate::engine::fixtures::{View, view};

const NOOP: &str = "    strategy: {type: noop, tasks: 9}\n";

/// Two runs of one pipeline, the first of them older.
fn two_runs() -> View {
    let mut both = view("", &[("a", NOOP)]);
    let mut younger = view("", &[("a", NOOP)]);
    younger.rename(1, None);
    younger.run_mut().record.pipeline = both.run().record.pipeline.clone();
    both.cluster.runs.extend(younger.cluster.runs);
    both
}

/// Whether the older one, and the younger one, is held back.
fn held_back(view: &View) -> (bool, bool) {
    let mut runs: Vec<_> = view.cluster.runs.values().collect();
    runs.sort_by_key(|run| run.record.reference_time_micros);
    (
        view.cluster.is_held_back(runs[0]),
        view.cluster.is_held_back(runs[1]),
    )
}

#[test]
fn a_run_waits_for_the_older_one_of_its_pipeline_and_for_no_other() {
    // GIVEN two runs of one pipeline, THEN the younger one waits for the older one, and not the
    // other way round
    let mut both = two_runs();
    assert_eq!(held_back(&both), (false, true));
    // WHEN the younger one is a plan only, THEN it waits for nobody
    let (older, younger) = (
        both.run().id,
        *both.cluster.runs.keys().last().expect("two runs"),
    );
    let intent = |view: &mut View, id, intent| {
        view.cluster.runs.get_mut(&id).expect("there").record.intent = intent
    };
    intent(&mut both, younger, RunIntent::Plan);
    assert_eq!(held_back(&both), (false, false));
    // WHEN the older one is a plan only, or has ended, THEN nobody waits for it
    intent(&mut both, younger, RunIntent::Run);
    intent(&mut both, older, RunIntent::Plan);
    assert_eq!(held_back(&both), (false, false));
    intent(&mut both, older, RunIntent::Run);
    both.cluster
        .runs
        .get_mut(&older)
        .expect("there")
        .record
        .status = RunStatus::Success;
    assert_eq!(held_back(&both), (false, false));
    // AND runs of other pipelines do not wait for each other
    let mut apart = two_runs();
    apart
        .cluster
        .runs
        .get_mut(&younger)
        .expect("there")
        .record
        .pipeline = "shop1".parse().expect(
        "a \
        name",
    );
    assert_eq!(held_back(&apart), (false, false));
}
