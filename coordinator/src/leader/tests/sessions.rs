//! Sessions: many at once, and a store that is slow.

use std::time::Duration;

use highwater_common::assignment::{Outcome, Receipt};
use highwater_common::id::SessionId;

use crate::fixtures::{Bench, FakeWorker, tell};
use crate::leader::{Beat, Request};
use crate::store::RecordStore;
use crate::store::faulty::Fault;

const DONE: Outcome = Outcome::Committed(Receipt { rows: 1, bytes: 8 });

/// The id of the `no`th session.
fn session(no: u16) -> SessionId {
    let mut id = [7; 16];
    id[..2].copy_from_slice(&no.to_be_bytes());
    SessionId::from_bytes(id)
}

#[tokio::test(start_paused = true)]
async fn a_slow_barrier_read_takes_nothing_from_the_sessions() {
    // GIVEN a worker with a task, and a store that takes almost a session's time to be read
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    bench.store.slow_scans(Duration::from_secs(14));
    // WHEN a new term begins, and the worker is heard four seconds later
    bench.new_term().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    // THEN its session lives, and so does its attempt
    assert_eq!(worker.beat().await.unwrap(), []);
    assert!(
        tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_speaks_while_the_leader_waits_for_the_store_was_not_silent() {
    // GIVEN two workers, of which one falls silent, and a transaction that takes longer than a
    // session
    let bench = Bench::new(4);
    let mut worker = bench.worker("w1").await;
    bench.worker("silent").await;
    bench.prepared(&mut worker).await;
    let (first, second) = (worker.take_one().await, worker.take_one().await);
    worker.beat().await.unwrap();
    bench
        .store
        .next_that_changes("att/", Fault::Slow(Duration::from_secs(20)));
    let completing = {
        let (handle, session) = (bench.handle().clone(), worker.session);
        tokio::spawn(async move { tell(&handle, session, &first, DONE).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    // WHEN the one sends its heartbeat meanwhile, and is answered after the transaction
    worker.held.retain(|held| held.fence == second.fence);
    assert_eq!(worker.beat().await.unwrap(), []);
    // THEN its session lives, and the other one's has ended
    assert!(completing.await.unwrap().unwrap());
    assert!(
        tell(bench.handle(), worker.session, &second, DONE)
            .await
            .unwrap()
    );
    bench
        .look(|leader| assert_eq!(leader.cluster().sessions.len(), 1))
        .await;
}

#[tokio::test(start_paused = true)]
async fn workers_that_come_together_are_stored_together() {
    // GIVEN a leader that is busy
    let bench = Bench::new(1);
    bench.worker("first").await;
    let held = bench.store.hold_next_that_changes("worker/");
    let began: Vec<_> = (0..500_u16)
        .map(|no| {
            // one of them comes twice
            let (handle, name) = (bench.handle().clone(), format!("w{}", no % 499));
            tokio::spawn(async move { FakeWorker::register(handle, &name, session(no)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = bench.store.commits_seen();
    // WHEN hundreds register meanwhile
    held.release();
    for began in began {
        assert!(began.await.unwrap().is_ok(), "everyone is answered");
    }
    // THEN they take a few transactions, and each is known by its latest session
    let commits = bench.store.commits_seen() - before;
    assert!(commits <= 12, "{commits} transactions for 500 workers");
    let known = bench
        .look(|leader| {
            leader
                .cluster()
                .sessions
                .keys()
                .copied()
                .collect::<Vec<_>>()
        })
        .await;
    assert_eq!(known.len(), 500);
    assert!(
        !known.contains(&session(0)) && known.contains(&session(499)),
        "the second registration counts"
    );
    assert_eq!(bench.store.scan("worker/").await.unwrap().len(), 500);
    let (held, loaded) = bench.views().await;
    assert!(held == loaded);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_changes_nothing_is_no_turn() {
    // GIVEN a worker with a task
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    worker.take_one().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut version = bench.handle().version();
    version.mark_unchanged();
    // WHEN it is heard again and again, THEN nobody is told of a change
    for _ in 0..50 {
        assert_eq!(worker.beat().await.unwrap(), []);
    }
    assert!(!version.has_changed().unwrap());
    // WHEN it says that it drains, THEN they are
    let (session, attempts) = (worker.session, Vec::new());
    let told = Beat {
        attempts,
        draining: true,
        ..Beat::default()
    };
    let beat = bench.handle().ask(|reply| Request::Heartbeat {
        session,
        beat: told,
        reply,
    });
    beat.await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(version.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_gives_back_what_it_was_given_and_no_attempt_is_counted() {
    // GIVEN a worker that holds a task, a pull of it that waits, and another worker
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let mut other = bench.worker("w2").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let (handle, session) = (bench.handle().clone(), worker.session);
    let waiting = tokio::spawn(async move {
        handle
            .ask(|reply| Request::Pull {
                session,
                free: 1,
                reply,
            })
            .await
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    // WHEN it leaves
    worker.leave().await.unwrap();
    // THEN the other one has the task without waiting for a session to run out, as a first attempt
    let again = tokio::time::timeout(Duration::from_secs(5), other.take_one());
    let again = again.await.unwrap();
    assert_eq!((again.task, again.attempt), (task.task, task.attempt));
    // AND nothing is left of the session
    assert!(waiting.await.unwrap().is_err());
    assert!(worker.leave().await.is_err() && worker.beat().await.is_err());
    assert!(
        !tell(bench.handle(), session, &task, DONE)
            .await
            .is_ok_and(|counted| counted)
    );
    assert_eq!(bench.store.scan("worker/").await.unwrap().len(), 1);
    let (held, loaded) = bench.views().await;
    assert!(held == loaded);
}
