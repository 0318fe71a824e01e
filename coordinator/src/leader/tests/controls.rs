//! What operators say of runs that are under way, and what is kept of it.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::assignment::Work;
use highwater_common::controls::{Control, LimitChange, Scope};
use highwater_common::id::{RunId, StepName};
use highwater_common::record::AuditRecord;
use highwater_common::status::{RunStatus, StepStatus};
use highwater_proto::convert::records::StoredRecord as _;

use crate::error::ServiceError;
use crate::fixtures::{Bench, FakeWorker, permanent, pipeline, well};
use crate::leader::Verdict;
use crate::store::RecordStore as _;
use crate::store::keys::prefix;

fn step(name: &str) -> StepName {
    name.parse().unwrap()
}

fn scope(steps: &[&str]) -> Scope {
    Scope {
        steps: steps.iter().map(|name| step(name)).collect(),
        ..Scope::default()
    }
}

/// What the store holds of what operators did: verb, about and reason, oldest first.
async fn audits(bench: &Bench) -> Vec<(String, String, String)> {
    let found = bench.store.scan(&prefix::audits()).await.unwrap();
    let read = |bytes: &[u8]| AuditRecord::from_bytes(bytes).unwrap();
    let records = found.iter().map(|(_, bytes)| read(bytes));
    records
        .map(|record| {
            assert_eq!(record.by, "ann");
            (record.verb, record.about, record.reason)
        })
        .collect()
}

async fn stands(bench: &Bench, run: RunId, name: &str) -> (StepStatus, String) {
    let name = step(name);
    bench
        .look(move |leader| {
            let record = &leader.cluster().runs[&run].steps[&name].record;
            (record.status, record.reason.clone())
        })
        .await
}

/// Lets everything that is handed out end well, but partitions that end with `dies`.
async fn work(bench: &Bench, worker: &mut FakeWorker, run: RunId, dies: &str) -> RunStatus {
    for _ in 0..1_000 {
        let status = bench.status(run).await;
        if status.has_ended() {
            return status;
        }
        for assignment in worker.pull(16).await.unwrap() {
            let is_meant = matches!(assignment.work, Work::Partition(_))
                && assignment.work.to_string().ends_with(dies);
            let outcome = match is_meant && !dies.is_empty() {
                true => permanent(),
                false => well(&assignment, bench.partitions),
            };
            worker.complete(&assignment, outcome).await.unwrap();
        }
        worker.beat().await.unwrap();
    }
    panic!("the run does not end");
}

