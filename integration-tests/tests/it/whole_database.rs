//! A step that stands for all tables of a schema.

use crate::site::{Engine, Side, Site, assert_exit, assert_says};

/// A file for a whole database, in six lines.
const SIX_LINES: &str = "version: 1
name: shop
connections: {source: {type: postgres, url: \"${env:SOURCE_URL}\"}, target: {type: postgres, url: \"${env:TARGET_URL}\"}}
defaults: {from: {connection: source}, to: {connection: target}}
steps:
  all: {strategy: backfill, tables: \"public.*\", write: {mode: append}}
";

/// Forty tables, of which each but the first points to the one before it.
async fn forty_tables(site: &Site) {
    site.execute(
        Side::Source,
        "do $$ begin
           for i in 1..40 loop
             execute format('create table t%s (id bigint primary key, note text unique, before bigint)', i);
             execute format('insert into t%s select n, ''note '' || n, n from generate_series(1, 20) n', i);
             if i > 1 then
               execute format('alter table t%s add constraint \"t%s before\" foreign key (before)
                 references t%s (id) on delete cascade deferrable', i, i, i - 1);
             end if;
           end loop;
         end $$",
    )
    .await;
}

async fn foreign_keys(site: &Site, side: Side) -> Vec<String> {
    let told = "conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid)";
    let of = "from pg_constraint where contype = 'f' and conparentid = 0 order by 1";
    site.texts(side, told, of).await
}

/// The rows of all tables of the target's `public`.
async fn rows(site: &Site) -> Vec<String> {
    let rows = "sum((xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %I.%I', \
                schemaname, tablename), false, true, '')))[1]::text::int)::text";
    site.texts(
        Side::Target,
        rows,
        "from pg_tables where schemaname = 'public'",
    )
    .await
}

fn write(site: &Site, text: &str) {
    std::fs::write(site.path("pipeline.yaml"), text).unwrap();
}

#[tokio::test]
async fn a_schema_of_forty_tables_is_six_lines() {
    // GIVEN a schema of forty tables that hang together, and a file of six lines
    let site = Site::empty(Engine::Postgres).await;
    forty_tables(&site).await;
    write(&site, SIX_LINES);
    assert_eq!(SIX_LINES.lines().count(), 6);
    // WHEN it is checked without its databases, and run
    assert_exit(&site.finish(&["validate", "pipeline.yaml"]).await, 0);
    let ran = site.run().await;
    // THEN all tables are there, and their foreign keys, which hold
    assert_exit(&ran, 0);
    assert_says(&ran.stderr, "all: 40 tables");
    assert_eq!(site.status().await["steps"].as_array().unwrap().len(), 41);
    assert_eq!(rows(&site).await, ["800"]);
    let keys = foreign_keys(&site, Side::Target).await;
    assert_eq!(keys.len(), 39);
    assert_eq!(keys, foreign_keys(&site, Side::Source).await);
    // WHEN it is run again, with a table more
    site.execute(
        Side::Source,
        "create table t41 as select * from t1; alter table t41 add primary key (id); \
         alter table t41 add foreign key (before) references t40 (id)",
    )
    .await;
    let ran = site.run().await;
    // THEN that one comes, too, and nothing of the others is moved again
    assert_exit(&ran, 0);
    assert_eq!(rows(&site).await, ["820"]);
    assert_eq!(foreign_keys(&site, Side::Target).await.len(), 40);
    // WHEN nobody can be asked for the tables THEN that is told, and no step is taken for all
    let nobody = SIX_LINES.replace("${env:SOURCE_URL}", "postgres://nobody@127.0.0.1:1/x");
    write(&site, &nobody);
    let refused = site.run().await;
    assert_exit(&refused, 5);
    assert_says(&refused.stderr, "cannot list the tables of source");
}

#[tokio::test]
async fn foreign_keys_come_last_and_hold() {
    // GIVEN two tables that point to each other, a table that is left out, and one with odd names
    let site = Site::empty(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create schema \"Odd \"\"One\"; create schema aside;
         create table \"Odd \"\"One\".\"or.ders\" (id int primary key, \"what's\" int, unique (id, \"what's\"));
         create table \"Odd \"\"One\".items (id int primary key, a int, b int not null, up int);
         create table aside.notes (id int primary key);
         insert into aside.notes values (1);
         insert into \"Odd \"\"One\".\"or.ders\" values (1, 2), (3, null);
         insert into \"Odd \"\"One\".items values (2, 1, 2, 1), (3, null, 1, 1);
         alter table \"Odd \"\"One\".\"or.ders\" add constraint \"it's\" foreign key (\"what's\")
           references \"Odd \"\"One\".items (id) on update cascade on delete set null;
         alter table \"Odd \"\"One\".items add constraint pair foreign key (a, b)
           references \"Odd \"\"One\".\"or.ders\" (id, \"what's\") match simple initially deferred;
         alter table \"Odd \"\"One\".items add constraint aside foreign key (up) references aside.notes (id);
         alter table \"Odd \"\"One\".items add constraint later foreign key (id)
           references \"Odd \"\"One\".items (id) not valid;",
    )
    .await;
    write(
        &site,
        &SIX_LINES
            .replace("\"public.*\"", "'\"Odd \"\"One\".*'")
            .replace(
                "to: {connection: target}",
                "to: {connection: target, table: \"lake.{source.table}\"}",
            ),
    );
    // WHEN they are planned and loaded into another schema
    let plan = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&plan, 0);
    assert_says(&plan.stderr, "foreign keys that do not go along: aside");
    assert_exit(&site.run().await, 0);
    // THEN the keys between them are there as they were
    let ours = foreign_keys(&site, Side::Target).await;
    let theirs = foreign_keys(&site, Side::Source).await;
    let theirs: Vec<String> = theirs
        .iter()
        .filter(|key| !key.contains("aside.notes"))
        .map(|key| key.replace("\"Odd \"\"One\".", "lake."))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 3);
    // AND a row that nobody points to cannot be taken in
    site.execute(
        Side::Target,
        "do $$ begin
           begin
             insert into lake.\"or.ders\" values (9, 99);
           exception when foreign_key_violation then return;
           end;
           raise 'it was taken in';
         end $$",
    )
    .await;
}
