//! Columns that arrive under another name, or as another type.

use highwater_integration_tests::Finished;

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

/// A pipeline of one step that moves `events` with these words for its columns.
fn steps(columns: &str, rest: &str) -> String {
    format!(
        "steps:\n  events:\n    from: {{connection: source, table: events, columns: \
         {{{columns}}}}}\n    to: {{connection: target, table: arrived}}\n    retries: {{initial: \
         10ms, max: 10ms, max_attempts: 2}}\n{rest}"
    )
}

/// Each way of moving rows; a target of SQLite has no swap.
fn ways(engine: Engine) -> Vec<&'static str> {
    let mut ways = vec![
        "    strategy: backfill\n    partition: {by: calendar, column: at, grain: month}\n    \
         write: {mode: append}\n",
        "    strategy: backfill\n    partition: {by: calendar, column: at, grain: week}\n    \
         write: {mode: replace_partition}\n",
        "    strategy: backfill\n    partition: {by: calendar, column: at, grain: week}\n    \
         write: {mode: merge, key: [event_id], cursor: happened}\n    checks: [{row_count: \
         {tolerance: 0}}, {not_null: [happened]}]\n",
        "    strategy: full_refresh\n    checks: [{unique: [event_id]}]\n",
    ];
    if matches!(engine, Engine::Postgres) {
        ways.push("    strategy: swap\n");
        ways.push("    strategy: swap\n    partition: {by: integer, column: id, width: 300}\n");
    }
    ways
}

