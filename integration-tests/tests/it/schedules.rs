//! Pipelines that a cluster runs by itself.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_common::id::RunId;
use highwater_integration_tests::cluster::{ClusterOptions, Daemons};
use highwater_integration_tests::{Etcd, until};
use serde_json::Value;

use crate::site::{Engine, Site, assert_exit, assert_says};

const LIMIT: Duration = Duration::from_secs(150);
/// How long after the coordinators are started the clock shows a full minute.
const UNTIL_THE_MINUTE: Duration = Duration::from_secs(15);

const PIPELINE: &str = "\
version: 1
name: shop
schedule: {cron: '* * * * *', tz: Europe/Berlin}
steps:
  beat:
    strategy: {type: noop, tasks: 3, hold: 20ms}
";

/// Puts the coordinators' clocks forward, so that a test need not wait for a minute to pass.
fn clock() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let into_the_minute = u64::try_from(now.as_millis()).unwrap() % 60_000;
    let wanted = 120_000 - u64::try_from(UNTIL_THE_MINUTE.as_millis()).unwrap();
    format!(
        "clock::ahead=return({})",
        (wanted - into_the_minute) % 60_000
    )
}

/// Two coordinators on one etcd, of which the first leads, and ends at this place of the transaction
/// that begins a scheduled run; and a worker.
async fn cluster(place: &str) -> (Etcd, Daemons) {
    let etcd = Etcd::start().await.unwrap();
    let options = ClusterOptions {
        coordinators: 2,
        ..ClusterOptions::default()
    };
    let mut daemons = Daemons::new(options, etcd.endpoint()).unwrap();
    let clock = clock();
    for failpoints in [format!("{clock};{place}"), clock] {
        let no = daemons.prepare_coordinator("test").unwrap();
        daemons.coordinator(no).env("FAILPOINTS", &failpoints);
        daemons.restart_coordinator(no).await.unwrap();
        assert_eq!(daemons.leader().await.unwrap(), 0);
    }
    let addresses = daemons.addresses().join(",");
    daemons
        .prepare("w1", 4, &addresses, &[])
        .start()
        .await
        .unwrap();
    (etcd, daemons)
}

async fn look(daemons: &Daemons, no: usize, verb: &[&str]) -> Value {
    let args = verb.iter().copied().chain(["-o", "json", "-q"]);
    let finished = daemons.highwater(no, args, LIMIT).await.unwrap();
    assert_exit(&finished, 0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// The instants that runs were begun for; each is its run's reference time, and makes its id.
fn instants(runs: &Value) -> Vec<String> {
    let runs = runs["runs"].as_array().unwrap();
    let instant = |run: &Value| {
        let instant = run["reference_time"].as_str().unwrap().to_owned();
        let micros = instant.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        assert_eq!(micros % 60_000_000, 0, "{run:#}");
        let id = RunId::of_schedule(&"shop".parse().unwrap(), micros);
        assert_eq!(run["run"], id.to_string(), "{run:#}");
        instant
    };
    runs.iter().map(instant).collect()
}

async fn fires_once(place: &str) {
    // GIVEN a schedule of every minute, given to the cluster through a coordinator that follows
    let (_etcd, mut daemons) = cluster(place).await;
    let file = daemons.file("pipeline.yaml", PIPELINE).unwrap();
    let file = file.to_str().unwrap();
    let set = look(
        &daemons,
        1,
        &["schedules", "set", file, "--reason", "a test"],
    )
    .await;
    let first = set["schedules"][0]["next"].as_str().unwrap().to_owned();
    assert_eq!(set["schedules"][0]["set"]["reason"], "a test");
    // WHEN the leader ends as it begins the run of the next minute
    let status = daemons.coordinator(0).ended(LIMIT).await;
    let status = status.unwrap_or_else(|error| panic!("{error}\n{}", daemons.logs()));
    assert!(!status.success());
    assert_eq!(daemons.next_leader(&[0]).await.unwrap(), 1);
    // THEN the other one's run of it ends well, and is the only one
    let runs = until("the run to end", LIMIT, async || {
        let runs = look(&daemons, 1, &["ls", "shop"]).await;
        let ended = runs["runs"].as_array().unwrap().iter();
        let mut ended = ended.filter(|run| run["status"] == "success");
        Ok(ended
            .any(|run| run["reference_time"] == first.as_str())
            .then_some(runs))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", daemons.logs()));
    let begun = instants(&runs);
    let of_first = begun.iter().filter(|instant| **instant == first).count();
    assert_eq!(of_first, 1, "{begun:?}\n{}", daemons.logs());
    // AND no later leader begins it again
    daemons.coordinator(0).env("FAILPOINTS", "");
    daemons.restart_coordinator(0).await.unwrap();
    daemons.coordinator(1).terminate().unwrap();
    assert_eq!(daemons.next_leader(&[1]).await.unwrap(), 0);
    let begun = instants(&look(&daemons, 0, &["ls", "shop"]).await);
    let different: BTreeSet<&String> = begun.iter().collect();
    assert_eq!(different.len(), begun.len(), "{begun:?}");
    let shown = look(&daemons, 0, &["schedules", "show", "shop"]).await;
    assert_eq!(
        shown["schedules"][0]["last_run"]["instant"],
        begun[0].as_str(),
        "{shown:#}"
    );
}

#[tokio::test]
async fn a_schedule_fires_once_across_a_leader_change() {
    tokio::join!(
        fires_once("scheduled_run::before=return(abort)"),
        fires_once("scheduled_run::after=return(abort)"),
    );
}

#[tokio::test]
async fn without_a_cluster_nobody_keeps_schedules() {
    let site = Site::empty(Engine::Sqlite).await;
    std::fs::write(site.path("pipeline.yaml"), PIPELINE).unwrap();
    for verb in [
        &["schedules", "set", "pipeline.yaml"][..],
        &["schedules", "ls"],
    ] {
        let finished = site.finish(verb).await;
        assert_exit(&finished, 2);
        assert_says(&finished.stderr, "only a cluster keeps schedules");
        assert_says(&finished.stderr, "--every");
    }
}
