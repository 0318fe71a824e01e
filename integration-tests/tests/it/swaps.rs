//! A table that is loaded beside the one that is read, and takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_integration_tests::Finished;

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

/// A pipeline that swaps `events`, in parts, with more words in its strategy.
pub(crate) fn pipeline(from: &str, more: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {{type: swap{more}}}\n    from: {{connection: source, \
         table: {from}}}\n    to: {{connection: target, table: events}}\n    partition: {{by: \
         integer, column: id, width: 250}}\n    retries: {{initial: 10ms, max: 10ms, max_attempts: \
         3}}\n"
    )
}

pub(crate) async fn swapping() -> Site {
    let site = Site::empty(Engine::Postgres).await;
    site.make_events("not null").await;
    site.write_pipeline(&pipeline("events", ""));
    site
}

pub(crate) async fn swap(site: &Site) -> Finished {
    site.finish(&["run", "pipeline.yaml", "--new"]).await
}

pub(crate) async fn assert_equal(site: &Site) {
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
}

/// The tables that a swap has made or kept.
pub(crate) async fn left(site: &Site) -> Vec<String> {
    let from = "from pg_class where relkind = 'r' and relname like '\\_highwater\\_%' order by 1";
    site.texts(Side::Target, "left(relname, 14)", from).await
}

#[tokio::test]
async fn a_swapped_table_is_the_source_and_keeps_what_hangs_on_it() {
    // GIVEN no table WHEN it is swapped THEN it is there, whole, with its key
    let site = swapping().await;
    let first = site.run().await;
    assert_exit(&first, 0);
    assert_equal(&site).await;
    let keyed = "from pg_index where indrelid = 'events'::regclass and indisprimary";
    assert_eq!(site.numbers(Side::Target, ["count(*)"], keyed).await, [1]);
    // AND with a view, a grant, an index and a child it is swapped again, as one that has them
    site.execute(
        Side::Target,
        "create view recent as select id, note from events where id > 10; \
         create role reader; grant select on events to reader; \
         create index events_note on events (note); \
         create table child (event bigint references events); \
         insert into child select id from events where id <= 10",
    )
    .await;
    site.execute(
        Side::Source,
        "update events set note = 'changed' where id between 100 and 199; \
         delete from events where id > 1990; \
         insert into events values (9000, '2024-03-02T00:00:00Z', 7, 'new')",
    )
    .await;
    assert_exit(&swap(&site).await, 0);
    assert_equal(&site).await;
    let one = async |select: &str, from: &str| site.numbers(Side::Target, [select], from).await[0];
    assert_eq!(
        one("count(*)", "from recent where note = 'changed'").await,
        100
    );
    let granted = "from information_schema.role_table_grants where grantee = 'reader' and \
                   table_name = 'events'";
    assert_eq!(one("count(*)", granted).await, 1);
    let index = "from pg_indexes where tablename = 'events' and indexname = 'events_note'";
    assert_eq!(one("count(*)", index).await, 1);
    let valid = "from pg_constraint where conrelid = 'child'::regclass and confrelid = \
                 'events'::regclass and convalidated";
    assert_eq!(one("count(*)", valid).await, 1);
    // AND the table before it is kept, and no other
    assert_eq!(left(&site).await, ["_highwater_old"]);
    assert_exit(&swap(&site).await, 0);
    assert_eq!(left(&site).await, ["_highwater_old"]);
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_swap_leaves_one_table_and_no_orphan() {
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    for (strike, no) in [
        "attempt::after_prepare",
        "attempt::before_guard=2*off->1*return(abort)",
        "attempt::before_build",
        "attempt::after_build",
        "attempt::after_begin=8*off->1*return(abort)",
        "attempt::before_guard=8*off->1*return(abort)",
        "attempt::before_commit=8*off->1*return(abort)",
        "attempt::after_commit=8*off->1*return(abort)",
        "attempt::before_close",
    ]
    .into_iter()
    .zip(1..)
    {
        // GIVEN a source that has changed, and a run whose process dies at one of its steps
        let change = format!("update events set note = 'change {no}' where id <= 100");
        site.execute(Side::Source, &change).await;
        let strike = match strike.contains('=') {
            true => strike.to_owned(),
            false => format!("{strike}=1*return(abort)"),
        };
        let died = site
            .highwater(&["run", "pipeline.yaml", "--new"])
            .await
            .failpoints(&strike)
            .run(LIMIT)
            .await
            .unwrap();
        assert!(!died.status.success(), "{strike}: {}", died.stdout);
        // THEN who reads sees the old table or the new one
        let [rows, texts] = site
            .numbers(
                Side::Target,
                ["count(*)", "count(distinct note)"],
                "from events where id <= 100",
            )
            .await;
        assert_eq!((rows, texts > 0), (100, true), "{strike}");
        // WHEN the run goes on THEN the new one is there, and nothing is left beside the one before
        let again = site.run().await;
        assert_exit(&again, 0);
        assert_equal(&site).await;
        assert_eq!(left(&site).await, ["_highwater_old"], "{strike}");
    }
}

#[tokio::test]
async fn the_shadow_of_a_run_that_was_given_up_is_dropped_by_the_next() {
    let site = swapping().await;
    let feed = async |amount: &str| {
        let view = format!(
            "create or replace view feed as select id, at, {amount} as amount, note from events"
        );
        site.execute(Side::Source, &view).await;
    };
    feed("amount").await;
    site.write_pipeline(&pipeline("feed", ""));
    assert_exit(&site.run().await, 0);
    // GIVEN a run that has loaded a part of its shadow and failed
    feed("(amount / (id - 1900))::numeric(12,2)").await;
    assert_exit(&swap(&site).await, 3);
    assert_eq!(left(&site).await, ["_highwater_new", "_highwater_old"]);
    // AND one that is cancelled in the midst of it
    feed("amount").await;
    let died = site
        .highwater(&["run", "pipeline.yaml", "--new"])
        .await
        .failpoints("attempt::before_build=1*return(abort)")
        .run(LIMIT)
        .await
        .unwrap();
    assert!(!died.status.success());
    let name = site.status().await["pipeline"].as_str().unwrap().to_owned();
    let cancel = ["cancel", &name, "--reason", "a test", "-y"];
    assert_exit(&site.finish(&cancel).await, 0);
    // THEN the first one's is gone by now, and the next run drops the other
    assert_eq!(left(&site).await, ["_highwater_new", "_highwater_old"]);
    assert_exit(&swap(&site).await, 0);
    assert_equal(&site).await;
    assert_eq!(left(&site).await, ["_highwater_old"]);
}

#[tokio::test]
async fn swap_with_a_blocked_lock_gives_up_and_keeps_the_old_table() {
    // GIVEN somebody who reads the table and does not end
    let site = swapping().await;
    site.write_pipeline(&pipeline("events", ", lock_timeout: 50ms"));
    assert_exit(&site.run().await, 0);
    site.execute(Side::Source, "update events set note = 'later'")
        .await;
    let mut reader = site.server().connect("target").await.unwrap();
    sqlx::raw_sql("begin; select count(*) from events")
        .execute(&mut reader)
        .await
        .unwrap();
    // WHEN it is swapped THEN others read the old table meanwhile
    let run = site
        .highwater(&["run", "pipeline.yaml", "--new", "-v"])
        .await;
    let mut running = run.start().unwrap();
    running.until_stderr_holds("swap_blocked", LIMIT).await.ok();
    for _ in 0..20 {
        let later = "from events where note = 'later'";
        assert_eq!(site.numbers(Side::Target, ["count(*)"], later).await, [0]);
    }
    assert!(running.ended().unwrap().is_none());
    // AND once he ends it goes through
    sqlx::raw_sql("commit").execute(&mut reader).await.unwrap();
    assert!(running.wait(LIMIT).await.unwrap().success());
    assert_equal(&site).await;
}

#[tokio::test]
async fn swap_under_readers_never_shows_a_missing_table_or_a_mix() {
    let site = Arc::new(swapping().await);
    assert_exit(&site.run().await, 0);
    site.execute(Side::Target, "create view seen as select * from events")
        .await;
    let of = ["count(*)", "count(distinct note)"];
    let before = site.numbers(Side::Target, of, "from events").await;
    let done = Arc::new(AtomicBool::new(false));
    let readers = ["from events", "from seen"].map(|from| {
        let (site, done) = (Arc::clone(&site), Arc::clone(&done));
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                seen.push(site.numbers(Side::Target, of, from).await);
            }
            seen
        })
    });
    for text in ["a", "bb", "ccc"] {
        site.execute(Side::Source, &format!("update events set note = '{text}'"))
            .await;
        assert_exit(&swap(&site).await, 0);
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let seen = reader.await.unwrap();
        assert!(seen.len() > 3, "{seen:?}");
        let is_whole = |found: &[i64; 2]| *found == before || *found == [ROWS, 1];
        assert!(seen.iter().all(is_whole), "{before:?} {seen:?}");
    }
}

