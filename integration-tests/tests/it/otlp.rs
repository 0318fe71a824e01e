//! Traces, metrics and logs over OTLP: one trace from the command to the commit, and a receiver that
//! is away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::otlp::{Receiver, Span};
use highwater_integration_tests::{Daemon, http, until};
use serde_json::Value;
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(60);
/// The service that workers ask, and the one that the command asks.
const COMPLETE: &str = "highwater.v1.WorkerService/Complete";
const SUBMIT: &str = "highwater.v1.ControlService/Submit";

fn send_to(daemon: &mut Daemon, receiver: &Receiver) {
    for (name, value) in receiver.environment() {
        daemon.env(name, &value);
    }
}

/// A cluster whose coordinators are set so, and which one of them leads.
async fn cluster_of(coordinators: usize, set: impl Fn(&mut Daemon)) -> Cluster {
    let options = ClusterOptions {
        coordinators: 0,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    for _ in 0..coordinators {
        let no = cluster.prepare_coordinator("test").unwrap();
        set(cluster.coordinator(no));
        cluster.restart_coordinator(no).await.unwrap();
    }
    cluster.leader().await.unwrap();
    cluster
}

/// Begins a run by a command that sends its telemetry, and does not follow it.
async fn submit(cluster: &Cluster, receiver: &Receiver, pipeline: &str) {
    let file = cluster.file("pipeline.yaml", pipeline).unwrap();
    let file = file.to_str().unwrap();
    let mut command = cluster.command(0).await.unwrap();
    for (name, value) in receiver.environment() {
        command = command.env(name, value);
    }
    let submitted = command.args(["run", file, "--detach"]).run(LIMIT).await;
    let submitted = submitted.unwrap();
    assert!(submitted.status.success(), "{submitted:?}");
}

/// The spans, as soon as there are so many of this name.
async fn spans_with(receiver: &Receiver, name: &str, count: usize) -> Vec<Span> {
    let what = format!("{count} spans {name}");
    let asked = async || {
        let spans = receiver.spans();
        let found = spans.iter().filter(|span| span.name == name).count();
        Ok((found >= count).then_some(spans))
    };
    until(&what, LIMIT, asked).await.unwrap()
}

/// The names from a span up to its root, with the services that they come from.
fn way_up(spans: &[Span], from: &Span) -> Vec<(String, String)> {
    let mut way = Vec::new();
    let mut at = Some(from);
    while let Some(span) = at {
        way.push((span.resource["service.name"].clone(), span.name.clone()));
        at = spans.iter().find(|one| one.id == span.parent);
    }
    way
}

#[tokio::test]
async fn one_trace_from_the_command_to_the_commit() {
    // GIVEN a cluster that sends its telemetry to a receiver
    let receiver = Receiver::start().await.unwrap();
    let mut cluster = cluster_of(1, |daemon| send_to(daemon, &receiver)).await;
    let address = cluster.address(0).to_owned();
    let worker = cluster.prepare_worker("w1", 2, &address).await.unwrap();
    send_to(worker, &receiver);
    worker.start().await.unwrap();
    let orders = Orders { days: 4, rows: 20 };
    orders.load(&cluster).await.unwrap();
    // WHEN a command that does so, too, begins a run
    submit(&cluster, &receiver, &orders.pipeline("")).await;
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    let answered = usize::try_from(orders.days).unwrap() + 4; // probe, prepare, count, close
    spans_with(&receiver, "commit", 4).await;
    let spans = spans_with(&receiver, "complete", answered).await;
    // THEN each commit is under its attempt, that one under what began the run, and that one under
    // the command
    let expected = [
        ("highwater-worker", "commit"),
        ("highwater-worker", "chunk"),
        ("highwater-worker", "attempt"),
        ("highwater-coordinator", "run.submit"),
        ("highwater-coordinator", SUBMIT),
        ("highwater", SUBMIT),
        ("highwater", "highwater run"),
    ];
    let expected = expected.map(|(from, name)| (from.to_owned(), name.to_owned()));
    let mut commits = spans.iter().filter(|span| span.name == "commit");
    assert!(
        commits.all(|commit| way_up(&spans, commit) == expected),
        "{spans:#?}"
    );
    // AND there is no other trace: neither heartbeats nor pulls nor turns of the leader begin one
    let traces: BTreeSet<&String> = spans.iter().map(|span| &span.trace).collect();
    assert_eq!(traces.len(), 1, "{spans:#?}");
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    // AND every part of the way is there, on both sides of a call
    let parts: BTreeSet<(&str, &str)> = (spans.iter())
        .map(|span| (span.resource["service.name"].as_str(), span.name.as_str()))
        .collect();
    for part in [
        ("highwater-coordinator", "txn"),
        ("highwater-coordinator", "plan"),
        ("highwater-worker", "probe"),
        ("highwater-worker", "claim"),
        ("highwater-worker", "complete"),
        ("highwater-worker", COMPLETE),
        ("highwater-coordinator", COMPLETE),
    ] {
        assert!(parts.contains(&part), "{part:?} is not among {parts:?}");
    }
    // AND an attempt says whose it is, and a call what it is
    let attempt = spans.iter().find(|span| span.name == "attempt").unwrap();
    let keys = [
        "run",
        "pipeline",
        "step",
        "task",
        "attempt",
        "token",
        "partition",
        "worker",
    ];
    for key in keys {
        let value = attempt.attributes.get(&format!("highwater.{key}"));
        assert!(
            value.is_some_and(|value| !value.is_empty()),
            "{key}: {attempt:#?}"
        );
    }
    assert_eq!(
        attempt.attributes["highwater.run"], run["run"],
        "{attempt:#?}"
    );
    assert_eq!(attempt.attributes["highwater.outcome"], "done");
    let call = spans.iter().find(|span| span.name == COMPLETE).unwrap();
    assert_eq!(call.attributes["rpc.system.name"], "grpc");
    assert_eq!(call.attributes["rpc.method"], COMPLETE);
    assert_eq!(call.attributes["rpc.response.status_code"], "OK");
    for key in ["service.version", "service.instance.id"] {
        assert!(
            call.resource.contains_key(key),
            "{key}: {:?}",
            call.resource
        );
    }
}

#[tokio::test]
async fn a_run_stays_in_its_trace_when_another_coordinator_leads_and_when_it_is_tried_again() {
    // GIVEN a run that nobody works at, and whose leader dies
    let receiver = Receiver::start().await.unwrap();
    let mut cluster = cluster_of(2, |daemon| send_to(daemon, &receiver)).await;
    let leader = cluster.leader().await.unwrap();
    let orders = Orders { days: 2, rows: 5 };
    orders.load(&cluster).await.unwrap();
    let pipeline = orders
        .pipeline("")
        .replace("max_attempts: 8", "max_attempts: 1");
    submit(&cluster, &receiver, &pipeline).await;
    let spans = spans_with(&receiver, "run.submit", 1).await;
    let begun = spans
        .iter()
        .find(|span| span.name == "run.submit")
        .unwrap()
        .clone();
    cluster.coordinator(leader).kill().unwrap();
    cluster.next_leader(&[leader]).await.unwrap();
    // WHEN a worker comes whose target has no such table any more
    let mut target = cluster.target.connect("postgres").await.unwrap();
    let forbid = "alter table orders add constraint never check (id < 0)";
    sqlx::raw_sql(forbid).execute(&mut target).await.unwrap();
    let addresses = cluster.addresses().join(",");
    let worker = cluster.prepare_worker("w1", 2, &addresses).await.unwrap();
    send_to(worker, &receiver);
    worker.start().await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "failed", "{run:#}");
    // THEN its attempts are under what the former leader has begun, and say that they failed
    let spans = spans_with(&receiver, "complete", 4).await;
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.name == "attempt").collect();
    assert!(!attempts.is_empty());
    for attempt in &attempts {
        assert_eq!(
            (&attempt.trace, &attempt.parent),
            (&begun.trace, &begun.id),
            "{attempt:#?}"
        );
    }
    let failed = attempts.iter().filter(|span| span.is_error);
    assert!(failed.clone().count() > 0, "{attempts:#?}");
    assert!(
        failed
            .clone()
            .all(|span| span.attributes.contains_key("error.type"))
    );
    // WHEN it is tried again, by a command of its own
    let mend = "alter table orders drop constraint never";
    sqlx::raw_sql(mend).execute(&mut target).await.unwrap();
    let other = 1 - leader;
    let mut command = cluster.command(other).await.unwrap();
    for (name, value) in receiver.environment() {
        command = command.env(name, value);
    }
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let command = command.env("TRACEPARENT", given);
    let retried = command
        .args(["retry", "--detach"])
        .run(LIMIT)
        .await
        .unwrap();
    assert!(retried.status.success(), "{retried:?}");
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}");
    // THEN that command has a trace of its own, which whoever started it had begun, and which says
    // what it goes on with
    let retry = "highwater.v1.ControlService/Retry";
    let spans = spans_with(&receiver, retry, 2).await;
    let of_command = spans.iter().filter(|span| span.trace == given[3..35]);
    let names: BTreeSet<&str> = of_command.clone().map(|span| span.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["highwater retry", retry]));
    let linked: Vec<_> = of_command.flat_map(|span| span.links.clone()).collect();
    assert_eq!(linked, [(begun.trace.clone(), begun.id.clone())]);
}

