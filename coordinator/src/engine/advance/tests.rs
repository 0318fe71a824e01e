//! What follows from ended tasks and steps.

use highwater_common::id::DocumentDigest;
use highwater_common::plan::PhaseKind;

use super::*;
use crate::engine::fixtures::{View, finish, kill, kill_task, view};

/// Does everything that follows, in the view alone; returns what it was.
fn settle(view: &mut View) -> Vec<Advance> {
    let mut done = Vec::new();
    while let Some(next) = advance(&view.cluster) {
        assert!(done.len() < 100, "{done:?}");
        match &next {
            Advance::Plan { .. } | Advance::Replan { .. } => panic!("the view is planned"),
            Advance::Step {
                run,
                step,
                status,
                reason,
            } => {
                let record = &mut view
                    .cluster
                    .runs
                    .get_mut(run)
                    .unwrap()
                    .steps
                    .get_mut(step)
                    .unwrap()
                    .record;
                (record.status, record.reason) = (*status, reason.clone());
            }
            Advance::Run { run, event, reason } => {
                let record = &mut view.cluster.runs.get_mut(run).unwrap().record;
                (record.status, record.reason) =
                    (record.status.apply(*event).unwrap(), reason.clone());
            }
        }
        done.push(next);
    }
    done
}

fn status(view: &View, step: &str) -> StepStatus {
    view.run().steps[&step.parse::<StepName>().unwrap()]
        .record
        .status
}

fn reason(view: &View, step: &str) -> String {
    view.run().steps[&step.parse::<StepName>().unwrap()]
        .record
        .reason
        .clone()
}

const NOOP: &str = "    strategy: {type: noop, tasks: 2}\n";

#[test]
fn a_skipped_step_names_the_first_ancestor_that_failed() {
    // GIVEN a → b → c, d after a however it ended, and e on its own
    let step = |rest: &str| format!("{NOOP}{rest}");
    let (b, c, d) = (
        step("    depends_on: [a]"),
        step("    depends_on: [b]"),
        step("    depends_on: [{step: a, when: done}]"),
    );
    let mut view = view(
        "",
        &[("a", NOOP), ("b", &b), ("c", &c), ("d", &d), ("e", NOOP)],
    );
    settle(&mut view);
    assert_eq!(["a", "b", "c", "d", "e"].map(|name| status(&view, name)), {
        use StepStatus::{Pending, Running};
        [Running, Pending, Pending, Pending, Running]
    });
    // WHEN a task of a dies, and the other is done
    kill(&mut view, "a", 0);
    finish(&mut view, "a", 1);
    settle(&mut view);
    // THEN its dependants are skipped because of it, and the independent branches go on
    assert_eq!(
        (status(&view, "a"), status(&view, "b"), status(&view, "c")),
        { (StepStatus::Failed, StepStatus::Skipped, StepStatus::Skipped) }
    );
    assert_eq!(
        (reason(&view, "b"), reason(&view, "c")),
        ("a failed".to_owned(), "a failed".to_owned())
    );
    assert!(
        reason(&view, "a").starts_with("1 of 2 tasks dead: noop 0: "),
        "{}",
        reason(&view, "a")
    );
    assert_eq!(
        (status(&view, "d"), status(&view, "e")),
        (StepStatus::Running, StepStatus::Running)
    );
    assert_eq!(view.run().record.status, RunStatus::Running);
    // WHEN those end well, THEN the run still is no success, and says whose fault it is
    for (step, ordinal) in [("d", 0), ("d", 1), ("e", 0), ("e", 1)] {
        finish(&mut view, step, ordinal);
    }
    settle(&mut view);
    assert_eq!(view.run().record.status, RunStatus::Failed);
    assert_eq!(
        view.run().record.reason,
        "not every step succeeded: a, b, c"
    );
}

#[test]
fn nothing_to_do_is_a_success_of_no_tasks() {
    let mut view = view("", &[("orders", "$load")]);
    let plan = view.covered_plan("orders");
    // GIVEN a step all of which is committed already
    view.replan("orders", plan);
    // THEN its other phases are done all the same
    for kind in [PhaseKind::Prepare, PhaseKind::Count, PhaseKind::Close] {
        settle(&mut view);
        assert_eq!(status(&view, "orders"), StepStatus::Running);
        let (run, single) = (view.run().id, view.single("orders", kind));
        assert_eq!(view.run().due_phase(&single.step), Some((1, single.phase)));
        view.end(run, &single);
    }
    // WHEN the last of them has ended, THEN it is a success
    settle(&mut view);
    assert_eq!(
        (status(&view, "orders"), view.run().record.status),
        (StepStatus::Success, RunStatus::Success)
    );
    assert_eq!(
        view.run().steps.values().next().unwrap().counts().planned(),
        0
    );
}

#[test]
fn dead_tasks_fail_a_step_only_past_its_tolerance() {
    let tolerant = format!("{NOOP}    tolerate: {{dead: 1}}");
    for (deaths, expected) in [(1, StepStatus::Success), (2, StepStatus::Failed)] {
        let mut view = view("", &[("a", &tolerant)]);
        settle(&mut view);
        for ordinal in 0..2 {
            if ordinal < deaths {
                kill(&mut view, "a", ordinal)
            } else {
                finish(&mut view, "a", ordinal)
            }
        }
        settle(&mut view);
        assert_eq!(status(&view, "a"), expected);
    }
}

#[test]
fn a_step_whose_prepare_died_does_not_wait_for_its_partitions() {
    let mut view = view("", &[("orders", "$load")]);
    settle(&mut view);
    let prepare = view.single("orders", PhaseKind::Prepare);
    kill_task(&mut view, prepare);
    settle(&mut view);
    assert_eq!(status(&view, "orders"), StepStatus::Failed);
    assert!(reason(&view, "orders").starts_with("prepare: "));
}

#[test]
fn a_wish_to_cancel_comes_before_everything_else_and_waits_for_every_fence() {
    let mut view = view("", &[("a", "$load"), ("b", "$load"), ("n", NOOP)]);
    settle(&mut view);
    view.run_mut().record.intent = RunIntent::Cancel;
    assert_eq!(settle(&mut view).len(), 1);
    assert_eq!(view.run().record.status, RunStatus::Cancelling);
    view.finish_fence("a");
    assert_eq!(settle(&mut view), []);
    view.finish_fence("b");
    assert_eq!(settle(&mut view).len(), 1);
    assert_eq!(view.run().record.status, RunStatus::Cancelled);
    assert_eq!(
        view.run().record.spec_digest,
        DocumentDigest::of(&view.run().spec.canonical_json())
    );
}
