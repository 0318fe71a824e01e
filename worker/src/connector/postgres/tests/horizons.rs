//! Which transactions hold a horizon back, and that none is overlooked.

use highwater_common::spec::HorizonRule;
use highwater_common::window::Horizon;

use super::*;
use crate::connector::HorizonRequest;

async fn horizon(world: &World, kind: CursorKind) -> Horizon {
    let request = HorizonRequest {
        table: table_name("orders"),
        column: "id".to_owned(),
        kind,
        rule: HorizonRule::Auto,
    };
    let horizons = world.source.horizons().expect("it can");
    horizons.horizon(&request).await.expect("it is told")
}

/// What the server's clock shows, in microseconds since 1970.
async fn now(world: &mut World) -> i64 {
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";
    sqlx::query_scalar(now)
        .fetch_one(&mut world.legacy)
        .await
        .expect("a clock")
}

#[tokio::test]
async fn our_own_readers_hold_no_horizon_back() {
    let mut world = World::with_orders(200_000).await;
    let before = now(&mut world).await;
    // GIVEN a read of ours that is under way
    let reading = world
        .read(Slice::Range(CursorRange::ALL), RowFormat::CopyText)
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    // THEN what is written now is safe soon, and numbers are at once
    for kind in [CursorKind::Instant, CursorKind::Integer] {
        let found = horizon(&world, kind).await;
        assert!(found.drained && found.held_by.is_none(), "{found:?}");
        assert!(found.instant.expect("known") > before, "{found:?}");
    }
    drop(reading);
}

#[tokio::test]
async fn a_transaction_that_is_open_holds_the_horizon_back_and_is_named() {
    let mut world = World::with_orders(1).await;
    let began = now(&mut world).await;
    // GIVEN a session that has begun, has written nothing yet, and could
    world
        .legacy("set application_name = 'nightly'; begin")
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    // THEN the horizon lies before it, and numbers are not safe
    let found = horizon(&world, CursorKind::Instant).await;
    assert!(
        found.instant.expect("known") < began + 1_000_000,
        "{found:?}"
    );
    let found = horizon(&world, CursorKind::Integer).await;
    assert!(!found.drained);
    let held_by = found.held_by.expect("somebody");
    assert!(held_by.contains("nightly"), "{held_by}");
    // AND once it has ended they are
    world.legacy("commit").await;
    assert!(horizon(&world, CursorKind::Integer).await.drained);
}

#[tokio::test]
async fn a_session_that_hides_what_it_does_is_not_taken_for_idle() {
    let mut world = World::with_orders(1).await;
    world
        .legacy("set track_activities = off; begin; update orders set note = 'x'")
        .await;
    let found = horizon(&world, CursorKind::Instant).await;
    assert_eq!(found.instant, None);
    let held_by = found.held_by.expect("somebody");
    assert!(held_by.contains("track_activities"), "{held_by}");
}
