//! Properties of what is handed out: limits, fairness, and that nothing is handed out twice.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::id::RunId;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;

use super::*;
use crate::engine::fixtures::{View, give, session, view};

const NOW: i64 = 1_000_000;

/// A view of up to three runs under random limits, some of whose tasks are open, done or waiting, and seats for it.
fn views() -> impl proptest::strategy::Strategy<Value = (View, Vec<Seat>)> {
    let limits = proptest::option::of(1_u32..6);
    let run =
        (limits.clone(), limits.clone(), proptest::option::of(1_u32..8), proptest::collection::vec(any::<u8>(), 0..24));
    let seats = proptest::collection::vec((0_u32..6, 0_usize..8, any::<bool>(), any::<bool>()), 0..5);
    (proptest::collection::vec(run, 1..4), seats, 0_u8..6).prop_map(|(runs, seats, odd)| {
        let mut whole: Option<View> = None;
        for (no, (of_run, of_step, of_connection, changes)) in runs.into_iter().enumerate() {
            let limit =
                |key: &str, max: Option<u32>| max.map_or(String::new(), |max| format!("{key}: {{tasks: {max}}}\n"));
            let step = limit("    limits", of_step);
            let (a, b) = (format!("$load{step}"), format!("$load{step}"));
            let noop = format!("    strategy: {{type: noop, tasks: 9}}\n{step}");
            let mut one = view(&limit("limits", of_run), &[("a", &a), ("b", &b), ("n", &noop)]);
            one.rename(no, of_connection);
            one.begin();
            for (at, change) in changes.iter().enumerate() {
                one.disturb(["a", "b", "n"][at % 3], 1 + u64::from(change % 8), change / 8, NOW);
            }
            if no == usize::from(odd) {
                one.run_mut().record.status = [RunStatus::Planned, RunStatus::Success, RunStatus::Failed][no % 3];
            }
            match &mut whole {
                Some(whole) => whole.cluster.runs.extend(one.cluster.runs),
                None => whole = Some(one),
            }
        }
        let mut view = whole.expect("at least one run");
        let seats = seats.into_iter().enumerate().map(|(no, (free, told, draining, cordoned))| {
            let id = session(&mut view.cluster, no, told % 2 == 1);
            let known = view.cluster.sessions.get_mut(&id).expect("just put");
            let told: &[&str] =
                [&[][..], &["backfill", "sqlite"], &["backfill", "postgres"], &["noop", "mirror"]][told / 2];
            known.record.capabilities = told.iter().map(|word| (*word).to_owned()).collect();
            (known.draining, known.record.cordoned) = (draining && no > 1, cordoned && no > 2);
            Seat { session: id, free }
        });
        let seats = seats.collect();
        (view, seats)
    })
}

/// The view once the grants are stored.
fn after(view: &View, grants: &[Grant]) -> View {
    let mut view = view.clone();
    for (no, grant) in grants.iter().enumerate() {
        give(&mut view, grant.run, &grant.address, grant.session, i64::try_from(no).expect("few") + 1);
    }
    view
}

