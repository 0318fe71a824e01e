//! A step begins once its stream is its own, and an older run never comes back.

use highwater_common::assignment::{Assignment, Outcome, Work};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::Cursor;
use highwater_common::id::RunId;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::stream::REPLANS_MAX;

use crate::error::ServiceError;
use crate::fixtures::{Bench, FakeWorker, facts, one_load, permanent, pipeline, prepared, well};

/// The positions below `end`.
fn below(end: i64) -> CursorRange {
    CursorRange::new(None, Some(Cursor::Integer(end))).unwrap()
}

/// The answer of a probe that finds the positions below `end` committed.
fn probed(partitions: i64, end: i64) -> Outcome {
    let mut found = facts(partitions);
    found.target.covered = vec![below(end)];
    Outcome::Probed(serde_json::to_vec(&found).unwrap())
}

async fn step(bench: &Bench, run: RunId) -> (StepStatus, u32, u64, String) {
    bench
        .look(move |leader| {
            let step = leader.cluster().runs[&run].steps.values().next().unwrap();
            (
                step.record.status,
                step.generation,
                step.counts().planned(),
                step.record.reason.clone(),
            )
        })
        .await
}

/// Takes partitions and does them well until none is left; gives their slices.
async fn partitions(worker: &mut FakeWorker, first: Assignment) -> Vec<Slice> {
    let mut slices = Vec::new();
    let mut tasks = vec![first];
    while !tasks.is_empty() {
        for task in tasks {
            match task.work {
                Work::Partition(slice) => slices.push(slice),
                Work::Count(_) | Work::Close { .. } => {}
                _ => panic!("{task:?}"),
            }
            worker.complete(&task, well(&task, 5)).await.unwrap();
        }
        tasks = worker.pull(16).await.unwrap();
    }
    slices
}

