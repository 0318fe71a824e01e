//! What an etcd can do to a cluster that copies a table: end and come back, be dead from the start,
//! be put back to a backup, run out of space.

use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};

const LIMIT: Duration = Duration::from_secs(60);
const SLOW: &str = "attempt::reading=return(stall 60)";

#[tokio::test]
async fn etcd_restarted_mid_run_is_survived() {
    // GIVEN a run under way, under two coordinators
    let orders = Orders { days: 60, rows: 40 };
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(8),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, SLOW).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(6).await.unwrap();
    // WHEN etcd is killed, is away for longer than a lead lasts, and comes back
    cluster.etcd.kill().unwrap();
    let leader_logs = "the term is over";
    let lost = highwater_integration_tests::until("the lead to be lost", LIMIT, async || {
        Ok(cluster.logs().contains(leader_logs).then_some(()))
    });
    lost.await.unwrap();
    cluster.etcd.restart().await.unwrap();
    // THEN the run ends well, and both coordinators are still there
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    for no in 0..2 {
        assert!(cluster.coordinator(no).is_running(), "{}", cluster.logs());
    }
}

#[tokio::test]
async fn etcd_endpoint_dead_from_the_start_is_survived() {
    // GIVEN a coordinator that is given two members, the first of which nobody listens as
    let orders = Orders { days: 20, rows: 40 };
    let options = ClusterOptions {
        dead_endpoint: true,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    // WHEN a pipeline is run, THEN nothing fails
    cluster.submit(&orders.pipeline("")).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    assert_eq!(
        cluster.ledger().await.unwrap().attempt_max,
        1,
        "{}",
        cluster.logs()
    );
}

#[tokio::test]
async fn etcd_restored_from_a_snapshot_reissues_tokens_safely() {
    // GIVEN a run under way in the first term, and a snapshot of it
    let orders = Orders { days: 40, rows: 40 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, SLOW).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(4).await.unwrap();
    let snapshot = cluster.file("snapshot", "").unwrap();
    std::fs::remove_file(&snapshot).unwrap();
    cluster.etcd.save_snapshot(&snapshot).await.unwrap();
    // AND two more terms, in the last of which a worker dies with claims in the target
    for _ in 0..2 {
        cluster.coordinator(0).kill().unwrap();
        cluster.restart_coordinator(0).await.unwrap();
        cluster.leader().await.unwrap();
    }
    cluster
        .until_number(
            "claims of the third term",
            "select count(*) from highwater.task where token >> 24 = 3 and state = 'C'",
        )
        .await
        .unwrap();
    let open = "select count(*) from highwater.task where token >> 24 = 3 and state = 'O'";
    loop {
        cluster.until_number("an open claim", open).await.unwrap();
        cluster.worker("w1").freeze().unwrap();
        if cluster.number(open).await.unwrap() > 0 {
            break;
        }
        cluster.worker("w1").thaw().unwrap(); // it was between two tasks
    }
    cluster.worker("w1").kill().unwrap();
    let committed = cluster.ledger().await.unwrap().committed;
    // WHEN etcd is put back to the snapshot, and another worker comes
    cluster.etcd.restore_snapshot(&snapshot).await.unwrap();
    cluster.leader().await.unwrap();
    cluster.add_worker("w2", 2, "").await.unwrap();
    // THEN the run ends well, and what the target held was not done again
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    let kept = cluster
        .number("select count(*) from orders where worker = 'w1'")
        .await
        .unwrap();
    assert_eq!(kept, committed * 40, "{}", cluster.logs());
    // AND the tasks that were open have tokens above those that the target had seen
    let ledger = cluster.ledger().await.unwrap();
    assert!(ledger.hi.1 > 3, "{ledger:?}\n{}", cluster.logs());
}

#[tokio::test]
async fn etcd_out_of_space_recovers_without_loss() {
    // GIVEN a run under way, under two coordinators, over an etcd that may not take much
    let orders = Orders { days: 60, rows: 40 };
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(8),
        etcd_quota: Some(4 * 1024 * 1024),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, SLOW).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(6).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    // WHEN it runs out of space
    cluster.etcd.fill().await.unwrap();
    // THEN the leader stays, and says what is wrong and what to do: to whoever looks, at the run or
    // at the cluster
    cluster
        .coordinator(leader)
        .until_logged("is out of space: it takes nothing new", LIMIT)
        .await
        .unwrap();
    let told = |run: &serde_json::Value| {
        run["steps"][0]["waits"]
            .to_string()
            .contains("is out of space")
    };
    cluster
        .until_run("the run to say what it waits for", LIMIT, told)
        .await
        .unwrap();
    let trouble = cluster.cluster_status().await.unwrap()["trouble"].to_string();
    assert!(
        trouble.contains("defragment") && trouble.contains("alarm NOSPACE"),
        "{trouble}"
    );
    let done = cluster.status().await.unwrap()["tasks"]["done"]
        .as_u64()
        .unwrap();
    assert!(done < 60, "{done} of 60 tasks are done");
    // AND what would be new is refused with the same words
    let other = cluster
        .file(
            "other.yaml",
            &orders.pipeline("").replace("name: orders", "name: other"),
        )
        .unwrap();
    let args = ["run".as_ref(), other.as_os_str(), "--detach".as_ref()];
    let refused = cluster.highwater(leader, args, LIMIT).await.unwrap();
    assert!(
        !refused.status.success() && refused.stderr.contains("is out of space"),
        "{refused:?}"
    );
    // WHEN the leadership falls free as well, which nobody can win now
    cluster.coordinator(leader).freeze().unwrap();
    cluster
        .coordinator(1 - leader)
        .until_logged("is out of space: it takes nothing new", LIMIT)
        .await
        .unwrap();
    cluster.coordinator(leader).thaw().unwrap();
    cluster
        .coordinator(leader)
        .until_logged("the term is over", LIMIT)
        .await
        .unwrap();
    // THEN both are still there, and show the run
    let shown = cluster
        .until_run("the run to be shown without a leader", LIMIT, told)
        .await
        .unwrap();
    assert_eq!(shown["tasks"]["done"], done, "{shown:#}");
    for no in 0..2 {
        assert!(cluster.coordinator(no).is_running(), "{}", cluster.logs());
    }
    // WHEN somebody makes room, THEN the run goes on by itself and ends well, with every row once
    cluster.etcd.make_room().await.unwrap();
    let run = cluster.until_ended(LIMIT * 2).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    for no in 0..2 {
        assert!(cluster.coordinator(no).is_running(), "{}", cluster.logs());
    }
    let after = cluster.cluster_status().await.unwrap();
    assert_eq!(after["trouble"], serde_json::Value::Null, "{after:#}");
}
