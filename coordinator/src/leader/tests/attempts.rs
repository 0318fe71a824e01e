//! Leases: who may complete what, and what becomes of those who vanish.

use std::time::Duration;

use highwater_common::assignment::{Outcome, Receipt, Work};
use highwater_common::id::{SessionId, TaskId};
use highwater_common::record::{LeaseRecord, RetryRecord};
use highwater_common::status::RunStatus;
use highwater_common::task::TaskState;
use highwater_common::token::FencingToken;

use crate::error::ServiceError;
use crate::fixtures::{Bench, one_load, options, tell, transient, well};
use crate::leader::Request;
use crate::store::RecordStore;

const DONE: Outcome = Outcome::Committed(Receipt { rows: 1, bytes: 8 });

/// The state, lease and retry record of the only partition.
async fn only(bench: &Bench) -> (TaskState, Option<LeaseRecord>, Option<RetryRecord>) {
    bench
        .look(|leader| {
            let run = leader.cluster().runs.values().last().unwrap();
            let work = run
                .steps
                .values()
                .next()
                .unwrap()
                .work_tables()
                .next()
                .unwrap();
            let lease = work.leases.get(&0).map(|held| held.record.clone());
            (
                work.state(0),
                lease,
                work.retries.get(&0).map(|held| held.record.clone()),
            )
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn complete_sent_twice_counts_once() {
    // GIVEN a completion that is sent again, within one turn and in a later one
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    let (first, second) = tokio::join!(
        tell(bench.handle(), worker.session, &task, DONE),
        tell(bench.handle(), worker.session, &task, DONE),
    );
    let third = tell(bench.handle(), worker.session, &task, DONE).await;
    // THEN all are told that it counts, and it counts once
    assert!(first.unwrap() && second.unwrap() && third.unwrap());
    let rows = bench
        .look(move |leader| {
            leader.cluster().runs[&run]
                .steps
                .values()
                .map(|step| step.rows())
                .sum::<u64>()
        })
        .await;
    assert_eq!(rows, 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_not_acknowledged_before_the_first_is_stored() {
    // GIVEN two equal completions in one turn, whose transaction the store refuses for good
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    bench
        .store
        .next_that_changes("att/", crate::store::faulty::Fault::Rejected);
    // WHEN both are sent
    let (first, second) = tokio::join!(
        tell(bench.handle(), worker.session, &task, DONE),
        tell(bench.handle(), worker.session, &task, DONE),
    );
    // THEN neither is told that it counts
    assert!(
        matches!(first, Err(ServiceError::BetweenTerms)),
        "{first:?}"
    );
    assert!(
        matches!(second, Err(ServiceError::BetweenTerms)),
        "{second:?}"
    );
    assert!(
        tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap(),
        "the new term counts it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_cannot_complete_another_sessions_task() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let other = bench.worker("w2").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    // WHEN another session, or this one with another fence, completes it
    assert!(
        !tell(bench.handle(), other.session, &task, DONE)
            .await
            .unwrap()
    );
    let mut forged = task.clone();
    forged.fence.nonce = highwater_common::token::Nonce::new(1);
    assert!(
        !tell(bench.handle(), worker.session, &forged, DONE)
            .await
            .unwrap()
    );
    // THEN it stays open, until its own session does
    assert_eq!(only(&bench).await.0, TaskState::Open);
    assert!(
        tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap()
    );
    assert_eq!(only(&bench).await.0, TaskState::Done);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_of_other_work_proves_nothing() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    // WHEN a partition is answered as if it had been a fence
    worker
        .complete(&task, Outcome::RunFenced { attempts: 1 })
        .await
        .unwrap();
    // THEN it is not counted as committed
    assert_eq!(only(&bench).await.0, TaskState::Dead);
    assert_eq!(bench.status(run).await, RunStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn lost_worker_returns_its_tasks_with_the_crash_counted() {
    // GIVEN a worker that falls silent with a task, its pull parked
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(only(&bench).await.0, TaskState::Open);
    // WHEN its session ends
    tokio::time::sleep(Duration::from_secs(2)).await;
    // THEN the task waits with the crash counted, and another worker gets it under a larger token
    let (state, _, retry) = only(&bench).await;
    let retry = retry.unwrap();
    assert_eq!(
        (state, retry.attempts, retry.history.crashes),
        (TaskState::RetryWait, 1, 1)
    );
    assert!(matches!(
        worker.beat().await,
        Err(ServiceError::SessionEnded)
    ));
    assert!(matches!(
        worker.pull(1).await,
        Err(ServiceError::SessionEnded)
    ));
    assert!(
        !tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap()
    );
    let mut other = bench.worker("w2").await;
    let again = other.take_one().await;
    assert!(
        again.task == task.task && again.fence.token > task.fence.token && again.attempt.get() == 2
    );
    assert!(
        bench.store.get("worker/w1").await.unwrap().is_none(),
        "who is gone is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn three_crashes_on_two_workers_quarantine_a_task() {
    let bench = Bench::new(1);
    let mut first = bench.worker("w0").await;
    let run = bench.prepared(&mut first).await;
    for name in ["w1", "w2", "w1"] {
        let mut worker = bench.worker(name).await;
        worker.take_one().await;
        tokio::time::sleep(Duration::from_secs(16)).await;
    }
    let dead = bench
        .look(move |leader| {
            let run = &leader.cluster().runs[&run];
            let work = run
                .steps
                .values()
                .next()
                .unwrap()
                .work_tables()
                .next()
                .unwrap();
            let dead = work.dead.get(&0).map(|held| held.record.clone());
            (dead, run.record.status)
        })
        .await;
    let (dead, status) = (dead.0.unwrap(), dead.1);
    assert_eq!(
        (dead.error.code.as_str(), dead.attempts, status),
        ("crashes_its_workers", 3, RunStatus::Failed)
    );
}

#[tokio::test(start_paused = true)]
async fn an_assignment_whose_answer_was_lost_returns() {
    // GIVEN an assignment that its worker never heard of
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let lost = worker.take_one().await;
    worker.held.clear();
    // WHEN its heartbeats do not name it
    worker.beat().await.unwrap();
    assert_eq!(
        only(&bench).await.0,
        TaskState::Open,
        "it may be on its way"
    );
    let again = worker.take_one().await;
    // THEN it comes again, with no attempt counted, and the first may not go on
    assert_eq!((again.task, again.attempt.get()), (lost.task, 1));
    worker.held.push(lost.clone());
    assert_eq!(worker.beat().await.unwrap(), [lost.fence.nonce]);
    assert_eq!(bench.look(|leader| leader.cluster().leases.len()).await, 1);
}

#[tokio::test(start_paused = true)]
async fn released_tasks_keep_their_count() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let first = worker.take_one().await;
    worker.complete(&first, transient()).await.unwrap();
    let second = worker.take_one().await;
    assert_eq!(second.attempt.get(), 2);
    // WHEN the second attempt is given back
    worker.complete(&second, Outcome::Released).await.unwrap();
    // THEN the next one is the second once more
    assert_eq!(worker.take_one().await.attempt.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_committed_a_part_before_it_failed_counts_as_none() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let failed = |committed| match transient() {
        Outcome::Failed(error) => Outcome::Failed(error.keeping(committed)),
        other => panic!("a failure, not {other:?}"),
    };
    // GIVEN more attempts than a task has, each of which commits some more of it and then fails
    for no in 1..=10 {
        let task = worker.take_one().await;
        assert_eq!(task.attempt.get(), 1);
        worker.complete(&task, failed(no * 100)).await.unwrap();
        let retry = only(&bench).await.2.unwrap();
        assert_eq!(
            (retry.attempts, retry.history.committed_rows),
            (0, no * 100)
        );
    }
    // WHEN they commit nothing any more THEN they count
    for no in 1..=5 {
        let task = worker.take_one().await;
        assert_eq!(task.attempt.get(), no);
        worker.complete(&task, failed(1_000)).await.unwrap();
    }
    assert_eq!(only(&bench).await.0, TaskState::Dead);
}

#[tokio::test(start_paused = true)]
async fn token_behind_the_target_raises_hi() {
    let bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    // WHEN the claim met a token of a term that this store has forgotten
    let newer = FencingToken::new(41, 3).unwrap();
    worker
        .complete(&task, Outcome::Fenced { newer })
        .await
        .unwrap();
    // THEN the next attempt has a larger one, in the store too
    let again = worker.take_one().await;
    assert!(again.fence.token > newer && again.task == task.task && again.attempt.get() == 1);
    assert_eq!(bench.look(|leader| leader.term().1).await, 42);
    bench.new_term().await;
    assert_eq!(bench.look(|leader| leader.term().1).await, 43);
    // WHEN a token is met that nobody can have issued, THEN the task fails, and `hi` stays where it
    // is
    let impossible = FencingToken::from_raw(i64::MAX);
    worker
        .complete(&again, Outcome::Fenced { newer: impossible })
        .await
        .unwrap();
    assert_eq!(only(&bench).await.0, TaskState::Dead);
    assert_eq!(bench.look(|leader| leader.term().1).await, 43);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_gives_known_sessions_a_fresh_ttl() {
    // GIVEN a worker with a task, silent for most of its session, and a leader that dies
    let mut bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let task = worker.take_one().await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    bench.kill().await;
    worker.handle = bench.handle().clone();
    // WHEN a new one leads, and the old session would have ended long ago
    tokio::time::sleep(Duration::from_secs(14)).await;
    // THEN the session still lives, and its task is still its own
    assert_eq!(worker.beat().await.unwrap(), []);
    assert!(
        tell(bench.handle(), worker.session, &task, DONE)
            .await
            .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_session_has_no_record_does_not_stay_for_ever() {
    // GIVEN a lease of a session that was replaced, by a leader that died before it took the lease
    // back
    let mut bench = Bench::new(1);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    worker.take_one().await;
    use crate::store::{Op, StoreTxn};
    let ops = vec![Op::Delete("worker/w1".to_owned())];
    bench
        .store
        .commit(StoreTxn {
            expects: Vec::new(),
            ops,
        })
        .await
        .unwrap();
    // WHEN another leads
    bench.kill().await;
    let mut other = bench.worker("w2").await;
    // THEN the task is handed out again
    assert_eq!(other.take_one().await.attempt.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_registers_again_gives_its_former_tasks_back() {
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
    let mut again = crate::fixtures::FakeWorker::register(
        bench.handle().clone(),
        "w1",
        SessionId::from_bytes([9; 16]),
    )
    .await
    .unwrap();
    assert!(matches!(
        parked.await.unwrap(),
        Err(ServiceError::SessionEnded)
    ));
    assert_eq!(again.take_one().await.attempt.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_store_gives_back_what_the_last_process_held_and_only_that() {
    // GIVEN an embedded process that was killed with a task in hand
    let mut bench = Bench::with(
        2,
        1,
        crate::options::CoordinatorOptions {
            is_exclusive: true,
            ..options()
        },
    );
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    let first = worker.take_one().await;
    bench.kill().await;
    // WHEN the next process begins, THEN the task is free at once, with nothing counted
    let mut worker = bench.worker("w1").await;
    let again = worker.take_one().await;
    assert_eq!((again.task, again.attempt.get()), (first.task, 1));
    // WHEN a later term of the same process begins, THEN its workers keep what they have
    bench.new_term().await;
    assert_eq!(worker.beat().await.unwrap(), []);
    assert!(
        tell(bench.handle(), worker.session, &again, DONE)
            .await
            .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn lo_that_is_used_up_raises_hi() {
    use super::super::{Leader, Term};
    use crate::clock::Clock;
    // GIVEN a leader with one token left
    let bench = Bench::new(4);
    let mut worker = bench.worker("w1").await;
    bench.prepared(&mut worker).await;
    bench.running.cancel.cancel();
    while bench.store.get("leader").await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let store: std::sync::Arc<dyn RecordStore> = std::sync::Arc::new(bench.store.clone());
    let crate::store::Campaign::Won(_reign) = store
        .campaign("leader", b"me".to_vec(), Duration::from_secs(10))
        .await
        .unwrap()
    else {
        panic!("the office is free")
    };
    let cluster = highwater_common::id::ClusterId::from_bytes([0; 16]);
    let loaded = super::super::load(store.as_ref(), cluster).await.unwrap();
    let hi = loaded.hi.unwrap();
    let term = Term {
        record: b"me".to_vec(),
        hi,
        cluster: loaded.cluster,
        orphans: Vec::new(),
        audits: 0,
    };
    let rng = rand::SeedableRng::seed_from_u64(1);
    let version = tokio::sync::watch::Sender::new(0);
    let mut leader = Leader::new(
        store,
        options().sessions,
        Clock::simulated(),
        rng,
        version,
        term,
    );
    leader.lo = FencingToken::LO_MAX - 1;
    // WHEN three tasks are handed out
    let (reply, answer) = tokio::sync::oneshot::channel();
    let pull = Request::Pull {
        session: worker.session,
        free: 3,
        reply,
    };
    leader.turn(vec![pull]).await.unwrap();
    // THEN all have tokens of a raised `hi`, each its own
    let tokens: std::collections::BTreeSet<FencingToken> = answer
        .await
        .unwrap()
        .unwrap()
        .iter()
        .map(|granted| granted.assignment.fence.token)
        .collect();
    assert_eq!((tokens.len(), leader.hi), (3, hi + 1));
    assert!(tokens.iter().all(|token| token.hi() == hi + 1));
    assert!(
        leader
            .cluster()
            .leases
            .holders()
            .all(|session| *session == worker.session)
    );
}

#[tokio::test(start_paused = true)]
async fn batch_of_129_operations_is_split() {
    // GIVEN a wide step: many leases over more than four segments
    let bench = Bench::new(6000);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let mut held = Vec::new();
    while held.len() < 6000 {
        held.extend(worker.take(1000).await);
    }
    // WHEN completions and failures from all over come at once
    let chosen: Vec<_> = held.iter().step_by(20).cloned().collect();
    let told = chosen.iter().enumerate().map(|(at, task)| {
        let outcome = if at % 2 == 0 { DONE } else { transient() };
        tell(bench.handle(), worker.session, task, outcome)
    });
    let counted = futures_util::future::join_all(told).await;
    // THEN all count, in transactions that every store takes
    assert!(counted.into_iter().all(|counted| counted.unwrap()));
    let counts = bench
        .look(move |leader| {
            leader.cluster().runs[&run]
                .steps
                .values()
                .next()
                .unwrap()
                .counts()
        })
        .await;
    assert_eq!(
        (counts.done, counts.retry_wait, counts.open),
        (150, 150, 5700)
    );
    let (held, loaded) = bench.views().await;
    assert!(held == loaded);
}

#[tokio::test(start_paused = true)]
async fn the_same_plan_has_the_same_tasks_in_every_term() {
    let bench = Bench::new(3);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    let mut seen: Vec<TaskId> = Vec::new();
    while !bench.status(run).await.has_ended() {
        let task = worker.take_one().await;
        // The close alone comes again: each term compares with it what was done before.
        if seen.contains(&task.task) {
            assert!(matches!(task.work, Work::Close { .. }), "{:?}", task.work);
        } else {
            seen.push(task.task);
            bench.new_term().await;
        }
        assert!(
            worker.complete(&task, well(&task, 3)).await.unwrap(),
            "{:?}",
            task.work
        );
    }
    assert_eq!(bench.status(run).await, RunStatus::Success);
    // Probe, prepare, three partitions, the count and the close.
    assert_eq!(seen.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_goes_to_another_worker_whoever_leads_then() {
    // GIVEN a task that failed on the first of two workers
    let bench = Bench::new(1);
    let mut first = bench.worker("w1").await;
    let mut second = bench.worker("w2").await;
    bench.prepared(&mut first).await;
    let task = first.take_one().await;
    first.complete(&task, transient()).await.unwrap();
    // WHEN another term begins, THEN it knows on whom, and the message tells it
    bench.new_term().await;
    let (state, _, retry) = only(&bench).await;
    let retry = retry.unwrap();
    assert_eq!((state, retry.attempts), (TaskState::RetryWait, 1));
    assert_eq!(retry.history.failed_on, ["w1".parse().unwrap()]);
    assert!(
        retry.error.message.ends_with(" (on worker w1)"),
        "{}",
        retry.error.message
    );
    // AND the other one gets the task, with what is known of it
    let again = second.take_one().await;
    assert_eq!((again.task, again.attempt.get()), (task.task, 2));
    assert_eq!(
        only(&bench).await.1.unwrap().history.failed_on,
        ["w1".parse().unwrap()]
    );
}
