//! Workers that are killed, frozen, drained and added while a cluster copies a table.

use std::time::{Duration, Instant};

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};
use highwater_integration_tests::until;

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one coordinator, without workers.
async fn cluster_with(orders: Orders) -> Cluster {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
}

/// Rows that came by this worker.
async fn rows_by(cluster: &Cluster, worker: &str) -> i64 {
    cluster
        .number(&format!(
            "select count(*) from orders where worker = '{worker}'"
        ))
        .await
        .unwrap()
}

#[tokio::test]
async fn killed_worker_mid_backfill_loses_and_doubles_nothing() {
    // GIVEN two workers in the midst of a backfill
    let orders = Orders { days: 60, rows: 40 };
    let mut cluster = cluster_with(orders).await;
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 60)")
        .await
        .unwrap();
    cluster
        .add_worker("w2", 2, "attempt::reading=return(stall 60)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(6).await.unwrap();
    // WHEN one is killed with a task in hand
    cluster
        .until_number("w1 to have claimed", CLAIMED_BY_W1)
        .await
        .unwrap();
    cluster.worker("w1").kill().unwrap();
    // THEN the other brings the run to its end, and every row is there once
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    assert!(rows_by(&cluster, "w1").await > 0 && rows_by(&cluster, "w2").await > 0);
}

/// Sessions of `w1` in the target that are in the midst of a data transaction.
const CLAIMED_BY_W1: &str = "select count(*) from pg_stat_activity join highwater.task on \
    session_id = pid \
    where usename = 'w1' and task.state = 'O' and xact_start is not null";

