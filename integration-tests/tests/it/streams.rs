//! One stream, one writer, over all runs: what an older run has under way never lands once a newer
//! one has begun.

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::{Running, Signal, until};
use serde_json::Value;

use crate::site::{DAYS, Engine, LIMIT, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
const APPEND: &str = "{mode: append}";

/// A target's table without a key, and what makes it refuse the rows of the second half; and what
/// lets them in.
fn half_closed(engine: Engine, site: &Site) -> (String, &'static str) {
    let table = site
        .events_table("not null", "")
        .replace(" primary key", "");
    match engine {
        Engine::Postgres => (
            format!("{table}; alter table events add constraint half check (id <= 1000)"),
            "alter table events drop constraint half",
        ),
        Engine::Sqlite => (
            format!(
                "{table}; create trigger half before insert on events when new.id > 1000 \
                 begin select raise(abort, 'only the first half'); end"
            ),
            "drop trigger half",
        ),
    }
}

#[tokio::test]
async fn a_retried_older_run_cannot_double_what_a_newer_one_loaded() {
    for engine in BOTH {
        // GIVEN a run that failed in half of its tasks, and a newer one that has loaded them
        let site = Site::with_events(engine, APPEND).await;
        let (closed, open) = half_closed(engine, &site);
        site.execute(Side::Target, &closed).await;
        assert_exit(&site.run().await, 3);
        let older = site.status().await;
        assert_eq!(older["status"], "failed");
        site.execute(Side::Target, open).await;
        assert_exit(&site.run().await, 0);
        site.assert_rows_once(DAYS).await;
        let newer = site.status().await;
        // WHEN the older one is tried again
        let retried = site
            .finish(&["retry", older["short"].as_str().unwrap()])
            .await;
        // THEN that is refused by name, and nothing has changed
        assert_exit(&retried, 6);
        assert_says(&retried.stderr, "is superseded");
        assert_says(&retried.stderr, newer["short"].as_str().unwrap());
        site.assert_rows_once(DAYS).await;
        // AND the target knows who took the stream from whom
        let of = |run: &Value| run["run"].as_str().unwrap().to_owned();
        let fenced = format!("from {} where state = 'X'", site.ledger("run"));
        let told = site
            .texts(
                Side::Target,
                "cast(run_id as text) || ' ' || cast(fenced_by as text)",
                &fenced,
            )
            .await;
        let told: Vec<String> = told.iter().map(|told| told.replace('-', "")).collect();
        assert_eq!(told, [format!("{} {}", of(&older), of(&newer))]);
    }
}

#[tokio::test]
async fn a_frozen_last_attempt_of_a_failed_run_commits_nothing_after_a_newer_run_began() {
    // GIVEN a run of one attempt a task, whose worker is frozen before its guard
    let orders = Orders { days: 4, rows: 40 };
    let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 1, "attempt::before_guard=sleep(3000)")
        .await
        .unwrap();
    let append = orders
        .pipeline("")
        .replace("{mode: replace_partition, key: [id]}", "{mode: append}");
    let pipeline = append.replace("max_attempts: 8", "max_attempts: 1");
    let keyless = "alter table orders drop constraint orders_pkey";
    sqlx::raw_sql(keyless)
        .execute(&mut cluster.target.connect("postgres").await.unwrap())
        .await
        .unwrap();
    cluster.submit(&pipeline).await.unwrap();
    cluster
        .until_number(
            "w1 to have claimed",
            "select count(*) from highwater.task where state = \
        'O'",
        )
        .await
        .unwrap();
    cluster.worker("w1").freeze().unwrap();
    // AND the run has failed: the attempt was its last
    cluster.add_worker("w2", 2, "").await.unwrap();
    let failed = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(failed["status"], "failed", "{failed:#}\n{}", cluster.logs());
    // WHEN a newer run loads what is missing, and the frozen attempt goes on
    cluster.submit(&pipeline).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    assert_ne!(run["run"], failed["run"]);
    cluster.worker("w1").thaw().unwrap();
    cluster.until_worker("w1", "ready", LIMIT).await.unwrap();
    // THEN every row is there once, and the attempt's ledger row is fenced
    let (source, target) = cluster
        .digests("select id, placed, note from orders order by id")
        .await
        .unwrap();
    assert_eq!((source.rows, &source), (160, &target));
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!((ledger.committed, ledger.others), (4, 1), "{ledger:?}");
    assert_eq!(
        cluster
            .number("select count(*) from orders where worker = 'w1'")
            .await
            .unwrap(),
        0
    );
}

/// Runs the pipeline until each of its four workers has claimed, and freezes it there; the copy
/// `older` of the state knows nothing of that.
async fn frozen_after_its_claim(site: &Site) -> Running {
    frozen_after_commits(site, 0).await
}

