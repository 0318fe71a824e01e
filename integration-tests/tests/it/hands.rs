//! What operators do while a run is under way: they hold it back, limit it, leave something out, and
//! all of it is recorded.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::{Authority, Binary, Finished, Running, until};
use serde_json::Value;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

/// A folder with these steps, and a program `hold` that writes the file `NAME.began` and waits for
/// `NAME.go`.
async fn site(steps: &str) -> Site {
    let site = Site::empty(Engine::Sqlite).await;
    let path = site.path("hold");
    let script = "touch \"$1.began\"; until [ -e \"$1.go\" ]; do sleep 0.05; done";
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let hold = path.display().to_string();
    let folder = site.path("").display().to_string();
    site.write_pipeline(&steps.replace("HOLD", &hold).replace("FOLDER", &folder));
    site
}

fn step(name: &str, more: &str) -> String {
    format!(
        "  {name}:\n    strategy: exec\n    command: [HOLD, 'FOLDER/{name}']\n    idempotent: true\n{more}"
    )
}

async fn start(site: &Site) -> Running {
    let folder = site.path("").display().to_string();
    site.highwater(&["run", "pipeline.yaml", "--allow-exec", &folder])
        .await
        .start()
        .unwrap()
}

async fn until_began(site: &Site, name: &str) {
    let path = site.path(&format!("{name}.began"));
    until(name, LIMIT, async || Ok(path.exists().then_some(())))
        .await
        .unwrap();
}

fn go(site: &Site, name: &str) {
    std::fs::write(site.path(&format!("{name}.go")), "").unwrap();
}

async fn until_status(site: &Site, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, LIMIT, async || {
        let status = site.status().await;
        Ok(is_so(&status).then_some(status))
    })
    .await
    .unwrap()
}

fn stands<'a>(status: &'a Value, name: &str) -> &'a Value {
    let steps = status["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap()
}

/// What `cluster audit` lists, oldest first: who, verb, what and why.
fn actions(listed: &Finished) -> Vec<[String; 4]> {
    assert_exit(listed, 0);
    let document: Value = serde_json::from_str(&listed.stdout).unwrap();
    let actions = document["actions"].as_array().unwrap().iter().rev();
    let text = |action: &Value, key: &str| action[key].as_str().unwrap().to_owned();
    actions
        .map(|action| ["by", "verb", "about", "reason"].map(|key| text(action, key)))
        .collect()
}

#[tokio::test]
async fn a_run_is_held_back_from_another_shell_and_goes_on() {
    // GIVEN a run in one process, whose first step is under way
    let site = site(&format!(
        "steps:\n{}{}",
        step("a", ""),
        step("b", "    depends_on: [a]\n")
    ))
    .await;
    let mut running = start(&site).await;
    until_began(&site, "a").await;
    // WHEN it is paused by another process, and the step may end
    let paused = site
        .finish(&[
            "pause",
            "pipeline.yaml",
            "--reason",
            "a talk",
            "--operator",
            "ann",
        ])
        .await;
    assert_exit(&paused, 0);
    assert_says(&paused.stdout, "paused  the run by ann: a talk, since ");
    go(&site, "a");
    // THEN that step ends and the next does not begin, and the status says who wants it and why
    let status = until_status(&site, "the second step to wait", |status| {
        stands(status, "a")["status"] == "success"
            && stands(status, "b")["waits"].to_string().contains("paused")
    })
    .await;
    assert_eq!(
        stands(&status, "b")["waits"][0],
        "the run is paused by ann: a talk"
    );
    assert!(!site.path("b.began").exists());
    // WHEN it is resumed THEN it goes on
    let resumed = site.finish(&["resume", "pipeline.yaml"]).await;
    assert_exit(&resumed, 0);
    until_began(&site, "b").await;
    go(&site, "b");
    assert_eq!(running.wait(LIMIT).await.unwrap().code(), Some(0));
    // AND nothing that has ended can be held back
    let late = site
        .finish(&["pause", "pipeline.yaml", "--reason", "late"])
        .await;
    assert_exit(&late, 6);
    assert_says(&late.stderr, "is success");
}

