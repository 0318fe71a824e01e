//! What documents cost.

use highwater_common::id::SessionId;
use highwater_common::segment::{Segment, TaskResult};

use super::*;
use crate::engine::fixtures::{View, give, session, view};
use crate::engine::task_table::tests::STATES_READ;
use crate::engine::{Seat, assign};

const NOW: i64 = 1_000_000;

/// A run of so many tasks, half of them done, one open, and a worker with free slots.
fn half_done(tasks: u64) -> (View, SessionId) {
    let mut view = view(
        "",
        &[(
            "a",
            &format!("    strategy: {{type: noop, tasks: {tasks}}}\n"),
        )],
    );
    view.begin();
    let step = view.run_mut().steps.values_mut().next().expect("one step");
    let table = step.table_mut(1, 0).expect("the work of a no-op");
    let done = TaskResult {
        rows: 1,
        millis: 1,
        attempts: 1,
    };
    for number in 0..tasks / 2 / 1024 {
        let (mut segment, _) = table.segment_of(Segment::ordinal(number, 0));
        let mut moves = Vec::new();
        for index in 0..segment.len() {
            let ordinal = Segment::ordinal(number, index);
            if table.state(ordinal) == TaskState::Pending {
                segment.set_done(index, done);
                moves.push((ordinal, TaskState::Pending, TaskState::Done, Some(done)));
            }
        }
        let bytes = segment.to_bytes();
        table.put_segment(number, segment, bytes, &moves);
    }
    let id = session(&mut view.cluster, 0, true);
    let run = view.run().id;
    let last = view.work("a", tasks - 1);
    give(&mut view, run, &last, id, 1);
    (view, id)
}

/// How many tasks were looked at while something was done.
fn states_read<T>(act: impl FnOnce() -> T) -> u64 {
    let before = STATES_READ.get();
    act();
    STATES_READ.get() - before
}

#[test]
fn a_million_tasks_are_looked_at_no_more_than_a_few_thousand() {
    let of = |tasks: u64| {
        let (view, id) = half_done(tasks);
        let (cluster, run) = (&view.cluster, view.run());
        let short = || "r-abc".to_owned();
        let dead = Some(TaskState::Dead);
        let all = Chosen::of(run, &[]).expect("all of it");
        [
            // WHEN a document is made, the workers are listed, the few tasks in some state are,
            states_read(|| run_document(cluster, run, short(), NOW)),
            states_read(|| {
                cluster_document(
                    cluster,
                    Duration::ZERO,
                    short(),
                    1,
                    String::new(),
                    String::new(),
                    0,
                )
            }),
            states_read(|| tasks_document(run, short(), &all, dead, 500)),
            states_read(|| tasks_document(run, short(), &all, Some(TaskState::Open), 500)),
            states_read(|| tasks_document(run, short(), &all, Some(TaskState::Pending), 500)),
            // WHEN a turn looks for what follows, for what is due, and for what to hand out
            states_read(|| crate::engine::advance(cluster)),
            states_read(|| {
                run.steps
                    .values()
                    .flat_map(Step::tables)
                    .map(|table| table.retries.next_moment(NOW))
                    .min()
            }),
            states_read(|| {
                assign(
                    cluster,
                    &[Seat {
                        session: id,
                        free: 16,
                    }],
                    NOW,
                    256,
                )
            }),
        ]
    };
    // THEN it takes as many looks at single tasks in a run of a million as in one of ten thousand
    assert_eq!(of(10_240), of(1_000_000));
}
