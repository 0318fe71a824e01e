//! The process dies at any instant, and the next one goes on: nothing is lost, and nothing is there
//! twice.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_integration_tests::until;
use serde_json::Value;

use crate::site::{Engine, HOURS, LIMIT, Side, Site, assert_exit, assert_says};

const APPEND: &str = "{mode: append}";
const REPLACE: &str = "{mode: replace_partition, key: [id]}";
/// Makes each attempt long enough to be met in its midst.
const SLOW: &str = "attempt::reading=sleep(50);attempt::before_guard=sleep(20)";
/// How often the process is killed before it may come to its end.
const KILLS: u32 = 5;
/// What a later attempt would change in the ledger row of a committed task.
const RECEIPT: &str = "cast(task_id as text) || cast(token as text) || cast(committed_at as text)";

#[tokio::test]
async fn killed_process_mid_backfill_loses_and_doubles_nothing() {
    is_killed_again_and_again(Engine::Postgres, APPEND).await;
}

#[tokio::test]
async fn killed_process_mid_backfill_loses_and_doubles_nothing_when_it_replaces() {
    is_killed_again_and_again(Engine::Postgres, REPLACE).await;
}

#[tokio::test]
async fn killed_process_mid_backfill_loses_and_doubles_nothing_in_sqlite() {
    is_killed_again_and_again(Engine::Sqlite, APPEND).await;
}

#[tokio::test]
async fn killed_process_mid_backfill_loses_and_doubles_nothing_when_it_replaces_in_sqlite() {
    is_killed_again_and_again(Engine::Sqlite, REPLACE).await;
}

async fn is_killed_again_and_again(engine: Engine, write: &str) {
    // GIVEN a table
    let site = Site::with_hours(engine, write).await;
    let mut seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    println!("{engine:?} {write}: seed {seed}");
    // WHEN its backfill is killed several times, at moments that nobody chose
    for kill in 1..=KILLS {
        let mut run = site.start(SLOW).await;
        site.until_committed(i64::from(8 * kill)).await;
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((seed >> 33) % 80)).await;
        assert_eq!(
            run.ended().unwrap(),
            None,
            "it came to its end before it was killed: {}",
            run.stderr().unwrap()
        );
        run.kill().unwrap();
    }
    // THEN the last process ends it well, each row and each receipt is there once, and it was one
    // run all the time
    assert_exit(&site.run().await, 0);
    site.assert_copied_once(HOURS).await;
    let task = site.ledger("task");
    let runs = site
        .numbers(
            Side::Target,
            ["count(distinct run_id)"],
            &format!("from {task}"),
        )
        .await;
    assert_eq!(runs, [1]);
}

#[tokio::test]
async fn embedded_resumes_after_kill_9() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a run whose process was killed
        let site = Site::with_hours(engine, APPEND).await;
        let mut run = site.start(SLOW).await;
        site.until_committed(3).await;
        run.kill().unwrap();
        let before = site.status().await;
        assert_eq!(before["status"], "running");
        let taken = site.texts(Side::Target, RECEIPT, &committed(&site)).await;
        // WHEN the same command is given again
        let finished = site.run().await;
        // THEN it says that it goes on with that run, ends it, and takes no committed task up again
        assert_exit(&finished, 0);
        assert_says(&finished.stderr, "goes on");
        let after = site.status().await;
        assert_eq!(
            (&after["run"], &after["status"]),
            (&before["run"], &Value::from("success"))
        );
        assert_eq!(after["tasks"]["done"], site.with_build(HOURS));
        site.assert_copied_once(HOURS).await;
        are_kept(
            &taken,
            &site.texts(Side::Target, RECEIPT, &committed(&site)).await,
        );
    }
}

fn committed(site: &Site) -> String {
    format!("from {} where state = 'C'", site.ledger("task"))
}

#[track_caller]
fn are_kept(before: &[String], after: &[String]) {
    assert!(
        before.iter().all(|receipt| after.contains(receipt)),
        "{before:?} {after:?}"
    );
}

