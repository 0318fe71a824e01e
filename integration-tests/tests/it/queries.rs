//! A source that is a query.

use highwater_integration_tests::Finished;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

const JOIN: &str = "select e.id, e.at, k.label as kind, e.amount, e.amount * 2 as twice from \
                    events e join kinds k on k.id = e.id % 3 where e.id <= 1500";

/// A pipeline of one step that reads a query, with more under `from` and behind.
fn steps(strategy: &str, query: &str, more: &str, rest: &str) -> String {
    format!(
        "steps:\n  joined:\n    strategy: {strategy}\n    from: {{connection: source, query: \
         \"{query}\"{more}}}\n    to: {{connection: target, table: joined}}\n    retries: {{initial: \
         10ms, max: 10ms, max_attempts: 2}}\n{rest}"
    )
}

/// Events, and what they are joined with.
async fn site(engine: Engine) -> Site {
    let site = Site::empty(engine).await;
    site.make_events("not null").await;
    let kinds = "create table kinds (id integer primary key, label text not null)";
    site.execute(Side::Source, kinds).await;
    let fill = "insert into kinds values (0, 'none'), (1, 'one'), (2, 'two')";
    site.execute(Side::Source, fill).await;
    site
}

fn strategies(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Postgres => &["full_refresh", "swap"],
        Engine::Sqlite => &["full_refresh"],
    }
}

