//! Tables that nobody has chosen a rule for, and rows that lie far apart.

use serde_json::Value;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit};

const ALL: &str = "version: 1
name: shop
connections: {source: {type: postgres, url: \"${env:SOURCE_URL}\"}, target: {type: postgres, url: \"${env:TARGET_URL}\"}}
defaults: {from: {connection: source}, to: {connection: target}, partition: {by: auto, max_rows: 100}, retries: {max_attempts: 3, initial: 10ms, max: 10ms}}
steps:
  all: {strategy: backfill, tables: \"public.*\", write: {mode: append}}
";

/// Tables by what they can be cut by: a number, a key, a hash of a key, nothing.
const TABLES: &str = "
    create table numbers (id bigint primary key, note text);
    insert into numbers select i * 7, 'n' || i from generate_series(1, 300) i;
    create table codes (code text primary key, n int);
    insert into codes select md5(i::text), i from generate_series(1, 300) i;
    create table pairs (a int not null, b uuid not null, n int, unique (a, b));
    insert into pairs select i % 3, gen_random_uuid(), i from generate_series(1, 300) i;
    create table floats (f float8 primary key);
    insert into floats select i / 7.0 from generate_series(1, 300) i;
    create table heap (n int, at timestamptz, note text);
    insert into heap select i % 5, null, 'the same' from generate_series(1, 300) i;
    insert into heap values (null, null, null), (null, null, null);
    create table papers (of json);
    insert into papers select json_build_object('i', i % 5) from generate_series(1, 300) i;
    create table empty (f float8);
    analyze";

const NAMES: [(&str, &str); 7] = [
    ("numbers", "integer"),
    ("codes", "placed"),
    ("pairs", "placed"),
    ("floats", "placed"),
    ("heap", "all"),
    ("papers", "all"),
    ("empty", "all"),
];

async fn table(site: &Site, side: Side, name: &str) -> Vec<String> {
    let mut rows = site.texts(side, "t::text", &format!("from {name} t")).await;
    rows.sort();
    rows
}

#[tokio::test]
async fn a_table_without_any_key_is_loaded_once() {
    // GIVEN tables of every kind, in a file that says of none what it is cut by
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, TABLES).await;
    std::fs::write(site.path("pipeline.yaml"), ALL).expect("written");
    // WHEN they are loaded, with a process that dies in between
    let strike = "attempt::after_commit=3*off->1*return(abort)";
    let died = site.start(strike).await.wait(LIMIT).await.unwrap();
    assert!(!died.success());
    assert_exit(&site.run().await, 0);
    // THEN each row is there as often as it was, by the rule that its table offers
    for (name, kind) in NAMES {
        let expected = table(&site, Side::Source, name).await;
        assert_eq!(table(&site, Side::Target, name).await, expected, "{name}");
        let ledger = format!(
            "from highwater.task where state = 'C' and step = 'all_{name}' and slice_kind <> 'null'"
        );
        let mut kinds = site
            .texts(Side::Target, "split_part(slice_kind, ':', 1)", &ledger)
            .await;
        kinds.dedup();
        assert_eq!(kinds, [kind], "{name}");
    }
    // AND another run has nothing to do, though the tables have grown beyond their parts
    let more =
        "insert into codes select md5(i::text) || 'x', i from generate_series(1, 300) i; analyze";
    site.execute(Side::Source, more).await;
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_eq!(site.status().await["rows"], Value::from(0));
}

#[tokio::test]
async fn a_table_of_a_file_is_cut_by_its_number_or_not_at_all() {
    // GIVEN tables of SQLite without a key, with a text for one, and with a number
    let site = Site::empty(Engine::Sqlite).await;
    let made = "
        create table heap (n, note text);
        insert into heap values (1, 'a'), (1, 'a'), (null, x'00'), ('one', null);
        create table codes (code text primary key, n int);
        insert into codes values ('b', 1), ('a', 2);
        create table numbers (id integer primary key, n int);
        insert into numbers values (5, 1), (900, 2);";
    site.execute(Side::Source, made).await;
    site.write_pipeline(
        "defaults: {from: {connection: source}, to: {connection: target}}\nsteps:\n  all: {strategy: \
         backfill, tables: \"*\", write: {mode: append}, partition: auto}\n",
    );
    // WHEN they are loaded, twice THEN each row is there as often as it was
    for moved in [8, 0] {
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_eq!(site.status().await["rows"], Value::from(moved));
    }
    for (name, row) in [
        ("heap", "quote(n) || quote(note)"),
        ("codes", "code || n"),
        ("numbers", "id || ' ' || n"),
    ] {
        let from = format!("from {name} order by 1");
        let expected = site.texts(Side::Source, row, &from).await;
        assert_eq!(
            site.texts(Side::Target, row, &from).await,
            expected,
            "{name}"
        );
    }
}

#[tokio::test]
async fn one_row_in_year_9999_costs_one_task() {
    // GIVEN a hundred days of rows, and one row in the last year that people write; and a table too
    // large to look at every row, whose numbers and times have a gap each
    let site = Site::empty(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create table days (id int, at date);
         insert into days select i, date '2024-01-01' + i % 100 from generate_series(0, 999) i;
         insert into days values (1000, '9999-12-31');
         create table many (id bigint primary key, at timestamptz not null);
         insert into many select i, timestamptz '2024-01-01' + i * interval '8 seconds' from generate_series(1, 1100000) i;
         insert into many values (9000000000000000000, '9999-12-31');
         create index on many (at); analyze",
    )
    .await;
    // WHEN they are cut by days, or by so many numbers THEN the gap costs nothing
    for (name, partition, tasks) in [
        ("days", "by: calendar, column: at, grain: day", 103),
        ("many", "by: calendar, column: at, grain: day", 106),
        ("many", "by: integer, column: id, width: 100000", 16),
    ] {
        site.write_pipeline(&format!(
            "steps:\n  {name}:\n    strategy: backfill\n    from: {{connection: source, table: {name}}}\n    \
             to: {{connection: target, table: {name}}}\n    partition: {{{partition}}}\n    write: {{mode: \
             append}}\n"
        ));
        let plan = site.finish(&["plan", "pipeline.yaml", "-o", "json"]).await;
        assert_exit(&plan, 0);
        let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
        let planned = plan["steps"][0]["tasks"].as_u64().unwrap_or_default();
        assert!(planned <= tasks, "{name} {partition}: {planned}: {plan}");
    }
}
