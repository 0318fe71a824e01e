//! What progress says, without a terminal.

use std::time::Duration;

use highwater_common::document::RunDocument;
use highwater_common::status::{RunStatus, StepStatus};

use super::bar::texts;
use super::changes::{changes, failures};
use super::*;
use crate::render::Look;
use crate::samples;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn run(done: u64, rows: u64) -> RunDocument {
    let mut run = samples::run();
    run.tasks.pending = 100 - done;
    (run.tasks.open, run.tasks.retry_wait, run.tasks.dead) = (0, 0, 0);
    (run.tasks.done, run.rows, run.bytes) = (done, rows, rows * 10);
    run
}

#[test]
fn a_rate_looks_back_fifteen_seconds() {
    // GIVEN a run that was fast, and then stood still
    let mut meter = PaceMeter::default();
    meter.observe(at(0), &run(0, 0));
    meter.observe(at(10), &run(50, 10_000));
    assert_eq!(
        meter.pace(at(10)).map(|pace| pace.rows_per_second),
        Some(1_000.0)
    );
    // WHEN the window has left the fast part behind
    for second in 11..60 {
        meter.observe(at(second), &run(50, 10_000));
    }
    // THEN the rate is nothing, and nobody knows the end
    let pace = meter.pace(at(60)).unwrap();
    assert_eq!((pace.rows_per_second, pace.remaining), (0.0, None));
}

#[test]
fn the_end_is_a_range_and_unknown_below_five_per_cent() {
    let mut meter = PaceMeter::default();
    meter.observe(at(0), &run(0, 0));
    meter.observe(at(4), &run(4, 4));
    assert_eq!(meter.pace(at(4)).unwrap().remaining, None);
    meter.observe(at(40), &run(20, 20));
    let (soonest, latest) = meter.pace(at(40)).unwrap().remaining.unwrap();
    assert!(
        soonest <= latest && latest <= at(200),
        "{soonest:?} {latest:?}"
    );
}

#[test]
fn counts_that_go_back_start_the_measurement_anew() {
    let mut meter = PaceMeter::default();
    meter.observe(at(0), &run(10, 1_000));
    meter.observe(at(5), &run(20, 2_000));
    meter.observe(at(6), &run(19, 1_900));
    assert_eq!(meter.pace(at(6)), None);
    assert_eq!(meter.pace(at(8)).unwrap().rows_per_second, 0.0);
}

#[test]
fn no_rate_is_told_from_one_document() {
    let mut meter = PaceMeter::default();
    meter.observe(at(0), &run(10, 1_000));
    assert_eq!(meter.pace(at(0)), None);
}

#[test]
fn each_change_is_one_line_and_nothing_is_told_twice() {
    let look = Look::plain();
    let first = samples::run();
    insta::assert_snapshot!(changes(None, &first, &look).join("\n"), @r"
    r-71c shop running
    r-71c step orders running · 12/31 tasks · 27,004 rows
    r-71c dead orders[2013-01-07] attempt 1 permanent numeric_overflow: amount [2Jout of range
    r-71c retry orders[2013-01-09, 2013-01-10) attempt 2 transient connection_lost: server closed
    r-71c warn orders: public.orders has no index on created_at
    r-71c why orders: 13 tasks: limit of the step, 4/4 at once
    ");
    // WHEN only counts change
    let mut second = first.clone();
    second.steps[0].tasks.done += 1;
    second.steps[0].waits[0] = "12 tasks: limit of the step, 4/4 at once".to_owned();
    // THEN there is nothing to tell
    assert_eq!(changes(Some(&first), &second, &look), Vec::<String>::new());
    // WHEN a task fails once more, and a step ends
    second.steps[0].retrying[0].attempts = 3;
    second.steps[0].status = StepStatus::Failed;
    second.steps[0].reason = "1 task is dead".to_owned();
    second.status = RunStatus::Failed;
    insta::assert_snapshot!(changes(Some(&first), &second, &look).join("\n"), @r"
    r-71c shop failed
    r-71c step orders failed · 13/32 tasks · 27,004 rows · 1 task is dead
    r-71c retry orders[2013-01-09, 2013-01-10) attempt 3 transient connection_lost: server closed
    ");
    assert_eq!(failures(Some(&first), &second, &look).len(), 1);
}

#[test]
fn a_bar_has_eight_lines_at_most_and_prefers_what_moves() {
    let mut run = samples::run();
    run.steps = (0..30)
        .map(|no| samples::step(&format!("step_{no}"), StepStatus::Success))
        .collect();
    run.steps[25].status = StepStatus::Running;
    let moment = Moment {
        now: "2026-03-01T10:00:38Z".parse().unwrap(),
        pace: None,
    };
    let texts = texts(&run, &moment, &Look::plain());
    assert_eq!(texts.len(), 8);
    assert!(
        texts.iter().any(|text| text.contains("step_25")),
        "{texts:#?}"
    );
    assert_eq!(texts[7], "  and 24 more steps");
}
