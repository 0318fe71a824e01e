//! What a backfill does when all goes well, when one day does not, and when it is run again.

use std::time::Duration;

use highwater_integration_tests::digest::digest_postgres;
use highwater_integration_tests::{FlightsFull, flights};
use serde_json::Value;

use crate::site::{DAYS, Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
const APPEND: &str = "{mode: append}";
const REPLACE: &str = "{mode: replace_partition, key: [id]}";
/// A day with an event that the target refuses.
const BAD_DAY: &str = "[2024-03-06T00:00:00Z, 2024-03-07T00:00:00Z)";

/// Two databases whose target refuses an amount that one event of the sixth day has.
async fn with_a_bad_day(engine: Engine) -> Site {
    let site = Site::with_events(engine, APPEND).await;
    let table = site.events_table("not null", ", check (amount <> 900)");
    site.execute(Side::Target, &table).await;
    site
}

#[tokio::test]
async fn a_failing_partition_does_not_stop_the_others() {
    for engine in BOTH {
        // GIVEN one day with a row that the target refuses
        let site = with_a_bad_day(engine).await;
        // WHEN the table is copied
        let finished = site.run().await;
        // THEN it says which day failed and why, and what to do next
        assert_exit(&finished, 3);
        assert_says(&finished.stdout, "failed, part committed");
        assert_says(&finished.stdout, BAD_DAY);
        assert_says(&finished.stdout, "next: highwater retry r-");
        // AND all other days are there, and nothing of that one
        assert_eq!(site.tasks('C').await, DAYS - 1);
        let columns = [
            "count(*)",
            "count(distinct id)",
            "sum(case when id between 501 and 600 then 1 else 0 end)",
        ];
        let rows = site.numbers(Side::Target, columns, "from events").await;
        assert_eq!(rows, [ROWS - 100, ROWS - 100, 0]);
        // AND the status names the dead task
        let status = site.status().await;
        assert_eq!(
            (&status["status"], &status["tasks"]["dead"]),
            (&Value::from("failed"), &Value::from(1))
        );
        let dead = &status["steps"][0]["dead"][0];
        assert_eq!(
            (&dead["work"], &dead["class"]),
            (&Value::from(BAD_DAY), &Value::from("permanent"))
        );
        assert_says(&dead["message"].as_str().unwrap().to_lowercase(), "check");
    }
}

#[tokio::test]
async fn retry_of_failed_repeats_no_committed_task() {
    for engine in BOTH {
        // GIVEN a run that failed for one day, whose data was mended since
        let site = with_a_bad_day(engine).await;
        assert_exit(&site.run().await, 3);
        let failed = site.status().await;
        let (rows, ledger) = site.fingerprint().await;
        site.execute(
            Side::Source,
            "update events set amount = 1 where amount = 900",
        )
        .await;
        // WHEN what failed is tried again
        let finished = site.finish(&["retry"]).await;
        // THEN the same run ends well, and that day alone was written
        assert_exit(&finished, 0);
        site.assert_copied_once(DAYS).await;
        let status = site.status().await;
        assert_eq!(
            (&status["run"], &status["status"]),
            (&failed["run"], &Value::from("success"))
        );
        let (rows_now, ledger_now) = site.fingerprint().await;
        assert_eq!(
            rows_now.iter().filter(|row| !rows.contains(row)).count(),
            100
        );
        assert_eq!(
            ledger_now
                .iter()
                .filter(|task| !ledger.contains(task))
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn rerun_of_a_finished_run_moves_no_row() {
    for (engine, write) in BOTH.into_iter().zip([APPEND, REPLACE]) {
        // GIVEN a finished run
        let site = Site::with_events(engine, write).await;
        assert_exit(&site.run().await, 0);
        let before = site.fingerprint().await;
        // WHEN the same file is run again
        let finished = site.run().await;
        // THEN there is nothing to do, it says so, and no row of the table or of the ledger was
        // written
        assert_exit(&finished, 0);
        assert_says(&finished.stdout, "nothing to do");
        assert_eq!(site.fingerprint().await, before);
        let status = site.status().await;
        let zero = Value::from(0);
        assert_eq!(
            (&status["tasks"]["done"], &status["rows"], &status["status"]),
            (&zero, &zero, &"success".into())
        );
        site.assert_copied_once(DAYS).await;
    }
}

#[tokio::test]
async fn a_second_run_with_replace_partition_is_idempotent() {
    for engine in BOTH {
        // GIVEN a finished run, and a source that has changed since
        let site = Site::with_events(engine, REPLACE).await;
        let again = "{type: backfill, start: 2024-03-01, end: 2024-03-21, reprocess: all}";
        site.pipeline(again, REPLACE);
        assert_exit(&site.run().await, 0);
        site.execute(
            Side::Source,
            "delete from events where id % 10 = 0; update events set amount \
                                    = 0 where id < 9",
        )
        .await;
        // WHEN it is run again, and once more
        for runs in [2, 3] {
            assert_exit(&site.run().await, 0);
            // THEN the target is what the source is now, and each run has done every day once
            let (source, target) = site.digests().await;
            assert_eq!(source, target);
            assert_eq!(source.rows, 1_800);
            assert_eq!(site.tasks('C').await, runs * DAYS);
        }
    }
}

#[tokio::test]
async fn null_keys_are_loaded() {
    for (engine, write) in [(Engine::Postgres, REPLACE), (Engine::Sqlite, APPEND)] {
        // GIVEN events without an instant
        let site = Site::empty(engine).await;
        site.make_events("").await;
        site.execute(
            Side::Source,
            "update events set at = null where id % 50 = 7",
        )
        .await;
        site.pipeline("{type: backfill}", write);
        // WHEN the whole table is copied by day
        assert_exit(&site.run().await, 0);
        // THEN they are a partition of their own, and all of them are there
        let task = site.ledger("task");
        let nulls = format!("from {task} where slice_kind = 'null' and state = 'C'");
        assert_eq!(
            site.numbers(Side::Target, ["count(*)", "sum(rows)"], &nulls)
                .await,
            [1, 40]
        );
        let all = site
            .numbers(Side::Target, ["count(*)"], &format!("from {task}"))
            .await[0];
        site.assert_copied_once(all).await;
        assert_eq!(
            site.numbers(Side::Target, ["count(*)"], "from events where at is null")
                .await,
            [40]
        );
    }
}

#[tokio::test]
async fn plan_changes_nothing() {
    for engine in BOTH {
        // GIVEN an empty target
        let site = Site::with_events(engine, APPEND).await;
        // WHEN the pipeline is only planned
        let finished = site.finish(&["plan", "pipeline.yaml", "-o", "json"]).await;
        // THEN the plan is there, on stdout alone
        assert_exit(&finished, 0);
        let plan: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(
            (&plan["schema"], &plan["tasks"]),
            (&Value::from("plan/v1"), &Value::from(site.with_build(DAYS)))
        );
        // AND the target has got neither a file nor a schema nor a table
        assert!(!site.has_ledger().await);
        match engine {
            Engine::Sqlite => assert!(!site.path("target.db").exists()),
            Engine::Postgres => {
                let relations = "from pg_class where relnamespace >= 16384 or relnamespace = \
                                 'public'::regnamespace";
                assert_eq!(
                    site.numbers(Side::Target, ["count(*)"], relations).await,
                    [0]
                );
                let schemas = "from pg_namespace where oid >= 16384";
                assert_eq!(site.numbers(Side::Target, ["count(*)"], schemas).await, [0]);
            }
        }
        // AND a run afterwards is whole
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(DAYS).await;
    }
}

#[tokio::test]
async fn all_flights_of_2013_from_postgresql_to_postgresql() {
    // GIVEN the flights that left New York in 2013
    let site = Site::empty(Engine::Postgres).await;
    let [source, target] = ["source", "target"].map(|database| site.server().url(database));
    FlightsFull::find()
        .await
        .unwrap()
        .load(&source)
        .await
        .unwrap();
    site.write_pipeline(
        "steps:\n  flights:\n    strategy: {type: backfill, start: 2013-01-01, end: \
         2014-01-01}\n    from: {connection: source, table: flights}\n    to: {connection: target, \
         table: flights}\n    partition: {by: calendar, column: time_hour, grain: day, tz: \
         America/New_York}\n    write: {mode: replace_partition, key: [time_hour, carrier, \
         flight]}\n",
    );
    // WHEN they are copied by the days of New York, four at a time
    let run = site
        .highwater(&["run", "pipeline.yaml", "--workers", "4"])
        .await;
    assert_exit(&run.run(Duration::from_secs(120)).await.unwrap(), 0);
    // THEN both sides are equal, and each of 365 days is in the ledger once
    let digests = [&source, &target].map(|url| digest_postgres(url, "flights", flights::KEY));
    let [source, target] = futures_util::future::join_all(digests)
        .await
        .try_into()
        .unwrap();
    let (source, target) = (source.unwrap(), target.unwrap());
    assert_eq!((&source, source.rows), (&target, FlightsFull::ROWS));
    let columns = [
        "count(*)",
        "count(distinct range_start)",
        "sum(rows)",
        "sum(case when state = 'C' then 1 end)",
    ];
    let ledger = site
        .numbers(Side::Target, columns, "from highwater.task")
        .await;
    assert_eq!(
        ledger,
        [365, 365, i64::try_from(FlightsFull::ROWS).unwrap(), 365]
    );
}

#[tokio::test]
async fn files_are_found_beside_their_pipeline_from_any_folder() {
    // GIVEN a pipeline whose files are named without a folder
    let site = Site::with_events(Engine::Sqlite, "{mode: append}").await;
    let pipeline = site.path("pipeline.yaml");
    let elsewhere = tempfile::tempdir().unwrap();
    // WHEN it is run from another folder
    let run = site
        .highwater(&["run", pipeline.to_str().unwrap()])
        .await
        .current_folder(elsewhere.path());
    // THEN they are those beside it
    assert_exit(&run.run(LIMIT).await.unwrap(), 0);
    site.assert_copied_once(DAYS).await;
}
