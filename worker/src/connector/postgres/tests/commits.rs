//! The end of an attempt: what the server's answer to COMMIT means, and what has to stand before
//! it.

use std::pin::pin;

use highwater_common::commit::LedgerState;

use super::*;
use crate::attempt::begin_with_rows;

/// A constraint of the target that is checked when the transaction commits, and refuses row 7 with
/// this state.
fn refuse_at_commit(state: &str) -> String {
    format!(
        "create function refuse() returns trigger language plpgsql as $$ begin \
           if new.id = 7 then raise exception 'no sevens' using errcode = '{state}', constraint = \
           'no_sevens'; end if; \
           return null; end $$; \
           create constraint trigger no_sevens after insert on orders deferrable initially deferred \
           for each row execute function refuse()"
    )
}

#[tokio::test]
async fn the_servers_answer_to_a_commit_is_an_answer() {
    for (state, class, code) in [
        ("23503", ErrorClass::Permanent, "constraint_violation"),
        ("P0001", ErrorClass::Permanent, "refused_by_server"),
        ("40001", ErrorClass::Transient, "serialization_failure"),
        ("40P01", ErrorClass::Transient, "deadlock"),
    ] {
        // GIVEN a target that finds at COMMIT that a row may not be there
        let mut world = World::with_orders(10).await;
        world.wh(&refuse_at_commit(state)).await;
        // WHEN an attempt commits
        let outcome = world.guarded(1).await.commit().await;
        // THEN it is refused, for the server's reason, and is what the reason says: to be tried
        // again, or not
        let CommitOutcome::Refused(error) = outcome else {
            panic!("{state}: {outcome:?}")
        };
        let said = &error.report.message;
        assert_eq!(
            (error.report.class, error.report.code.as_str()),
            (class, code),
            "{said}"
        );
        assert!(
            said.contains(&format!("SQLSTATE {state}")) && said.contains("constraint no_sevens"),
            "{said}"
        );
        // and nothing of it is there
        world.no_open_transaction().await;
        assert_eq!(world.orders().await, 0);
        let row = world
            .target
            .ledger_row(&RUN, &TASK)
            .await
            .expect("read")
            .expect("there");
        assert_eq!(row.state, LedgerState::Open);
    }
}

#[tokio::test]
async fn a_session_that_ends_over_its_commit_is_no_answer() {
    // GIVEN a target whose session is ended by what it does at COMMIT
    let mut world = World::with_orders(10).await;
    world
        .wh(
            "create function leave() returns trigger language plpgsql as $$ begin \
               perform pg_terminate_backend(pg_backend_pid()); return null; end $$; \
             create constraint trigger leave after insert on orders deferrable initially deferred \
               for each row execute function leave()",
        )
        .await;
    // WHEN an attempt commits THEN only the ledger knows
    assert!(matches!(
        world.guarded(1).await.commit().await,
        CommitOutcome::Unknown(_)
    ));
}

#[tokio::test]
async fn a_source_slower_than_the_idle_timeout_is_loaded() {
    // GIVEN a target that ends a transaction which idles for 400 ms, and a source that needs longer
    // than that to its first row, and once more in the middle
    let mut world = World::with_orders(4_000).await;
    let options = SessionOptions {
        idle_in_transaction_timeout: std::time::Duration::from_millis(400),
        ..SessionOptions::default()
    };
    let url = world.server.url("wh");
    let target = PostgresTarget::with_options(
        &url,
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
        options,
    );
    world.target = target.expect("a good url");
    world
        .legacy(
            "create function slow(id bigint) returns text language plpgsql volatile as $$ begin \
               if id in (1, 3000) then perform pg_sleep(1.5); end if; return repeat('x', 400); end \
               $$; \
               create view slow_orders as select id, slow(id) as note from orders",
        )
        .await;
    let mut read = world.read_request(all(), RowFormat::CopyText).await;
    read.relation = table_name("slow_orders").into();
    // WHEN an attempt moves it
    let claimed = world.held(1).await;
    let (tx, mut rows) = begin_with_rows(world.source.read(&read), claimed)
        .await
        .expect("begun");
    let request = world.write_request(all(), RowFormat::CopyText).await;
    let (tx, receipt) = tx.write(&request, rows.as_mut()).await.expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("lost")
    };
    // THEN it commits, and every row is there
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    assert_eq!(
        world
            .count("select count(*) from orders where length(note) = 400")
            .await,
        4_000
    );
}

