//! What is declared about tasks at once holds over all workers, and a task that waits says for
//! what.

use std::time::Duration;

use highwater_integration_tests::Etcd;
use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Daemons, Ledger, Orders};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const SLOW: &str = "attempt::reading=return(stall 40)";

/// Three workers of four slots each run the pipeline; the target's ledger tells the most tasks at
/// once.
async fn run_limited(orders: Orders, pipeline: &str) -> (Cluster, Ledger) {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    for worker in ["w1", "w2", "w3"] {
        cluster.add_worker(worker, 4, SLOW).await.unwrap();
    }
    cluster.submit(pipeline).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    let ledger = cluster.ledger().await.unwrap();
    (cluster, ledger)
}

#[tokio::test]
async fn never_more_than_the_declared_tasks_run_across_workers() {
    // GIVEN a run of at most three tasks at once; WHEN three workers of four slots each have worked
    // on it
    let orders = Orders { days: 30, rows: 20 };
    let (_cluster, ledger) = run_limited(orders, &orders.pipeline("limits: {tasks: 3}")).await;
    // THEN never more than three were between claim and commit, and three were
    assert_eq!(ledger.at_once, 3, "{ledger:?}");
}

#[tokio::test]
async fn connection_limit_holds_across_workers() {
    // GIVEN a target that gives two connections; WHEN three workers of four slots each have worked
    // on it
    let orders = Orders { days: 30, rows: 20 };
    let limited = orders
        .pipeline("")
        .replace("TARGET_URL}\"", "TARGET_URL}\", max_connections: 2");
    let (_cluster, ledger) = run_limited(orders, &limited).await;
    // THEN never more than two were used
    assert_eq!(ledger.at_once, 2, "{ledger:?}");
}

/// Tasks of a run that are done.
async fn done(cluster: &Daemons, pipeline: &str) -> u64 {
    let args = ["status", pipeline, "--output=json"];
    let finished = cluster.highwater(0, args, LIMIT).await.unwrap();
    let run: Value = serde_json::from_str(&finished.stdout).unwrap();
    run["tasks"]["done"].as_u64().unwrap()
}

#[tokio::test]
async fn two_runs_share_slots_fairly_and_old_ones_do_not_starve() {
    // GIVEN a worker of four slots, and two runs that would each take all of them
    let etcd = Etcd::start().await.unwrap();
    let mut cluster = Daemons::new(ClusterOptions::default(), etcd.endpoint()).unwrap();
    cluster.add_coordinator("test").await.unwrap();
    let noop = |name: &str, tasks: u32, limits: &str| {
        format!(
            "version: 1\nname: {name}\n{limits}steps: {{w: {{strategy: {{type: noop, tasks: {tasks}, \
             hold: 200ms}}}}}}\n"
        )
    };
    cluster.submit(&noop("old", 200, "")).await.unwrap();
    let address = cluster.address(0).to_owned();
    let worker = cluster.prepare("w1", 4, &address, &[]);
    worker.start().await.unwrap();
    cluster.until_done(20).await.unwrap();
    let before = done(&cluster, "old").await;
    // WHEN the second comes, THEN it holds as many as the first one, which goes on
    cluster.submit(&noop("new", 40, "")).await.unwrap();
    cluster.until_ended(LIMIT).await.unwrap();
    let meanwhile = done(&cluster, "old").await - before;
    assert!(
        (25..=75).contains(&meanwhile),
        "{meanwhile} beside 40 of the other"
    );
    // WHEN a third one of a higher priority comes, THEN it gets what is free, and the first one waits
    let before = done(&cluster, "old").await;
    let urgent = noop("urgent", 40, "limits: {priority: 9}\n");
    cluster.submit(&urgent).await.unwrap();
    cluster.until_ended(LIMIT).await.unwrap();
    let meanwhile = done(&cluster, "old").await - before;
    assert!(meanwhile <= 20, "{meanwhile} beside 40 of the urgent one");
    // AND WHEN an operator raises the first one over another, THEN it is the other that waits
    cluster.submit(&noop("last", 40, "")).await.unwrap();
    let args = ["limits", "old", "--priority", "8"];
    let raised = cluster.highwater(0, args, LIMIT).await.unwrap();
    assert!(raised.status.success(), "{raised:?}");
    let args = ["wait", "old"];
    let ended = cluster.highwater(0, args, LIMIT).await.unwrap();
    assert!(ended.status.success(), "{ended:?}\n{}", cluster.logs());
    let beside = done(&cluster, "last").await;
    assert!(beside <= 20, "{beside} beside the raised one");
}

