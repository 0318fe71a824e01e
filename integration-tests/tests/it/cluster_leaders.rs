//! Coordinators that are killed, frozen and started again while a cluster copies a table.

use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};

const LIMIT: Duration = Duration::from_secs(60);
const SLOW: &str = "attempt::reading=return(stall 60)";

/// So many coordinators and two slow workers, in the midst of a run. Sessions last longer than a
/// change of leaders.
async fn running(coordinators: usize, orders: Orders) -> Cluster {
    let options = ClusterOptions {
        coordinators,
        session_ttl: Duration::from_secs(8),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, SLOW).await.unwrap();
    cluster.add_worker("w2", 2, SLOW).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(6).await.unwrap();
    cluster
}

#[tokio::test]
async fn coordinator_restart_mid_run_resumes() {
    // GIVEN the only coordinator of a run
    let orders = Orders { days: 60, rows: 40 };
    let mut cluster = running(1, orders).await;
    // WHEN it is killed and started again
    cluster.coordinator(0).kill().unwrap();
    cluster.restart_coordinator(0).await.unwrap();
    // THEN the run goes on where it was, in a new term, and its attempts were not lost
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!(
        (ledger.hi, ledger.attempt_max),
        ((1, 2), 1),
        "{ledger:?}\n{}",
        cluster.logs()
    );
}

#[tokio::test]
async fn leader_killed_mid_run_hands_over_and_attempts_survive() {
    // GIVEN two coordinators in the midst of a run
    let orders = Orders { days: 60, rows: 40 };
    let mut cluster = running(2, orders).await;
    let first = cluster.leader().await.unwrap();
    // WHEN the one that leads is killed
    cluster.coordinator(first).kill().unwrap();
    // THEN the other leads, and the run ends without a single second attempt
    let second = cluster.next_leader(&[first]).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!(
        (ledger.hi, ledger.attempt_max),
        ((1, 2), 1),
        "{ledger:?}\n{}",
        cluster.logs()
    );
    assert_eq!(cluster.leader().await.unwrap(), second);
}

#[tokio::test]
async fn old_leader_paused_and_woken_changes_nothing() {
    // GIVEN a leader that is frozen in the midst of a run, and another that has taken over
    let orders = Orders { days: 60, rows: 40 };
    let mut cluster = running(2, orders).await;
    let old = cluster.leader().await.unwrap();
    cluster.coordinator(old).freeze().unwrap();
    let new = 1 - old;
    cluster
        .coordinator(new)
        .until_logged("leading", LIMIT)
        .await
        .unwrap();
    let before = cluster
        .etcd
        .ctl(&["get", "/highwater/v1/test/leader", "--hex"])
        .await
        .unwrap();
    // WHEN the old one wakes up
    cluster.coordinator(old).thaw().unwrap();
    cluster
        .coordinator(old)
        .until_logged("the term is over", LIMIT)
        .await
        .unwrap();
    // THEN it has changed nothing, and follows
    let after = cluster
        .etcd
        .ctl(&["get", "/highwater/v1/test/leader", "--hex"])
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(cluster.next_leader(&[old]).await.unwrap(), new);
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!(
        (ledger.hi, ledger.attempt_max),
        ((1, 2), 1),
        "{ledger:?}\n{}",
        cluster.logs()
    );
}

