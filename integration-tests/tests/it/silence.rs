//! A host falls silent: packets are dropped, nothing is closed, and nobody is told.

use std::time::Duration;

use highwater_integration_tests::{Signal, until};
use sqlx::Connection as _;

use crate::site::{DAYS, Engine, Side, Site, assert_says};

/// How long an attempt may move nothing here.
const STALL: &str = "    limits: {stall: 3s}\n";
/// How long a run may take that has to wait for a claim without an answer as well, in the worst
/// case.
const SILENT_LIMIT: Duration = Duration::from_secs(300);
/// Keeps each attempt busy with its rows for a while, so that the silence meets it there.
const SLOW: &str = "attempt::reading=sleep(700)";

async fn site() -> Site {
    let site = Site::with_events(Engine::Postgres, "{mode: append}").await;
    let path = site.path("pipeline.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}{STALL}")).unwrap();
    site
}

#[tokio::test]
async fn a_silent_host_is_given_up_by_the_watchdog() {
    for (variable, side) in [("TARGET_URL", Side::Target), ("SOURCE_URL", Side::Source)] {
        // GIVEN a run in the midst of its tasks, over a line, and of its attempts one that waits
        // for an answer
        let mut site = site().await;
        let line = site.draw_line(variable, side).await;
        let mut run = site.start(SLOW).await;
        site.until_committed(3).await;
        let held = site.hold_events_until_waited_for(side).await;
        // WHEN the line falls silent with its ends open, and lets new connections through
        line.silence();
        held.close().await.unwrap();
        // THEN the run gives the silent ones up, ends well, and every row is there once
        let ended = run.wait(SILENT_LIMIT).await.unwrap();
        let said = run.stderr().unwrap();
        assert_eq!(ended.code(), Some(0), "{side:?}: {said}");
        site.assert_copied_once(DAYS).await;
        // AND it was the watchdog that did
        let logs = site.finish(&["logs", "events"]).await;
        let told = format!("{}{}{said}", logs.stdout, logs.stderr);
        assert!(
            told.contains("limits.stall") || told.contains("stalled"),
            "{side:?}: {told}"
        );
    }
}

#[tokio::test]
async fn a_host_that_falls_silent_while_it_builds_is_given_up() {
    // GIVEN a run whose target builds an index that takes longer than anybody waits
    let mut site = Site::empty(Engine::Postgres).await;
    let line = site.draw_line("TARGET_URL", Side::Target).await;
    let sql = "create function f(integer) returns integer language sql immutable as 'select $1';
        create table t (id integer primary key); create index t_f on t (f(id));
        insert into t select generate_series(1, 100)";
    site.execute(Side::Source, sql).await;
    let slow = "create function f(integer) returns integer language plpgsql immutable as
        'begin perform pg_sleep(0.1); return $1; end'";
    site.execute(Side::Target, slow).await;
    site.write_pipeline(&format!(
        "steps:\n  t:\n    strategy: backfill\n    from: {{connection: source, table: t}}\n    to: \
         {{connection: target, table: t}}\n    partition: {{by: integer, column: id, width: 50}}\n    \
         write: {{mode: append}}\n{STALL}",
    ));
    let mut run = site.start("").await;
    let building = "from pg_stat_activity where state = 'active' and query like 'create index%'";
    until("the index to be built", SILENT_LIMIT, async || {
        let building = site.numbers(Side::Target, ["count(*)"], building).await;
        Ok((building == [1]).then_some(()))
    })
    .await
    .unwrap();
    // WHEN the line falls silent with its ends open, and lets new connections through
    line.silence();
    // THEN it is waited for as long as the server is seen at work, and then given up
    let quick = slow.replace("create", "create or replace");
    site.execute(Side::Target, &quick.replace("0.1", "0")).await;
    let told = "target is unreachable since";
    until(told, SILENT_LIMIT, async || {
        Ok(run.stderr()?.contains(told).then_some(()))
    })
    .await
    .unwrap();
    // AND once the server has noticed, too, the next attempt builds it
    let noticed = "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in \
                   transaction' and query like 'create index%'";
    site.execute(Side::Target, noticed).await;
    assert!(run.wait(SILENT_LIMIT).await.unwrap().success());
    let built = "from pg_index where indrelid = 't'::regclass and indisvalid";
    assert_eq!(site.numbers(Side::Target, ["count(*)"], built).await, [2]);
}

#[tokio::test]
async fn a_drain_ends_though_a_host_is_silent() {
    // GIVEN a run in the midst of its tasks, whose target falls silent
    let mut site = site().await;
    let line = site.draw_line("TARGET_URL", Side::Target).await;
    let mut run = site.start(SLOW).await;
    site.until_committed(3).await;
    line.silence();
    // WHEN it is asked to drain
    run.signal(Signal::Int).unwrap();
    // THEN it ends, with what was open left for later
    let ended = run.wait(SILENT_LIMIT).await.unwrap();
    assert_eq!(ended.code(), Some(130), "{}", run.stderr().unwrap());
    // AND the next process copies the rest, each row once
    let finished = site
        .highwater(&["run", "pipeline.yaml"])
        .await
        .run(SILENT_LIMIT)
        .await
        .unwrap();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_says(&finished.stderr, "goes on");
    site.assert_copied_once(DAYS).await;
}
