//! What is recommended for real tables, and that it runs.

use serde_json::Value;

use crate::site::{Engine, Side, Site, assert_exit, assert_says};

/// Tables that one row each of the matrix is for, in a database of a server.
const SHOP: &str = "\
create table rates (code text primary key, rate numeric not null);
insert into rates select 'c' || i, i / 7.0 from generate_series(1, 180) i;
create table clicks (at timestamptz not null, who text);
insert into clicks select timestamptz '2024-01-01 00:00Z' + i * interval '1 s', 'u' || i % 99
  from generate_series(1, 100000) i;
create table orders (id bigint primary key, made_at timestamptz not null default now(),
  updated_at timestamptz not null default now(), note text);
create function touch() returns trigger language plpgsql as
  'begin new.updated_at := now(); return new; end';
create trigger touch before update on orders for each row execute function touch();
insert into orders select i, timestamptz '2024-01-01 00:00Z' + i * interval '1 s',
  timestamptz '2024-01-01 00:00Z' + i * interval '1 s', 'n' || i % 7
  from generate_series(1, 100000) i;
create index on orders (updated_at);
create table \"Odd Name\" (\"on\" int primary key, \"a b\" text);
insert into \"Odd Name\" values (1, 'x');
analyze";

/// So many rows that their history is loaded apart from what comes later.
const HISTORY: &str = "\
create table history (id bigint primary key, updated_at timestamptz not null default now());
create trigger touch before update on history for each row execute function touch();
insert into history select i, now() - interval '1 h' - i * interval '0.5 s'
  from generate_series(1, 1000000) i;
create index on history (updated_at);
analyze";

async fn shop() -> Site {
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, SHOP).await;
    site
}

fn first_ways(json: &str) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(json).unwrap();
    assert_eq!(document["schema"], "advice/v1");
    let tables = document["tables"].as_array().unwrap();
    let first = |table: &Value| {
        let name = table["table"]["name"].as_str().unwrap().to_owned();
        (
            name,
            table["ranked"][0]["name"].as_str().unwrap().to_owned(),
        )
    };
    tables.iter().map(first).collect()
}

async fn assert_equal(site: &Site, tables: &[&str]) {
    for table in tables {
        let query = format!("select * from {table} order by 1, 2");
        let (source, target) = site.digests_of(&query, &query).await;
        assert!(source.rows > 0);
        assert_eq!(source, target, "{table}");
    }
}

#[tokio::test]
async fn what_advise_writes_runs() {
    // GIVEN a database with a table for each way
    let site = shop().await;
    site.execute(Side::Source, HISTORY).await;
    let told = site
        .finish(&["advise", "${env:SOURCE_URL}", "-o", "json"])
        .await;
    assert_exit(&told, 0);
    let expected = [
        ("Odd Name", "full_refresh"),
        ("clicks", "full_refresh nightly"),
        ("history", "backfill + incremental"),
        ("orders", "incremental"),
        ("rates", "full_refresh"),
    ];
    let expected = expected.map(|(table, way)| (table.to_owned(), way.to_owned()));
    assert_eq!(first_ways(&told.stdout), expected);
    // WHEN what comes first is written
    let wrote = ["advise", "${env:SOURCE_URL}", "--write", "advised.yaml"];
    assert_exit(&site.finish(&wrote).await, 0);
    // THEN it is a legal pipeline, it runs, and the target is the source's copy
    assert_exit(&site.finish(&["validate", "advised.yaml"]).await, 0);
    assert_exit(&site.finish(&["run", "advised.yaml"]).await, 0);
    let tables = ["\"Odd Name\"", "clicks", "history", "orders", "rates"];
    assert_equal(&site, &tables).await;
}