/// The same, once so many tasks have gone through.
async fn frozen_after_commits(site: &Site, commits: i64) -> Running {
    site.copy_state(".highwater", "older");
    let passed = if commits == 0 {
        String::new()
    } else {
        format!("{commits}*off->")
    };
    let mut run = site
        .start(&format!("attempt::after_claim={passed}sleep(10000)"))
        .await;
    let is_there = async || (site.tasks('C').await, site.tasks('O').await) == (commits, 4);
    until("four claims", LIMIT, async || {
        Ok(is_there().await.then_some(()))
    })
    .await
    .unwrap();
    run.signal(Signal::Stop).unwrap();
    run
}

/// Starts a run, and kills it in its planning.
async fn killed_in_its_planning(site: &Site) {
    let mut planning = site.start("attempt::before_probe=sleep(60000)").await;
    let is_known = async || {
        let status = site.finish(&["status", "-o", "json"]).await;
        Ok((status.status.code() == Some(0)).then_some(()))
    };
    until("the run to be known", LIMIT, is_known).await.unwrap();
    planning.kill().unwrap();
}

#[tokio::test]
async fn a_rewound_store_that_plans_a_run_anew_doubles_nothing_of_its_former_plan() {
    for engine in BOTH {
        // GIVEN a run that has committed days and is frozen in others, and a store that was put
        // back to when it was being planned
        let site = Site::with_events(engine, APPEND).await;
        let table = site
            .events_table("not null", "")
            .replace(" primary key", "");
        site.execute(Side::Target, &table).await;
        killed_in_its_planning(&site).await;
        let mut frozen = frozen_after_commits(&site, 6).await;
        // WHEN the same run is planned anew there, around what it has committed, and the frozen one
        // goes on
        let anew = site
            .finish(&["run", "pipeline.yaml", "--state", "older"])
            .await;
        assert_exit(&anew, 0);
        assert_says(&anew.stdout, "14 tasks · 6 covered by earlier runs");
        frozen.signal(Signal::Cont).unwrap();
        // THEN it commits nothing, says why, and every row is there once
        assert_eq!(
            frozen.wait(LIMIT).await.unwrap().code(),
            Some(3),
            "{}",
            frozen.stderr().unwrap()
        );
        assert_says(&frozen.stderr().unwrap(), "plan_changed");
        site.assert_rows_once(DAYS).await;
        // AND the next run finds nothing to do
        assert_exit(&site.run().await, 0);
        site.assert_rows_once(DAYS).await;
    }
}

#[tokio::test]
async fn a_run_unknown_to_a_rewound_store_is_fenced_by_the_next() {
    for engine in BOTH {
        // GIVEN a run under way, frozen, and a store that was put back to before it began
        let site = Site::with_events(engine, APPEND).await;
        assert_exit(&site.finish(&["plan", "pipeline.yaml"]).await, 0);
        let mut frozen = frozen_after_its_claim(&site).await;
        // WHEN the next run loads everything, and the frozen one goes on
        let next = site
            .finish(&["run", "pipeline.yaml", "--state", "older"])
            .await;
        assert_exit(&next, 0);
        frozen.signal(Signal::Cont).unwrap();
        let ended = frozen.wait(LIMIT).await.unwrap();
        // THEN it commits nothing, ends, and says why; every row is there once
        assert_eq!(ended.code(), Some(8), "{}", frozen.stderr().unwrap());
        let status = site.status().await;
        assert_eq!(status["status"], "cancelled");
        assert_says(status["reason"].as_str().unwrap(), "superseded: run r-");
        site.assert_rows_once(DAYS).await;
        // AND the next command begins a run of its own
        assert_exit(&site.run().await, 0);
        site.assert_rows_once(DAYS).await;
    }
}

#[tokio::test]
async fn a_cancel_fences_a_run_of_which_the_store_knew_only_its_planning() {
    for engine in BOTH {
        // GIVEN a run under way, frozen, and a store that was put back to when it was being planned
        let site = Site::with_events(engine, APPEND).await;
        killed_in_its_planning(&site).await;
        let mut frozen = frozen_after_its_claim(&site).await;
        // WHEN it is cancelled there, which is acknowledged, and the frozen one goes on
        let cancelled = site
            .finish(&[
                "cancel", "events", "--reason", "a test", "-y", "--state", "older",
            ])
            .await;
        assert_exit(&cancelled, 0);
        let committed = site.tasks('C').await;
        frozen.signal(Signal::Cont).unwrap();
        let ended = frozen.wait(LIMIT).await.unwrap();
        // THEN nothing of it commits
        assert_eq!(ended.code(), Some(8), "{}", frozen.stderr().unwrap());
        assert_eq!(
            (site.tasks('C').await, site.tasks('O').await),
            (committed, 0)
        );
    }
}
