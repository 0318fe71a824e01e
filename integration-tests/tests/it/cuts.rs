//! What cuts a table: ids and days of any type that holds them, from one end to the other.

use highwater_integration_tests::until;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

/// A table whose every column but the last is one to cut by. The rows at the end are the odd ones:
/// without a value, at the edges, beyond the whole numbers.
const TABLE: &str = "
    create domain id19 as numeric(19,0); create domain own_id as id19; create domain stamp as timestamptz; create domain day as date;
    create table t (id bigint primary key, nid numeric(19,0), fid numeric, did own_id, o oid, at stamp, day day, iso text, code varchar(10), note text);
    insert into t select i, i, i, i, i, timestamptz '2024-01-01 00:00Z' + i * interval '1 h', date '2024-01-01' + i, to_char(date '2024-01-01' + i, 'YYYY-MM-DD'),
        to_char(date '2024-01-01' + i / 3, 'YYYY-MM-DD'), 'note ' || i
        from generate_series(1, 100) i;
    insert into t (id, note) values (201, 'nothing to cut by');
    insert into t (id, fid) values (202, 'NaN'), (203, 1e30), (204, -1e30), (205, 10.5);
    insert into t (id, o) values (206, 2147483648), (207, 4294967295), (208, 0);
    insert into t (id, at, day) values (209, 'infinity', '-infinity');
    create index on t (nid)";

/// Each step cuts the table by a column and loads a table of the step's name.
const CUTS: [(&str, &str); 10] = [
    ("by_nid", "by: integer, column: nid, max_rows: 20"),
    ("by_nid_wider", "by: integer, column: nid, width: 30"),
    ("by_fid", "by: integer, column: fid, max_rows: 20"),
    ("by_did", "by: integer, column: did, width: 30"),
    ("by_o", "by: integer, column: o, width: 1000000000"),
    ("by_o_wider", "by: integer, column: o, width: 1000000000"),
    ("by_at", "by: calendar, column: at, grain: day"),
    ("by_day", "by: calendar, column: day, grain: week"),
    ("by_iso", "by: calendar, column: iso, grain: week"),
    ("by_code", "by: calendar, column: code, grain: day"),
];

fn steps(strategy: &str) -> String {
    let step = |(name, partition): &(&str, &str)| {
        format!(
            "  {name}:\n    strategy: {strategy}\n    from: {{connection: source, table: t}}\n    \
             to: {{connection: target, table: {name}}}\n    partition: {{{partition}}}\n    \
             write: {{mode: replace_partition}}\n"
        )
    };
    format!("steps:\n{}", CUTS.iter().map(step).collect::<String>())
}

/// The rows of a table, each as a text, whatever types its columns have.
async fn rows(site: &Site, side: Side, table: &str) -> Vec<String> {
    let row = "concat_ws('|', id, coalesce(nid::text, '-'), coalesce(fid::text, '-'), \
               coalesce(did::text, '-'), coalesce(o::text, '-'), coalesce(at::text, '-'), \
               coalesce(day::text, '-'), coalesce(iso, '-'), coalesce(code, '-'), note)";
    site.texts(side, row, &format!("from {table} order by id"))
        .await
}

#[tokio::test]
async fn a_table_is_cut_by_what_its_ids_and_days_are() {
    // GIVEN ids as decimals, behind domains and as oids, days behind domains and as text, and
    // targets, some of which are there and wider
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, TABLE).await;
    let wider = "(id numeric, nid numeric(25,3), fid numeric, did numeric, o bigint, at \
                 timestamptz, day date, iso text, code text, note text)";
    site.execute(
        Side::Target,
        &format!(
            "create table by_nid_wider {wider}; create table \
        by_o_wider {wider}"
        ),
    )
    .await;
    site.write_pipeline(&steps("backfill"));
    // WHEN it is cut by each of them
    assert_exit(&site.run().await, 0);
    // THEN all rows are there, once, in more than one part
    let exact = |text: &str| text.replace(".000", "");
    let expected: Vec<String> = rows(&site, Side::Source, "t")
        .await
        .iter()
        .map(|row| exact(row))
        .collect();
    for (step, _) in CUTS {
        let held: Vec<String> = rows(&site, Side::Target, step)
            .await
            .iter()
            .map(|row| exact(row))
            .collect();
        assert_eq!(held, expected, "{step}");
        let parts = format!("from highwater.task where state = 'C' and step = '{step}'");
        let [parts, nulls] = site
            .numbers(
                Side::Target,
                ["count(*)", "count(*) filter (where slice_kind = 'null')"],
                &parts,
            )
            .await;
        assert!(
            parts > 2 && nulls == 1,
            "{step}: {parts} parts, {nulls} of rows without a value"
        );
    }
    // AND ranges of text are found in the target by an index in the order that they have there
    let texts = "from pg_indexes where tablename in ('by_iso', 'by_code') and indexdef like \
                 '%COLLATE \"C\")'";
    assert_eq!(site.numbers(Side::Target, ["count(*)"], texts).await, [2]);
    // WHEN it runs again THEN there is nothing to do, and no row is touched
    let before = site.tasks('C').await;
    let again = site.run().await;
    assert_exit(&again, 0);
    assert_says(&again.stdout, "nothing to do");
    assert_eq!(site.tasks('C').await, before);
    // WHEN all is loaded once more THEN each range replaces itself, and nothing else
    site.write_pipeline(&steps("{type: backfill, reprocess: all}"));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    for (step, _) in CUTS {
        let held: Vec<String> = rows(&site, Side::Target, step)
            .await
            .iter()
            .map(|row| exact(row))
            .collect();
        assert_eq!(held, expected, "{step}");
    }
}

