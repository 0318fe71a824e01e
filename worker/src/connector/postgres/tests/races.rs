//! Two attempts at one task: at most one of them commits, whoever sleeps, dies or wakes up late.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use highwater_common::commit::LedgerState;

use super::*;

/// Makes the target forget the session of the claim, as a target does that may not end it: the
/// zombie lives on.
async fn forget_session(world: &mut World) {
    world
        .wh("update highwater.task set session_id = null, session_start = null")
        .await;
}

#[tokio::test]
async fn guard_is_last_and_fences_the_zombie() {
    // GIVEN an attempt that has written all its rows and then fell asleep, not to be woken by the
    // loss of its session
    let mut world = World::with_orders(100).await;
    let (zombie, receipt) = world.written(1).await.expect("written");
    forget_session(&mut world).await;
    // WHEN a later attempt claims, which the zombie does not hold up, and the zombie wakes up
    let later = world.held(2).await;
    let outcome = zombie
        .guard(&GuardStep::last(receipt))
        .await
        .expect("no fault");
    // THEN the zombie's guard does not hold, and nothing of it is there
    assert!(matches!(outcome, GuardOutcome::Lost));
    assert_eq!(world.orders().await, 0);
    // and the later attempt commits
    let tx = later.begin().await.expect("begun");
    let (tx, receipt) = world
        .write(tx, &world.write_request(all(), RowFormat::CopyText).await)
        .await
        .expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("lost")
    };
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    assert_eq!(world.orders().await, 100);
}