fn printed(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

#[tokio::test]
async fn columns_arrive_renamed_and_cast_whatever_moves_them() {
    for engine in BOTH {
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        let (whole, note) = match engine {
            Engine::Postgres => ("numeric(9,0)", "character varying(40)"),
            Engine::Sqlite => ("INTEGER", "TEXT"),
        };
        let columns = format!(
            "id: {{rename: event_id}}, at: {{rename: happened}}, amount: {{cast: \"{whole}\"}}, \
             note: {{rename: remark, cast: \"{note}\"}}"
        );
        let read = format!(
            "select id, at, cast(amount as {whole}), cast(note as {note}) from events order by id"
        );
        for (at, way) in ways(engine).into_iter().enumerate() {
            // GIVEN no table WHEN the events are moved
            let table = format!("arrived{at}");
            let pipeline =
                steps(&columns, way).replace("table: arrived", &format!("table: {table}"));
            site.write_pipeline(&pipeline);
            let planned = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_exit(&planned, 0);
            assert_says(&planned.stdout, "column id is written as event_id");
            assert_says(&planned.stdout, "column amount is cast from");
            assert_says(&planned.stdout, "written as remark");
            let ran = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_exit(&ran, 0);
            // THEN they are what the source's own select says, and the table has names and types
            let (source, target) = site
                .digests_of(&read, &format!("select * from {table} order by event_id"))
                .await;
            assert_eq!(source, target, "{engine:?} {way}");
            assert_eq!(source.rows, 2_000);
            let of = [
                "count(*)",
                "count(happened)",
                "count(amount)",
                "count(remark)",
            ];
            let found = site
                .numbers(Side::Target, of, &format!("from {table}"))
                .await;
            assert_eq!(found[..3], [ROWS; 3]);
            assert_eq!(
                types(&site, engine, &table).await,
                match engine {
                    Engine::Postgres => vec![
                        "bigint",
                        "timestamp with time zone",
                        "numeric(9,0)",
                        "character varying(40)"
                    ],
                    Engine::Sqlite => vec!["INTEGER", "TEXT", "INTEGER", "TEXT"],
                }
            );
            // AND loaded again into the table that is there, it is the same
            let again = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_exit(&again, 0);
            let (_, again) = site
                .digests_of(&read, &format!("select * from {table} order by event_id"))
                .await;
            assert_eq!(again, target, "{engine:?} {way}");
        }
    }
}

/// The types of a table's columns, as the catalog writes them.
async fn types(site: &Site, engine: Engine, table: &str) -> Vec<String> {
    match engine {
        Engine::Postgres => {
            let from = &format!(
                "from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not \
                 attisdropped order by attnum"
            );
            site.texts(Side::Target, "format_type(atttypid, atttypmod)", from)
                .await
        }
        Engine::Sqlite => {
            let from = &format!("from pragma_table_info('{table}') order by cid");
            site.texts(Side::Target, "type", from).await
        }
    }
}

const REFRESH: &str = "    strategy: full_refresh\n";

#[tokio::test]
async fn what_cannot_be_renamed_or_cast_is_said_by_the_plan() {
    for engine in BOTH {
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        for (columns, told) in [
            ("amuont: {rename: sum}", "has no column"),
            ("amuont: {cast: text}", "has no column"),
            ("amount: {rename: note}", "are both to be written as note"),
            ("amount: {cast: nosuchtype}", "no"),
            ("amount: {cast: \"numeric(1,2,3)\"}", ""),
        ] {
            // GIVEN a rule that no table meets WHEN it is planned THEN that is said, by the column
            site.write_pipeline(&steps(columns, REFRESH));
            let refused = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_exit(&refused, 7);
            assert_says(&printed(&refused), told);
            assert_says(&printed(&refused), columns.split(':').next().unwrap());
        }
    }
}

#[tokio::test]
async fn a_cast_that_fails_names_its_column_and_no_value() {
    // GIVEN a text that is no number, and that nobody else is to see
    let site = Site::empty(Engine::Postgres).await;
    site.make_events("not null").await;
    let secret = "update events set note = 'sesame' where id = 700";
    site.execute(Side::Source, "update events set note = id")
        .await;
    site.execute(Side::Source, secret).await;
    site.write_pipeline(&steps(
        "note: {cast: integer}, amount: {cast: text}",
        "    strategy: full_refresh\n",
    ));
    // WHEN it is cast THEN the attempt fails by the column's name, and the target is as it was
    let failed = site.finish(&["run", "pipeline.yaml"]).await;
    assert_exit(&failed, 7);
    assert_says(&printed(&failed), "the cast of column note to integer");
    assert!(!printed(&failed).contains("sesame"), "{}", printed(&failed));
    assert!(
        !printed(&failed).contains("column amount"),
        "{}",
        printed(&failed)
    );
}

#[tokio::test]
async fn a_type_that_changes_after_the_plan_is_noticed_through_a_cast() {
    for (change, told) in [
        (
            "alter table events alter column note type character varying(50)",
            "column note of public.events",
        ),
        ("alter type mood add value 'sad'", "the type public.mood"),
    ] {
        // GIVEN a run that has planned to read a column as a type of the user's own
        let site = Site::empty(Engine::Postgres).await;
        site.make_events("not null").await;
        site.execute(Side::Source, "create type mood as enum ('glad')")
            .await;
        site.execute(Side::Source, "update events set note = 'glad'")
            .await;
        site.execute(Side::Target, "create type mood as enum ('glad')")
            .await;
        site.write_pipeline(&steps("note: {cast: public.mood}", REFRESH));
        let dying = site
            .highwater(&["run", "pipeline.yaml"])
            .await
            .failpoints("attempt::after_prepare=1*return(abort)");
        assert!(!dying.run(LIMIT).await.unwrap().status.success());
        // WHEN the column, or the type, is another one by the time it goes on
        site.execute(Side::Source, change).await;
        let failed = site.run().await;
        // THEN nothing is loaded, and it says what has changed
        assert_exit(&failed, 7);
        assert_says(&printed(&failed), told);
        assert_says(&printed(&failed), "plan anew with --new");
        let kept = site
            .numbers(Side::Target, ["count(*)"], "from arrived")
            .await;
        assert_eq!(kept, [0]);
    }
}
