//! Columns that the source has got since the target's table was made.

use highwater_integration_tests::Finished;

use crate::site::{Engine, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

/// A step that loads all of `events` once more, with this at the end of its write clause.
fn steps(write: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {{type: backfill, start: 2024-03-01, end: 2024-04-01, \
         reprocess: all}}\n    from: {{connection: source, table: events}}\n    to: {{connection: \
         target, table: events}}\n    partition: {{by: calendar, column: at, grain: month, tz: \
         UTC}}\n    write: {{{write}}}\n"
    )
}

/// A source and a target that are equal, until the source gets two more columns.
async fn grown(engine: Engine, write: &str) -> Site {
    let site = Site::empty(engine).await;
    site.make_events("not null").await;
    site.write_pipeline(&steps(write));
    assert_exit(&site.run().await, 0);
    let add = [
        "alter table events add column kind text",
        "alter table events add column rank integer not null default 7",
        "update events set kind = 'k' || id where id <= 1000",
    ];
    for statement in add {
        site.execute(Side::Source, statement).await;
    }
    site
}

/// How many columns the target's table has.
async fn columns(site: &Site, engine: Engine) -> i64 {
    let from = match engine {
        Engine::Postgres => "from information_schema.columns where table_name = 'events'",
        Engine::Sqlite => "from pragma_table_info('events')",
    };
    let [count] = site.numbers(Side::Target, ["count(*)"], from).await;
    count
}

fn printed(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

#[tokio::test]
async fn a_new_column_fails_the_plan_until_it_may_be_added() {
    for engine in BOTH {
        for mode in ["mode: merge, cursor: at", "mode: replace_partition"] {
            // GIVEN a source with two columns more than the target, which has a row of its own
            let site = grown(engine, mode).await;
            let own =
                "insert into events (id, at, amount) values (9000, '2025-01-01T00:00:00Z', 1)";
            site.execute(Side::Target, own).await;
            // WHEN nothing is said THEN nothing is loaded, and the way out is told
            let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_exit(&refused, 7);
            assert_says(&printed(&refused), "events lacks kind, rank");
            assert_says(&printed(&refused), "on_schema_change: add_columns");
            // WHEN they may be added THEN the plan says so, and adds nothing yet
            site.write_pipeline(&steps(&format!("{mode}, on_schema_change: add_columns")));
            let planned = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_exit(&planned, 0);
            assert_says(&printed(&planned), "column kind is added to events");
            assert_eq!(columns(&site, engine).await, 4);
            // AND the run adds them, and loads them
            let ran = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_exit(&ran, 0);
            let of = [
                "count(*)",
                "count(kind)",
                "count(rank)",
                "cast(sum(rank) as bigint)",
            ];
            let found = site.numbers(Side::Target, of, "from events").await;
            assert_eq!(found, [ROWS + 1, 1000, ROWS, ROWS * 7], "{engine:?} {mode}");
            // AND the next run has nothing to add
            let planned = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_exit(&planned, 0);
            assert!(!planned.stdout.contains("is added"), "{}", planned.stdout);
            assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        }
    }
}

#[tokio::test]
async fn a_refresh_adds_columns_with_its_rows() {
    for engine in BOTH {
        // GIVEN a table that is replaced whole, and its source with two columns more
        let site = grown(engine, "mode: replace_partition").await;
        site.write_pipeline(
            "steps:\n  events:\n    strategy: full_refresh\n    from: {connection: source, table: \
             events}\n    to: {connection: target, table: events}\n    write: {on_schema_change: \
             add_columns}\n",
        );
        // WHEN it is refreshed THEN it has them, and all of their values
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        let found = site
            .numbers(
                Side::Target,
                ["count(*)", "count(kind)", "count(rank)"],
                "from events",
            )
            .await;
        assert_eq!(found, [ROWS, 1000, ROWS], "{engine:?}");
    }
}

#[tokio::test]
async fn the_column_that_cuts_the_table_is_not_added() {
    for engine in BOTH {
        // GIVEN a target without the column that cuts the source's table
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        let table = "create table events (id bigint primary key, amount numeric, note text)";
        site.execute(Side::Target, table).await;
        site.write_pipeline(&steps(
            "mode: replace_partition, on_schema_change: add_columns",
        ));
        // WHEN it is planned THEN that is refused: rows that are there would be in no part
        let refused = site.finish(&["plan", "pipeline.yaml"]).await;
        assert_exit(&refused, 7);
        assert_says(&printed(&refused), "events lacks at");
        assert_says(
            &printed(&refused),
            "rows that are there would have no place",
        );
    }
}