#[tokio::test]
async fn a_pause_outlives_the_process() {
    // GIVEN a paused run whose process is killed
    let site = site(&format!(
        "steps:\n{}{}",
        step("a", ""),
        step("b", "    depends_on: [a]\n")
    ))
    .await;
    let mut running = start(&site).await;
    until_began(&site, "a").await;
    let pause = ["pause", "pipeline.yaml", "b", "--reason", "not yet"];
    assert_exit(&site.finish(&pause).await, 0);
    running.kill().unwrap();
    go(&site, "a");
    // WHEN another one goes on with it THEN the step still waits, until it is resumed
    let mut running = start(&site).await;
    until_status(&site, "the step to wait", |status| {
        stands(status, "b")["waits"].to_string().contains("not yet")
    })
    .await;
    assert!(!site.path("b.began").exists());
    // What was read above may have come from the store: the process may not listen yet.
    until("the step to be resumed", LIMIT, async || {
        let resumed = site.finish(&["resume", "pipeline.yaml", "b"]).await;
        Ok((resumed.status.code() == Some(0)).then_some(()))
    })
    .await
    .unwrap();
    go(&site, "b");
    assert_eq!(running.wait(LIMIT).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn failed_step_skips_only_its_descendants() {
    // GIVEN two branches, and a step of one of them that is skipped while another one runs
    let steps = [
        step("a", ""),
        step("b", "    depends_on: [a]\n"),
        step("c", "    depends_on: [b]\n"),
        step("other", ""),
        step("late", "    depends_on: [{step: c, when: done}]\n"),
    ];
    let site = site(&format!("steps:\n{}", steps.concat())).await;
    let mut running = start(&site).await;
    until_began(&site, "a").await;
    let skip = [
        "skip",
        "pipeline.yaml",
        "b",
        "--reason",
        "not today",
        "--operator",
        "ann",
    ];
    let skipped = site.finish(&skip).await;
    assert_exit(&skipped, 0);
    // WHEN everything else may end
    for name in ["a", "other", "late"] {
        go(&site, name);
    }
    assert_eq!(running.wait(LIMIT).await.unwrap().code(), Some(3));
    // THEN what needs it is skipped with it, says why, and nothing else is
    let status = site.status().await;
    for name in ["b", "c"] {
        assert_eq!(stands(&status, name)["status"], "skipped");
        let reason = &stands(&status, name)["reason"];
        assert_eq!(reason, "b was skipped by ann: not today");
    }
    for name in ["a", "other", "late"] {
        assert_eq!(stands(&status, name)["status"], "success", "{name}");
    }
    // AND what has ended, or is not there, cannot be skipped
    let late = site
        .finish(&["skip", "pipeline.yaml", "a", "--reason", "x"])
        .await;
    assert_exit(&late, 6);
    assert_says(&late.stderr, "step `a` is success");
    let none = site
        .finish(&["skip", "pipeline.yaml", "z*", "--reason", "x"])
        .await;
    assert_exit(&none, 4);
    assert_says(&none.stderr, "`z*` selects no step");
}

#[tokio::test]
async fn a_run_goes_on_without_a_date_that_is_accepted() {
    // GIVEN a load by day, one of whose days the target refuses, and a step behind it
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(
        Side::Source,
        "create table events (id integer primary key, at text not null, v integer);
         insert into events values (1, '2024-01-01', 1), (2, '2024-01-02', 2), (3, '2024-02-03', 3)",
    )
    .await;
    site.execute(
        Side::Target,
        "create table events (id integer primary key, at text not null, v integer check (v <> 2))",
    )
    .await;
    site.write_pipeline(
        "steps:
  events:
    strategy: backfill
    from: {connection: source, table: events}
    to: {connection: target, table: events}
    partition: {by: calendar, column: at, grain: day}
    write: {mode: replace_partition}
    retries: {max_attempts: 1}
  after:
    strategy: sql
    depends_on: [events]
    to: {connection: target, table: counted}
    sql: create table counted as select count(*) as n from events
",
    );
    assert_exit(&site.run().await, 3);
    // WHEN its tasks are listed and retried by date THEN only what is meant is
    let tasks = async |more: &[&str]| {
        let listed = site
            .finish(&[&["tasks", "pipeline.yaml", "-o", "json"], more].concat())
            .await;
        let document: Value = serde_json::from_str(&listed.stdout).unwrap();
        let tasks = document["tasks"].as_array().unwrap().clone();
        let load = tasks
            .iter()
            .map(|task| task["work"].as_str().unwrap().to_owned());
        load.filter(|work| work.starts_with(['[', '('])).count()
    };
    assert_eq!(tasks(&["events[2024-02]"]).await, 3); // up to the last row
    assert_eq!(
        tasks(&["events[2024-01..2024-02]", "--in-state", "dead"]).await,
        1
    );
    let none = site
        .finish(&["retry", "pipeline.yaml", "events[2024-02]"])
        .await;
    assert_exit(&none, 4);
    let again = site
        .finish(&["retry", "pipeline.yaml", "events[2024-01-02]"])
        .await;
    assert_exit(&again, 3);
    // WHEN the dead day is accepted
    let accept = [
        "accept",
        "pipeline.yaml",
        "events[2024-01-02]",
        "--reason",
        "never delivered",
    ];
    let accepted = site
        .finish(&[&accept[..], &["--operator", "ann"]].concat())
        .await;
    // THEN the run ends well, the step behind it has run, and it says what is missing and who wanted that
    assert_exit(&accepted, 0);
    assert_eq!(site.numbers(Side::Target, ["n"], "from counted").await, [2]);
    let shown = site.finish(&["status", "pipeline.yaml"]).await;
    assert_says(&shown.stdout, "(accepted by ann: never delivered)");
}

#[tokio::test]
async fn every_operator_action_is_audited_with_its_reason() {
    // GIVEN a cluster over TLS, and a run of it that is slow
    let authority = Arc::new(Authority::new("the cluster's").unwrap());
    let options = ClusterOptions {
        coordinators: 2,
        authority: Some(Arc::clone(&authority)),
        ..ClusterOptions::default()
    };
    let orders = Orders { days: 30, rows: 20 };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    let slow = "attempt::reading=return(stall 100)";
    cluster.add_worker("w1", 2, slow).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    // WHEN somebody whose certificate says who he is does all that can be done, through whoever
    // follows
    let (certificate, key) = authority.sign("ann").unwrap();
    let leader = cluster.leader().await.unwrap();
    let address = cluster.address(1 - leader).to_owned();
    let ann = async |args: &[&str]| -> Finished {
        let flags = [
            "--coordinator",
            address.as_str(),
            "--tls-ca",
            authority.file().to_str().unwrap(),
            "--tls-cert",
            certificate.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
            "--operator",
            "somebody else",
        ]
        .map(str::to_owned);
        let program = Binary::highwater().await.unwrap();
        program.args(args).args(flags).run(LIMIT).await.unwrap()
    };
    for args in [
        &["pause", "orders", "--reason", "a backup"][..],
        &["resume", "orders", "--reason", "it is done"],
        &["limits", "orders", "--tasks", "1", "--reason", "too loud"],
        &["workers", "cordon", "w1"],
        &["workers", "uncordon", "w1"],
        &["cancel", "orders", "--reason", "wrong source", "-y"],
    ] {
        assert_exit(&ann(args).await, 0);
    }
    // THEN each is recorded with her name, whatever she calls herself, and with her reason
    let listed = ann(&["cluster", "audit", "-o", "json"]).await;
    let by = "ann (certificate), passed on by 127.0.0.1".to_owned();
    let expected = [
        ["pause", "the run", "a backup"],
        ["resume", "the run", "it is done"],
        ["limits", "tasks 1", "too loud"],
        ["cordon", "worker w1", ""],
        ["uncordon", "worker w1", ""],
        ["cancel", "the run", "wrong source"],
    ];
    let expected: Vec<[String; 4]> = expected
        .map(|[verb, about, reason]| {
            [
                by.clone(),
                verb.to_owned(),
                about.to_owned(),
                reason.to_owned(),
            ]
        })
        .into();
    let found = actions(&listed);
    assert_eq!(found[0][1], "run");
    assert_eq!(found[1..], expected);
    // AND the record outlives the leader
    cluster.coordinator(leader).kill().unwrap();
    cluster.next_leader(&[leader]).await.unwrap();
    let again = ann(&["cluster", "audit", "-o", "json"]).await;
    assert_eq!(actions(&again), found);
}
