//! What a log and a copy must not lose between them, and how large a transaction may be.

use std::time::Duration;

use highwater_integration_tests::digest::digest_postgres;
use highwater_integration_tests::{Postgres, until};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::cdc::{STEP, assert_equal, followed};
use crate::site::{LIMIT, Side, assert_exit, assert_says};

async fn say(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_commit_waiting_for_a_standby_is_not_lost() {
    // GIVEN a source whose commits wait for a standby, and a target on another server
    let mut site = followed().await;
    let target = Postgres::start().await.unwrap();
    let url = target.create_database("target").await.unwrap();
    site.point("TARGET_URL", url.clone());
    site.execute(
        Side::Source,
        "create publication events_changes for table events",
    )
    .await;
    let standby = site.server().standby().await.unwrap();
    let mut server = site.server().connect("source").await.unwrap();
    for setting in [
        "alter system set synchronous_standby_names = '*'",
        "select pg_reload_conf()",
    ] {
        say(&mut server, setting).await;
    }
    let number = async |sql: &str| {
        let mut conn = site.server().connect("source").await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&mut conn)
            .await
            .unwrap()
    };
    let is_one = async |what: &str, sql: &str| {
        until(what, LIMIT, async || {
            Ok((number(sql).await > 0).then_some(()))
        })
        .await
        .unwrap();
    };
    is_one(
        "a standby that commits wait for",
        "select count(*) from pg_stat_replication where sync_state = 'sync'",
    )
    .await;
    // AND a commit that is in the log already, and waits for a standby that is cut off
    standby.cut_off().await.unwrap();
    let mut writer = site.server().connect("source").await.unwrap();
    let waiting = tokio::spawn(async move {
        say(
            &mut writer,
            "insert into events values (9001, now(), 1, 'waits')",
        )
        .await;
    });
    is_one(
        "a commit that waits",
        "select count(*) from pg_stat_activity where wait_event = 'SyncRep'",
    )
    .await;
    // WHEN the table is copied THEN that waits, too: nobody sees the row yet
    let mut run = site.start("").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(run.ended().unwrap().is_none());
    let mut conn = target.connect("target").await.unwrap();
    let copied = "select count(*) from highwater.task where state = 'C'";
    let copied: i64 = sqlx::query_scalar(copied)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(copied, 0);
    // AND once it is over the row is there
    for setting in [
        "alter system set synchronous_standby_names = ''",
        "select pg_reload_conf()",
    ] {
        say(&mut server, setting).await;
    }
    waiting.await.unwrap();
    assert!(run.wait(LIMIT).await.unwrap().success());
    let (from, to) = (site.server().url("source"), url);
    let source = digest_postgres(&from, "events", "id").await.unwrap();
    assert_eq!(source, digest_postgres(&to, "events", "id").await.unwrap());
}

#[tokio::test]
async fn a_source_that_fails_over_is_noticed() {
    // GIVEN a table that was copied from a server that has a standby
    let mut site = followed().await;
    let target = Postgres::start().await.unwrap();
    let url = target.create_database("target").await.unwrap();
    site.point("TARGET_URL", url.clone());
    assert_exit(&site.run().await, 0);
    let standby = site.server().standby().await.unwrap();
    // WHEN the standby takes its place, with a slot of the same name that begins early enough
    let mut conn = standby.connect("source").await.unwrap();
    standby.promote().await.unwrap();
    let mut other = target.connect("target").await.unwrap();
    let slot = "select pg_create_logical_replication_slot('events_log', 'pgoutput')";
    say(&mut conn, slot).await;
    let at: String = sqlx::query_scalar(
        "select (confirmed_flush_lsn - '0/0')::text from pg_replication_slots where slot_name = \
         'events_log'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let place = format!("update highwater.watermark set position = 'integer:{at}'");
    say(&mut other, &place).await;
    say(&mut conn, "delete from events where id < 9").await;
    site.point("SOURCE_URL", standby.url("source"));
    // THEN that is said, and nothing is applied
    let halted = site.finish(&["run", "pipeline.yaml", "--new"]).await;
    assert_exit(&halted, 7);
    for what in ["source_changed", "a standby has taken its place"] {
        assert_says(&halted.stdout, what);
    }
}

/// The largest memory that a process has had, in MiB.
fn peak_mib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

#[tokio::test]
async fn a_transaction_of_two_million_rows_stays_small() {
    // GIVEN a table that is followed, and a transaction of two million rows; of fewer in a shorter run
    let is_soak = std::env::var_os("HIGHWATER_SOAK").is_some();
    let (rows, most) = if is_soak {
        (2_000_000, 200)
    } else {
        (300_000, 100)
    };
    let site = followed().await;
    site.write_pipeline(STEP);
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        &format!(
            "insert into events select i, '2024-01-01', 1, 'row ' || i from \
             generate_series(10001, {}) i",
            10_000 + rows
        ),
    )
    .await;
    // WHEN it is applied THEN it is never held as a whole
    let mut run = site.start("").await;
    let mut peak = 0;
    let ended = loop {
        peak = peak.max(peak_mib(run.id()).unwrap_or(0));
        if let Some(ended) = run.ended().unwrap() {
            break ended;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(ended.success(), "{}", run.stdout().unwrap());
    assert!(peak > 0 && peak < most, "{peak} MiB");
    assert_equal(&site).await;
}