#[tokio::test]
async fn what_advise_writes_of_files_runs() {
    // GIVEN a pipeline between two files
    let site = Site::empty(Engine::Sqlite).await;
    let fill = "\
create table rates (code text not null primary key, rate real);
insert into rates values ('a', 1.5), ('b', 2.5);
create table orders (id integer primary key, updated_at text not null, note text);
with recursive n (i) as (select 1 union all select i + 1 from n where i < 100000)
insert into orders
  select i, strftime('%Y-%m-%dT%H:%M:%SZ', '2024-01-01', '+' || i || ' seconds'), 'n' || i from n;
create index orders_at on orders (updated_at);
create trigger touch after update on orders begin
  update orders set updated_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') where id = new.id; end;";
    site.execute(Side::Source, fill).await;
    let step = |table: &str| {
        format!(
            "  {table}:\n    strategy: full_refresh\n    from: {{connection: source, table: \
             {table}}}\n    to: {{connection: target, table: {table}}}\n"
        )
    };
    site.write_pipeline(&format!("steps:\n{}{}", step("rates"), step("orders")));
    let told = site
        .finish(&["advise", "pipeline.yaml", "-o", "json"])
        .await;
    assert_exit(&told, 0);
    let expected = [("orders", "incremental"), ("rates", "full_refresh")];
    let expected = expected.map(|(table, way)| (table.to_owned(), way.to_owned()));
    assert_eq!(first_ways(&told.stdout), expected);
    assert!(!site.path("target.db").exists(), "nothing is made");
    // WHEN what comes first is written into another folder
    std::fs::create_dir(site.path("sub")).unwrap();
    let wrote = ["advise", "pipeline.yaml", "--write", "sub/advised.yaml"];
    assert_exit(&site.finish(&wrote).await, 0);
    // THEN it runs from there
    assert_exit(&site.finish(&["run", "sub/advised.yaml"]).await, 0);
    assert_equal(&site, &["rates", "orders"]).await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_and_not_failed_on() {
    // GIVEN a role that may read one of the tables, and sees nobody else's transactions
    let mut site = shop().await;
    let grants = "create role reader login; grant select on orders to reader";
    site.execute(Side::Source, grants).await;
    let url = format!(
        "postgres://reader@127.0.0.1:{}/source",
        site.server().port()
    );
    site.point("SOURCE_URL", url);
    // WHEN it asks
    let told = site.finish(&["advise", "${env:SOURCE_URL}"]).await;
    // THEN it is told what it may see, and what to grant for more
    assert_exit(&told, 0);
    assert_says(&told.stdout, "public.orders  100,000 rows");
    assert_says(&told.stdout, "grant pg_read_all_stats to reader");
    assert_says(&told.stdout, "alter role reader replication");
    assert!(!told.stdout.contains("public.rates"), "{}", told.stdout);
    assert_says(&told.stderr, "public.rates was not looked at");
}

#[tokio::test]
async fn the_target_of_a_file_is_looked_at_and_nothing_is_changed() {
    // GIVEN a target's table that a materialized view reads
    let mut site = shop().await;
    let target = "create table rates (code text primary key, rate numeric not null);
                  create materialized view totals as select sum(rate) as rate from rates";
    site.execute(Side::Target, target).await;
    site.write_pipeline(
        "steps:\n  rates:\n    strategy: full_refresh\n    from: {connection: source, table: \
         rates}\n    to: {connection: target, table: rates}\n",
    );
    // WHEN it is read all day
    let told = site
        .finish(&["advise", "pipeline.yaml", "--critical"])
        .await;
    // THEN the view is named, and the way that leaves it where it is
    assert_exit(&told, 0);
    assert_says(&told.stdout, "1  swap, in place");
    assert_says(&told.stdout, "materialized view");
    assert!(!site.has_ledger().await);
    assert!(!site.path(".highwater").exists());
    // AND a target that cannot be reached is no reason to say nothing
    site.point(
        "TARGET_URL",
        "postgres://postgres@127.0.0.1:1/target".to_owned(),
    );
    let told = site
        .finish(&["advise", "pipeline.yaml", "--critical"])
        .await;
    assert_exit(&told, 0);
    assert_says(&told.stdout, "the target's table was not looked at");
}

#[tokio::test]
async fn init_writes_every_table_of_a_schema() {
    // GIVEN a database with tables in two schemas
    let site = Site::empty(Engine::Postgres).await;
    let fill = "create schema fx;
                create table fx.rates (code text primary key, rate numeric not null);
                insert into fx.rates values ('EUR', 1), ('USD', 1.1);
                create table other (id bigint primary key)";
    site.execute(Side::Source, fill).await;
    site.execute(Side::Target, "create schema fx").await;
    // WHEN a file is begun from one of them
    let init = [
        "init",
        "fx.yaml",
        "--from",
        "${env:SOURCE_URL}",
        "--schema",
        "fx",
    ];
    let told = site.finish(&init).await;
    // THEN it is a pipeline of that, which runs
    assert_exit(&told, 0);
    let text = std::fs::read_to_string(site.path("fx.yaml")).unwrap();
    assert_says(&text, "name: fx\n");
    assert!(!text.contains("other"), "{text}");
    assert_exit(&site.finish(&["run", "fx.yaml"]).await, 0);
    assert_equal(&site, &["fx.rates"]).await;
    // AND it is not written over, and a schema without a table is told
    assert_exit(&site.finish(&init).await, 6);
    let none = ["init", "--from", "${env:SOURCE_URL}", "--schema", "nope"];
    assert_exit(&site.finish(&none).await, 4);
}

#[tokio::test]
async fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let site = Site::empty(Engine::Sqlite).await;
    let told = site
        .finish(&["advise", "postgres://postgres:s3cret@127.0.0.1/shop"])
        .await;
    assert_exit(&told, 2);
    assert_says(&told.stderr, "${env:NAME}");
    assert!(!told.stderr.contains("s3cret"), "{}", told.stderr);
}

#[tokio::test]
async fn a_file_that_is_there_is_not_replaced_unasked() {
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(Side::Source, "create table a (id integer primary key)")
        .await;
    std::fs::write(site.path("mine.yaml"), "mine").unwrap();
    let wrote = ["advise", "sqlite:source.db", "--write", "mine.yaml"];
    assert_exit(&site.finish(&wrote).await, 6);
    let text = || std::fs::read_to_string(site.path("mine.yaml")).unwrap();
    assert_eq!(text(), "mine");
    let asked = [&wrote[..], &["-y"]].concat();
    assert_exit(&site.finish(&asked).await, 0);
    assert_says(&text(), "full_refresh");
}
