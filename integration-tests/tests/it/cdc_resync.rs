//! A log that was lost, and the way on: the table is copied anew over the rows that are there, and
//! where a step stands can be seen.

use highwater_integration_tests::until;
use serde_json::Value;

use crate::cdc::{STEP, assert_equal, confirmed, copied, followed};
use crate::site::{LIMIT, Side, Site, assert_exit, assert_says};

const MARK: &str = "_highwater_deleted_at";
const RESYNC: [&str; 7] = [
    "cdc",
    "resync",
    "pipeline.yaml",
    "events",
    "-y",
    "--reason",
    "slot lost",
];

pub(crate) async fn resync(site: &Site) {
    assert_exit(&site.finish(&RESYNC).await, 0);
}

/// What `cdc status` says of the step.
pub(crate) async fn standing(site: &Site) -> Value {
    let told = site
        .finish(&["cdc", "status", "pipeline.yaml", "-o", "json"])
        .await;
    assert_exit(&told, 0);
    let document: Value = serde_json::from_str(&told.stdout).unwrap();
    document["steps"][0].clone()
}

#[tokio::test]
async fn a_lost_slot_halts_and_offers_resync() {
    let remake = "select pg_drop_replication_slot('events_log'); select \
                  pg_create_logical_replication_slot('events_log', 'pgoutput')";
    for (loss, says) in [
        (
            "select pg_drop_replication_slot('events_log')",
            "no replication slot",
        ),
        (remake, "begins at"),
        (
            "select pg_replication_slot_advance('events_log', pg_current_wal_insert_lsn())",
            "begins at",
        ),
    ] {
        // GIVEN a slot that is lost, or does not begin where the target ends
        let site = copied().await;
        let delete = "update events set note = 'unseen'; delete from events where id < 9";
        site.execute(Side::Source, delete).await;
        site.execute(Side::Source, loss).await;
        // WHEN it runs THEN nothing is applied, and what to do is said
        let before = site.digests().await.1;
        let halted = site.run().await;
        assert_exit(&halted, 7);
        for what in ["log_gap", says, "highwater cdc resync"] {
            assert_says(&halted.stdout, what);
        }
        assert_eq!(site.digests().await.1, before);
        let told = standing(&site).await;
        assert_eq!(told["state"], "gap");
        assert!(told["why"].as_str().unwrap().contains(says), "{told}");
        // WHEN that is done THEN the target is the source's copy again, and is followed
        resync(&site).await;
        assert_equal(&site).await;
        assert_eq!(standing(&site).await["state"], "live");
        site.execute(Side::Source, "delete from events where id < 20")
            .await;
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn a_resync_treats_rows_that_left_the_source_as_deletes_says() {
    for (deletes, stay) in [("hard", 0), ("ignore", 2), ("soft", 2)] {
        // GIVEN a row that was deleted before the log was lost, and one that was deleted unseen
        let site = followed().await;
        let step = STEP.replace("key: auto", &format!("key: auto, deletes: {deletes}"));
        site.write_pipeline(&step);
        assert_exit(&site.run().await, 0);
        site.execute(Side::Source, "delete from events where id in (1, 4)")
            .await;
        assert_exit(&site.run().await, 0);
        let marked = async |id: i64| {
            let from = format!("from events where id = {id}");
            site.texts(Side::Target, MARK, &from).await
        };
        let first = match deletes {
            "soft" => marked(1).await,
            _ => Vec::new(),
        };
        site.execute(
            Side::Source,
            "delete from events where id = 2; update events set note = 'unseen' where id = 3; insert \
             into events values (9001, now(), 1, 'unseen'), (4, now(), 2, 'returned'); select \
             pg_drop_replication_slot('events_log')",
        )
        .await;
        // WHEN the table is copied anew
        resync(&site).await;
        // THEN its rows are the source's, and those two are as that says
        let left = site.numbers(Side::Target, ["count(*)"], "from events where id in (1, 2)");
        assert_eq!(left.await, [stay], "{deletes}");
        if deletes == "soft" {
            assert_eq!(marked(1).await, first);
            assert_eq!(marked(2).await.len(), 1);
            let living = format!("from events where {MARK} is null");
            assert_eq!(
                site.numbers(Side::Target, ["count(*)"], &living).await,
                [1_999]
            );
            let clean = format!("alter table events drop column {MARK}");
            site.execute(Side::Target, &clean).await;
        }
        site.execute(Side::Target, "delete from events where id in (1, 2)")
            .await;
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn a_resync_that_is_cut_off_is_done_again() {
    for strike in [
        "attempt::after_drop_slot=return(abort)",
        "replay::after_open=return(abort)",
        "attempt::before_commit=return(abort)",
        "attempt::after_commit=return(abort)",
    ] {
        // GIVEN a process that dies in the midst of it
        let site = copied().await;
        site.execute(Side::Source, "delete from events where id < 9")
            .await;
        let mut died = site
            .highwater(&RESYNC)
            .await
            .failpoints(strike)
            .start()
            .unwrap();
        assert!(!died.wait(LIMIT).await.unwrap().success(), "{strike}");
        site.execute(Side::Source, "update events set amount = 3 where id = 10")
            .await;
        // WHEN it is asked for again, or the run goes on where it was begun
        match strike.starts_with("attempt::after_drop_slot") {
            true => resync(&site).await,
            false => assert_exit(&site.run().await, 0),
        }
        // THEN the target is the source's copy
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn a_copy_that_is_made_anew_never_cascades() {
    // GIVEN a table that is to be copied anew, and then one that points to it, whose rows would go
    // with those they point to
    let site = copied().await;
    dies_at(&site, "attempt::prepare=return(abort)").await;
    let child = "create table child (event bigint references events on delete cascade); \
                 insert into child select id from events where id <= 10";
    site.execute(Side::Target, child).await;
    let children = async || {
        let from = "from child where event is not null";
        site.numbers(Side::Target, ["count(*)"], from).await[0]
    };
    // WHEN the run goes on THEN it refuses that by the key's name
    let refused = site.run().await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_says(&refused.stdout, "child_event_fkey");
    assert_eq!(children().await, 10);
    for on_delete in ["set null", "set default", "cascade"] {
        let make = format!(
            "alter table child drop constraint child_event_fkey; alter table child add foreign \
             key (event) references events on delete {on_delete}"
        );
        site.execute(Side::Target, &make).await;
        // AND the plan refuses it, and says what to do
        let refused = site.finish(&RESYNC).await;
        assert_exit(&refused, 7);
        for what in ["child_event_fkey", "write.deletes"] {
            assert_says(&refused.stdout, what);
        }
        assert_eq!(children().await, 10);
    }
    // AND one that waits for the commit finds the rows there again
    let wait = "alter table child drop constraint child_event_fkey; alter table child add foreign \
                key (event) references events deferrable";
    site.execute(Side::Target, wait).await;
    assert_exit(&site.run().await, 0);
    assert_eq!(children().await, 10);
    assert_equal(&site).await;
    // AND a table that is only followed is asked nothing of this
    let acts = "alter table child drop constraint child_event_fkey; alter table child add foreign \
                key (event) references events on delete cascade";
    site.execute(Side::Target, acts).await;
    site.execute(Side::Source, "delete from events where id = 3")
        .await;
    assert_exit(&site.run().await, 0);
    assert_eq!(children().await, 9);
}

#[tokio::test]
async fn a_resync_that_may_not_run_drops_nothing() {
    let site = copied().await;
    let slot = confirmed(&site).await;
    // WHEN the run could not be left behind
    let refused = site.finish(&[&RESYNC[..], &["--detach"]].concat()).await;
    assert_exit(&refused, 2);
    assert_eq!(confirmed(&site).await, slot);
    // or the target's ledger is another cluster's THEN the slot stays
    let other = "update highwater.meta set cluster_id = gen_random_uuid()";
    site.execute(Side::Target, other).await;
    let refused = site.finish(&RESYNC).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(confirmed(&site).await, slot);
}

#[tokio::test]
async fn a_resync_replaces_no_rows_of_a_table_that_took_the_place() {
    // GIVEN a table that is to be copied anew
    let site = copied().await;
    dies_at(&site, "attempt::prepare=return(abort)").await;
    // WHEN another one stands under its name
    site.execute(
        Side::Target,
        "alter table events rename to former; create table events (like former including all); \
         insert into events select * from former where id = 3",
    )
    .await;
    // THEN its rows are nobody's to replace, however often that is tried
    for _ in 0..2 {
        let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert_says(&refused.stdout, "resident_rows");
        let rows = site.numbers(Side::Target, ["count(*)"], "from events");
        assert_eq!(rows.await, [1]);
    }
}

/// The command dies where `strike` says.
async fn dies_at(site: &Site, strike: &str) {
    let asked = site.highwater(&RESYNC).await.failpoints(strike);
    let mut died = asked.start().unwrap();
    assert!(!died.wait(LIMIT).await.unwrap().success(), "{strike}");
}

#[tokio::test]
async fn a_slot_nobody_reads_is_shown_before_the_disk_is_full() {
    // GIVEN a slot that keeps more than its step lets it, because nobody runs the step
    let site = copied().await;
    site.write_pipeline(&format!(
        "{STEP}    slot_limit: {{retained: 16MiB, action: alert}}\n"
    ));
    let says = "`slot_limit` is 16 MiB";
    let planned = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&planned, 0);
    assert!(!planned.stdout.contains(says), "{planned:?}");
    site.execute(
        Side::Source,
        "create table noise as select repeat('x', 1000) from generate_series(1, 30000)",
    )
    .await;
    // WHEN somebody looks THEN it is said
    let planned = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&planned, 0);
    assert_says(&planned.stdout, says);
    let shown = site.finish(&["cdc", "status", "pipeline.yaml"]).await;
    assert_says(&shown.stdout, says);
    assert!(standing(&site).await["alert"].is_string());
    // AND runs let the log go
    for _ in 0..3 {
        site.execute(Side::Source, "checkpoint").await;
        assert_exit(&site.run().await, 0);
    }
    assert!(standing(&site).await["alert"].is_null());
}

#[tokio::test]
async fn where_a_step_stands_in_its_log_is_shown() {
    // GIVEN a step that nobody has run
    let site = followed().await;
    let told = standing(&site).await;
    assert_eq!(told["state"], "new");
    assert_eq!(told["slot"]["exists"], false);
    // WHEN it dies before its copy is committed
    let mut died = site.start("attempt::before_commit=return(abort)").await;
    assert!(!died.wait(LIMIT).await.unwrap().success());
    assert_eq!(standing(&site).await["state"], "copying");
    assert_exit(&site.run().await, 0);
    // THEN that is shown; and once it is behind, how far
    assert_eq!(standing(&site).await["state"], "live");
    site.execute(Side::Source, "update events set note = 'later'")
        .await;
    let told = standing(&site).await;
    assert!(told["lag_bytes"].as_u64().unwrap() > 100_000, "{told}");
    assert!(told["lag_seconds"].as_u64().is_some(), "{told}");
    let kept = told["slot"]["retained_bytes"].as_u64().unwrap();
    assert!(kept >= told["lag_bytes"].as_u64().unwrap(), "{told}");
    assert!(told["slot"]["keep_bytes"].is_null());
    let limit = "alter system set max_slot_wal_keep_size = '1GB'";
    site.execute(Side::Source, limit).await;
    site.execute(Side::Source, "select pg_reload_conf()").await;
    let setting = "from pg_settings where name = 'max_slot_wal_keep_size'";
    let asked = async || {
        let [keep] = site.numbers(Side::Source, ["setting"], setting).await;
        Ok((keep == 1_024).then_some(()))
    };
    until("the setting", LIMIT, asked).await.unwrap();
    let shown = site.finish(&["cdc", "status", "pipeline.yaml"]).await;
    assert_exit(&shown, 0);
    for what in ["events: live", "behind the end of the log", "1 GiB at most"] {
        assert_says(&shown.stdout, what);
    }
    // AND nobody begins a log anew that a step does not follow
    site.write_pipeline(
        "steps:\n  events:\n    strategy: full_refresh\n    from: {connection: source, table: \
         events}\n    to: {connection: target, table: events}\n",
    );
    let refused = site.finish(&RESYNC).await;
    assert!(refused.stderr.contains("follows no log"), "{refused:?}");
}
