//! The exchange of two tables backwards, by a person's word.

use highwater_integration_tests::cluster::{Cluster, ClusterOptions};
use highwater_integration_tests::{Digest, Finished};
use serde_json::Value;

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};
use crate::swaps::{assert_equal, left, pipeline, swap, swapping};

const UNDO: [&str; 4] = ["swap", "undo", "pipeline.yaml", "events"];

async fn undo(site: &Site) -> Finished {
    site.finish(&[&UNDO[..], &["-y"]].concat()).await
}

async fn target(site: &Site) -> Digest {
    site.digests().await.1
}

/// The target's number of rows with this note.
async fn noted(site: &Site, note: &str) -> i64 {
    let from = format!("from events where note = '{note}'");
    site.numbers(Side::Target, ["count(*)"], &from).await[0]
}

/// A table that was swapped, and swapped once more with every note `bad`.
async fn badly_swapped() -> Site {
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    let bad = "update events set note = 'bad'";
    site.execute(Side::Source, bad).await;
    assert_exit(&swap(&site).await, 0);
    assert_eq!(noted(&site, "bad").await, ROWS);
    site
}

fn told(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

#[tokio::test]
async fn undo_brings_the_old_table_back_with_all_of_it() {
    // GIVEN a table with what may hang on one, which a swap has filled with what nobody wants
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Target,
        "create view recent as select id, note from events where id > 10; \
         create role reader; grant select on events to reader; \
         create index events_note on events (note); \
         comment on table events is 'what happened'; \
         create table child (event bigint references events); \
         insert into child select id from events where id <= 10",
    )
    .await;
    let before = target(&site).await;
    site.execute(Side::Source, "update events set note = 'bad'")
        .await;
    assert_exit(&swap(&site).await, 0);
    let bad = target(&site).await;
    assert_ne!(before, bad);
    // WHEN it is undone without a yes THEN nothing happens
    assert_exit(&site.finish(&UNDO).await, 6);
    assert_eq!(target(&site).await, bad);
    // WHEN it is undone
    let undone = site
        .finish(&[&UNDO[..], &["-y", "-o", "json"]].concat())
        .await;
    assert_exit(&undone, 0);
    let document: Value = serde_json::from_str(&undone.stdout).unwrap();
    assert_eq!(document["schema"], "swap/v1");
    assert_eq!(document["undone"]["table"], "public.events");
    // THEN the table before is read, by its name and by what hangs on it
    assert_eq!(target(&site).await, before);
    let one = async |select: &str, from: &str| site.numbers(Side::Target, [select], from).await[0];
    assert_eq!(one("count(*)", "from recent").await, ROWS - 10);
    assert_eq!(one("count(*)", "from recent where note = 'bad'").await, 0);
    for (what, from) in [
        (
            "grant",
            "from information_schema.role_table_grants where grantee = 'reader' and table_name = \
             'events'",
        ),
        (
            "index",
            "from pg_indexes where tablename = 'events' and indexname = 'events_note'",
        ),
        (
            "comment",
            "from pg_description where objoid = 'events'::regclass and objsubid = 0 and \
             description = 'what happened'",
        ),
        (
            "key",
            "from pg_constraint where conrelid = 'child'::regclass and confrelid = \
             'events'::regclass and convalidated",
        ),
    ] {
        assert_eq!(one("count(*)", from).await, 1, "{what}");
    }
    assert_eq!(left(&site).await, ["_highwater_old"]);
    // AND no receipt speaks of the table that left
    assert_eq!(site.tasks('C').await, 0);
    // WHEN it is undone once more THEN the other one is back
    let again = undo(&site).await;
    assert_exit(&again, 0);
    assert_says(&again.stdout, "is read as public.events again");
    assert_eq!(target(&site).await, bad);
    // AND the next run exchanges as ever, and leaves one table
    site.execute(Side::Source, "update events set note = 'good'")
        .await;
    assert_exit(&undo(&site).await, 0);
    assert_exit(&swap(&site).await, 0);
    assert_equal(&site).await;
    assert_eq!(left(&site).await, ["_highwater_old"]);
}

