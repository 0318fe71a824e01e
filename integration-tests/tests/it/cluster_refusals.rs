//! What a cluster refuses, what it cannot reach, and the exit codes that tell.

use std::ffi::OsString;
use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::{Binary, Finished};
use highwater_proto::PROTOCOL_VERSION;
use highwater_proto::v1::RegisterRequest;
use highwater_proto::v1::worker_service_client::WorkerServiceClient;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs a pipeline to its end by the command.
async fn run(cluster: &Cluster, pipeline: &str, flags: &[&str]) -> Finished {
    let file = cluster.file("pipeline.yaml", pipeline).unwrap();
    let args = [
        OsString::from("run"),
        file.into_os_string(),
        OsString::from("--no-input"),
    ];
    let args = args.into_iter().chain(flags.iter().map(OsString::from));
    cluster
        .highwater(0, args, LIMIT)
        .await
        .map_err(|error| error.context(cluster.logs()))
        .unwrap()
}

fn code(finished: &Finished) -> Option<i32> {
    finished.status.code()
}

#[tokio::test]
async fn exit_codes_of_a_cluster_run() {
    let orders = Orders { days: 6, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    // 2: a file that is wrong
    let finished = run(
        &cluster,
        &orders.pipeline("").replace("backfill", "mirror"),
        &[],
    )
    .await;
    assert_eq!(code(&finished), Some(2), "{finished:?}");
    // 4: a run that does not exist
    let finished = cluster
        .highwater(0, ["status", "r-fff"], LIMIT)
        .await
        .unwrap();
    assert_eq!(code(&finished), Some(4), "{finished:?}");
    // 7: a source without the table; nothing is committed
    let nothing = orders.pipeline("").replace("name: orders", "name: nothing");
    let finished = run(
        &cluster,
        &nothing.replace("table: orders", "table: missing"),
        &[],
    )
    .await;
    assert_eq!(code(&finished), Some(7), "{finished:?}\n{}", cluster.logs());
    // 3: a target that does not take one of the days
    sqlx_run(
        &cluster,
        "alter table orders add constraint refused check (id <> 70)",
    )
    .await;
    let finished = run(&cluster, &orders.pipeline(""), &[]).await;
    assert_eq!(code(&finished), Some(3), "{finished:?}\n{}", cluster.logs());
    assert_eq!(
        cluster.number("select count(*) from orders").await.unwrap(),
        100
    );
    // 0: once the target has been mended, only the failed day is tried again
    sqlx_run(&cluster, "alter table orders drop constraint refused").await;
    let finished = cluster.highwater(0, ["retry"], LIMIT).await.unwrap();
    assert_eq!(code(&finished), Some(0), "{finished:?}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    // 6: a file that changes while its run goes on, and 8: a run that is cancelled
    cluster.worker("w1").kill().unwrap();
    let again = orders
        .pipeline("")
        .replace("type: backfill", "type: backfill, reprocess: all");
    let id = cluster.submit(&again).await.unwrap();
    let finished = run(
        &cluster,
        &again.replace("table: orders}", "table: orders2}"),
        &[],
    )
    .await;
    assert_eq!(code(&finished), Some(6), "{finished:?}");
    // Nobody works, so the run is there until the command has found it.
    let file = cluster.file("again.yaml", &again).unwrap();
    let mut follower = cluster
        .command(0)
        .await
        .unwrap()
        .args(["run"])
        .args([file])
        .start()
        .unwrap();
    follower
        .until_stderr_holds("an unfinished run of the same file goes on", LIMIT)
        .await
        .unwrap();
    let cancel = ["cancel", &id, "--reason", "a test", "-y"];
    let mut cancel = cluster
        .command(0)
        .await
        .unwrap()
        .args(cancel)
        .start()
        .unwrap();
    cluster
        .until_run("the cancel to be under way", LIMIT, |run| {
            run["status"] == "cancelling"
        })
        .await
        .unwrap();
    // Whatever the store believes of the run's progress, its target is fenced, which takes a
    // worker.
    cluster.add_worker("w2", 2, "").await.unwrap();
    let (cancelled, ended) = (
        cancel.wait(LIMIT).await.unwrap(),
        follower.wait(LIMIT).await.unwrap(),
    );
    assert_eq!(
        (cancelled.code(), ended.code()),
        (Some(0), Some(8)),
        "{}",
        cluster.logs()
    );
}

async fn sqlx_run(cluster: &Cluster, statement: &'static str) {
    let mut conn = cluster.target.connect("postgres").await.unwrap();
    sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_run_ends_its_follower_with_8_and_commits_nothing_more() {
    // GIVEN a slow run that a command follows
    let orders = Orders { days: 40, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 200)")
        .await
        .unwrap();
    let file = cluster.file("orders.yaml", &orders.pipeline("")).unwrap();
    let mut follower = cluster
        .command(0)
        .await
        .unwrap()
        .args(["run"])
        .args([file])
        .start()
        .unwrap();
    cluster.until_done(2).await.unwrap();
    // WHEN it is cancelled
    let cancelled = cluster
        .highwater(0, ["cancel", "orders", "--reason", "a test", "-y"], LIMIT)
        .await
        .unwrap();
    assert_eq!(
        code(&cancelled),
        Some(0),
        "{cancelled:?}\n{}",
        cluster.logs()
    );
    let ledger = cluster.ledger().await.unwrap();
    // THEN the follower says so, and nothing lands afterwards
    assert_eq!(
        follower.wait(LIMIT).await.unwrap().code(),
        Some(8),
        "{}",
        follower.stderr().unwrap()
    );
    cluster.worker("w1").terminate().unwrap();
    cluster.worker("w1").ended(LIMIT).await.unwrap();
    assert_eq!(
        cluster.ledger().await.unwrap(),
        ledger,
        "{}",
        cluster.logs()
    );
}

#[tokio::test]
async fn two_clusters_on_one_target_are_refused() {
    // GIVEN a target that one cluster has written to
    let orders = Orders { days: 3, rows: 20 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    let finished = run(&cluster, &orders.pipeline(""), &[]).await;
    assert_eq!(code(&finished), Some(0), "{finished:?}\n{}", cluster.logs());
    let ledger = cluster.ledger().await.unwrap();
    // WHEN another cluster, in the same etcd, is to write there; THEN it is told that it is new
    // beside another one
    let other = cluster.add_coordinator("other").await.unwrap();
    let told = cluster.coordinator(other).log();
    assert!(
        told.contains("the cluster other is new in this etcd, which has test"),
        "{told}"
    );
    let address = cluster.address(other).to_owned();
    cluster
        .prepare_worker("w2", 2, &address)
        .await
        .unwrap()
        .start()
        .await
        .unwrap();
    let file = cluster.file("other.yaml", &orders.pipeline("")).unwrap();
    let args = [OsString::from("run"), file.into_os_string()];
    let refused = cluster.highwater(other, args, LIMIT).await.unwrap();
    // THEN the run fails, names the other cluster's claim to the target, and nothing has changed
    assert_eq!(code(&refused), Some(7), "{refused:?}\n{}", cluster.logs());
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        told.contains("belongs to cluster") && told.contains("highwater cluster adopt"),
        "{told}"
    );
    assert_eq!(cluster.ledger().await.unwrap(), ledger);
    orders.check_copy(&cluster).await.unwrap();
}

#[tokio::test]
async fn a_cluster_adopts_a_target_and_the_former_one_is_refused() {
    // GIVEN a cluster in the middle of a run, and another one in the same etcd that is to have its
    // target
    let orders = Orders {
        days: 150,
        rows: 20,
    };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 1, "attempt::reading=return(stall 300)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    let other = cluster.add_coordinator("other").await.unwrap();
    let address = cluster.address(other).to_owned();
    cluster
        .prepare_worker("w2", 2, &address)
        .await
        .unwrap()
        .start()
        .await
        .unwrap();
    cluster.until_done(2).await.unwrap();
    // WHEN nobody says yes, THEN nothing is taken over
    let file = cluster
        .file("other.yaml", &orders.pipeline(""))
        .unwrap()
        .into_os_string();
    let adopt: Vec<OsString> = ["cluster".into(), "adopt".into(), file.clone()].into();
    let unsure = cluster.highwater(other, &adopt, LIMIT).await.unwrap();
    assert_eq!(code(&unsure), Some(6), "{unsure:?}");
    // WHEN the other cluster adopts, THEN it says from whom
    let adopt = adopt.iter().cloned().chain(["-y".into()]);
    let adopted = cluster.highwater(other, adopt, LIMIT).await.unwrap();
    assert_eq!(code(&adopted), Some(0), "{adopted:?}\n{}", cluster.logs());
    assert!(
        adopted.stdout.starts_with("target: taken over from "),
        "{adopted:?}"
    );
    // AND the first one's run ends, since what it had open is fenced and its next claim is refused;
    // and so is its next run
    let ended = cluster.until_ended(LIMIT).await.unwrap();
    assert_ne!(ended["status"], "success", "{ended:#}");
    let refused = run(&cluster, &orders.pipeline(""), &[]).await;
    assert_eq!(code(&refused), Some(7), "{refused:?}\n{}", cluster.logs());
    assert!(refused.stdout.contains("belongs to cluster"), "{refused:?}");
    // AND the other one loads what is missing, so that every row is there once
    let finished = cluster
        .highwater(other, [OsString::from("run"), file], LIMIT)
        .await
        .unwrap();
    assert_eq!(code(&finished), Some(0), "{finished:?}\n{}", cluster.logs());
    let (ours, theirs) = cluster
        .digests("select id, placed, note from orders order by id")
        .await
        .unwrap();
    assert_eq!((ours.rows, &ours), (3000, &theirs));
    assert!(
        cluster
            .number("select count(*) from orders where worker = 'w1'")
            .await
            .unwrap()
            >= 40
    );
}

#[tokio::test]
async fn a_worker_of_another_protocol_is_refused() {
    // GIVEN a coordinator; WHEN a worker registers that speaks a later protocol
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    cluster.leader().await.unwrap();
    let mut client = WorkerServiceClient::connect(format!("http://{}", cluster.address(0)))
        .await
        .unwrap();
    let request = RegisterRequest {
        protocol: PROTOCOL_VERSION + 1,
        worker: "w9".to_owned(),
        version: "9.0.0".to_owned(),
        slots: 1,
        ..RegisterRequest::default()
    };
    let refused = client.register(request).await.unwrap_err();
    // THEN it is refused for good, and told both versions
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let told = refused.message();
    assert!(
        told.contains(&format!("protocol {}", PROTOCOL_VERSION + 1))
            && told.contains("same version"),
        "{told}"
    );
    assert_eq!(
        cluster.cluster_status().await.unwrap()["workers"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_named_with_its_exit_code() {
    // GIVEN nobody listens there
    let nobody = "127.0.0.1:9";
    // WHEN a coordinator looks for etcd, THEN it ends with 5 and names the place
    let etcd = format!("http://{nobody}");
    let args = [
        "--etcd",
        &etcd,
        "--cluster",
        "test",
        "--listen",
        "127.0.0.1:0",
    ];
    let finished = Binary::coordinator()
        .await
        .unwrap()
        .args(args)
        .run(LIMIT)
        .await
        .unwrap();
    assert_eq!(code(&finished), Some(5), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(
        finished.stderr.contains("cannot use etcd at") && finished.stderr.contains(nobody),
        "{finished:?}"
    );
    // WHEN the command looks for a coordinator, THEN it ends with 5 and names the place
    let args = ["status", "--coordinator", nobody];
    let finished = Binary::highwater()
        .await
        .unwrap()
        .args(args)
        .run(LIMIT)
        .await
        .unwrap();
    assert_eq!(code(&finished), Some(5), "{finished:?}");
    assert!(
        finished.stderr.contains("cannot reach the coordinator")
            && finished.stderr.contains(nobody),
        "{finished:?}"
    );
}

#[tokio::test]
async fn settings_that_are_wrong_are_named_with_exit_code_2() {
    let coordinator = async |args: &[&str]| {
        Binary::coordinator()
            .await
            .unwrap()
            .args(args)
            .run(LIMIT)
            .await
            .unwrap()
    };
    let etcd = ["--etcd", "http://127.0.0.1:9"];
    for (args, told) in [
        (vec!["--cluster", "test"], "no etcd"),
        (etcd.to_vec(), "no cluster"),
        (
            [&etcd[..], &["--cluster", "Not A Name"]].concat(),
            "`Not A Name` is no name of a cluster",
        ),
        (
            [&etcd[..], &["--cluster", "test", "--listen", "0.0.0.0:0"]].concat(),
            "--insecure",
        ),
        (
            [
                &etcd[..],
                &["--cluster", "test", "--listen", "0.0.0.0:0", "--insecure"],
            ]
            .concat(),
            "--advertise HOST",
        ),
        (
            [&etcd[..], &["--cluster", "test", "--config", "/nowhere"]].concat(),
            "/nowhere",
        ),
    ] {
        let finished = coordinator(&args).await;
        assert_eq!(code(&finished), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(told), "{told}: {finished:?}");
    }
    for (address, told) in [
        ("postgres://db", "is not the address of a coordinator"),
        (
            "http://10.9.8.7:7070",
            "is not loopback, and nothing would be encrypted",
        ),
        ("https://127.0.0.1:9", "--tls-ca FILE"),
    ] {
        let args = ["--coordinator", address];
        let finished = Binary::worker()
            .await
            .unwrap()
            .args(args)
            .run(LIMIT)
            .await
            .unwrap();
        assert_eq!(code(&finished), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(told), "{told}: {finished:?}");
    }
}
