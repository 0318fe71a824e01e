//! Partitions that are appended chunk by chunk: what is committed stays, and is not loaded again.

use serde_json::Value;

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
/// All rows in one partition, a hundred of them to a chunk: the rows of a day.
const STEP: &str = "\
steps:
  events:
    strategy: {type: backfill, start: 2024-03-01, end: 2024-04-01}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    partition: {by: calendar, column: at, grain: month, tz: UTC}
    write: {mode: append}
    chunk: {max_rows: 100}
    retries: {max_attempts: 3, initial: 10ms, max: 10ms}
";

async fn with_chunks(engine: Engine) -> Site {
    let site = Site::empty(engine).await;
    site.make_events("not null").await;
    site.write_pipeline(STEP);
    site
}

async fn rows(site: &Site) -> i64 {
    site.numbers(Side::Target, ["count(*)"], "from events")
        .await[0]
}

/// `chunk`, `rows` and `attempt` of the ledger's rows, those of tasks and those of parts.
async fn ledger(site: &Site) -> Vec<String> {
    let column = "state || ' ' || chunk || ' ' || rows || ' ' || attempt";
    let from = format!("from {} order by part, state", site.ledger("task"));
    site.texts(Side::Target, column, &from).await
}

#[tokio::test]
async fn a_killed_attempt_is_gone_on_with_inside_its_partition() {
    for engine in BOTH {
        // GIVEN a process that dies between the fifth and the sixth chunk of its only partition
        let site = with_chunks(engine).await;
        let strike = "attempt::between_chunks=4*off->1*return(abort)";
        assert!(
            !site
                .start(strike)
                .await
                .wait(LIMIT)
                .await
                .unwrap()
                .success()
        );
        // THEN what it committed is there, and the ledger says so
        assert_eq!(rows(&site).await, 500);
        assert_eq!(ledger(&site).await, ["O 5 500 1", "C 0 500 1"]);
        // WHEN the run goes on THEN the next attempt loads the rest, and the receipt tells of all
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(1).await;
        assert_eq!(ledger(&site).await, [format!("C 20 {ROWS} 1")]);
        assert_eq!(site.status().await["rows"], Value::from(ROWS));
    }
}

#[tokio::test]
async fn a_chunk_whose_answer_was_lost_is_not_committed_twice() {
    for engine in BOTH {
        // GIVEN a target that commits the first chunks of two attempts and loses the answers
        let site = with_chunks(engine).await;
        let run = site.highwater(&["run", "pipeline.yaml"]).await;
        let finished = run
            .failpoints("commit_answer_lost=2*return")
            .run(LIMIT)
            .await;
        // THEN each row is there once all the same
        assert_exit(&finished.unwrap(), 0);
        site.assert_copied_once(1).await;
        assert_eq!(ledger(&site).await, [format!("C 20 {ROWS} 3")]);
    }
}

#[tokio::test]
async fn what_a_failed_run_has_of_a_partition_is_not_loaded_by_the_next() {
    for engine in BOTH {
        // GIVEN a run whose partition fails in its tenth chunk
        let site = with_chunks(engine).await;
        let table = site.events_table("not null", ", check (amount <> 1425)");
        site.execute(Side::Target, &table).await;
        let failed = site.run().await;
        assert_exit(&failed, 3);
        assert_says(&failed.stdout, "(900 rows of it are committed and stay)");
        assert_eq!(rows(&site).await, 900);
        // WHEN the row is mended and another run is begun
        let mend = "update events set amount = 1 where amount = 1425";
        site.execute(Side::Source, mend).await;
        let finished = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        // THEN it loads the rest alone, which it says
        assert_exit(&finished, 0);
        assert_says(&finished.stderr, "committed in part");
        assert_eq!(site.status().await["rows"], Value::from(ROWS - 900));
        let distinct = ["count(*)", "count(distinct id)"];
        let counted = site.numbers(Side::Target, distinct, "from events").await;
        assert_eq!(counted, [ROWS, ROWS]);
    }
}

#[tokio::test]
async fn rows_of_one_position_are_one_chunk() {
    for engine in BOTH {
        // GIVEN a table with 700 rows at one position, more than a chunk is to have
        let site = with_chunks(engine).await;
        let same = "update events set at = (select o.at from events o where o.id = 200) \
                    where id between 200 and 899";
        site.execute(Side::Source, same).await;
        // WHEN it is copied THEN every row is there once, those of the position in one chunk
        assert_exit(&site.run().await, 0);
        let distinct = ["count(*)", "count(distinct id)"];
        let counted = site.numbers(Side::Target, distinct, "from events").await;
        assert_eq!(counted, [ROWS, ROWS]);
        assert_eq!(ledger(&site).await, [format!("C 15 {ROWS} 1")]);
    }
}

#[tokio::test]
async fn a_partition_without_an_index_to_cut_it_by_is_one_chunk() {
    for engine in BOTH {
        let site = with_chunks(engine).await;
        site.execute(Side::Source, "drop index events_at").await;
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(1).await;
        assert_eq!(ledger(&site).await, [format!("C 1 {ROWS} 1")]);
    }
}