#[tokio::test]
async fn cli_follow_survives_a_leader_change() {
    // GIVEN a run that two commands follow, one through the leader and one through the other
    // coordinator
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(8),
        ..ClusterOptions::default()
    };
    let orders = Orders { days: 60, rows: 40 };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, SLOW).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let file = cluster.file("orders.yaml", &orders.pipeline("")).unwrap();
    let mut followers = Vec::new();
    for no in [leader, 1 - leader] {
        let command = cluster.command(no).await.unwrap();
        let mut follower = command
            .args(["run"])
            .args([&file])
            .args(["--output=json"])
            .start()
            .unwrap();
        follower.until_stderr_holds("tasks", LIMIT).await.unwrap();
        followers.push(follower);
    }
    cluster.until_done(4).await.unwrap();
    // WHEN the leader is killed, and comes back as a follower
    cluster.coordinator(leader).kill().unwrap();
    cluster.next_leader(&[leader]).await.unwrap();
    cluster.restart_coordinator(leader).await.unwrap();
    // THEN both follow on, to the end of the run
    for mut follower in followers {
        let status = follower
            .wait(LIMIT)
            .await
            .map_err(|error| error.context(cluster.logs()))
            .unwrap();
        assert!(
            status.success(),
            "{status}: {}\n{}",
            follower.stderr().unwrap(),
            cluster.logs()
        );
        let run: serde_json::Value = serde_json::from_str(&follower.stdout().unwrap()).unwrap();
        assert_eq!(
            (run["status"].as_str(), run["tasks"]["done"].as_u64()),
            (Some("success"), Some(60)),
            "{run:#}"
        );
    }
    orders.check_copy(&cluster).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_told_to_end_hands_over_at_once() {
    // GIVEN two coordinators in the midst of a run
    let orders = Orders { days: 40, rows: 40 };
    let mut cluster = running(2, orders).await;
    let first = cluster.leader().await.unwrap();
    // WHEN the leader is told to end
    cluster.coordinator(first).terminate().unwrap();
    let status = cluster.coordinator(first).ended(LIMIT).await.unwrap();
    // THEN it ends in good order, and the run goes on under the other
    assert!(status.success(), "{status}\n{}", cluster.logs());
    cluster.next_leader(&[first]).await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    orders.check_copy(&cluster).await.unwrap();
    assert_eq!(
        cluster.ledger().await.unwrap().attempt_max,
        1,
        "{}",
        cluster.logs()
    );
}

/// Orders by a text, the bounds of which nobody but the source can order.
const BY_NOTE: &str = "version: 1
name: orders
connections:
  source: {type: postgres, url: \"${env:SOURCE_URL}\"}
  target: {type: postgres, url: \"${env:TARGET_URL}\"}
steps:
  orders:
    strategy: {type: backfill}
    from: {connection: source, table: orders}
    to: {connection: target, table: orders}
    partition: {by: keyset, columns: [note], max_rows: 40}
    write: {mode: append, key: [id]}
    retries: {max_attempts: 8, initial: 100ms, max: 500ms}
";

#[tokio::test]
async fn cut_bounds_are_frozen_across_a_leader_change() {
    // GIVEN a table that is cut by a text key, in the midst of a run, and rows that move every cut
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(8),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    Orders { days: 60, rows: 40 }.load(&cluster).await.unwrap();
    let mut source = cluster.source.connect("postgres").await.unwrap();
    let unique = "create unique index on orders (note); analyze orders";
    sqlx::raw_sql(unique).execute(&mut source).await.unwrap();
    cluster.add_worker("w1", 2, SLOW).await.unwrap();
    cluster.add_worker("w2", 2, SLOW).await.unwrap();
    cluster.submit(BY_NOTE).await.unwrap();
    cluster.until_done(6).await.unwrap();
    let bounds = "select hashtextextended(string_agg(number || array_to_string(key_values, ''), ',' \
                  order by number), 0) from highwater.bound";
    let (before, count) = (
        cluster.number(bounds).await.unwrap(),
        cluster
            .number("select count(*) from highwater.bound")
            .await
            .unwrap(),
    );
    assert_eq!(count, 59);
    let more =
        "insert into orders select 1000000 + i, now(), '!' || i from generate_series(1, 500) i";
    sqlx::raw_sql(more).execute(&mut source).await.unwrap();
    // WHEN the coordinator that leads is killed
    let first = cluster.leader().await.unwrap();
    cluster.coordinator(first).kill().unwrap();
    cluster.next_leader(&[first]).await.unwrap();
    // THEN the other one goes on with the same cuts, and every row that was there is loaded once
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    assert_eq!(cluster.number(bounds).await.unwrap(), before);
    let query = "select id, placed, note from orders where id < 1000000 order by id";
    let (ours, theirs) = cluster.digests(query).await.unwrap();
    assert_eq!((ours.rows, &ours), (2_400, &theirs));
    let ledger = cluster.ledger().await.unwrap();
    // The last one is that of rows without a note.
    assert_eq!((ledger.committed, ledger.others), (61, 0), "{ledger:?}");
}
