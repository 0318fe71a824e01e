//! What a table has got since the last run: nothing that commits late is lost, nothing comes twice.

use std::time::Duration;

use highwater_integration_tests::until;

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

pub(crate) const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
/// A hundred rows to a chunk.
pub(crate) const STEP: &str = "\
steps:
  events:
    strategy: {type: incremental, cursor: at}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    write: {mode: merge}
    chunk: {max_rows: 100}
    retries: {initial: 10ms, max: 10ms, max_attempts: 3}
";

pub(crate) async fn growing(engine: Engine) -> Site {
    let site = Site::empty(engine).await;
    site.make_events("not null").await;
    if engine == Engine::Postgres {
        site.execute(
            Side::Source,
            "alter table events alter at set default now()",
        )
        .await;
    }
    site.write_pipeline(STEP);
    site
}

pub(crate) async fn assert_equal(site: &Site) {
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
}

/// Until the server's clock is so far behind whatever was stamped that it is below the horizon.
pub(crate) async fn until_safe() {
    tokio::time::sleep(Duration::from_millis(2_100)).await;
}

/// Where the watermark stands, and how often it has moved.
pub(crate) async fn watermark(site: &Site) -> (String, i64) {
    let from = format!("from {}", site.ledger("watermark"));
    let position = site.texts(Side::Target, "position", &from).await;
    let version = site.numbers(Side::Target, ["version"], &from).await;
    (position.concat(), version[0])
}

#[tokio::test]
async fn a_window_loads_what_is_new_and_what_was_updated() {
    for engine in BOTH {
        // GIVEN a table that was loaded
        let site = growing(engine).await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
        let (first, _) = watermark(&site).await;
        // WHEN rows are added and updated, and it runs again
        let now = match engine {
            Engine::Postgres => "now()",
            Engine::Sqlite => "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')",
        };
        let add = format!("insert into events values (9001, {now}, 7, 'new')");
        let update =
            format!("update events set at = {now}, note = 'changed' where id between 100 and 199");
        site.execute(Side::Source, &add).await;
        site.execute(Side::Source, &update).await;
        until_safe().await;
        let again = site.run().await;
        // THEN only they are read, and the target is the source's copy
        assert_exit(&again, 0);
        let read = match engine {
            Engine::Postgres => "101 rows",
            // the newest row, which more may share its stamp with
            Engine::Sqlite => "102 rows",
        };
        assert_says(&again.stdout, read);
        assert_equal(&site).await;
        assert!(watermark(&site).await.0 > first);
    }
}

#[tokio::test]
async fn a_run_with_nothing_new_succeeds_and_moves_the_watermark() {
    let site = growing(Engine::Postgres).await;
    assert_exit(&site.run().await, 0);
    let (before, _) = watermark(&site).await;
    until_safe().await;
    let again = site.run().await;
    assert_exit(&again, 0);
    assert_says(&again.stdout, "0 rows");
    assert!(watermark(&site).await.0 > before);
    assert_equal(&site).await;
}

#[tokio::test]
async fn rows_with_equal_timestamps_survive_a_crash_in_the_middle() {
    for engine in BOTH {
        for mode in ["merge", "append"] {
            if (engine, mode) == (Engine::Sqlite, "append") {
                continue;
            }
            // GIVEN a table whose rows share their stamps by the fifty
            let site = growing(engine).await;
            let stamp = match engine {
                Engine::Postgres => "timestamptz '2024-03-01 00:00Z' + (id / 50) * interval '1 h'",
                Engine::Sqlite => {
                    "strftime('%Y-%m-%dT%H:%M:%SZ', '2024-03-01', '+' || (id / 50) || ' hours')"
                }
            };
            let update = format!("update events set at = {stamp}");
            site.execute(Side::Source, &update).await;
            site.write_pipeline(&STEP.replace("mode: merge", &format!("mode: {mode}")));
            // WHEN the process dies between two chunks
            let strike = "attempt::between_chunks=4*off->1*return(abort)";
            let died = site.start(strike).await.wait(LIMIT).await.unwrap();
            assert!(!died.success());
            // THEN the watermark stands at the first stamp of which no row is there
            let (_, moves) = watermark(&site).await;
            assert_eq!(moves, 5);
            let held = site
                .numbers(Side::Target, ["count(*)"], "from events")
                .await[0];
            let whole = site
                .numbers(
                    Side::Target,
                    ["count(*)"],
                    "from (select at from events group by at having count(*) not in (49, 50)) s",
                )
                .await;
            assert!(held > 0 && held < ROWS, "{held}");
            assert_eq!(whole, [0]);
            // AND the run goes on there, or a new one does
            assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
            assert_equal(&site).await;
        }
    }
}

