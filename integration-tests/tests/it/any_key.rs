//! Tables without a day or a number to cut by.

use highwater_integration_tests::until;
use serde_json::Value;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

/// Odd values of the columns that are hashed, and a thousand plain ones. No two rows are alike.
const ODD: &str = "
    create collation if not exists blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create table odd (id int, n numeric, f float8, t text, c text collate blind, b bytea, u uuid, j jsonb, a int[]);
    insert into odd select i, i, i / 3.0, 'row ' || i, case i % 2 when 0 then 'ROW' else 'row' end, int4send(i), gen_random_uuid(),
        jsonb_build_object('i', i), array[i] from generate_series(1, 1000) i;
    insert into odd (id) values (1001), (1002), (null);
    insert into odd (id, f, n) values (1003, 'NaN', 'NaN'), (1004, '-Infinity', -1e300), (1005, -0.0, -0.0), (1006, 0.0, 0.00);
    insert into odd (id, t, b) values (-7, '', ''), (1007, repeat('long ', 20000), decode(repeat('00ff', 5000), 'hex'));";

const HASHED: &str = "\
steps:
  odd:
    strategy: {type: backfill}
    from: {connection: source, table: odd}
    to: {connection: target, table: odd}
    partition: {by: hash, columns: [id, n, f, t, b, u, j], parts: 8}
    write: {mode: append}
    retries: {max_attempts: 3, initial: 10ms, max: 10ms}
";

/// Every row as a text, sorted: what is there twice is there twice.
async fn rows(site: &Site, side: Side) -> Vec<String> {
    let row = "md5(concat_ws('|', coalesce(id::text, '-'), n, f, t, c, b, u, j, a))";
    let mut rows = site.texts(side, row, "from odd").await;
    rows.sort();
    rows
}

async fn committed(site: &Site) -> Vec<String> {
    let from = "from highwater.task where state = 'C' order by range_start nulls first";
    let ends = "left(slice_kind, 7) || ' ' || coalesce(range_start::text, '') || '..' || coalesce(range_end::text, '')";
    site.texts(Side::Target, ends, from).await
}

#[tokio::test]
async fn hash_partitions_cover_exactly_once() {
    // GIVEN a table of odd values, which has no key, and processes that die before and after a commit
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, ODD).await;
    site.write_pipeline(HASHED);
    let planned = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_says(&planned.stdout, "8 partitions scan all of");
    for strike in [
        "attempt::before_commit=2*off->1*return(abort)",
        "attempt::after_commit=2*off->1*return(abort)",
    ] {
        let died = site.start(strike).await.wait(LIMIT).await.unwrap();
        assert!(!died.success(), "{strike}");
    }
    // WHEN the run goes on
    assert_exit(&site.run().await, 0);
    // THEN each row is there once, whatever its values are
    let expected = rows(&site, Side::Source).await;
    assert_eq!(expected.len(), 1009);
    assert_eq!(rows(&site, Side::Target).await, expected);
    let receipts = committed(&site).await;
    assert_eq!(receipts.len(), 8, "{receipts:?}");
    assert_eq!(receipts[0], "placed: ..-6917529027641081856");
    assert_eq!(receipts[7], "placed: 6917529027641081856..");
    // AND another run has nothing to do, in however many parts
    site.write_pipeline(&HASHED.replace("parts: 8", "parts: 3"));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_eq!(site.status().await["rows"], Value::from(0));
    assert_eq!(rows(&site, Side::Target).await, expected);
}

#[tokio::test]
async fn a_half_loaded_table_goes_on_in_other_parts_of_its_hash_and_by_no_other_rule() {
    // GIVEN a run that has failed with some of its parts committed
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, ODD).await;
    site.execute(
        Side::Target,
        "create table odd (id int check (id <> 500), n numeric, f float8, t text, c text, b bytea, \
         u uuid, j jsonb, a int[])",
    )
    .await;
    site.write_pipeline(HASHED);
    assert_exit(&site.run().await, 3);
    let expected = rows(&site, Side::Source).await;
    assert_eq!(committed(&site).await.len(), 7);
    site.execute(Side::Target, "alter table odd drop constraint odd_id_check")
        .await;
    // WHEN another rule would cut it THEN that is refused, because nothing says which rows are there
    for other in [
        HASHED.replace("columns: [id, ", "columns: ["),
        HASHED.replace(
            "by: hash, columns: [id, n, f, t, b, u, j], parts: 8",
            "by: integer, column: id, width: 100",
        ),
    ] {
        site.write_pipeline(&other);
        let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        assert_exit(&refused, 7);
        assert_says(&refused.stdout, "cut by another rule");
    }
    // AND WHEN the same hash cuts it into other parts THEN the rest is loaded, and nothing again
    site.write_pipeline(&HASHED.replace("parts: 8", "parts: 5"));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_eq!(rows(&site, Side::Target).await, expected);
}

