//! What the daemons tell of themselves: health, and metrics by the names that rules and dashboards
//! rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::{Daemon, Prometheus, http, repository, until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Opens the admin port of a daemon from its next start on.
fn with_admin(daemon: &mut Daemon) {
    daemon.env("HIGHWATER_ADMIN_LISTEN", "127.0.0.1:0");
}

/// A cluster of a coordinator and a worker, both with an admin port; where those are.
async fn cluster() -> (Cluster, String, String) {
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    with_admin(cluster.coordinator(0));
    cluster.restart_coordinator(0).await.unwrap();
    let address = cluster.address(0).to_owned();
    let worker = cluster.prepare_worker("w1", 2, &address).await.unwrap();
    with_admin(worker);
    worker.start().await.unwrap();
    let of_worker = worker.admin(LIMIT).await.unwrap();
    let of_coordinator = cluster.coordinator(0).admin(LIMIT).await.unwrap();
    cluster.until_worker("w1", "ready", LIMIT).await.unwrap();
    (cluster, of_coordinator, of_worker)
}

/// Waits until a health endpoint answers so.
async fn until_health(at: &str, path: &str, status: u16) {
    let what = format!("{path} of {at} to answer {status}");
    let asked = async || {
        let answer = http::get(at, path).await?;
        Ok((answer.0 == status).then_some(()))
    };
    until(&what, LIMIT, asked).await.unwrap();
}

#[tokio::test]
async fn health_follows_store_and_session_and_life_follows_neither() {
    // GIVEN a cluster that works
    let (mut cluster, coordinator, worker) = cluster().await;
    for at in [&coordinator, &worker] {
        for path in ["/health/startup", "/health/ready", "/health/live"] {
            until_health(at, path, 200).await;
        }
    }
    // WHEN the store is away
    cluster.etcd.kill().unwrap();
    // THEN neither is ready: nobody leads, and no session goes on
    until_health(&coordinator, "/health/ready", 503).await;
    until_health(&worker, "/health/ready", 503).await;
    // AND both live, and have started: nothing is gained by starting them again
    for at in [&coordinator, &worker] {
        for path in ["/health/startup", "/health/live"] {
            assert_eq!(http::get(at, path).await.unwrap().0, 200, "{path} of {at}");
        }
    }
    // WHEN the store is back, THEN both are ready again
    cluster.etcd.restart().await.unwrap();
    until_health(&coordinator, "/health/ready", 200).await;
    until_health(&worker, "/health/ready", 200).await;
}

/// The families of a page: `gauge highwater_tasks{pipeline,state,step}`.
fn families(page: &str) -> BTreeSet<String> {
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            kinds.insert(name, kind);
            continue;
        }
        let Some((series, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (name, of) = series.split_once('{').unwrap_or((series, ""));
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| kinds.get(family) == Some(&"histogram"))
            .unwrap_or(name);
        let names = of
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| label)
            .filter(|label| *label != "le");
        labels.entry(family).or_default().extend(names);
    }
    let family = |(name, labels): (&str, BTreeSet<&str>)| {
        let labels = labels.into_iter().collect::<Vec<_>>().join(",");
        format!("{} {name}{{{labels}}}", kinds[name])
    };
    labels.into_iter().map(family).collect()
}

/// The value of a series.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test]
async fn metric_names_golden() {
    // GIVEN a backfill that was carried out
    let (cluster, coordinator, worker) = cluster().await;
    let orders = Orders { days: 6, rows: 40 };
    orders.load(&cluster).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    // WHEN both daemons are asked, as soon as the leader has told the end of the run
    let told = async || {
        let (_, page) = http::get(&coordinator, "/metrics").await?;
        let ended = value(&page, "highwater_runs{status=\"success\"}") == Some(1.0);
        let asked = page.contains("highwater_store_size_bytes");
        Ok((ended && asked).then_some(page))
    };
    let of_coordinator = until("the leader to tell", LIMIT, told).await.unwrap();
    let (_, of_worker) = http::get(&worker, "/metrics").await.unwrap();
    // THEN the leader tells of the cluster, and the worker of what it did
    let in_leader = |series: &str| value(&of_coordinator, series);
    assert_eq!(in_leader("highwater_leader"), Some(1.0), "{of_coordinator}");
    assert_eq!(in_leader("highwater_term_changes_total"), Some(1.0));
    let ready = "highwater_workers{group=\"default\",state=\"ready\"}";
    assert_eq!(in_leader(ready), Some(1.0), "{of_coordinator}");
    let free = "highwater_slots{group=\"default\",state=\"free\"}";
    assert_eq!(in_leader(free), Some(2.0), "{of_coordinator}");
    let in_worker = |direction: &str| {
        let rows = of_worker
            .lines()
            .find(|line| line.starts_with("highwater_rows_total{") && line.contains(direction));
        rows.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
    };
    assert_eq!(in_worker("committed"), Some(240), "{of_worker}");
    assert_eq!(in_worker("read"), Some(240), "{of_worker}");
    // AND the names, kinds and labels are those that rules and dashboards rest on
    let mut names = String::new();
    for (of, page) in [("coordinator", &of_coordinator), ("worker", &of_worker)] {
        for family in families(page) {
            names.push_str(&format!("{of} {family}\n"));
        }
    }
    // While a run goes on there are its tasks as well.
    let file = repository().join("integration-tests/metrics.golden");
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    let while_running = "coordinator gauge highwater_tasks{pipeline,state,step}\n";
    let golden_after = golden.replace(while_running, "");
    assert_eq!(names, golden_after, "{} is kept by hand", file.display());
    assert!(golden.contains(while_running));
    // AND the page for operators has each of them
    let page = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    for line in golden.lines() {
        let name = line.split([' ', '{']).nth(2).unwrap();
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not in docs/operations.md"
        );
    }
}