/// The pipeline of `orders` under another name, with a step that copies the same table once more.
fn with_copies(orders: Orders, more: &str, keys: &str) -> String {
    let text = orders.pipeline(more);
    let step = text.split_once("  orders:\n").unwrap().1.replace(
        "table: orders}\n    partition",
        "table: copies}\n    partition",
    );
    format!("{text}{keys}  copies:\n{step}{keys}")
}

#[tokio::test]
async fn a_pool_holds_over_steps_and_workers() {
    // GIVEN two steps that share a pool of two; WHEN three workers of four slots each have worked
    // on both
    let orders = Orders { days: 12, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    for worker in ["w1", "w2", "w3"] {
        cluster.add_worker(worker, 4, SLOW).await.unwrap();
    }
    let pooled = with_copies(
        orders,
        "pools: {legacy_reads: {tasks: 2}, unused: {tasks: 1}}",
        "    pools: [legacy_reads]\n",
    );
    cluster.submit(&pooled).await.unwrap();
    let waits = |run: &serde_json::Value| {
        run["steps"]
            .to_string()
            .contains("pool legacy_reads, 2/2 in use")
    };
    cluster
        .until_run("the pool to be named", LIMIT, waits)
        .await
        .unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success",
        "{}",
        cluster.logs()
    );
    // THEN never more than two were between claim and commit, and two were; and both have
    // everything
    assert_eq!(cluster.ledger().await.unwrap().at_once, 2);
    assert_eq!(
        cluster.number("select count(*) from orders").await.unwrap(),
        240
    );
    assert_eq!(
        cluster.number("select count(*) from copies").await.unwrap(),
        240
    );
}

#[tokio::test]
async fn a_pool_of_the_cluster_holds_over_runs() {
    // GIVEN a cluster that gives a pool three places, and two pipelines that give it five each
    let orders = Orders { days: 20, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let config = cluster
        .file(
            "highwater.config.yaml",
            "coordinator: {pools: {legacy_reads: 3}}",
        )
        .unwrap();
    cluster
        .coordinator(0)
        .args(["--config".into(), config.into_os_string()]);
    cluster.restart_coordinator(0).await.unwrap();
    orders.load(&cluster).await.unwrap();
    for worker in ["w1", "w2"] {
        cluster.add_worker(worker, 5, SLOW).await.unwrap();
    }
    let pooled =
        orders.pipeline("pools: {legacy_reads: {tasks: 5}}") + "    pools: [legacy_reads]\n";
    cluster.submit(&pooled).await.unwrap();
    let copies = pooled
        .replace("name: orders", "name: copies")
        .replace("table: orders}\n    part", "table: copies}\n    part");
    cluster.submit(&copies).await.unwrap();
    // WHEN both run, THEN the latter says that the cluster's pool is full
    let waits = |run: &serde_json::Value| {
        run["steps"]
            .to_string()
            .contains("pool legacy_reads of the cluster, 3/3 in use")
    };
    cluster
        .until_run("the cluster's pool to be named", LIMIT, waits)
        .await
        .unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success",
        "{}",
        cluster.logs()
    );
    let first = cluster
        .highwater(0, ["wait", "orders"], LIMIT)
        .await
        .unwrap();
    assert!(first.status.success(), "{first:?}\n{}", cluster.logs());
    // AND never more than three were between claim and commit, and three were
    assert_eq!(cluster.ledger().await.unwrap().at_once, 3);
}