#[tokio::test]
async fn a_table_is_swapped_in_parts_of_a_hash() {
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, ODD).await;
    let swap = HASHED.replace("type: backfill", "type: swap").replace(
        "    write: {mode: append}\n",
        "    checks: [{row_count: {tolerance: 0}}]\n",
    );
    site.write_pipeline(&swap);
    for _ in 0..2 {
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_eq!(
            rows(&site, Side::Target).await,
            rows(&site, Side::Source).await
        );
    }
}

#[tokio::test]
async fn what_cannot_be_hashed_is_refused_with_words() {
    // GIVEN a table with types that have no hash, or one that is of more than the value
    let site = Site::empty(Engine::Postgres).await;
    let made = "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                create type mood as enum ('sad', 'ok'); create domain mood_or_other as mood; \
                create table odd (id int, p point, e mood, d mood_or_other, es mood[], c text collate blind); \
                insert into odd values (1, '(1,2)', 'ok', 'ok', '{ok}', 'x')";
    site.execute(Side::Source, made).await;
    let of = |columns: &str| HASHED.replace("id, n, f, t, b, u, j", columns);
    for (columns, told) in [
        ("id, p", "p (point)"),
        ("id, e", "e (public.mood)"),
        ("id, d", "depends on more than the value"),
        ("id, es", "depends on more than the value"),
        ("id, c", "c (text)"),
        ("id, q", "q"),
    ] {
        // WHEN it is cut by that, or by what it has not THEN the plan is refused
        site.write_pipeline(&of(columns));
        let refused = site.finish(&["plan", "pipeline.yaml"]).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert_says(&refused.stderr, told);
    }
    // AND a file of SQLite, which has none at all
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(Side::Source, "create table odd (id int)")
        .await;
    site.write_pipeline(&of("id"));
    let refused = site.finish(&["plan", "pipeline.yaml"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_says(&refused.stderr, "SQLite, which has no hash");
}

/// Keys that no code of ours could put into the database's order: a language's own, a key of two columns
/// whose first one has few values, and uuids.
const KEYED: &str = "
    create collation if not exists by_language (provider = icu, locale = 'de');
    create table words (lang text collate by_language, word text collate by_language, n int, primary key (lang, word));
    insert into words select l, w || i, i from generate_series(1, 120) i, unnest(array['a', 'B', 'ä', 'Z', 'z', 'é', '-', ' ']) w, unnest(array['de', 'DE', 'Ö']) l;
    create table users (id uuid primary key, n int);
    insert into users select gen_random_uuid(), i from generate_series(1, 500) i;
    create table slots (a int, b text, unique (a, b));
    insert into slots select nullif(i % 10, 0), 'b' || i from generate_series(1, 200) i;
    insert into slots values (3, null), (null, null), (null, null);
    analyze";

fn keyed(table: &str, partition: &str) -> String {
    format!(
        "steps:\n  {table}:\n    strategy: {{type: backfill}}\n    from: {{connection: source, table: \
         {table}}}\n    to: {{connection: target, table: {table}}}\n    partition: {{{partition}}}\n    \
         write: {{mode: append}}\n    retries: {{max_attempts: 3, initial: 10ms, max: 10ms}}\n"
    )
}

/// Every row of a table as a text, sorted.
async fn all(site: &Site, side: Side, table: &str) -> Vec<String> {
    let mut rows = site
        .texts(side, "t::text", &format!("from {table} t"))
        .await;
    rows.sort();
    rows
}

#[tokio::test]
async fn composite_text_keys_follow_the_database_collation() {
    // GIVEN keys of a language's order, of two columns, of uuids, and one that may be NULL
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, KEYED).await;
    for (table, partition, parts) in [
        (
            "words",
            "by: keyset, columns: [lang, word], max_rows: 500",
            6,
        ),
        ("users", "by: keyset, max_rows: 100", 5),
        ("slots", "by: keyset, columns: [a, b], max_rows: 50", 5),
    ] {
        // WHEN each cuts its table, with a process that dies in between
        site.write_pipeline(&keyed(table, partition));
        let strike = "attempt::after_commit=1*off->1*return(abort)";
        let died = site.start(strike).await.wait(LIMIT).await.unwrap();
        assert!(!died.success(), "{table}");
        assert_exit(&site.run().await, 0);
        // THEN every row is there once, and each part holds what the database puts between its ends
        let expected = all(&site, Side::Source, table).await;
        assert_eq!(all(&site, Side::Target, table).await, expected, "{table}");
        let ledger = format!(
            "from highwater.task where state = 'C' and stream_id like '%/{table}/%' order by ordinal"
        );
        let rows = site.texts(Side::Target, "rows::text", &ledger).await;
        assert_eq!(rows.len(), parts, "{table}: {rows:?}");
        if table == "words" {
            assert_eq!(rows, ["500", "500", "500", "500", "500", "380"]);
        }
        // AND another run has nothing to do, though rows came that move every cut
        if table == "words" {
            let more = "insert into words select 'de', 'A' || i, i from generate_series(1, 700) i";
            site.execute(Side::Source, more).await;
        }
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_eq!(site.status().await["rows"], Value::from(0), "{table}");
    }
}

#[tokio::test]
async fn a_half_loaded_table_goes_on_at_the_keys_that_its_receipts_speak_of() {
    // GIVEN a run that has failed with some of its parts committed
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, KEYED).await;
    let made = "create table words (lang text, word text, n int check (n <> 77), primary key (lang, word))";
    site.execute(Side::Target, made).await;
    let cut = "by: keyset, columns: [lang, word], max_rows: 50";
    site.write_pipeline(&keyed("words", cut));
    assert_exit(&site.run().await, 3);
    let before = site.numbers(Side::Target, ["count(*)"], "from words").await[0];
    assert!(0 < before && before < 2_880, "{before}");
    site.execute(
        Side::Target,
        "alter table words drop constraint words_n_check",
    )
    .await;
    // WHEN rows come before, between and behind the cuts, and another run cuts anew, more coarsely
    let more = "insert into words select l, 'mm' || i, i from generate_series(1, 40) i, unnest(array['', 'de', 'zz']) l";
    site.execute(Side::Source, more).await;
    site.write_pipeline(&keyed("words", &cut.replace("50", "300")));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    // THEN what was there before is there once, and nothing twice
    let twice = site
        .numbers(
            Side::Target,
            ["count(*) - count(distinct (lang, word))"],
            "from words",
        )
        .await[0];
    assert_eq!(twice, 0);
    let old = "from words where word not like 'mm%'";
    let counted = site.numbers(Side::Target, ["count(*)"], old).await;
    assert_eq!(counted, [2_880]);
}

