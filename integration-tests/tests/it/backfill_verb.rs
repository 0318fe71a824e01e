//! A range of one step by one verb, over what the target's ledger says of it.

use crate::incremental::{BOTH, CONTINUED, STEP, assert_equal, growing, until_safe, watermark};
use crate::site::{DAYS, ROWS, Side, Site, assert_exit, assert_says};

const FIFTH: [&str; 4] = [
    "--from",
    "2024-03-05T00:00:00Z",
    "--to",
    "2024-03-06T00:00:00Z",
];

async fn backfill(site: &Site, more: &[&str]) -> highwater_integration_tests::Finished {
    let verb = ["backfill", "pipeline.yaml", "events"];
    site.finish(&[&verb[..], &FIFTH, more].concat()).await
}

async fn rows_of(site: &Site) -> serde_json::Value {
    site.status().await["rows"].clone()
}

#[tokio::test]
async fn a_gap_is_filled_by_one_verb_and_nothing_is_appended_twice() {
    for engine in BOTH {
        // GIVEN a table of which a day was lost, and its receipts are voided
        let site = Site::with_events(engine, "{mode: append}").await;
        assert_exit(&site.run().await, 0);
        let lost = "delete from events where id between 401 and 500";
        site.execute(Side::Target, lost).await;
        let forget = ["coverage", "forget", "pipeline.yaml", "events", "-y"];
        let forget = [&forget[..], &FIFTH, &["--reason", "rows are lost"]].concat();
        assert_exit(&site.finish(&forget).await, 0);
        // THEN the coverage says how it is filled, and the verb what it would do
        let shown = site.finish(&["coverage", "pipeline.yaml", "events"]).await;
        let next = "backfill pipeline.yaml events --from 2024-03-05T00:00:00Z --to \
                    2024-03-06T00:00:00Z";
        assert_says(&shown.stdout, next);
        let planned = backfill(&site, &["--plan"]).await;
        assert_exit(&planned, 0);
        assert_says(&planned.stdout, "1 task");
        assert_eq!(site.tasks('C').await, DAYS - 1);
        // WHEN it is given THEN that day is loaded, and given again nothing is
        assert_exit(&backfill(&site, &[]).await, 0);
        assert_eq!(rows_of(&site).await, 100);
        assert_exit(&backfill(&site, &["--reprocess", "missing"]).await, 0);
        assert_eq!(rows_of(&site).await, 0);
        site.assert_rows_once(DAYS).await;
        // AND nothing appends it once more
        let again = backfill(&site, &["--reprocess", "all"]).await;
        assert_exit(&again, 2);
        assert_says(&again.stderr, "would add every row a second time");
        site.assert_rows_once(DAYS).await;
    }
}

#[tokio::test]
async fn a_day_is_loaded_once_more_where_it_is_replaced() {
    for engine in BOTH {
        // GIVEN a table that was loaded, and a source whose rows were corrected since
        let site = Site::with_events(engine, "{mode: replace_partition}").await;
        assert_exit(&site.run().await, 0);
        site.execute(Side::Source, "update events set note = 'corrected'")
            .await;
        // WHEN one day is loaded once more THEN its rows alone are as the source has them
        assert_exit(&backfill(&site, &["--reprocess", "all"]).await, 0);
        assert_eq!(rows_of(&site).await, 100);
        let corrected = "from events where note = 'corrected'";
        let columns = ["count(*)", "min(id)", "max(id)"];
        let found = site.numbers(Side::Target, columns, corrected).await;
        assert_eq!(found, [100, 401, 500]);
        // AND what is no backfill, or is not there, is refused
        let unknown = ["backfill", "pipeline.yaml", "nothing"];
        assert_exit(&site.finish(&unknown).await, 4);
        site.write_pipeline(STEP);
        let other = ["backfill", "pipeline.yaml", "events"];
        assert_exit(&site.finish(&other).await, 2);
    }
}

#[tokio::test]
async fn a_range_of_a_history_leaves_what_continues_it_where_it_is() {
    for engine in BOTH {
        // GIVEN a history that another step goes on from
        let site = growing(engine).await;
        site.write_pipeline(&CONTINUED.replace("{mode: append}", "{mode: replace_partition}"));
        assert_exit(&site.run().await, 0);
        until_safe().await;
        assert_exit(&site.run().await, 0);
        let stood = watermark(&site).await;
        site.execute(
            Side::Target,
            "update events set note = 'wrong' where id between 401 and 500",
        )
        .await;
        // WHEN a day of it is loaded once more
        let verb = ["backfill", "pipeline.yaml", "history", "--reprocess", "all"];
        assert_exit(&site.finish(&[&verb[..], &FIFTH].concat()).await, 0);
        // THEN it is as the source has it, and the watermark stands where it stood
        assert_equal(&site).await;
        assert_eq!(watermark(&site).await, stood);
        let found = site
            .numbers(Side::Target, ["count(*)"], "from events")
            .await;
        assert_eq!(found, [ROWS]);
        until_safe().await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
        // AND nothing is loaded that the other step has
        let beyond = [
            "--from",
            "2024-03-05T00:00:00Z",
            "--to",
            "2999-01-01T00:00:00Z",
        ];
        let refused = site.finish(&[&verb[..], &beyond].concat()).await;
        assert_ne!(refused.status.code(), Some(0));
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert_says(&told, "another step goes on from");
        assert_equal(&site).await;
    }
}