#[tokio::test]
async fn an_undo_without_a_table_to_bring_back_is_refused() {
    // GIVEN a step that has never run, or whose kept table somebody has dropped
    let site = swapping().await;
    let refused = undo(&site).await;
    assert_exit(&refused, 7);
    assert_says(&told(&refused), "nothing_to_undo");
    assert!(!site.has_ledger().await);
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Target,
        "do $$ begin execute (select 'drop table ' || relname from pg_class where relname like \
         '\\_highwater\\_old\\_%' and relkind = 'r'); end $$",
    )
    .await;
    let refused = undo(&site).await;
    assert_exit(&refused, 7);
    assert_says(&told(&refused), "by a new run");
    // AND one of another strategy, or that is not there
    assert_exit(
        &site
            .finish(&["swap", "undo", "pipeline.yaml", "other", "-y"])
            .await,
        4,
    );
    let refreshed = "steps:\n  events:\n    strategy: full_refresh\n    from: {connection: source, \
                     table: events}\n    to: {connection: target, table: events}\n";
    site.write_pipeline(refreshed);
    let refused = undo(&site).await;
    assert_exit(&refused, 6);
    assert_says(&told(&refused), "no `swap`");
}

#[tokio::test]
async fn an_undo_is_refused_once_another_stream_has_written_the_table() {
    // GIVEN a step that has appended to the table since it was swapped
    let site = badly_swapped().await;
    site.execute(
        Side::Source,
        "create table extra (like events including all); \
         insert into extra select id + 10000, at, amount, note from events where id <= 10",
    )
    .await;
    let append = "steps:\n  more:\n    strategy: {type: backfill}\n    from: {connection: source, \
                  table: extra}\n    to: {connection: target, table: events}\n    partition: {by: \
                  integer, column: id, width: 10000}\n    write: {mode: append}\n";
    site.write_pipeline(append);
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_eq!(noted(&site, "bad").await, ROWS + 10);
    // WHEN the swap before it is to be undone THEN its rows stay
    site.write_pipeline(&pipeline("events", ""));
    let refused = undo(&site).await;
    assert_exit(&refused, 7);
    assert_says(&told(&refused), "written_since");
    assert_says(&told(&refused), "events/more/");
    assert_eq!(noted(&site, "bad").await, ROWS + 10);
}

#[tokio::test]
async fn an_undo_is_refused_where_somebody_has_made_the_table_anew() {
    let site = badly_swapped().await;
    site.execute(
        Side::Target,
        "alter table events rename to away; create table events (like away including all); \
         insert into events select * from away",
    )
    .await;
    let refused = undo(&site).await;
    assert_exit(&refused, 7);
    assert_says(&told(&refused), "target_replaced");
    assert_eq!(noted(&site, "bad").await, ROWS);
}

#[tokio::test]
async fn an_undo_is_refused_while_a_run_is_under_way() {
    // GIVEN a run that stands still before it builds what its shadow lacks
    let site = badly_swapped().await;
    let run = site
        .highwater(&["run", "pipeline.yaml", "--new", "-v"])
        .await;
    let mut running = run
        .failpoints("attempt::before_build=1*return(stall 5000)")
        .start()
        .unwrap();
    let stands = running.until_stderr_holds("attempt::before_build struck", LIMIT);
    stands.await.unwrap();
    // WHEN it is to be undone THEN that is refused, and the run ends as ever
    let refused = undo(&site).await;
    assert_exit(&refused, 6);
    assert_says(&told(&refused), "is under way");
    assert!(running.wait(LIMIT).await.unwrap().success());
    assert_equal(&site).await;
    assert_exit(&undo(&site).await, 0);
}

#[tokio::test]
async fn a_crash_in_the_midst_of_an_undo_leaves_one_table_and_undoes_once() {
    let site = badly_swapped().await;
    let mut is_bad = true;
    for (strike, is_undone) in [
        ("undo::exchanged", false),
        ("undo::committed", true),
        ("attempt::after_undo", true),
    ] {
        // GIVEN an undo that dies
        let died = site
            .highwater(&[&UNDO[..], &["-y"]].concat())
            .await
            .failpoints(&format!("{strike}=1*return(abort)"))
            .run(LIMIT)
            .await
            .unwrap();
        assert!(!died.status.success(), "{strike}");
        let rows = |is_bad| if is_bad { ROWS } else { 0 };
        // THEN the one table is read or the other, and one is kept
        assert_eq!(
            noted(&site, "bad").await,
            rows(is_bad != is_undone),
            "{strike}"
        );
        assert_eq!(left(&site).await, ["_highwater_old"], "{strike}");
        // WHEN whoever asked asks again THEN it is undone, once
        assert_exit(&undo(&site).await, 0);
        is_bad = !is_bad;
        assert_eq!(noted(&site, "bad").await, rows(is_bad), "{strike}");
        assert_eq!(left(&site).await, ["_highwater_old"], "{strike}");
    }
}

