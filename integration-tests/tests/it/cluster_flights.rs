//! The year of flights, copied by a cluster to which everything happens.

use std::time::Duration;

use highwater_integration_tests::FlightsFull;
use highwater_integration_tests::cluster::{Cluster, ClusterOptions};
use highwater_integration_tests::flights::KEY;

const LIMIT: Duration = Duration::from_secs(240);
const SLOW: &str = "attempt::reading=return(stall 20)";
const PIPELINE: &str = r#"
version: 1
name: flights
connections:
  source: {type: postgres, url: "${env:SOURCE_URL}"}
  target: {type: postgres, url: "${env:TARGET_URL}"}
steps:
  flights:
    strategy: {type: backfill, start: 2013-01-01, end: 2014-01-01}
    from: {connection: source, table: flights}
    to: {connection: target, table: flights}
    partition: {by: calendar, column: time_hour, grain: day, tz: America/New_York}
    write: {mode: replace_partition, key: [time_hour, carrier, flight]}
    retries: {max_attempts: 8, initial: 100ms, max: 500ms}
"#;

#[tokio::test]
async fn a_year_of_flights_outlives_everything_that_happens_to_its_cluster() {
    // GIVEN the year in one PostgreSQL, two coordinators and four workers
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(6),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    FlightsFull::find()
        .await
        .unwrap()
        .load(&cluster.source.url("postgres"))
        .await
        .unwrap();
    for worker in ["w1", "w2", "w3", "w4"] {
        cluster.add_worker(worker, 2, SLOW).await.unwrap();
    }
    // WHEN it is copied by days, and meanwhile
    cluster.submit(PIPELINE).await.unwrap();
    cluster.until_done(20).await.unwrap();
    // one worker is killed,
    cluster.worker("w1").kill().unwrap();
    cluster.until_done(50).await.unwrap();
    // one is frozen past its lease and goes on,
    cluster.worker("w2").freeze().unwrap();
    cluster.until_worker("w2", "gone", LIMIT).await.unwrap();
    cluster.worker("w2").thaw().unwrap();
    cluster.until_worker("w2", "ready", LIMIT).await.unwrap();
    // the leader is killed,
    let first = cluster.leader().await.unwrap();
    cluster.coordinator(first).kill().unwrap();
    cluster.next_leader(&[first]).await.unwrap();
    let done = cluster.status().await.unwrap()["tasks"]["done"]
        .as_u64()
        .unwrap();
    cluster.until_done((done + 20).min(340)).await.unwrap();
    // and etcd is restarted
    cluster.etcd.kill().unwrap();
    cluster.etcd.restart().await.unwrap();
    // THEN the run ends well
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    // AND the copy is equal by count and digest
    let (ours, theirs) = cluster
        .digests(&format!("select * from flights order by {KEY}"))
        .await
        .unwrap();
    assert_eq!(ours.rows, FlightsFull::ROWS);
    assert_eq!(ours, theirs, "{}", cluster.logs());
    // AND each day is committed once
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!((ledger.committed, ledger.others), (365, 0), "{ledger:?}");
    assert_eq!(ledger.rows, i64::try_from(FlightsFull::ROWS).unwrap());
    let days = "select count(distinct (range_start, range_end)) from highwater.task where state = \
                'C'";
    assert_eq!(cluster.number(days).await.unwrap(), 365);
}
