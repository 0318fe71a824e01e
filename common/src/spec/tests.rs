//! Whole files in, models or problems out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::error_code::ErrorCode;
use crate::id::StepName;

pub(super) const FLIGHTS: &str = r#"
version: 1
name: flights
params: {since: {type: date, default: 2013-01-01}}
connections:
  source: {type: sqlite, path: flights.db, read_only: true}
  target: {type: postgres, url: "${env:TARGET_URL}", max_connections: 8}
steps:
  flights:
    strategy: {type: backfill, start: "${param:since}", end: 2013-02-01}
    from: {connection: source, table: flights}
    to: {connection: target, table: "analytics.{source.table}"}
    partition: {by: calendar, column: time_hour, grain: day, tz: America/New_York}
    write: {mode: replace_partition, key: [time_hour, carrier, flight]}
"#;

/// Every key that works, none with its default, so that leaving any one out changes the pipeline or
/// breaks it.
pub(super) const FULL: &str = r#"
version: 1
name: full
params:
  since: {type: date, default: 2013-01-01}
connections:
  source: {type: sqlite, path: a.db, read_only: true}
  target: {type: postgres, url: "postgres://u:${env:PW}@h/x", max_connections: 8, read_only: false}
  locked: {type: postgres, url: "${file:/run/url}", read_only: true}
limits: {tasks: 48, priority: 7}
pools: {legacy_reads: {tasks: 12}, evenings: {tasks: 3}}
schedule: {cron: "15 */2 * * mon-fri", tz: Europe/Berlin, catch_up: all, overlap: queue}
environments:
  dev:
    name: full_dev
    params: {since: {type: date, default: 2013-01-31}}
    connections: {target: {type: postgres, url: "${env:DEV_URL}", max_connections: 2, read_only: false}, source: {path: dev.db}}
    schedule: {cron: "5 3 * * *", tz: UTC, catch_up: none, overlap: skip}
    limits: {tasks: 2, priority: 3}
    pools: {evenings: {tasks: 1}}
    steps: {orders: {enabled: false}}
defaults:
  from: {connection: source, columns: {secret: {exclude: true}}}
  to: {connection: target, table: "analytics.{source.table}"}
  partition: {by: calendar, column: at, grain: day, tz: Europe/Berlin, nulls: ignore}
  write: {mode: replace_partition, key: [id], resident: replace, on_schema_change: fail}
  chunk: {target: 5s, max_rows: 1000, max_bytes: 1MiB}
  retries: {max_attempts: 3, initial: 2s, max: 1m, unreachable: 5m}
  limits: {tasks: 4, attempt: 45m, stall: 3m}
  pools: [legacy_reads]
  labels: {disk: fast}
  tolerate: {dead: 2}
  checks: [{min_rows: 2}]
  depends_on: [bench]
  strategy: {type: backfill}
steps:
  bench:
    strategy: {type: noop, tasks: 10, hold: 50ms}
    depends_on: []
  retired:
    enabled: false
    strategy: {type: noop, tasks: 1}
    depends_on: []
  rates:
    strategy: {type: full_refresh, consistency: snapshot, allow_empty: true, allow_shrink: true}
    from: {connection: source, query: "select code, day, rate from rates"}
    to: {connection: target, table: rates}
    write: {triggers: skip}
    checks: [{row_count: {tolerance: 5}}, {min_rows: 30}, {not_null: [code]}, {unique: [code, day]}, {sql: "select true from {table}"}]
  customers:
    strategy: {type: swap, allow_empty: true, allow_shrink: true, lock_timeout: 200ms, keep_old: 24h}
    from: {connection: source, table: customers}
    to: {connection: target, table: customers}
    partition: {by: integer, column: id, width: 100}
  prices:
    strategy: {type: swap, publish: in_place}
    from: {connection: source, table: prices}
    to: {connection: target, table: prices}
  payments:
    strategy: {type: backfill, end: now}
    from: {table: payments}
    partition: {column: changed}
  payments_live:
    strategy: {type: incremental, cursor: changed, tz: Europe/Berlin, horizon: {lag: 10m}, lookback: 15m, nulls: reload, continues: payments, allow_empty: true, allow_shrink: true}
    from: {table: payments, columns: {changed: {rename: changed_at}}}
    write: {mode: merge, key: [payment_id], triggers: skip, on_schema_change: add_columns, deletes: soft, deleted_at: gone_at}
  visits:
    strategy: {type: cdc, slot: visits_log, publication: shop_changes, until: continuous}
    from: {connection: locked, table: visits}
    write: {mode: merge, key: [visit_id], deletes: soft, deleted_at: gone_at}
    slot_limit: {retained: 2GiB, action: alert}
  orders:
    strategy: {type: backfill, start: "${param:since}", end: 2014-01-01, reprocess: all, order: newest}
    depends_on: [{step: bench, when: done}]
    from: {connection: source, table: orders, rows: visible, columns: {note: {exclude: true}, buyer_no: {rename: customer}, price: {cast: "numeric(12,2)"}}}
    to: {connection: target, table: sales.orders, create: columns}
    partition: {by: calendar, column: placed, grain: month, tz: America/New_York, nulls: fail}
    write: {mode: replace_partition, key: [order_id], resident: replace, triggers: skip, on_schema_change: add_columns}
    chunk: {target: 20s, max_rows: 100000, max_bytes: 32MiB}
    retries: {max_attempts: 7, initial: 3s, max: 10m, unreachable: 2h}
    limits: {tasks: 32, attempt: 30m, stall: 5m}
    pools: [legacy_reads, evenings]
    labels: {zone: a}
    tolerate: {dead: 1}
  items:
    strategy: {type: backfill, start: 1, end: 1000}
    from: {table: items}
    partition: {by: integer, column: id, width: 100, max_rows: 7}
    write: {mode: append, resident: fail}
  refunds:
    from: {table: refunds}
    write: {mode: merge, key: [refund_id], cursor: changed_at, resident: fail}
  sessions:
    from: {table: sessions}
    partition: {by: hash, columns: [device, started], parts: 16}
    write: {mode: append, resident: fail}
  devices:
    from: {table: devices}
    partition: {by: keyset, columns: [maker, serial], max_rows: 100000}
    write: {mode: append, resident: fail}
  shipments:
    from: {table: shipments}
  archive:
    from: {connection: locked}
    tables: {match: ["old.*", "older.*"], exclude: ["*.tmp"], foreign_keys: false}
  kpis:
    strategy: sql
    depends_on: [shipments]
    to: {table: mart.kpis}
    sql:
      text: |
        delete from mart.kpis where day >= ${param:since};
        insert into mart.kpis select {run.id}, {run.reference_time}, {pipeline}, {step}, '{}', count(*) from x;
  ledger:
    strategy: {type: backfill, start: 2013-01-01, end: 2014-01-01}
    from: {table: ledger}
  ledger_months:
    strategy: sql
    partition: {follow: ledger, grain: month}
    to: {table: mart.ledger_months}
    sql: {file: ledger_months.sql}
  features:
    strategy: exec
    command: [/opt/jobs/features, "--until={run.reference_time}", "${param:since}"]
    env: {OUT_DSN: "${env:WH_URL}", KEY: "${file:/run/key}"}
    probe: [/opt/jobs/done, "{run.id}"]
    idempotent: true
