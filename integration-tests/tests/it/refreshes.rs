//! A table that is replaced whole, at one instant: whoever reads it sees the old rows or the new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

/// A pipeline that refreshes `events` from a table of the source, with more words in its strategy.
fn pipeline(from: &str, more: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {{type: full_refresh{more}}}\n    from: {{connection: \
         source, table: {from}}}\n    to: {{connection: target, table: events}}\n    retries: \
         {{initial: 10ms, max: 10ms, max_attempts: 2}}\n"
    )
}

async fn refreshing(engine: Engine) -> Site {
    let site = Site::empty(engine).await;
    site.make_events("not null").await;
    site.write_pipeline(&pipeline("events", ""));
    site
}

/// Refreshes once more.
async fn refresh(site: &Site) -> highwater_integration_tests::Finished {
    site.finish(&["run", "pipeline.yaml", "--new"]).await
}

async fn assert_equal(site: &Site) {
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
}

async fn rows(site: &Site) -> i64 {
    site.numbers(Side::Target, ["count(*)"], "from events")
        .await[0]
}

#[tokio::test]
async fn a_key_that_left_the_source_leaves_the_target() {
    for engine in BOTH {
        // GIVEN a target that was refreshed once, from nothing
        let site = refreshing(engine).await;
        let first = site.run().await;
        assert_exit(&first, 0);
        assert_equal(&site).await;
        // WHEN rows of the source are changed, added and deleted, and two trade their ids
        site.execute(
            Side::Source,
            "update events set note = 'changed' where id between 100 and 199; \
             delete from events where id > 1990; \
             insert into events values (9000, '2024-03-02T00:00:00Z', 7, 'new'); \
             update events set id = -1 where id = 1; update events set id = 1 where id = 2; \
             update events set id = 2 where id = -1",
        )
        .await;
        assert_exit(&refresh(&site).await, 0);
        // THEN the target is the source again, and one run after the other has a receipt
        assert_equal(&site).await;
        assert_eq!(site.tasks('C').await, 2);
        // AND a table that was emptied or dropped is simply made and filled again
        for damage in ["delete from events", "drop table events"] {
            site.execute(Side::Target, damage).await;
            assert_exit(&refresh(&site).await, 0);
            assert_equal(&site).await;
        }
    }
}

#[tokio::test]
async fn readers_never_see_an_empty_table() {
    for engine in BOTH {
        let site = Arc::new(refreshing(engine).await);
        assert_exit(&site.run().await, 0);
        let of = ["count(*)", "count(distinct note)", "min(length(note))"];
        let before = site.numbers(Side::Target, of, "from events").await;
        // GIVEN somebody who reads the target all the time
        let done = Arc::new(AtomicBool::new(false));
        let reader = {
            let (site, done) = (Arc::clone(&site), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    seen.push(site.numbers(Side::Target, of, "from events").await);
                }
                seen
            })
        };
        // WHEN it is refreshed again and again, each time with one other text in all rows
        for text in ["a", "bb", "ccc"] {
            site.execute(Side::Source, &format!("update events set note = '{text}'"))
                .await;
            assert_exit(&refresh(&site).await, 0);
        }
        done.store(true, Ordering::Relaxed);
        // THEN all rows were always there, and never those of two refreshes
        let seen = reader.await.unwrap();
        assert!(seen.len() > 3, "{seen:?}");
        let is_whole = |found: &[i64; 3]| *found == before || found[..2] == [ROWS, 1];
        assert!(seen.iter().all(is_whole), "{before:?} {seen:?}");
    }
}

#[tokio::test]
async fn an_empty_source_does_not_erase_the_target() {
    for engine in BOTH {
        let site = refreshing(engine).await;
        assert_exit(&site.run().await, 0);
        // GIVEN a source that has lost more than half of its rows, and then all of them
        for (damage, code, leave) in [
            (
                "delete from events where id > 900",
                "shrunk_source",
                "allow_shrink",
            ),
            ("delete from events", "empty_source", "allow_empty"),
        ] {
            site.execute(Side::Source, damage).await;
            site.write_pipeline(&pipeline("events", ""));
            let before = rows(&site).await;
            // WHEN it is refreshed THEN the step fails, says why and how, and the rows stay
            let refused = refresh(&site).await;
            assert_exit(&refused, 7);
            assert_says(&refused.stdout, code);
            assert_says(&refused.stdout, leave);
            assert_eq!(rows(&site).await, before);
            // AND with the leave the pipeline file can give they go
            site.write_pipeline(&pipeline("events", &format!(", {leave}: true")));
            assert_exit(&refresh(&site).await, 0);
            assert_equal(&site).await;
        }
        assert_eq!(rows(&site).await, 0);
    }
}

#[tokio::test]
async fn a_source_that_dies_halfway_leaves_the_old_rows() {
    for engine in BOTH {
        // GIVEN a source one of whose later rows cannot be read
        let site = refreshing(engine).await;
        assert_exit(&site.run().await, 0);
        let (target, _) = site.fingerprint().await;
        let broken = match engine {
            Engine::Postgres => "(amount / (id - 1900))::numeric(12,2)",
            Engine::Sqlite => "case id when 1900 then abs(-9223372036854775808) else amount end",
        };
        let view = format!(
            "create view broken as select id, at, {broken} as amount, 'new' as note from \
                 events"
        );
        site.execute(Side::Source, &view).await;
        site.write_pipeline(&pipeline("broken", ""));
        // WHEN it is refreshed THEN the step fails, and not one row of the target was touched
        let died = refresh(&site).await;
        assert_exit(&died, 7);
        assert_says(&died.stdout, "dead events[publish]");
        assert_eq!(site.fingerprint().await.0, target);
    }
}

