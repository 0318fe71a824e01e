//! A store whose answers are lost, that was rewound, or that has another leader.

use std::time::Duration;

use highwater_common::assignment::{Outcome, Receipt};
use highwater_common::status::RunStatus;

use crate::error::ServiceError;
use crate::fixtures::{
    Bench, FakeWorker, Running, one_load, options, pipeline, start, submission, tell,
};
use crate::leader::Request;
use crate::store::faulty::Fault;
use crate::store::{Op, RecordStore, StoreTxn};

const DONE: Outcome = Outcome::Committed(Receipt { rows: 1, bytes: 8 });

#[tokio::test(start_paused = true)]
async fn store_transaction_timed_out_but_applied_is_read_back() {
    for fault in [
        || Fault::AppliedAnswerLost,
        || Fault::NeverArrived,
        || Fault::Unreachable,
    ] {
        // GIVEN an assignment, then a completion, whose answer does not come
        let bench = Bench::new(1);
        let mut worker = bench.worker("w1").await;
        let run = bench.prepared(&mut worker).await;
        let hi = bench.look(|leader| leader.term().1).await;
        bench.store.next_that_changes("att/", fault());
        let task = worker.take_one().await;
        bench.store.next_that_changes("att/", fault());
        // WHEN the worker is answered, THEN it was applied exactly once, and the term goes on
        assert!(
            tell(bench.handle(), worker.session, &task, DONE)
                .await
                .unwrap()
        );
        assert_eq!(bench.store.faults_left(), 0);
        assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
        assert_eq!(bench.look(|leader| leader.term().1).await, hi);
        let (held, loaded) = bench.views().await;
        assert_eq!(held, loaded);
    }
}

