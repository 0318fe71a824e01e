//! What no log tells of a table that is followed: it is noticed, and nothing is applied.

use crate::cdc::{STEP, assert_equal, copied, followed, held};
use crate::cdc_resync::resync;
use crate::site::{Side, Site, assert_exit, assert_says};

/// What happens to the source, and what is said of it.
const UNTOLD: [(&str, &str); 6] = [
    (
        "alter table events drop column note; alter table events add column note text",
        "column note is another one under its name",
    ),
    (
        "alter table events alter column amount type numeric(12, 1)",
        "column amount was numeric(12,2) and is numeric(12,1)",
    ),
    (
        "begin; alter table events rename to former; create table events (like former including \
         all); insert into events select * from former where id < 50; alter publication \
         events_changes add table events; commit",
        "the table is another one under its name",
    ),
    (
        "drop publication events_changes; create publication events_changes for table events",
        "the publication was made anew",
    ),
    (
        "alter publication events_changes drop table events; update events set amount = 4; alter \
         publication events_changes add table events",
        "the publication has not had the table all the time",
    ),
    (
        "select pg_drop_replication_slot('events_log'); select \
         pg_create_logical_replication_slot('events_log', 'pgoutput')",
        "begins at",
    ),
];

/// Runs, which halts and changes nothing in the target.
async fn assert_halts(site: &Site, code: &str, says: &str) {
    let before = (site.digests().await.1, held(site).await);
    let halted = site.finish(&["run", "pipeline.yaml", "--new"]).await;
    assert_exit(&halted, 7);
    for what in [code, says] {
        assert_says(&halted.stdout, what);
    }
    assert_eq!((site.digests().await.1, held(site).await), before);
}

#[tokio::test]
async fn what_no_log_tells_is_noticed_and_nothing_is_applied() {
    for (untold, says) in UNTOLD {
        // GIVEN a table that is followed
        let site = copied().await;
        site.execute(Side::Source, "update events set amount = 1 where id = 1")
            .await;
        assert_exit(&site.run().await, 0);
        // WHEN something happens that is in no log, and rows change before and after it
        site.execute(Side::Source, "delete from events where id = 2")
            .await;
        site.execute(Side::Source, untold).await;
        site.execute(Side::Source, "update events set amount = 3 where id = 3")
            .await;
        // THEN it is said, and nothing is applied, however often it is tried
        let likewise = "alter table events alter column amount type numeric(12, 1)";
        if untold == likewise {
            site.execute(Side::Target, likewise).await;
        }
        let code = match says {
            "begins at" => "log_gap",
            _ => "source_changed",
        };
        assert_halts(&site, code, says).await;
        assert_halts(&site, code, says).await;
        // WHEN it is copied anew THEN it is followed as before
        resync(&site).await;
        assert_equal(&site).await;
        site.execute(Side::Source, "update events set amount = 5 where id = 5")
            .await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn what_changes_no_value_goes_on() {
    let site = copied().await;
    for change in [
        "alter table events replica identity full",
        "alter table events alter column amount type numeric(14, 2)",
        "vacuum full events",
        "create index on events (note)",
    ] {
        site.execute(Side::Source, change).await;
        site.execute(
            Side::Source,
            "delete from events where id = (select min(id) from events)",
        )
        .await;
        site.execute(
            Side::Target,
            "alter table events alter column amount type numeric(14, 2)",
        )
        .await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn another_life_of_the_server_is_noticed() {
    for (part, says) in [
        ("{timeline}", "a standby has taken its place"),
        ("{system}", "it is another server"),
    ] {
        let site = copied().await;
        let other = format!(
            "update highwater.watermark set log_identity = jsonb_set(log_identity::jsonb, '{part}', \
             '\"00000009\"')::text"
        );
        site.execute(Side::Target, &other).await;
        site.execute(Side::Source, "delete from events where id < 9")
            .await;
        assert_halts(&site, "source_changed", says).await;
    }
}

#[tokio::test]
async fn a_position_of_an_earlier_version_is_gone_on_from() {
    // GIVEN a target whose ledger was made before it kept of which table a position is
    let site = copied().await;
    let earlier = "alter table highwater.watermark drop column log_identity, drop column reached_at, \
                   drop column live_since";
    site.execute(Side::Target, earlier).await;
    site.execute(Side::Source, "delete from events where id < 9")
        .await;
    // WHEN it runs THEN it goes on, and what is there is taken for what was
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
    let [known] = site
        .numbers(
            Side::Target,
            ["count(log_identity)"],
            "from highwater.watermark",
        )
        .await;
    assert_eq!(known, 1);
    site.execute(Side::Source, UNTOLD[0].0).await;
    assert_halts(&site, "source_changed", UNTOLD[0].1).await;
}

#[tokio::test]
async fn a_column_that_is_copied_from_now_on_was_not_copied_before() {
    // GIVEN a column that is left out
    let site = followed().await;
    let without = STEP.replace(
        "table: events}\n    to",
        "table: events, columns: {note: {exclude: true}}}\n    to",
    );
    assert_ne!(without, STEP);
    site.write_pipeline(&without);
    assert_exit(&site.run().await, 0);
    // WHEN it is no longer THEN nobody takes what the target lacks for NULL
    site.execute(Side::Target, "alter table events add column note text")
        .await;
    site.write_pipeline(STEP);
    site.execute(Side::Source, "update events set amount = 3 where id = 3")
        .await;
    let halted = site.finish(&["run", "pipeline.yaml", "--new"]).await;
    assert_exit(&halted, 7);
    assert_says(&halted.stdout, "column note is copied, and was not");
}