#[tokio::test]
async fn waiting_task_says_why() {
    let waits = |reason: &'static str| {
        move |run: &serde_json::Value| run["steps"][0]["waits"].to_string().contains(reason)
    };
    // GIVEN a run without a worker
    let orders = Orders { days: 12, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    let run = cluster
        .submit(&orders.pipeline("limits: {tasks: 1}"))
        .await
        .unwrap();
    // THEN it says so
    cluster
        .until_run(
            "a run without a worker to say so",
            LIMIT,
            waits("no worker is connected"),
        )
        .await
        .unwrap();
    // WHEN a worker has come that could do more, THEN the limit is named
    cluster
        .add_worker("w1", 4, "attempt::reading=return(stall 150)")
        .await
        .unwrap();
    cluster
        .until_run(
            "the limit to be named",
            LIMIT,
            waits("limit of the run, 1/1 at once"),
        )
        .await
        .unwrap();
    // AND for people too
    let shown = cluster.highwater(0, ["status", &run], LIMIT).await.unwrap();
    assert!(shown.stdout.contains("limit of the run"), "{shown:?}");
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
}

#[tokio::test]
async fn a_slot_that_is_taken_and_a_connection_in_use_are_named() {
    let waits = |reason: &'static str| {
        move |run: &serde_json::Value| run["steps"][0]["waits"].to_string().contains(reason)
    };
    // GIVEN a worker of one slot; WHEN it works, THEN the others wait for its slot
    let orders = Orders { days: 4, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 1, "attempt::reading=return(stall 300)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster
        .until_run(
            "the slot to be named",
            LIMIT,
            waits("every slot is taken, 1/1"),
        )
        .await
        .unwrap();
    cluster.until_ended(LIMIT).await.unwrap();
    // GIVEN a connection that gives one; WHEN two slots are free, THEN the connection is what is
    // waited for
    cluster
        .add_worker("w2", 2, "attempt::reading=return(stall 300)")
        .await
        .unwrap();
    let limited = orders
        .pipeline("")
        .replace("TARGET_URL}\"", "TARGET_URL}\", max_connections: 1");
    let limited = limited.replace("type: backfill", "type: backfill, reprocess: all");
    cluster.submit(&limited).await.unwrap();
    cluster
        .until_run(
            "the connection to be named",
            LIMIT,
            waits("connection target, 1/1 in use"),
        )
        .await
        .unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
}

#[tokio::test]
async fn labels_pin_a_step_to_the_workers_that_carry_them() {
    // GIVEN a step for workers with a fast disk, and a worker without
    let orders = Orders { days: 8, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    let labelled = orders.pipeline("") + "    labels: {disk: fast}\n";
    cluster.submit(&labelled).await.unwrap();
    // THEN its probe already waits for one, and says so
    let waits = |run: &serde_json::Value| {
        run["steps"][0]["waits"]
            .to_string()
            .contains("probe: no connected worker has the labels disk=fast")
    };
    cluster
        .until_run("the labels to be named", LIMIT, waits)
        .await
        .unwrap();
    // AND another run does not wait behind it
    let plain = orders.pipeline("").replace("name: orders", "name: copies");
    let plain = plain.replace("table: orders}\n    part", "table: copies}\n    part");
    cluster.submit(&plain).await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success",
        "{}",
        cluster.logs()
    );
    // WHEN a worker comes that carries the label
    let addresses = cluster.address(0).to_owned();
    let fast = cluster.prepare_worker("w2", 2, &addresses).await.unwrap();
    fast.args(["--labels", "disk=fast,zone=a"])
        .start()
        .await
        .unwrap();
    // THEN the run ends well, and all of its rows came by this one
    let ended = cluster
        .highwater(0, ["wait", "orders"], LIMIT)
        .await
        .unwrap();
    assert!(ended.status.success(), "{ended:?}\n{}", cluster.logs());
    assert_eq!(
        cluster
            .number("select count(*) from orders where worker = 'w2'")
            .await
            .unwrap(),
        160
    );
    assert_eq!(
        cluster.number("select count(*) from orders").await.unwrap(),
        160
    );
}
