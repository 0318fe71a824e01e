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

/// The partitions among them, ascending.
fn loads(tasks: &[Assignment]) -> Vec<u64> {
    let is_load = |task: &&Assignment| matches!(task.work, Work::Partition(_));
    let mut ordinals: Vec<u64> = tasks
        .iter()
        .filter(is_load)
        .map(|task| task.ordinal)
        .collect();
    ordinals.sort_unstable();
    ordinals
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
            let prepare = worker.take_one().await;
            worker.complete(&prepare, well(&prepare, 5)).await.unwrap();
            let compared = worker.take_one().await;
            assert!(matches!(compared.work, Work::Close { .. }), "{compared:?}");
            worker.complete(&compared, without(&[1, 3])).await.unwrap();
            assert_eq!(step(&bench, run).await.0.tasks_lost, 2);
            let (close, again) = until_close(&mut worker).await;
            let ordinals: Vec<u64> = again.iter().map(|task| task.ordinal).collect();
            assert_eq!(ordinals, [1, 3], "{again:?}");
            worker.complete(&close, without(&[])).await.unwrap();
            assert_eq!(bench.status(run).await, RunStatus::Success);
            continue;
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
    // WHEN it answers to another leader, who does not know since when it was under way, THEN the
    // target is asked anew
    assert!(worker.complete(&close, without(&[0])).await.unwrap());
    assert_eq!(step(&bench, run).await.0.tasks_lost, 0);
    let (close, again) = until_close(&mut worker).await;
    assert!(again.is_empty(), "{again:?}");
    // AND what that finds counts once, however often it is told
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

/// Takes the only task there is, which is a comparison.
async fn compared(worker: &mut FakeWorker) -> Assignment {
    let close = worker.take_one().await;
    assert!(matches!(close.work, Work::Close { .. }), "{close:?}");
    let others = worker.pull(4).await.unwrap();
    assert!(others.is_empty(), "handed out before it: {others:?}");
    close
}

#[tokio::test(start_paused = true)]
async fn what_the_target_has_lost_is_found_when_a_term_begins() {
    // GIVEN a step of which two tasks are done, and one is under way
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let tasks = worker.take(3).await;
    for task in &tasks[..2] {
        worker.complete(task, well(task, PARTITIONS)).await.unwrap();
    }
    // WHEN another term begins, THEN the target is asked before any other task is handed out
    bench.new_term().await;
    let close = compared(&mut worker).await;
    // WHEN the one that was under way is counted meanwhile, and the answer knows of it no more than
    // of one of the two
    let late = &tasks[2];
    worker.complete(late, well(late, PARTITIONS)).await.unwrap();
    let (gone, kept) = (tasks[0].ordinal, late.ordinal);
    worker
        .complete(&close, without(&[gone, kept]))
        .await
        .unwrap();
    // THEN that one of the two is opened again, and the one that the answer may be older than is not
    let (record, rows, _) = step(&bench, run).await;
    assert_eq!(
        (record.status, record.tasks_lost, record.setbacks, rows),
        (StepStatus::Running, 1, 1, 2)
    );
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
    // AND the target is prepared again, and the step goes on to its own close
    let (close, again) = until_close(&mut worker).await;
    assert_eq!(again[0].work, Work::Prepare, "{again:?}");
    assert_eq!(loads(&again), [0, 3, 4], "{again:?}");
    worker.complete(&close, without(&[])).await.unwrap();
    let (record, rows, _) = step(&bench, run).await;
    assert_eq!(
        (bench.status(run).await, record.tasks_lost, rows),
        (RunStatus::Success, 1, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_another_term_asked_for_is_made_once_more() {
    // GIVEN a comparison that was handed out, and a task that is under way
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let tasks = worker.take(2).await;
    worker
        .complete(&tasks[0], well(&tasks[0], PARTITIONS))
        .await
        .unwrap();
    bench.new_term().await;
    let close = compared(&mut worker).await;
    // WHEN the task is counted after the target was read, and then the next term begins
    worker
        .complete(&tasks[1], well(&tasks[1], PARTITIONS))
        .await
        .unwrap();
    bench.new_term().await;
    worker
        .complete(&close, without(&[tasks[1].ordinal]))
        .await
        .unwrap();
    // THEN the answer, which is older than that, opens nothing, and the target is asked again
    assert_eq!(step(&bench, run).await.0.tasks_lost, 0);
    let close = compared(&mut worker).await;
    worker.complete(&close, without(&[])).await.unwrap();
    let (close, again) = until_close(&mut worker).await;
    assert_eq!(loads(&again), [2, 3, 4], "{again:?}");
    worker.complete(&close, without(&[])).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_outlives_its_term_is_no_close_once_the_loads_are_over() {
    // GIVEN a comparison that was handed out, while another task is under way
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let tasks = worker.take(2).await;
    worker
        .complete(&tasks[0], well(&tasks[0], 2))
        .await
        .unwrap();
    bench.new_term().await;
    let close = compared(&mut worker).await;
    // WHEN that task is counted after the target was read, as the last one, and then the next term
    // begins
    worker
        .complete(&tasks[1], well(&tasks[1], 2))
        .await
        .unwrap();
    let count = worker.take_one().await;
    worker.complete(&count, well(&count, 2)).await.unwrap();
    bench.new_term().await;
    worker
        .complete(&close, without(&[tasks[1].ordinal]))
        .await
        .unwrap();
    // THEN the answer opens nothing, and the step's close is one that is asked now
    let (record, rows, _) = step(&bench, run).await;
    assert_eq!((record.tasks_lost, record.setbacks, rows), (0, 0, 2));
    let (close, again) = until_close(&mut worker).await;
    assert!(again.is_empty(), "{again:?}");
    worker.complete(&close, without(&[])).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_has_failed_is_left_as_it_is_by_a_comparison_that_comes_late() {
    // GIVEN a comparison that was handed out, while the other tasks are under way
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let tasks = worker.take(2).await;
    worker
        .complete(&tasks[0], well(&tasks[0], 2))
        .await
        .unwrap();
    bench.new_term().await;
    let close = compared(&mut worker).await;
    // WHEN the last of them is given up, although its rows are there, and the answer tells of them
    worker
        .complete(&tasks[1], crate::fixtures::permanent())
        .await
        .unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    worker.complete(&close, without(&[])).await.unwrap();
    // THEN the run says why it has failed, and a retry counts the task by its receipt
    let dead = bench.look(move |leader| {
        let steps = leader.cluster().runs[&run].steps.values();
        steps.map(|step| step.counts().dead).sum::<u64>()
    });
    assert_eq!(dead.await, 1);
    bench.retry(run).await.unwrap();
    let close = compared(&mut worker).await;
    worker.complete(&close, without(&[])).await.unwrap();
    let (close, again) = until_close(&mut worker).await;
    assert_eq!(loads(&again), [tasks[1].ordinal], "{again:?}");
    worker.complete(&close, without(&[])).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_term_that_finds_nothing_counted_asks_nothing() {
    // GIVEN a step of which no task is done, and a pipeline that moves no rows
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let noop = crate::fixtures::pipeline(
        "bench",
        "",
        &[("n", "    strategy: {type: noop, tasks: 8, hold: 1ms}")],
    );
    bench.submit(&noop).await;
    let first = worker.take(8).await;
    for task in &first {
        if matches!(task.work, Work::Noop(_)) {
            worker.complete(task, Outcome::Done).await.unwrap();
        }
    }
    // WHEN another term begins, THEN their tasks go on, and no target is asked
    bench.new_term().await;
    for task in &first {
        if !matches!(task.work, Work::Noop(_)) {
            worker.complete(task, Outcome::Released).await.unwrap();
        }
    }
    let rest = worker.take(5).await;
    assert!(
        rest.iter()
            .all(|task| !matches!(task.work, Work::Close { .. })),
        "{rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_changed_is_compared_once_it_is_prepared_again() {
    // GIVEN a step of which two tasks are done
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let tasks = worker.take(3).await;
    for task in &tasks[..2] {
        worker.complete(task, well(task, PARTITIONS)).await.unwrap();
    }
    // WHEN a third one meets a target that is another one by now
    let changed = AttemptError::new(
        ErrorClass::Transient,
        ErrorCode::TargetChanged,
        "it is another one",
    );
    worker
        .complete(&tasks[2], Outcome::Unprepared(changed))
        .await
        .unwrap();
    // THEN it is prepared again, and asked what it holds before anything is loaded
    let prepare = worker.take_one().await;
    assert_eq!(prepare.work, Work::Prepare);
    worker
        .complete(&prepare, prepared_on(&prepare, "another"))
        .await
        .unwrap();
    let close = compared(&mut worker).await;
    worker
        .complete(&close, without(&[tasks[0].ordinal]))
        .await
        .unwrap();
    assert_eq!(step(&bench, run).await.0.tasks_lost, 1);
    let (close, again) = until_close(&mut worker).await;
    assert_eq!(again[0].work, Work::Prepare, "{again:?}");
    assert_eq!(loads(&again), [0, 2, 3, 4], "{again:?}");
    worker.complete(&close, without(&[])).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_given_up_after_its_commit_is_counted_by_its_receipt() {
    // GIVEN a step that tolerates a dead task, and one that died, although its rows are there
    let bench = Bench::new(PARTITIONS);
    let mut worker = bench.worker("w1").await;
    let tolerant =
        crate::fixtures::pipeline("shop", "", &[("orders", "$load    tolerate: {dead: 1}")]);
    let run = bench.submit(&tolerant).await;
    let died = loop {
        let task = worker.take_one().await;
        let is_load = matches!(task.work, Work::Partition(_));
        let outcome = if is_load {
            crate::fixtures::permanent()
        } else {
            well(&task, PARTITIONS)
        };
        worker.complete(&task, outcome).await.unwrap();
        if is_load {
            break task;
        }
    };
    // WHEN the close tells of its receipt
    let (close, _) = until_close(&mut worker).await;
    assert_eq!(step(&bench, run).await.1, 4);
    worker.complete(&close, without(&[])).await.unwrap();
    // THEN it is handed out once more, and what its claim met is counted
    let (close, again) = until_close(&mut worker).await;
    let tasks: Vec<_> = again.iter().map(|task| task.task).collect();
    assert_eq!(tasks, [died.task], "{again:?}");
    worker.complete(&close, without(&[])).await.unwrap();
    let (record, rows, reached) = step(&bench, run).await;
    assert_eq!(
        (bench.status(run).await, rows, reached, record.tasks_lost),
        (RunStatus::Success, 5, 5, 0)
    );
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}
