//! After a cancel was acknowledged, nothing of the run commits.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::site::{Engine, HOURS, LIMIT, Side, Site, assert_exit, assert_says};

/// How long the target is watched once the cancelled process has ended.
const WATCH: Duration = Duration::from_millis(500);
/// Where attempts stand when the cancel comes: while they read, before the guard, and between guard
/// and commit.
const PLACES: [&str; 3] = [
    "attempt::reading=sleep(60)",
    "attempt::before_guard=sleep(100)",
    "attempt::before_commit=sleep(100)",
];

#[tokio::test]
async fn cancel_acknowledged_means_nothing_commits_after() {
    nothing_commits_after(Engine::Postgres).await;
}

#[tokio::test]
async fn cancel_acknowledged_means_nothing_commits_after_in_sqlite() {
    nothing_commits_after(Engine::Sqlite).await;
}

async fn nothing_commits_after(engine: Engine) {
    let site = Site::with_hours(engine, "{mode: append}").await;
    for place in PLACES {
        // GIVEN a run with attempts at that place
        let before = site.tasks('C').await;
        let mut run = site.start(place).await;
        site.until_committed(before + 2).await;
        // WHEN it is cancelled from another process, and the cancel was acknowledged
        let cancelled = site
            .finish(&["cancel", "events", "--reason", "a test", "-y", "-o", "json"])
            .await;
        let acknowledged = state(&site).await;
        assert_exit(&cancelled, 0);
        assert_says(&cancelled.stderr, "through the process that runs there");
        let document: Value = serde_json::from_str(&cancelled.stdout).unwrap();
        assert_eq!(
            (&document["status"], &document["reason"]),
            (&Value::from("cancelled"), &Value::from("a test"))
        );
        // THEN neither a row nor a receipt comes into being, while the process ends and afterwards
        let mut ended: Option<Instant> = None;
        while ended.is_none_or(|at| at.elapsed() < WATCH) {
            assert_eq!(state(&site).await, acknowledged, "{place}");
            if ended.is_none() && run.ended().unwrap().is_some() {
                ended = Some(Instant::now());
            }
        }
        assert_eq!(
            run.wait(LIMIT).await.unwrap().code(),
            Some(8),
            "{}",
            run.stderr().unwrap()
        );
        // AND the target knows that the run is over
        assert_eq!(acknowledged[2], 0, "no attempt of it is open");
        let fenced = format!(
            "from {} where state = 'X' and fenced_at is not null",
            site.ledger("run")
        );
        let ids = site.texts(Side::Target, "run_id", &fenced).await;
        let id = document["run"].as_str().unwrap();
        assert!(
            ids.iter().any(|fenced| fenced.replace('-', "") == id),
            "{ids:?} {id}"
        );
    }
    // AND what was committed before counts: the next run copies the rest
    let finished = site.run().await;
    assert_exit(&finished, 0);
    assert_says(&finished.stdout, "covered by earlier runs");
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
    assert_eq!(site.tasks('C').await, HOURS);
}

/// Rows, committed tasks and open tasks.
async fn state(site: &Site) -> [i64; 3] {
    let rows = site
        .numbers(Side::Target, ["count(*)"], "from events")
        .await[0];
    [rows, site.tasks('C').await, site.tasks('O').await]
}
