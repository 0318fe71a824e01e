//! A table that is copied once and then followed through its database's log: no change is lost,
//! none is applied twice, and no transaction is seen in part.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

pub(crate) const STEP: &str = "\
steps:
  events:
    strategy: {type: cdc, slot: events_log, publication: events_changes}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    write: {mode: merge, key: auto}
    retries: {initial: 10ms, max: 10ms, max_attempts: 3}
";

/// `events` in the source, and a pipeline that follows it.
pub(crate) async fn followed() -> Site {
    let site = Site::empty(Engine::Postgres).await;
    site.make_events("not null").await;
    site.write_pipeline(STEP);
    site
}

/// The same, copied already.
pub(crate) async fn copied() -> Site {
    let site = followed().await;
    assert_exit(&site.run().await, 0);
    site
}

pub(crate) async fn assert_equal(site: &Site) {
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
}

/// Where the target holds that it is in the log.
pub(crate) async fn held(site: &Site) -> i64 {
    let from = "from highwater.watermark";
    let position = "split_part(position, ':', 2)";
    site.numbers(Side::Target, [position], from).await[0]
}

/// Up to where the slot is confirmed.
pub(crate) async fn confirmed(site: &Site) -> i64 {
    let from = "from pg_replication_slots where slot_name = 'events_log'";
    let position = "confirmed_flush_lsn - '0/0'";
    site.numbers(Side::Source, [position], from).await[0]
}

#[tokio::test]
async fn a_table_is_copied_and_then_followed() {
    // GIVEN a table that was copied
    let site = followed().await;
    let first = site.run().await;
    assert_exit(&first, 0);
    assert_says(&first.stdout, "2,000 rows");
    assert_equal(&site).await;
    // WHEN rows come, change and go, in all the ways there are
    for change in [
        "insert into events values (9001, now(), 7, E'tab\\t, line\\n, \\\\N and \\\\.')",
        "insert into events values (9002, now(), 8, null), (9003, now(), 9, '')",
        "begin; update events set note = 'twice' where id = 5; update events set amount = 0 where id \
         = 5; savepoint s; delete from events where id = 6; rollback to s; commit",
        "update events set note = null where id between 10 and 20",
        "delete from events where id between 100 and 199",
        "update events set id = id + 20000 where id between 300 and 310",
        "begin; delete from events where id = 400; insert into events values (400, now(), 1, \
         'again'); commit",
        "begin; insert into events values (9004, now(), 1, 'gone'); delete from events where id = \
         9004; commit",
    ] {
        site.execute(Side::Source, change).await;
    }
    let again = site.run().await;
    // THEN the target is the source's copy, and the slot lets go of what was applied
    assert_exit(&again, 0);
    assert_equal(&site).await;
    assert_eq!(confirmed(&site).await, held(&site).await);
    // AND nothing is copied again: so many rows changed
    assert_says(&again.stdout, "131 rows");
    // WHEN nothing happens THEN nothing is applied, and the position moves all the same
    site.execute(Side::Source, "create table noise as select 1")
        .await;
    let before = held(&site).await;
    let idle = site.run().await;
    assert_exit(&idle, 0);
    assert_says(&idle.stdout, "0 rows");
    assert!(held(&site).await > before);
    // WHEN it is emptied THEN so is the target, and goes on
    site.execute(
        Side::Source,
        "begin; truncate events; insert into events values (1, now(), 1, 'only'); commit",
    )
    .await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn what_the_server_computes_is_left_to_the_target() {
    let site = followed().await;
    site.execute(
        Side::Source,
        "alter table events add double numeric generated always as (amount * 2) stored, add no \
         bigint generated always as identity",
    )
    .await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        "update events set amount = 9 where id < 10; insert into events (id, at, amount) values \
         (9001, now(), 1)",
    )
    .await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn deletes_are_ignored_where_that_is_asked_for() {
    let site = followed().await;
    site.write_pipeline(&STEP.replace("key: auto", "key: auto, deletes: ignore"));
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        "delete from events where id < 11; update events set id = 5000 where id = 11",
    )
    .await;
    assert_exit(&site.run().await, 0);
    let low = site.texts(
        Side::Target,
        "id",
        "from events where id < 13 order by events.id",
    );
    assert_eq!(
        low.await,
        ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "12"]
    );
    let moved = site.numbers(Side::Target, ["count(*)"], "from events where id = 5000");
    assert_eq!(moved.await, [1]);
}

