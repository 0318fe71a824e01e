//! Rows that are merged by their key: what changed is updated, what is new is added, the rest stays.

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
/// All rows in one partition, a hundred of them to a chunk.
const STEP: &str = "\
steps:
  events:
    strategy: {type: backfill, start: 2024-03-01, end: 2024-04-01, reprocess: all}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    partition: {by: calendar, column: at, grain: month, tz: UTC}
    write: {mode: merge, cursor: at}
    chunk: {max_rows: 100}
    retries: {initial: 10ms, max: 10ms}
";

async fn merging(engine: Engine) -> Site {
    let site = Site::empty(engine).await;
    site.make_events("not null").await;
    site.write_pipeline(STEP);
    site
}

/// How many rows the target has, how many of other ids, and the sum of their amounts.
async fn sums(site: &Site, side: Side) -> Vec<i64> {
    let of = [
        "count(*)",
        "count(distinct id)",
        "cast(sum(amount) as bigint)",
    ];
    site.numbers(side, of, "from events").await.into()
}

#[tokio::test]
async fn a_merge_updates_what_changed_and_keeps_the_rest() {
    for engine in BOTH {
        let site = merging(engine).await;
        // GIVEN a target with a row of its own, and one that is newer than the source's
        let table = site.events_table("not null", "");
        site.execute(Side::Target, &table).await;
        site.execute(
            Side::Target,
            "insert into events values (9000, '2024-03-02T00:00:00Z', 7, 'mine'), \
             (5, '2024-03-30T00:00:00Z', 70, 'newer')",
        )
        .await;
        // WHEN the table is merged THEN both stay, and all else is as in the source
        assert_exit(&site.run().await, 0);
        let [rows, distinct] = site
            .numbers(
                Side::Target,
                ["count(*)", "count(distinct id)"],
                "from events",
            )
            .await;
        assert_eq!((rows, distinct), (ROWS + 1, ROWS + 1));
        let kept = site
            .texts(
                Side::Target,
                "note",
                "from events where id in (5, 9000) order by id",
            )
            .await;
        assert_eq!(kept, ["newer", "mine"]);
        // WHEN rows of the source change, and it is merged again
        let change = "update events set note = 'changed' where id between 100 and 199";
        site.execute(Side::Source, change).await;
        let again = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        // THEN the changed ones are changed, and nothing is there twice
        assert_exit(&again, 0);
        let changed = site
            .numbers(
                Side::Target,
                ["count(*)"],
                "from events where note = 'changed'",
            )
            .await;
        assert_eq!(changed, [100]);
        assert_eq!(sums(&site, Side::Target).await[0], ROWS + 1);
    }
}

#[tokio::test]
async fn a_killed_merge_goes_on_at_its_last_chunk() {
    for engine in BOTH {
        // GIVEN a process that dies between two chunks of its only partition
        let site = merging(engine).await;
        let strike = "attempt::between_chunks=4*off->1*return(abort)";
        let died = site.start(strike).await.wait(LIMIT).await.unwrap();
        assert!(!died.success());
        assert_eq!(sums(&site, Side::Target).await[0], 500);
        // WHEN the run goes on THEN the rest is merged, and the target is the source's copy
        assert_exit(&site.run().await, 0);
        assert_eq!(
            sums(&site, Side::Target).await,
            sums(&site, Side::Source).await
        );
        let attempts = format!("from {}", site.ledger("task"));
        let chunks = site.numbers(Side::Target, ["max(chunk)"], &attempts).await;
        assert_eq!(chunks, [20]);
    }
}

#[tokio::test]
async fn a_target_that_cannot_tell_rows_apart_is_refused_by_the_plan() {
    for engine in BOTH {
        // GIVEN a target without a key
        let site = merging(engine).await;
        let table = site
            .events_table("not null", "")
            .replace("not null primary key", "not null")
            .replace("primary key", "not null");
        site.execute(Side::Target, &table).await;
        // THEN the plan says which index is missing
        let refused = site.run().await;
        assert_exit(&refused, 7);
        assert_says(&refused.stdout, "create unique index on events (id)");
        // AND with it the merge runs
        site.execute(Side::Target, "create unique index by_id on events (id)")
            .await;
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_eq!(
            sums(&site, Side::Target).await,
            sums(&site, Side::Source).await
        );
    }
}

#[tokio::test]
async fn the_claims_of_a_merge_without_a_cursor_fence_each_other() {
    for engine in BOTH {
        for (cursor, claimed_alone) in [(", cursor: at", 0), ("", 1)] {
            // GIVEN a merge of several tasks
            let site = merging(engine).await;
            let step = STEP.replace(", cursor: at", cursor);
            site.write_pipeline(&step.replace("grain: month", "grain: week"));
            // WHEN it has run
            assert_exit(&site.run().await, 0);
            // THEN the stream holds the token of the last claim where claims fence each other, and
            // else that of the prepare
            let latest = format!(
                "from {} where token = (select max(token) from {})",
                site.ledger("stream"),
                site.ledger("task")
            );
            let streams = site.numbers(Side::Target, ["count(*)"], &latest).await;
            assert_eq!(streams, [claimed_alone], "{engine:?}{cursor}");
        }
    }
}
