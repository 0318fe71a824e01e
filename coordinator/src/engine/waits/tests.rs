//! What a task that waits is said to wait for.

use highwater_common::record::TaskAddress;

use super::*;
use crate::engine::fixtures::{View, finish, give, session, view};

const NOW: i64 = 1_000_000;
const NOOP: &str = "    strategy: {type: noop, tasks: 9}\n";

fn waits_of(view: &View, step: &str) -> Vec<String> {
    waits(
        &view.cluster,
        view.run(),
        &step.parse().expect("a name"),
        NOW,
    )
}

/// A no-op task.
fn address(step: &str, ordinal: u64) -> TaskAddress {
    TaskAddress {
        step: step.parse().expect("a name"),
        generation: 1,
        phase: 0,
        ordinal,
    }
}

#[test]
fn waits_name_the_limit_that_is_met() {
    let limited = format!("{NOOP}    limits: {{tasks: 2}}\n");
    let mut one = view("limits: {tasks: 3}", &[("a", &limited), ("b", NOOP)]);
    one.begin();
    // Nobody is there
    assert_eq!(waits_of(&one, "a"), ["9 tasks: no worker is connected"]);
    // Nobody who may
    let id = session(&mut one.cluster, 0, false);
    assert_eq!(
        waits_of(&one, "a"),
        ["9 tasks: no connected worker holds no-op tasks: start it with --allow-noop"]
    );
    one.cluster
        .sessions
        .get_mut(&id)
        .expect("there")
        .record
        .allow_noop = true;
    assert_eq!(waits_of(&one, "a"), Vec::<String>::new());
    one.cluster.sessions.get_mut(&id).expect("there").draining = true;
    assert_eq!(
        waits_of(&one, "a"),
        ["9 tasks: every worker drains or is cordoned"]
    );
    one.cluster.sessions.get_mut(&id).expect("there").draining = false;
    // The limits of the step, of the run, and of the slots
    let run = one.run().id;
    give(&mut one, run, &address("a", 1), id, 1);
    give(&mut one, run, &address("a", 2), id, 2);
    assert_eq!(
        waits_of(&one, "a"),
        ["7 tasks: limit of the step, 2/2 at once"]
    );
    give(&mut one, run, &address("b", 1), id, 3);
    assert_eq!(
        waits_of(&one, "b"),
        ["8 tasks: limit of the run, 3/3 at once"]
    );
    let mut two = view("", &[("b", NOOP), ("c", "$load")]);
    two.rename(0, Some(1));
    two.begin();
    let id = session(&mut two.cluster, 0, true);
    let run = two.run().id;
    let load = two.work("c", 0);
    give(&mut two, run, &load, id, 1);
    assert_eq!(
        waits_of(&two, "c"),
        ["5 tasks: connection source, 1/1 in use"]
    );
    two.cluster
        .sessions
        .get_mut(&id)
        .expect("there")
        .record
        .slots = 1;
    assert_eq!(waits_of(&two, "b"), ["9 tasks: every slot is taken, 1/1"]);
}

#[test]
fn a_full_pool_is_named_whoever_fills_it() {
    // GIVEN two steps that share a pool of two
    let pooled = format!("{NOOP}    pools: [legacy_reads]\n");
    let mut one = view(
        "pools: {legacy_reads: {tasks: 2}}",
        &[("a", &pooled), ("b", &pooled), ("c", NOOP)],
    );
    one.begin();
    let id = session(&mut one.cluster, 0, true);
    let run = one.run().id;
    // WHEN both have a task, THEN both wait for the pool, and the step outside of it does not
    give(&mut one, run, &address("a", 1), id, 1);
    assert_eq!(waits_of(&one, "b"), Vec::<String>::new());
    give(&mut one, run, &address("b", 1), id, 2);
    assert_eq!(
        waits_of(&one, "a"),
        ["8 tasks: pool legacy_reads, 2/2 in use"]
    );
    assert_eq!(
        waits_of(&one, "b"),
        ["8 tasks: pool legacy_reads, 2/2 in use"]
    );
    assert_eq!(waits_of(&one, "c"), Vec::<String>::new());
    // GIVEN a cluster that gives the name one place only; WHEN one has ended, THEN it is the
    // cluster that is waited for
    one.cluster.pools = [("legacy_reads".parse().expect("a name"), 1)].into();
    finish(&mut one, "b", 1);
    assert_eq!(
        waits_of(&one, "a"),
        ["8 tasks: pool legacy_reads of the cluster, 1/1 in use"]
    );
}

#[test]
fn labels_that_nobody_with_a_free_slot_carries_are_named() {
    // GIVEN a step for workers of two labels
    let labelled = format!("{NOOP}    labels: {{zone: a, disk: fast}}\n");
    let mut one = view("", &[("a", &labelled), ("b", NOOP)]);
    one.begin();
    let plain = session(&mut one.cluster, 0, true);
    // WHEN a worker is there that carries one of them, THEN both are named, and the other step does
    // not wait
    let carry = |view: &mut View, id, key: &str, value: &str| {
        let session = view.cluster.sessions.get_mut(&id).expect("there");
        session
            .record
            .labels
            .insert(key.to_owned(), value.to_owned());
    };
    carry(&mut one, plain, "disk", "fast");
    carry(&mut one, plain, "zone", "b");
    assert_eq!(
        waits_of(&one, "a"),
        ["9 tasks: no connected worker has the labels disk=fast, zone=a"]
    );
    assert_eq!(waits_of(&one, "b"), Vec::<String>::new());
    // WHEN one carries them and takes no work, THEN so it says; the same when its slots are taken
    let fast = session(&mut one.cluster, 1, true);
    carry(&mut one, fast, "disk", "fast");
    carry(&mut one, fast, "zone", "a");
    one.cluster
        .sessions
        .get_mut(&fast)
        .expect("there")
        .record
        .cordoned = true;
    assert_eq!(
        waits_of(&one, "a"),
        ["9 tasks: every worker with the labels disk=fast, zone=a drains or is cordoned"]
    );
    one.cluster
        .sessions
        .get_mut(&fast)
        .expect("there")
        .record
        .cordoned = false;
    assert_eq!(waits_of(&one, "a"), Vec::<String>::new());
    one.cluster
        .sessions
        .get_mut(&fast)
        .expect("there")
        .record
        .slots = 1;
    let run = one.run().id;
    give(&mut one, run, &address("b", 1), fast, 1);
    assert_eq!(
        waits_of(&one, "a"),
        ["9 tasks: every slot of the workers with the labels disk=fast, zone=a is taken, 1/1"]
    );
    // AND where one machine is all there is, nobody asks for labels
    one.cluster.is_one_machine = true;
    assert_eq!(waits_of(&one, "a"), Vec::<String>::new());
}

#[test]
fn a_task_that_waits_for_another_worker_says_so() {
    // GIVEN a task that failed on w0 a while ago, and w1 beside it
    let mut one = view("", &[("a", "$load")]);
    one.begin();
    session(&mut one.cluster, 0, false);
    session(&mut one.cluster, 1, false);
    one.disturb("a", 1, 7, NOW);
    assert_eq!(
        waits_of(&one, "a"),
        ["1 after a failed attempt: the next one waits for a slot of another worker than w0"]
    );
    one.disturb("a", 1, 8, NOW);
    assert_eq!(
        waits_of(&one, "a"),
        ["1 after a failed attempt: the next one in 5.0 s"]
    );
}
