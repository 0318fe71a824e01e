//! Properties of what is handed out: limits, fairness, and that nothing is handed out twice.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::capability::Capabilities;
use highwater_common::id::RunId;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;
use proptest::test_runner::TestCaseError;

use highwater_common::plan::PhaseKind;
use highwater_common::task::TaskState;

use super::*;
use crate::engine::fixtures::{View, give, session, view};
use crate::engine::retries::AVOIDS_FOR_MILLIS;
use crate::engine::step::Step;
use crate::engine::waits::waits;

const NOW: i64 = 1_000_000;

/// A view of up to three runs under random limits, some of whose tasks are open, done or waiting,
/// and seats for it.
fn views() -> impl proptest::strategy::Strategy<Value = (View, Vec<Seat>)> {
    let limits = proptest::option::of(1_u32..6);
    let pools = (proptest::collection::vec(1_u32..6, 2), 0_u8..16);
    let run = (
        limits.clone(),
        limits.clone(),
        proptest::option::of(1_u32..8),
        pools,
        proptest::collection::vec(any::<u8>(), 0..24),
    );
    let of_cluster = proptest::option::of(1_u32..8);
    let seats = proptest::collection::vec(
        (
            0_u32..6,
            0_usize..8,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        ),
        0..5,
    );
    (
        proptest::collection::vec(run, 1..4),
        seats,
        0_u8..6,
        of_cluster,
    )
        .prop_map(|(runs, seats, odd, of_cluster)| {
            let mut whole: Option<View> = None;
            for (no, (of_run, of_step, of_connection, (of_pools, pooled), changes)) in
                runs.into_iter().enumerate()
            {
                let limit = |key: &str, max: Option<u32>| {
                    max.map_or(String::new(), |max| format!("{key}: {{tasks: {max}}}\n"))
                };
                let step = limit("    limits", of_step);
                // The step at `at` names one pool, or both, or none.
                let named = |at: u8| match pooled >> at & 1 {
                    0 => "",
                    _ => [
                        "    pools: [p]\n",
                        "    pools: [p, q]\n",
                        "    pools: [q]\n",
                    ][usize::from(at)],
                };
                let (a, b) = (
                    format!("$load{step}{}", named(0)),
                    format!("$load{step}{}", named(1)),
                );
                let b = b + if pooled >> 3 & 1 == 1 {
                    "    labels: {disk: fast}\n"
                } else {
                    ""
                };
                let noop = format!("    strategy: {{type: noop, tasks: 9}}\n{step}{}", named(2));
                let pools = format!(
                    "pools: {{p: {{tasks: {}}}, q: {{tasks: {}}}}}\n",
                    of_pools[0], of_pools[1]
                );
                let mut one = view(
                    &(limit("limits", of_run) + &pools),
                    &[("a", &a), ("b", &b), ("n", &noop)],
                );
                one.rename(no, of_connection);
                one.begin();
                for (at, change) in changes.iter().enumerate() {
                    one.disturb(
                        ["a", "b", "n"][at % 3],
                        1 + u64::from(change % 8),
                        change / 8,
                        NOW,
                    );
                }
                if no == usize::from(odd) {
                    one.run_mut().record.status =
                        [RunStatus::Planned, RunStatus::Success, RunStatus::Failed][no % 3];
                }
                match &mut whole {
                    Some(whole) => whole.cluster.runs.extend(one.cluster.runs),
                    None => whole = Some(one),
                }
            }
            let mut view = whole.expect("at least one run");
            view.cluster
                .pools
                .extend(of_cluster.map(|max| ("p".parse().expect("a name"), max)));
            let seats = seats.into_iter().enumerate().map(
                |(no, (free, told, draining, cordoned, fast))| {
                    let id = session(&mut view.cluster, no, told % 2 == 1);
                    let known = view.cluster.sessions.get_mut(&id).expect("just put");
                    let told: &[&str] = [
                        &[][..],
                        &["backfill", "sqlite"],
                        &["backfill", "postgres"],
                        &["noop", "mirror"],
                    ][told / 2];
                    known.record.capabilities =
                        told.iter().map(|word| (*word).to_owned()).collect();
                    (known.draining, known.record.cordoned) =
                        (draining && no > 1, cordoned && no > 2);
                    known
                        .record
                        .labels
                        .extend(fast.then(|| ("disk".to_owned(), "fast".to_owned())));
                    Seat { session: id, free }
                },
            );
            let seats = seats.collect();
            (view, seats)
        })
}