#[tokio::test]
async fn only_who_leads_tells_of_the_cluster() {
    // GIVEN two coordinators, and a run under way
    let mut cluster = Cluster::start(ClusterOptions {
        coordinators: 2,
        ..ClusterOptions::default()
    })
    .await
    .unwrap();
    let mut admins = Vec::new();
    for no in 0..2 {
        with_admin(cluster.coordinator(no));
        cluster.restart_coordinator(no).await.unwrap();
        admins.push(cluster.coordinator(no).admin(LIMIT).await.unwrap());
    }
    let leader = cluster.leader().await.unwrap();
    let orders = Orders { days: 60, rows: 4 };
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 60)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(4).await.unwrap();
    let leads = async |no: usize| {
        let (_, page) = http::get(&admins[no], "/metrics").await?;
        let tells = value(&page, "highwater_leader") == Some(1.0)
            && page.contains("highwater_tasks{")
            && page.contains("highwater_group_desired_workers{");
        Ok(tells.then_some(page))
    };
    // THEN the leader alone tells of its tasks
    let page = until("the leader to tell", LIMIT, async || leads(leader).await)
        .await
        .unwrap();
    assert_eq!(
        value(&page, "highwater_runs{status=\"running\"}"),
        Some(1.0),
        "{page}"
    );
    let (_, page) = http::get(&admins[1 - leader], "/metrics").await.unwrap();
    assert_eq!(value(&page, "highwater_leader"), Some(0.0), "{page}");
    assert!(!page.contains("highwater_tasks"), "{page}");
    // WHEN it goes, THEN the other one does
    cluster.coordinator(leader).terminate().unwrap();
    until("the other to tell", LIMIT, async || leads(1 - leader).await)
        .await
        .unwrap();
}

/// The queries of the chart's dashboards, for a release `r` in `ns`, over half a minute.
fn dashboard_queries() -> Vec<String> {
    let mut queries = Vec::new();
    for file in std::fs::read_dir(repository().join("helm/highwater/dashboards")).unwrap() {
        let board = std::fs::read(file.unwrap().path()).unwrap();
        let board: Value = serde_json::from_slice(&board).unwrap();
        let panels = board["panels"].as_array().unwrap().iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
        queries.extend(targets.map(|target| {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$namespace", "ns").replace("$service", "r");
            query.replace("$__rate_interval", "30s")
        }));
    }
    queries
}

#[tokio::test]
async fn prometheus_scrapes_what_the_dashboards_ask() {
    // GIVEN a Prometheus that reads a coordinator and a worker in the midst of a run
    let (mut cluster, coordinator, worker) = cluster().await;
    cluster.worker("w1").kill().unwrap();
    let slow = "attempt::reading=return(stall 60)";
    cluster.worker("w1").env("FAILPOINTS", slow);
    cluster.worker("w1").start().await.unwrap();
    let again = cluster.worker("w1").admin(LIMIT).await.unwrap();
    assert_ne!(again, worker);
    let prometheus = Prometheus::reading(&[&coordinator, &again], "ns", "r").await;
    let prometheus = prometheus.unwrap();
    let orders = Orders { days: 400, rows: 2 };
    orders.load(&cluster).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    // THEN every panel of every dashboard has something to show
    let queries = dashboard_queries();
    assert!(queries.len() > 12, "{queries:?}");
    for query in queries {
        let asked =
            async || Ok(Some(prometheus.query(&query).await?).filter(|found| !found.is_empty()));
        let shown = until(&format!("an answer to {query}"), LIMIT, asked).await;
        shown.unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.logs()));
    }
    // AND what is shown is what is there
    let ready = prometheus
        .query("highwater_workers{state=\"ready\"}")
        .await
        .unwrap();
    assert_eq!(ready[0]["value"][1], "1", "{ready:?}");
}
