//! A log that is followed until somebody ends the run: what commits in the source is soon in the
//! target, and nothing is lost however the run is ended or taken over.

use std::time::{Duration, Instant};

use highwater_integration_tests::cluster::{Cluster, ClusterOptions};
use highwater_integration_tests::{Signal, until};
use sqlx::AssertSqlSafe;

use crate::cdc::{STEP, assert_equal, confirmed, followed, held};
use crate::cdc_resync::standing;
use crate::site::{LIMIT, Side, Site, assert_exit, assert_says};

/// The step, followed for good, and one that waits for it.
fn continuous() -> String {
    let step = STEP.replace(
        "publication: events_changes",
        "publication: events_changes, until: continuous",
    );
    format!(
        "{step}  after:\n    strategy: sql\n    depends_on: [events]\n    to: {{connection: target, \
         table: after}}\n    sql: create table after as select count(*) as rows from events\n"
    )
}

/// Waits until a query of the target's gives 1.
async fn until_true(site: &Site, what: &str, condition: &str) {
    let from = format!("from (select ({condition})::int as is) it");
    let asked = async || {
        let [is] = site.numbers(Side::Target, ["it.is"], &from).await;
        Ok((is == 1).then_some(()))
    };
    until(what, LIMIT, asked).await.unwrap();
}

async fn until_after(site: &Site) {
    until_true(site, "the dependant", "to_regclass('after') is not null").await;
}

