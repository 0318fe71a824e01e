//! Drawings, as people see them.

use highwater_common::status::RunStatus;

use super::super::{dot, mermaid};
use super::*;
use crate::samples;

fn edge(step: &str) -> EdgeDocument {
    EdgeDocument {
        step: step.parse().unwrap(),
        when: When::Success,
        continues: false,
    }
}

/// Steps in an order in which each comes after all that it waits for.
fn of(steps: &[(&str, &[&str])]) -> GraphDocument {
    let step = |(name, on): &(&str, &[&str])| GraphStep {
        step: name.parse().unwrap(),
        strategy: "swap".to_owned(),
        enabled: true,
        depends_on: on.iter().map(|on| edge(on)).collect(),
        status: None,
        reason: String::new(),
        tasks: None,
    };
    GraphDocument {
        schema: "graph/v1".to_owned(),
        pipeline: "shop".parse().unwrap(),
        run: None,
        short: None,
        status: None,
        steps: steps.iter().map(step).collect(),
    }
}

fn numbered(count: usize, on: impl Fn(usize) -> Vec<String>) -> GraphDocument {
    let names: Vec<String> = (0..count).map(|at| format!("s{at:02}")).collect();
    let edges: Vec<Vec<String>> = (0..count).map(on).collect();
    let edges: Vec<Vec<&str>> = edges
        .iter()
        .map(|on| on.iter().map(String::as_str).collect())
        .collect();
    let steps: Vec<(&str, &[&str])> = names
        .iter()
        .zip(&edges)
        .map(|(name, on)| (name.as_str(), on.as_slice()))
        .collect();
    of(&steps)
}

fn drawn(document: &GraphDocument) -> String {
    graph(document, &Look::plain())
}

#[test]
fn a_diamond_shows_its_join_once_and_names_what_no_line_shows() {
    let diamond = of(&[
        ("orders", &[]),
        ("days", &["orders"]),
        ("months", &["orders"]),
        ("report", &["days", "months"]),
    ]);
    insta::assert_snapshot!(drawn(&diamond), @r"
    shop · 4 steps
    orders        swap
    ├─ days       swap  → report
    └─ months     swap
       └─ report  swap  after days, months
    ");
    let ascii = Look {
        is_ascii: true,
        ..Look::plain()
    };
    insta::assert_snapshot!(graph(&diamond, &ascii), @r"
    shop · 4 steps
    orders        swap
    |- days       swap  -> report
    `- months     swap
       `- report  swap  after days, months
    ");
}

#[test]
fn a_long_chain_begins_anew_at_the_left_before_it_leaves_the_page() {
    let chain = numbered(12, |at| match at {
        0 => Vec::new(),
        at => vec![format!("s{:02}", at - 1)],
    });
    insta::assert_snapshot!(drawn(&chain), @r"
    shop · 12 steps
    s00                          swap
    └─ s01                       swap
       └─ s02                    swap
          └─ s03                 swap
             └─ s04              swap
                └─ s05           swap
                   └─ s06        swap
                      └─ s07     swap
                         └─ s08  swap  → s09
    s09                          swap  after s08
    └─ s10                       swap
       └─ s11                    swap
    ");
}

#[test]
fn many_independent_steps_are_a_line_each() {
    let steps = numbered(40, |_| Vec::new());
    let text = drawn(&steps);
    assert_eq!(text.lines().count(), 41);
    assert!(text.lines().skip(1).all(|line| line.len() < 12), "{text}");
}

#[test]
fn a_wide_fan_stays_narrow() {
    // GIVEN a step, forty after it, and one after all of these
    let fan = numbered(42, |at| match at {
        0 => Vec::new(),
        41 => (1..41).map(|at| format!("s{at:02}")).collect(),
        _ => vec!["s00".to_owned()],
    });
    // WHEN it is drawn; THEN no line is wide, and each step has one
    let text = drawn(&fan);
    assert_eq!(text.lines().count(), 43);
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    insta::assert_snapshot!(last.join("\n"), @r"
       └─ s41  swap  after s01, s02, s03, s04 and 36 more
    └─ s40     swap
    ├─ s39     swap  → s41
    ");
}

#[test]
fn a_run_tells_where_each_step_stands_and_why() {
    let mut run = samples::failed_run();
    run.status = RunStatus::Failed;
    for step in &mut run.steps {
        if step.step.as_str() == "order_kpis" {
            step.depends_on = vec![
                EdgeDocument {
                    when: When::Done,
                    ..edge("customers")
                },
                edge("orders"),
            ];
        }
    }
    let of_run = GraphDocument::of_run(&run);
    insta::assert_snapshot!(drawn(&of_run), @r"
    r-71c shop failed · 3 steps
    customers      backfill  success 0/1  → order_kpis
    orders         backfill  failed 1,093/1,094
    └─ order_kpis  backfill  skipped 0/1  after customers (done), orders  (orders failed)
    ");
    insta::assert_snapshot!(mermaid(&of_run), @r#"
    flowchart LR
      step_customers["customers<br/>backfill<br/>success"]:::success
      step_orders["orders<br/>backfill<br/>failed"]:::failed
      step_order_kpis["order_kpis<br/>backfill<br/>skipped"]:::skipped
      step_customers -. done .-> step_order_kpis
      step_orders --> step_order_kpis
      classDef success stroke:green,stroke-width:2px
      classDef failed stroke:red,stroke-width:2px
      classDef skipped stroke:orange,stroke-width:2px
    "#);
    insta::assert_snapshot!(dot(&of_run), @r#"
    digraph "shop" {
      rankdir=LR
      node [shape=box]
      "customers" [label="customers\nbackfill\nsuccess", color=green]
      "orders" [label="orders\nbackfill\nfailed", color=red]
      "order_kpis" [label="order_kpis\nbackfill\nskipped", color=orange]
      "customers" -> "order_kpis" [label="done", style=dashed]
      "orders" -> "order_kpis"
    }
    "#);
}

#[test]
fn what_goes_on_where_another_ends_is_said() {
    let mut live = of(&[("orders", &[]), ("orders_live", &["orders"])]);
    live.steps[1].depends_on[0].continues = true;
    insta::assert_snapshot!(drawn(&live), @r"
    shop · 2 steps
    orders          swap
    └─ orders_live  swap  continues orders
    ");
    insta::assert_snapshot!(mermaid(&live), @r#"
    flowchart LR
      step_orders["orders<br/>swap"]
      step_orders_live["orders_live<br/>swap"]
      step_orders -- continues --> step_orders_live
    "#);
}

#[test]
fn a_step_that_is_not_enabled_is_drawn_and_said_to_be_none() {
    let mut odd = of(&[("orders", &[]), ("payments", &["orders"])]);
    odd.steps[1].enabled = false;
    insta::assert_snapshot!(drawn(&odd), @r"
    shop · 2 steps
    orders       swap
    └─ payments  swap  not enabled
    ");
    insta::assert_snapshot!(mermaid(&odd), @r#"
    flowchart LR
      step_orders["orders<br/>swap"]
      step_payments["payments<br/>swap<br/>not enabled"]
      step_orders --> step_payments
    "#);
    assert!(dot(&odd).contains("payments\\nswap\\nnot enabled"));
}

#[test]
fn a_document_that_names_unknown_steps_is_drawn_all_the_same() {
    let odd = of(&[("a", &["nobody"]), ("b", &["a", "a"])]);
    assert_eq!(drawn(&odd).lines().count(), 3);
}
