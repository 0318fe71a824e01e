//! Tracks against the simplest thing that could be right: a list of states.

use std::sync::Arc;

use highwater_common::spec::Noop;
use highwater_common::strategy::{Load as _, PlanContext};
use highwater_common::task::TaskEvent;
use proptest::prelude::*;

use super::*;

thread_local! {
    /// How often a table was asked for a task's state: what a walk over tasks costs, whatever the
    /// machine.
    pub(crate) static STATES_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many no-op tasks.
fn table(tasks: u64) -> TaskTable {
    let noop = Noop {
        tasks,
        hold: std::time::Duration::ZERO,
    };
    let (pipeline, step) = (
        "shop".parse().expect("a name"),
        "a".parse().expect("a name"),
    );
    let plan = noop
        .plan(
            &PlanContext {
                pipeline: &pipeline,
                step: &step,
                followed: None,
            },
            None,
        )
        .expect("a plan");
    TaskTable::planned(&Arc::new(plan), 0)
}

fn counts(states: &[TaskState]) -> TaskCounts {
    let mut counts = TaskCounts::default();
    for state in states {
        *counts.of_mut(*state) += 1;
    }
    counts
}

const EVENTS: [TaskEvent; 7] = [
    TaskEvent::Assigned,
    TaskEvent::Completed,
    TaskEvent::Delayed,
    TaskEvent::Died,
    TaskEvent::Released,
    TaskEvent::Due,
    TaskEvent::Retried,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_track_agrees_with_a_list_of_states_also_after_it_was_loaded(
        tasks in 1_u64..2_500,
        moves in proptest::collection::vec((0_u64..2_501, 0_usize..EVENTS.len(), 0_u64..9), 0..300),
        near in any::<bool>(),
    ) {
        // GIVEN a table and a list
        let mut table = self::table(tasks);
        let mut states = vec![TaskState::Pending; usize::try_from(tasks).unwrap()];
        let mut rows = 0;
        // WHEN tasks move at random
        for (at, event, more) in moves {
            let at = if near { at % 7 } else { at } % tasks;
            let slot = &mut states[usize::try_from(at).unwrap()];
            let Ok(to) = slot.apply(EVENTS[event]) else { continue };
            let (number, index) = Segment::place(at);
            let (mut segment, _) = table.segment_of(at);
            let result = (to == TaskState::Done).then_some(TaskResult { rows: more, millis: 1, attempts: 1 });
            match result {
                Some(result) => segment.set_done(index, result),
                None => segment.set(index, to),
            };
            rows += result.map_or(0, |result| result.rows);
            let bytes = segment.to_bytes();
            table.put_segment(number, segment, bytes, &[(at, *slot, to, result)]);
            *slot = to;
        }
        // THEN the table says the same, and so does one that read the segments
        let mut loaded = self::table(tasks);
        for (number, (segment, bytes)) in &table.segments {
            loaded.load(*number, segment.clone(), bytes.clone().unwrap());
        }
        loaded.settle();
        for table in [&table, &loaded] {
            let seen: Vec<TaskState> = (0..table.len).map(|ordinal| table.state(ordinal)).collect();
            prop_assert_eq!(&seen, &states);
            prop_assert_eq!((table.counts, table.rows), (counts(&states), rows));
            let mut pending: Vec<u64> = table.pending().collect();
            pending.sort_unstable();
            let expected: Vec<u64> = (0..table.len)
                .filter(|ordinal| states[usize::try_from(*ordinal).unwrap()] == TaskState::Pending)
                .collect();
            prop_assert_eq!(pending, expected);
            for state in TaskState::ALL {
                let expected: Vec<u64> =
                    (0..).zip(&states).filter(|(_, other)| **other == state).map(|(ordinal, _)| ordinal).collect();
                match state {
                    // Their records come with the tests of the leader.
                    TaskState::Open | TaskState::RetryWait | TaskState::Dead => {}
                    _ => prop_assert_eq!(table.in_state(state).collect::<Vec<_>>(), expected, "{}", state),
                }
            }
            let is_over = states.iter().all(|state| state.has_ended());
            prop_assert_eq!(table.has_ended(), is_over);
        }
    }

    #[test]
    fn a_watermark_reaches_as_far_as_a_walk_over_all_ranges_finds(
        newest in any::<bool>(),
        moves in proptest::collection::vec((0_u64..8, 0_usize..EVENTS.len()), 0..60),
    ) {
        // GIVEN a load of a few partitions, in either order
        let load = format!(
            "    strategy: {{type: backfill, order: {}}}\n    from: {{connection: source, table: \
             a}}\n    to: {{connection: target, table: a}}\n    partition: {{by: integer, column: \
             id, width: 1}}\n    write: {{mode: replace_partition}}\n",
            if newest { "newest" } else { "oldest" },
        );
        let view = crate::engine::fixtures::view("", &[("a", &load)]);
        let (name, step) = view.run().steps.iter().next().expect("one step");
        let plan = Arc::new(view.run().plan.as_ref().expect("planned").steps[name].clone());
        let mut table = step.work_tables().next().expect("a load").clone();
        // WHEN tasks move at random
        for (at, event) in moves {
            let from = table.state(at);
            let Ok(to) = from.apply(EVENTS[event]) else { continue };
            if at >= table.len {
                continue;
            }
            let (number, index) = Segment::place(at);
            let (mut segment, _) = table.segment_of(at);
            segment.set(index, to);
            let bytes = segment.to_bytes();
            table.put_segment(number, segment, bytes, &[(at, from, to, None)]);
            // THEN after each move the table has kept what a walk finds, and so has one that read
            // the segments
            let partitioning = plan.partitions().expect("a load").partitioning();
            let is_committed = |no: &u64| {
                matches!(table.state(partitioning.ordinal_of(*no)), TaskState::Done | TaskState::Covered)
            };
            let walked = (0..partitioning.ranges()).take_while(is_committed).count() as u64;
            prop_assert_eq!(table.reached, walked);
            let mut loaded = TaskTable::planned(&plan, 1);
            for (number, (segment, bytes)) in &table.segments {
                loaded.load(*number, segment.clone(), bytes.clone().unwrap());
            }
            loaded.settle();
            prop_assert_eq!(loaded.reached, walked);
        }
    }
}
