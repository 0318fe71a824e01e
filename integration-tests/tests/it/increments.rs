//! Windows that meet writers, other runs and faults: what `incremental` promises while something
//! else happens.

use std::time::Duration;

use highwater_integration_tests::{Signal, until};

use crate::incremental::{
    BOTH, CONTINUED, STEP, assert_equal, growing, load_by_max, until_safe, watermark,
};
use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

/// Long enough between two chunks for somebody to write there.
const SLOW: &str = "attempt::between_chunks=return(stall 150)";

const fn now(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "now()",
        Engine::Sqlite => "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')",
    }
}

/// How many rows of the target are not as the source has them, or not there.
async fn stale(site: &Site, note: &str) -> i64 {
    let from = format!("from events where note = '{note}'");
    let [source] = site.numbers(Side::Source, ["count(*)"], &from).await;
    let [target] = site.numbers(Side::Target, ["count(*)"], &from).await;
    source - target
}

async fn held(site: &Site) -> [i64; 2] {
    let columns = ["count(*)", "count(distinct id)"];
    site.numbers(Side::Target, columns, "from events").await
}

/// Waits until the target has so many rows.
async fn until_held(site: &Site, rows: i64) {
    until("rows in the target", LIMIT, async || {
        Ok((site.has_ledger().await && held(site).await[0] >= rows).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_row_updated_while_it_is_read_arrives_in_its_last_form() {
    for engine in BOTH {
        // GIVEN a table that is there, and a first window that is being read, chunk by chunk
        let site = growing(engine).await;
        let table = site.events_table("not null", "");
        site.execute(Side::Target, &table).await;
        let mut reading = site.start(SLOW).await;
        until_held(&site, 500).await;
        // WHEN rows that were read, rows that are being read and rows that will be are updated
        let update = async |note: &str| {
            let set = format!(
                "update events set at = {}, note = '{note}' where id % 10 = 0",
                now(engine)
            );
            site.execute(Side::Source, &set).await;
        };
        update("once").await;
        let ended = reading.wait(LIMIT).await.unwrap();
        assert!(ended.success(), "{}", reading.stderr().unwrap());
        // THEN the window has some of them in their old form
        assert!(stale(&site, "once").await > 0);
        // WHEN they are updated once more while the next one reads them, also with the very stamp
        // that they have
        until_safe().await;
        let mut again = site.start("attempt::after_begin=return(stall 1000)").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        update("twice").await;
        let same = "update events set note = 'thrice' where id % 20 = 0 and note = 'twice'";
        site.execute(Side::Source, same).await;
        assert!(again.wait(LIMIT).await.unwrap().success());
        // THEN the next window brings all of them as they are
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_eq!(stale(&site, "thrice").await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn two_runs_of_one_stream_never_interleave() {
    for engine in BOTH {
        // GIVEN a run that is frozen in the midst of its window, and a state that knows nothing of it
        let site = growing(engine).await;
        assert_exit(&site.finish(&["plan", "pipeline.yaml"]).await, 0);
        site.copy_state(".highwater", "other");
        let mut frozen = site
            .start("attempt::between_chunks=3*off->return(stall 3000)")
            .await;
        until_held(&site, 400).await;
        frozen.signal(Signal::Stop).unwrap();
        let (stood, moves) = watermark(&site).await;
        assert_eq!(moves, 4);
        // WHEN another run of the stream begins THEN it goes on where that one's commits end
        let other = site
            .finish(&["run", "pipeline.yaml", "--state", "other"])
            .await;
        assert_exit(&other, 0);
        assert_says(&other.stdout, "1,6");
        let after = watermark(&site).await;
        assert!(after.0 > stood, "{after:?}");
        // AND a row that is written and loaded since is not overtaken
        let update = format!("update events set at = {}, note = 'new'", now(engine));
        site.execute(Side::Source, &update).await;
        until_safe().await;
        let newer = ["run", "pipeline.yaml", "--state", "other"];
        assert_exit(&site.finish(&newer).await, 0);
        let last = watermark(&site).await;
        // WHEN the frozen one goes on THEN it commits no row more and moves no watermark
        frozen.signal(Signal::Cont).unwrap();
        let ended = frozen.wait(LIMIT).await.unwrap();
        assert_eq!(ended.code(), Some(8), "{}", frozen.stderr().unwrap());
        assert_eq!(watermark(&site).await, last);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn ties_across_a_chunk_boundary_arrive_once() {
    for engine in BOTH {
        for mode in ["merge", "append"] {
            if (engine, mode) == (Engine::Sqlite, "append") {
                continue;
            }
            // GIVEN rows that share their stamps by 150, where a chunk has 100, and a target
            // without a key where they are appended
            let site = growing(engine).await;
            let stamp = match engine {
                Engine::Postgres => "timestamptz '2024-03-01 00:00Z' + (id / 150) * interval '1 h'",
                Engine::Sqlite => {
                    "strftime('%Y-%m-%dT%H:%M:%SZ', '2024-03-01', '+' || (id / 150) || ' hours')"
                }
            };
            let update = format!("update events set at = {stamp}");
            site.execute(Side::Source, &update).await;
            site.write_pipeline(&STEP.replace("mode: merge", &format!("mode: {mode}")));
            let table = site.events_table("not null", "");
            let table = match mode {
                "append" => table.replace(" primary key", ""),
                _ => table,
            };
            site.execute(Side::Target, &table).await;
            // WHEN the window is loaded
            let loaded = site.run().await;
            assert_exit(&loaded, 0);
            // THEN in several chunks each row came once
            assert_says(&loaded.stdout, "2,000 rows");
            let (_, moves) = watermark(&site).await;
            assert!(moves > 5, "{moves}");
            assert_eq!(held(&site).await, [ROWS, ROWS]);
            assert_equal(&site).await;
        }
    }
}

#[tokio::test]
async fn the_watermark_never_passes_a_failed_partition() {
    for engine in BOTH {
        // GIVEN a target that refuses a row in the midst of the window
        let site = growing(engine).await;
        let table = site.events_table("not null", ", check (amount <> 1425)");
        site.execute(Side::Target, &table).await;
        // WHEN it runs, also with the next window already begun
        let failed = site.run().await;
        assert_exit(&failed, 3);
        let refused = site
            .texts(Side::Source, "at", "from events where amount = 1425")
            .await
            .concat();
        let below = format!("from events where at < '{refused}'");
        let [before] = site.numbers(Side::Source, ["count(*)"], &below).await;
        // THEN the watermark stands at a chunk's end that all rows below are there
        let stands = async || {
            let (at, moves) = watermark(&site).await;
            let at = at
                .split_once(':')
                .map_or(at.clone(), |(_, at)| at.to_owned());
            let rows = held(&site).await;
            assert!(
                rows[0] <= before && rows[0] == moves * 100,
                "{at} {moves} {rows:?}"
            );
        };
        stands().await;
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 7);
        stands().await;
        // WHEN the row is mended THEN the next run brings what is missing
        let mend = format!(
            "update events set amount = 1, at = {} where amount = 1425",
            now(engine)
        );
        site.execute(Side::Source, &mend).await;
        until_safe().await;
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn max_cursor_without_a_horizon_fails_this_suite() {
    // GIVEN a loader that reads up to the largest cursor it sees, beside ours
    let site = growing(Engine::Postgres).await;
    let copy = "create table by_max (like events including all); insert into by_max select * from \
                events";
    site.execute(Side::Source, copy).await;
    assert_exit(&site.run().await, 0);
    // WHEN a transaction takes its stamp first and commits last, and both load in between
    let mut late = site.server().connect("source").await.unwrap();
    let begin = "begin; insert into events (id, amount) values (9001, 1)";
    sqlx::raw_sql(begin).execute(&mut late).await.unwrap();
    let quick = "insert into events (id, amount) values (9002, 2)";
    site.execute(Side::Source, quick).await;
    until_safe().await;
    load_by_max(&site).await;
    assert_exit(&site.run().await, 0);
    sqlx::raw_sql("commit").execute(&mut late).await.unwrap();
    until_safe().await;
    load_by_max(&site).await;
    assert_exit(&site.run().await, 0);
    // THEN that one has lost the row for good, and ours has not
    let ids = "from by_max where id > 9000 order by id";
    assert_eq!(site.texts(Side::Source, "id", ids).await, ["9002"]);
    assert_equal(&site).await;
}

#[tokio::test]
async fn incremental_starts_where_history_ends() {
    for engine in BOTH {
        // GIVEN a history that ended at its safe end
        let site = growing(engine).await;
        site.write_pipeline(CONTINUED);
        assert_exit(&site.finish(&["run", "pipeline.yaml", "history"]).await, 0);
        let history = site.status().await["rows"].clone();
        let ledger = format!("from {} where state = 'C'", site.ledger("task"));
        let end = site.texts(Side::Target, "max(range_end)", &ledger).await;
        // WHEN rows are written, and what continues it runs for the first time
        let add = format!(
            "insert into events values (9001, {}, 7, 'new')",
            now(engine)
        );
        site.execute(Side::Source, &add).await;
        until_safe().await;
        assert_exit(&site.finish(&["run", "pipeline.yaml", "live"]).await, 0);
        // THEN its window begins at that very position, and no row of the history is read again
        let windows = format!("{ledger} and stream_id like '%/live/%' and range_start is not null");
        let begun = site.texts(Side::Target, "min(range_start)", &windows).await;
        assert_eq!(begun, end);
        // In SQLite the newest row may get others of its stamp, and is the next window's.
        let newest = i64::from(engine == Engine::Sqlite);
        assert_eq!(history, ROWS - newest);
        assert_eq!(site.status().await["rows"], 1 + newest);
        assert_equal(&site).await;
    }
}