#[tokio::test]
async fn what_would_be_cut_wrongly_is_refused_by_the_plan_with_what_to_do() {
    // GIVEN ids as decimals, one of them NaN, and a target that holds whole numbers
    let site = Site::empty(Engine::Postgres).await;
    let sql = "create table t (id numeric(19,0), note text); insert into t values (1, 'a'), (5, \
               'b'), ('NaN', 'c')";
    site.execute(Side::Source, sql).await;
    site.execute(Side::Target, "create table narrow (id bigint, note text)")
        .await;
    let pipeline = |strategy: &str, table: &str| {
        site.write_pipeline(&format!(
            "steps:\n  s:\n    strategy: {strategy}\n    from: {{connection: source, table: \
             t}}\n    to: {{connection: target, table: {table}}}\n    partition: {{by: integer, \
             column: id, width: 2}}\n    write: {{mode: replace_partition}}\n"
        ));
    };
    for (strategy, table, told) in [
        (
            "backfill",
            "narrow",
            "a numeric may be NaN, be larger or have a fraction",
        ),
        ("backfill", "narrow", "read a view that casts it"),
        // A bound that is declared leaves numbers out, and NaN is none
        (
            "{type: backfill, start: 1, end: 4}",
            "made",
            "1 row whose id is not written as the others' are, or is no number (NaN)",
        ),
    ] {
        // WHEN it is planned THEN it is refused, and no value of a row is told
        pipeline(strategy, table);
        let plan = site.finish(&["plan", "pipeline.yaml"]).await;
        assert_exit(&plan, 7);
        assert_says(&format!("{}{}", plan.stdout, plan.stderr), told);
    }
    // WHEN no bound leaves it out THEN it is carried with the last part
    pipeline("backfill", "made");
    assert_exit(&site.run().await, 0);
    assert_eq!(
        site.texts(Side::Target, "id", "from made order by id")
            .await,
        ["1", "5", "NaN"]
    );
}

#[tokio::test]
async fn a_scan_for_bounds_says_what_it_does() {
    // GIVEN a table whose bounds take a scan of several seconds
    let site = Site::empty(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create table base as select n as id, date '2024-01-01' + n as at from generate_series(1, 20) n;
         create function slow(date) returns date language plpgsql volatile
             as 'begin perform pg_sleep(0.4); return $1; end';
         create view v as select id, slow(at) as at from base",
    )
    .await;
    site.write_pipeline(
        "steps:\n  v:\n    strategy: backfill\n    from: {connection: source, table: v}\n    \
         to: {connection: target, table: v}\n    partition: {by: calendar, column: at, grain: \
         year}\n    write: {mode: append}\n",
    );
    // WHEN it is run THEN it says so while it lasts, to whoever waits and to whoever looks
    let mut run = site.start("").await;
    let said =
        "reading the smallest value of at in public.v by a full scan, no index leads with it, for ";
    until(said, LIMIT, async || {
        Ok(run.stderr()?.contains(said).then_some(()))
    })
    .await
    .unwrap();
    let status = site.status().await;
    let waits = &status["steps"][0]["waits"];
    assert!(
        waits[0]
            .as_str()
            .unwrap_or_default()
            .starts_with("reading the "),
        "{status:#}"
    );
    // AND it says so no more once it is over
    assert!(run.wait(LIMIT).await.unwrap().success());
    assert_eq!(
        site.status().await["steps"][0]["waits"],
        serde_json::json!([])
    );
}
