//! A target that lies: its ledger says that rows were committed, and they are not there.

use serde_json::Value;

use crate::site::{DAYS, Engine, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
const APPEND: &str = "{mode: append}";
const REPLACE: &str = "{mode: replace_partition, key: [id]}";

/// Plan and run refuse, and say what to do; nothing is made or written.
async fn assert_refused(site: &Site, why: &str) {
    for verb in ["plan", "run"] {
        let finished = site.finish(&[verb, "pipeline.yaml"]).await;
        assert_exit(&finished, 7);
        let told = format!("{}{}", finished.stdout, finished.stderr);
        assert_says(&told, why);
        assert_says(&told, "coverage forget");
    }
}

#[tokio::test]
async fn a_dropped_target_table_is_not_a_success() {
    for engine in BOTH {
        for write in [APPEND, REPLACE] {
            // GIVEN a table that was loaded, and dropped
            let site = Site::with_events(engine, write).await;
            assert_exit(&site.run().await, 0);
            site.execute(Side::Target, "drop table events").await;
            // WHEN it is planned or run again, THEN nobody says that there is nothing to do
            assert_refused(&site, "there is no such table any more").await;
        }
    }
}

#[tokio::test]
async fn an_emptied_or_remade_table_is_refused_with_its_receipts() {
    for engine in BOTH {
        // GIVEN a table that was loaded
        let site = Site::with_events(engine, REPLACE).await;
        assert_exit(&site.run().await, 0);
        // WHEN another one is made in its place, THEN it is refused, also where everything is to be
        // loaded again
        site.execute(Side::Target, "alter table events rename to events_away")
            .await;
        let anew = format!(
            "{}; insert into events select * from events_away",
            site.events_table("not null", "")
        );
        site.execute(Side::Target, &anew).await;
        assert_refused(&site, "was made anew").await;
        site.pipeline(
            "{type: backfill, start: 2024-03-01, end: 2024-03-21, reprocess: all}",
            REPLACE,
        );
        assert_refused(&site, "was made anew").await;
        // WHEN the table itself is brought back, THEN everything is as it was
        site.pipeline(Site::BACKFILL, REPLACE);
        site.execute(
            Side::Target,
            "drop table events; alter table events_away rename to events",
        )
        .await;
        let finished = site.run().await;
        assert_exit(&finished, 0);
        assert_says(
            &finished.stdout,
            &format!("{DAYS} tasks covered by earlier runs"),
        );
        // WHEN it is emptied
        site.execute(Side::Target, "delete from events").await;
        // THEN it is refused, and nothing was written to it
        assert_refused(&site, "the table is empty").await;
        assert_eq!(
            site.numbers(Side::Target, ["count(*)"], "from events")
                .await,
            [0]
        );
    }
}

#[tokio::test]
async fn forgotten_coverage_is_loaded_again() {
    for engine in BOTH {
        // GIVEN a table that was loaded, and dropped
        let site = Site::with_events(engine, APPEND).await;
        assert_exit(&site.run().await, 0);
        let shown = site
            .finish(&["coverage", "pipeline.yaml", "-o", "json"])
            .await;
        assert_exit(&shown, 0);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let step = &shown["steps"][0];
        assert_eq!(
            (&step["step"], &step["receipts"], &step["rows"]),
            (&"events".into(), &DAYS.into(), &ROWS.into())
        );
        assert_eq!(step["covered"].as_array().unwrap().len(), 1);
        site.execute(Side::Target, "drop table events").await;
        assert_refused(&site, "there is no such table any more").await;
        // WHEN its receipts are forgotten without a yes, THEN nothing happens
        let forget = [
            "coverage",
            "forget",
            "pipeline.yaml",
            "events",
            "--reason",
            "dropped by hand",
        ];
        assert_exit(&site.finish(&forget).await, 6);
        assert_eq!(site.tasks('C').await, DAYS);
        // WHEN they are forgotten
        let forgotten = site.finish(&[&forget[..], &["-y"]].concat()).await;
        assert_exit(&forgotten, 0);
        assert_says(&forgotten.stdout, &format!("voided now: {DAYS}"));
        // THEN they stay in the ledger, with the reason, and everything is loaded again, once
        let voided = format!(
            "from {} where state = 'V' and void_reason = 'dropped by hand'",
            site.ledger("task")
        );
        assert_eq!(
            site.numbers(Side::Target, ["count(*)"], &voided).await,
            [DAYS]
        );
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(DAYS).await;
        // WHEN two days are emptied and forgotten, up to an edge that is none
        site.execute(Side::Target, "delete from events where id <= 200")
            .await;
        let days = |to| [&forget[..], &["--from", "2024-03-01", "--to", to, "-y"]].concat();
        let refused = site.finish(&days("2024-03-02T12:00:00")).await;
        // THEN that is refused by the edges of the receipt
        assert_exit(&refused, 7);
        assert_says(
            &format!("{}{}", refused.stdout, refused.stderr),
            "2024-03-03",
        );
        assert_eq!(site.tasks('C').await, DAYS);
        // WHEN the edge is right, THEN exactly those days are loaded again
        assert_exit(&site.finish(&days("2024-03-03")).await, 0);
        assert_eq!(site.tasks('C').await, DAYS - 2);
        let finished = site.run().await;
        assert_exit(&finished, 0);
        site.assert_copied_once(DAYS).await;
    }
}
