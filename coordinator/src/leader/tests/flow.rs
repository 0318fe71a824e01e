//! How a run goes when nothing is wrong, and when its plan or its tasks are.

use std::time::Duration;

use highwater_common::assignment::{Outcome, Work};
use highwater_common::status::{RunStatus, StepStatus};

use crate::error::ServiceError;
use crate::fixtures::{Bench, one_load, permanent, pipeline, submission, transient, well, word};
use crate::leader::Request;

#[tokio::test(start_paused = true)]
async fn a_run_goes_from_submit_to_success() {
    // GIVEN two steps, the second of which waits for the first
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline(
        "shop",
        "",
        &[("a", "$load"), ("b", "$load    depends_on: [a]")],
    );
    // WHEN a worker does everything well
    let run = bench.submit(&spec).await;
    let status = bench.finish(&mut worker, run).await;
    // THEN every partition is counted once, and nothing is left open
    assert_eq!(status, RunStatus::Success);
    let counted = bench
        .look(move |leader| {
            let run = &leader.cluster().runs[&run];
            let rows: u64 = run.steps.values().map(|step| step.rows()).sum();
            let done: u64 = run.steps.values().map(|step| step.counts().done).sum();
            (
                rows,
                done,
                leader.cluster().leases.len(),
                run.record.committed,
            )
        })
        .await;
    assert_eq!(counted, (10, 10, 0, true));
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}

