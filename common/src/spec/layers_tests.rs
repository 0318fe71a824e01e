//! Environments, settings of a command line, and steps that are not enabled.

use serde_json::Value as Json;

use super::super::masked_set;
use super::super::tests::{good, none, report};
use super::*;
use crate::id::StepName;

const SHOP: &str = r#"version: 1
name: shop
params: {since: {type: date, default: 2024-01-01}}
connections:
  old: {type: postgres, url: "${env:OLD}", max_connections: 8}
  new: {type: postgres, url: "${env:NEW}"}
limits: {tasks: 48}
defaults:
  from: {connection: old}
  to: {connection: new, table: "{source.table}"}
  limits: {tasks: 4, attempt: 45m}
steps:
  orders:
    strategy: {type: swap, lock_timeout: 1s, allow_empty: true}
    from: {table: orders}
    limits: {tasks: 32}
    pools: []
  payments:
    strategy: full_refresh
    from: {table: payments}
  kpis:
    strategy: sql
    depends_on: [orders, {step: payments, when: done}]
    to: {table: kpis}
    sql: "delete from kpis where day >= ${param:since}"
environments:
  dev:
    name: shop_dev
    params: {since: {default: 2024-06-01}}
    connections: {old: {max_connections: 2}}
    limits: {tasks: 2}
    steps:
      orders: {limits: {tasks: 1}, strategy: swap}
      payments: {enabled: false}
  bare:
    steps: {orders: {enabled: false}, kpis: {enabled: false}}
"#;