#[tokio::test]
async fn a_publish_that_dies_is_never_tolerated() {
    for engine in BOTH {
        // GIVEN a step that tolerates dead tasks, and a target that takes no row
        let site = refreshing(engine).await;
        let table = site.events_table("not null", ", check (id < 0)");
        site.execute(Side::Target, &table).await;
        let tolerant = format!("{}    tolerate: {{dead: 10}}\n", pipeline("events", ""));
        site.write_pipeline(&tolerant);
        // WHEN it is refreshed THEN the run fails all the same
        assert_exit(&site.run().await, 7);
        assert_eq!(site.status().await["status"], "failed");
    }
}

#[tokio::test]
async fn a_retry_of_an_older_refresh_publishes_nothing() {
    for engine in BOTH {
        // GIVEN a refresh that failed, and a newer one that did not
        let site = refreshing(engine).await;
        let table = site.events_table("not null", ", check (note <> 'bad')");
        site.execute(Side::Target, &table).await;
        site.execute(Side::Source, "update events set note = 'bad' where id = 7")
            .await;
        assert_exit(&site.run().await, 7);
        let older = site.status().await;
        site.execute(Side::Source, "update events set note = 'good' where id = 7")
            .await;
        assert_exit(&refresh(&site).await, 0);
        let newest = site.fingerprint().await;
        site.execute(
            Side::Source,
            "update events set note = 'later' where id = 7",
        )
        .await;
        // WHEN the older one is tried again THEN that is refused, and nothing has changed
        let retried = site
            .finish(&["retry", older["short"].as_str().unwrap()])
            .await;
        assert_exit(&retried, 6);
        assert_says(&retried.stderr, "is superseded");
        assert_eq!(site.fingerprint().await, newest);
    }
}

#[tokio::test]
async fn a_publish_in_place_never_cascades() {
    // GIVEN a table that another one points to, whose rows would go with those they point to
    let site = refreshing(Engine::Postgres).await;
    assert_exit(&site.run().await, 0);
    let child = "create table child (event bigint references events on delete cascade); \
                 insert into child select id from events where id <= 10";
    site.execute(Side::Target, child).await;
    let children = async || {
        site.numbers(
            Side::Target,
            ["count(*)"],
            "from child where event is not null",
        )
        .await[0]
    };
    // WHEN the table is refreshed THEN the plan refuses that by the key's name
    for on_delete in [
        "cascade",
        "set null",
        "set default",
        "restrict",
        "no action",
    ] {
        let make = format!(
            "alter table child drop constraint child_event_fkey; alter table child add foreign \
             key (event) references events on delete {on_delete}"
        );
        site.execute(Side::Target, &make).await;
        let refused = refresh(&site).await;
        assert_exit(&refused, 7);
        assert_says(&refused.stdout, "child_event_fkey");
        assert_eq!(children().await, 10);
    }
    // AND one that waits for the commit finds the rows there again
    let wait = "alter table child drop constraint child_event_fkey; alter table child add foreign \
                key (event) references events deferrable";
    site.execute(Side::Target, wait).await;
    assert_exit(&refresh(&site).await, 0);
    assert_eq!(children().await, 10);
    // AND fails the step where they are not
    site.execute(Side::Source, "delete from events where id = 3")
        .await;
    assert_exit(&refresh(&site).await, 7);
    assert_eq!((rows(&site).await, children().await), (ROWS, 10));
}

#[tokio::test]
async fn a_refresh_of_a_table_without_a_key_is_as_exact() {
    for engine in BOTH {
        // GIVEN rows that are there twice
        let site = Site::empty(engine).await;
        let make = "create table doubles (n integer); insert into doubles values (1), (1), (null)";
        site.execute(Side::Source, make).await;
        let steps = pipeline("doubles", "").replace("table: events", "table: doubles");
        site.write_pipeline(&steps);
        // WHEN the table is refreshed, by a process that dies before it knows that it committed
        let strike = "attempt::after_commit=1*return(abort)";
        let died = site.start(strike).await.wait(LIMIT).await.unwrap();
        assert!(!died.success());
        assert_exit(&site.run().await, 0);
        assert_exit(&refresh(&site).await, 0);
        // THEN they are there twice, not four times
        let found = site
            .numbers(
                Side::Target,
                ["count(*)", "count(n)", "sum(n)"],
                "from doubles",
            )
            .await;
        assert_eq!(found, [3, 2, 2]);
    }
}

#[tokio::test]
async fn what_the_page_about_strategies_shows_runs() {
    let page = include_str!("../../../docs/strategies.md");
    let examples: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() > 1);
    for engine in BOTH {
        let site = refreshing(engine).await;
        for example in &examples {
            site.write_pipeline(example);
            let name = example.lines().nth(1).unwrap().trim().trim_end_matches(':');
            let ended = refresh(&site).await;
            if engine == Engine::Sqlite && example.contains("cdc") {
                assert_says(&ended.stderr, "not supported yet");
                continue;
            }
            if engine == Engine::Sqlite && example.contains("swap") {
                assert_exit(&ended, 7);
                continue;
            }
            assert_exit(&ended, 0);
            let from = format!("from {name}");
            let rows = match example.contains("strategy: sql") {
                true => 1,
                false => ROWS,
            };
            assert_eq!(
                site.numbers(Side::Target, ["count(*)"], &from).await,
                [rows]
            );
        }
    }
}
