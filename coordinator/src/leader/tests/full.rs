//! A store that has no room for a while.

use std::time::Duration;

use highwater_common::assignment::{Outcome, Receipt};
use highwater_common::status::RunStatus;

use crate::coordinator::Role;
use crate::error::ServiceError;
use crate::fixtures::{Bench, options, start, tell};
use crate::store::faulty::Fault;

const DONE: Outcome = Outcome::Committed(Receipt { rows: 1, bytes: 8 });

#[tokio::test(start_paused = true)]
async fn a_store_without_room_ends_no_term_and_no_attempt() {
    // GIVEN an attempt under way, and a store that runs out of space before it is counted
    let bench = Bench::new(3);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let (record, hi) = bench
        .look(|leader| (leader.term().0.to_vec(), leader.term().1))
        .await;
    bench.store.fill(true);
    let told = tell(bench.handle(), worker.session, &task, DONE).await;
    assert!(matches!(told, Err(ServiceError::BetweenTerms)), "{told:?}");
    // WHEN that goes on for longer than a session lives
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // THEN the worker is heard, and goes on with what it has
        assert_eq!(worker.beat().await.unwrap(), Vec::new());
        // AND whoever looks is told why nothing moves, and whoever wants a change as well
        let trouble = bench
            .look(|leader| leader.trouble().map(str::to_owned))
            .await
            .unwrap();
        assert!(
            trouble.contains("is out of space") && trouble.contains("defragment"),
            "{trouble}"
        );
        let told = tell(bench.handle(), worker.session, &task, DONE).await;
        assert!(
            matches!(&told, Err(ServiceError::StoreFull(why)) if *why == trouble),
            "{told:?}"
        );
    }
    assert_eq!(*bench.handle().role().borrow(), Role::OutOfSpace);
    // WHEN there is room, THEN the attempt counts, under the same leadership and with larger tokens
    bench.store.fill(false);
    while bench.look(|leader| leader.trouble().is_some()).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap()
    );
    let now = bench
        .look(|leader| (leader.term().0.to_vec(), leader.term().1))
        .await;
    assert_eq!((now.0, now.1 > hi), (record, true));
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    let (held, loaded) = bench.views().await;
    assert_eq!(held, loaded);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_on_its_way_is_not_let_in_by_a_term_that_a_full_store_began() {
    // GIVEN a completion whose answer was lost, and a store that is full when it is asked again
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let record = bench.look(|leader| leader.term().0.to_vec()).await;
    bench
        .store
        .next_that_changes("att/", Fault::AppliedAnswerLost);
    bench.store.next_that_changes("att/", Fault::Full);
    let told = tell(bench.handle(), worker.session, &task, DONE).await;
    assert!(matches!(told, Err(ServiceError::BetweenTerms)), "{told:?}");
    // THEN the leadership is given up: what is on its way compares a record that is no more
    assert_ne!(bench.look(|leader| leader.term().0.to_vec()).await, record);
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_finds_no_room_for_its_office_waits_and_answers() {
    // GIVEN a store with a run in it, no leader, and no room for one
    let mut bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    bench.running.cancel.cancel();
    (&mut bench.running.ended).await.unwrap().unwrap();
    bench.store.fill(true);
    // WHEN a coordinator comes
    bench.running = start(
        &bench.store,
        &options(),
        crate::clock::Clock::simulated(),
        9,
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    // THEN it is there, shows the run, and says what it waits for
    let seen = bench
        .look(move |leader| {
            (
                leader.cluster().runs.contains_key(&run),
                leader.trouble().is_some(),
            )
        })
        .await;
    assert_eq!(seen, (true, true));
    // AND it hears nobody's heartbeat: it does not lead, and another one may come to
    worker.handle = bench.handle().clone();
    let told = worker.beat().await;
    assert!(matches!(told, Err(ServiceError::StoreFull(_))), "{told:?}");
    // WHEN there is room, THEN it leads
    bench.store.fill(false);
    while bench.look(|leader| leader.trouble().is_some()).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
}