#[tokio::test]
async fn a_run_whose_swap_was_undone_is_not_tried_again() {
    // GIVEN a run whose swap went through, and whose other step failed
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        "update events set note = 'bad'; \
         create view broken as select id, at, (amount / (id - 1900))::numeric(12,2) as amount, note \
         from events",
    )
    .await;
    let broken = "  broken:\n    strategy: full_refresh\n    from: {connection: source, table: \
                  broken}\n    to: {connection: target, table: broken}\n    retries: {initial: \
                  10ms, max: 10ms, max_attempts: 1}\n";
    site.write_pipeline(&format!("{}{broken}", pipeline("events", "")));
    assert_exit(&swap(&site).await, 3);
    assert_eq!(noted(&site, "bad").await, ROWS);
    let failed = site.status().await["short"].as_str().unwrap().to_owned();
    assert_exit(&undo(&site).await, 0);
    // WHEN it is tried again THEN that is refused, with the way on, and the old rows stay
    let refused = site.finish(&["retry", &failed]).await;
    assert_exit(&refused, 6);
    assert_says(&told(&refused), "has undone a swap of step `events`");
    assert_eq!(noted(&site, "bad").await, 0);
    // AND a new run loads both, for it believes nothing of what was undone
    site.execute(
        Side::Source,
        "create or replace view broken as select id, at, amount, note from events; \
         update events set note = 'good'",
    )
    .await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], "from broken")
            .await,
        [ROWS]
    );
}

#[tokio::test]
async fn an_undo_waits_for_whoever_reads_and_keeps_nobody_else_waiting() {
    let site = badly_swapped().await;
    site.write_pipeline(&pipeline("events", ", lock_timeout: 50ms"));
    let mut reader = site.server().connect("target").await.unwrap();
    sqlx::raw_sql("begin; select count(*) from events")
        .execute(&mut reader)
        .await
        .unwrap();
    let undo = site.highwater(&[&UNDO[..], &["-y", "-v"]].concat()).await;
    let mut running = undo.start().unwrap();
    running.until_stderr_holds("swap_blocked", LIMIT).await.ok();
    for _ in 0..20 {
        assert_eq!(noted(&site, "bad").await, ROWS);
    }
    assert!(running.ended().unwrap().is_none());
    sqlx::raw_sql("commit").execute(&mut reader).await.unwrap();
    assert!(running.wait(LIMIT).await.unwrap().success());
    assert_eq!(noted(&site, "bad").await, 0);
}

#[tokio::test]
async fn a_target_without_an_exchange_has_nothing_to_undo() {
    let site = Site::empty(Engine::Sqlite).await;
    site.make_events("not null").await;
    site.write_pipeline(&pipeline("events", ""));
    assert_exit(&undo(&site).await, 7);
}

#[tokio::test]
async fn a_cluster_undoes_and_cleans_by_its_workers() {
    // GIVEN a cluster whose worker has swapped a table twice
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let mut conn = cluster.source.connect("postgres").await.unwrap();
    let rates =
        "create table rates as select i as id, 'good' as note from generate_series(1, 50) i";
    sqlx::raw_sql(rates).execute(&mut conn).await.unwrap();
    let swapping = "version: 1\nname: rates\nconnections:\n  source: {type: postgres, url: \
                    \"${env:SOURCE_URL}\"}\n  target: {type: postgres, url: \
                    \"${env:TARGET_URL}\"}\nsteps:\n  rates:\n    strategy: swap\n    from: \
                    {connection: source, table: rates}\n    to: {connection: target, table: rates}\n";
    cluster.submit(swapping).await.unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    let bad = sqlx::raw_sql("update rates set note = 'bad'");
    bad.execute(&mut conn).await.unwrap();
    cluster.submit(swapping).await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    let bad = "select count(*) from rates where note = 'bad'";
    assert_eq!(cluster.number(bad).await.unwrap(), 50);
    // WHEN it is undone THEN the rows before are read
    let file = cluster.file("pipeline.yaml", swapping).unwrap();
    let file = file.to_str().unwrap();
    let undone = ["swap", "undo", file, "rates", "-y"];
    let undone = cluster.highwater(0, undone, LIMIT).await.unwrap();
    assert_exit(&undone, 0);
    assert_eq!(cluster.number(bad).await.unwrap(), 0);
    assert_eq!(
        cluster.number("select count(*) from rates").await.unwrap(),
        50
    );
    // AND what is kept now goes when that is said
    let cleaned = ["swap", "clean", file, "--kept", "-y"];
    let cleaned = cluster.highwater(0, cleaned, LIMIT).await.unwrap();
    assert_exit(&cleaned, 0);
    let kept =
        "select count(*) from pg_class where relname like '\\_highwater\\_old%' and relkind = 'r'";
    assert_eq!(cluster.number(kept).await.unwrap(), 0);
}