#[tokio::test]
async fn commit_applied_but_answer_lost_is_replayed_not_repeated() {
    // GIVEN a target that applies a few commits and loses their answers
    let site = Site::with_hours(Engine::Postgres, APPEND).await;
    let run = site.highwater(&["-v", "run", "pipeline.yaml"]).await;
    // WHEN the table is copied
    let finished = run
        .failpoints("commit_answer_lost=5*return")
        .run(LIMIT)
        .await
        .unwrap();
    // THEN the ledger was asked, and the first attempt of each task was enough
    assert_exit(&finished, 0);
    assert_says(&finished.stderr, "asking the ledger");
    site.assert_copied_once(HOURS).await;
    assert_eq!(
        site.numbers(
            Side::Target,
            ["max(attempt)"],
            &format!("from {}", site.ledger("task"))
        )
        .await,
        [1]
    );
    let done = site.status().await["tasks"]["done"].clone();
    assert_eq!(done, site.with_build(HOURS));
}

#[tokio::test]
async fn a_commit_whose_process_died_before_it_could_tell_is_replayed() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a process that dies right after a commit, before anybody heard of it
        let site = Site::with_hours(engine, APPEND).await;
        let mut dying = site
            .start("attempt::after_commit=3*off->1*return(abort)")
            .await;
        assert!(!dying.wait(LIMIT).await.unwrap().success());
        let told = site.status().await["tasks"]["done"].as_i64().unwrap();
        let before = site.texts(Side::Target, RECEIPT, &committed(&site)).await;
        assert!(
            before.len() > usize::try_from(told).unwrap(),
            "the ledger knows more than the store: {before:?}, {told}"
        );
        // WHEN the run goes on
        assert_exit(&site.run().await, 0);
        // THEN those commits stand as they are, and count
        site.assert_copied_once(HOURS).await;
        are_kept(
            &before,
            &site.texts(Side::Target, RECEIPT, &committed(&site)).await,
        );
        let status = site.status().await;
        assert_eq!(
            (&status["tasks"]["done"], &status["rows"]),
            (&Value::from(site.with_build(HOURS)), &Value::from(400))
        );
    }
}

#[tokio::test]
async fn token_behind_the_target_raises_hi() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a copy of the state from early in a run, and a target that has since seen the
        // tokens of later terms
        let site = Site::with_hours(engine, REPLACE).await;
        let mut run = site.start(SLOW).await;
        site.until_committed(2).await;
        run.kill().unwrap();
        site.copy_state(".highwater", "older");
        for committed in [10, 20, 30] {
            let mut run = site.start(SLOW).await;
            site.until_committed(committed).await;
            until("an attempt to cut off", LIMIT, async || {
                Ok((site.tasks('O').await > 0).then_some(()))
            })
            .await
            .unwrap();
            run.kill().unwrap();
        }
        assert!(site.tasks('O').await > 0, "attempts were cut off");
        let seen = site
            .numbers(
                Side::Target,
                ["max(token)"],
                &format!("from {}", site.ledger("task")),
            )
            .await[0]
            >> 24;
        // WHEN the state is put back, and the run goes on
        std::fs::remove_dir_all(site.path(".highwater")).unwrap();
        site.copy_state("older", ".highwater");
        let finished = site.finish(&["-v", "run", "pipeline.yaml"]).await;
        // THEN a claim met a larger token, hi was raised above it, and the run came to its end
        assert_exit(&finished, 0);
        assert_says(&finished.stderr, "raising hi");
        site.assert_copied_once(HOURS).await;
        let cluster = site.finish(&["cluster", "status", "-o", "json"]).await;
        let cluster: Value = serde_json::from_str(&cluster.stdout).unwrap();
        assert!(
            cluster["token_hi"].as_i64().unwrap() > seen,
            "{cluster} after {seen}"
        );
    }
}