#[tokio::test]
async fn rows_inserted_while_cutting_are_loaded_once() {
    // GIVEN a table that grows at both ends and in between once its cuts are found
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, KEYED).await;
    site.write_pipeline(&keyed("words", "by: keyset, max_rows: 500"));
    let mut run = site
        .start("attempt::after_prepare=return(stall 3000)")
        .await;
    let more = "insert into words select l, w || i, i from generate_series(1, 40) i, unnest(array['', 'de', 'zz']) l, \
                unnest(array['!', 'mm', 'zzz']) w";
    until_kept(&site).await;
    site.execute(Side::Source, more).await;
    // WHEN it is loaded THEN they are there, each once
    assert!(run.wait(LIMIT).await.unwrap().success());
    let expected = all(&site, Side::Source, "words").await;
    assert_eq!(expected.len(), 2_880 + 360);
    assert_eq!(all(&site, Side::Target, "words").await, expected);
}

#[tokio::test]
async fn what_is_no_key_is_refused_with_words() {
    let site = Site::empty(Engine::Postgres).await;
    let made = "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table odd (id int, f float8 unique, t text collate blind unique, n int);
        create index on odd (n); create view seen as select * from odd";
    site.execute(Side::Source, made).await;
    for (table, partition, told) in [
        ("odd", "by: keyset", "no primary key"),
        (
            "odd",
            "by: keyset, columns: [n]",
            "(n) is no unique key of it; its unique keys are (f), (t)",
        ),
        ("odd", "by: keyset, columns: [f]", "floating point"),
        (
            "odd",
            "by: keyset, columns: [t]",
            "takes different texts for equal",
        ),
        ("odd", "by: keyset, columns: [q]", "has no column q"),
        ("seen", "by: keyset", "no primary key"),
    ] {
        site.write_pipeline(&keyed(table, partition));
        let refused = site.finish(&["plan", "pipeline.yaml"]).await;
        assert!(!refused.status.success(), "{partition}: {refused:?}");
        assert_says(&refused.stderr, told);
    }
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(Side::Source, "create table odd (id text primary key)")
        .await;
    site.write_pipeline(&keyed("odd", "by: keyset"));
    let refused = site.finish(&["plan", "pipeline.yaml"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_says(&refused.stderr, "by: hash");
}

/// Waits until the bounds of a plan are kept, which is before a row is read.
async fn until_kept(site: &Site) {
    until("bounds that are kept", LIMIT, async || {
        let from = "from pg_class where oid = to_regclass('highwater.bound')";
        let is_there = site.numbers(Side::Target, ["count(*)"], from).await == [1];
        let kept = is_there
            && site
                .numbers(Side::Target, ["count(*)"], "from highwater.bound")
                .await[0]
                > 0;
        Ok(kept.then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_key_of_numbers_is_cut_in_the_order_of_the_numbers() {
    // GIVEN numbers, whose texts have another order, in no order at all
    let site = Site::empty(Engine::Postgres).await;
    let made = "create table lines (number int, line int, primary key (number, line));
        insert into lines select i, i % 3 from generate_series(1, 1000) i order by random()";
    site.execute(Side::Source, made).await;
    // WHEN they are cut by their key
    site.write_pipeline(&keyed("lines", "by: keyset, max_rows: 441"));
    assert_exit(&site.run().await, 0);
    // THEN each part has as many rows as were aimed at
    let ledger = "from highwater.task where state = 'C' order by ordinal";
    let rows = site.texts(Side::Target, "rows::text", ledger).await;
    assert_eq!(rows, ["441", "441", "118"]);
    let bounds = "from highwater.bound order by number";
    let bounds = site
        .texts(Side::Target, "array_to_string(key_values, ' ')", bounds)
        .await;
    assert_eq!(bounds, ["442 1", "883 1"]);
}

#[tokio::test]
async fn rows_without_a_key_are_loaded_once_whatever_failed_before() {
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, KEYED).await;
    // GIVEN a table of one part and one of several, with rows that have no key
    for (max_rows, fails, exit) in [
        // WHEN these rows fail, or others, or nothing does
        (50, "check (a is not null)", 3),
        (50, "check (b is distinct from 'b17')", 3),
        (500, "check (a is not null)", 3),
        (500, "check (b is distinct from 'b17')", 3),
        (500, "check (true)", 0),
    ] {
        let made = format!(
            "drop table if exists slots; drop schema if exists highwater cascade; create table slots (a \
             int, b text, constraint holds {fails})"
        );
        site.execute(Side::Target, &made).await;
        let cut = format!("by: keyset, columns: [a, b], max_rows: {max_rows}");
        site.write_pipeline(&keyed("slots", &cut));
        let first = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        assert_exit(&first, exit);
        let mended = "alter table slots drop constraint holds";
        site.execute(Side::Target, mended).await;
        // THEN another run loads what is missing, once, and a third one has nothing to do
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        let of = "from slots";
        let there = site.numbers(Side::Target, ["count(*)"], of).await;
        let expected = site.numbers(Side::Source, ["count(*)"], of).await;
        assert_eq!(there, expected, "{max_rows} {fails}");
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_eq!(
            site.status().await["rows"],
            Value::from(0),
            "{max_rows} {fails}"
        );
    }
}

#[tokio::test]
async fn receipts_whose_keys_are_gone_are_refused() {
    // GIVEN a table that is loaded by its key
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, KEYED).await;
    site.write_pipeline(&keyed("users", "by: keyset, max_rows: 100"));
    assert_exit(&site.run().await, 0);
    // WHEN the keys that its receipts end at are lost THEN no run cuts at others in their place
    site.execute(Side::Target, "delete from highwater.bound where number = 2")
        .await;
    let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
    assert_exit(&refused, 7);
    assert_says(&refused.stderr, "highwater.bound");
}

#[tokio::test]
async fn a_table_that_is_swapped_is_cut_anew_each_time() {
    // GIVEN a table that was swapped in parts by its key
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, KEYED).await;
    let swap = |max_rows| {
        format!(
            "steps:\n  users:\n    strategy: {{type: swap}}\n    from: {{connection: source, table: \
             users}}\n    to: {{connection: target, table: users}}\n    partition: {{by: keyset, \
             max_rows: {max_rows}}}\n"
        )
    };
    site.write_pipeline(&swap(100));
    assert_exit(&site.run().await, 0);
    // WHEN it is again, in more parts THEN these are new ones, and the table is the source's
    site.execute(Side::Source, "delete from users where n % 2 = 0")
        .await;
    site.write_pipeline(&swap(10));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    let expected = all(&site, Side::Source, "users").await;
    assert_eq!(all(&site, Side::Target, "users").await, expected);
    let bounds = site
        .numbers(
            Side::Target,
            ["count(*)", "max(number)"],
            "from highwater.bound",
        )
        .await;
    assert_eq!(bounds, [24, 24]);
}
