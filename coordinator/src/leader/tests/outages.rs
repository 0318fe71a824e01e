//! Connections that are away: who waits for them, who asks, and that nobody pays for it.

use std::time::Duration;

use highwater_common::assignment::{Assignment, AttemptError, Outcome, Work};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{ConnectionName, RunId};
use highwater_common::status::RunStatus;
use tokio::time::Instant;

use crate::engine;
use crate::fixtures::{Bench, FakeWorker, pipeline, well};

const PARTITIONS: i64 = 200;

fn away(connection: &str, code: ErrorCode) -> Outcome {
    let connection: ConnectionName = connection.parse().unwrap();
    Outcome::Failed(AttemptError::unreachable(
        connection,
        code,
        "connection refused",
    ))
}

/// The attempts that were counted so far, over all tasks of the run.
async fn counted(bench: &Bench, run: RunId) -> u32 {
    bench
        .look(move |leader| {
            let steps = leader.cluster().runs[&run].steps.values();
            steps
                .flat_map(engine::Step::tables)
                .flat_map(|table| table.retries.values())
                .map(|r| r.record.attempts)
                .sum()
        })
        .await
}

/// What the run's steps are said to wait for.
async fn waits(bench: &Bench, run: RunId) -> Vec<String> {
    bench
        .look(move |leader| {
            let document = engine::run_document(
                leader.cluster(),
                &leader.cluster().runs[&run],
                String::new(),
                leader.now().1,
            );
            document
                .steps
                .into_iter()
                .flat_map(|step| step.waits)
                .collect()
        })
        .await
}

/// Works as a worker whose attempts fail as `fails` says, and go well otherwise, until `until`.
async fn work_until(
    bench: &Bench,
    worker: &mut FakeWorker,
    until: Instant,
    fails: impl Fn(&Assignment) -> Option<Outcome>,
) -> usize {
    let mut failures = 0;
    while Instant::now() < until {
        for assignment in worker.pull(16).await.unwrap() {
            let failure = fails(&assignment);
            failures += usize::from(failure.is_some());
            let outcome = failure.unwrap_or_else(|| well(&assignment, PARTITIONS));
            worker.complete(&assignment, outcome).await.unwrap();
        }
        worker.beat().await.unwrap();
        let _ = bench;
    }
    failures
}