#[tokio::test]
async fn a_prepared_transaction_holds_the_watermark() {
    // GIVEN a transaction that waits for its second phase
    let site = growing(Engine::Postgres).await;
    assert_exit(&site.run().await, 0);
    let (before, _) = watermark(&site).await;
    site.execute(
        Side::Source,
        "begin; insert into events (id, amount) values (9001, 1); prepare transaction 'late'",
    )
    .await;
    // WHEN the step runs THEN it loads nothing, and says what it waits for
    let waiting = site.run().await;
    assert_exit(&waiting, 0);
    assert_says(&waiting.stdout, "prepared transaction `late`");
    assert_eq!(watermark(&site).await.0, before);
    // WHEN it commits THEN its row arrives
    site.execute(Side::Source, "commit prepared 'late'").await;
    until_safe().await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_reader_that_cannot_see_transactions_does_not_guess() {
    // GIVEN a role that reads the table, and not what others do
    let mut site = growing(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create role reader login; grant select on events to reader",
    )
    .await;
    let url = site.server().url("source");
    site.point("SOURCE_URL", url.replace("//postgres", "//reader"));
    // THEN the plan says which right is missing
    let refused = site.run().await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "grant pg_read_all_stats to reader");
    // AND with a lag it runs, and says that it may lose rows
    site.write_pipeline(&STEP.replace("cursor: at", "cursor: at, horizon: {lag: 1s}"));
    let lagging = site.finish(&["run", "pipeline.yaml", "--new"]).await;
    assert_exit(&lagging, 0);
    assert_says(&lagging.stdout, "not loss-free");
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_null_cursor_is_never_silently_skipped() {
    for engine in BOTH {
        // GIVEN rows without a cursor
        let site = Site::empty(engine).await;
        site.make_events("").await;
        site.execute(
            Side::Source,
            "update events set at = null where id between 1 and 10",
        )
        .await;
        // THEN the plan fails by default
        site.write_pipeline(STEP);
        let refused = site.run().await;
        assert_exit(&refused, 7);
        assert_says(&refused.stdout, "10 rows of events have no at");
        // they are told of when they are left out
        site.write_pipeline(&STEP.replace("cursor: at", "cursor: at, nulls: ignore"));
        let ignoring = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        assert_exit(&ignoring, 0);
        assert_says(&ignoring.stdout, "10 rows of events without at");
        // and each run loads them again when they are reloaded
        site.write_pipeline(&STEP.replace("cursor: at", "cursor: at, nulls: reload"));
        for note in ["once", "twice"] {
            let update = format!("update events set note = '{note}' where at is null");
            site.execute(Side::Source, &update).await;
            assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
            assert_equal(&site).await;
        }
    }
}

#[tokio::test]
async fn a_retry_tomorrow_reads_yesterdays_window() {
    // GIVEN a window that fails, because the target refuses one of its rows
    let site = growing(Engine::Postgres).await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        "insert into events values (9001, now(), 7, 'refused')",
    )
    .await;
    site.execute(
        Side::Target,
        "alter table events add constraint polite check (note <> 'refused')",
    )
    .await;
    until_safe().await;
    let failed = site.run().await;
    assert_exit(&failed, 7);
    // WHEN more rows come, the target takes them all, and the run is tried again
    site.execute(
        Side::Source,
        "insert into events values (9002, now(), 7, 'later')",
    )
    .await;
    site.execute(Side::Target, "alter table events drop constraint polite")
        .await;
    let retried = site.finish(&["retry"]).await;
    assert_exit(&retried, 0);
    // THEN it has read its own window, and the next run reads the rest
    let ids = site
        .texts(Side::Target, "id", "from events where id > 9000")
        .await;
    assert_eq!(ids, ["9001"]);
    until_safe().await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn an_id_taken_early_and_committed_late_is_not_lost() {
    // GIVEN a table that is read by its number
    let site = growing(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create sequence numbers start 3000; alter table events alter id set default \
         nextval('numbers')",
    )
    .await;
    site.write_pipeline(
        &STEP
            .replace("cursor: at", "cursor: id")
            .replace("mode: merge", "mode: append"),
    );
    assert_exit(&site.run().await, 0);
    // WHEN one number is taken and not committed, and a later one is
    let mut late = site.server().connect("source").await.unwrap();
    let take = "begin; insert into events (amount) values (1)";
    sqlx::raw_sql(take).execute(&mut late).await.unwrap();
    site.execute(Side::Source, "insert into events (amount) values (2)")
        .await;
    // THEN a run waits for it, and loads nothing, and says for whom
    let waiting = site.run().await;
    assert_exit(&waiting, 0);
    assert_says(&waiting.stdout, "whose transaction began at");
    // WHEN it commits THEN both arrive
    sqlx::raw_sql("commit").execute(&mut late).await.unwrap();
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

/// A loader as many write it, which takes the largest cursor that it sees for the end.
pub(crate) async fn load_by_max(site: &Site) {
    site.execute(
        Side::Source,
        "insert into by_max select * from events where at > coalesce((select max(at) from by_max), \
         '-infinity') on conflict (id) do nothing",
    )
    .await;
}

/// One of many transactions: it stamps its rows when it begins, or as it goes, and commits when it
/// likes, or never.
async fn transact(site: &Site, no: i64) {
    let mut session = site.server().connect("source").await.unwrap();
    let (id, late) = (10_000 + no * 10, no % 7 * 150);
    let stamp = ["now()", "clock_timestamp()", "statement_timestamp()"][(no % 3) as usize];
    let insert = |id: i64| format!("insert into events values ({id}, {stamp}, {no}, 'late')");
    let touched = no * 37 % 2_000;
    let work = format!(
        "begin; {}; savepoint s; {}; rollback to s; {}; update events set at = {stamp}, note = 'u{no}' \
         where id = {touched}",
        insert(id),
        insert(id + 1),
        insert(id + 2),
    );
    // Of two that update one row at once the second waits, which is what happens.
    sqlx::raw_sql(sqlx::AssertSqlSafe(work))
        .execute(&mut session)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(late.unsigned_abs())).await;
    let end = match no % 5 {
        0 => "rollback".to_owned(),
        1 => format!("prepare transaction 'p{no}'"),
        _ => "commit".to_owned(),
    };
    sqlx::raw_sql(sqlx::AssertSqlSafe(end))
        .execute(&mut session)
        .await
        .unwrap();
    if no % 5 == 1 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let end = format!("commit prepared 'p{no}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(end))
            .execute(&mut session)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_long_transaction_that_commits_late_is_not_lost() {
    // GIVEN a loader that reads up to the largest cursor it sees, beside ours
    let site = growing(Engine::Postgres).await;
    site.execute(
        Side::Source,
        "create table by_max (like events including all); insert into by_max select * from events",
    )
    .await;
    assert_exit(&site.run().await, 0);
    // WHEN hundreds of transactions, some of them long, write while both load again and again
    let write = async |first: i64| {
        for no in (first..300).step_by(12) {
            transact(&site, no).await;
        }
    };
    let writing = futures_util::future::join_all((0..12).map(write));
    let mut runs = 0;
    let loading = async {
        loop {
            assert_exit(&site.run().await, 0);
            load_by_max(&site).await;
            runs += 1;
        }
    };
    tokio::select! {
        _ = writing => {}
        () = loading => unreachable!("it never stops"),
    }
    until_safe().await;
    // The one that was cut off ends with its own window, and another one reads the rest.
    assert_exit(&site.run().await, 0);
    assert_exit(&site.run().await, 0);
    load_by_max(&site).await;
    // THEN the other one has lost rows, and ours has lost none and none of their updates
    let missing = "from events e where not exists (select from by_max m where m.id = e.id)";
    let lost = site.numbers(Side::Source, ["count(*)"], missing).await[0];
    assert!(
        runs > 3 && lost > 0,
        "{runs} runs, {lost} lost by the other"
    );
    assert_equal(&site).await;
}

/// The history, and what goes on where it ends.
pub(crate) const CONTINUED: &str = "\
steps:
  history:
    strategy: {type: backfill, end: now}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    partition: {by: calendar, column: at, grain: month, tz: UTC}
    write: {mode: append}
  live:
    strategy: {type: incremental, cursor: at, continues: history}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    write: {mode: merge}
";

#[tokio::test]
async fn history_and_live_meet_without_gap_or_overlap() {
    for engine in BOTH {
        // GIVEN a history that is appended, and a writer that never stops
        let site = growing(engine).await;
        site.write_pipeline(CONTINUED);
        let now = match engine {
            Engine::Postgres => "now()",
            Engine::Sqlite => "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')",
        };
        let latest = std::cell::Cell::new(5_000_i64);
        let write = async || {
            loop {
                let id = latest.get();
                latest.set(id + 1);
                let add = format!("insert into events values ({id}, {now}, 1, 'new')");
                let update = format!(
                    "update events set at = {now}, note = 'again' where id = {}",
                    id % 1_999 + 1
                );
                site.execute(Side::Source, &add).await;
                site.execute(Side::Source, &update).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // WHEN history and live run again and again, the first time both from nothing
        for _ in 0..3 {
            let run = tokio::select! {
                run = site.run() => run,
                () = write() => unreachable!("it never stops"),
            };
            assert_exit(&run, 0);
        }
        // THEN the history was loaded once, and what came later by the window alone
        let from = format!(
            "from {} where state = 'C' and stream_id like '%/history/%'",
            site.ledger("task")
        );
        let [loaded, distinct] = site
            .numbers(
                Side::Target,
                ["count(*)", "count(distinct range_start)"],
                &from,
            )
            .await;
        assert!(loaded > 20 && distinct + 1 >= loaded, "{loaded} {distinct}");
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn what_is_written_arrives_while_it_runs_every_second() {
    // GIVEN a step that runs every second
    let site = growing(Engine::Postgres).await;
    let every = ["run", "pipeline.yaml", "--every", "1s"];
    let running = site.highwater(&every).await.start().unwrap();
    for id in 9_001..9_004 {
        // WHEN a row is written THEN it arrives
        let add = format!("insert into events (id, amount) values ({id}, 1)");
        site.execute(Side::Source, &add).await;
        let arrived = "from pg_class where relname = 'events'";
        until("the row", LIMIT, async || {
            if site.numbers(Side::Target, ["count(*)"], arrived).await == [0] {
                return Ok(None);
            }
            let from = format!("from events where id = {id}");
            Ok((site.numbers(Side::Target, ["count(*)"], &from).await == [1]).then_some(()))
        })
        .await
        .unwrap();
    }
    // AND the watermark is shown
    drop(running);
    let shown = site.finish(&["coverage", "pipeline.yaml"]).await;
    assert_exit(&shown, 0);
    assert_says(&shown.stdout, "watermark 20");
}

#[tokio::test]
async fn a_watermark_is_put_where_a_person_wants_it() {
    for engine in BOTH {
        let site = growing(engine).await;
        assert_exit(&site.run().await, 0);
        // GIVEN rows that are gone from the target, which nobody noticed
        let gone = "delete from events where id > 1900";
        site.execute(Side::Target, gone).await;
        // WHEN a person puts the watermark back THEN it says so, and the next run reads from there
        let set = [
            "watermarks",
            "set",
            "pipeline.yaml",
            "events",
            "2024-03-19T00:00:00Z",
            "--reason",
            "rows were deleted",
        ];
        assert_exit(&site.finish(&set).await, 6);
        let placed = site.finish(&[&set[..], &["-y"]].concat()).await;
        assert_exit(&placed, 0);
        assert_says(&placed.stdout, "events: 2024-03-19T00:00:00Z");
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
        // AND one that is taken away lets it read from the first row
        site.execute(Side::Target, "delete from events where id < 10")
            .await;
        let reset = ["watermarks", "reset", "pipeline.yaml", "events", "-y"];
        let reset = site
            .finish(&[&reset[..], &["--reason", "more"]].concat())
            .await;
        assert_exit(&reset, 0);
        assert_says(&reset.stdout, "no step has a watermark");
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
        let shown = site
            .finish(&["watermarks", "show", "pipeline.yaml", "events"])
            .await;
        assert_says(&shown.stdout, "events: 20");
    }
}