#[tokio::test]
async fn of_tasks_that_come_by_the_thousand_some_are_traced_whole() {
    // GIVEN a cluster that sends its telemetry
    let receiver = Receiver::start().await.unwrap();
    let mut cluster = cluster_of(1, |daemon| send_to(daemon, &receiver)).await;
    let address = cluster.address(0).to_owned();
    let worker = cluster.prepare("w1", 16, &address, &[]);
    send_to(worker, &receiver);
    worker.start().await.unwrap();
    // WHEN it runs many tasks that do nothing
    let pipeline = "version: 1
name: many
steps:
  many: {strategy: {type: noop, tasks: 1500, hold: 0s}}
";
    submit(&cluster, &receiver, pipeline).await;
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}");
    // THEN some of them are traced, on both sides, and say that there were more
    let spans = spans_with(&receiver, "attempt", 200).await;
    let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert!(named("attempt") < 1500, "{}", named("attempt"));
    let told = until("one that tells of others", LIMIT, async || {
        let spans = receiver.spans();
        let told = spans
            .iter()
            .any(|span| span.attributes.contains_key("highwater.untraced"));
        Ok(told.then_some(()))
    });
    told.await.unwrap();
    assert!(
        named(COMPLETE) <= 2 * named("attempt") + 64,
        "{}",
        named(COMPLETE)
    );
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_no_work_and_one_line_of_the_log() {
    // GIVEN one place where nobody listens, and one that takes everything and says nothing
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent
        .local_addr()
        .map(|at| (at.to_string(), silent))
        .unwrap();
    let nobody = {
        let closed = Receiver::start().await.unwrap();
        closed.address().to_owned()
    };
    for place in [&nobody, &silent.0] {
        let endpoint = format!("http://{place}");
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "20"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "20"),
        ];
        let set = |daemon: &mut Daemon| {
            for (name, value) in env {
                daemon.env(name, value);
            }
        };
        let mut cluster = cluster_of(1, set).await;
        let address = cluster.address(0).to_owned();
        let worker = cluster.prepare_worker("w1", 2, &address).await.unwrap();
        set(worker);
        worker.start().await.unwrap();
        // WHEN runs are made all the same
        let orders = Orders { days: 6, rows: 10 };
        orders.load(&cluster).await.unwrap();
        let file = cluster.file("pipeline.yaml", &orders.pipeline("")).unwrap();
        let mut command = cluster.command(0).await.unwrap();
        for (name, value) in env {
            command = command.env(name, value);
        }
        let file = file.to_str().unwrap();
        let began = Instant::now();
        let ended = command
            .args(["run", file, "--detach"])
            .run(LIMIT)
            .await
            .unwrap();
        let took = began.elapsed();
        // THEN the command does as it would have done, and hardly later
        assert!(ended.status.success(), "{ended:?}");
        assert!(took < Duration::from_secs(5), "the command took {took:?}");
        let run = cluster.until_ended(LIMIT).await.unwrap();
        assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
        orders.check_copy(&cluster).await.unwrap();
        // AND each daemon tells once of each signal, however often it tried
        for no in 0..2 {
            let daemon = match no {
                0 => cluster.coordinator(0),
                _ => cluster.worker("w1"),
            };
            for signal in ["metrics", "traces", "logs"] {
                let told = format!("{signal} are not sent");
                daemon.until_logged(&told, LIMIT).await.unwrap();
            }
            // AND it ends as soon as it may
            let began = Instant::now();
            daemon.terminate().unwrap();
            let ended = daemon.ended(LIMIT).await.unwrap();
            assert!(ended.success(), "{ended}");
            assert!(
                began.elapsed() < Duration::from_secs(8),
                "{:?}",
                began.elapsed()
            );
            let log = daemon.log();
            let told = log.lines().filter(|line| line.contains("are not sent"));
            assert_eq!(told.count(), 3, "{log}");
            assert!(
                !log.contains("Failed") && !log.contains("opentelemetry"),
                "{log}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_sent_of_metrics_has_the_names_of_the_page_and_logs_have_their_trace() {
    // GIVEN a cluster that sends its telemetry, has a page of metrics, and writes its log as JSON
    let receiver = Receiver::start().await.unwrap();
    let set = |daemon: &mut Daemon| {
        send_to(daemon, &receiver);
        daemon.env("HIGHWATER_ADMIN_LISTEN", "127.0.0.1:0");
        daemon.env("HIGHWATER_LOG_FORMAT", "json");
    };
    let mut cluster = cluster_of(1, set).await;
    let address = cluster.address(0).to_owned();
    let worker = cluster.prepare_worker("w1", 2, &address).await.unwrap();
    set(worker);
    worker.start().await.unwrap();
    // WHEN a run fails
    let orders = Orders { days: 2, rows: 5 };
    orders.load(&cluster).await.unwrap();
    let mut target = cluster.target.connect("postgres").await.unwrap();
    let forbid = "alter table orders add constraint never check (id < 0)";
    sqlx::raw_sql(forbid).execute(&mut target).await.unwrap();
    let pipeline = orders
        .pipeline("")
        .replace("max_attempts: 8", "max_attempts: 1");
    submit(&cluster, &receiver, &pipeline).await;
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "failed", "{run:#}");
    // THEN what is sent of metrics has the names that the page has, but for what the page makes of
    // kinds and units
    for (no, service) in ["highwater-coordinator", "highwater-worker"]
        .iter()
        .enumerate()
    {
        let at = match no {
            0 => admin_of(cluster.coordinator(0)),
            _ => admin_of(cluster.worker("w1")),
        };
        let page = http::get(&at, "/metrics").await.unwrap().1;
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names: BTreeSet<String> = types
            .map(|line| bare(line.split(' ').next().unwrap()))
            .collect();
        let what = format!("all metrics of {service}");
        let asked = async || {
            let sent = receiver.metrics();
            let sent = sent.iter().filter(|(from, ..)| from == service);
            let sent: BTreeSet<String> = sent.map(|(_, name, _)| bare(name)).collect();
            Ok(sent.is_superset(&names).then_some(sent))
        };
        let sent = until(&what, LIMIT, asked).await.unwrap();
        assert!(
            sent.iter().all(|name| name.starts_with("highwater")),
            "{sent:?}"
        );
    }
    // AND the line about the attempt that failed belongs to the trace of the run, both where it is
    // sent and where it is written
    let spans = spans_with(&receiver, "attempt", 1).await;
    let trace = &spans.iter().find(|span| span.is_error).unwrap().trace;
    let asked = async || {
        let lines = receiver.logs().into_iter();
        let mut of_trace = lines.filter(|line| line.trace == *trace);
        Ok(of_trace.find(|line| line.attributes.contains_key("class")))
    };
    let sent = until("the line of a failure", LIMIT, asked).await.unwrap();
    assert_eq!(sent.resource["service.name"], "highwater-worker");
    let log = cluster.worker("w1").log();
    let lines: Vec<Value> = (log.lines())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let written = lines
        .iter()
        .find(|line| line["msg"] == sent.text.as_str())
        .unwrap();
    assert_eq!(written["trace_id"], trace.as_str());
    assert_eq!(written["level"], "warn");
    for key in [
        "ts", "target", "run", "pipeline", "step", "task", "attempt", "token", "worker",
    ] {
        assert!(!written[key].is_null(), "{key}: {written:#}");
    }
    assert!(written["span_id"].as_str().is_some_and(|id| id.len() == 16));
}

/// Where a daemon that logs JSON has its admin port.
fn admin_of(daemon: &Daemon) -> String {
    let log = daemon.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut admin = lines.filter_map(|line| line["admin"].as_str().map(str::to_owned));
    admin.next_back().unwrap()
}

/// A metric's name without what a page of Prometheus says of its kind and unit.
fn bare(name: &str) -> String {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let units = ["_seconds", "_bytes", "_ratio"];
    let bare = units.iter().find_map(|unit| name.strip_suffix(unit));
    bare.unwrap_or(name).to_owned()
}
