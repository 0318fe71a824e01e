//! The end of a step: whether its target still holds what the store counts.

use highwater_common::assignment::{Assignment, AttemptError, ErrorClass, Outcome, Work};
use highwater_common::close::{ORDINALS_MAX, Ordinals, SETBACKS_MAX};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::RunId;
use highwater_common::record::StepRecord;
use highwater_common::status::{RunStatus, StepStatus};

use crate::fixtures::{Bench, FakeWorker, one_load, well};

const PARTITIONS: i64 = 5;

/// Does all of a run's tasks well, until its close is handed out. Gives it, and what else was done.
async fn until_close(worker: &mut FakeWorker) -> (Assignment, Vec<Assignment>) {
    let mut done = Vec::new();
    loop {
        let task = worker.take_one().await;
        if matches!(task.work, Work::Close { .. }) {
            return (task, done);
        }
        assert!(
            worker
                .complete(&task, well(&task, PARTITIONS))
                .await
                .unwrap()
        );
        done.push(task);
    }
}

/// All but these.
fn without(lost: &[u64]) -> Outcome {
    let mut ranges = Vec::new();
    let mut first = 0;
    for lost in lost {
        if *lost > first {
            ranges.push((first, lost - 1));
        }
        first = lost + 1;
    }
    ranges.push((first, ORDINALS_MAX - 1));
    Outcome::Closed(Ordinals::of_ranges(ranges))
}

async fn step(bench: &Bench, run: RunId) -> (StepRecord, u64, u64) {
    bench
        .look(move |leader| {
            let step = leader.cluster().runs[&run].steps.values().next().unwrap();
            (step.record.clone(), step.rows(), step.reached())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn done_without_a_receipt_is_opened_again() {
    for dies in [false, true] {
        // GIVEN a step all of whose tasks are done
        let mut bench = Bench::new(5);
        let mut worker = bench.worker("w1").await;
        let run = bench.submit(&one_load()).await;
        let (close, _) = until_close(&mut worker).await;
        let before = step(&bench, run).await;
        assert_eq!((before.1, before.0.tasks_lost), (5, 0));
        // WHEN its close finds two of them without a receipt
        assert!(worker.complete(&close, without(&[1, 3])).await.unwrap());
        // THEN they count no more, and the watermark goes back before them
        let (record, rows, reached) = step(&bench, run).await;
        assert_eq!((record.status, rows, reached), (StepStatus::Running, 3, 1));
        assert_eq!((record.tasks_lost, record.setbacks), (2, 1));
        let (held, loaded) = bench.views().await;
        assert_eq!(held, loaded);
        // AND whoever leads by then, the target is prepared again, and these two are done again
        if dies {
            bench.kill().await;
            worker = bench.worker("w2").await;
        }
        let (close, again) = until_close(&mut worker).await;
        let works: Vec<String> = again.iter().map(|task| task.work.to_string()).collect();
        assert_eq!(
            works.first().map(String::as_str),
            Some("prepare"),
            "{works:?}"
        );
        assert_eq!(
            again[1..]
                .iter()
                .map(|task| task.ordinal)
                .collect::<Vec<_>>(),
            [1, 3],
            "{works:?}"
        );
        // WHEN the close finds all, THEN the step is a success, of as many rows, and says what
        // happened
        assert!(worker.complete(&close, without(&[])).await.unwrap());
        let after = step(&bench, run).await;
        assert_eq!(
            (bench.status(run).await, after.1, after.2),
            (RunStatus::Success, before.1, before.2)
        );
        assert_eq!(after.0.tasks_lost, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_was_cut_off_is_done_once_more() {
    // GIVEN a close whose worker ends before it has answered
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    let (close, _) = until_close(&mut worker).await;
    bench.new_term().await;
    // WHEN it answers to another leader, and once more, THEN what it found counts once
    assert!(worker.complete(&close, without(&[0])).await.unwrap());
    assert!(!worker.complete(&close, without(&[0])).await.unwrap());
    assert_eq!(step(&bench, run).await.0.tasks_lost, 1);
    let (close, again) = until_close(&mut worker).await;
    assert_eq!(again.len(), 2, "{again:?}");
    assert!(worker.complete(&close, without(&[])).await.unwrap());
    assert_eq!(bench.status(run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_keeps_losing_fails_its_step() {
    // GIVEN a target that has lost the same task again at each close
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    for _ in 0..SETBACKS_MAX {
        let (close, _) = until_close(&mut worker).await;
        worker.complete(&close, without(&[2])).await.unwrap();
    }
    // WHEN it has once more, THEN the step fails, and says so
    let (close, _) = until_close(&mut worker).await;
    worker.complete(&close, without(&[2])).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    let (record, _, _) = step(&bench, run).await;
    assert!(
        record
            .reason
            .starts_with("close: the target has lost the commits of 1 task"),
        "{}",
        record.reason
    );
    let code = bench.look(move |leader| {
        let step = &leader.cluster().runs[&run].steps.values().next().unwrap();
        step.tables().find_map(|table| {
            table
                .dead
                .values()
                .next()
                .map(|dead| dead.record.error.code.clone())
        })
    });
    assert_eq!(code.await.as_deref(), Some("target_keeps_losing"));
}

/// A prepare's answer that names the target.
fn prepared_on(task: &Assignment, server: &str) -> Outcome {
    match well(task, PARTITIONS) {
        Outcome::Prepared {
            warnings, coverage, ..
        } => Outcome::Prepared {
            warnings,
            coverage,
            fingerprint: server.to_owned(),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_meet_another_target_have_it_prepared_again_once() {
    // GIVEN two tasks that were handed out
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let tasks = worker.take(2).await;
    let refused = || {
        Outcome::Unprepared(AttemptError::new(
            ErrorClass::Transient,
            ErrorCode::TargetChanged,
            "it is another one",
        ))
    };
    // WHEN one of them meets a target that is another one by now
    worker.complete(&tasks[0], refused()).await.unwrap();
    // THEN it is prepared again, and its claims are told of that one
    let prepare = worker.take_one().await;
    assert_eq!(prepare.work, Work::Prepare);
    worker
        .complete(&prepare, prepared_on(&prepare, "another"))
        .await
        .unwrap();
    let order = bench.look(move |leader| {
        let run = &leader.cluster().runs[&run];
        let name = run.steps.keys().next().unwrap();
        run.order(leader.cluster().id, name, 1)
            .unwrap()
            .load_order
            .unwrap()
            .target_fingerprint
    });
    assert_eq!(order.await, "another");
    // AND what the other task met before that is no reason to do so once more, nor a failure
    worker.complete(&tasks[1], refused()).await.unwrap();
    let (close, again) = until_close(&mut worker).await;
    assert!(
        again.iter().all(|task| task.work != Work::Prepare),
        "{again:?}"
    );
    assert!(
        again
            .iter()
            .any(|task| task.task == tasks[0].task && task.attempt.get() == 1),
        "no attempt is counted"
    );
    assert_ne!(tasks[0].order, close.order);
    worker.complete(&close, without(&[])).await.unwrap();
    assert_eq!(
        (bench.status(run).await, step(&bench, run).await.0.setbacks),
        (RunStatus::Success, 1)
    );
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}
