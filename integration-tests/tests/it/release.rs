//! The chart's containers, run as the manifests say, without Kubernetes: over TLS, on a real etcd
//! and PostgreSQL, under a running backfill.

use std::sync::Arc;
use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::release::{COORDINATOR_HOST, End, Release};
use highwater_integration_tests::{Authority, until};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);
const STORE_CHECK: &str = "Job/r-highwater-store-check";
const GROUP: &str = "worker-default";
const SLOW: &str = "attempt::reading=return(stall 80)";
/// Two minutes of work for one worker, more or less.
const ORDERS: Orders = Orders {
    days: 120,
    rows: 20,
};

/// An etcd and two databases without daemons, and a release over them that is installed.
async fn installed(failpoints: &str, change: impl Fn(&mut Release)) -> (Cluster, Release) {
    let authority = Arc::new(Authority::new("release").unwrap());
    let options = ClusterOptions {
        coordinators: 0,
        authority: Some(Arc::clone(&authority)),
        server_name: Some(COORDINATOR_HOST.to_owned()),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let etcd = cluster.etcd.endpoint();
    let release = Release::of_shape("secrets", &etcd, &authority).await;
    let mut release = release.unwrap();
    release.env("SOURCE_URL", &cluster.source.url("postgres"));
    release.env("TARGET_URL", &cluster.target.url("postgres"));
    if !failpoints.is_empty() {
        release.env("FAILPOINTS", failpoints);
    }
    change(&mut release);
    release.reconcile().await.unwrap();
    cluster.reach_by(release.address().to_string());
    (cluster, release)
}

/// Sets an argument of a group's container.
fn set_arg(release: &mut Release, name: &str, value: &str) {
    let container = &mut release.deployment(GROUP)["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array_mut().unwrap();
    args.retain(|arg| !arg.as_str().unwrap().starts_with(&format!("{name}=")));
    args.push(json!(format!("{name}={value}")));
}

fn ended_well(ends: &[End]) {
    for end in ends {
        assert!(
            end.status.success(),
            "{}: {}\n{}",
            end.pod,
            end.status,
            end.log
        );
    }
}

/// Waits for the end of the run, and demands that each row is there once, by a first attempt.
async fn check(cluster: &Cluster, release: &Release, orders: Orders) {
    let run = cluster.until_ended(LIMIT).await;
    let run = run.unwrap_or_else(|error| panic!("{error:#}\n{}", release.logs()));
    assert_eq!(run["status"], "success", "{run:#}\n{}", release.logs());
    orders.check_copy(cluster).await.unwrap();
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!(ledger.attempt_max, 1, "{ledger:?}\n{}", release.logs());
}

#[tokio::test]
async fn a_rendered_release_runs_a_backfill() {
    // GIVEN an installed release, which says itself that it is well
    let (cluster, mut release) = installed("", |_| {}).await;
    let tested = release.run("Pod/r-highwater-test").await.unwrap();
    assert!(tested.status.success(), "{tested:?}\n{}", release.logs());
    assert_eq!(release.pods("coordinator").len(), 2);
    assert_eq!(release.pods(GROUP).len(), 2);
    // WHEN a table is copied by it
    let orders = Orders { days: 12, rows: 20 };
    orders.load(&cluster).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    // THEN every row is there once
    check(&cluster, &release, orders).await;
    // AND it goes in good order when it is uninstalled
    ended_well(&release.uninstall().await.unwrap());
}

#[tokio::test]
async fn scaling_a_group_under_load_loses_nothing() {
    // GIVEN a worker in the midst of a backfill
    let (cluster, mut release) = installed(SLOW, |release| {
        release.deployment(GROUP)["spec"]["replicas"] = json!(1);
        set_arg(release, "--slots", "2");
    })
    .await;
    ORDERS.load(&cluster).await.unwrap();
    cluster.submit(&ORDERS.pipeline("")).await.unwrap();
    cluster.until_done(4).await.unwrap();
    // WHEN the group grows to four
    release.deployment(GROUP)["spec"]["replicas"] = json!(4);
    assert!(release.reconcile().await.unwrap().is_empty());
    assert_eq!(release.pods(GROUP).len(), 4);
    // THEN all of them work
    let busy = async || {
        let status = cluster.cluster_status().await?;
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let busy = workers.iter().filter(|worker| worker["busy"] != 0).count();
        Ok((busy == 4).then_some(()))
    };
    until("four workers to be busy", LIMIT, busy).await.unwrap();
    // AND when it shrinks to two again, those that go finish what they have
    release.deployment(GROUP)["spec"]["replicas"] = json!(2);
    let ends = release.reconcile().await.unwrap();
    assert_eq!(ends.len(), 2);
    ended_well(&ends);
    // AND nothing is lost or doubled, and no attempt was counted
    check(&cluster, &release, ORDERS).await;
}

#[tokio::test]
async fn a_rolling_upgrade_counts_no_attempt_as_failed() {
    // GIVEN a release in the midst of a backfill
    let (cluster, mut release) = installed(SLOW, |release| set_arg(release, "--slots", "2")).await;
    ORDERS.load(&cluster).await.unwrap();
    cluster.submit(&ORDERS.pipeline("")).await.unwrap();
    cluster.until_done(4).await.unwrap();
    let before = [release.pods("coordinator"), release.pods(GROUP)].concat();
    let before: Vec<String> = before.into_iter().map(ToOwned::to_owned).collect();
    // WHEN it is upgraded to another image
    let checked = release.run(STORE_CHECK).await.unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let mut ends = Vec::new();
    for deployment in ["coordinator", GROUP] {
        let template = &mut release.deployment(deployment)["spec"]["template"];
        template["spec"]["containers"][0]["image"] = json!("highwater:0.1.1");
        ends.extend(release.reconcile().await.unwrap());
    }
    // THEN every pod is another one, and those that went did so in good order
    assert_eq!(ends.len(), 4);
    ended_well(&ends);
    let after = [release.pods("coordinator"), release.pods(GROUP)].concat();
    assert!(
        after.iter().all(|pod| !before.iter().any(|old| old == pod)),
        "{after:?}"
    );
    // AND the run goes on to its end, with no attempt counted
    check(&cluster, &release, ORDERS).await;
}

#[tokio::test]
async fn a_drained_node_finishes_or_hands_back_in_time() {
    // GIVEN workers with tasks that take longer than their drain may, and some that do not
    let (cluster, mut release) = installed("attempt::reading=return(stall 700)", |release| {
        set_arg(release, "--slots", "3");
        set_arg(release, "--drain-timeout", "300ms");
        let spec = &mut release.deployment(GROUP)["spec"]["template"]["spec"];
        spec["terminationGracePeriodSeconds"] = json!(10);
    })
    .await;
    let orders = Orders { days: 24, rows: 20 };
    orders.load(&cluster).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(3).await.unwrap();
    // WHEN the node of one of each goes: its pods are evicted, and made anew elsewhere
    let going = [release.pods("coordinator")[0], release.pods(GROUP)[0]].map(ToOwned::to_owned);
    let mut ends = Vec::new();
    for pod in going {
        ends.push(release.evict(&pod).await.unwrap());
    }
    ends.extend(release.reconcile().await.unwrap());
    // THEN both ended by themselves, within their grace
    assert_eq!(ends.len(), 2);
    ended_well(&ends);
    // AND what the worker had in hand was finished or handed back: no attempt is counted
    check(&cluster, &release, orders).await;
}

#[tokio::test]
async fn a_store_of_another_version_ends_an_upgrade_before_it_begins() {
    // GIVEN a release whose store another version has written by now
    let (cluster, release) = installed("", |_| {}).await;
    let keys = ["get", "--prefix", "", "--keys-only"];
    let keys = cluster.etcd.ctl(&keys).await.unwrap();
    let form = keys.lines().find(|key| key.ends_with("/fmt")).unwrap();
    let another = "\u{8}c"; // form 99
    cluster.etcd.ctl(&["put", form, another]).await.unwrap();
    // WHEN the store is checked before an upgrade
    let checked = release.run(STORE_CHECK).await.unwrap();
    // THEN it is refused, with what to do
    assert_eq!(checked.status.code(), Some(6), "{checked:?}");
    assert!(checked.stderr.contains("format: 99"), "{checked:?}");
    assert!(
        checked.stderr.contains("upgrade every coordinator"),
        "{checked:?}"
    );
}
