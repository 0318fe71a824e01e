//! A cluster whose parts speak TLS only, with certificates on both sides.

use std::sync::Arc;
use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::{Authority, Binary};

const LIMIT: Duration = Duration::from_secs(60);

fn secure(coordinators: usize) -> (ClusterOptions, Arc<Authority>) {
    let authority = Arc::new(Authority::new("the cluster's").unwrap());
    let options = ClusterOptions {
        coordinators,
        authority: Some(Arc::clone(&authority)),
        ..ClusterOptions::default()
    };
    (options, authority)
}

#[tokio::test]
async fn a_cluster_over_tls_copies_and_survives_a_change_of_leaders() {
    // GIVEN etcd, two coordinators and a worker that let nobody in without a certificate
    let (options, _authority) = secure(2);
    let orders = Orders { days: 30, rows: 20 };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 100)")
        .await
        .unwrap();
    // WHEN a run is begun through whoever follows, and its leader is killed in the midst of it
    let leader = cluster.leader().await.unwrap();
    let file = cluster.file("orders.yaml", &orders.pipeline("")).unwrap();
    let mut follower = cluster
        .command(1 - leader)
        .await
        .unwrap()
        .args(["run"])
        .args([file])
        .start()
        .unwrap();
    cluster.until_done(5).await.unwrap();
    cluster.coordinator(leader).kill().unwrap();
    // THEN it comes to its end all the same
    let ended = follower.wait(LIMIT).await.unwrap();
    assert_eq!(
        ended.code(),
        Some(0),
        "{}\n{}",
        follower.stderr().unwrap(),
        cluster.logs()
    );
    orders.check_copy(&cluster).await.unwrap();
}

#[tokio::test]
async fn wrong_certificate_is_refused_and_says_so() {
    let (options, authority) = secure(1);
    let mut cluster = Cluster::start(options).await.unwrap();
    let stranger = Authority::new("a stranger").unwrap();
    let (ours, theirs) = (authority.file(), stranger.file());
    let (certificate, key) = stranger.sign("w1").unwrap();
    let address = cluster.address(0).to_owned();
    let (ours, theirs) = (ours.to_str().unwrap(), theirs.to_str().unwrap());
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let clear = format!("http://{address}");
    // GIVEN callers that a coordinator does not trust, or that do not trust it
    for (flags, url, told) in [
        (
            vec!["--tls-ca", theirs],
            &address,
            "its certificate is not signed by the authority in",
        ),
        (
            vec!["--tls-ca", ours],
            &address,
            "it lets nobody in without a certificate",
        ),
        (
            vec![
                "--tls-ca",
                ours,
                "--tls-cert",
                certificate,
                "--tls-key",
                key,
            ],
            &address,
            "it does not accept the certificate in",
        ),
        (
            vec!["--tls-ca", ours, "--tls-server-name", "db.example"],
            &address,
            "is not for the name db.example",
        ),
    ] {
        // WHEN the command calls, THEN it ends with 5 and says why
        let args = [&["status", "--coordinator", url.as_str()], &flags[..]].concat();
        let finished = Binary::highwater()
            .await
            .unwrap()
            .args(&args)
            .run(LIMIT)
            .await
            .unwrap();
        assert_eq!(finished.status.code(), Some(5), "{finished:?}");
        assert!(
            finished.stderr.contains(told) && finished.stderr.contains(&address),
            "{told}: {finished:?}"
        );
        // AND WHEN a worker calls, THEN it ends with 5 and says why
        let args = [&["--coordinator", url.as_str(), "--id", "w1"], &flags[..]].concat();
        let finished = Binary::worker()
            .await
            .unwrap()
            .args(&args)
            .run(LIMIT)
            .await
            .unwrap();
        assert_eq!(finished.status.code(), Some(5), "{finished:?}");
        assert!(
            finished.stderr.contains(told) && finished.stderr.contains(&address),
            "{told}: {finished:?}"
        );
    }
    // WHEN the command calls in the clear, THEN it is told to use TLS
    let args = ["status", "--coordinator", &clear];
    let finished = Binary::highwater()
        .await
        .unwrap()
        .args(args)
        .run(LIMIT)
        .await
        .unwrap();
    assert_eq!(finished.status.code(), Some(5), "{finished:?}");
    assert!(finished.stderr.contains("https://"), "{finished:?}");
    // AND the coordinator knows of nobody
    assert_eq!(
        cluster.cluster_status().await.unwrap()["workers"],
        serde_json::json!([])
    );
    cluster
        .coordinator(0)
        .until_logged("a caller was refused", LIMIT)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_coordinator_with_files_of_tls_that_cannot_be_used_names_them() {
    let (one, other) = (
        Authority::new("one").unwrap(),
        Authority::new("other").unwrap(),
    );
    let ((certificate, _), (_, key)) = (
        one.sign("127.0.0.1").unwrap(),
        other.sign("127.0.0.1").unwrap(),
    );
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let etcd = [
        "--etcd",
        "http://127.0.0.1:9",
        "--cluster",
        "test",
        "--listen",
        "127.0.0.1:0",
    ];
    for (flags, told) in [
        (
            vec!["--tls-cert", certificate],
            "a certificate needs its key",
        ),
        (
            vec!["--tls-cert", certificate, "--tls-key", key],
            "cannot be used with the key in",
        ),
        (
            vec!["--tls-cert", "/nowhere/c.pem", "--tls-key", key],
            "/nowhere/c.pem",
        ),
        (
            vec!["--etcd-cert", certificate, "--etcd-key", key],
            "--etcd-ca",
        ),
        (vec!["--etcd-user", "highwater"], "--etcd-password-file"),
    ] {
        let args = [&etcd[..], &flags[..]].concat();
        let finished = Binary::coordinator()
            .await
            .unwrap()
            .args(&args)
            .run(LIMIT)
            .await
            .unwrap();
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(told), "{told}: {finished:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_changed_is_taken_without_a_restart() {
    // GIVEN a coordinator whose certificate comes from one authority
    let (options, authority) = secure(1);
    let mut cluster = Cluster::start(options).await.unwrap();
    cluster.cluster_status().await.unwrap();
    // WHEN its files are another one's
    let later = Authority::new("a later one").unwrap();
    let (certificate, key) = authority.sign("127.0.0.1").unwrap();
    later.sign_into("127.0.0.1", &certificate, &key).unwrap();
    // THEN whoever trusts the later one is answered, and the process is the same
    let later_ca = later.file();
    let (client, client_key) = authority.sign("client").unwrap();
    let flags = [
        "--tls-ca",
        later_ca.to_str().unwrap(),
        "--tls-cert",
        client.to_str().unwrap(),
    ];
    let flags = [&flags[..], &["--tls-key", client_key.to_str().unwrap()]].concat();
    let args = [
        &["cluster", "status", "--coordinator", cluster.address(0)],
        &flags[..],
    ]
    .concat();
    let finished = Binary::highwater()
        .await
        .unwrap()
        .args(&args)
        .run(LIMIT)
        .await
        .unwrap();
    assert_eq!(
        finished.status.code(),
        Some(0),
        "{finished:?}\n{}",
        cluster.logs()
    );
    assert!(cluster.coordinator(0).is_running());
    cluster
        .coordinator(0)
        .until_logged("certificates read again", LIMIT)
        .await
        .unwrap();
}