fn open(run: &Run) -> u64 {
    run.steps.values().map(|step| step.work.counts.open + step.wide.counts.open).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_handed_out_is_wanted_due_and_within_every_limit((view, seats) in views(), max in 0_usize..40) {
        let grants = assign(&view.cluster, &seats, NOW, max);
        // The same view and seats give the same.
        prop_assert_eq!(&grants, &assign(&view.cluster, &seats, NOW, max));
        prop_assert!(grants.len() <= max);
        let mut given: BTreeMap<SessionId, u32> = BTreeMap::new();
        let mut seen: BTreeSet<(RunId, TaskAddress)> = BTreeSet::new();
        for grant in &grants {
            *given.entry(grant.session).or_default() += 1;
            prop_assert!(seen.insert((grant.run, grant.address.clone())), "{grant:?} twice");
            let run = &view.cluster.runs[&grant.run];
            prop_assert_eq!(run.record.status, RunStatus::Running);
            prop_assert!(!view.cluster.is_held_back(run));
            let track = run.steps[&grant.address.step].track(grant.address.generation);
            match track.state(grant.address.ordinal) {
                TaskState::Pending => {}
                TaskState::RetryWait => prop_assert!(is_due(track, grant.address.ordinal, NOW)),
                other => prop_assert!(false, "a task that is {other} was handed out"),
            }
            let session = &view.cluster.sessions[&grant.session];
            let needs = Capabilities::of_step(&run.spec.steps[&grant.address.step], &run.spec.connections);
            prop_assert!(!session.draining && !session.record.cordoned && session.capabilities().hold(needs));
        }
        for seat in &seats {
            prop_assert!(given.get(&seat.session).copied().unwrap_or(0) <= seat.free);
        }
        let next = after(&view, &grants);
        for (id, run) in &next.cluster.runs {
            let before = &view.cluster.runs[id];
            let within = |used: u64, was: u64, max: Option<u32>| used <= was.max(max.map_or(u64::MAX, u64::from));
            prop_assert!(within(open(run), open(before), run.spec.limits.tasks));
            for (name, step) in &run.steps {
                let was = before.steps[name].work.counts.open;
                prop_assert!(within(step.work.counts.open, was, run.spec.steps[name].limits.tasks));
            }
            let was = connection_use(before);
            for (name, (used, max)) in connection_use(run) {
                prop_assert!(used <= was[name].0.max(max).max(1), "{name}: {used} of {max}");
            }
        }
    }

    #[test]
    fn what_was_handed_out_is_not_handed_out_again((view, seats) in views()) {
        let grants = assign(&view.cluster, &seats, NOW, 1000);
        let next = after(&view, &grants);
        let rest: Vec<Seat> = seats.iter().map(|seat| {
            let taken = grants.iter().filter(|grant| grant.session == seat.session).count();
            Seat { free: seat.free - u32::try_from(taken).expect("few"), ..*seat }
        }).collect();
        prop_assert_eq!(assign(&next.cluster, &rest, NOW, 1000), Vec::new(), "the seats were served as far as possible");
        let more = assign(&next.cluster, &seats, NOW, 1000);
        let key = |grant: &Grant| (grant.run, grant.address.clone());
        let first: BTreeSet<_> = grants.iter().map(key).collect();
        prop_assert!(more.iter().all(|grant| !first.contains(&key(grant))));
    }
}

/// Gives one slot after the other, each done before the next; returns whose tasks they were.
fn one_by_one(mut view: View, turns: usize) -> Vec<(RunId, String)> {
    let id = session(&mut view.cluster, 0, true);
    let mut served = Vec::new();
    for turn in 0..turns {
        let grants = assign(&view.cluster, &[Seat { session: id, free: 1 }], NOW, 10);
        let Some(grant) = grants.first() else { break };
        give(&mut view, grant.run, &grant.address, id, i64::try_from(turn).expect("few") + 1);
        view.end(grant.run, &grant.address);
        served.push((grant.run, grant.address.step.to_string()));
    }
    served
}

#[test]
fn one_slot_serves_runs_and_their_steps_in_turn() {
    // GIVEN two runs of two steps each, and a single slot that becomes free again and again
    const WIDE: &str = "    strategy: {type: noop, tasks: 50}\n";
    let mut view_of = view("", &[("x", WIDE), ("y", WIDE)]);
    view_of.begin();
    let mut other = view("", &[("x", WIDE), ("y", WIDE)]);
    other.rename(1, None);
    other.begin();
    view_of.cluster.runs.extend(other.cluster.runs);
    // THEN none of the four waits for another one to be finished
    let served = one_by_one(view_of, 16);
    for turns in served.chunks(4) {
        assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), 4, "{served:?}");
    }
}

#[test]
fn a_noop_that_nobody_holds_keeps_no_other_step_waiting() {
    let mut view = view("", &[("a", "    strategy: {type: noop, tasks: 5}\n"), ("b", "$load")]);
    view.begin();
    let id = session(&mut view.cluster, 0, false);
    let grants = assign(&view.cluster, &[Seat { session: id, free: 3 }], NOW, 10);
    assert!(!grants.is_empty() && grants.iter().all(|grant| grant.address.step.as_str() == "b"), "{grants:?}");
}

