//! What a person has taken back: once, and never beside a run of the pipeline.

use highwater_common::assignment::{Outcome, Work};
use highwater_common::errand::{Errand, Undo};
use highwater_common::id::RunId;
use highwater_common::status::RunStatus;

use crate::error::ServiceError;
use crate::fixtures::{Bench, facts, one_load, permanent, submission};
use crate::leader::Request;

/// Asks for an undo of the only step; true when it is one that was asked for before.
async fn undo(bench: &Bench) -> Result<(RunId, bool), ServiceError> {
    let spec = one_load();
    let step = spec.steps.keys().next().unwrap().clone();
    let reason = "a test".to_owned();
    let mut submission = submission(&spec, true, false);
    submission.errand = Some(Errand::Undo(Undo { step, reason }));
    let ask = bench
        .handle()
        .ask(|reply| Request::Submit { submission, reply });
    ask.await
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_done_once_and_runs_wait_for_it() {
    // GIVEN an undo that a worker has begun
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let (undoing, attached) = undo(&bench).await.unwrap();
    assert!(!attached);
    let task = worker.take_one().await;
    assert_eq!(task.work, Work::Probe);
    // WHEN it is asked for again THEN it is the same one, for two would do nothing
    assert_eq!(undo(&bench).await.unwrap(), (undoing, true));
    // AND a run waits until it is over
    let run = bench.submit(&one_load()).await;
    assert!(worker.pull(16).await.unwrap().is_empty());
    let found = Outcome::Probed(serde_json::to_vec(&facts(1)).unwrap());
    worker.complete(&task, found).await.unwrap();
    assert_eq!(bench.status(undoing).await, RunStatus::Planned);
    // AND while the run is under way nothing is undone
    match undo(&bench).await {
        Err(error @ ServiceError::PipelineBusy { .. }) => {
            assert!(error.to_string().contains("under way"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    let (again, attached) = undo(&bench).await.unwrap();
    assert!(again != undoing && !attached);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_goes_on_no_more_once_it_was_undone() {
    // GIVEN a run that failed, and an undo that did, too
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    worker.complete(&task, permanent()).await.unwrap();
    undo(&bench).await.unwrap();
    // THEN it is not tried again while that is under way, and then it can be
    match bench.retry(run).await {
        Err(ServiceError::OtherRunActive { .. }) => {}
        other => panic!("{other:?}"),
    }
    let undoing = worker.take_one().await;
    worker.complete(&undoing, permanent()).await.unwrap();
    assert_eq!(bench.retry(run).await.unwrap(), 1);
    let task = worker.take_one().await;
    worker.complete(&task, permanent()).await.unwrap();
    // WHEN another one goes through THEN it is not tried again, and the answer says why
    let (by, _) = undo(&bench).await.unwrap();
    let undoing = worker.take_one().await;
    let found = Outcome::Probed(serde_json::to_vec(&facts(1)).unwrap());
    worker.complete(&undoing, found).await.unwrap();
    let short = bench.look(move |leader| leader.short_of(&by)).await;
    match bench.retry(run).await {
        Err(error @ ServiceError::RunUndone { .. }) => {
            assert!(error.to_string().contains(&short), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
