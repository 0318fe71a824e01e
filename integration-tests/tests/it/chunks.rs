//! Partitions that are appended chunk by chunk: what is committed stays, and is not loaded again.

use std::time::Duration;

use highwater_integration_tests::{Postgres, Signal, until};
use serde_json::Value;

use crate::outages::number;
use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

/// What a run with an outage in its midst may take on a busy machine.
const LONG: Duration = Duration::from_mins(3);
/// Makes a run of twenty chunks long enough to be met between two of them.
const SLOW: &str = "attempt::between_chunks=return(stall 500)";
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
async fn a_killed_attempt_resumes_at_its_last_chunk() {
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
        // AND of the attempts that lost an answer only the first counts: the second one had the
        // chunk that it committed
        assert_eq!(ledger(&site).await, [format!("C 20 {ROWS} 2")]);
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

#[tokio::test]
async fn a_worker_that_drains_gives_a_partition_back_after_its_next_chunk() {
    for engine in BOTH {
        // GIVEN a run in the midst of its only partition
        let site = with_chunks(engine).await;
        let mut run = site.start(SLOW).await;
        site.until_committed(1).await;
        // WHEN it drains THEN it ends behind a chunk, and long before its partition does
        run.signal(Signal::Int).unwrap();
        assert_eq!(run.wait(LIMIT).await.unwrap().code(), Some(130));
        let committed = rows(&site).await;
        let chunks = committed / 100;
        assert_eq!(committed % 100, 0);
        assert!((1..20).contains(&chunks), "{chunks} chunks");
        let kept = [
            format!("O {chunks} {committed} 1"),
            format!("C 0 {committed} 1"),
        ];
        assert_eq!(ledger(&site).await, kept);
        // WHEN another worker goes on THEN it loads the rest, and no attempt was counted
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(1).await;
        assert_eq!(ledger(&site).await, [format!("C 20 {ROWS} 1")]);
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_halves_the_chunk_and_counts_no_attempt() {
    // GIVEN a run in the midst of its only partition, and a table whose lock it waits for
    let site = with_chunks(Engine::Postgres).await;
    let mut run = site.start(SLOW).await;
    site.until_committed(1).await;
    let held = site.hold_events_until_waited_for(Side::Target).await;
    // WHEN the server ends its statement, as it does one that takes longer than it may
    let cancel = "select pg_cancel_backend(pid) from pg_locks where not granted \
                  and relation = 'events'::regclass";
    site.execute(Side::Target, cancel).await;
    drop(held);
    // THEN the same attempt goes on with a chunk of half the rows, and the next ones are whole
    let ended = run.wait(LIMIT).await.unwrap();
    assert!(ended.success(), "{}", run.stderr().unwrap());
    site.assert_copied_once(1).await;
    assert_eq!(ledger(&site).await, [format!("C 21 {ROWS} 1")]);
}

#[tokio::test]
async fn an_attempt_that_has_committed_a_chunk_counts_as_none_when_it_fails() {
    for engine in BOTH {
        // GIVEN a task that may be attempted three times, whose every attempt fails behind its
        // first chunk
        let site = with_chunks(engine).await;
        let run = site.highwater(&["run", "pipeline.yaml"]).await;
        let run = run.failpoints("attempt::between_chunks=return");
        // THEN it comes to its end all the same
        assert_exit(&run.run(LIMIT).await.unwrap(), 0);
        site.assert_copied_once(1).await;
        assert_eq!(ledger(&site).await, [format!("C 20 {ROWS} 1")]);
    }
}

#[tokio::test]
async fn a_target_away_between_two_chunks_costs_neither_an_attempt_nor_a_row() {
    // GIVEN a run in the midst of its only partition, into a server of its own
    let mut site = with_chunks(Engine::Postgres).await;
    let mut target = Postgres::start().await.unwrap();
    let url = target.create_database("target").await.unwrap();
    site.point("TARGET_URL", url);
    let mut run = site.start(SLOW).await;
    const COMMITTED: &str = "select count(*) from highwater.task where part";
    until("a committed chunk", LONG, async || {
        Ok((number(&target, "target", COMMITTED).await > 0).then_some(()))
    })
    .await
    .unwrap();
    // WHEN the server is away, for longer than it is asked twice
    target.kill().unwrap();
    let said = "target is unreachable since ";
    until(said, LONG, async || {
        Ok(run.stderr()?.contains(said).then_some(()))
    })
    .await
    .unwrap();
    target.restart().await.unwrap();
    // THEN the run goes on behind its last chunk, and ends well
    let ended = run.wait(LONG).await.unwrap();
    assert!(ended.success(), "{}", run.stderr().unwrap());
    for (sql, expected) in [
        ("select count(*) from events", ROWS),
        ("select count(distinct id) from events", ROWS),
        ("select chunk::int8 from highwater.task", 20),
        ("select attempt::int8 from highwater.task", 1),
    ] {
        assert_eq!(number(&target, "target", sql).await, expected, "{sql}");
    }
}