#[tokio::test]
async fn a_run_goes_on_and_its_dependants_begin_once_it_is_live() {
    // GIVEN a run that follows a table until somebody ends it
    let site = followed().await;
    site.write_pipeline(&continuous());
    let mut run = site.start("").await;
    until_after(&site).await;
    let rows = site.numbers(Side::Target, ["rows"], "from after").await;
    assert_eq!(rows, [2_000]);
    let status = site.status().await;
    assert_eq!(status["status"], "running", "{status:#}");
    let id = status["run"].as_str().unwrap();
    assert_eq!(standing(&site).await["state"], "live");
    // WHEN rows change THEN they are in the target at once
    let mut lags = Vec::new();
    for id in 9_001..9_008 {
        let insert = format!("insert into events values ({id}, now(), 1, 'soon')");
        site.execute(Side::Source, &insert).await;
        let begun = Instant::now();
        until_true(
            &site,
            "the row",
            &format!("exists (select from events where id = {id})"),
        )
        .await;
        lags.push(begun.elapsed());
    }
    lags.sort();
    assert!(lags[3] < Duration::from_secs(1), "{lags:?}");
    // WHEN it is interrupted amid changes THEN it ends between two transactions, and another
    // process goes on with the same run
    site.execute(Side::Source, "update events set amount = amount + 1")
        .await;
    run.signal(Signal::Int).unwrap();
    run.wait(LIMIT).await.unwrap();
    assert!(confirmed(&site).await <= held(&site).await);
    site.execute(Side::Source, "delete from events where id < 100")
        .await;
    let mut again = site.start("").await;
    until_true(
        &site,
        "the deletes",
        "not exists (select from events where id < 100)",
    )
    .await;
    assert_equal(&site).await;
    let told = again.stderr().unwrap();
    assert!(
        told.contains("an unfinished run of the same file"),
        "{told}"
    );
    // WHEN it is cancelled THEN it ends, and a later run goes on behind it
    let cancelled = site
        .finish(&["cancel", id, "--reason", "a test", "-y"])
        .await;
    assert_exit(&cancelled, 0);
    assert_eq!(again.wait(LIMIT).await.unwrap().code(), Some(8));
    site.execute(Side::Source, "delete from events where id < 200")
        .await;
    site.write_pipeline(STEP);
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_log_that_is_followed_and_lost_fails_the_run() {
    let site = followed().await;
    site.write_pipeline(&continuous());
    let mut run = site.start("").await;
    until_after(&site).await;
    // WHEN the slot is gone amid the run THEN it does not go on at the log's end
    site.execute(
        Side::Source,
        "begin; select pg_drop_replication_slot('events_log') from generate_series(1, 1); delete \
         from events where id < 9; commit",
    )
    .await;
    assert_eq!(run.wait(LIMIT).await.unwrap().code(), Some(3));
    assert_says(&run.stdout().unwrap(), "log_gap");
    let [rows] = site
        .numbers(Side::Target, ["count(*)"], "from events")
        .await;
    assert_eq!(rows, 2_000);
}

#[tokio::test]
async fn no_attempt_that_follows_is_too_long() {
    // GIVEN a limit that the copy holds
    let site = followed().await;
    let limited =
        continuous().replacen("    retries:", "    limits: {attempt: 6s}\n    retries:", 1);
    assert_ne!(limited, continuous());
    site.write_pipeline(&limited);
    let mut run = site.start("").await;
    until_after(&site).await;
    // WHEN the log is followed for longer
    tokio::time::sleep(Duration::from_secs(8)).await;
    site.execute(Side::Source, "delete from events where id < 9")
        .await;
    let gone = "not exists (select from events where id < 9)";
    until_true(&site, "the delete", gone).await;
    // THEN it is still the same attempt
    let attempts = site.numbers(Side::Target, ["max(attempt)"], "from highwater.task");
    assert_eq!(attempts.await, [1]);
    run.signal(Signal::Int).unwrap();
    run.wait(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_log_that_tells_nothing_of_the_table_is_let_go() {
    let site = followed().await;
    site.write_pipeline(&continuous());
    let mut run = site.start("").await;
    until_after(&site).await;
    // WHEN much happens to other tables THEN the slot keeps none of it for long
    let before = held(&site).await;
    site.execute(
        Side::Source,
        "create table noise as select repeat('x', 1000) from generate_series(1, 30000)",
    )
    .await;
    let asked = async || {
        let [passed] = site
            .numbers(
                Side::Source,
                [
                    &*format!("confirmed_flush_lsn - '0/0' > {before} + 20000000)::int")
                        .replace("confirmed", "(confirmed"),
                ],
                "from pg_replication_slots where slot_name = 'events_log'",
            )
            .await;
        Ok((passed == 1).then_some(()))
    };
    until("the slot", LIMIT, asked).await.unwrap();
    run.signal(Signal::Int).unwrap();
    run.wait(LIMIT).await.unwrap();
}

#[tokio::test]
async fn cdc_survives_failover_of_the_leader_and_the_worker() {
    // GIVEN a cluster that follows a table whose writer never stops
    let options = ClusterOptions {
        coordinators: 2,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let mut source = cluster.source.connect("postgres").await.unwrap();
    let make = "create table events (id bigint primary key, n bigint not null); insert into events \
                select i, 0 from generate_series(1, 500) i";
    sqlx::raw_sql(make).execute(&mut source).await.unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    let pipeline = "\
version: 1
name: events
connections:
  source: {type: postgres, url: \"${env:SOURCE_URL}\"}
  target: {type: postgres, url: \"${env:TARGET_URL}\"}
steps:
  events:
    strategy: {type: cdc, slot: events_log, publication: events_changes, until: continuous}
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    write: {mode: merge, key: auto}
    retries: {initial: 10ms, max: 100ms}
";
    cluster.submit(pipeline).await.unwrap();
    let mut round = 0;
    let mut write_and_wait = async |cluster: &Cluster, what: &str| {
        for _ in 0..20 {
            round += 1;
            let write = format!(
                "begin; update events set n = {round} where id % 7 = {round} % 7; insert into events \
                 values ({}, {round}); delete from events where id = {round}; commit",
                1_000 + round
            );
            sqlx::raw_sql(AssertSqlSafe(write))
                .execute(&mut source)
                .await
                .unwrap();
        }
        let query = format!("select count(*) from events where id = {}", 1_000 + round);
        cluster.until_number(what, &query).await.unwrap();
        let (from, to) = cluster
            .digests("select * from events order by id")
            .await
            .unwrap();
        assert_eq!(from, to, "{what}");
    };
    write_and_wait(&cluster, "what is followed").await;
    // WHEN the leader is killed THEN it goes on
    let first = cluster.leader().await.unwrap();
    cluster.coordinator(first).kill().unwrap();
    write_and_wait(&cluster, "what is followed while nobody leads").await;
    cluster.next_leader(&[first]).await.unwrap();
    write_and_wait(&cluster, "what is followed under another leader").await;
    // WHEN the worker is killed THEN another one takes over, and nothing is lost or doubled
    cluster.add_worker("w2", 2, "").await.unwrap();
    cluster.worker("w1").kill().unwrap();
    write_and_wait(&cluster, "what another worker follows").await;
    // AND a frozen one that wakes up changes nothing
    cluster.add_worker("w3", 2, "").await.unwrap();
    cluster.worker("w2").freeze().unwrap();
    write_and_wait(&cluster, "what a third worker follows").await;
    cluster.worker("w2").thaw().unwrap();
    write_and_wait(&cluster, "what is followed beside a zombie").await;
    let status = cluster.status().await.unwrap();
    assert_eq!(status["status"], "running", "{status:#}");
}