fn reads(environment: Option<&str>, sets: &[&str]) -> Result<Reading, Vec<Problem>> {
    let overlay = Overlay {
        environment: environment.map(str::to_owned),
        params: none(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        ..Overlay::default()
    };
    read(SHOP, &overlay)
}

fn told(environment: Option<&str>, sets: &[&str]) -> Vec<String> {
    let problems = reads(environment, sets).expect_err("something is wrong");
    let line = |problem: &Problem| {
        let place = problem.set.map_or_else(
            || format!("{}:{}", problem.line, problem.column),
            |set| format!("--set {}", masked_set(sets[set], set, &problems)),
        );
        format!(
            "{place} {}: {} {}",
            problem.code, problem.path, problem.message
        )
    };
    problems.iter().map(line).collect()
}

fn document(reading: &Reading) -> Json {
    reading.spec.to_document()
}

#[test]
fn an_environment_is_laid_over_the_steps_and_settings_over_it() {
    let plain = reads(None, &[]).expect("a legal file");
    assert_eq!(plain.disabled().count(), 0);
    // WHEN an environment is chosen
    let dev = reads(Some("dev"), &[]).expect("a legal environment");
    let told = document(&dev);
    // THEN maps have merged key by key: defaults < step < environment
    assert_eq!(told["name"], "shop_dev");
    assert_eq!(told["limits"]["tasks"], 2);
    assert_eq!(told["connections"]["old"]["max_connections"], 2);
    assert_eq!(told["connections"]["old"]["url"], "${env:OLD}");
    assert_eq!(told["steps"]["orders"]["limits"]["tasks"], 1);
    assert_eq!(told["steps"]["orders"]["limits"]["attempt"], "45m");
    // the strategy was replaced as a whole
    assert_eq!(told["steps"]["orders"]["strategy"]["allow_empty"], false);
    // and a step is not there, nor is the edge to it
    assert_eq!(
        dev.disabled().map(StepName::as_str).collect::<Vec<_>>(),
        ["payments"]
    );
    assert_eq!(
        told["steps"]["kpis"]["depends_on"].as_array().map(Vec::len),
        Some(1)
    );
    let sql = told["steps"]["kpis"]["sql"].to_string();
    // 2024-06-01, as a value that is no text of a statement
    assert!(sql.contains("{date:323032342d30362d3031}"), "{sql}");
    assert_ne!(plain.spec.digest(), dev.spec.digest());
    // AND what is set comes last, and may go into a strategy
    let sets = [
        "steps.orders.limits.tasks=8",
        "steps.orders.strategy.allow_empty=true",
        "steps.payments.enabled=true",
        "steps.orders.pools=[]",
        "limits={tasks: 3}",
    ];
    let set = document(&reads(Some("dev"), &sets).expect("legal settings"));
    assert_eq!(set["steps"]["orders"]["limits"]["tasks"], 8);
    assert_eq!(set["steps"]["orders"]["strategy"]["allow_empty"], true);
    assert!(set["steps"].get("payments").is_some());
    assert_eq!(set["limits"]["tasks"], 3);
}

#[test]
fn the_resolved_file_reads_as_the_same_pipeline() {
    for (environment, sets) in [
        (None, &["steps.orders.limits.tasks=8"][..]),
        (Some("dev"), &[]),
    ] {
        let reading = reads(environment, sets).expect("legal");
        let again = good(&document(&reading).to_string());
        assert_eq!(again.digest(), reading.spec.digest());
        let bytes = reading.spec.canonical_json();
        assert_eq!(super::super::from_canonical(&bytes), Ok(reading.spec));
    }
}

#[test]
fn what_is_set_is_as_if_it_were_written() {
    let written = SHOP.replace("limits: {tasks: 32}", "limits: {tasks: 8}");
    let written = parse(&written, &none()).expect("legal");
    let set = reads(None, &["steps.orders.limits.tasks=8"]).expect("legal");
    assert_eq!(written.digest(), set.spec.digest());
}

#[test]
fn a_setting_that_is_wrong_is_named_by_itself() {
    for (set, expected) in [
        (
            "steps.orders.limits.tasks=0",
            "spec::out_of_range: steps.orders.limits.tasks",
        ),
        (
            "steps.orders.limits.task=8",
            "spec::unknown_key: steps.orders.limits.task unknown key",
        ),
        (
            "steps.ordrs.limits.tasks=8",
            "spec::unknown_step: steps.ordrs.limits.tasks no step is named",
        ),
        (
            "steps.orders.pools.0=x",
            "spec::wrong_type: steps.orders.pools.0 `steps.orders.pools` is no map",
        ),
        (
            "steps.orders.from.table=",
            "spec::wrong_type: steps.orders.from.table",
        ),
        (
            "steps.orders.from.table=0052",
            "spec::quote_it: steps.orders.from.table",
        ),
        ("steps.orders.pools=[a", "spec::yaml: steps.orders.pools"),
        (
            "environments.dev.limits.tasks=1",
            "spec::unknown_key: environments.dev.limits.tasks an environment cannot be set",
        ),
        ("steps.orders", "spec::bad_value:"),
        ("steps..x=1", "spec::bad_value:"),
    ] {
        let told = told(None, &["limits.tasks=9", set]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with(&format!("--set {set} {expected}")),
            "{told:?}"
        );
    }
}

#[test]
fn no_setting_repeats_a_password() {
    let told = told(None, &["connections.old.url=postgres://u:Zq1xW@h/x"]);
    assert!(told[0].contains("spec::literal_password"), "{told:?}");
    assert!(!told.concat().contains("Zq1xW"), "{told:?}");
}

#[test]
fn an_environment_is_checked_whether_or_not_it_is_chosen() {
    let broken = |from: &str, to: &str, environment: Option<&str>| {
        assert!(SHOP.contains(from), "{from}");
        let overlay = Overlay {
            environment: environment.map(str::to_owned),
            ..Overlay::default()
        };
        let problems = read(&SHOP.replace(from, to), &overlay);
        let problems = problems.expect_err("something is wrong");
        assert_eq!(problems.len(), 1, "{}", report(&problems));
        format!("{} {}", problems[0].code, problems[0])
    };
    let tasks = (
        "orders: {limits: {tasks: 1}, strategy",
        "orders: {limits: {task: 1}, strategy",
    );
    for environment in [None, Some("dev"), Some("bare")] {
        assert_eq!(
            broken(tasks.0, tasks.1, environment),
            "spec::unknown_key 33:25: environments.dev.steps.orders.limits.task: unknown key `task` \
             (did you mean `tasks`?)"
        );
    }
    let step = broken(
        "payments: {enabled: false}",
        "paymnts: {enabled: false}",
        None,
    );
    assert!(
        step.contains("environments.dev.steps.paymnts: no step is named"),
        "{step}"
    );
    let key = broken("    limits: {tasks: 2}\n", "    limit: {tasks: 2}\n", None);
    assert!(key.contains("environments.dev.limit: unknown key"), "{key}");
    let told = told(Some("dve"), &[]);
    assert!(
        told[0].contains("no environment is named `dve`"),
        "{told:?}"
    );
}

#[test]
fn what_needs_a_step_that_is_not_enabled_is_refused() {
    // GIVEN a chain, of whose first step the last but one needs the success
    let on = |on: &str| format!("{{strategy: {{type: noop, tasks: 1}}, depends_on: {on}}}");
    let text = |b: &str| {
        format!(
            "version: 1\nname: x\nsteps:\n  a: {{enabled: false, strategy: {{type: noop, tasks: 1}}}}\n  \
             b: {}\n  c: {}\n  d: {}\n",
            on(b),
            on("[b]"),
            on("[]")
        )
    };
    let problems = parse(&text("[a]"), &none()).expect_err("b needs a");
    let told: Vec<&str> = problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "`a` is not enabled, and this step needs its success",
            "`b` needs `a`, which is not enabled"
        ]
    );
    // WHEN it waits for the end alone; THEN there is nothing to wait for
    let spec = good(&text("[{step: a, when: done}]"));
    assert_eq!(spec.steps.len(), 3);
    assert!(
        spec.steps
            .values()
            .all(|step| step.depends_on.iter().all(|on| on.step.as_str() != "a"))
    );
    // AND a file of which no step is left is none
    let none_left =
        "version: 1\nname: x\nsteps:\n  a: {enabled: false, strategy: {type: noop, tasks: 1}}\n";
    let problems = parse(none_left, &none()).expect_err("no step");
    assert_eq!(problems[0].message, "no step is enabled");
}

#[test]
fn a_step_that_is_not_enabled_is_checked_and_leaves_its_table_to_another() {
    let two = SHOP.replace(
        "  payments:\n    strategy: full_refresh\n",
        "  payments_old:\n    enabled: false\n    strategy: swap\n    from: {table: payments}\n  \
         payments:\n    strategy: full_refresh\n",
    );
    assert!(parse(&two, &none()).is_ok());
    let problems = parse(
        &two.replace(
            "enabled: false\n    strategy: swap",
            "enabled: false\n    strategy: swop",
        ),
        &none(),
    );
    assert!(problems.is_err());
    let twice = parse(
        &two.replace(
            "enabled: false\n    strategy: swap",
            "enabled: true\n    strategy: swap",
        ),
        &none(),
    );
    let twice = twice.expect_err("two writers");
    assert_eq!(twice[0].code, ErrorCode::SpecTwoWriters);
}