#[tokio::test]
async fn a_data_transaction_commits_to_disk_whatever_the_role_says() {
    // GIVEN a role of the target that does not wait for the disk, and a trigger that notes how its
    // transaction commits
    let mut world = World::with_orders(10).await;
    world
        .wh("alter role postgres set synchronous_commit = off; create table found (setting text); \
             create function note() returns trigger language plpgsql as $$ begin \
             insert into found values (current_setting('synchronous_commit')); return null; end $$; \
             create trigger note after insert on orders for each statement execute function \
             note()")
        .await;
    // WHEN an attempt commits
    assert!(matches!(
        world.guarded(1).await.commit().await,
        CommitOutcome::Committed(_)
    ));
    // THEN it waited for the disk
    assert_eq!(
        world
            .count("select count(*) from found where setting = 'on'")
            .await,
        1
    );
    assert_eq!(world.count("select count(*) from found").await, 1);
}

/// What comes of the next claim of a run that was claimed before, while somebody else has `said`
/// something in a transaction that only commits once the claim waits for it.
async fn claimed_behind(
    world: &mut World,
    said: &'static str,
) -> Result<ClaimOutcome, ConnectorError> {
    drop(world.held(1).await);
    let claim = world.claim_of(2, all()).await;
    let mut other = PgConnection::connect(&world.server.url("wh"))
        .await
        .expect("connected");
    other.execute("begin").await.expect("begun");
    other.execute(said).await.expect("said");
    let outcome = {
        let mut claiming = pin!(world.target.claim(&claim));
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
            outcome = &mut claiming => panic!("it did not wait: {outcome:?}"),
            () = waits => (),
        }
        other.execute("commit").await.expect("committed");
        claiming.await
    };
    let open = "select count(*) from highwater.task where token = (1::int8 << 24 | 2)";
    assert_eq!(world.count(open).await, 0, "nothing of it is open");
    outcome
}

#[tokio::test]
async fn a_claim_waits_for_the_fence_that_is_on_its_way() {
    // GIVEN a run that was claimed before, and somebody who is about to fence it
    let mut world = World::with_orders(10).await;
    // WHEN the next attempt claims meanwhile THEN it does not go on before the fence stands, and
    // then it is refused
    let outcome = claimed_behind(&mut world, "update highwater.run set state = 'X'").await;
    assert!(
        matches!(outcome, Ok(ClaimOutcome::Superseded)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_claim_waits_for_the_adoption_that_is_on_its_way() {
    // GIVEN a target that another cluster is about to adopt
    let mut world = World::with_orders(10).await;
    // WHEN an attempt claims meanwhile THEN it does not go on before the target has changed hands,
    // and then it is refused
    let adopts = "update highwater.meta set cluster_id = gen_random_uuid()";
    let outcome = claimed_behind(&mut world, adopts).await.map(drop);
    let message = refused(outcome, ErrorClass::Permanent, "target_of_another_cluster");
    assert!(message.contains("cluster adopt"), "{message}");
}

#[tokio::test]
async fn a_target_restored_from_a_dump_keeps_its_receipts() {
    // GIVEN a target whose table has rows and a receipt of them
    let mut world = World::with_orders(10).await;
    let outcome = world.guarded(1).await.commit().await;
    assert!(
        matches!(outcome, CommitOutcome::Committed(_)),
        "{outcome:?}"
    );
    // WHEN a dump of it is put into another database, where the table has another oid
    world.wh("create database restored").await;
    let spent = "do $$ begin for n in 1..50 loop execute 'create table spent' || n || '()'; end loop; end $$";
    let mut restored = PgConnection::connect(&world.server.url("restored"))
        .await
        .expect("connected");
    restored.execute(spent).await.expect("made");
    world.server.restore("wh", "restored");
    let oid = "select 'orders'::regclass::oid::int8";
    let (there, here): (i64, i64) = (
        sqlx::query_scalar(oid)
            .fetch_one(&mut restored)
            .await
            .expect("read"),
        world.count(oid).await,
    );
    assert_ne!(there, here);
    // THEN the table there is not taken for another one: its rows came with their receipt
    let name = "restored".parse().expect("a name");
    let target = PostgresTarget::new(
        &world.server.url("restored"),
        name,
        world.supervisor.clone(),
    )
    .expect("a good url");
    let prepared = target
        .prepare(&prepare_request(world.columns().await))
        .await;
    assert!(
        matches!(prepared, Ok(PrepareOutcome::Prepared { .. })),
        "{prepared:?}"
    );
    // AND one that is made anew is, from then on
    let remake = "drop table orders; create table orders (id bigint primary key, note text); \
                  insert into orders values (1, 'mine')";
    restored
        .execute(sqlx::raw_sql(remake))
        .await
        .expect("made anew");
    refused(
        target
            .prepare(&prepare_request(world.columns().await))
            .await,
        ErrorClass::Permanent,
        "receipts_without_rows",
    );
}
