//! Who waits for a connection that is away.

use super::*;
use crate::engine::fixtures::{View, give, session, view};
use crate::engine::{Seat, assign};

const NOW: i64 = 1_000_000;

fn named(name: &str) -> ConnectionName {
    name.parse().unwrap()
}

fn address(step: &str, ordinal: u64) -> TaskAddress {
    TaskAddress {
        step: step.parse().unwrap(),
        generation: 1,
        phase: 1,
        ordinal,
    }
}

/// How many tasks a worker with eight slots gets.
fn granted(view: &View, id: highwater_common::id::SessionId, now_millis: i64) -> usize {
    assign(
        &view.cluster,
        &[Seat {
            session: id,
            free: 8,
        }],
        now_millis,
        100,
    )
    .len()
}

#[test]
fn one_task_asks_and_the_others_wait_for_it() {
    // GIVEN a run whose source is away
    let mut one = view(
        "",
        &[
            ("a", "$load"),
            ("b", "$load"),
            ("n", "    strategy: {type: noop, tasks: 3}\n"),
        ],
    );
    one.begin();
    let (id, run) = (session(&mut one.cluster, 0, true), one.run().id);
    assert_eq!(granted(&one, id, NOW), 8);
    one.run_mut()
        .outages
        .failed(&named("source"), &address("a", 1), NOW, 1.0);
    // THEN only tasks without a source go, until it is time to ask, and then one more
    assert_eq!(granted(&one, id, NOW), 3);
    assert_eq!(granted(&one, id, NOW + 999), 3);
    assert_eq!(granted(&one, id, NOW + 1_000), 4);
    // WHEN that one is on its way THEN no other goes, however long it takes
    give(&mut one, run, &address("b", 2), id, 5);
    one.run_mut()
        .outages
        .asked(&BTreeSet::from([&named("source")]), &address("b", 2));
    assert_eq!(granted(&one, id, NOW + 100_000), 3);
    // WHEN another attempt fails, which was under way before THEN nothing changes
    one.run_mut()
        .outages
        .failed(&named("source"), &address("a", 3), NOW + 100_000, 1.0);
    assert_eq!(one.run().outages.next_moment(NOW), Some(NOW + 1_000));
    // WHEN the one that asks fails THEN the next one waits for longer
    one.run_mut()
        .outages
        .failed(&named("source"), &address("b", 2), NOW + 100_000, 1.0);
    assert_eq!(one.run().outages.next_moment(NOW), Some(NOW + 102_000));
    // WHEN it is reached THEN everything goes
    one.run_mut()
        .outages
        .reached(&BTreeSet::from([&named("source")]));
    assert_eq!(granted(&one, id, NOW + 100_000), 8);
}

#[test]
fn an_hour_is_given_to_an_outage_and_then_its_tasks_go() {
    let mut one = view("", &[("a", "$load")]);
    one.begin();
    let id = session(&mut one.cluster, 0, true);
    one.run_mut()
        .outages
        .failed(&named("target"), &address("a", 1), NOW, 1.0);
    one.run_mut()
        .outages
        .asked(&BTreeSet::from([&named("target")]), &address("a", 9));
    assert_eq!(granted(&one, id, NOW + 3_599_000), 1);
    assert_eq!(granted(&one, id, NOW + 3_600_000), 6);
}

#[test]
fn times_are_spoken_in_their_two_largest_units() {
    let said = |seconds| spoken(Duration::from_secs(seconds));
    assert_eq!(
        [said(0), said(41), said(245), said(3_720)],
        ["0 s", "41 s", "4 m 5 s", "1 h 2 m"]
    );
}