#[tokio::test(start_paused = true)]
async fn every_transaction_of_a_run_survives_a_lost_answer() {
    // GIVEN a store that loses the answer to every transaction once, applied or not
    for applied in [true, false] {
        let bench = Bench::new(2);
        let mut worker = bench.worker("w1").await;
        for _ in 0..60 {
            bench.store.next(if applied {
                Fault::AppliedAnswerLost
            } else {
                Fault::NeverArrived
            });
            bench.store.next(Fault::Slow(Duration::ZERO));
        }
        let run = bench.submit(&one_load()).await;
        // WHEN the run goes on, THEN it succeeds, and memory and store agree
        assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
        let (held, loaded) = bench.views().await;
        assert_eq!(held, loaded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_transaction_of_a_rewound_store_ends_the_term() {
    // GIVEN a store that was set back to before an assignment, with the leader's record as it is
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let before = bench.store.scan("").await.unwrap();
    let task = worker.take_one().await;
    let hi = bench.look(|leader| leader.term().1).await;
    let mut ops: Vec<Op> = Vec::new();
    for (key, _) in bench.store.scan("").await.unwrap() {
        if key != "leader" && !before.iter().any(|(other, _)| *other == key) {
            ops.push(Op::Delete(key));
        }
    }
    ops.extend(
        before
            .into_iter()
            .filter(|(key, _)| key != "leader")
            .map(|(key, value)| Op::Put(key, value)),
    );
    bench
        .store
        .commit(StoreTxn {
            expects: Vec::new(),
            ops,
        })
        .await
        .unwrap();
    // WHEN the attempt completes
    let told = tell(bench.handle(), worker.session, &task, DONE).await;
    // THEN nobody says that it counts: the term is over, and the next one knows what the store
    // knows
    assert!(matches!(told, Err(ServiceError::BetweenTerms)), "{told:?}");
    assert!(
        !tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap()
    );
    assert!(bench.look(|leader| leader.term().1).await > hi);
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn callers_hear_of_the_end_of_a_term_and_do_not_hang() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    worker.take_one().await;
    let parked = {
        let (handle, session) = (bench.handle().clone(), worker.session);
        tokio::spawn(async move {
            handle
                .ask(|reply| Request::Pull {
                    session,
                    free: 1,
                    reply,
                })
                .await
                .map(|_| ())
        })
    };
    tokio::task::yield_now().await;
    // WHEN the term ends with a pull parked
    bench.store.lose_reigns();
    // THEN its caller is told so
    assert!(matches!(
        parked.await.unwrap(),
        Err(ServiceError::BetweenTerms)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_follower_names_the_leader_and_takes_over_when_it_has_gone() {
    // GIVEN a leader with an address, and a follower
    let led = crate::options::CoordinatorOptions {
        address: "10.0.0.1:7070".to_owned(),
        ..options()
    };
    let mut bench = Bench::with(1, 3, led);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let follower = start(
        &bench.store,
        &options(),
        crate::clock::Clock::simulated(),
        9,
    );
    // WHEN the follower is asked, THEN it says who leads
    let refused = follower.handle.look(|_| Ok(())).await;
    assert!(
        matches!(refused, Err(ServiceError::NotLeader { leader: Some(at) }) if at == "10.0.0.1:7070")
    );
    // WHEN the leader resigns, THEN the follower leads at once, not after half a time to live
    bench.running.cancel.cancel();
    (&mut bench.running.ended).await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    while follower.handle.look(|_| Ok(())).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    bench.running = follower;
    worker.handle = bench.handle().clone();
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_for_a_while_ends_no_coordinator() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    // WHEN a new term begins while reads fail
    bench.store.fail_reads(3);
    bench.store.lose_reigns();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // THEN the coordinator campaigns until they do not
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

/// Who leads once the bench's own leader has lost its leadership, of which that one knows nothing.
async fn deposed(bench: &Bench) -> Running {
    let revoke = StoreTxn {
        expects: Vec::new(),
        ops: vec![Op::Delete("leader".to_owned())],
    };
    bench.store.commit(revoke).await.unwrap();
    let clock = crate::clock::Clock::simulated();
    let other = start(&bench.store, &options(), clock, 11);
    while other.handle.look(|_| Ok(())).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_deposed_writes_no_record_of_anything() {
    for what in ["a run that is begun", "a cancel", "a worker that comes"] {
        // GIVEN a run under way, and a leader whose leadership another one has won meanwhile
        let bench = Bench::new(1);
        let mut worker = bench.worker("w1").await;
        let run = bench.prepared(&mut worker).await;
        let _other = deposed(&bench).await;
        let before = bench.store.scan("").await.unwrap();
        // WHEN it is asked for something that no record of a task is compared for
        let told = match what {
            "a run that is begun" => {
                let spec = pipeline("other", "", &[("items", "$load")]);
                let submission = submission(&spec, false, false);
                let begun = bench
                    .handle()
                    .ask(|reply| Request::Submit { submission, reply });
                begun.await.map(drop)
            }
            "a cancel" => bench.cancel(run).await,
            _ => {
                let session = highwater_common::id::SessionId::from_bytes([9; 16]);
                let came = FakeWorker::register(bench.handle().clone(), "w9", session);
                came.await.map(drop)
            }
        };
        // THEN it is refused, and nothing has changed
        assert!(
            matches!(told, Err(ServiceError::BetweenTerms)),
            "{what}: {told:?}"
        );
        assert_eq!(bench.store.scan("").await.unwrap(), before, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_deposed_changes_nothing_any_more() {
    // GIVEN a leader whose leadership another one has won meanwhile
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let other = deposed(&bench).await;
    let before = bench.store.scan("").await.unwrap();
    // WHEN it counts a completion
    let told = tell(bench.handle(), worker.session, &task, DONE).await;
    // THEN it is refused, nothing has changed, and the new leader counts it
    assert!(matches!(told, Err(ServiceError::BetweenTerms)), "{told:?}");
    assert_eq!(bench.store.scan("").await.unwrap(), before);
    assert!(
        tell(&other.handle, worker.session, &task, DONE)
            .await
            .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_success_because_another_leader_did_the_same() {
    // GIVEN a leader whose leadership another one has won, which has counted a completion already
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let other = deposed(&bench).await;
    assert!(
        tell(&other.handle, worker.session, &task, DONE)
            .await
            .unwrap()
    );
    // WHEN the former one is told of the same completion: its transaction is refused, and every
    // record is as it would leave it
    let told = tell(bench.handle(), worker.session, &task, DONE).await;
    // THEN it does not go on as if it led: an answer was never lost, so the refusal says that
    // somebody else wrote
    assert!(matches!(told, Err(ServiceError::BetweenTerms)), "{told:?}");
}
