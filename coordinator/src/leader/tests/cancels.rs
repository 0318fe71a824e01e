//! A cancel is acknowledged once nothing of the run can commit any more.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Work};
use highwater_common::record::RunIntent;
use highwater_common::status::{RunStatus, StepStatus};

use crate::error::ServiceError;
use crate::fixtures::{Bench, one_load, permanent, pipeline, well};

#[tokio::test(start_paused = true)]
async fn after_the_wish_nothing_is_handed_out_but_fences() {
    // GIVEN a run under way, its one slot's worth of limit taken
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench
        .submit(&pipeline(
            "shop",
            "limits: {tasks: 1}",
            &[("a", "$load"), ("b", "$load")],
        ))
        .await;
    let partition = loop {
        let task = worker.take_one().await;
        if matches!(task.work, Work::Partition(_)) {
            break task;
        }
        worker.complete(&task, well(&task, 5)).await.unwrap();
    };
    // WHEN it is cancelled
    bench.cancel(run).await.unwrap();
    // THEN the attempt is told to end, and only fences come, whatever the limits
    assert_eq!(worker.beat().await.unwrap(), [partition.fence.nonce]);
    let first = worker.take_one().await;
    assert_eq!(
        (first.work, bench.status(run).await),
        (Work::Fence, RunStatus::Cancelling)
    );
    let second = worker.take_one().await;
    assert_eq!(second.work, Work::Fence);
    // THEN it is acknowledged after the last of them, not before
    worker.complete(&first, well(&first, 5)).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Cancelling);
    worker.complete(&second, well(&second, 5)).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Cancelled);
    let steps = bench
        .look(move |leader| {
            leader.cluster().runs[&run]
                .steps
                .values()
                .map(|step| step.record.status)
                .collect::<Vec<_>>()
        })
        .await;
    assert!(
        steps.iter().all(|status| *status == StepStatus::Cancelled),
        "{steps:?}"
    );
    assert!(matches!(
        bench.cancel(run).await,
        Err(ServiceError::RunEnded { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_fence_is_tried_for_ever() {
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    bench.cancel(run).await.unwrap();
    // WHEN it fails, permanently by name, more often than any task may, and its worker is lost now
    // and then
    for attempt in 1..=12 {
        let fence = worker.take_one().await;
        assert_eq!((fence.work, fence.attempt.get()), (Work::Fence, attempt));
        if attempt % 4 == 0 {
            tokio::time::sleep(Duration::from_secs(16)).await;
            worker = bench.worker(if attempt == 8 { "w2" } else { "w1" }).await;
        } else {
            worker.complete(&fence, permanent()).await.unwrap();
        }
        assert_eq!(bench.status(run).await, RunStatus::Cancelling);
    }
    // THEN it still comes, and ends the run when it succeeds
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_survives_its_coordinator() {
    let mut bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    // WHEN the coordinator dies with the wish just stored
    let held = bench.store.hold_next_that_changes("run/");
    drop(held); // the wish goes through, and what follows is cut off
    bench.cancel(run).await.unwrap();
    bench.kill().await;
    // THEN the next one fences the run
    let mut worker = bench.worker("w1").await;
    assert_eq!(worker.take_one().await.work, Work::Fence);
    let mut worker = bench.worker("w2").await;
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_remembers_a_cancel_brings_it_back() {
    // GIVEN a store that has forgotten a cancel which the target has not
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    // WHEN a claim is told so
    worker
        .complete(&task, Outcome::Superseded { by: None })
        .await
        .unwrap();
    // THEN the run is cancelled once more
    assert_eq!(
        bench
            .look(move |leader| leader.cluster().runs[&run].record.intent)
            .await,
        RunIntent::Cancel
    );
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_fenced_whatever_the_store_knows_of_its_progress() {
    // GIVEN a run of which the store knows only that it is being planned: it may be a backup's
    // store
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    // WHEN it is cancelled
    bench.cancel(run).await.unwrap();
    // THEN its target is fenced before the cancel is acknowledged
    assert_eq!(bench.status(run).await, RunStatus::Cancelling);
    let fence = worker.take_one().await;
    assert_eq!(fence.work, Work::Fence);
    worker.complete(&fence, well(&fence, 1)).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Cancelled);
    // AND so is one that has failed
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let error = AttemptError::received(ErrorClass::Permanent, "c".repeat(100_000), "no");
    worker
        .complete(&task, Outcome::Failed(error))
        .await
        .unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    bench.cancel(run).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Cancelling);
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
}
