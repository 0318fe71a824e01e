//! Sessions between two tasks: what is kept, as what it comes back, and what is never kept.

use highwater_common::id::TaskId;

use super::super::SessionPool;
use super::*;

/// Sessions of the connector in the target.
const SESSIONS: &str = "select count(*) from pg_stat_activity where application_name = 'highwater' \
                        and datname = 'wh'";

/// A world of 10 orders whose target keeps its sessions.
async fn keeping() -> World {
    let mut world = World::with_orders(10).await;
    let target = PostgresTarget::new(
        &world.server.url("wh"),
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
    );
    world.target = target
        .expect("a good url")
        .keeping(Some(SessionPool::new(world.supervisor.clone())));
    world
}

/// Loads a slice as a task of its own.
async fn load(world: &World, lo: u8, slice: Slice) {
    let mut claim = world.claim_of(lo.into(), slice).await;
    claim.task = TaskId::from_bytes([lo; 16]);
    let tx = world.held_for(&claim).await.begin().await.expect("begun");
    let request = world.write_request(slice, RowFormat::CopyBinary).await;
    let (tx, receipt) = world.write(tx, &request).await.expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("the guard is lost")
    };
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
}

async fn no_session_is_left(world: &mut World) {
    for _ in 0..500 {
        // The probes of this test open sessions of their own, and close them.
        if world.count(SESSIONS).await == 0 {
            return;
        }
        world
            .wh
            .execute("select pg_sleep(0.02)")
            .await
            .expect("wh waits");
    }
    panic!("a session stays open");
}

#[tokio::test]
async fn a_session_that_committed_serves_the_next_task_as_a_new_one() {
    // GIVEN a trigger that notes what it finds in its session, and leaves a setting, a lock and a
    // table behind
    let mut world = keeping().await;
    world
        .wh(
            "create table found (setting text, tables bigint, locks bigint); \
             create function note() returns trigger language plpgsql as $$ begin \
             insert into found values (coalesce(current_setting('test.left', true), ''), \
             (select count(*) from pg_class where relname = 'left_behind'), \
             (select count(*) from pg_locks where locktype = 'advisory' and pid = \
             pg_backend_pid())); \
             perform set_config('test.left', 'something', false), pg_advisory_lock(7); \
             create temporary table left_behind (); return null; end $$; \
             create trigger note before insert on orders for each statement execute function \
             note()",
        )
        .await;
    // WHEN two tasks are loaded, one after the other
    load(&world, 1, ids(None, Some(5))).await;
    load(&world, 2, ids(Some(5), None)).await;
    // THEN one session did both, and the second task found nothing of the first in it
    assert_eq!(
        world
            .count("select count(distinct (session_id, session_start)) from highwater.task")
            .await,
        1
    );
    assert_eq!(
        world
            .count(
                "select count(*) from found where setting = '' and tables = 0 and locks \
                            = 0"
            )
            .await,
        2
    );
    assert_eq!(world.orders().await, 10);
}

#[tokio::test]
async fn a_session_that_lost_its_guard_or_met_an_error_is_closed() {
    let mut world = keeping().await;
    // GIVEN an attempt that has written everything, and a later one that outran it
    let (outrun, receipt) = world.written(1).await.expect("written");
    let ended = world.held(2).await;
    // WHEN the first one comes to its guard, on a session that was ended, and the other is dropped
    assert!(!matches!(
        outrun.guard(&GuardStep::last(receipt)).await,
        Ok(GuardOutcome::Holds(_))
    ));
    drop(ended);
    // THEN neither session is kept
    no_session_is_left(&mut world).await;
}

#[tokio::test]
async fn a_kept_session_that_died_is_replaced() {
    let mut world = keeping().await;
    // GIVEN a kept session that the server has ended meanwhile
    load(&world, 1, ids(None, Some(5))).await;
    world
        .wh(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = \
              'highwater'",
        )
        .await;
    // WHEN the next task is loaded
    load(&world, 2, ids(Some(5), None)).await;
    // THEN it did not notice
    assert_eq!(world.orders().await, 10);
}

#[tokio::test]
async fn a_session_that_nobody_takes_up_is_closed() {
    let mut world = keeping().await;
    load(&world, 1, all()).await;
    no_session_is_left(&mut world).await;
}

#[tokio::test]
async fn kept_sessions_are_closed_with_the_worker() {
    let mut world = keeping().await;
    load(&world, 1, all()).await;
    world.supervisor.cancel_token().cancel();
    assert!(
        world
            .supervisor
            .wait(std::time::Duration::from_secs(60))
            .await
            .is_ok(),
        "every loop ended"
    );
    no_session_is_left(&mut world).await;
}