#[tokio::test(start_paused = true)]
async fn pause_stops_new_claims_and_resume_goes_on() {
    // GIVEN a run whose partitions can begin, and one of which is held by a worker
    let mut bench = Bench::new(5);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let held = worker.take_one().await;
    // WHEN it is paused
    bench
        .control(run, Control::Pause(Scope::default()))
        .await
        .unwrap();
    // THEN nothing more is handed out, and what runs may end
    assert!(worker.pull(4).await.unwrap().is_empty());
    assert!(worker.complete(&held, well(&held, 5)).await.unwrap());
    assert!(worker.pull(4).await.unwrap().is_empty());
    let waits = bench
        .look(move |leader| {
            let run = &leader.cluster().runs[&run];
            let document =
                crate::engine::run_document(leader.cluster(), run, String::new(), leader.now().1);
            document.steps[0].waits.clone()
        })
        .await;
    assert_eq!(waits, ["the run is paused by ann: a talk"]);
    // also by a leader that comes after
    bench.kill().await;
    let mut worker = bench.worker("w2").await;
    assert!(worker.pull(4).await.unwrap().is_empty());
    // WHEN it is resumed THEN it goes on to its end
    bench
        .control(run, Control::Resume(Scope::default()))
        .await
        .unwrap();
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    let told = |verb: &str| (verb.to_owned(), "the run".to_owned(), "a talk".to_owned());
    assert_eq!(audits(&bench).await[1..], [told("pause"), told("resume")]);
    // and of a run that has ended nothing can be paused
    let ended = bench.control(run, Control::Pause(Scope::default())).await;
    assert!(matches!(ended, Err(ServiceError::RunEnded { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_can_be_cancelled() {
    let bench = Bench::new(3);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    bench
        .control(run, Control::Pause(Scope::default()))
        .await
        .unwrap();
    bench.cancel(run).await.unwrap();
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_paused_step_and_a_paused_connection_hold_back_their_own() {
    // GIVEN two loads beside each other
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline("shop", "", &[("a", "$load"), ("b", "$load")]);
    let connection = spec.connections.keys().next().unwrap().clone();
    let run = bench.submit(&spec).await;
    // WHEN one of them is paused
    bench
        .control(run, Control::Pause(scope(&["a"])))
        .await
        .unwrap();
    // THEN only the other one's probe is handed out
    let given = worker.pull(4).await.unwrap();
    let open = bench
        .look(move |leader| {
            let steps = &leader.cluster().runs[&run].steps;
            [steps[&step("a")].open(), steps[&step("b")].open()]
        })
        .await;
    assert_eq!(open, [0, 1]);
    worker
        .complete(&given[0], well(&given[0], 2))
        .await
        .unwrap();
    // WHEN a connection that both use is paused, and the step resumed
    let of_connection = Scope {
        connections: BTreeSet::from([connection]),
        ..Scope::default()
    };
    bench
        .control(run, Control::Pause(of_connection.clone()))
        .await
        .unwrap();
    bench
        .control(run, Control::Resume(scope(&["a"])))
        .await
        .unwrap();
    // THEN neither gets anything, until the connection is resumed
    assert!(worker.pull(4).await.unwrap().is_empty());
    bench
        .control(run, Control::Resume(of_connection))
        .await
        .unwrap();
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn limits_change_under_a_running_run() {
    // GIVEN a run that may have all that there is
    let mut bench = Bench::new(9);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let limit = |tasks, of_step| {
        Control::Limit(LimitChange {
            tasks,
            steps: BTreeMap::from([(step("orders"), of_step)]),
            ..LimitChange::default()
        })
    };
    // WHEN an operator lets three run at once
    bench
        .control(run, limit(Some(Some(3)), None))
        .await
        .unwrap();
    // THEN no more are handed out, also by a leader that comes after
    assert_eq!(worker.pull(8).await.unwrap().len(), 3);
    bench.kill().await;
    let mut worker = bench.worker("w1").await;
    let mut open = 0;
    while let given @ 1.. = worker.pull(8).await.unwrap().len() {
        open += given;
    }
    assert_eq!(open, 3);
    // WHEN the step may have five, and the run as many as its file says THEN two more come
    bench
        .control(run, limit(Some(None), Some(5)))
        .await
        .unwrap();
    assert_eq!(worker.pull(8).await.unwrap().len(), 2);
    assert!(worker.pull(8).await.unwrap().is_empty());
    // and what the file does not know is refused
    let unknown = LimitChange {
        pools: BTreeMap::from([("nothing".parse().unwrap(), Some(2))]),
        ..LimitChange::default()
    };
    let refused = bench.control(run, Control::Limit(unknown)).await;
    assert!(matches!(refused, Err(ServiceError::Control(_))));
}

#[tokio::test(start_paused = true)]
async fn a_skipped_step_takes_along_what_needs_it_and_nothing_else() {
    // GIVEN a chain of three steps, and one that only waits for the end of the second
    let mut bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline(
        "shop",
        "",
        &[
            ("a", "$load"),
            ("b", "$load    depends_on: [a]"),
            ("c", "$load    depends_on: [b]"),
            ("d", "$load    depends_on: [{step: b, when: done}]"),
        ],
    );
    let run = bench.submit(&spec).await;
    // WHEN the second is skipped before the run has a plan, and the leader dies
    let skip = Control::Skip(BTreeSet::from([step("b")]));
    bench.control(run, skip.clone()).await.unwrap();
    bench.kill().await;
    let mut worker_2 = bench.worker("w2").await;
    drop(worker.pull(1).await);
    // THEN what needs it is skipped with it and says why, the others run, and the run is no success
    assert_eq!(
        work(&bench, &mut worker_2, run, "").await,
        RunStatus::Failed
    );
    let why = "b was skipped by ann: a talk".to_owned();
    assert_eq!(stands(&bench, run, "a").await.0, StepStatus::Success);
    assert_eq!(
        stands(&bench, run, "b").await,
        (StepStatus::Skipped, why.clone())
    );
    assert_eq!(stands(&bench, run, "c").await, (StepStatus::Skipped, why));
    assert_eq!(stands(&bench, run, "d").await.0, StepStatus::Success);
    // and a step that has ended cannot be skipped
    let late = bench
        .control(run, Control::Skip(BTreeSet::from([step("a")])))
        .await;
    assert!(matches!(late, Err(ServiceError::StepBegan { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_without_tasks_that_are_accepted() {
    // GIVEN a failed run, of which one partition died, and a step that was skipped after it
    let mut bench = Bench::new(4);
    let mut worker = bench.worker("w1").await;
    let spec = pipeline(
        "shop",
        "",
        &[("a", "$load"), ("b", "$load    depends_on: [a]")],
    );
    let run = bench.submit(&spec).await;
    let first = ", 1)";
    assert_eq!(
        work(&bench, &mut worker, run, first).await,
        RunStatus::Failed
    );
    // WHEN other partitions are named THEN nothing is accepted
    let other = bench.retry_some(run, "b", Some(Verdict::Accepted)).await;
    assert!(matches!(other, Err(ServiceError::NothingToAccept { .. })));
    let none = bench
        .retry_some(run, "nothing", Some(Verdict::Accepted))
        .await;
    assert!(matches!(none, Err(ServiceError::Selection(_))));
    // WHEN it is accepted, and the leader dies
    assert_eq!(
        bench
            .retry_some(run, "a", Some(Verdict::Accepted))
            .await
            .unwrap(),
        1
    );
    bench.kill().await;
    let mut worker = bench.worker("w2").await;
    // THEN the run goes on without it, and says who wanted that
    let dead = bench
        .look(move |leader| {
            let run = &leader.cluster().runs[&run];
            let document =
                crate::engine::run_document(leader.cluster(), run, String::new(), leader.now().1);
            document.steps[0].dead.clone()
        })
        .await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].accepted, "by ann: not needed");
    assert_eq!(work(&bench, &mut worker, run, "").await, RunStatus::Success);
    assert_eq!(stands(&bench, run, "b").await.0, StepStatus::Success);
    let told = audits(&bench).await;
    assert_eq!(told.last().unwrap().0, "accept");
    assert_eq!(told.last().unwrap().1, "a: 1 task");
}
