//! Every interleaving within bounds: the design that is built keeps its invariants, and each wrong
//! one is caught by the invariant that is named with it. `HIGHWATER_WIDE_MODEL=1` explores wider
//! bounds, as `make soak` does.
#![allow(
    clippy::disallowed_methods,
    reason = "a test reads how far it is to go"
)]

use highwater_model::{Bounds, Design, Intent, IntentDesign, Invariant, Protocol};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const ONE_RUN: Bounds = Bounds {
    runs: 1,
    slices: 1,
    cuts: 1,
    attempts: 3,
    prepares: 2,
    tries: u8::MAX,
    terms: 2,
    restores: 0,
    failovers: 0,
    cancels: 0,
    retries: 0,
    statements: false,
    late: false,
};
/// A run fails when one of its attempts does: so there is a newer one, and an older one whose
/// attempts are still about.
const TWO_RUNS: Bounds = Bounds {
    runs: 2,
    prepares: 3,
    tries: 1,
    terms: 1,
    ..ONE_RUN
};

fn is_wide() -> bool {
    std::env::var_os("HIGHWATER_WIDE_MODEL").is_some()
}

/// GIVEN the design that is built, WHEN everything happens that can, THEN no state breaks an
/// invariant, and what is to be reached is reached.
fn holds(bounds: Bounds) {
    let checker = Protocol::new(Design::Right, bounds)
        .checker()
        .threads(1)
        .spawn_bfs()
        .join();
    println!(
        "{} states, {} steps deep: {bounds:?}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

/// The same, within wider bounds where those are asked for.
fn holds_or_wider(bounds: Bounds, wide: Bounds) {
    holds(if is_wide() { wide } else { bounds });
}

#[test]
fn one_run_holds_under_a_restored_store_and_a_cancel() {
    let bounds = Bounds {
        restores: 1,
        cancels: 1,
        attempts: 2,
        ..ONE_RUN
    };
    holds_or_wider(
        bounds,
        Bounds {
            attempts: 3,
            ..bounds
        },
    );
}

#[test]
fn one_run_holds_under_a_store_that_is_rewound_by_terms() {
    let bounds = Bounds {
        restores: 1,
        attempts: 2,
        terms: 3,
        ..ONE_RUN
    };
    holds_or_wider(
        bounds,
        Bounds {
            attempts: 3,
            ..bounds
        },
    );
}

#[test]
fn one_run_holds_when_its_assignments_are_late_and_come_twice() {
    let bounds = Bounds {
        restores: 1,
        late: true,
        attempts: 2,
        ..ONE_RUN
    };
    holds_or_wider(
        bounds,
        Bounds {
            attempts: 3,
            ..bounds
        },
    );
}

#[test]
fn one_run_holds_statement_by_statement() {
    let bounds = Bounds {
        slices: 2,
        cancels: 1,
        statements: true,
        terms: 1,
        ..ONE_RUN
    };
    holds_or_wider(bounds, Bounds { terms: 2, ..bounds });
}

#[test]
fn one_run_holds_when_its_target_fails_over() {
    let bounds = Bounds {
        failovers: 1,
        cancels: 1,
        tries: 2,
        terms: 1,
        ..ONE_RUN
    };
    holds_or_wider(
        bounds,
        Bounds {
            slices: 2,
            ..bounds
        },
    );
}

#[test]
fn two_runs_of_a_stream_hold() {
    let bounds = Bounds {
        slices: 2,
        retries: 1,
        ..TWO_RUNS
    };
    holds_or_wider(
        bounds,
        Bounds {
            tries: 2,
            terms: 2,
            ..bounds
        },
    );
}

#[test]
fn two_runs_of_a_stream_hold_statement_by_statement() {
    let bounds = Bounds {
        cancels: 1,
        statements: true,
        ..TWO_RUNS
    };
    holds_or_wider(
        bounds,
        Bounds {
            slices: 2,
            retries: 1,
            ..bounds
        },
    );
}

#[test]
fn a_run_that_a_restored_store_forgot_cannot_double_what_the_next_one_loads() {
    let bounds = Bounds {
        restores: 1,
        attempts: 2,
        terms: 2,
        ..TWO_RUNS
    };
    holds_or_wider(
        bounds,
        Bounds {
            slices: 2,
            attempts: 3,
            ..bounds
        },
    );
}

#[test]
fn two_plans_of_one_run_hold_when_a_restored_store_forgot_the_first() {
    let bounds = Bounds {
        restores: 1,
        attempts: 2,
        slices: 2,
        cuts: 2,
        tries: 2,
        terms: 1,
        ..ONE_RUN
    };
    holds_or_wider(
        bounds,
        Bounds {
            prepares: 3,
            terms: 2,
            ..bounds
        },
    );
}

#[test]
fn two_runs_of_a_stream_hold_when_their_target_fails_over() {
    let bounds = Bounds {
        failovers: 1,
        ..TWO_RUNS
    };
    holds_or_wider(
        bounds,
        Bounds {
            slices: 2,
            cancels: 1,
            ..bounds
        },
    );
}

/// All of it in one scenario: two runs of a stream and two ways to cut it, two leaders, a store that
/// is put back, a target that fails over, a cancel and a retry, answers that are lost and
/// assignments that are late and come twice.
const EVERYTHING: Bounds = Bounds {
    runs: 2,
    slices: 2,
    cuts: 2,
    attempts: 4,
    prepares: 3,
    tries: 2,
    terms: 2,
    restores: 1,
    failovers: 1,
    cancels: 1,
    retries: 1,
    statements: true,
    late: true,
};

/// Goes through so many states at random, and the same way each time, until one breaks `invariant`,
/// or any where there is none; gives which. The checker's own walk cannot tell the way that it took.
fn wander(design: Design, invariant: Option<Invariant>, states: u64) -> Option<&'static str> {
    let model = Protocol::new(design, EVERYTHING);
    let always: Vec<_> = model
        .properties()
        .into_iter()
        .filter(|property| property.expectation == Expectation::Always)
        .filter(|property| invariant.is_none_or(|one| one.name() == property.name))
        .collect();
    let start = model.init_states().remove(0);
    let (mut state, mut random) = (start.clone(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..states {
        let broken = always
            .iter()
            .find(|property| !(property.condition)(&model, &state));
        if let Some(property) = broken {
            return Some(property.name);
        }
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let mut next = None;
        while next.is_none() && !actions.is_empty() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let of = u64::try_from(actions.len()).expect("a few");
            let chosen = usize::try_from((random >> 32) % of).expect("one of them");
            next = model.next_state(&state, actions.swap_remove(chosen));
        }
        state = next.unwrap_or_else(|| start.clone());
    }
    None
}

#[test]
fn everything_at_once_holds_along_random_ways() {
    // GIVEN more than can be explored whole WHEN it is gone through at random THEN nothing breaks
    let states = if is_wide() { 50_000_000 } else { 200_000 };
    assert_eq!(wander(Design::Right, None, states), None);
    // AND these ways come by where wrong designs do, soon or after long
    let soon = [
        (Design::CancelsInTheStoreOnly, Invariant::I2),
        (Design::LeaderNotCompared, Invariant::I9),
        (Design::LeaseIsALock, Invariant::I1),
        (Design::UnknownCommitIsFailed, Invariant::I1),
    ];
    let late = [
        (Design::NoStreamFence, Invariant::I1),
        (Design::CoverageNotCompared, Invariant::I1),
        (Design::CompletesBeforeCommit, Invariant::I4),
    ];
    for (design, invariant) in soon
        .into_iter()
        .chain(late.into_iter().filter(|_| is_wide()))
    {
        let found = wander(design, Some(invariant), 20_000_000);
        assert_eq!(found, Some(invariant.name()), "{design:?}");
    }
}

#[test]
fn a_step_that_is_no_transaction_never_begins_again_unprobed() {
    for repeats_tokens in [false, true] {
        let step = Intent {
            design: IntentDesign::Right,
            attempts: 4,
            repeats_tokens,
        };
        step.checker()
            .threads(1)
            .spawn_bfs()
            .join()
            .assert_properties();
    }
}

/// GIVEN a design that looks right, WHEN its scenario is explored, THEN the invariant named with it
/// is broken; and the design that is built passes the very same scenario, so it is the difference
/// between the two that was caught.
#[test]
fn every_wrong_design_is_caught_by_the_invariant_named_with_it() {
    let mut held: Vec<Bounds> = Vec::new();
    for (design, invariant) in Design::WRONG {
        let caught = HasDiscoveries::AnyOf([invariant.name()].into());
        let wrong = Protocol::new(design, design.scenario())
            .checker()
            .threads(1)
            .finish_when(caught)
            .spawn_bfs()
            .join();
        let Some(path) = wrong.discovery(invariant.name()) else {
            panic!(
                "{design:?} was not caught by {invariant:?} in {} states",
                wrong.unique_state_count()
            );
        };
        println!(
            "{design:?}: {}: {:?}",
            invariant.name(),
            path.into_actions()
        );
        // Several designs share a scenario.
        if !held.contains(&design.scenario()) {
            let right = Protocol::new(Design::Right, design.scenario());
            let right = right
                .checker()
                .threads(1)
                .finish_when(HasDiscoveries::AnyFailures)
                .spawn_bfs()
                .join();
            for (_, invariant) in Design::WRONG {
                right.assert_no_discovery(invariant.name());
            }
            held.push(design.scenario());
        }
    }
}

#[test]
fn every_wrong_intent_is_caught() {
    for design in IntentDesign::WRONG {
        let step = Intent {
            design,
            attempts: 3,
            repeats_tokens: false,
        };
        let checker = step.checker().threads(1).spawn_bfs().join();
        let _path = checker.assert_any_discovery(Invariant::I14.name());
    }
}
