//! What a coordinator's server refuses, how long it lets a call take, and what both sides say of
//! themselves.

use std::time::Duration;

use highwater_integration_tests::Binary;
use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_proto::PROTOCOL_VERSION;
use highwater_proto::v1::control_service_client::ControlServiceClient;
use highwater_proto::v1::worker_service_client::WorkerServiceClient;
use highwater_proto::v1::{GetClusterRequest, GetRunRequest, RegisterRequest, SubmitRequest};
use tonic::{Code, Request};

const LIMIT: Duration = Duration::from_secs(60);
const WATCHES_MAX: usize = 256;

/// A cluster of one coordinator, and the URL of its server.
async fn cluster() -> (Cluster, String) {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let url = format!("http://{}", cluster.address(0));
    (cluster, url)
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_next_call_is_answered() {
    let (_cluster, url) = cluster().await;
    let mut client = ControlServiceClient::connect(url.clone()).await.unwrap();
    // WHEN a message of 4 MiB comes, THEN it is refused, and the limit is told
    let request = SubmitRequest {
        spec: vec![b' '; 4 << 20],
        ..SubmitRequest::default()
    };
    let refused = client.submit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(refused.message().contains("3145728 bytes"), "{refused}");
    // WHEN metadata of 20 KiB comes, THEN it is refused
    let mut request = Request::new(GetClusterRequest {});
    request
        .metadata_mut()
        .insert("x-large", "x".repeat(20 << 10).parse().unwrap());
    client.get_cluster(request).await.unwrap_err();
    // AND the server goes on
    client.get_cluster(GetClusterRequest {}).await.unwrap();
}

#[tokio::test]
async fn one_watcher_too_many_is_refused_until_another_leaves() {
    // GIVEN a run that nobody works on, and as many watchers as there may be
    let (cluster, url) = cluster().await;
    let orders = Orders { days: 2, rows: 20 };
    let run = cluster.submit(&orders.pipeline("")).await.unwrap();
    let mut watching = Vec::new();
    // A connection has no more calls at once than there are watchers: the last one needs another.
    let mut first = ControlServiceClient::connect(url.clone()).await.unwrap();
    let mut second = ControlServiceClient::connect(url).await.unwrap();
    for _ in 0..WATCHES_MAX {
        let mut stream = first
            .watch_run(GetRunRequest { run: run.clone() })
            .await
            .unwrap()
            .into_inner();
        stream.message().await.unwrap().unwrap();
        watching.push(stream);
    }
    // WHEN one more comes, THEN it is told that there are too many
    let refused = second
        .watch_run(GetRunRequest { run: run.clone() })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // WHEN others leave, THEN there is room
    watching.clear();
    let came = highwater_integration_tests::until("a seat", LIMIT, async || {
        Ok(second
            .clone()
            .watch_run(GetRunRequest { run: run.clone() })
            .await
            .ok())
    });
    came.await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_call_behind_a_leader_that_is_stuck_ends_after_its_deadline_with_exit_code_5() {
    // GIVEN a leader that will be stuck as soon as a run is to begin
    let (mut cluster, _) = cluster().await;
    cluster
        .coordinator(0)
        .env("FAILPOINTS", "run_begun::before=return(stall)");
    cluster.restart_coordinator(0).await.unwrap();
    cluster.leader().await.unwrap();
    let orders = Orders { days: 2, rows: 20 };
    let file = cluster.file("orders.yaml", &orders.pipeline("")).unwrap();
    // WHEN one is to begin
    let command = cluster.command(0).await.unwrap().args(["run"]).args([file]);
    let finished = command.run(LIMIT).await.unwrap();
    // THEN the command hears that there was no answer, and for how long it was waited
    assert_eq!(finished.status.code(), Some(5), "{finished:?}");
    assert!(
        finished.stderr.contains("no answer within 30 s"),
        "{finished:?}"
    );
}

#[tokio::test]
async fn a_run_that_is_followed_through_another_coordinator_is_followed_on_when_the_leader_freezes_for_good()
 {
    // GIVEN a run that a command follows through the coordinator that stands by
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(8),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let orders = Orders { days: 40, rows: 20 };
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 60)")
        .await
        .unwrap();
    let leader = cluster.leader().await.unwrap();
    let file = cluster.file("orders.yaml", &orders.pipeline("")).unwrap();
    let command = cluster
        .command(1 - leader)
        .await
        .unwrap()
        .args(["run"])
        .args([file]);
    let mut follower = command.start().unwrap();
    cluster.until_done(2).await.unwrap();
    // WHEN the leader freezes and never wakes up
    cluster.coordinator(leader).freeze().unwrap();
    // THEN the command sees the run to its end
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
    orders.check_copy(&cluster).await.unwrap();
}

#[tokio::test]
async fn a_command_that_knows_several_coordinators_goes_to_another_when_its_own_is_gone_for_good() {
    // GIVEN a run that a command follows through the leader, and knows the other coordinator
    let options = ClusterOptions {
        coordinators: 2,
        session_ttl: Duration::from_secs(8),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let orders = Orders { days: 40, rows: 20 };
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 60)")
        .await
        .unwrap();
    let leader = cluster.leader().await.unwrap();
    let file = cluster.file("orders.yaml", &orders.pipeline("")).unwrap();
    let addresses = [cluster.address(leader), cluster.address(1 - leader)].join(",");
    let command = Binary::highwater()
        .await
        .unwrap()
        .args(["--coordinator", &addresses, "run"])
        .args([file]);
    let mut follower = command.start().unwrap();
    cluster.until_done(2).await.unwrap();
    // WHEN the leader is killed and does not come back
    cluster.coordinator(leader).kill().unwrap();
    // THEN the command sees the run to its end
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
    orders.check_copy(&cluster).await.unwrap();
}

#[tokio::test]
async fn a_run_waits_for_a_worker_that_can_run_it_and_says_so() {
    // GIVEN a worker that knows SQLite only; WHEN it registers, THEN both sides say what they know
    let options = ClusterOptions {
        session_ttl: Duration::from_secs(60),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let mut client = WorkerServiceClient::connect(format!("http://{}", cluster.address(0)))
        .await
        .unwrap();
    let request = RegisterRequest {
        protocol: PROTOCOL_VERSION,
        worker: "files".to_owned(),
        version: "0.1.0".to_owned(),
        slots: 4,
        capabilities: vec!["backfill".to_owned(), "sqlite".to_owned()],
        ..RegisterRequest::default()
    };
    let answer = client.register(request).await.unwrap().into_inner();
    assert_eq!(
        answer.capabilities,
        [
            "backfill",
            "cdc",
            "checks",
            "exec",
            "follow",
            "full_refresh",
            "hash",
            "incremental",
            "keyset",
            "noop",
            "postgres",
            "reconcile",
            "sql",
            "sql_periods",
            "sqlite",
            "swap"
        ]
    );
    let shown = cluster.cluster_status().await.unwrap();
    assert_eq!(
        shown["workers"][0]["capabilities"],
        serde_json::json!(["backfill", "sqlite"]),
        "{shown:#}"
    );
    // WHEN a run between two PostgreSQL servers begins, THEN it says what it waits for
    let orders = Orders { days: 2, rows: 20 };
    orders.load(&cluster).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    let waits = |run: &serde_json::Value| {
        run["steps"][0]["waits"]
            .to_string()
            .contains("no connected worker can do all that it needs: backfill, postgres")
    };
    cluster
        .until_run("the run to say what it waits for", LIMIT, waits)
        .await
        .unwrap();
    // WHEN a worker comes that knows PostgreSQL, THEN that one does it
    cluster.add_worker("w1", 2, "").await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    orders.check_copy(&cluster).await.unwrap();
}
