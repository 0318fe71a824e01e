//! Tables without a day or a number to cut by.

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