#[tokio::test(start_paused = true)]
async fn coverage_that_changed_between_plan_and_fence_is_planned_again() {
    for dies_after in [None, Some("probe"), Some("plan")] {
        // GIVEN a run of five partitions, planned when nothing was committed
        let mut bench = Bench::new(5);
        let mut worker = bench.worker("w1").await;
        let run = bench.submit(&one_load()).await;
        let probe = worker.take_one().await;
        worker.complete(&probe, well(&probe, 5)).await.unwrap();
        // WHEN its prepare finds that two of them were committed meanwhile
        let prepare = worker.take_one().await;
        assert_eq!(prepare.work, Work::Prepare);
        let committed = Coverage::of(&[below(2)], false);
        worker
            .complete(&prepare, prepared(&committed))
            .await
            .unwrap();
        // THEN the step is probed again, whoever leads by then, and planned again under the next
        // generation
        if dies_after == Some("probe") {
            bench.kill().await;
            worker = bench.worker("w2").await;
        }
        let again = worker.take_one().await;
        assert_eq!((again.work, again.task), (Work::Probe, probe.task));
        worker.complete(&again, probed(5, 2)).await.unwrap();
        if dies_after == Some("plan") {
            bench.kill().await;
            worker = bench.worker("w3").await;
        }
        let prepare_again = worker.take_one().await;
        assert_eq!(prepare_again.work, Work::Prepare);
        assert_ne!(prepare_again.task, prepare.task);
        assert_eq!(
            step(&bench, run).await,
            (StepStatus::Running, 2, 3, String::new())
        );
        let (held, stored) = bench.views().await;
        assert_eq!(held, stored);
        // AND once the coverage is the plan's, exactly the others are loaded
        worker
            .complete(&prepare_again, prepared(&committed))
            .await
            .unwrap();
        let first = worker.take_one().await;
        let slices = partitions(&mut worker, first).await;
        assert_eq!(slices.len(), 3, "{slices:?}");
        assert!(
            slices.iter().all(|slice| !committed.meets(slice)),
            "{slices:?}"
        );
        assert_eq!(bench.status(run).await, RunStatus::Success);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_put_back_to_a_planning_keeps_what_the_plan_is_made_from() {
    // GIVEN a backup of the store from between a run's probe and its plan
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    let probe = worker.take_one().await;
    let mut plan = bench.store.hold_next_that_changes("plan/");
    let told = worker.complete(&probe, well(&probe, 5));
    let (told, backup) = tokio::join!(told, async {
        plan.arrived().await;
        let backup = bench.memory.backup();
        plan.release();
        backup
    });
    told.unwrap();
    let prepare = worker.take_one().await;
    // WHEN the store is put back to it, and the leader that does not know brings the step back to
    // its probe
    bench.memory.restore(backup);
    let told = worker
        .complete(&prepare, prepared(&Coverage::of(&[below(2)], false)))
        .await;
    assert!(
        told.is_err(),
        "what the leader knows is not what the store holds: {told:?}"
    );
    // THEN the run is planned from what was found out before, and ends
    let mut next = bench.worker("w2").await;
    assert_eq!(bench.finish(&mut next, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn coverage_that_never_settles_fails_the_step_and_says_why() {
    // GIVEN a target whose ledger changes again and again
    let bench = Bench::new(9);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    for round in 0..=REPLANS_MAX {
        let probe = worker.take_one().await;
        assert_eq!(probe.work, Work::Probe);
        worker
            .complete(&probe, probed(9, i64::from(round) + 1))
            .await
            .unwrap();
        let prepare = worker.take_one().await;
        assert_eq!(prepare.work, Work::Prepare);
        let found = Coverage::of(&[below(i64::from(round) + 2)], false);
        worker.complete(&prepare, prepared(&found)).await.unwrap();
    }
    // THEN the step is not planned for ever
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    let (status, _, _, reason) = step(&bench, run).await;
    assert_eq!(status, StepStatus::Failed);
    assert!(reason.contains("planned 4 times"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_cannot_be_planned_again_fails_alone() {
    // GIVEN two steps, of which one is to be planned again
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench
        .submit(&pipeline("shop", "", &[("a", "$load"), ("b", "$load")]))
        .await;
    let (mut is_sent_back, mut has_failed) = (false, false);
    while !has_failed {
        let task = worker.take_one().await;
        let outcome = match task.work {
            Work::Prepare if !is_sent_back => {
                is_sent_back = true;
                prepared(&Coverage::of(&[below(1)], false))
            }
            Work::Probe if is_sent_back => {
                has_failed = true;
                permanent()
            }
            _ => well(&task, 1),
        };
        worker.complete(&task, outcome).await.unwrap();
    }
    // WHEN its second probe fails
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Failed);
    // THEN the other one has ended well
    let steps = bench
        .look(move |leader| {
            let steps = &leader.cluster().runs[&run].steps;
            steps
                .values()
                .map(|step| step.record.status)
                .collect::<Vec<_>>()
        })
        .await;
    assert!(
        steps.contains(&StepStatus::Success) && steps.contains(&StepStatus::Failed),
        "{steps:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_older_run_is_never_tried_again() {
    // GIVEN a run that failed
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let older = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    worker.complete(&task, permanent()).await.unwrap();
    assert_eq!(bench.status(older).await, RunStatus::Failed);
    // WHEN a later one was refused before it had a plan, THEN it can still be tried again: that one
    // has touched nothing
    let refused = bench.submit(&one_load()).await;
    let probe = worker.take_one().await;
    worker.complete(&probe, permanent()).await.unwrap();
    assert_eq!(bench.status(refused).await, RunStatus::Failed);
    assert_eq!(bench.retry(older).await.unwrap(), 1);
    let task = worker.take_one().await;
    worker.complete(&task, permanent()).await.unwrap();
    // WHEN a later one has begun, and ended
    let newer = bench.submit(&one_load()).await;
    assert_eq!(bench.finish(&mut worker, newer).await, RunStatus::Success);
    // THEN it never is, and the answer names the later one
    let short = bench.look(move |leader| leader.short_of(&newer)).await;
    match bench.retry(older).await {
        Err(error @ ServiceError::RunSuperseded { .. }) => {
            assert!(error.to_string().contains(&short), "{error}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.status(older).await, RunStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_stream_was_taken_ends_and_names_who_took_it() {
    // GIVEN a run that the store wants, and a target in which a run that the store does not know
    // has taken the stream
    let bench = Bench::new(3);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let by = Some(RunId::from_bytes([0xab; 16]));
    // WHEN a claim is told so
    let task = worker.take_one().await;
    worker
        .complete(&task, Outcome::Superseded { by })
        .await
        .unwrap();
    // THEN the run ends, its targets fenced, and says by whom
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
    let reason = bench
        .look(move |leader| leader.cluster().runs[&run].record.reason.clone())
        .await;
    assert!(
        reason.contains("superseded") && reason.contains("r-aba"),
        "{reason}"
    );
    // AND the next run of the pipeline begins
    let next = bench.submit(&one_load()).await;
    assert_ne!(next, run);
    assert_eq!(bench.finish(&mut worker, next).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_run_cancelled_in_its_planning_holds_nobody_back() {
    // GIVEN a run that was cancelled before it had a plan, whose target cannot be fenced
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let stuck = bench.submit(&one_load()).await;
    bench.cancel(stuck).await.unwrap();
    let fence = worker.take_one().await;
    assert_eq!(fence.work, Work::Fence);
    // WHEN the pipeline is run again
    let next = bench.submit(&one_load()).await;
    assert_ne!(next, stuck);
    // THEN it does not wait: its own prepare fences what may be left of the other
    let mut task = worker.take_one().await;
    while task.work != Work::Probe {
        worker.complete(&task, permanent()).await.unwrap();
        task = worker.take_one().await;
    }
    worker.complete(&task, well(&task, 1)).await.unwrap();
    assert_eq!(bench.status(stuck).await, RunStatus::Cancelling);
    worker.complete(&fence, well(&fence, 1)).await.unwrap();
    assert_eq!(bench.finish(&mut worker, next).await, RunStatus::Success);
    assert_eq!(bench.status(stuck).await, RunStatus::Cancelled);
}