"#;

pub(super) fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// The file of statements beside [`FULL`].
const LEDGER_MONTHS: &str =
    "delete from mart.ledger_months where day >= {partition.start} and day < {partition.end}";

/// Reads a pipeline beside which there is one file.
pub(super) fn read_full(text: &str) -> Result<Spec, Vec<Problem>> {
    let files = |name: &str| match name {
        "ledger_months.sql" => Ok(LEDGER_MONTHS.to_owned()),
        other => Err(FileFault {
            message: format!("there is no file {other}"),
            hint: "look for it".to_owned(),
        }),
    };
    Ok(read_with(text, &Overlay::default(), &files)?.spec)
}

pub(super) fn good(text: &str) -> Spec {
    read_full(text).unwrap_or_else(|problems| panic!("{}", report(&problems)))
}

fn bad(text: &str) -> Vec<Problem> {
    read_full(text).expect_err("the file has a problem")
}

pub(super) fn report(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{} {problem}\n", problem.code))
        .collect()
}

/// The only problem of the flights pipeline with one text replaced by another.
fn only(from: &str, to: &str) -> Problem {
    assert!(FLIGHTS.contains(from), "{from}");
    let problems = bad(&FLIGHTS.replace(from, to));
    assert_eq!(problems.len(), 1, "{to}:\n{}", report(&problems));
    problems.into_iter().next().expect("one")
}

fn backfill_of<'a>(spec: &'a Spec, step: &str) -> &'a Backfill {
    match &spec.steps[&step.parse::<StepName>().expect("a legal name")].strategy {
        Strategy::Backfill(backfill) => backfill,
        Strategy::FullRefresh(_)
        | Strategy::Swap(_)
        | Strategy::Incremental(_)
        | Strategy::Sql(_)
        | Strategy::Exec(_)
        | Strategy::Cdc(_)
        | Strategy::Noop(_) => {
            panic!("{step} is no backfill")
        }
    }
}

#[test]
fn a_file_becomes_a_pipeline_with_its_defaults_filled_in() {
    let spec = good(FLIGHTS);
    let backfill = backfill_of(&spec, "flights");
    assert_eq!(backfill.start, Some(Bound("2013-01-01".to_owned())));
    assert_eq!(backfill.to.table.to_string(), "analytics.flights");
    assert_eq!(
        (backfill.reprocess, backfill.order),
        (Reprocess::Missing, Order::Oldest)
    );
    assert_eq!(
        (backfill.partition.nulls, backfill.write.resident),
        (Nulls::Partition, ExistingRows::Fail)
    );
    assert_eq!(
        backfill.partition.by,
        PartitionBy::Calendar {
            grain: Grain::Day,
            tz: "America/New_York".to_owned()
        }
    );
    assert_eq!(backfill.write.key, ["time_hour", "carrier", "flight"]);
    let step = spec.steps.values().next().expect("one step");
    assert_eq!(
        (
            step.retries.clone(),
            step.limits.clone(),
            step.tolerate_dead
        ),
        Default::default()
    );
}

#[test]
fn defaults_are_laid_under_every_step() {
    let spec = good(FULL);
    // GIVEN defaults for all; WHEN a step says little; THEN the rest comes from them
    let shipments = backfill_of(&spec, "shipments");
    assert_eq!(shipments.to.table.to_string(), "analytics.shipments");
    assert_eq!(shipments.from.columns.exclude, ["secret"]);
    assert_eq!(shipments.write.key, ["id"]);
    // maps merge key by key, lists and strategies are replaced
    let orders = backfill_of(&spec, "orders");
    assert_eq!(orders.from.columns.exclude, ["note", "secret"]);
    assert_eq!(orders.write.key, ["order_id"]);
    assert_eq!(
        (orders.from.rows, shipments.from.rows),
        (SourceRows::Visible, SourceRows::All)
    );
    assert_eq!(
        (orders.write.triggers, shipments.write.triggers),
        (Triggers::Skip, Triggers::Fire)
    );
    // and what `defaults` says for another rule means nothing to this one
    let items = backfill_of(&spec, "items");
    assert_eq!(
        items.partition.by,
        PartitionBy::Integer {
            width: Some(100),
            max_rows: 7
        }
    );
    let labels: Vec<_> = spec.steps[&"orders".parse().expect("a legal name")]
        .labels
        .iter()
        .collect();
    assert_eq!(
        format!("{labels:?}"),
        r#"[("disk", "fast"), ("zone", "a")]"#
    );
    let bench = &spec.steps[&"bench".parse().expect("a legal name")];
    assert_eq!(
        bench.strategy,
        Strategy::Noop(Noop {
            tasks: 10,
            hold: Duration::from_millis(50)
        })
    );
    assert_eq!(bench.limits.attempt, Some(Duration::from_secs(2700)));
    assert_eq!(bench.limits.stall, Duration::from_secs(180));
    assert!(bench.depends_on.is_empty());
}