#[tokio::test]
async fn of_many_claims_at_once_only_the_largest_token_commits() {
    // GIVEN eight attempts at one task
    let mut world = World::with_orders(10).await;
    let mut claims = Vec::new();
    for lo in 1..=8 {
        claims.push(world.claim_of(lo, all()).await);
    }
    // WHEN all claim at once
    let outcomes =
        futures_util::future::join_all(claims.iter().map(|claim| world.target.claim(claim))).await;
    // THEN the row holds the largest token, and nobody else's guard can hold
    let row = world
        .target
        .ledger_row(&RUN, &TASK)
        .await
        .expect("read")
        .expect("there");
    assert_eq!((row.state, row.fence), (LedgerState::Open, fence(8)));
    let mut committed = 0;
    for outcome in outcomes {
        match outcome {
            // A later claim may end an earlier one's session before that one has its answer.
            Err(error) => {
                let class = error.report.class;
                assert!(
                    matches!(class, ErrorClass::Transient | ErrorClass::Unreachable),
                    "{class}: {error}"
                );
            }
            Ok(ClaimOutcome::Held(held)) => {
                // A session that a later claim has ended can do nothing at all.
                let Ok(tx) = held.begin().await else { continue };
                let Ok(GuardOutcome::Holds(guarded)) =
                    tx.guard(&GuardStep::last(Receipt::default())).await
                else {
                    continue;
                };
                assert!(matches!(
                    guarded.commit().await,
                    CommitOutcome::Committed(_)
                ));
                committed += 1;
            }
            Ok(ClaimOutcome::Fenced { newer }) => assert!(newer <= fence(8).token),
            Ok(other) => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(committed, 1);
    assert_eq!(
        world
            .count("select count(*) from highwater.task where state = 'C'")
            .await,
        1
    );
}

#[tokio::test]
async fn a_former_session_is_ended_after_a_claim() {
    // GIVEN an attempt asleep in its transaction, its rows' locks held
    let mut world = World::with_orders(10).await;
    let (zombie, receipt) = world.written(1).await.expect("written");
    // WHEN a later attempt claims
    let later = world.guarded(2).await;
    // THEN the zombie's session is gone, and the later attempt did not wait for it
    assert!(zombie.guard(&GuardStep::last(receipt)).await.is_err());
    assert!(matches!(later.commit().await, CommitOutcome::Committed(_)));
    assert_eq!(world.orders().await, 10);
}

#[tokio::test]
async fn a_zombie_between_guard_and_commit_does_not_block_its_successor() {
    // GIVEN an attempt asleep between guard and COMMIT: it holds the ledger row itself
    let mut world = World::with_orders(10).await;
    let zombie = world.guarded(1).await;
    // WHEN a later attempt runs to its end
    assert!(matches!(
        world.guarded(2).await.commit().await,
        CommitOutcome::Committed(_)
    ));
    // THEN the zombie's commit is unknown to it, the ledger has the later one's, and each row is
    // there once
    assert!(matches!(zombie.commit().await, CommitOutcome::Unknown(_)));
    let row = world
        .target
        .ledger_row(&RUN, &TASK)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        (row.state, row.fence, row.receipt.rows),
        (LedgerState::Committed, fence(2), 10)
    );
    assert_eq!(world.orders().await, 10);
}

#[tokio::test]
async fn a_claim_after_a_commit_only_reports_it_and_an_older_one_is_fenced() {
    let world = World::with_orders(10).await;
    // GIVEN a later attempt's claim
    let held = world.held(5).await;
    // WHEN an older one claims THEN it is fenced, and the later one's session lives
    let older = world
        .target
        .claim(&world.claim_of(4, all()).await)
        .await
        .expect("no fault");
    assert!(matches!(older, ClaimOutcome::Fenced { newer } if newer == fence(5).token));
    // WHEN the very same claim comes again, its answer lost THEN it stands, on the new session
    // alone
    let again = world.held(5).await;
    assert!(held.begin().await.is_err());
    let tx = again.begin().await.expect("begun");
    let GuardOutcome::Holds(guarded) = tx
        .guard(&GuardStep::last(Receipt { rows: 7, bytes: 8 }))
        .await
        .expect("no fault")
    else {
        panic!("lost")
    };
    // WHEN it has committed THEN every later claim replays the receipt
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    let later = world
        .target
        .claim(&world.claim_of(6, all()).await)
        .await
        .expect("no fault");
    assert!(matches!(
        later,
        ClaimOutcome::Committed(Receipt { rows: 7, bytes: 8 })
    ));
    // and another version of the spec is told apart while the row is open
    let mut other = world.claim_of(1, all()).await;
    other.task = TaskId::from_bytes([9; 16]);
    drop(world.held_for(&other).await);
    other.fence = fence(2);
    other.spec_digest = DocumentDigest::of(b"another");
    assert!(matches!(
        world.target.claim(&other).await,
        Ok(ClaimOutcome::SpecChanged)
    ));
}

#[tokio::test]
async fn a_claim_that_stopped_halfway_keeps_no_fence_waiting() {
    let mut world = World::with_orders(1).await;
    // GIVEN a claim whose worker is frozen between two statements: it locks its run, and no ledger
    // row names its session
    drop(world.held(1).await);
    let connect = async || {
        PgConnection::connect(&world.server.url("wh"))
            .await
            .expect("connected")
    };
    // AND one of a task that runs alone, which is frozen even earlier and locks the stream
    let mut asleep = [connect().await, connect().await, connect().await];
    let held = [
        "begin; select state from highwater.run for share",
        "begin; select state from highwater.run for share",
        "begin; select cluster_id from highwater.meta for share; \
         update highwater.stream set token = token",
    ];
    for (conn, held) in asleep.iter_mut().zip(held) {
        conn.execute(held).await.expect("as a claim begins");
    }
    world
        .wh
        .execute("select pg_sleep(0.2)")
        .await
        .expect("the server waits");
    // WHEN another run takes the stream, and then the first one is cancelled
    let mut request = prepare_request(world.columns().await);
    (request.stream.run, request.stream.token) = (RunId::from_bytes([8; 16]), fence(2).token);
    assert_eq!(
        world
            .target
            .prepare(&request)
            .await
            .expect("an answer")
            .warnings(),
        Vec::<String>::new()
    );
    world
        .target
        .fence_run(&CLUSTER, &RUN)
        .await
        .expect("fenced");
    // THEN neither waits until the server loses its patience, and the claim is gone
    for conn in &mut asleep {
        assert!(conn.execute("commit").await.is_err());
    }
}

#[tokio::test]
async fn a_stream_is_taken_from_a_run_whose_cancel_was_cut_off() {
    // GIVEN an attempt that has written, of a run whose fence was cut off between its two halves
    let mut world = World::with_orders(10).await;
    let (tx, receipt) = world.written(1).await.expect("written");
    world.wh("update highwater.run set state = 'X'").await;
    // WHEN another run takes the stream
    let mut request = prepare_request(world.columns().await);
    (request.stream.run, request.stream.token) = (RunId::from_bytes([8; 16]), fence(2).token);
    let taken = world.target.prepare(&request).await;
    assert!(matches!(taken, Ok(PrepareOutcome::Prepared { .. })));
    // THEN the attempt commits nothing
    let guarded = tx.guard(&GuardStep::last(receipt)).await;
    assert!(!matches!(guarded, Ok(GuardOutcome::Holds(_))));
    drop(guarded);
    assert_eq!(world.orders().await, 0);
}

#[tokio::test]
async fn another_plan_of_a_run_waits_for_the_runs_own_claims_in_flight() {
    // GIVEN a claim of a run that has locked the run's mark, and no ledger row yet
    let world = World::with_orders(10).await;
    drop(world.held(1).await);
    let connect = async || {
        PgConnection::connect(&world.server.url("wh"))
            .await
            .expect("connected")
    };
    let (mut claiming, mut watcher) = (connect().await, connect().await);
    claiming
        .execute("begin; select state from highwater.run for share")
        .await
        .expect("as a claim begins");
    // WHEN the stream is taken for another plan of the run
    let mut request = prepare_request(world.columns().await);
    (request.stream.plan, request.stream.token) = (
        Some(PlanMark::of(2, &DocumentDigest::of(b"cut otherwise"))),
        fence(2).token,
    );
    let mut taking = pin!(world.target.prepare(&request));
    let waits = async {
        let waiting = "select exists (select from pg_locks where not granted)";
        while !sqlx::query_scalar::<_, bool>(waiting)
            .fetch_one(&mut watcher)
            .await
            .expect("asked")
        {}
    };
    // THEN it waits for the claim
    tokio::select! {
        _ = &mut taking => panic!("it did not wait"),
        () = waits => (),
    }
    claiming.execute("commit").await.expect("claimed");
    let taken = taking.await;
    assert!(matches!(taken, Ok(PrepareOutcome::Prepared { .. })));
}

#[tokio::test]
async fn after_a_fence_no_commit_of_the_run_lands() {
    // GIVEN an attempt that has written, not guarded yet
    let mut world = World::with_orders(10).await;
    let (tx, receipt) = world.written(1).await.expect("written");
    // WHEN the run is fenced
    let report = world
        .target
        .fence_run(&CLUSTER, &RUN)
        .await
        .expect("fenced");
    // THEN its guard does not hold, later claims are refused, and a repeat finds nothing to do
    assert_eq!(report.attempts, 1);
    assert!(matches!(
        tx.guard(&GuardStep::last(receipt)).await,
        Ok(GuardOutcome::Lost)
    ));
    let later = world
        .target
        .claim(&world.claim_of(2, all()).await)
        .await
        .expect("no fault");
    assert!(matches!(later, ClaimOutcome::Superseded));
    assert_eq!(
        world
            .target
            .fence_run(&CLUSTER, &RUN)
            .await
            .expect("fenced")
            .attempts,
        0
    );
    assert_eq!(world.orders().await, 0);
}

#[tokio::test]
async fn a_fence_waits_for_the_guard_in_flight() {
    // GIVEN an attempt between guard and COMMIT
    let mut world = World::with_orders(10).await;
    let guarded = world.guarded(1).await;
    // WHEN the fence and the commit run at once
    let (outcome, report) = {
        let mut fence = pin!(world.target.fence_run(&CLUSTER, &RUN));
        let mut watcher = PgConnection::connect(&world.server.url("wh"))
            .await
            .expect("connected");
        let waits = async {
            let waiting = "select exists (select from pg_locks where not granted)";
            while !sqlx::query_scalar::<_, bool>(waiting)
                .fetch_one(&mut watcher)
                .await
                .expect("asked")
            {}
        };
        tokio::select! {
            _ = &mut fence => panic!("it did not wait"),
            () = waits => (),
        }
        tokio::join!(guarded.commit(), fence)
    };
    // THEN the commit landed before the fence answered, and was not counted as fenced
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
    assert_eq!(report.expect("fenced").attempts, 0);
    assert_eq!(world.orders().await, 10);
}

#[tokio::test]
async fn a_failed_statement_poisons_the_attempt() {
    // GIVEN a target column that one of the rows does not fit, and rows that were there before
    let mut world = World::with_orders(10).await;
    world.wh("alter table orders add check (id <> 7)").await;
    world.wh("insert into orders values (3, 'resident')").await;
    let tx = world.held(1).await.begin().await.expect("begun");
    let mut request = world.write_request(all(), RowFormat::CopyText).await;
    request.resident = ExistingRows::Replace;
    // WHEN it writes
    let message = refused(
        world.write(tx, &request).await,
        ErrorClass::Permanent,
        "constraint_violation",
    );
    assert!(
        message.contains("wh (127.0.0.1:") && message.contains("orders"),
        "{message}"
    );
    // THEN nothing is left that could commit, and what was there still is
    world.no_open_transaction().await;
    assert_eq!(
        world
            .count("select count(*) from orders where note = 'resident'")
            .await,
        1
    );
    let row = world
        .target
        .ledger_row(&RUN, &TASK)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(row.state, LedgerState::Open);
}

/// Polls a future `polls` times, each after the loops beside it have had their turn, and drops it.
async fn drop_after<F: Future>(future: F, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_begin_or_commit_dropped_at_any_await_leaves_no_open_transaction() {
    let mut world = World::with_orders(10).await;
    for polls in 0..6 {
        // GIVEN a claim WHEN its begin is dropped after some polls
        let held = world
            .held(2 * u32::try_from(polls).expect("small") + 1)
            .await;
        drop_after(held.begin(), polls).await;
        // THEN no transaction stays open
        assert!(
            world
                .supervisor
                .wait(std::time::Duration::from_secs(60))
                .await
                .is_ok(),
            "every loop ended"
        );
        world.no_open_transaction().await;
    }
    for polls in 0..6 {
        // GIVEN a guarded transaction of a task of its own WHEN its commit is dropped after some
        // polls
        let mut claim = world.claim_of(1, all()).await;
        claim.task = TaskId::from_bytes([100 + u8::try_from(polls).expect("small"); 16]);
        let tx = world.held_for(&claim).await.begin().await.expect("begun");
        let mut request = world.write_request(all(), RowFormat::CopyText).await;
        request.resident = ExistingRows::Replace;
        world.wh("delete from orders").await;
        let (tx, receipt) = world.write(tx, &request).await.expect("written");
        let GuardOutcome::Holds(guarded) =
            tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
        else {
            panic!("lost")
        };
        drop_after(guarded.commit(), polls).await;
        // THEN no transaction stays open, and ledger and rows agree: both committed, or neither
        assert!(
            world
                .supervisor
                .wait(std::time::Duration::from_secs(60))
                .await
                .is_ok(),
            "every loop ended"
        );
        world.no_open_transaction().await;
        let row = world
            .target
            .ledger_row(&RUN, &claim.task)
            .await
            .expect("read")
            .expect("there");
        assert_eq!(
            world.orders().await,
            if row.state == LedgerState::Committed {
                10
            } else {
                0
            },
            "{polls} polls"
        );
    }
}

#[tokio::test]
async fn a_write_dropped_in_the_middle_of_its_copy_leaves_nothing() {
    // GIVEN an attempt in the middle of a COPY of 200,000 rows
    let mut world = World::with_orders(200_000).await;
    let tx = world.held(1).await.begin().await.expect("begun");
    let request = world.write_request(all(), RowFormat::CopyBinary).await;
    {
        let mut write = pin!(world.write(tx, &request));
        let mut progress = PgConnection::connect(&world.server.url("wh"))
            .await
            .expect("connected");
        let copying = async {
            let busy = "select exists (select from pg_stat_progress_copy where tuples_processed > \
                        1000)";
            while !sqlx::query_scalar::<_, bool>(busy)
                .fetch_one(&mut progress)
                .await
                .expect("asked")
            {}
        };
        // WHEN it is dropped there
        tokio::select! {
            _ = &mut write => panic!("too fast to be dropped"),
            () = copying => (),
        }
    }
    // THEN its session ends and not one row is there
    world.no_open_transaction().await;
    assert_eq!(world.orders().await, 0);
}

#[tokio::test]
async fn a_cluster_that_lost_the_target_commits_nothing_more() {
    // GIVEN an attempt that has written all its rows
    let mut world = World::with_orders(50).await;
    let (open, receipt) = world.written(1).await.expect("written");
    let claim = world.claim_of(2, all()).await;
    // WHEN another cluster adopts the target
    let other = highwater_common::id::ClusterId::from_bytes([7; 16]);
    assert_eq!(
        world.target.adopt(&other).await.expect("adopted"),
        Some(CLUSTER)
    );
    // THEN the attempt's guard does not hold, nothing of it is there, and the former cluster claims
    // nothing
    assert!(matches!(
        open.guard(&GuardStep::last(receipt)).await,
        Ok(GuardOutcome::Lost)
    ));
    assert_eq!(world.orders().await, 0);
    let refused = world
        .target
        .claim(&claim)
        .await
        .expect_err("another cluster's");
    assert_eq!(refused.report.code, "target_of_another_cluster");
}

#[tokio::test]
async fn an_adoption_that_is_cut_off_has_taken_nothing() {
    // GIVEN an attempt that has written all its rows, and somebody who holds its ledger row
    let mut world = World::with_orders(50).await;
    let (open, receipt) = world.written(1).await.expect("written");
    let mut holder = PgConnection::connect(&world.server.url("wh"))
        .await
        .expect("connected");
    sqlx::raw_sql("begin; select from highwater.task for update")
        .execute(&mut holder)
        .await
        .expect("held");
    let other = highwater_common::id::ClusterId::from_bytes([7; 16]);
    {
        let mut adopting = pin!(world.target.adopt(&other));
        let mut progress = PgConnection::connect(&world.server.url("wh"))
            .await
            .expect("connected");
        let fencing = async {
            let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' \
                         and query like 'update highwater.task%')";
            while !sqlx::query_scalar::<_, bool>(waits)
                .fetch_one(&mut progress)
                .await
                .expect("asked")
            {}
        };
        // WHEN another cluster's adoption is given up while it waits for that row
        tokio::select! {
            _ = &mut adopting => panic!("it has to wait"),
            () = fencing => (),
        }
    }
    sqlx::raw_sql("rollback")
        .execute(&mut holder)
        .await
        .expect("let go");
    // THEN the target is still the first one's, so that the next adoption fences the attempt
    assert_eq!(
        world.target.adopt(&other).await.expect("adopted"),
        Some(CLUSTER)
    );
    assert!(matches!(
        open.guard(&GuardStep::last(receipt)).await,
        Ok(GuardOutcome::Lost)
    ));
    assert_eq!(world.orders().await, 0);
}

/// What a role of these rights is told that claims the task of another role's attempt, which stands
/// between its guard and its COMMIT and holds the ledger row; that attempt commits all the same.
async fn told_by_a_living_attempt(rights: &str) -> String {
    let mut world = World::with_orders(10).await;
    let zombie = world.guarded(1).await;
    world
        .wh(&format!(
            "create role clerk login password '{PASSWORD}'; grant usage on schema highwater to \
             clerk; grant all on all tables in schema public, highwater to clerk; \
             grant execute on function pg_control_system to clerk; {rights}",
            PASSWORD = server::PASSWORD
        ))
        .await;
    let url = world.server.url_as("clerk", server::PASSWORD, "wh");
    let options = SessionOptions {
        claim_lock_timeout: std::time::Duration::from_millis(100),
        ..SessionOptions::default()
    };
    let clerk = PostgresTarget::with_options(
        &url,
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
        options,
    );
    let claim = world.claim_of(2, all()).await;
    let message = refused(
        clerk.expect("a good url").claim(&claim).await,
        ErrorClass::Resource,
        "claim_blocked",
    );
    assert!(matches!(zombie.commit().await, CommitOutcome::Committed(_)));
    message
}

#[tokio::test]
async fn a_session_that_cannot_be_seen_is_not_taken_for_gone() {
    // WHEN a role claims that may not see since when that session lives
    let message = told_by_a_living_attempt("").await;
    // THEN it says which rights are missing
    assert!(
        message.contains("pg_read_all_stats") && message.contains("pg_signal_backend"),
        "{message}"
    );
}

#[tokio::test]
async fn a_session_that_may_not_be_ended_is_left_and_the_right_is_named() {
    // WHEN a role claims that may see that session, and not end it
    let message = told_by_a_living_attempt("grant pg_read_all_stats to clerk").await;
    // THEN it says which right is missing
    assert!(
        message.contains("pg_signal_backend") && !message.contains("pg_read_all_stats"),
        "{message}"
    );
}