fn printed(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

async fn new_run(site: &Site) -> Finished {
    site.finish(&["run", "pipeline.yaml", "--new"]).await
}

#[tokio::test]
async fn a_query_with_a_join_is_refreshed() {
    for engine in BOTH {
        for strategy in strategies(engine) {
            // GIVEN a query of two tables, with a semicolon at its end, and a key of the user's word
            let site = site(engine).await;
            let checks = "    write: {key: [id]}\n    checks: [{row_count: {tolerance: 0}}, {unique: \
                          [id]}]\n";
            site.write_pipeline(&steps(strategy, &format!("{JOIN};"), "", checks));
            // WHEN it is planned THEN the plan says what is read
            let planned = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_exit(&planned, 0);
            assert_says(&planned.stdout, "a query of 5 columns is read");
            // AND the run loads its answer, twice, whatever the target held
            for _ in 0..2 {
                assert_exit(&new_run(&site).await, 0);
                let (source, target) = site
                    .digests_of(
                        &format!("{JOIN} order by e.id"),
                        "select * from joined order by id",
                    )
                    .await;
                assert_eq!(
                    (source.rows, &source),
                    (1500, &target),
                    "{engine:?} {strategy}"
                );
                let change = "update kinds set label = 'first' where id = 1";
                site.execute(Side::Source, change).await;
            }
            // AND with some of its columns
            let text = match engine {
                Engine::Postgres => "text",
                Engine::Sqlite => "TEXT",
            };
            let columns = format!(
                ", columns: {{at: {{exclude: true}}, kind: {{rename: label}}, amount: {{cast: \
                 {text}}}}}"
            );
            let fresh = steps(strategy, JOIN, &columns, "").replace("joined", "fewer");
            site.write_pipeline(&fresh);
            assert_exit(&new_run(&site).await, 0);
            let (source, target) = site
                .digests_of(
                    &format!(
                        "select id, kind as label, cast(amount as {text}) as amount, twice from \
                         ({JOIN}) q order by id"
                    ),
                    "select * from fewer order by id",
                )
                .await;
            assert_eq!(source, target, "{engine:?} {strategy}");
        }
    }
}

#[tokio::test]
async fn a_query_answers_with_types_of_the_users_own() {
    // GIVEN a column of an enumeration, which is found by the role's own path, and one with a scale
    let site = site(Engine::Postgres).await;
    for side in [Side::Source, Side::Target] {
        let mood = "create type mood as enum ('glad', 'sad')";
        site.execute(side, mood).await;
    }
    let query = "select id, 'glad'::mood as mood, amount from events";
    let columns = ", columns: {id: {cast: text}}";
    site.write_pipeline(&steps("full_refresh", query, columns, ""));
    // WHEN it is read THEN the table has that type, and the column's scale
    assert_exit(&new_run(&site).await, 0);
    let from =
        "from pg_attribute where attrelid = 'joined'::regclass and attnum > 0 order by attnum";
    let types = site
        .texts(Side::Target, "format_type(atttypid, atttypmod)", from)
        .await;
    assert_eq!(types, ["text", "mood", "numeric(12,2)"]);
}

#[tokio::test]
async fn a_query_that_writes_is_refused() {
    for engine in BOTH {
        let site = site(engine).await;
        for (query, told) in [
            ("delete from events", "query_refused"),
            ("insert into kinds values (7, 'x')", "query_refused"),
            (
                "with gone as (delete from events returning id) select id from gone",
                "query_refused",
            ),
            (
                "select id from events) as a, (select 1 as b",
                "query_refused",
            ),
            ("select id, id from events", "two columns are called id"),
            ("select id, 1 + 1 from events", "column 2 has no name"),
            ("select id from nowhere", "nowhere"),
        ] {
            // GIVEN a text that is no query which only reads WHEN it is planned THEN it is refused
            site.write_pipeline(&steps("full_refresh", query, "", ""));
            let refused = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_exit(&refused, 7);
            assert_says(&printed(&refused), told);
        }
        // AND several statements are none of a pipeline
        let several = "select id from events; delete from events";
        site.write_pipeline(&steps("full_refresh", several, "", ""));
        assert_exit(&site.finish(&["plan", "pipeline.yaml"]).await, 2);
        let left = site
            .numbers(Side::Source, ["count(*)"], "from events")
            .await;
        assert_eq!(left, [2_000]);
    }
}

#[tokio::test]
async fn a_changed_query_plans_anew() {
    for engine in BOTH {
        // GIVEN a run of a query that has died in its midst
        let site = site(engine).await;
        let of = |rows: u32| format!("select id, note from events where id <= {rows}");
        site.write_pipeline(&steps("full_refresh", &of(10), "", ""));
        let dying = site
            .highwater(&["run", "pipeline.yaml"])
            .await
            .failpoints("attempt::after_prepare=1*return(abort)");
        assert!(!dying.run(LIMIT).await.unwrap().status.success());
        // WHEN the query is another one THEN the run does not go on with it
        site.write_pipeline(&steps("full_refresh", &of(20), "", ""));
        assert_exit(&site.run().await, 6);
        // AND a new one reads that
        assert_exit(&new_run(&site).await, 0);
        let found = site
            .numbers(Side::Target, ["count(*)"], "from joined")
            .await;
        assert_eq!(found, [20]);
    }
}

#[tokio::test]
async fn a_view_dropped_between_plan_and_run_is_a_clear_error() {
    for engine in BOTH {
        for (change, told) in [
            ("drop view few", "few"),
            (
                "drop view few; create view few as select cast(id as text) as id from events",
                match engine {
                    Engine::Postgres => "column id of the query `select id from few` on source",
                    // Its values have types, and its columns none.
                    Engine::Sqlite => continue,
                },
            ),
        ] {
            // GIVEN a run that has planned to read a query of a view
            let site = site(engine).await;
            let view = "create view few as select id from events where id < 10";
            site.execute(Side::Source, view).await;
            site.write_pipeline(&steps("full_refresh", "select id from few", "", ""));
            let dying = site
                .highwater(&["run", "pipeline.yaml"])
                .await
                .failpoints("attempt::after_prepare=1*return(abort)");
            assert!(!dying.run(LIMIT).await.unwrap().status.success());
            // WHEN the view is gone, or another one, by the time it goes on
            site.execute(Side::Source, change).await;
            let failed = site.run().await;
            // THEN the run fails by its name, and by the query's first words
            assert_exit(&failed, 7);
            assert_says(&printed(&failed), told);
            assert_says(&printed(&failed), "the query `select id from few`");
        }
    }
}

#[tokio::test]
async fn row_security_holds_for_a_query_as_for_a_table() {
    // GIVEN a role that sees half of a table
    let mut site = site(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create role half login; grant select on events, kinds to half; alter table events enable \
         row level security; create policy half on events to half using (id <= 1000)",
    )
    .await;
    let url = format!("postgres://half@127.0.0.1:{}/source", site.server().port());
    site.point("SOURCE_URL", url);
    // WHEN its query is read THEN that is refused
    site.write_pipeline(&steps("full_refresh", JOIN, "", ""));
    let refused = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&refused, 7);
    assert_says(&printed(&refused), "row_level_security");
    // AND where only the visible rows are meant, just these come
    site.write_pipeline(&steps("full_refresh", JOIN, ", rows: visible", ""));
    let ran = new_run(&site).await;
    assert_exit(&ran, 0);
    let found = site
        .numbers(Side::Target, ["count(*)"], "from joined")
        .await;
    assert_eq!(found, [1000]);
}

#[tokio::test]
async fn what_cuts_a_table_cuts_no_query() {
    let site = site(Engine::Sqlite).await;
    let backfill =
        "    partition: {by: integer, column: id, width: 10}\n    write: {mode: append}\n";
    for (strategy, rest, told) in [
        ("backfill", backfill, "nothing finds the parts of a query"),
        (
            "swap",
            "    partition: {by: integer, column: id, width: 10}\n",
            "cuts a table",
        ),
    ] {
        site.write_pipeline(&steps(strategy, JOIN, "", rest));
        let refused = site.finish(&["validate", "pipeline.yaml"]).await;
        assert_exit(&refused, 2);
        assert_says(&printed(&refused), told);
    }
    let named =
        steps("full_refresh", JOIN, "", "").replace("table: joined", "table: \"{source.table}\"");
    site.write_pipeline(&named);
    let refused = site.finish(&["validate", "pipeline.yaml"]).await;
    assert_exit(&refused, 2);
    assert_says(&printed(&refused), "a query has no name");
}