#[test]
fn bad_yaml_reports_every_problem_with_its_place() {
    // GIVEN a file in which much is wrong
    let text = r#"
version: 2
name: Shop
nmae: shop
name: again
1: one
schedule: {cron: "15 * 31 feb *", tz: Europe/Atlantis, catch_up: latst, overlap: 1}
throttle: {}
params: {since: {type: date, default: soon}}
connections:
  src: {type: sqlite, path: 0052, read_only: yes}
  dst: {type: postgres, url: "postgres://u:hunter2@h/x", max_connections: 0}
  old: {type: mysql, url: "${env:X}"}
steps:
  a:
    strategy: {type: backfil, start: 1}
    depends_on: [b, {step: c, when: maybe}]
  b:
    strategy: {type: backfill, start: "${param:sinse}", end: now}
    depends_on: a
    from: {connection: scr, table: a.b.c, columns: {x: {cast: "text;"}}}
    to: {connection: dst, table: "{step}"}
    partition: {by: calendar, column: 7, tz: Mars/Olympus, width: 5}
    write: {mode: append, key: own}
    retries: {max_attempts: many, initial: 5}
"#;
    // WHEN it is read
    let problems = bad(text);
    // THEN every problem is there, in the order of the file, with its place
    insta::assert_snapshot!(report(&problems));
    for problem in &problems {
        let Problem {
            line,
            column,
            offset,
            length,
            ..
        } = *problem;
        let before: String = text[..offset]
            .chars()
            .rev()
            .take_while(|c| *c != '\n')
            .collect();
        assert_eq!(
            text[..offset].matches('\n').count() + 1,
            line as usize,
            "{problem}"
        );
        assert_eq!(before.chars().count() + 1, column as usize, "{problem}");
        assert!(text.get(offset..offset + length).is_some(), "{problem}");
    }
}

#[test]
fn broken_yaml_is_a_problem_with_a_place() {
    for (text, line, column) in [
        ("a: [1\nb: 2", 2, 2),
        ("a: b: c", 1, 5),
        ("ä: *u", 1, 4),
        ("a: !foo x", 1, 9),
        ("---\na: 1\n---\nb: 2\n", 4, 1),
        ("", 1, 1),
        ("- 1", 1, 1),
    ] {
        let problems = bad(text);
        assert_eq!(
            (problems[0].line, problems[0].column),
            (line, column),
            "{text:?}: {}",
            report(&problems)
        );
    }
    assert_eq!(bad(&"a".repeat(2 << 20))[0].code, "spec::too_large");
    assert_eq!(bad(&"[".repeat(100_000))[0].code, "spec::yaml");
}

#[test]
fn spec_suggests_legal_key() {
    let hint = |from: &str, to: &str| {
        let problem = only(from, to);
        assert_eq!(problem.code, "spec::unknown_key", "{problem}");
        problem.hint.expect("a hint")
    };
    assert_eq!(
        hint("name: flights\n", "name: flights\nlimit: {tasks: 1}\n"),
        "did you mean `limits`?"
    );
    assert_eq!(
        hint("read_only: true", "readonly: true"),
        "did you mean `read_only`?"
    );
    assert_eq!(
        hint("grain: day,", "grain: day, collumn: x,"),
        "did you mean `column`?"
    );
    // a key of another place is told its place
    assert_eq!(
        hint("grain: day,", "grain: day, resident: fail,"),
        "it is legal under `steps.<step>.write`"
    );
    assert_eq!(
        hint("grain: day,", "grain: day, width: 5,"),
        "it goes with `by: integer`"
    );
    // anything else is told what is legal
    assert!(
        hint("grain: day,", "grain: day, frobnicate: 5,")
            .starts_with("legal here: `by`, `column`, `grain`")
    );
    let password = hint(
        "max_connections: 8",
        "password: \"${env:PW}\", max_connections: 8",
    );
    assert!(password.contains("${env:NAME}"), "{password}");
    // and so are words and names
    assert_eq!(
        only("grain: day", "grain: dya").hint.as_deref(),
        Some("did you mean `day`?")
    );
    assert_eq!(
        only("from: {connection: source", "from: {connection: sorce")
            .hint
            .as_deref(),
        Some("did you mean `source`?")
    );
    let strategy = only("type: backfill", "type: mirror");
    assert_eq!(
        strategy.message,
        "`mirror` is none of `backfill`, `full_refresh`, `swap`, `incremental`, `cdc`, `sql`, `exec` and `noop`"
    );
}

/// The problems of an incremental step with one text replaced by another.
fn of_incremental(from: &str, to: &str) -> Vec<String> {
    const LIVE: &str = r#"
version: 1
name: live
connections:
  source: {type: postgres, url: "postgres://h/x"}
  target: {type: postgres, url: "postgres://h/y"}
steps:
  history:
    strategy: {type: backfill, end: now}
    from: {connection: source, table: orders}
    to: {connection: target, table: orders}
    partition: {by: calendar, column: changed_at, grain: day}
    write: {mode: append}
  live:
    strategy: {type: incremental, cursor: changed_at, continues: history}
    from: {connection: source, table: orders}
    to: {connection: target, table: orders}
    write: {mode: merge}
"#;
    assert!(LIVE.contains(from), "{from}");
    match parse(&LIVE.replace(from, to), &none()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .into_iter()
            .map(|problem| format!("{} {}", problem.code, problem.path))
            .collect(),
    }
}