/// The view once the grants are stored.
fn after(view: &View, grants: &[Grant]) -> View {
    let mut view = view.clone();
    for (no, grant) in grants.iter().enumerate() {
        give(
            &mut view,
            grant.run,
            &grant.address,
            grant.session,
            i64::try_from(no).expect("few") + 1,
        );
    }
    view
}

fn open(run: &Run) -> u64 {
    run.steps.values().map(Step::open).sum()
}

/// What several steps share is not used beyond its limit, unless it was before.
fn within_budgets(before: &Budgets<'_>, after: &Budgets<'_>) -> Result<(), TestCaseError> {
    for ((name, (used, max)), (_, (was, _))) in after.iter().zip(before.iter()) {
        prop_assert!(used <= was.max(max), "{name}: {used} of {max}");
    }
    Ok(())
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
            let table = run.table(&grant.address).expect("a table");
            match table.state(grant.address.ordinal) {
                TaskState::Pending => {}
                TaskState::RetryWait => {
                    let retry = table.retries.get(&grant.address.ordinal).expect("its record");
                    prop_assert!(retry.record.not_before_millis <= NOW);
                }
                other => prop_assert!(false, "a task that is {other} was handed out"),
            }
            let session = &view.cluster.sessions[&grant.session];
            let step = &run.spec.steps[&grant.address.step];
            let needs = Capabilities::of_step(step, &run.spec.connections);
            prop_assert!(!session.draining && !session.record.cordoned && session.capabilities().hold(needs));
            prop_assert!(step.labels.iter().all(|(key, value)| session.record.labels.get(key) == Some(value)));
            if let Some(retry) = table.retries.get(&grant.address.ordinal) {
                let able = able(&view.cluster, &Demand::of(step, &run.spec.connections));
                prop_assert!(!is_avoided(&retry.record.history.failed_on, &able, &session.worker));
            }
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
                let was = before.steps[name].open();
                prop_assert!(within(step.open(), was, run.spec.steps[name].limits.tasks));
            }
            within_budgets(&Budgets::of_run(before), &Budgets::of_run(run))?;
        }
        within_budgets(&Budgets::of_cluster(&view.cluster), &Budgets::of_cluster(&next.cluster))?;
    }

    #[test]
    fn what_was_handed_out_is_not_handed_out_again((view, seats) in views()) {
        let grants = assign(&view.cluster, &seats, NOW, 1000);
        let next = after(&view, &grants);
        let rest: Vec<Seat> = seats.iter().map(|seat| {
            let taken = grants.iter().filter(|grant| grant.session == seat.session).count();
            Seat { free: seat.free - u32::try_from(taken).expect("few"), ..*seat }
        }).collect();
        prop_assert_eq!(assign(&next.cluster, &rest, NOW, 1000), Vec::new(), "the seats were \
            served as far as possible");
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
        let grants = assign(
            &view.cluster,
            &[Seat {
                session: id,
                free: 1,
            }],
            NOW,
            10,
        );
        let Some(grant) = grants.first() else { break };
        give(
            &mut view,
            grant.run,
            &grant.address,
            id,
            i64::try_from(turn).expect("few") + 1,
        );
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
fn a_higher_priority_is_served_first_until_the_other_has_waited_for_minutes() {
    // GIVEN two runs, of priority 5 and 7, and a single slot that becomes free again and again
    const WIDE: &str = "    strategy: {type: noop, tasks: 50}\n";
    let mut view_of = view("", &[("x", WIDE)]);
    view_of.begin();
    let low = view_of.run().id;
    let mut other = view("limits: {priority: 7}\n", &[("x", WIDE)]);
    other.rename(1, None);
    other.begin();
    let high = other.run().id;
    view_of.cluster.runs.extend(other.cluster.runs);
    // THEN the higher one gets it each time
    let served = one_by_one(view_of, 6);
    assert!(served.iter().all(|(run, _)| *run == high), "{served:?}");
    let mut view_of = view("", &[("x", WIDE)]);
    view_of.begin();
    let mut other = view("limits: {priority: 7}\n", &[("x", WIDE)]);
    other.rename(1, None);
    other.begin();
    view_of.cluster.runs.extend(other.cluster.runs);
    let seat = Seat {
        session: session(&mut view_of.cluster, 0, true),
        free: 1,
    };
    let mut next_after = |minutes: i64| {
        let run = view_of.cluster.runs.get_mut(&low).expect("there");
        run.moved_millis = Some(NOW - minutes * 60_000);
        assign(&view_of.cluster, &[seat], NOW, 10)[0].run
    };
    // WHEN the lower one has waited for as many minutes as the other is ahead, and one more
    // THEN it is its turn, and not before
    assert_eq!((next_after(1), next_after(3)), (high, low));
    // AND an operator's word wins over the file's
    let run = view_of.cluster.runs.get_mut(&low).expect("there");
    run.moved_millis = Some(NOW);
    run.record.controls.limits.priority = Some(9);
    assert_eq!(assign(&view_of.cluster, &[seat], NOW, 10)[0].run, low);
}

#[test]
fn a_noop_that_nobody_holds_keeps_no_other_step_waiting() {
    let mut view = view(
        "",
        &[
            ("a", "    strategy: {type: noop, tasks: 5}\n"),
            ("b", "$load"),
        ],
    );
    view.begin();
    let id = session(&mut view.cluster, 0, false);
    let grants = assign(
        &view.cluster,
        &[Seat {
            session: id,
            free: 3,
        }],
        NOW,
        10,
    );
    assert!(
        !grants.is_empty()
            && grants
                .iter()
                .all(|grant| grant.address.step.as_str() == "b"),
        "{grants:?}"
    );
}

#[test]
fn a_step_waits_for_a_worker_that_can_do_all_that_it_needs() {
    // GIVEN a load between two PostgreSQL servers, and a worker that knows SQLite only
    let mut view = view("", &[("a", "$load")]);
    view.begin();
    let first = session(&mut view.cluster, 0, false);
    let told = |words: [&str; 2]| words.into_iter().map(str::to_owned).collect();
    view.cluster
        .sessions
        .get_mut(&first)
        .expect("there")
        .record
        .capabilities = told(["backfill", "sqlite"]);
    // THEN it gets nothing, and the step says what it waits for
    let seat = |session| Seat { session, free: 3 };
    assert_eq!(assign(&view.cluster, &[seat(first)], NOW, 10), Vec::new());
    let waits = waits(
        &view.cluster,
        view.run(),
        &"a".parse().expect("a name"),
        NOW,
    );
    let [why] = waits.as_slice() else {
        panic!("{waits:?}")
    };
    assert!(
        why.ends_with("no connected worker can do all that it needs: backfill, postgres"),
        "{why}"
    );
    // WHEN one comes that knows PostgreSQL, THEN that one gets it
    let second = session(&mut view.cluster, 1, false);
    view.cluster
        .sessions
        .get_mut(&second)
        .expect("there")
        .record
        .capabilities = told(["backfill", "postgres"]);
    let grants = assign(&view.cluster, &[seat(first), seat(second)], NOW, 10);
    assert!(
        !grants.is_empty() && grants.iter().all(|grant| grant.session == second),
        "{grants:?}"
    );
}

#[test]
fn labels_that_nobody_carries_keep_no_other_step_waiting() {
    // GIVEN a step for workers with a fast disk, and one for all
    let labelled = "$load    labels: {disk: fast}\n";
    let mut view = view("", &[("a", labelled), ("b", "$load")]);
    view.begin();
    let plain = session(&mut view.cluster, 0, false);
    // WHEN nobody carries the label, THEN the other step has every slot
    let grants = assign(
        &view.cluster,
        &[Seat {
            session: plain,
            free: 3,
        }],
        NOW,
        10,
    );
    assert_eq!(grants.len(), 3);
    assert!(
        grants
            .iter()
            .all(|grant| grant.address.step.as_str() == "b"),
        "{grants:?}"
    );
    // WHEN one does, THEN it alone gets the step's tasks, and its seat is not wanted by others
    // first
    let fast = session(&mut view.cluster, 1, false);
    view.cluster
        .sessions
        .get_mut(&fast)
        .expect("there")
        .record
        .labels
        .insert("disk".to_owned(), "fast".to_owned());
    let grants = assign(
        &view.cluster,
        &[
            Seat {
                session: plain,
                free: 1,
            },
            Seat {
                session: fast,
                free: 2,
            },
        ],
        NOW,
        10,
    );
    let of_fast = grants.iter().filter(|grant| grant.session == fast).count();
    assert!(
        grants
            .iter()
            .all(|grant| grant.address.step.as_str() == "b" || grant.session == fast),
        "{grants:?}"
    );
    assert_eq!((grants.len(), of_fast), (3, 2));
    // AND where one machine is all there is, whoever works there carries everything
    view.cluster.is_one_machine = true;
    let grants = assign(
        &view.cluster,
        &[Seat {
            session: plain,
            free: 9,
        }],
        NOW,
        4,
    );
    assert!(
        grants
            .iter()
            .any(|grant| grant.address.step.as_str() == "a"),
        "{grants:?}"
    );
}

#[test]
fn a_task_that_failed_on_a_worker_waits_for_another_one() {
    // GIVEN a task that failed on w0, and another worker whose slots are all taken
    let mut view = view("", &[("a", "$load")]);
    view.begin();
    let (broken, sound) = (
        session(&mut view.cluster, 0, false),
        session(&mut view.cluster, 1, false),
    );
    view.disturb("a", 0, 7, NOW);
    let ordinals = |cluster: &Cluster, session, free| -> Vec<u64> {
        let grants = assign(cluster, &[Seat { session, free }], NOW, 10);
        grants.iter().map(|grant| grant.address.ordinal).collect()
    };
    // THEN w0 gets the tasks after it, and the other one gets it first of all
    assert_eq!(ordinals(&view.cluster, broken, 2), [1, 2]);
    assert_eq!(ordinals(&view.cluster, sound, 2), [0, 1]);
    let both = [
        Seat {
            session: broken,
            free: 5,
        },
        Seat {
            session: sound,
            free: 1,
        },
    ];
    let grants = assign(&view.cluster, &both, NOW, 10);
    assert!(
        grants
            .iter()
            .all(|grant| grant.address.ordinal != 0 || grant.session == sound),
        "{grants:?}"
    );
    // WHEN the other one has had no slot for it for half a minute, THEN w0 is better than nobody
    let late = NOW - 1 + AVOIDS_FOR_MILLIS;
    let first = assign(
        &view.cluster,
        &[Seat {
            session: broken,
            free: 1,
        }],
        late,
        10,
    );
    assert_eq!(
        first
            .iter()
            .map(|grant| grant.address.ordinal)
            .collect::<Vec<_>>(),
        [0]
    );
    // WHEN the other one takes no more work, THEN so it is at once
    view.cluster
        .sessions
        .get_mut(&sound)
        .expect("there")
        .draining = true;
    assert_eq!(ordinals(&view.cluster, broken, 2), [0, 1]);
    // GIVEN that it failed on both, on w0 last; THEN it is w1's turn again
    view.cluster
        .sessions
        .get_mut(&sound)
        .expect("there")
        .draining = false;
    view.disturb("a", 0, 12, NOW);
    assert_eq!(ordinals(&view.cluster, broken, 1), [1]);
    assert_eq!(ordinals(&view.cluster, sound, 1), [0]);
}

#[test]
fn a_fence_waits_neither_for_labels_nor_for_another_worker() {
    // GIVEN a run for workers with a label that nobody carries any more, which is to be cancelled
    let labelled = "$load    labels: {disk: fast}\n";
    let mut view = view("", &[("a", labelled)]);
    view.begin();
    let plain = session(&mut view.cluster, 0, false);
    let run = view.cluster.runs.values_mut().next().expect("a run");
    (run.record.status, run.record.intent) = (RunStatus::Cancelling, RunIntent::Cancel);
    // THEN whoever is there may fence its target
    let grants = assign(
        &view.cluster,
        &[Seat {
            session: plain,
            free: 1,
        }],
        NOW,
        10,
    );
    let kinds: Vec<_> = grants
        .iter()
        .filter_map(|grant| view.run().kind(&grant.address))
        .collect();
    assert_eq!(kinds, [PhaseKind::Fence]);
    // WHEN somebody carries it, THEN the fence is his
    let fast = session(&mut view.cluster, 1, false);
    view.cluster
        .sessions
        .get_mut(&fast)
        .expect("there")
        .record
        .labels
        .insert("disk".to_owned(), "fast".to_owned());
    assert_eq!(
        assign(
            &view.cluster,
            &[Seat {
                session: plain,
                free: 1
            }],
            NOW,
            10
        ),
        Vec::new()
    );
}