#[test]
fn a_step_waits_for_a_worker_that_can_do_all_that_it_needs() {
    // GIVEN a load between two PostgreSQL servers, and a worker that knows SQLite only
    let mut view = view("", &[("a", "$load")]);
    view.begin();
    let first = session(&mut view.cluster, 0, false);
    let told = |words: [&str; 2]| words.into_iter().map(str::to_owned).collect();
    view.cluster.sessions.get_mut(&first).expect("there").record.capabilities = told(["backfill", "sqlite"]);
    // THEN it gets nothing, and the step says what it waits for
    let seat = |session| Seat { session, free: 3 };
    assert_eq!(assign(&view.cluster, &[seat(first)], NOW, 10), Vec::new());
    let waits = waits(&view.cluster, view.run(), &"a".parse().expect("a name"), NOW);
    let [why] = waits.as_slice() else { panic!("{waits:?}") };
    assert!(why.ends_with("no connected worker can do all that it needs: backfill, postgres"), "{why}");
    // WHEN one comes that knows PostgreSQL, THEN that one gets it
    let second = session(&mut view.cluster, 1, false);
    view.cluster.sessions.get_mut(&second).expect("there").record.capabilities = told(["backfill", "postgres"]);
    let grants = assign(&view.cluster, &[seat(first), seat(second)], NOW, 10);
    assert!(!grants.is_empty() && grants.iter().all(|grant| grant.session == second), "{grants:?}");
}

#[test]
fn waits_name_the_limit_that_is_met() {
    let waits = |view: &View, step: &str| waits(&view.cluster, view.run(), &step.parse().expect("a name"), NOW);
    let noop = "    strategy: {type: noop, tasks: 9}\n";
    let limited = format!("{noop}    limits: {{tasks: 2}}\n");
    let mut one = view("limits: {tasks: 3}", &[("a", &limited), ("b", noop)]);
    one.begin();
    // Nobody is there
    assert_eq!(waits(&one, "a"), ["9 tasks: no worker is connected"]);
    // Nobody who may
    let id = session(&mut one.cluster, 0, false);
    assert_eq!(waits(&one, "a"), ["9 tasks: no connected worker holds no-op tasks: start it with --allow-noop"]);
    one.cluster.sessions.get_mut(&id).expect("there").record.allow_noop = true;
    assert_eq!(waits(&one, "a"), Vec::<String>::new());
    one.cluster.sessions.get_mut(&id).expect("there").draining = true;
    assert_eq!(waits(&one, "a"), ["9 tasks: every worker drains or is cordoned"]);
    one.cluster.sessions.get_mut(&id).expect("there").draining = false;
    // The limits of the step, of the run, and of the slots
    let address = |step: &str, ordinal| TaskAddress { step: step.parse().expect("a name"), generation: 1, ordinal };
    let run = one.run().id;
    give(&mut one, run, &address("a", 1), id, 1);
    give(&mut one, run, &address("a", 2), id, 2);
    assert_eq!(waits(&one, "a"), ["7 tasks: limit of the step, 2/2 at once"]);
    give(&mut one, run, &address("b", 1), id, 3);
    assert_eq!(waits(&one, "b"), ["8 tasks: limit of the run, 3/3 at once"]);
    let mut two = view("", &[("b", noop), ("c", "$load")]);
    two.rename(0, Some(1));
    two.begin();
    let id = session(&mut two.cluster, 0, true);
    let run = two.run().id;
    give(&mut two, run, &address("c", 1), id, 1);
    assert_eq!(waits(&two, "c"), ["5 tasks: connection source, 1/1 in use"]);
    two.cluster.sessions.get_mut(&id).expect("there").record.slots = 1;
    assert_eq!(waits(&two, "b"), ["9 tasks: every slot is taken, 1/1"]);
}