#[test]
fn an_incremental_step_is_refused_what_would_lose_or_double_rows() {
    assert_eq!(of_incremental("name: live", "name: live"), [""; 0]);
    for (from, to, problem) in [
        (
            "mode: merge",
            "mode: replace_partition",
            "spec::conflict steps.live.write.mode",
        ),
        (
            "mode: merge",
            "mode: merge, cursor: id",
            "spec::unknown_key steps.live.write.cursor",
        ),
        (
            "{mode: merge}",
            "{mode: append, deletes: hard}",
            "spec::conflict steps.live.write.deletes",
        ),
        (
            "{mode: merge}",
            "{mode: merge, deletes: hard, deleted_at: gone_at}",
            "spec::conflict steps.live.write.deleted_at",
        ),
        (
            "cursor: changed_at",
            "cursor: changed_at, allow_empty: true",
            "spec::conflict steps.live.strategy.allow_empty",
        ),
        (
            "{mode: merge}",
            "{key: [id]}",
            "spec::missing_key steps.live.write",
        ),
        (
            "end: now",
            "end: 2024-01-01",
            "spec::conflict steps.live.strategy.continues",
        ),
        (
            "column: changed_at",
            "column: created_at",
            "spec::conflict steps.live.strategy.continues",
        ),
        (
            "continues: history",
            "continues: histroy",
            "spec::unknown_step steps.live.strategy.continues",
        ),
        (
            "end: now",
            "start: now, end: now",
            "spec::bad_value steps.history.strategy.start",
        ),
        (
            "cursor: changed_at",
            "cursor: changed_at, horizon: soon",
            "spec::bad_value steps.live.strategy.horizon.lag",
        ),
        (
            "cursor: changed_at, continues: history",
            "cursor: changed_at",
            "spec::two_writers steps.live.to.table",
        ),
    ] {
        assert!(
            of_incremental(from, to)
                .iter()
                .any(|found| found == problem),
            "{to}: {:?}",
            of_incremental(from, to)
        );
    }
    for key in ["lookback: 5m", "nulls: reload"] {
        let strategy = format!("cursor: changed_at, {key}, continues: history}}");
        let text = format!(
            "{strategy}\n    from: {{connection: source, table: orders}}\n    to: {{connection: target, table: orders}}\n    write: {{mode: append}}"
        );
        let from = "cursor: changed_at, continues: history}\n    from: {connection: source, table: orders}\n    to: {connection: target, table: orders}\n    write: {mode: merge}";
        let found = of_incremental(from, &text);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert!(
            found
                .concat()
                .starts_with("spec::conflict steps.live.strategy")
        );
    }
}

const FOLLOWED: &str = r#"version: 1
name: shop
connections:
  source: {type: postgres, url: "${env:SOURCE_URL}"}
  target: {type: postgres, url: "${env:TARGET_URL}"}
steps:
  orders:
    strategy: {type: cdc, slot: orders_log, publication: orders_changes}
    from: {connection: source, table: orders}
    to: {connection: target, table: orders}
    write: {mode: merge}
  lines:
    strategy: {type: cdc, slot: lines_log, publication: orders_changes, until: caught_up}
    from: {connection: source, table: lines}
    to: {connection: target, table: lines}
    write: {mode: merge, key: auto, deletes: ignore, resident: replace}
"#;