#[tokio::test]
async fn paused_worker_past_its_lease_cannot_commit() {
    // GIVEN two workers, one paused before its guard and one between its guard and its commit
    let orders = Orders { days: 6, rows: 40 };
    let mut cluster = cluster_with(orders).await;
    cluster
        .add_worker("w1", 1, "attempt::before_guard=sleep(8000)")
        .await
        .unwrap();
    cluster
        .add_worker("w2", 1, "attempt::before_commit=sleep(8000)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster
        .until_number("both to have claimed", BOTH_CLAIMED)
        .await
        .unwrap();
    cluster.worker("w1").freeze().unwrap();
    cluster.worker("w2").freeze().unwrap();
    assert_eq!(cluster.ledger().await.unwrap().committed, 0);
    // WHEN their leases have ended, and a third has done everything
    cluster.add_worker("w3", 2, "").await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    let ledger = cluster.ledger().await.unwrap();
    assert_eq!(ledger.attempt_max, 2, "{ledger:?}");
    // AND they wake up
    for worker in ["w1", "w2"] {
        cluster.worker(worker).thaw().unwrap();
        cluster.until_worker(worker, "ready", LIMIT).await.unwrap();
    }
    // THEN nothing of theirs lands
    orders.check_copy(&cluster).await.unwrap();
    assert_eq!(rows_by(&cluster, "w3").await, 240);
    assert_eq!(cluster.ledger().await.unwrap(), ledger);
}

const BOTH_CLAIMED: &str = "select (count(*) = 2)::int::int8 from pg_stat_activity join \
    highwater.task \
    on session_id = pid where usename in ('w1', 'w2') and pg_stat_activity.state = 'idle in \
    transaction'";

#[tokio::test]
async fn lost_worker_is_noticed_within_its_session_ttl_plus_two_seconds() {
    // GIVEN a worker with tasks in hand
    let orders = Orders { days: 6, rows: 40 };
    let mut cluster = cluster_with(orders).await;
    cluster
        .add_worker("w1", 2, "attempt::before_guard=return(stall 20000)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster
        .until_number("w1 to have claimed", CLAIMED_BY_W1)
        .await
        .unwrap();
    // WHEN it is killed
    cluster.worker("w1").kill().unwrap();
    let killed = Instant::now();
    // THEN its tasks return within the limit, their crash counted, and its session is gone
    let returned = cluster
        .until_run("the tasks to return", LIMIT, |run| {
            run["tasks"]["open"] == 0
        })
        .await
        .unwrap();
    assert!(
        killed.elapsed() < ClusterOptions::default().session_ttl + Duration::from_secs(2),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(
        returned["steps"][0]["retrying"][0]["code"], "worker_lost",
        "{returned:#}"
    );
    cluster.until_worker("w1", "gone", LIMIT).await.unwrap();
}

#[tokio::test]
async fn drained_worker_hands_back_without_an_attempt_counted() {
    // GIVEN a worker whose tasks take longer than its drain may
    let orders = Orders { days: 6, rows: 40 };
    let mut cluster = cluster_with(orders).await;
    let coordinator = cluster.address(0).to_owned();
    let worker = cluster.prepare_worker("w1", 2, &coordinator).await.unwrap();
    worker
        .args(["--drain-timeout", "300ms"])
        .env("FAILPOINTS", "attempt::reading=return(stall 500)");
    worker.start().await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster
        .until_number("w1 to have claimed", CLAIMED_BY_W1)
        .await
        .unwrap();
    // WHEN it is told to end
    cluster.worker("w1").terminate().unwrap();
    let asked = Instant::now();
    let status = cluster.worker("w1").ended(LIMIT).await.unwrap();
    // THEN it ends in good order, and its tasks are pending at once, with no attempt counted
    assert!(status.success(), "{status}\n{}", cluster.logs());
    let run = cluster
        .until_run("the tasks to return", LIMIT, |run| {
            run["tasks"]["open"] == 0
        })
        .await
        .unwrap();
    assert!(
        asked.elapsed() < ClusterOptions::default().session_ttl,
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(run["tasks"]["retry_wait"], 0, "{run:#}\n{}", cluster.logs());
    // AND another one finishes the run with first attempts
    cluster.add_worker("w2", 2, "").await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    orders.check_copy(&cluster).await.unwrap();
    assert_eq!(cluster.ledger().await.unwrap().attempt_max, 1);
}

#[tokio::test]
async fn a_draining_worker_finishes_what_it_has_and_takes_no_more() {
    // GIVEN a worker with tasks in hand, and time to finish them
    let orders = Orders { days: 20, rows: 40 };
    let mut cluster = cluster_with(orders).await;
    cluster
        .add_worker("w1", 2, "attempt::reading=return(stall 300)")
        .await
        .unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster
        .until_number("w1 to have claimed", CLAIMED_BY_W1)
        .await
        .unwrap();
    // WHEN it is told to end
    cluster.worker("w1").terminate().unwrap();
    let status = cluster.worker("w1").ended(LIMIT).await.unwrap();
    // THEN what it had claimed is committed and counted, and the rest is left to others
    assert!(status.success(), "{status}\n{}", cluster.logs());
    let run = cluster.status().await.unwrap();
    let ledger = cluster.ledger().await.unwrap();
    assert!(
        ledger.committed > 0 && ledger.committed < 20 && ledger.others == 0,
        "{ledger:?}\n{}",
        cluster.logs()
    );
    assert_eq!(
        run["tasks"]["done"],
        ledger.committed,
        "{run:#}\n{}",
        cluster.logs()
    );
    assert_eq!(run["tasks"]["open"], 0, "{run:#}\n{}", cluster.logs());
}

#[tokio::test]
async fn adding_workers_mid_run_speeds_it_up() {
    // GIVEN one worker of one slot in the midst of a run
    let orders = Orders { days: 60, rows: 20 };
    let slow = "attempt::reading=return(stall 100)";
    let mut cluster = cluster_with(orders).await;
    cluster.add_worker("w1", 1, slow).await.unwrap();
    cluster.submit(&orders.pipeline("")).await.unwrap();
    cluster.until_done(4).await.unwrap();
    // WHEN three more come
    for worker in ["w2", "w3", "w4"] {
        cluster.add_worker(worker, 1, slow).await.unwrap();
    }
    let before = rows_by(&cluster, "w1").await;
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    // THEN the four share what was left about equally
    orders.check_copy(&cluster).await.unwrap();
    let mut shares = vec![rows_by(&cluster, "w1").await - before];
    for worker in ["w2", "w3", "w4"] {
        shares.push(rows_by(&cluster, worker).await);
    }
    let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
    assert!(
        least > 0 && most <= 2 * least + 20,
        "{shares:?} after {before}"
    );
}

#[tokio::test]
async fn a_worker_outlives_coordinators_that_come_late() {
    // GIVEN a worker that finds nobody at first
    let orders = Orders { days: 4, rows: 40 };
    let mut cluster = cluster_with(orders).await;
    cluster.coordinator(0).kill().unwrap();
    let coordinator = cluster.address(0).to_owned();
    let worker = cluster.prepare_worker("w1", 2, &coordinator).await.unwrap();
    worker.start().await.unwrap();
    worker
        .until_logged("not registered yet", LIMIT)
        .await
        .unwrap();
    // WHEN the coordinator comes, THEN it works
    cluster.restart_coordinator(0).await.unwrap();
    cluster.until_worker("w1", "ready", LIMIT).await.unwrap();
    let submitted = until("a leader", LIMIT, async || {
        Ok(cluster.submit(&orders.pipeline("")).await.ok())
    });
    submitted.await.unwrap();
    assert_eq!(
        cluster.until_ended(LIMIT).await.unwrap()["status"],
        "success"
    );
    orders.check_copy(&cluster).await.unwrap();
}

#[tokio::test]
async fn a_database_that_only_some_workers_can_reach_is_named_and_worked_around() {
    // GIVEN a worker of many slots that cannot reach the target, and a slow one that can
    let orders = Orders { days: 24, rows: 20 };
    // Sessions that last: a worker that fell silent would leave nobody else to go to.
    let options = ClusterOptions {
        session_ttl: Duration::from_secs(30),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    orders.load(&cluster).await.unwrap();
    let addresses = cluster.address(0).to_owned();
    let closed = "postgres://w1@127.0.0.1:9/postgres";
    let cut_off = cluster.prepare_worker("w1", 4, &addresses).await.unwrap();
    cut_off.env("TARGET_URL", closed).start().await.unwrap();
    cluster.until_worker("w1", "ready", LIMIT).await.unwrap();
    cluster
        .add_worker("w2", 1, "attempt::reading=return(stall 150)")
        .await
        .unwrap();
    // WHEN both work on a run
    let run = cluster.submit(&orders.pipeline("")).await.unwrap();
    let waits = |run: &serde_json::Value| {
        run["steps"]
            .to_string()
            .contains("target is unreachable since ")
    };
    cluster
        .until_run("the connection to be told of", LIMIT, waits)
        .await
        .unwrap();
    // THEN it ends well, and no partition was tried twice by the one that is cut off
    let ended = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(ended["status"], "success", "{ended:#}\n{}", cluster.logs());
    orders.check_copy(&cluster).await.unwrap();
    assert_eq!(
        cluster.ledger().await.unwrap().attempt_max,
        1,
        "no attempt counts against a task that met an outage"
    );
    assert_eq!(rows_by(&cluster, "w2").await, 480);
    // AND the worker and the connection are named, for people and in the events
    let logs = cluster
        .highwater(0, ["logs", &run, "--output=json"], LIMIT)
        .await
        .unwrap();
    let events: serde_json::Value = serde_json::from_str(&logs.stdout).unwrap();
    let failed: Vec<&serde_json::Value> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["what"] == "failed")
        .collect();
    assert!(
        !failed.is_empty() && failed.iter().all(|event| event["worker"] == "w1"),
        "{failed:#?}"
    );
    let named = |event: &&serde_json::Value| {
        let error = event["error"].as_str().unwrap_or_default();
        error.contains("target") && error.ends_with("(on worker w1)")
    };
    assert!(failed.iter().all(named), "{failed:#?}");
}

#[tokio::test]
async fn more_orders_than_a_worker_remembers_all_end() {
    // GIVEN a run of more steps at once than a worker keeps orders that it does not need, and a
    // worker with a slot for each
    const STEPS: usize = 150;
    // Two busy cores may take seconds over so many steps at once.
    let options = ClusterOptions {
        session_ttl: Duration::from_secs(15),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    let coordinator = cluster.address(0).to_owned();
    let slots = u32::try_from(STEPS).unwrap();
    cluster
        .prepare_worker("w1", slots, &coordinator)
        .await
        .unwrap()
        .start()
        .await
        .unwrap();
    cluster.until_worker("w1", "ready", LIMIT).await.unwrap();
    let steps = (0..STEPS)
        .map(|no| format!("  s{no}: {{strategy: {{type: noop, tasks: 3, hold: 200ms}}}}\n"));
    let pipeline = format!(
        "version: 1\nname: many\nsteps:\n{}",
        steps.collect::<String>()
    );
    // WHEN it runs
    let run = cluster.submit(&pipeline).await.unwrap();
    let ended = cluster.until_ended(LIMIT).await.unwrap();
    // THEN all of it ends, and no task was given back or tried twice
    assert_eq!(ended["status"], "success", "{ended:#}\n{}", cluster.logs());
    assert_eq!(ended["tasks"]["done"], 3 * STEPS, "{ended:#}");
    let logs = cluster
        .highwater(0, ["logs", &run, "--output=json"], LIMIT)
        .await
        .unwrap();
    let events: serde_json::Value = serde_json::from_str(&logs.stdout).unwrap();
    let events = events["events"].as_array().unwrap();
    let odd: Vec<_> = events
        .iter()
        .filter(|event| event["what"] == "released" || event["what"] == "failed")
        .collect();
    assert!(
        !events.is_empty() && odd.is_empty(),
        "{odd:#?}\n{}",
        cluster.logs()
    );
}