#[tokio::test]
async fn a_swap_that_would_lose_something_is_refused() {
    // GIVEN a materialized view, which would stay with the old table
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Target,
        "create materialized view monthly as select count(*) as n from events",
    )
    .await;
    let refused = swap(&site).await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "monthly");
    site.execute(Side::Target, "drop materialized view monthly")
        .await;
    // GIVEN a source that has lost its rows THEN the old ones stay
    site.execute(Side::Source, "delete from events").await;
    let refused = swap(&site).await;
    assert_says(&refused.stdout, "empty_source");
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], "from events")
            .await,
        [ROWS]
    );
    site.write_pipeline(&pipeline("events", ", allow_empty: true"));
    assert_exit(&swap(&site).await, 0);
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], "from events")
            .await,
        [0]
    );
}

#[tokio::test]
async fn somebody_elses_rows_in_the_shadow_are_not_published() {
    // GIVEN a run that has loaded its shadow, and somebody who adds a row to it
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    site.execute(Side::Source, "update events set note = 'later'")
        .await;
    let died = site
        .highwater(&["run", "pipeline.yaml", "--new"])
        .await
        .failpoints("attempt::before_build=1*return(abort)")
        .run(LIMIT)
        .await
        .unwrap();
    assert!(!died.status.success());
    site.execute(
        Side::Target,
        "do $$ begin execute (select 'insert into ' || relname || ' select id + 100000, at, amount, \
         note from events limit 1' from pg_class where relname like '\\_highwater\\_new\\_%' and relkind = 'r'); end $$",
    )
    .await;
    // WHEN the run goes on THEN it publishes nothing and says why
    let refused = site.run().await;
    assert_ne!(refused.status.code(), Some(0));
    assert_says(&refused.stdout, "shadow_incomplete");
    let later = "from events where note = 'later'";
    assert_eq!(site.numbers(Side::Target, ["count(*)"], later).await, [0]);
}

#[tokio::test]
async fn a_target_without_an_exchange_is_refused_by_the_plan() {
    let site = Site::empty(Engine::Sqlite).await;
    site.make_events("not null").await;
    let table = site.events_table("not null", "");
    site.execute(Side::Target, &table).await;
    site.write_pipeline(&pipeline("events", ""));
    let refused = site.run().await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "full_refresh");
}