#[test]
fn a_step_that_follows_a_log_is_refused_what_no_log_tells() {
    assert!(parse(FOLLOWED, &none()).is_ok());
    let from = "from: {connection: source, table: orders}";
    for (was, is, problem) in [
        (
            "{mode: merge}",
            "{mode: append}",
            "spec::not_supported_yet steps.orders.write.mode",
        ),
        (
            "{mode: merge}",
            "{mode: replace_partition}",
            "spec::conflict steps.orders.write.mode",
        ),
        (
            "{mode: merge}",
            "{mode: merge, cursor: at}",
            "spec::unknown_key steps.orders.write.cursor",
        ),
        (
            "{mode: merge}",
            "{key: [id]}",
            "spec::missing_key steps.orders.write",
        ),
        (
            "deletes: ignore",
            "deletes: ignore, deleted_at: gone_at",
            "spec::conflict steps.lines.write.deleted_at",
        ),
        (
            "slot: lines_log",
            "slot: orders_log",
            "spec::conflict steps.lines.strategy.slot",
        ),
        (
            "slot: lines_log",
            "slot: Lines",
            "spec::bad_value steps.lines.strategy.slot",
        ),
        (
            from,
            "from: {connection: source, query: select 1}",
            "spec::conflict steps.orders.from.query",
        ),
        (
            from,
            "from: {connection: source, table: orders, rows: visible}",
            "spec::conflict steps.orders.from.rows",
        ),
        (
            from,
            "from: {connection: source, table: orders, columns: {at: {cast: date}}}",
            "spec::conflict steps.orders.from.columns.at.cast",
        ),
        (
            "source: {type: postgres, url: \"${env:SOURCE_URL}\"}",
            "source: {type: sqlite, path: shop.db}",
            "spec::not_supported_yet steps.orders.from.connection",
        ),
        (
            "type: cdc, slot: orders_log, publication: orders_changes",
            "type: full_refresh",
            "",
        ),
    ] {
        assert!(FOLLOWED.contains(was), "{was}");
        let found = match parse(&FOLLOWED.replacen(was, is, 1), &none()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        let found = found
            .into_iter()
            .map(|problem| format!("{} {}", problem.code, problem.path));
        let found: Vec<String> = found.collect();
        match problem {
            "" => assert_eq!(found, ["spec::unknown_key steps.orders.write.mode"]),
            problem => assert!(found.iter().any(|of| of == problem), "{is}: {found:?}"),
        }
    }
}

#[test]
fn what_is_not_built_yet_is_refused_and_never_ignored() {
    for (from, to, path) in [
        (
            "name: flights\n",
            "name: flights\nthrottle: {}\n",
            "throttle",
        ),
        (
            "type: sqlite, path: flights.db",
            "type: mariadb",
            "connections.source.type",
        ),
    ] {
        let problems = bad(&FLIGHTS.replace(from, to));
        let found = problems
            .iter()
            .find(|problem| problem.code == "spec::not_supported_yet");
        let found = found.unwrap_or_else(|| panic!("{to}: {}", report(&problems)));
        assert_eq!(found.path, path);
        assert!(found.hint.is_some());
    }
}

#[test]
fn what_a_source_that_places_rows_cannot_do_is_refused() {
    let cut = "by: hash, columns: [carrier, flight], parts: 8";
    let by = |from: &str, to: &str| {
        let text = FLIGHTS.replace(
            "by: calendar, column: time_hour, grain: day, tz: America/New_York",
            cut,
        );
        bad(&text.replace(from, to))
            .iter()
            .map(|problem| format!("{} {}", problem.code, problem.path))
            .collect::<Vec<_>>()
    };
    let mode = "spec::conflict steps.flights.write.mode".to_owned();
    let bounds = ["start", "end"].map(|key| format!("spec::conflict steps.flights.strategy.{key}"));
    let found = by("", "");
    for expected in bounds.iter().chain([&mode]) {
        assert!(found.contains(expected), "{found:?}");
    }
    let found = by(cut, "by: keyset, max_rows: 5");
    for expected in bounds.iter().chain([&mode]) {
        assert!(found.contains(expected), "{found:?}");
    }
    let found = by("columns: [carrier, flight], ", "");
    assert!(
        found.contains(&"spec::missing_key steps.flights.partition.columns".to_owned()),
        "{found:?}"
    );
    let found = by("parts: 8", "parts: 1001");
    assert!(
        found.contains(&"spec::out_of_range steps.flights.partition.parts".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_pool_that_is_not_declared_is_named_with_what_was_meant() {
    let pooled = FLIGHTS
        .replace(
            "name: flights\n",
            "name: flights\npools: {legacy_reads: {tasks: 12}, idle: {tasks: 1}}\n",
        )
        .replace(
            "    partition:",
            "    pools: [legacy_reads]\n    partition:",
        );
    // GIVEN two pools, one of which no step names; THEN that is no problem
    let spec = good(&pooled);
    assert_eq!(
        spec.pools
            .values()
            .map(|pool| pool.tasks)
            .collect::<Vec<_>>(),
        [1, 12]
    );
    assert_eq!(
        spec.steps.values().next().expect("one step").pools[0].as_str(),
        "legacy_reads"
    );
    // WHEN a step names another one, THEN its place is told, and what was meant
    let only = |from: &str, to: &str| {
        let problems = bad(&pooled.replace(from, to));
        assert_eq!(problems.len(), 1, "{}", report(&problems));
        problems.into_iter().next().expect("one")
    };
    let problem = only("[legacy_reads]", "[legacy_reads, legacy_read]");
    assert_eq!(
        (problem.code.as_str(), problem.path.as_str()),
        ("spec::unknown_pool", "steps.flights.pools[1]")
    );
    assert_eq!(
        problem.hint.as_deref(),
        Some("did you mean `legacy_reads`?")
    );
    assert_eq!(
        only("[legacy_reads]", "[idle, idle]").code,
        "spec::repeated"
    );
    assert_eq!(only("{tasks: 12}", "{tasks: 0}").code, "spec::out_of_range");
    assert_eq!(only("{tasks: 12}", "{}").code, "spec::missing_key");
    // and a pipeline without pools keeps the digest that it had before there were any
    assert!(!String::from_utf8_lossy(&good(FLIGHTS).canonical_json()).contains("pools"));
}

#[test]
fn spec_refuses_literal_password() {
    for url in [
        "postgres://u:hunter2@h/x",
        "postgresql://u:hun%74er2@h:5432/x",
        "postgres://h/x?password=hunter2",
        "postgres://h/x?sslmode=require&Password=hunter2",
        "postgres://u:hunter2/@h/x",
        "postgres://u:hunter2${env:X}@h/x",
        "host=h user=u password=hunter2",
    ] {
        let text = FLIGHTS.replace("${env:TARGET_URL}", url);
        let problems = bad(&text);
        assert_eq!(problems.len(), 1, "{url}");
        assert_eq!(
            (problems[0].code.as_str(), problems[0].path.as_str()),
            ("spec::literal_password", "connections.target.url")
        );
        assert!(problems[0].is_secret());
        assert!(!format!("{problems:?}").contains("hunter2"), "{url}");
        // and the file can be shown beside the problem without it
        let shown = masked(&text, &problems);
        assert_eq!(shown.len(), text.len());
        assert!(!shown.contains("hun"), "{shown}");
    }
    // also where no URL belongs, and where a parameter brings it in
    let text = FLIGHTS.replace(
        "max_connections: 8",
        "max_connections: \"postgres://u:hunter2@h\"",
    );
    assert!(!report(&bad(&text)).contains("hunter2"));
    let text = FLIGHTS.replace("max_connections: 8", "\"postgres://u:hunter2@h\": 8");
    assert!(!report(&bad(&text)).contains("hunter2"));
    let text = FLIGHTS
        .replace("${env:TARGET_URL}", "postgres://u:${param:pw}@h")
        .replace("params: {", "params: {pw: {type: text, default: hunter2}, ");
    assert!(!format!("{:?}", bad(&text)).contains("hunter2"));
}

#[test]
fn references_stand_only_where_secrets_do() {
    assert_eq!(
        only("path: flights.db", "path: \"${env:X}\"").code,
        "spec::misplaced_secret"
    );
    assert_eq!(
        only("table: flights}", "table: \"${file:/x}\"}").code,
        "spec::misplaced_secret"
    );
    assert_eq!(
        only("table: flights}", "table: \"${flights}\"}").code,
        "spec::bad_reference"
    );
    assert_eq!(
        only("${env:TARGET_URL}", "${env:}").code,
        "spec::bad_reference"
    );
    assert_eq!(
        only("${env:TARGET_URL}", "${TARGET_URL}").code,
        "spec::bad_reference"
    );
    assert_eq!(
        only("${env:TARGET_URL}", "${env:TARGET_URL").code,
        "spec::bad_reference"
    );
    assert_eq!(
        only("name: flights\n", "name: \"${param:since}\"\n").code,
        "spec::bad_reference"
    );
}

#[test]
fn parameters_are_checked_against_their_types() {
    let with = |params: &[(&str, &str)], text: &str| {
        parse(
            text,
            &params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    };
    let code = |params: &[(&str, &str)], text: &str| {
        let problems = with(params, text).expect_err("a problem");
        assert_eq!(problems.len(), 1, "{}", report(&problems));
        problems[0].code
    };
    let spec = with(&[("since", "2013-01-15")], FLIGHTS).expect("legal");
    assert_eq!(
        backfill_of(&spec, "flights").start,
        Some(Bound("2013-01-15".to_owned()))
    );
    assert_eq!(code(&[("since", "soon")], FLIGHTS), "spec::bad_param");
    assert_eq!(
        code(&[("sinse", "2013-01-15")], FLIGHTS),
        "spec::unknown_param"
    );
    assert_eq!(
        code(
            &[("since", "2013-01-15")],
            &FLIGHTS.replace("\"${param:since}\"", "2013-01-01")
        ),
        "spec::unused_param"
    );
    assert_eq!(
        code(&[], &FLIGHTS.replace(", default: 2013-01-01", "")),
        "spec::missing_param"
    );
    assert_eq!(
        code(&[], &FLIGHTS.replace("${param:since}", "${param:until}")),
        "spec::unknown_param"
    );
    assert_eq!(
        code(&[], &FLIGHTS.replace("default: 2013-01-01", "default: 7")),
        "spec::bad_param"
    );
    // a whole number stays one, and fits where one belongs
    let text = FLIGHTS.replace("params: {", "params: {n: {type: integer, default: 3}, ");
    let spec = good(&text.replace("max_connections: 8", "max_connections: \"${param:n}\""));
    let target = &spec.connections[&"target".parse().expect("a legal name")];
    assert!(matches!(
        target,
        Connection::Postgres {
            max_connections: Some(3),
            ..
        }
    ));
    let spec = good(&text.replace("table: flights}", "table: \"flights_${param:n}\"}"));
    assert_eq!(
        backfill_of(&spec, "flights").to.table.to_string(),
        "analytics.flights_3"
    );
}

#[test]
fn numbers_where_text_belongs_ask_for_quotes() {
    let problem = only("path: flights.db", "path: 0052");
    assert_eq!(
        (problem.code.as_str(), problem.hint.as_deref()),
        ("spec::quote_it", Some("quote it: \"0052\""))
    );
    assert_eq!(only("key: [time_hour", "key: [7").code, "spec::quote_it");
    assert_eq!(
        only("read_only: true", "read_only: yes").code,
        "spec::wrong_type"
    );
    let quoted = only("max_connections: 8", "max_connections: \"8\"");
    assert_eq!(
        quoted.hint.as_deref(),
        Some("write the number without quotes")
    );
}

#[test]
fn the_key_auto_is_the_sources_in_spite_of_defaults() {
    let text = "version: 1\nname: p\nconnections: {a: {type: postgres, url: \"postgres://u:${env:P}@h/d\"}}\n\
                defaults: {write: {mode: merge, key: [b]}}\nsteps:\n  t:\n    strategy: backfill\n    from: \
                {connection: a, table: t}\n    to: {connection: a, table: u}\n    partition: {by: \
                integer, column: n}\n    write: {key: KEY}\n";
    let key = |key: &str| {
        let spec = good(&text.replace("KEY", key));
        backfill_of(&spec, "t").write.key.clone()
    };
    assert_eq!(key("[c, d]"), ["c", "d"]);
    assert_eq!(key("auto"), Vec::<String>::new());
    assert!(report(&bad(&text.replace("KEY", "source"))).contains("a list"));
}

#[test]
fn a_swap_adds_no_columns() {
    // GIVEN `defaults` that let columns be added WHEN a swap is among the steps THEN that says
    // nothing of it
    let step = "steps:\n  t:\n    strategy: swap\n    from: {connection: a, table: t}\n    to: \
                {connection: a, table: u}\n";
    let head = "version: 1\nname: p\nconnections: {a: {type: postgres, url: \"postgres://u:${env:P}@h/d\"}}\n";
    let laid = "defaults: {write: {on_schema_change: add_columns}}\n";
    good(&format!("{head}{laid}{step}"));
    // WHEN the swap says so itself THEN it is refused
    let own = format!("{head}{step}    write: {{on_schema_change: add_columns}}\n");
    let told = report(&bad(&own));
    assert!(told.contains("made like the target's"), "{told}");
    // AND a refresh may
    good(&own.replace("swap", "full_refresh"));
}

#[test]
fn spec_digest_ignores_comments_and_order() {
    let spec = good(FLIGHTS);
    // GIVEN the same pipeline in another hand
    let other = r#"
steps:
  flights:
    write: {key: [time_hour, carrier, flight], mode: replace_partition, resident: fail}   # a comment
    partition:
      tz: america/new_york
      grain: day
      column: time_hour
      by: calendar
    to: {table: '"analytics".flights', connection: target}
    from: {table: flights, connection: source}
    strategy: {end: "2013-02-01", start: 2013-01-01, type: backfill}
    retries: {max: 300s}
connections:
  target: {type: postgres, max_connections: 0x8, url: "${env:TARGET_URL}"}
  source: {read_only: true, type: sqlite, path: flights.db}
name: flights
version: 1
"#;
    assert_eq!(good(other).digest(), spec.digest());
    // THEN only what it means changes the digest
    assert_ne!(
        good(&FLIGHTS.replace("grain: day", "grain: week")).digest(),
        spec.digest()
    );
    let canonical = String::from_utf8(spec.canonical_json()).expect("UTF-8");
    assert!(canonical.starts_with(
        r#"{"connections":{"source":{"path":"flights.db","read_only":true,"type":"sqlite"}"#
    ));
    insta::assert_snapshot!(canonical);
}

#[test]
fn canonical_json_is_read_back_and_checked_again() {
    for text in [FLIGHTS, FULL] {
        let spec = good(text);
        assert_eq!(from_canonical(&spec.canonical_json()), Ok(spec.clone()));
        // and a file that says the same, with nothing left to defaults, is the same pipeline
        assert_eq!(parse(&spec.to_document().to_string(), &none()), Ok(spec));
    }
    let code = |change: &dyn Fn(&mut Json)| {
        let mut json: Json = serde_json::from_slice(&good(FLIGHTS).canonical_json()).expect("JSON");
        change(&mut json);
        from_canonical(json.to_string().as_bytes()).expect_err("refused")[0].code
    };
    assert_eq!(
        code(&|json| json["version"] = json!(2)),
        "spec::out_of_range"
    );
    assert_eq!(
        code(&|json| json["steps"]["flights"]["to"]["connection"] = json!("source")),
        "spec::not_canonical"
    );
    assert_eq!(
        code(&|json| json["steps"]["flights"]["strategy"]["to"]["connection"] = json!("source")),
        "spec::read_only"
    );
    assert_eq!(
        code(&|json| json["steps"]["flights"]["strategy"]["from"]["casts"] = json!({"a": ";"})),
        "spec::bad_value"
    );
    assert_eq!(
        code(&|json| json["connections"]["target"]["url"] = json!("postgres://u:p@h")),
        "spec::literal_password"
    );
    assert_eq!(code(&|json| json["more"] = json!(1)), "spec::not_canonical");
    assert_eq!(code(&|json| json["steps"] = json!({})), "spec::wrong_count");
    assert_eq!(
        from_canonical(b"{").expect_err("refused")[0].code,
        "spec::not_canonical"
    );
    assert_eq!(
        from_canonical(b" {}").expect_err("refused")[0].code,
        "spec::not_canonical"
    );
}

#[test]
fn a_refresh_has_no_write_mode_of_its_own() {
    let file = |defaults: &str, write: &str| {
        format!(
            "version: 1\nname: x\nconnections:\n  a: {{type: sqlite, path: a.db}}\n  b: {{type: \
             sqlite, path: b.db}}\n{defaults}steps:\n  rates:\n    strategy: full_refresh\n    from: \
             {{connection: a, table: rates}}\n    to: {{connection: b, table: rates}}\n{write}"
        )
    };
    // GIVEN defaults that mean other steps THEN they mean nothing here
    let laid = "defaults:\n  write: {mode: append, resident: replace}\n";
    let spec = good(&file(laid, "    write: {key: [id]}\n"));
    let Strategy::FullRefresh(refresh) = &spec.steps[&"rates".parse().expect("legal")].strategy
    else {
        panic!("it is a refresh")
    };
    assert_eq!(refresh.write.mode, WriteMode::ReplaceTable);
    assert_eq!(refresh.write.key, ["id"]);
    assert_eq!(refresh.shrinking, Shrinking::default());
    // AND what the step itself says is refused
    for key in ["mode: append", "cursor: at", "resident: fail"] {
        let problems = bad(&file("", &format!("    write: {{{key}}}\n")));
        assert_eq!(problems.len(), 1, "{}", report(&problems));
        assert_eq!(problems[0].code, ErrorCode::SpecUnknownKey);
        let place = key.split(':').next().expect("a key");
        assert_eq!(problems[0].path, format!("steps.rates.write.{place}"));
    }
    // AND a backfill still needs both
    let backfill = file("", "").replace(
        "strategy: full_refresh",
        "strategy: backfill\n    partition: {by: integer, column: id, width: 5}",
    );
    for (write, missing) in [("", "`write`"), ("    write: {key: [id]}\n", "`mode`")] {
        let problems = bad(&format!("{backfill}{write}"));
        assert_eq!(problems.len(), 1, "{}", report(&problems));
        assert_eq!(problems[0].code, ErrorCode::SpecMissingKey);
        assert!(problems[0].message.contains(missing), "{}", problems[0]);
    }
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let step = |on: &str| format!("{{strategy: {{type: noop, tasks: 1}}, depends_on: {on}}}");
    let text = |a: &str, b: &str, c: &str| {
        format!(
            "version: 1\nname: x\nsteps:\n  a: {}\n  b: {}\n  c: {}\n",
            step(a),
            step(b),
            step(c)
        )
    };
    let problems = bad(&text("[b]", "[{step: a, when: done}]", "[a]"));
    assert_eq!(problems.len(), 1, "{}", report(&problems));
    assert_eq!(
        (problems[0].code.as_str(), problems[0].line),
        ("spec::cycle", 4)
    );
    assert_eq!(problems[0].message, "steps wait for each other: a → b → a");
    assert_eq!(
        bad(&text("[a]", "[]", "[]"))[0].message,
        "steps wait for each other: a → a"
    );
    let unknown = bad(&text("[]", "[aa]", "[a, a]"));
    assert_eq!(
        unknown
            .iter()
            .map(|problem| problem.code)
            .collect::<Vec<_>>(),
        ["spec::unknown_step", "spec::repeated"]
    );
    assert_eq!(unknown[0].hint.as_deref(), Some("did you mean `a`?"));
    assert_eq!(
        good(&text("[c, b]", "[]", "[]")).digest(),
        good(&text("[b, c]", "[]", "[]")).digest()
    );
}

#[test]
fn steps_that_would_overwrite_each_other_are_refused() {
    let code = |from: &str, to: &str| only(from, to).code;
    // a second step on the same table, also through another connection to the same database, and
    // under its full name
    let other = FLIGHTS[FLIGHTS.find("    strategy").expect("there")..]
        .replace("\"analytics.{source.table}\"", "analytics.flights");
    let second = bad(&format!("{FLIGHTS}  more:\n{other}"));
    assert_eq!(
        (
            second.len(),
            second[0].code.as_str(),
            second[0].path.as_str()
        ),
        (1, "spec::two_writers", "steps.more.to.table")
    );
    let text = FLIGHTS.replace(
        "  target:",
        "  again: {type: postgres, url: \"${env:TARGET_URL}\"}\n  target:",
    );
    let second = bad(&format!(
        "{text}  more:\n{}",
        other.replace("connection: target", "connection: again")
    ));
    assert_eq!(second[0].code, "spec::two_writers");
    // reading and writing one table
    let same = FLIGHTS.replace(
        "from: {connection: source, table: flights",
        "from: {connection: target, table: \
            analytics.flights",
    );
    assert_eq!(bad(&same)[0].code, "spec::same_table");
    assert_eq!(
        code("to: {connection: target", "to: {connection: source"),
        "spec::read_only"
    );
    let ours = bad(&FLIGHTS.replace("table: flights}", "table: _highwater_task}"));
    assert_eq!(
        ours.iter().map(|problem| problem.code).collect::<Vec<_>>(),
        ["spec::reserved_table"; 2]
    );
    assert_eq!(
        code("analytics.{source.table}", "highwater.{source.table}"),
        "spec::reserved_table"
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let code = |from: &str, to: &str| only(from, to).code;
    assert_eq!(
        code("end: 2013-02-01", "end: 2013-01-01"),
        "spec::empty_range"
    );
    assert_eq!(code("end: 2013-02-01", "end: 42"), "spec::conflict");
    assert_eq!(
        code("mode: replace_partition", "resident: replace, mode: append"),
        "spec::conflict"
    );
    assert_eq!(
        code("key: [time_hour, carrier", "key: [carrier, carrier"),
        "spec::repeated"
    );
    assert_eq!(
        code(
            "table: flights}",
            "table: flights, columns: {carrier: {exclude: true}}}"
        ),
        "spec::conflict"
    );
    assert_eq!(
        code("    write:", "    retries: {initial: 10m}\n    write:"),
        "spec::conflict"
    );
    assert_eq!(
        code("    write:", "    limits: {attempt: 0s}\n    write:"),
        "spec::out_of_range"
    );
    assert_eq!(
        code("    write:", "    limits: {stall: 0s}\n    write:"),
        "spec::out_of_range"
    );
    assert_eq!(
        code("mode: replace_partition", "resident: replace, mode: merge"),
        "spec::conflict"
    );
    assert_eq!(
        code(
            "mode: replace_partition",
            "cursor: sched_dep_time, mode: replace_partition"
        ),
        "spec::conflict"
    );
    let append = FLIGHTS
        .replace("mode: replace_partition", "mode: append")
        .replace("end: 2013-02-01", "reprocess: all");
    assert_eq!(bad(&append)[0].code, "spec::conflict");
    assert_eq!(code("grain: day, ", ""), "spec::missing_key");
    // a target's name that asks for a schema which the source's does not have
    assert_eq!(
        code("analytics.{source.table}", "{source.schema}.x"),
        "spec::conflict"
    );
}

#[test]
fn every_word_of_the_schema_is_a_word_of_the_model() {
    // GIVEN each word that the table calls legal; WHEN it replaces another; THEN the file is read
    // or contradicts itself
    for (from, words) in [
        (
            "grain: day",
            vec!["grain: hour", "grain: week", "grain: month", "grain: year"],
        ),
        (
            "grain: day",
            vec![
                "grain: day, nulls: partition",
                "grain: day, nulls: ignore",
                "grain: day, nulls: fail",
            ],
        ),
        (
            "end: 2013-02-01",
            vec![
                "reprocess: missing",
                "reprocess: all",
                "order: oldest",
                "order: newest",
            ],
        ),
        (
            "mode: replace_partition",
            vec![
                "mode: append, triggers: fire",
                "mode: append, triggers: skip",
                "mode: replace_partition, resident: replace",
            ],
        ),
        (
            "table: flights}",
            vec![
                "table: flights, rows: all}",
                "table: flights, rows: visible}",
            ],
        ),
        ("    write:", vec!["    depends_on: []\n    write:"]),
    ] {
        for word in words {
            good(&FLIGHTS.replace(from, word));
        }
    }
}

#[test]
fn the_schema_is_a_snapshot() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&json_schema()).expect("JSON"));
}

#[test]
fn a_merge_without_a_cursor_runs_one_task_at_a_time() {
    let merge = FLIGHTS.replace("mode: replace_partition", "mode: merge");
    let tasks = |text: &str| {
        let spec = good(text);
        spec.steps.values().next().expect("a step").limits.tasks
    };
    // GIVEN a merge without a column that tells which row is newer THEN its tasks take turns
    assert_eq!(tasks(&merge), Some(1));
    let limited = |text: &str| text.replace("    write:", "    limits: {tasks: 2}\n    write:");
    let problem = &bad(&limited(&merge))[0];
    assert_eq!(
        (problem.code.as_str(), problem.path.as_str()),
        ("spec::conflict", "steps.flights.limits.tasks")
    );
    // AND with one they run beside each other
    let merge = merge.replace("mode: merge", "mode: merge, cursor: time_hour");
    assert_eq!(tasks(&merge), None);
    assert_eq!(tasks(&limited(&merge)), Some(2));
}

#[test]
fn a_check_asks_one_thing_and_something() {
    // GIVEN a step with checks THEN they are read in their order
    let with = |checks: &str| {
        let rates = "    write: {triggers: skip}\n";
        let (before, rest) = FULL.split_once(rates).expect("a refresh");
        let (_, rest) = rest.split_once('\n').expect("its checks");
        format!("{before}    checks: {checks}\n{rest}")
    };
    let rates: StepName = "rates".parse().expect("legal");
    let spec = good(&with(
        "[{min_rows: 30}, {unique: [b, a]}, {row_count: {tolerance: 0}}]",
    ));
    let unique = Check::Unique(vec!["b".to_owned(), "a".to_owned()]);
    let read = [Check::MinRows(30), unique, Check::RowCount { tolerance: 0 }];
    assert_eq!(spec.steps[&rates].checks, read);
    assert_eq!(good(&with("[]")).steps[&rates].checks, []);
    // AND what is none is refused where it stands
    for (checks, at, code) in [
        ("{min_rows: 30}", "", ErrorCode::SpecWrongType),
        ("[min_rows]", "[0]", ErrorCode::SpecWrongType),
        ("[{}]", "[0]", ErrorCode::SpecMissingKey),
        ("[{min_rows: 0}]", "[0].min_rows", ErrorCode::SpecOutOfRange),
        ("[{max_rows: 1}]", "[0].max_rows", ErrorCode::SpecUnknownKey),
        (
            "[{min_rows: 1, unique: [a]}]",
            "[0]",
            ErrorCode::SpecConflict,
        ),
        (
            "[{row_count: {}}]",
            "[0].row_count",
            ErrorCode::SpecMissingKey,
        ),
        (
            "[{not_null: []}]",
            "[0].not_null",
            ErrorCode::SpecWrongCount,
        ),
        ("[{unique: [a, a]}]", "[0].unique", ErrorCode::SpecRepeated),
        ("[{sql: select true}]", "[0].sql", ErrorCode::SpecCheckSql),
        ("[{sql: \";\"}]", "[0].sql", ErrorCode::SpecCheckSql),
        (
            "[{sql: \"select true from {table}; drop table x\"}]",
            "[0].sql",
            ErrorCode::SpecCheckSql,
        ),
    ] {
        let problems = bad(&with(checks));
        assert_eq!(problems.len(), 1, "{checks}: {}", report(&problems));
        assert_eq!(problems[0].code, code, "{checks}: {}", problems[0]);
        assert_eq!(problems[0].path, format!("steps.rates.checks{at}"));
    }
}