#[tokio::test(start_paused = true)]
async fn a_target_down_for_five_minutes_fails_no_task() {
    // GIVEN a run of 200 tasks in the middle of its work
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    for assignment in worker.take(16).await {
        worker
            .complete(&assignment, well(&assignment, PARTITIONS))
            .await
            .unwrap();
    }
    // WHEN its target is away for five minutes
    let began = Instant::now();
    let until = began + Duration::from_secs(300);
    let failures = work_until(&bench, &mut worker, until, |_| {
        Some(away("target", ErrorCode::Unreachable))
    })
    .await;
    // THEN it was asked by one task at a time, at longer and longer intervals, and no attempt
    // counts
    assert!(
        (16..=16 + 20).contains(&failures),
        "{failures} attempts were fed into the outage"
    );
    assert_eq!(counted(&bench, run).await, 0);
    // AND it is said
    let told = waits(&bench, run).await;
    assert!(
        told.len() == 1 && told[0].starts_with("184 tasks: target is unreachable since 5 m "),
        "{told:?}"
    );
    assert!(
        told[0].contains(", asked again in ") || told[0].ends_with(", is being asked"),
        "{told:?}"
    );
    // WHEN it is back THEN everything is loaded
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    assert!(began.elapsed() < Duration::from_secs(300 + 31));
    assert!(waits(&bench, run).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_a_connection_is_away_the_tasks_of_others_go_on() {
    // GIVEN two steps, one of which reads from a connection that is away
    let bench = Bench::new(20);
    let mut worker = bench.worker("w1").await;
    let steps = [("near", "$load"), ("far", "$load")];
    let mut spec = pipeline("shop", "", &steps);
    let other: ConnectionName = "other".parse().unwrap();
    let source = spec.connections[&"source".parse::<ConnectionName>().unwrap()].clone();
    spec.connections.insert(other.clone(), source);
    let step = spec.steps.get_mut(&"far".parse().unwrap()).unwrap();
    let highwater_common::spec::Strategy::Backfill(backfill) = &mut step.strategy else {
        panic!("a load")
    };
    backfill.from.connection = other;
    let run = bench.submit(&spec).await;
    let is_far = |assignment: &Assignment, far: &[highwater_common::id::TaskId]| {
        far.contains(&assignment.task)
    };
    let far: Vec<_> = {
        // Probes and prepare tasks go well.
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let assignment = worker.take_one().await;
            assert!(!matches!(assignment.work, Work::Partition(_)));
            worker
                .complete(&assignment, well(&assignment, 20))
                .await
                .unwrap();
        }
        tasks.extend(
            bench
                .look(move |leader| {
                    let run = &leader.cluster().runs[&run];
                    let step = "far".parse().unwrap();
                    let address = |ordinal| highwater_common::record::TaskAddress {
                        step: std::clone::Clone::clone(&step),
                        generation: 1,
                        phase: 1,
                        ordinal,
                    };
                    (0..20)
                        .filter_map(|ordinal| run.task_id(&address(ordinal)))
                        .collect::<Vec<_>>()
                })
                .await,
        );
        tasks
    };
    // WHEN everything of it fails for a while
    let until = Instant::now() + Duration::from_secs(60);
    work_until(&bench, &mut worker, until, |assignment| {
        is_far(assignment, &far).then(|| away("other", ErrorCode::Unreachable))
    })
    .await;
    // THEN the other step has ended, and no attempt counts
    let near = bench
        .look(move |leader| {
            leader.cluster().runs[&run].steps[&"near".parse().unwrap()]
                .record
                .status
        })
        .await;
    assert_eq!(near, highwater_common::status::StepStatus::Success);
    assert_eq!(counted(&bench, run).await, 0);
    assert_eq!(waits(&bench, run).await.len(), 1);
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_plan_gives_a_connection_up_that_a_run_would_wait_for() {
    for plan_only in [true, false] {
        // GIVEN a pipeline that gives an outage an hour, and a source that nobody answers for
        let bench = Bench::new(PARTITIONS);
        let mut worker = bench.worker("w1").await;
        let spec = pipeline("shop", "", &[("orders", "$load")]);
        let run = bench.submit_as(&spec, plan_only).await;
        // WHEN it is asked for two minutes
        let fails = |_: &Assignment| Some(away("source", ErrorCode::Unreachable));
        work_until(
            &bench,
            &mut worker,
            Instant::now() + Duration::from_secs(120),
            fails,
        )
        .await;
        // THEN a run still waits, and a plan has ended and says what for
        let (status, reason) = bench
            .look(move |leader| {
                let record = &leader.cluster().runs[&run].record;
                (record.status, record.reason.clone())
            })
            .await;
        assert_eq!(
            status,
            if plan_only {
                RunStatus::Failed
            } else {
                RunStatus::Planning
            }
        );
        assert_eq!(
            reason.contains("source was unreachable for 3")
                && reason.contains("a plan gives it 30 s"),
            plan_only,
            "{reason}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_away_is_given_up_in_the_end() {
    // GIVEN a step that gives an outage ten minutes, and a target that stays away
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline(
        "shop",
        "",
        &[("orders", "$load    retries: {unreachable: 10m}\n")],
    );
    let run = bench.submit(&spec).await;
    for _ in 0..2 {
        let assignment = worker.take_one().await;
        worker
            .complete(&assignment, well(&assignment, PARTITIONS))
            .await
            .unwrap();
    }
    let began = Instant::now();
    let fails = |_: &Assignment| Some(away("target", ErrorCode::Unreachable));
    work_until(&bench, &mut worker, began + Duration::from_secs(595), fails).await;
    assert_eq!(bench.status(run).await, RunStatus::Running);
    // WHEN its time is over
    work_until(&bench, &mut worker, began + Duration::from_secs(700), fails).await;
    // THEN its tasks are given up, and say since when it was away
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    let reason = bench
        .look(move |leader| {
            leader.cluster().runs[&run]
                .steps
                .values()
                .next()
                .unwrap()
                .record
                .reason
                .clone()
        })
        .await;
    assert!(
        reason.contains("target was unreachable for 10 m")
            && reason.contains("retries.unreachable"),
        "{reason}"
    );
    // WHEN a person tries again and it is back THEN everything is loaded
    assert_eq!(bench.retry(run).await.unwrap(), 200);
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_breaks_its_connection_again_and_again_is_not_tried_for_ever() {
    // GIVEN a partition whose rows make the server crash, each time
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let began = Instant::now();
    // WHEN it is tried THEN it is dead in the end, and not before an outage would have passed
    let fails = |_: &Assignment| Some(away("target", ErrorCode::ConnectionLost));
    work_until(&bench, &mut worker, began + Duration::from_secs(60), fails).await;
    assert_eq!(bench.status(run).await, RunStatus::Running);
    work_until(
        &bench,
        &mut worker,
        began + Duration::from_secs(3000),
        fails,
    )
    .await;
    assert_eq!(bench.status(run).await, RunStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_reached_its_connections_lets_the_others_go() {
    // GIVEN an outage, and the one task that asks whether it is over, which takes an hour
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let assignment = worker.take_one().await;
    worker
        .complete(&assignment, away("source", ErrorCode::Unreachable))
        .await
        .unwrap();
    let asking = worker.take(16).await;
    assert_eq!(asking.len(), 1, "one task asks");
    assert!(
        worker.pull(15).await.unwrap().is_empty(),
        "the others wait for its answer"
    );
    // WHEN its heartbeat says that both sides have answered THEN the others go
    worker.beat_reached().await.unwrap();
    assert_eq!(worker.pull(15).await.unwrap().len(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_fence_waits_for_its_target_for_ever() {
    // GIVEN a cancelled run whose target is away
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    bench.cancel(run).await.unwrap();
    // WHEN that lasts for two hours
    let until = Instant::now() + Duration::from_secs(2 * 3600);
    let failures = work_until(&bench, &mut worker, until, |_| {
        Some(away("target", ErrorCode::Unreachable))
    })
    .await;
    // THEN it is asked all the time, and the run stays as it is
    assert!((2 * 60..2 * 60 * 5).contains(&failures), "{failures}");
    assert_eq!(bench.status(run).await, RunStatus::Cancelling);
    assert!(
        waits(&bench, run).await[0].starts_with("fence: target is unreachable since "),
        "{:?}",
        waits(&bench, run).await
    );
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
}
