//! What the checks of a step came to: it decides, and is kept.

use highwater_common::assignment::{Assignment, Checked, Outcome, Receipt, Work};
use highwater_common::check::CheckAnswer;
use highwater_common::id::RunId;
use highwater_common::spec::Spec;
use highwater_common::status::RunStatus;

use crate::fixtures::{Bench, FakeWorker, pipeline, well};

const REFRESH: &str = "    strategy: full_refresh\n    from: {connection: source, table: a}\n    to: \
                       {connection: target, table: a}\n    checks: [{min_rows: 1}, {min_rows: 30}]\n";

fn refresh() -> Spec {
    pipeline("shop", "", &[("a", REFRESH)])
}

/// Does all of a run's tasks well, until this one is handed out.
async fn until(worker: &mut FakeWorker, work: Work) -> Assignment {
    loop {
        let task = worker.take_one().await;
        if task.work == work {
            return task;
        }
        worker.complete(&task, well(&task, 2)).await.unwrap();
    }
}

/// The answers of a table of so many rows.
fn answered(rows: u64, committed: Option<Receipt>) -> Outcome {
    let answer = |least: u64| CheckAnswer {
        passed: rows >= least,
        found: format!("{rows} rows"),
    };
    Outcome::Checked(Checked {
        table: "a on target".to_owned(),
        answers: vec![answer(1), answer(30)],
        committed,
    })
}

/// What is told of the run's checks: passed or not, and what was found.
async fn told(bench: &Bench, run: RunId) -> Vec<(bool, String)> {
    let document = bench.look(move |leader| {
        let run = &leader.cluster().runs[&run];
        crate::engine::run_document(leader.cluster(), run, String::new(), leader.now().1)
    });
    let checks = document.await.steps.remove(0).checks;
    checks
        .into_iter()
        .map(|check| (check.passed, check.found))
        .collect()
}

fn told_of(rows: u64) -> Vec<(bool, String)> {
    vec![
        (rows >= 1, format!("{rows} rows")),
        (rows >= 30, format!("{rows} rows")),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_check_fails_is_no_success_and_says_what_was_found() {
    // GIVEN a table that is to be published
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&refresh()).await;
    let publish = until(&mut worker, Work::Publish).await;
    // WHEN a check of it fails
    let failed = worker.complete(&publish, answered(12, None)).await;
    assert!(failed.unwrap());
    // THEN it is not tried again, and the step's end says which check and why
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    let (reason, dead) = bench
        .look(move |leader| {
            let step = leader.cluster().runs[&run].steps.values().next().unwrap();
            let dead = step.tables().flat_map(|table| table.dead.values());
            let codes: Vec<String> = dead.map(|dead| dead.record.error.code.clone()).collect();
            (step.record.reason.clone(), codes)
        })
        .await;
    assert_eq!(dead, ["check_failed"]);
    let why = "1 of 2 checks of a on target failed: `min_rows: 30` expects at least 30 rows, found \
               12 rows. Nothing was kept";
    assert!(reason.contains(why), "{reason}");
    // AND every answer is kept, by the next leader, too
    assert_eq!(told(&bench, run).await, told_of(12));
    bench.new_term().await;
    assert_eq!(told(&bench, run).await, told_of(12));
    // AND a retry that passes says so instead
    assert_eq!(bench.retry(run).await.unwrap(), 1);
    let publish = until(&mut worker, Work::Publish).await;
    let receipt = Receipt { rows: 30, bytes: 8 };
    let passed = worker.complete(&publish, answered(30, Some(receipt))).await;
    assert!(passed.unwrap());
    let close = worker.take_one().await;
    worker.complete(&close, well(&close, 2)).await.unwrap();
    assert_eq!(bench.status(run).await, RunStatus::Success);
    assert_eq!(told(&bench, run).await, told_of(30));
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}

#[tokio::test(start_paused = true)]
async fn a_commit_proves_that_its_checks_passed() {
    // GIVEN a publish whose check failed once, and that is tried again
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&refresh()).await;
    let publish = until(&mut worker, Work::Publish).await;
    worker.complete(&publish, answered(0, None)).await.unwrap();
    assert_eq!(told(&bench, run).await, told_of(0));
    bench.retry(run).await.unwrap();
    // WHEN only its receipt is found, because the attempt that checked and committed died
    let publish = until(&mut worker, Work::Publish).await;
    let found = Outcome::Committed(Receipt { rows: 30, bytes: 8 });
    assert!(worker.complete(&publish, found).await.unwrap());
    // THEN all of them are told to have passed, without what they found
    let proven = vec![(true, String::new()); 2];
    assert_eq!(told(&bench, run).await, proven);
}

#[tokio::test(start_paused = true)]
async fn answers_to_other_checks_prove_nothing() {
    let receipt = Receipt { rows: 30, bytes: 8 };
    let one_less = |mut outcome: Outcome| {
        if let Outcome::Checked(checked) = &mut outcome {
            checked.answers.pop();
        }
        outcome
    };
    for odd in [
        one_less(answered(30, Some(receipt))),
        one_less(answered(0, None)),
        answered(30, None),
        answered(12, Some(receipt)),
    ] {
        let bench = Bench::new(2);
        let mut worker = bench.worker("w1").await;
        let run = bench.submit(&refresh()).await;
        let publish = until(&mut worker, Work::Publish).await;
        worker.complete(&publish, odd).await.unwrap();
        assert_eq!(bench.status(run).await, RunStatus::Failed);
        assert_eq!(told(&bench, run).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_is_checked_once_it_is_loaded_and_again_when_it_is_tried_again() {
    // GIVEN a backfill whose partitions are done, and whose target holds them
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline(
        "shop",
        "",
        &[("a", "$load    checks: [{min_rows: 1}, {min_rows: 30}]")],
    );
    let run = bench.submit(&spec).await;
    let check = until(&mut worker, Work::Check).await;
    assert_eq!(bench.status(run).await, RunStatus::Running);
    // WHEN its check fails THEN the step is no success, and says what became of its rows
    assert!(worker.complete(&check, answered(12, None)).await.unwrap());
    assert_eq!(bench.status(run).await, RunStatus::Failed);
    assert_eq!(told(&bench, run).await, told_of(12));
    let reason = bench
        .look(move |leader| {
            let steps = &leader.cluster().runs[&run].steps;
            steps.values().next().unwrap().record.reason.clone()
        })
        .await;
    assert!(reason.starts_with("check: 1 of 2 checks"), "{reason}");
    assert!(
        reason.contains("The rows that were loaded stay"),
        "{reason}"
    );
    // AND tried again under another leader it is only checked again
    bench.new_term().await;
    assert_eq!(bench.retry(run).await.unwrap(), 1);
    let check = worker.take_one().await;
    assert_eq!(check.work, Work::Check);
    assert!(worker.complete(&check, answered(30, None)).await.unwrap());
    assert_eq!(bench.status(run).await, RunStatus::Success);
    assert_eq!(told(&bench, run).await, told_of(30));
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}
