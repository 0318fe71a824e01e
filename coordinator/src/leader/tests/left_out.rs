//! The count of the rows that no partition takes, at the end of a step.

use highwater_common::assignment::{Outcome, Work};
use highwater_common::id::RunId;
use highwater_common::left_out::{LeftOut, Tally};
use highwater_common::status::{RunStatus, StepStatus};

use crate::fixtures::{Bench, FakeWorker, one_load, permanent, pipeline, transient, well};

/// Does all of a run's tasks well, until its count is handed out.
async fn until_count(worker: &mut FakeWorker) -> highwater_common::assignment::Assignment {
    loop {
        let task = worker.take_one().await;
        if matches!(task.work, Work::Count(_)) {
            return task;
        }
        worker.complete(&task, well(&task, 2)).await.unwrap();
    }
}

/// The count has ended well: the close follows, and finds all there.
async fn close(worker: &mut FakeWorker) {
    let close = worker.take_one().await;
    assert!(matches!(close.work, Work::Close { .. }), "{close:?}");
    assert!(worker.complete(&close, well(&close, 2)).await.unwrap());
}

async fn step(bench: &Bench, run: RunId) -> (StepStatus, String, Vec<String>) {
    bench
        .look(move |leader| {
            let record = leader.cluster().runs[&run]
                .steps
                .values()
                .next()
                .unwrap()
                .record
                .clone();
            (record.status, record.reason, record.not_loaded)
        })
        .await
}

fn nulls(rows: u64) -> Outcome {
    Outcome::Counted(LeftOut {
        null: Tally::Exactly(rows),
        ..LeftOut::NONE
    })
}

#[tokio::test(start_paused = true)]
async fn a_step_with_rows_in_no_partition_fails_and_is_counted_again_when_it_is_tried_again() {
    // GIVEN a step all of whose partitions are done
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    let count = until_count(&mut worker).await;
    assert_eq!(
        (bench.status(run).await, step(&bench, run).await.0),
        (RunStatus::Running, StepStatus::Running)
    );
    // WHEN its count finds rows that no partition takes
    assert!(worker.complete(&count, nulls(3)).await.unwrap());
    // THEN it is no success, and says how many there are
    let (status, reason, _) = step(&bench, run).await;
    assert_eq!(
        (bench.status(run).await, status),
        (RunStatus::Failed, StepStatus::Failed)
    );
    assert!(reason.contains("3 rows without id"), "{reason}");
    let code = bench.look(move |leader| {
        let step = leader.cluster().runs[&run]
            .steps
            .values()
            .next()
            .unwrap()
            .clone();
        let dead = step.tables().flat_map(|table| table.dead.values());
        dead.map(|dead| dead.record.error.code.clone())
            .collect::<Vec<_>>()
    });
    assert_eq!(code.await, ["rows_in_no_partition"]);
    // WHEN it is tried again, by another leader, after they are gone, THEN only the count is done
    // again
    bench.new_term().await;
    assert_eq!(bench.retry(run).await.unwrap(), 1);
    let count = worker.take_one().await;
    assert!(matches!(count.work, Work::Count(_)), "{count:?}");
    assert!(
        worker
            .complete(&count, Outcome::Counted(LeftOut::NONE))
            .await
            .unwrap()
    );
    close(&mut worker).await;
    assert_eq!(bench.status(run).await, RunStatus::Success);
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}

#[tokio::test(start_paused = true)]
async fn what_a_step_left_out_is_kept_with_it() {
    // GIVEN a step of which only some rows are meant
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let load = "    strategy: {type: backfill, start: 0, end: 2}\n    from: {connection: source, \
                table: a}\n    to: {connection: target, table: a}\n    partition: {by: integer, \
                column: id, width: 1}\n    write: {mode: append}\n";
    let spec = pipeline("shop", "", &[("a", load)]);
    let run = bench.submit(&spec).await;
    let count = until_count(&mut worker).await;
    // WHEN others are counted THEN the step is a success and says so, in the next term, too
    let found = LeftOut {
        before: Tally::Exactly(12),
        behind: Tally::Unknown,
        ..LeftOut::NONE
    };
    assert!(
        worker
            .complete(&count, Outcome::Counted(found))
            .await
            .unwrap()
    );
    bench.new_term().await;
    close(&mut worker).await;
    let (status, _, told) = step(&bench, run).await;
    assert_eq!(
        (bench.status(run).await, status),
        (RunStatus::Success, StepStatus::Success)
    );
    assert_eq!(
        told,
        [
            "12 rows of a whose id lies before 0",
            "rows of a whose id lies at or behind 2, which were not counted"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_count_never_ends_well_is_no_success() {
    // GIVEN a count that fails again and again
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    let mut count = until_count(&mut worker).await;
    for attempt in 1..=5 {
        assert_eq!(count.attempt.get(), attempt);
        worker.complete(&count, transient()).await.unwrap();
        if attempt < 5 {
            count = worker.take_one().await;
        }
    }
    // THEN the step says that nobody knows what it left out
    let (status, reason, _) = step(&bench, run).await;
    assert_eq!(
        (bench.status(run).await, status),
        (RunStatus::Failed, StepStatus::Failed)
    );
    assert!(reason.starts_with("count: "), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_failed_is_not_counted_before_its_dead_tasks_are_done() {
    // GIVEN a step of which a partition died
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    worker.complete(&task, permanent()).await.unwrap();
    let task = worker.take_one().await;
    worker.complete(&task, well(&task, 2)).await.unwrap();
    // THEN it has failed without a count
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    // WHEN it is tried again THEN the partition comes first, and the count last
    assert_eq!(bench.retry(run).await.unwrap(), 1);
    let task = worker.take_one().await;
    assert!(matches!(task.work, Work::Partition(_)), "{task:?}");
    worker.complete(&task, well(&task, 2)).await.unwrap();
    let count = worker.take_one().await;
    assert!(matches!(count.work, Work::Count(_)), "{count:?}");
    // AND a cancel ends it
    bench.cancel(run).await.unwrap();
    let fence = worker.take_one().await;
    assert_eq!(fence.work, Work::Fence);
}