#[tokio::test]
async fn an_unchanged_toast_value_stays() {
    // GIVEN rows with a value that is kept apart from them, because it is large
    let site = followed().await;
    site.execute(
        Side::Source,
        "alter table events alter note set storage external; update events set note = \
         repeat('long ', 2000) where id < 50",
    )
    .await;
    assert_exit(&site.run().await, 0);
    // WHEN another column changes, also together with changes of that one
    site.execute(
        Side::Source,
        "update events set amount = 77 where id < 20; begin; update events set amount = 78 where id \
         = 30; update events set note = 'short' where id = 30; update events set amount = 79 where \
         id = 30; update events set amount = 80 where id between 31 and 33; update events set note \
         = null where id = 32; commit",
    )
    .await;
    // THEN the value is still there
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_key_change_keeps_absent_values() {
    let site = followed().await;
    site.execute(
        Side::Source,
        "alter table events alter note set storage external; update events set note = \
         repeat('long ', 2000) where id < 50",
    )
    .await;
    assert_exit(&site.run().await, 0);
    // WHEN rows with a value that is not in the log get other keys, some of them twice
    site.execute(
        Side::Source,
        "update events set id = id + 30000 where id < 10; begin; update events set amount = 3 where \
         id = 20; update events set id = 50020 where id = 20; update events set id = 60020 where id \
         = 50020; update events set amount = 4 where id = 60020; commit; begin; delete from events \
         where id = 21; update events set id = 21 where id = 22; commit",
    )
    .await;
    // THEN they take it along
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn two_rows_can_trade_a_unique_value() {
    let site = followed().await;
    site.execute(
        Side::Source,
        "update events set note = 'no ' || id; create unique index on events (note)",
    )
    .await;
    assert_exit(&site.run().await, 0);
    let unique = "from pg_index where indrelid = 'events'::regclass and indisunique";
    assert_eq!(site.numbers(Side::Target, ["count(*)"], unique).await, [2]);
    // WHEN two rows trade a value that the target takes once
    site.execute(
        Side::Source,
        "begin; update events set note = 'between' where id = 1; update events set note = 'no 1' \
         where id = 2; update events set note = 'no 2' where id = 1; delete from events where id = \
         3; update events set note = 'no 3' where id = 4; commit",
    )
    .await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_source_transaction_is_seen_whole() {
    // GIVEN transactions that take from one row what they give to another, many times as large as a
    // chunk
    let site = copied().await;
    site.write_pipeline(&format!("{STEP}    chunk: {{max_rows: 1}}\n"));
    let total = "from events";
    let before = site.numbers(Side::Source, ["sum(amount)"], total).await;
    for no in 0..60 {
        let (from, to) = (no * 31 + 1, no * 7 + 5);
        let work = format!(
            "begin; update events set amount = amount - {no} where id between {from} and {from} + 9; \
             update events set amount = amount + {no} where id between {to} and {to} + 9; commit"
        );
        site.execute(Side::Source, &work).await;
    }
    // WHEN somebody looks at the target again and again while they are applied
    let is_over = AtomicBool::new(false);
    let looking = async {
        let mut looks = 0;
        while !is_over.load(Ordering::Relaxed) {
            let seen = site.numbers(Side::Target, ["sum(amount)"], total).await;
            assert_eq!(seen, before);
            looks += 1;
        }
        looks
    };
    let running = async {
        let mut run = site.start("attempt::before_commit=sleep(10)").await;
        let ended = run.wait(LIMIT).await.unwrap();
        is_over.store(true, Ordering::Relaxed);
        ended
    };
    let (looks, ended) = tokio::join!(looking, running);
    // THEN the sum never changes
    assert!(ended.success());
    assert!(looks > 20, "{looks}");
    assert_equal(&site).await;
    let versions = site.numbers(Side::Target, ["version"], "from highwater.watermark");
    assert!(versions.await[0] > 60);
}

#[tokio::test]
async fn a_crash_before_slot_confirm_applies_once() {
    // GIVEN a target that counts what is written into it
    let site = copied().await;
    site.execute(
        Side::Target,
        "create table written (id bigint); create function note_it() returns trigger language \
         plpgsql as $$ begin insert into public.written values (new.id); return new; end $$; create \
         trigger noting after insert or update on events for each row execute function note_it()",
    )
    .await;
    site.execute(
        Side::Source,
        "insert into events values (9001, now(), 1, 'once'); update events set amount = amount + 1 \
         where id = 1",
    )
    .await;
    // WHEN the process dies between the commit and the slot's confirmation
    let mut died = site.start("replay::before_confirm=return(abort)").await;
    assert!(!died.wait(LIMIT).await.unwrap().success());
    assert!(confirmed(&site).await < held(&site).await);
    // THEN nothing is applied again, and the slot is confirmed
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    let written = site.texts(Side::Target, "id", "from written order by id");
    assert_eq!(written.await, ["1", "9001"]);
    assert_eq!(confirmed(&site).await, held(&site).await);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_replay_resurrects_no_deleted_row() {
    // GIVEN a row that came and went, both applied, and the slot tells of both again
    let site = copied().await;
    site.write_pipeline(&format!("{STEP}    chunk: {{max_rows: 1}}\n"));
    site.execute(
        Side::Source,
        "insert into events values (9001, now(), 1, 'short'); update events set note = 'x' where id \
         = 1; delete from events where id in (1, 9001)",
    )
    .await;
    let mut died = site.start("replay::before_confirm=return(abort)").await;
    assert!(!died.wait(LIMIT).await.unwrap().success());
    assert_equal(&site).await;
    // WHEN it is read again, and dies in the midst
    let mut died = site.start("attempt::before_commit=return(abort)").await;
    died.wait(LIMIT).await.unwrap();
    // THEN neither is there
    assert_equal(&site).await;
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_equal(&site).await;
}

/// A writer that never stops until it is told to.
pub(crate) async fn write_until(site: &Site, is_over: &AtomicBool, seed: i64) -> i64 {
    let mut session: PgConnection = site.server().connect("source").await.unwrap();
    let mut no = 0;
    while !is_over.load(Ordering::Relaxed) {
        no += 1;
        let at = |times: i64| (no * times + seed * 613) % 2_500;
        let (mine, other) = (100_000 * seed + no, 100_000 * seed + no / 2);
        let work = format!(
            "begin; insert into events values ({mine}, now(), {no}, 'w'); update events set amount = \
             amount + 1, note = 'u{no}' where id = {}; {}; commit",
            at(37),
            match no % 4 {
                0 => format!("delete from events where id = {}", at(91)),
                1 => format!("update events set id = id + 1000000 where id = {other}"),
                2 => format!("delete from events where id = {other}"),
                _ => "select 1".to_owned(),
            }
        );
        // Of two writers that lock each other's row one is turned away.
        if sqlx::raw_sql(AssertSqlSafe(work))
            .execute(&mut session)
            .await
            .is_err()
        {
            sqlx::raw_sql("rollback")
                .execute(&mut session)
                .await
                .unwrap();
        }
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    no
}

#[tokio::test]
async fn copy_and_log_meet_without_gap_or_double() {
    for schedule in [
        &["off"][..],
        &[
            "replay::after_open=return(abort)",
            "attempt::reading=return(abort)",
        ],
        &[
            "attempt::before_commit=return(abort)",
            "replay::before_confirm=return(abort)",
        ],
        &[
            "attempt::after_commit=return(abort)",
            "attempt::after_begin=1*off->1*return(abort)",
            "attempt::between_chunks=3*off->1*return(abort)",
        ],
    ] {
        // GIVEN writers that never stop
        let site = followed().await;
        site.write_pipeline(&format!("{STEP}    chunk: {{max_rows: 200}}\n"));
        let is_over = AtomicBool::new(false);
        let runs = async {
            // WHEN the table is copied and followed, by processes that die on their way
            for failpoint in schedule {
                let strike = match *failpoint {
                    "off" => String::new(),
                    failpoint => failpoint.to_owned(),
                };
                let mut died = site.start(&strike).await;
                died.wait(LIMIT).await.unwrap();
            }
            for _ in 0..2 {
                assert_exit(&site.run().await, 0);
            }
            is_over.store(true, Ordering::Relaxed);
        };
        let (one, two, ()) = tokio::join!(
            write_until(&site, &is_over, 1),
            write_until(&site, &is_over, 2),
            runs
        );
        // THEN a last run finds all that they wrote, each of it once
        assert!(one > 10 && two > 10, "{one}, {two}");
        assert_exit(&site.run().await, 0);
        assert_equal(&site).await;
    }
}

#[tokio::test]
async fn what_a_log_cannot_tell_is_refused_before_anything_is_made() {
    for (before, says) in [
        (
            "alter table events drop constraint events_pkey",
            "write.key",
        ),
        (
            "alter table events replica identity nothing",
            "replica identity full",
        ),
        (
            "create publication events_changes for table events with (publish = 'insert')",
            "leaves out some kinds of changes",
        ),
        ("create publication events_changes", "add table"),
    ] {
        let site = followed().await;
        site.execute(Side::Source, before).await;
        let refused = site.run().await;
        assert_says(&refused.stdout, says);
        assert_exit(&refused, 7);
        let slots = site.numbers(Side::Source, ["count(*)"], "from pg_replication_slots");
        assert_eq!(slots.await, [0], "{before}");
    }
}

#[tokio::test]
async fn rows_that_are_in_the_way_of_the_copy_are_not_replaced_unasked() {
    let site = followed().await;
    let table = site.events_table("not null", "");
    site.execute(Side::Target, &table).await;
    site.execute(
        Side::Target,
        "insert into events values (77777, now(), 1, 'mine')",
    )
    .await;
    let refused = site.run().await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "resident_rows");
    site.write_pipeline(&STEP.replace("key: auto", "key: auto, resident: replace"));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_copy_without_a_position_is_followed_no_further() {
    let site = copied().await;
    site.execute(Side::Target, "delete from highwater.watermark")
        .await;
    site.execute(Side::Source, "delete from events where id < 9")
        .await;
    let refused = site.run().await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "nothing says up to where of the log");
    // AND no person puts it elsewhere
    let set = [
        "watermarks",
        "set",
        "pipeline.yaml",
        "events",
        "17",
        "-y",
        "--reason",
        "x",
    ];
    let refused = site.finish(&set).await;
    assert!(refused.stderr.contains("keeps no watermark"), "{refused:?}");
}

#[tokio::test]
async fn a_slot_that_is_there_before_the_step_is_taken_as_it_is() {
    // GIVEN a slot and a publication that somebody has made, through a connection that may make none
    let site = followed().await;
    let text = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    let read_only = text.replace("SOURCE_URL}\"", "SOURCE_URL}\", read_only: true");
    assert_ne!(text, read_only);
    std::fs::write(site.path("pipeline.yaml"), &read_only).unwrap();
    let refused = site.run().await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "log_unsupported");
    site.execute(
        Side::Source,
        "create publication events_changes for all tables",
    )
    .await;
    let make = "select pg_create_logical_replication_slot('events_log', 'pgoutput')";
    site.execute(Side::Source, make).await;
    site.execute(Side::Source, "update events set amount = 4 where id < 50")
        .await;
    // THEN it is followed from where it begins
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
    assert_equal(&site).await;
    site.execute(Side::Source, "delete from events where id < 9")
        .await;
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}