#[tokio::test(start_paused = true)]
async fn plan_problems_end_the_run_with_all_of_them_in_the_reason() {
    // GIVEN two steps whose probes find no column to read
    let bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench
        .submit(&pipeline("shop", "", &[("a", "$load"), ("b", "$load")]))
        .await;
    for _ in 0..2 {
        let probe = worker.take_one().await;
        let mut facts = crate::fixtures::facts(5);
        facts.source.columns.clear();
        worker
            .complete(&probe, Outcome::Probed(serde_json::to_vec(&facts).unwrap()))
            .await
            .unwrap();
    }
    // WHEN the plan is made
    let (status, reason) = bench
        .look(move |leader| {
            let record = &leader.cluster().runs[&run].record;
            (record.status, record.reason.clone())
        })
        .await;
    // THEN the run has failed, and its reason names both steps; it cannot be retried, since it has
    // no plan
    assert_eq!(status, RunStatus::Failed);
    assert!(
        reason.contains("steps.a") || reason.contains("a:") || reason.contains("a "),
        "{reason}"
    );
    assert!(reason.matches("no column to read").count() == 2, "{reason}");
    assert!(matches!(
        bench.retry(run).await,
        Err(ServiceError::NeverPlanned { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn retry_revives_only_dead_tasks() {
    // GIVEN a run of three partitions, one of which died, and a step that was skipped after it
    let bench = Bench::new(3);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline(
        "shop",
        "",
        &[("a", "$load"), ("b", "$load    depends_on: [a]")],
    );
    let run = bench.submit(&spec).await;
    let mut died = 0;
    while !bench.status(run).await.has_ended() {
        for assignment in worker.pull(4).await.unwrap() {
            let dies = died == 0 && matches!(assignment.work, Work::Partition(_));
            died += u32::from(dies);
            let outcome = if dies {
                permanent()
            } else {
                well(&assignment, 3)
            };
            worker.complete(&assignment, outcome).await.unwrap();
        }
    }
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    // WHEN it is retried
    assert_eq!(bench.retry(run).await.unwrap(), 1);
    // THEN one task is pending again, its siblings stay done, and the run succeeds
    let (pending, done, skipped) = bench
        .look(move |leader| {
            let steps = &leader.cluster().runs[&run].steps;
            let a = steps[&"a".parse().unwrap()].counts();
            (
                a.pending,
                a.done,
                steps[&"b".parse().unwrap()].record.status,
            )
        })
        .await;
    assert_eq!((pending, done, skipped), (1, 2, StepStatus::Pending));
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    assert!(matches!(
        bench.retry(run).await,
        Err(ServiceError::RunEnded { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_crash_interrupts_can_be_asked_again() {
    // GIVEN a failed run, and a coordinator that dies at each transaction of its retry in turn
    for commits in 0..4 {
        let mut bench = Bench::new(1);
        let mut worker = bench.worker("w1").await;
        let run = bench.prepared(&mut worker).await;
        let partition = worker.take_one().await;
        worker.complete(&partition, permanent()).await.unwrap();
        assert_eq!(bench.status(run).await, RunStatus::Failed);
        for _ in 0..commits {
            bench
                .store
                .next(crate::store::faulty::Fault::Slow(Duration::from_millis(1)));
        }
        let mut held = bench.store.hold_next_that_changes("");
        let handle = bench.handle().clone();
        let asked = tokio::spawn(async move {
            handle
                .ask(|reply| Request::Retry {
                    run,
                    selections: Vec::new(),
                    verdict: None,
                    word: word(""),
                    reply,
                })
                .await
        });
        held.arrived().await;
        bench.kill().await;
        held.release();
        assert!(matches!(
            asked.await.unwrap(),
            Err(ServiceError::BetweenTerms)
        ));
        // WHEN a new leader is asked again, unless the first retry went through
        let mut worker = bench.worker("w2").await;
        let status = bench.status(run).await;
        if status == RunStatus::Failed {
            assert_eq!(bench.retry(run).await.unwrap(), 1, "after {commits}");
        }
        // THEN the run succeeds
        assert_eq!(
            bench.finish(&mut worker, run).await,
            RunStatus::Success,
            "after {commits}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_run_of_a_pipeline_is_under_way_at_a_time() {
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    // WHEN the same is submitted, THEN it attaches
    let same = submission(&one_load(), false, false);
    let again = bench
        .handle()
        .ask(|reply| Request::Submit {
            submission: same,
            reply,
        })
        .await
        .unwrap();
    assert_eq!(again, (run, true));
    // WHEN another version is submitted, THEN it is refused
    let other = pipeline("shop", "", &[("orders", "$load    tolerate: {dead: 1}")]);
    let changed = submission(&other, false, false);
    let refused = bench
        .handle()
        .ask(|reply| Request::Submit {
            submission: changed,
            reply,
        })
        .await;
    assert!(matches!(refused, Err(ServiceError::SpecChanged { .. })));
    // WHEN a plan is asked for, THEN it waits for nobody
    let plan = submission(&other, true, false);
    let (plan, _) = bench
        .handle()
        .ask(|reply| Request::Submit {
            submission: plan,
            reply,
        })
        .await
        .unwrap();
    let mut other_worker = bench.worker("w2").await;
    while bench.status(plan).await != RunStatus::Planned {
        for assignment in other_worker.pull(8).await.unwrap() {
            let outcome = well(&assignment, 2);
            other_worker.complete(&assignment, outcome).await.unwrap();
        }
    }
    // WHEN it is to replace the old one, THEN it begins after the old one is fenced
    let fresh = submission(&other, false, true);
    let (fresh, _) = bench
        .handle()
        .ask(|reply| Request::Submit {
            submission: fresh,
            reply,
        })
        .await
        .unwrap();
    if !bench.status(run).await.has_ended() {
        assert_eq!(bench.status(run).await, RunStatus::Cancelling);
        assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
    }
    assert_eq!(bench.finish(&mut worker, fresh).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_due_does_not_keep_the_leader_awake() {
    // GIVEN a task whose next attempt is due, and nobody who asks for work
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let partition = worker.take_one().await;
    worker.complete(&partition, transient()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // WHEN some seconds pass
    let version = bench.handle().version();
    let before = *version.borrow();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // THEN the leader took no turn, and the task still goes to who asks next
    assert_eq!(*version.borrow(), before);
    worker.beat().await.unwrap();
    assert_eq!(worker.take_one().await.attempt.get(), 2);
    let waits = bench
        .look(move |leader| {
            leader.cluster().runs[&run].steps[&"orders".parse().unwrap()]
                .counts()
                .open
        })
        .await;
    assert_eq!(waits, 1);
}

#[tokio::test(start_paused = true)]
async fn old_runs_are_forgotten_with_all_their_records() {
    // GIVEN more runs than are kept
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    for _ in 0..25 {
        let run = bench.submit(&one_load()).await;
        assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    }
    // THEN the oldest are gone from the view and from the store, and a new leader agrees
    use crate::store::RecordStore;
    let records = bench.store.scan("").await.unwrap();
    let count = |prefix: &str| {
        records
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .count()
    };
    assert_eq!(
        (
            count("run/"),
            count("pipeline/"),
            count("facts/"),
            count("plan/")
        ),
        (20, 1, 40, 20)
    );
    assert_eq!(
        count("seg/"),
        100,
        "one of the probe, and one of each phase of the plan"
    );
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}

#[tokio::test(start_paused = true)]
async fn records_of_a_run_that_was_half_forgotten_go_with_the_next_term() {
    use crate::store::{Op, RecordStore, StoreTxn};
    // GIVEN a run whose own record is gone, and nothing else of it
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    bench.finish(&mut worker, run).await;
    let ops = vec![Op::Delete(format!("run/{run}"))];
    bench
        .store
        .commit(StoreTxn {
            expects: Vec::new(),
            ops,
        })
        .await
        .unwrap();
    // WHEN a new term begins
    bench.new_term().await;
    // THEN nothing is left of it but that somebody began it
    let left = bench
        .store
        .scan("")
        .await
        .unwrap()
        .into_iter()
        .map(|(key, _)| key)
        .collect::<Vec<_>>();
    let begun = "audit/00000000000000000001";
    assert_eq!(left, [begun, "fmt", "hi", "leader", "worker/w1"]);
}
