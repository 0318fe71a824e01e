//! Rows that leave a source whose increments do not tell of it: they are found by their keys, and
//! old rows outlive doubt.

use std::time::Duration;

use highwater_integration_tests::until;

use crate::incremental::{BOTH, STEP, assert_equal, growing, until_safe};
use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const MARK: &str = "_highwater_deleted_at";

/// A table that was loaded by a step with these deletes, and is a chunk's rows many times.
async fn loaded(engine: Engine, deletes: &str) -> Site {
    let site = growing(engine).await;
    let write = format!("mode: merge, deletes: {deletes}");
    site.write_pipeline(&STEP.replace("mode: merge", &write));
    assert_exit(&site.run().await, 0);
    until_safe().await;
    site
}

async fn rows(site: &Site, only: &str) -> i64 {
    let from = format!("from events where {only}");
    site.numbers(Side::Target, ["count(*)"], &from).await[0]
}

fn row(engine: Engine, id: i64, note: &str) -> String {
    let now = match engine {
        Engine::Postgres => "now()",
        Engine::Sqlite => "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')",
    };
    format!("insert into events values ({id}, {now}, 7, '{note}')")
}

#[tokio::test]
async fn a_deleted_row_leaves_and_a_deleted_source_deletes_nothing() {
    for engine in BOTH {
        // GIVEN a table that was loaded
        let site = loaded(engine, "hard").await;
        assert_equal(&site).await;
        // WHEN rows are deleted, one comes, and one comes back under the key of another
        let delete = "delete from events where id % 10 = 3 or id > 1900";
        site.execute(Side::Source, delete).await;
        site.execute(Side::Source, &row(engine, 1_950, "back"))
            .await;
        until_safe().await;
        let told = site.run().await;
        // THEN they leave, and nothing else does
        assert_exit(&told, 0);
        assert_says(&told.stdout, "has no more are deleted");
        assert_equal(&site).await;
        // WHEN so many are deleted that nobody believes it THEN all stay, and the next run says so, too
        let before = rows(&site, "true").await;
        site.execute(Side::Source, "delete from events where id % 10 <> 1")
            .await;
        site.execute(Side::Source, &row(engine, 2_001, "new")).await;
        until_safe().await;
        for _ in 0..2 {
            let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_ne!(refused.status.code(), Some(0));
            assert_says(&refused.stdout, "shrunk_source");
            assert_eq!(rows(&site, "true").await, before + 1);
        }
        // AND they go where the step allows it
        let allowed = STEP
            .replace("cursor: at", "cursor: at, allow_shrink: true")
            .replace("mode: merge", "mode: merge, deletes: hard");
        site.write_pipeline(&allowed);
        until_safe().await;
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn a_reconcile_against_an_empty_source_deletes_nothing() {
    for engine in BOTH {
        // GIVEN a table that was loaded, and a source that was emptied since
        let site = loaded(engine, "hard").await;
        site.execute(Side::Source, "alter table events rename to kept")
            .await;
        let table = site.events_table("not null", "");
        site.execute(Side::Source, &table).await;
        if engine == Engine::Postgres {
            let stamped = "alter table events alter at set default now()";
            site.execute(Side::Source, stamped).await;
        }
        // WHEN it runs THEN all rows stay
        let refused = site.run().await;
        assert_ne!(refused.status.code(), Some(0));
        // In SQLite it ends with the plan: a column without values has positions of no kind.
        if engine == Engine::Postgres {
            assert_says(&refused.stdout, "empty_source");
        }
        assert_eq!(rows(&site, "true").await, ROWS);
        // AND so they do where one row is left
        site.execute(Side::Source, &row(engine, 1, "alone")).await;
        until_safe().await;
        let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        assert_ne!(refused.status.code(), Some(0));
        assert_says(&refused.stdout, "shrunk_source");
        assert_eq!(rows(&site, "true").await, ROWS);
        // AND where nobody answers
        let mut site = site;
        if engine == Engine::Postgres {
            site.point(
                "SOURCE_URL",
                "postgres://postgres@127.0.0.1:1/source".to_owned(),
            );
            let away = STEP.replace("max_attempts: 3", "max_attempts: 3, unreachable: 1s");
            site.write_pipeline(&away.replace("mode: merge", "mode: merge, deletes: hard"));
            let away = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_ne!(away.status.code(), Some(0));
            assert_eq!(rows(&site, "true").await, ROWS);
        }
    }
}

#[tokio::test]
async fn a_source_that_is_emptied_while_its_keys_are_read_deletes_nothing() {
    // GIVEN a comparison that has come through a third of its ranges, with rows to be removed
    let site = loaded(Engine::Postgres, "hard").await;
    site.execute(Side::Source, "delete from events where id = 17")
        .await;
    let strike = "attempt::between_ranges=12*off->1*return(stall 6000)->off";
    let mut comparing = site.start(strike).await;
    let waits = "from pg_stat_activity where datname = 'target' and state = 'idle in transaction'";
    until("a comparison that waits", LIMIT, async || {
        let [waiting] = site.numbers(Side::Source, ["count(*)"], waits).await;
        let [keys] = site
            .numbers(Side::Target, ["count(*)"], "from pg_stat_activity where query like '%highwater_keys%' and pid <> pg_backend_pid() and state = 'idle in transaction'")
            .await;
        Ok((waiting > 0 && keys > 0).then_some(()))
    })
    .await
    .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // WHEN the source is emptied there
    site.execute(Side::Source, "delete from events").await;
    let ended = comparing.wait(LIMIT).await.unwrap();
    // THEN no row is removed, not even the one that was to be
    assert!(!ended.success(), "{}", comparing.stdout().unwrap());
    assert_says(&comparing.stdout().unwrap(), "empty_source");
    assert_eq!(rows(&site, "true").await, ROWS);
}

#[tokio::test]
async fn rows_in_flight_are_not_reported() {
    for engine in BOTH {
        // GIVEN a comparison that waits after its first range, or before its only one is read
        let site = loaded(engine, "hard").await;
        let place = match engine {
            Engine::Postgres => "attempt::between_ranges=1*return(stall 2500)->off",
            Engine::Sqlite => "attempt::after_claim=1*off->1*return(stall 2500)->off",
        };
        let add = row(engine, 5_000, "before");
        site.execute(Side::Source, &add).await;
        until_safe().await;
        let mut comparing = site.start(place).await;
        until("the window", LIMIT, async || {
            Ok((rows(&site, "id = 5000").await == 1).then_some(()))
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        // WHEN rows come, change and return meanwhile, in front of it and behind
        site.execute(Side::Source, &row(engine, -5, "new")).await;
        site.execute(Side::Source, &row(engine, 6_000, "new")).await;
        let again = "update events set note = 'again' where id in (1, 2000)";
        site.execute(Side::Source, again).await;
        let back = format!(
            "begin; delete from events where id in (2, 1999); {}; {}; commit",
            row(engine, 2, "back"),
            row(engine, 1_999, "back")
        );
        site.execute(Side::Source, &back).await;
        assert!(comparing.wait(LIMIT).await.unwrap().success());
        // THEN none of them is taken for deleted
        assert_eq!(
            site.status().await["rows"],
            if engine == Engine::Postgres { 1 } else { 2 }
        );
        assert_eq!(rows(&site, "id in (1, 2, 1999, 2000)").await, 4);
        // AND the next window brings them as they are
        let touch = match engine {
            Engine::Postgres => "update events set at = now() where id in (1, 2000)",
            Engine::Sqlite => {
                "update events set at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') where id in (1, 2000)"
            }
        };
        site.execute(Side::Source, touch).await;
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn a_row_that_left_is_marked_and_may_return() {
    for engine in BOTH {
        // GIVEN a step whose rows stay when they are deleted
        let site = loaded(engine, "soft").await;
        let marked = async || {
            let from = format!("from events where {MARK} is not null order by events.id");
            site.texts(Side::Target, "id", &from).await
        };
        assert_eq!(marked().await, [""; 0]);
        // WHEN some are THEN they are marked, and stay as they are when it runs again
        site.execute(Side::Source, "delete from events where id in (7, 8)")
            .await;
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_eq!(marked().await, ["7", "8"]);
        let when = format!("from events where {MARK} is not null order by events.id");
        let first = site.texts(Side::Target, MARK, &when).await;
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_eq!(site.texts(Side::Target, MARK, &when).await, first);
        assert_eq!(rows(&site, "true").await, ROWS);
        // AND one that returns is marked no more
        site.execute(Side::Source, &row(engine, 7, "back")).await;
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_eq!(marked().await, ["8"]);
        assert_eq!(rows(&site, "id = 7 and note = 'back'").await, 1);
        // AND so is one that returns as it was, which no window brings
        let old = "insert into events values (8, '2024-03-01T00:07:00Z', 7, 'old')";
        site.execute(Side::Source, old).await;
        site.execute(Side::Source, &row(engine, 7_000, "new")).await;
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_eq!(marked().await, [""; 0]);
    }
}

#[tokio::test]
async fn rows_that_others_hang_on_are_not_deleted_without_a_word() {
    // GIVEN a target whose rows take others with them
    let site = loaded(Engine::Postgres, "hard").await;
    let refer = "create table notes (event int8 references events (id) on delete cascade)";
    site.execute(Side::Target, refer).await;
    // THEN no row of it is deleted
    let refused = site.run().await;
    assert_ne!(refused.status.code(), Some(0));
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert_says(&told, "its own would be deleted with them");
}
