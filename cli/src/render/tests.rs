//! What people see, as snapshots.

use std::time::Duration;

use highwater_common::document::{ClusterDocument, RunDocument, TaskCounts};
use highwater_common::status::{RunStatus, StepStatus};

use super::*;
use crate::progress::Pace;
use crate::samples;

fn moment() -> Moment {
    let pace = Pace {
        rows_per_second: 342_111.0,
        bytes_per_second: 61.0 * 1024.0 * 1024.0,
        remaining: Some((Duration::from_secs(24 * 60), Duration::from_secs(31 * 60))),
    };
    Moment {
        now: "2026-03-01T10:00:38Z".parse().unwrap(),
        pace: Some(pace),
    }
}

fn now() -> jiff::Timestamp {
    moment().now
}

#[test]
fn status_of_a_running_run_says_why_tasks_wait_and_what_failed() {
    insta::assert_snapshot!(status(&samples::run(), &moment(), Steps::Folded, &Look::plain()), @r"
    r-71c shop running 38 s · 12/32 tasks · 27,004 rows · 342 k rows/s · 61 MiB/s · ETA 24 m – 31 m · 4 workers, 4/4 slots
      orders      ████████░░░░░░░░░░░░░░░  running 12/31 · 4 open · 1 retry_wait · 1 dead · 27,004 rows · watermark 2013-01-12
        why     13 tasks: limit of the step, 4/4 at once
        warn    public.orders has no index on created_at
        dead    orders[2013-01-07] attempt 1 permanent numeric_overflow: amount [2Jout of range
        retry   orders[2013-01-09, 2013-01-10) attempt 2 transient connection_lost: server closed
      order_kpis  ░░░░░░░░░░░░░░░░░░░░░░░  pending 0/1
    ");
}

#[test]
fn status_says_what_operators_hold_back_and_what_they_accepted() {
    insta::assert_snapshot!(status(&samples::paused(), &moment(), Steps::Folded, &Look::plain()), @r"
    r-71c shop running 38 s · 12/32 tasks · 27,004 rows · 342 k rows/s · 61 MiB/s · ETA 24 m – 31 m · 4 workers, 4/4 slots
      paused  the run by ann (certificate): the nightly backup, since 2026-03-01T10:00:10Z
      paused  connection legacy by ann (certificate): maintenance, since 2026-03-01T10:00:10Z
      limits  tasks 8, step orders 2, in place of the file's
      orders      ████████░░░░░░░░░░░░░░░  running 12/31 · 4 open · 1 retry_wait · 1 dead · 27,004 rows · watermark 2013-01-12
        why     the run is paused by ann: the nightly backup
        warn    public.orders has no index on created_at
        dead    orders[2013-01-07] attempt 1 permanent numeric_overflow: amount [2Jout of range (accepted by ann: never delivered)
        retry   orders[2013-01-09, 2013-01-10) attempt 2 transient connection_lost: server closed
      order_kpis  ░░░░░░░░░░░░░░░░░░░░░░░  pending 0/1
    ");
}

#[test]
fn what_operators_did_is_a_row_each() {
    insta::assert_snapshot!(audit(&samples::audit(), &Look::plain()), @r"
    when                  who                verb    pipeline  run         what             why
    2026-03-01T10:00:10Z  ann (certificate)  pause   shop      r-71c00304  step orders      the nightly backup
    2026-03-01T10:00:00Z  bob                cordon                        worker worker-6
    ");
}

#[test]
fn status_of_forty_tables_is_a_page() {
    let run = samples::forty_tables();
    insta::assert_snapshot!(status(&run, &moment(), Steps::Folded, &Look::plain()), @r"
    r-71c shop running 38 s · 12/32 tasks · 27,004 rows · 342 k rows/s · 61 MiB/s · ETA 24 m – 31 m · 4 workers, 4/4 slots
      all_*    ███████████████████████  success 18 steps, 54/54 · 188,000 rows
      all_t05  ████████░░░░░░░░░░░░░░░  failed 12/31 · 4 open · 1 retry_wait · 1 dead · 27,004 rows
        dead    all_t05[2013-01-07] attempt 1 permanent numeric_overflow: amount [2Jout of range
      all_t17  ░░░░░░░░░░░░░░░░░░░░░░░  running 0/3 · 2 open
      all_t21  ░░░░░░░░░░░░░░░░░░░░░░░  running 0/3 · 2 open
      all_*    ░░░░░░░░░░░░░░░░░░░░░░░  pending 19 steps, 0/19
      all_t30  ░░░░░░░░░░░░░░░░░░░░░░░  pending 0/1
        why     1 task: pool legacy_reads, 2/2 at once
      totals   ░░░░░░░░░░░░░░░░░░░░░░░  skipped 0/1
        reason  all_t05 failed
      every step: highwater status r-71c --all
    ");
    let each = status(&run, &moment(), Steps::Each, &Look::plain());
    for step in &run.steps {
        assert!(each.contains(&format!("  {} ", step.step)), "{each}");
    }
    assert!(!each.contains("--all"), "{each}");
}

#[test]
fn status_of_a_failed_run_ends_with_the_next_command() {
    let mut look = Look::plain();
    look.program = "highwater --state x".to_owned();
    insta::assert_snapshot!(status(&samples::failed_run(), &moment(), Steps::Folded, &look), @r"
    r-71c shop failed in 1 h 07 m · 1,132/1,135 tasks · 1,307,911,204 rows · 3 MiB
      customers   ░░░░░░░░░░░░░░░░░░░░░░░  success 0/1
      orders      ██████████████████████░  failed 1,093/1,094 · 1 dead · 27,004 rows · watermark 2013-01-12
        warn    public.orders has no index on created_at
        dead    orders[2013-01-07] attempt 1 permanent numeric_overflow: amount [2Jout of range
      order_kpis  ░░░░░░░░░░░░░░░░░░░░░░░  skipped 0/1
        reason  orders failed
      next    highwater --state x retry r-71c
    ");
}

#[test]
fn status_without_a_worker_says_so() {
    let run = RunDocument {
        status: RunStatus::Planning,
        workers: 0,
        slots: 0,
        rows: 0,
        tasks: TaskCounts::default(),
        steps: Vec::new(),
        ..samples::run()
    };
    let moment = Moment {
        pace: None,
        ..moment()
    };
    insta::assert_snapshot!(status(&run, &moment, Steps::Folded, &Look::plain()), @r"
    r-71c shop planning 38 s · no worker
    ");
}

#[test]
fn summaries_say_what_is_committed_and_what_to_do_next() {
    let mut nothing_committed = samples::failed_run();
    nothing_committed.committed = false;
    nothing_committed.rows = 0;
    nothing_committed.tasks = TaskCounts::default();
    nothing_committed.reason = "cannot probe legacy: password authentication failed".to_owned();
    nothing_committed.steps.clear();
    let mut covered = samples::succeeded();
    covered.tasks = TaskCounts {
        covered: 31,
        ..TaskCounts::default()
    };
    let mut partly = samples::succeeded();
    partly.steps = vec![samples::step("orders", StepStatus::Success)];
    partly.steps[0].not_loaded =
        vec!["12 rows of orders whose placed_at lies before 2019-01-01".to_owned()];
    partly.steps[0].checks = samples::checks();
    let all = [
        samples::succeeded(),
        covered,
        partly,
        samples::failed_run(),
        nothing_committed,
        samples::cancelled(),
    ];
    let text: Vec<String> = all
        .iter()
        .map(|run| summary(run, now(), &Look::plain()))
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    Run r-71c success in 5.2 s: 31 tasks · 27,004 rows

    Run r-71c success in 5.2 s: nothing to do, 31 tasks covered by earlier runs

    Run r-71c success in 5.2 s: 31 tasks · 27,004 rows
      orders not loaded: 12 rows of orders whose placed_at lies before 2019-01-01
      orders check passed min_rows: 1
      orders check passed min_rows: 10: found 12 rows
      orders check failed min_rows: 30: expects at least 30 rows, found 12 rows

    Run r-71c failed, part committed, in 1 h 07 m: 1,132 done · 1 dead · 2 not run · 1,307,911,204 rows
      success 1 step · failed orders (1 dead) · skipped order_kpis (orders failed)
      warn orders: public.orders has no index on created_at
      dead orders[2013-01-07] attempt 1 permanent numeric_overflow: amount [2Jout of range
      next: highwater retry r-71c

    Run r-71c failed, nothing committed, in 1 h 07 m: planning did not end well
      reason: cannot probe legacy: password authentication failed
      next: mend what is named above, then run the pipeline file again

    Run r-71c cancelled in 12 s: 12 done · 19 not run · 27,004 rows
      reason: wrong source
      cancelled orders
    ");
}

#[test]
fn a_plan_shows_each_step_its_warnings_and_what_a_commit_is() {
    insta::assert_snapshot!(plan(&samples::plan(), &Look::plain()), @r"
    r-71c shop · spec d4f02e · reference time 2026-03-01T10:00:00Z
    step     strategy  tasks     rows  what
    orders   backfill  1,094  ~1.31 B  by day of created_at, UTC, [2022-01-01, 2025-01-01)
    warm_up  noop          5        –  5 tasks of 50 ms
      orders: 2 of its tasks are covered by earlier runs, not planned
      orders: first [2022-01-01, 2022-01-02), [2022-01-02, 2022-01-03), …
      orders: warning: no index on created_at in the target
      orders: note: 3 rows with NULL in created_at are a partition of their own
    Commit  data + ledger row in one target transaction: exactly-once effect (warm_up excepted: control path only)
    Plan    1,099 tasks, 2 covered by earlier runs · digest 64879f
    ");
}

#[test]
fn an_empty_plan_says_that_nothing_is_to_do() {
    let mut document = samples::plan();
    document.tasks = 0;
    document.steps.truncate(1);
    document.steps[0].tasks = 0;
    document.steps[0].covered = 31;
    document.steps[0].first.clear();
    let text = plan(&document, &Look::plain());
    assert!(
        text.contains("Plan    nothing to do, 31 covered by earlier runs"),
        "{text}"
    );
}

#[test]
fn runs_are_a_table() {
    insta::assert_snapshot!(runs(&samples::runs(), now(), &Look::plain()), @r"
    run    pipeline  status         tasks  dead           rows  started                   took
    r-71c  shop      running        12/32     1         27,004  2026-03-01T10:00:00Z      38 s
    r-71c  shop      failed   1,132/1,135     1  1,307,911,204  2026-03-01T10:00:00Z  1 h 07 m
    r-71c  shop      success        31/31     0         27,004  2026-03-01T10:00:00Z     5.2 s
    ");
}

#[test]
fn a_cluster_shows_its_leader_store_and_workers() {
    insta::assert_snapshot!(cluster(&samples::cluster(), &Look::plain()), @r"
    cluster  0102030405060708090a0b0c0d0e0f10
    leader   http://c-1:7070, term 9c41, tokens from 3
    store    etcd, 1.2 MiB
    worker     state  version  slots  heartbeat
    worker-1   ready  0.1.0      8/8  0.4 s ago
    worker-10  ready  0.1.0      0/8  2.3 s ago
    ");
}

#[test]
fn a_cluster_says_what_keeps_everybody_waiting() {
    let document = ClusterDocument {
        trouble: "the store at etcd is out of space".to_owned(),
        workers: Vec::new(),
        ..samples::cluster()
    };
    insta::assert_snapshot!(cluster(&document, &Look::plain()), @r"
    cluster  0102030405060708090a0b0c0d0e0f10
    leader   http://c-1:7070, term 9c41, tokens from 3
    store    etcd, 1.2 MiB
    trouble  the store at etcd is out of space
    no worker is connected
    ");
}

#[test]
fn one_process_without_a_worker_is_a_cluster_too() {
    let document = ClusterDocument {
        leader: String::new(),
        workers: Vec::new(),
        store: "sqlite .highwater/store.db".to_owned(),
        ..samples::cluster()
    };
    insta::assert_snapshot!(cluster(&document, &Look::plain()), @r"
    cluster  0102030405060708090a0b0c0d0e0f10
    leader   one process, term 9c41, tokens from 3
    store    sqlite .highwater/store.db, 1.2 MiB
    no worker is connected
    ");
}

#[test]
fn colours_only_repeat_what_the_words_say() {
    let painted = Look {
        has_color: true,
        ..Look::plain()
    };
    for run in [
        samples::run(),
        samples::failed_run(),
        samples::cancelled(),
        samples::succeeded(),
    ] {
        let (with, without) = (
            status(&run, &moment(), Steps::Folded, &painted),
            status(&run, &moment(), Steps::Folded, &Look::plain()),
        );
        assert!(with.contains("\u{1b}["), "{with}");
        assert_eq!(without_escapes(&with), without);
    }
}

#[test]
fn text_of_a_database_cannot_steer_the_terminal() {
    let text = status(&samples::run(), &moment(), Steps::Folded, &Look::plain());
    assert!(
        !text.contains('\u{1b}') && text.contains("amount [2Jout of range"),
        "{text}"
    );
}

#[test]
fn a_bar_is_full_only_when_nothing_is_missing() {
    let look = Look {
        is_ascii: true,
        ..Look::plain()
    };
    assert_eq!(look.bar(999, 1_000, 4), "###-");
    assert_eq!(look.bar(1_000, 1_000, 4), "####");
    assert_eq!(look.bar(0, 0, 4), "----");
    assert_eq!(look.bar(u64::MAX, u64::MAX, 4), "####");
}

#[test]
fn a_skipped_step_tells_its_reason() {
    let mut run = samples::failed_run();
    run.steps[2].status = StepStatus::Skipped;
    assert!(summary(&run, now(), &Look::plain()).contains("skipped order_kpis (orders failed)"));
}

fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut is_inside = false;
    for c in text.chars() {
        match (is_inside, c) {
            (false, '\u{1b}') => is_inside = true,
            (true, 'm') => is_inside = false,
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    plain
}

#[test]
fn tasks_and_what_happened_to_them() {
    insta::assert_snapshot!(tasks(&samples::tasks(), &Look::plain()), @r"
    step    task                      state  attempts  worker       rows   took  error
    orders  [2023-05-06, 2023-05-07)  done          1          1,204,331  1.5 s
    orders  [2023-05-07, 2023-05-08)  dead          1                  0  1.5 s  amount: numeric field overflow
    ");
    insta::assert_snapshot!(events(&samples::events(), &Look::plain()), @r"
    2026-03-01T10:00:00Z orders[2023-05-07, 2023-05-08) attempt 1 worker-6 assigned
    2026-03-01T10:00:00Z orders[2023-05-07, 2023-05-08) attempt 1 worker-6 dead: amount: numeric field overflow
    ");
}
