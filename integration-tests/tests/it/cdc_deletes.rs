//! What becomes of rows that the source deletes, of a table that is followed through a log: they
//! stay, and a column says when they were deleted.

use crate::cdc::{STEP, assert_equal, followed};
use crate::site::{Side, Site, assert_exit, assert_says};

const MARK: &str = "_highwater_deleted_at";

/// `events`, copied, and followed so that rows stay.
async fn marking(before: &[&str]) -> Site {
    let site = followed().await;
    for statement in before {
        site.execute(Side::Source, statement).await;
    }
    site.write_pipeline(&STEP.replace("key: auto", "key: auto, deletes: soft"));
    assert_exit(&site.run().await, 0);
    site
}

/// The rows that live are the source's: those that are marked are moved out of the way.
async fn assert_living_are_equal(site: &Site) {
    let compare = format!(
        "create table marked as select * from events where {MARK} is not null; delete from events \
         where {MARK} is not null; alter table events drop column {MARK}"
    );
    site.execute(Side::Target, &compare).await;
    assert_equal(site).await;
    let back = format!(
        "alter table events add column {MARK} timestamptz; insert into events select * from \
         marked; drop table marked"
    );
    site.execute(Side::Target, &back).await;
}

async fn marked(site: &Site) -> Vec<String> {
    let from = format!("from events where {MARK} is not null order by events.id");
    site.texts(Side::Target, "id", &from).await
}

#[tokio::test]
async fn a_soft_deleted_row_can_return() {
    // GIVEN a table whose rows stay when they are deleted
    let site = marking(&[]).await;
    assert_eq!(marked(&site).await, [""; 0]);
    site.execute(Side::Source, "delete from events where id < 4")
        .await;
    let from = "from pg_stat_activity limit 1";
    let micros = "extract(epoch from clock_timestamp()) * 1000000";
    let [deleted] = site.numbers(Side::Source, [micros], from).await;
    // WHEN rows are deleted THEN they are marked with when that was, and are as they were else
    assert_exit(&site.run().await, 0);
    assert_eq!(marked(&site).await, ["1", "2", "3"]);
    let ages = format!("from events where {MARK} is not null");
    let age = format!("max(abs({deleted} - extract(epoch from {MARK}) * 1000000))");
    let [age] = site.numbers(Side::Target, [&age], &ages).await;
    assert!(age < 10_000_000, "{age}");
    let notes = site
        .texts(Side::Target, "note", "from events where id = 2")
        .await;
    assert_eq!(notes, ["note 2"]);
    assert_living_are_equal(&site).await;
    // WHEN one returns, in all the ways there are THEN its mark goes
    for change in [
        "insert into events values (1, now(), 7, 'again')",
        "begin; delete from events where id = 9; insert into events values (9, now(), 1, 'same \
         transaction'); commit",
        "begin; insert into events values (2, now(), 1, 'short'); delete from events where id = 2; \
         commit",
        "update events set id = 3 where id = 30",
        "begin; insert into events values (9001, now(), 1, 'never seen'); delete from events where \
         id = 9001; commit",
    ] {
        site.execute(Side::Source, change).await;
    }
    assert_exit(&site.run().await, 0);
    assert_eq!(marked(&site).await, ["2", "9001"]);
    assert_living_are_equal(&site).await;
    // WHEN the table is emptied THEN all are marked, and those that were keep what they say
    let before = site
        .texts(Side::Target, MARK, "from events where id = 2")
        .await;
    site.execute(
        Side::Source,
        "begin; truncate events; insert into events values (5, now(), 1, 'only'); commit",
    )
    .await;
    assert_exit(&site.run().await, 0);
    let count = format!("from events where {MARK} is not null");
    let [count] = site.numbers(Side::Target, ["count(*)"], &count).await;
    assert_eq!(count, 1_999);
    let after = site
        .texts(Side::Target, MARK, "from events where id = 2")
        .await;
    assert_eq!(before, after);
    assert_living_are_equal(&site).await;
}

#[tokio::test]
async fn a_row_takes_its_large_value_along_to_the_key_of_one_that_was_deleted() {
    let site = marking(&[
        "alter table events alter note set storage external",
        "update events set note = repeat('long ', 2000) || id where id < 50",
    ])
    .await;
    // GIVEN rows that are marked, and others that take their keys, with values that are not in the
    // log
    site.execute(Side::Source, "delete from events where id = 21")
        .await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        "update events set id = 21 where id = 22; begin; delete from events where id = 31; update \
         events set id = 31 where id = 32; update events set amount = 5 where id = 31; commit",
    )
    .await;
    assert_exit(&site.run().await, 0);
    // THEN the living have them, and nothing is left of the others
    assert_eq!(marked(&site).await, [""; 0]);
    assert_living_are_equal(&site).await;
}

#[tokio::test]
async fn a_table_that_cannot_say_when_a_row_was_deleted_is_refused() {
    let site = followed().await;
    let table = site.events_table("not null", "");
    site.execute(Side::Target, &table).await;
    let step = STEP.replace("key: auto", "key: auto, deletes: soft, deleted_at: gone");
    site.write_pipeline(&step);
    for (before, says) in [
        ("select 1", "add column gone timestamptz"),
        (
            "alter table events add column gone text",
            "has to be a timestamptz",
        ),
        (
            "alter table events drop column gone; alter table events add column gone timestamptz \
             default now()",
            "without a default",
        ),
    ] {
        site.execute(Side::Target, before).await;
        let refused = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        assert_exit(&refused, 7);
        assert_says(&refused.stdout, says);
    }
    let mend = "alter table events alter column gone drop default";
    site.execute(Side::Target, mend).await;
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    site.execute(Side::Source, "delete from events where id = 7")
        .await;
    assert_exit(&site.run().await, 0);
    let gone = "from events where gone is not null";
    assert_eq!(site.texts(Side::Target, "id", gone).await, ["7"]);
}

#[tokio::test]
async fn a_crash_marks_a_row_once() {
    let site = marking(&[]).await;
    site.execute(
        Side::Source,
        "delete from events where id = 1; insert into events values (1, now(), 1, 'again'); delete \
         from events where id = 2",
    )
    .await;
    // WHEN the process dies around a commit, and another goes on
    for strike in [
        "attempt::before_commit=return(abort)",
        "replay::before_confirm=return(abort)",
    ] {
        let mut died = site.start(strike).await;
        assert!(!died.wait(crate::site::LIMIT).await.unwrap().success());
    }
    assert_exit(&site.run().await, 0);
    // THEN it is as the source's
    assert_eq!(marked(&site).await, ["2"]);
    assert_living_are_equal(&site).await;
}
