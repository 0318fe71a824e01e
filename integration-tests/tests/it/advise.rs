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

/// A schema as people have them: keys of a number, of text, of two columns, none; times; foreign
/// keys, also to itself and in a ring; a generated column, a partitioned table, odd names, a view.
const WHOLE: &str = "\
create schema shop; create schema other; create table other.left_alone (id int primary key);
set search_path = shop;
create type state as enum ('new', 'paid', 'gone');
create table countries (code text primary key, name text not null unique);
create table customers (id bigint generated always as identity primary key, country text references countries,
  mentor bigint references customers, email text not null unique check (email like '%@%'), favourite bigint);
create table orders (id bigint primary key, customer bigint not null references customers, state state not null,
  placed timestamp, updated_at timestamptz not null, amount numeric(12,2) not null,
  gross numeric generated always as (amount * 1.2) stored);
alter table customers add constraint favourite foreign key (favourite) references orders deferrable initially deferred;
create index on orders (updated_at);
create function touch() returns trigger language plpgsql as 'begin new.updated_at := now(); return new; end';
create trigger touch before update on orders for each row execute function touch();
create table lines (\"order\" bigint references orders on delete cascade, line int, note text, tags text[], more jsonb,
  primary key (\"order\", line));
create table clicks (at timestamptz not null, who uuid);
create table \"Day's log\" (id bigint, day date not null, primary key (id, day)) partition by range (day);
create table log_1 partition of \"Day's log\" for values from ('2024-01-01') to ('2024-02-01');
create table log_2 partition of \"Day's log\" for values from ('2024-02-01') to ('2024-03-01');
create table nobody (id uuid primary key, at timestamptz);
create view paid as select * from orders where state = 'paid';
insert into countries select 'c' || i, 'Country ' || i from generate_series(1, 200) i;
insert into customers (country, mentor, email) select 'c' || 1 + i % 200, nullif(i - 1, 0), i || '@x' from generate_series(1, 5000) i;
insert into orders select i, 1 + i % 5000, 'paid', timestamp '2024-01-01' + i * interval '1 s',
  timestamptz '2024-01-01 00:00Z' + i * interval '1 s', i / 7.0 from generate_series(1, 100000) i;
update customers set favourite = id where id % 3 = 0;
insert into lines select i, l, nullif('n' || i % 9, 'n3'), array['a', 'b ' || l], '{\"x\": 1}' from generate_series(1, 3000) i, generate_series(1, 2) l;
insert into clicks select timestamptz '2024-01-01 00:00Z' + i / 3 * interval '1 s', md5((i / 2)::text)::uuid from generate_series(1, 100000) i;
insert into \"Day's log\" select i, date '2024-01-01' + i % 59 from generate_series(1, 3000) i;
analyze";

const WHOLE_TABLES: [(&str, i64); 7] = [
    ("countries", 200),
    ("customers", 5_000),
    ("orders", 100_000),
    ("lines", 6_000),
    ("clicks", 100_000),
    ("\"Day's log\"", 3_000),
    ("nobody", 0),
];

#[tokio::test]
async fn what_init_writes_runs() {
    // GIVEN a schema as people have them, and an empty database
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, WHOLE).await;
    for schema in [Some("shop"), None] {
        // WHEN a file is begun, of the schema or of the whole database
        let file = if schema.is_some() {
            "one.yaml"
        } else {
            "all.yaml"
        };
        let mut init = vec!["init", file, "--from", "${env:SOURCE_URL}"];
        init.extend(schema.map(|of| ["--schema", of]).into_iter().flatten());
        let wrote = site.finish(&init).await;
        assert_exit(&wrote, 0);
        assert!(!wrote.stderr.contains("not looked at"), "{}", wrote.stderr);
        let text = std::fs::read_to_string(site.path(file)).unwrap();
        assert!(!text.contains("no way that this version"), "{text}");
        assert_eq!(text.contains("left_alone"), schema.is_none(), "{text}");
        // THEN it is legal, and runs from the first to the last row
        assert_exit(&site.finish(&["validate", file]).await, 0);
        assert_exit(&site.finish(&["run", file]).await, 0);
        // AND each row is there once, also after another run
        for _ in 0..2 {
            for (table, rows) in WHOLE_TABLES {
                let query = format!("select * from shop.{table} t order by t::text");
                let (source, target) = site.digests_of(&query, &query).await;
                assert_eq!(i64::try_from(target.rows).unwrap(), rows, "{table}");
                assert_eq!(source, target, "{table}");
            }
            assert_exit(&site.finish(&["run", file, "--new"]).await, 0);
        }
        site.execute(
            Side::Target,
            "drop schema shop cascade; drop schema highwater cascade",
        )
        .await;
    }
}

#[tokio::test]
async fn what_init_writes_of_a_file_runs() {
    // GIVEN a SQLite file as people have them, and an empty database
    let site = Site::empty(Engine::Postgres).await;
    let files = Site::empty(Engine::Sqlite).await;
    let fill = "\
create table countries (code text primary key not null, name text) without rowid;
create table customers (id integer primary key, country text references countries, email text unique);
create table orders (id integer primary key, customer integer not null references customers, placed_at text not null, amount real);
create table lines (\"order\" integer not null references orders, line integer not null, note text, primary key (\"order\", line)) strict;
create table \"Odd; clicks\" (at text, who blob);
create index orders_at on orders (placed_at);
insert into countries values ('de', 'D'), ('fr', null);
with recursive n (i) as (select 1 union all select i + 1 from n where i < 3000)
insert into customers select i, 'de', i || '@x' from n;
with recursive n (i) as (select 1 union all select i + 1 from n where i < 110000)
insert into orders select i, 1 + i % 3000, strftime('%Y-%m-%dT%H:%M:%SZ', '2024-01-01', '+' || i || ' seconds'), i / 8.0 from n;
insert into lines select id, 1, 'n' || id from orders where id <= 5000;
insert into \"Odd; clicks\" select placed_at, x'00ff' from orders where id <= 500;
insert into \"Odd; clicks\" select * from \"Odd; clicks\";";
    files.execute(Side::Source, fill).await;
    std::fs::copy(files.path("source.db"), site.path("shop.db")).unwrap();
    // WHEN a file is begun THEN it is legal, and runs
    let init = ["init", "shop.yaml", "--from", "sqlite:shop.db"];
    assert_exit(&site.finish(&init).await, 0);
    let text = std::fs::read_to_string(site.path("shop.yaml")).unwrap();
    assert!(!text.contains("no way that this version"), "{text}");
    assert_exit(&site.finish(&["validate", "shop.yaml"]).await, 0);
    assert_exit(&site.finish(&["run", "shop.yaml"]).await, 0);
    // AND each row is there once, also after another run
    for _ in 0..2 {
        for (table, sum) in [
            ("countries", "count(name)"),
            ("customers", "sum(id)"),
            ("orders", "sum(id * 8 - amount * 8)"),
            ("lines", "sum(\"order\" * line)"),
            ("\"Odd; clicks\"", "count(who)"),
        ] {
            let from = format!("from {table}");
            let of = ["count(*)", sum];
            let expected = files.numbers(Side::Source, of, &from).await;
            assert!(expected[0] > 0);
            let there = site.numbers(Side::Target, of, &from).await;
            assert_eq!(there, expected, "{table}");
        }
        assert_exit(&site.finish(&["run", "shop.yaml", "--new"]).await, 0);
    }
}

#[tokio::test]
async fn a_table_that_is_loaded_once_is_cut_by_its_key_of_text() {
    // GIVEN a table whose key is a text, one whose key is of two columns, and one of a key that cuts nothing
    let site = Site::empty(Engine::Postgres).await;
    let fill = "\
create table words (word text primary key, n int);
insert into words select md5(i::text), i from generate_series(1, 100000) i;
create table lines (doc int, line int, note text, primary key (doc, line));
insert into lines select i, l, 'n' from generate_series(1, 50000) i, generate_series(1, 2) l;
create table floats (f float8 primary key);
insert into floats select i from generate_series(1, 100000) i;
analyze";
    site.execute(Side::Source, fill).await;
    // WHEN a file is written that loads them once
    let wrote = [
        "advise",
        "${env:SOURCE_URL}",
        "--once",
        "--write",
        "once.yaml",
    ];
    assert_exit(&site.finish(&wrote).await, 0);
    // THEN their keys cut them, it runs, and each row is there once
    let text = std::fs::read_to_string(site.path("once.yaml")).unwrap();
    assert_eq!(text.matches("partition: {by: keyset}").count(), 2, "{text}");
    for _ in 0..2 {
        assert_exit(&site.finish(&["run", "once.yaml", "--new"]).await, 0);
        assert_equal(&site, &["words", "lines"]).await;
    }
}
