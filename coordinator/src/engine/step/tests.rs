//! Tracks against the simplest thing that could be right: a list of states.

use std::sync::Arc;

use highwater_common::spec::Strategy;
use highwater_common::task::TaskEvent;
use proptest::prelude::*;

use super::*;

thread_local! {
    /// How often a track was asked for a task's state: what a walk over tasks costs, whatever the machine.
    pub(crate) static STATES_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Plans of so many no-op tasks, whose prepare task is covered.
fn track(tasks: u64) -> Track {
    let plan = Arc::new(StepPlan::Noop { tasks });
    Track::planned(plan, &Strategy::Noop { tasks, hold: std::time::Duration::ZERO })
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
        tasks in 0_u64..2_500,
        moves in proptest::collection::vec((0_u64..2_501, 0_usize..EVENTS.len(), 0_u64..9), 0..300),
        near in any::<bool>(),
    ) {
        // GIVEN a track and a list
        let mut track = track(tasks);
        let mut states = vec![TaskState::Pending; usize::try_from(tasks + 1).unwrap()];
        states[0] = TaskState::Covered;
        let mut rows = 0;
        // WHEN tasks move at random
        for (at, event, more) in moves {
            let at = if near { at % 7 } else { at } % (tasks + 1);
            let slot = &mut states[usize::try_from(at).unwrap()];
            let Ok(to) = slot.apply(EVENTS[event]) else { continue };
            let (number, index) = Segment::place(at);
            let (mut segment, _) = track.segment_of(at);
            let result = (to == TaskState::Done).then_some(TaskResult { rows: more, millis: 1, attempts: 1 });
            match result {
                Some(result) => segment.set_done(index, result),
                None => segment.set(index, to),
            };
            rows += result.map_or(0, |result| result.rows);
            let bytes = segment.to_bytes();
            track.put_segment(number, segment, bytes, &[(at, *slot, to, result)]);
            *slot = to;
        }
        // THEN the track says the same, and so does one that read the segments
        let mut loaded = self::track(tasks);
        for (number, (segment, bytes)) in &track.segments {
            loaded.load(*number, segment.clone(), bytes.clone().unwrap());
        }
        loaded.settle();
        for track in [&track, &loaded] {
            let seen: Vec<TaskState> = (0..track.len).map(|ordinal| track.state(ordinal)).collect();
            prop_assert_eq!(&seen, &states);
            prop_assert_eq!((track.counts, track.rows), (counts(&states), rows));
            for start in [0, 1, tasks / 2] {
                let mut pending: Vec<u64> = track.pending_from(start).collect();
                pending.sort_unstable();
                let expected: Vec<u64> = (start..track.len)
                    .filter(|ordinal| states[usize::try_from(*ordinal).unwrap()] == TaskState::Pending)
                    .collect();
                prop_assert_eq!(pending, expected, "from {}", start);
            }
            for state in TaskState::ALL {
                let expected: Vec<u64> =
                    (0..).zip(&states).filter(|(_, other)| **other == state).map(|(ordinal, _)| ordinal).collect();
                match state {
                    // Their records come with the tests of the leader.
                    TaskState::Open | TaskState::RetryWait | TaskState::Dead => {}
                    _ => prop_assert_eq!(track.in_state(state).collect::<Vec<_>>(), expected, "{}", state),
                }
            }
            let is_over = states.iter().all(|state| state.has_ended());
            prop_assert_eq!(track.has_ended(), is_over);
        }
    }

    #[test]
    fn a_watermark_reaches_as_far_as_a_walk_over_all_ranges_finds(
        newest in any::<bool>(),
        moves in proptest::collection::vec((0_u64..8, 0_usize..EVENTS.len()), 0..60),
    ) {
        // GIVEN a load of a few partitions, in either order
        let load = format!(
            "    strategy: {{type: backfill, order: {}}}\n    from: {{connection: source, table: a}}\n    \
             to: {{connection: target, table: a}}\n    partition: {{by: integer, column: id, width: 1}}\n    \
             write: {{mode: replace_partition}}\n",
            if newest { "newest" } else { "oldest" },
        );
        let view = crate::engine::fixtures::view("", &[("a", &load)]);
        let (name, step) = view.run().steps.iter().next().expect("one step");
        let plan = Arc::new(view.run().plan.as_ref().expect("planned").steps[name].clone());
        let mut track = step.work.clone();
        // WHEN tasks move at random
        for (at, event) in moves {
            let from = track.state(at);
            let Ok(to) = from.apply(EVENTS[event]) else { continue };
            if at >= track.len {
                continue;
            }
            let (number, index) = Segment::place(at);
            let (mut segment, _) = track.segment_of(at);
            segment.set(index, to);
            let bytes = segment.to_bytes();
            track.put_segment(number, segment, bytes, &[(at, from, to, None)]);
            // THEN after each move the track has kept what a walk finds, and so has one that read the segments
            let StepPlan::Load(load) = plan.as_ref() else { panic!("a load") };
            let generator = load.generator();
            let is_committed = |no: &u64| {
                matches!(track.state(generator.ordinal_of(*no) + 1), TaskState::Done | TaskState::Covered)
            };
            let walked = (0..generator.ranges()).take_while(is_committed).count() as u64;
            prop_assert_eq!(track.reached(), walked);
            let mut loaded = Track::planned(Arc::clone(&plan), &view.run().spec.steps[name].strategy);
            for (number, (segment, bytes)) in &track.segments {
                loaded.load(*number, segment.clone(), bytes.clone().unwrap());
            }
            loaded.settle();
            prop_assert_eq!(loaded.reached(), walked);
        }
    }
}
