//! A leadership is held by one, for as long as its holder lives, and not much longer.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, StoreFixture, apply, bytes, commit, delete, get, put};
use crate::store::{Campaign, Leadership, RecordStore, TxnOutcome, Value};

/// The second candidate learns who holds it.
pub async fn an_office_is_held_by_one(fixture: &impl StoreFixture) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    let leadership = win(&*one, b"one", long()).await;
    assert_eq!(held_by(&*other, long()).await, b"one");
    assert_eq!(held_by(&*one, long()).await, b"one");
    assert!(!*leadership.lost().borrow());
}

/// However many start together.
pub async fn of_many_candidates_exactly_one_wins(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    for round in 0..5_u8 {
        let campaigns = (0..8_u8).map(|n| store.campaign("leader", vec![round, n], long()));
        let mut won = Vec::new();
        let mut held = Vec::new();
        for campaign in join_all(campaigns).await {
            match campaign.expect("the store answers") {
                Campaign::Won(leadership) => won.push(leadership),
                Campaign::Held(value) => held.push(value),
            }
        }
        let leader = get(&*store, "leader").await.expect("somebody won");
        assert_eq!((won.len(), held.len()), (1, 7));
        assert!(held.iter().all(|value| *value == leader));
        won.remove(0).resign().await.expect("the store answers");
    }
}

/// Renewal is the term's own business.
pub async fn a_living_reign_outlasts_its_ttl<F: StoreFixture>(fixture: &F) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    let leadership = win(&*one, b"one", F::TTL).await;
    // WHEN two and a half times to live pass
    let mut lost = leadership.lost();
    assert!(
        timeout(F::TTL * 5 / 2, lost.wait_for(|lost| *lost))
            .await
            .is_err(),
        "the office was lost"
    );
    // THEN it is still held
    assert_eq!(held_by(&*other, F::TTL).await, b"one");
    assert_eq!(get(&*other, "leader").await, Some(b"one".to_vec()));
}

/// A leader that goes in an orderly way does not keep its successor waiting.
pub async fn a_resigned_office_is_free_at_once(fixture: &impl StoreFixture) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    for round in 0..3_u8 {
        let leadership = win(&*one, &[round], long()).await;
        let mut lost = leadership.lost();
        leadership.resign().await.expect("the store answers");
        // THEN the record is gone, and whoever still asks the term learns that it is over
        assert_eq!(get(&*other, "leader").await, None);
        timeout(PATIENCE, lost.wait_for(|lost| *lost))
            .await
            .expect("it ends in time")
            .expect("it says so");
        win(&*other, b"other", long())
            .await
            .resign()
            .await
            .expect("the store answers");
    }
}

/// A holder that died, as far as the store can see.
pub async fn an_office_that_was_let_go_is_free_after_its_ttl<F: StoreFixture>(fixture: &F) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    let leadership = win(&*one, b"one", F::TTL).await;
    let mut lost = leadership.lost();
    // WHEN its term is dropped
    drop(leadership);
    let dropped = Instant::now();
    timeout(PATIENCE, lost.wait_for(|lost| *lost))
        .await
        .expect("it ends in time")
        .expect("it says so");
    // THEN it stays held for a while, and can be won after
    assert_eq!(held_by(&*other, F::TTL).await, b"one");
    let mut hints = other.hints("leader").await.expect("the store answers");
    let leadership = loop {
        match other
            .campaign("leader", b"other".to_vec(), F::TTL)
            .await
            .expect("the store answers")
        {
            Campaign::Won(leadership) => break leadership,
            Campaign::Held(value) => assert_eq!(value, b"one"),
        }
        assert!(dropped.elapsed() < PATIENCE, "the office stays held");
        // A hint may miss, so whoever waits for a leadership also asks now and then.
        timeout(F::TTL / 4, hints.changed()).await.ok();
    };
    assert_eq!(get(&*one, "leader").await, Some(b"other".to_vec()));
    assert!(!*leadership.lost().borrow());
}

/// A holder that overslept the end of its leadership.
pub async fn a_late_resignation_does_not_touch_a_successor(fixture: &impl StoreFixture) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    // GIVEN a leadership that went to somebody else without its holder's doing
    let old = win(&*one, b"one", long()).await;
    apply(&*other, vec![delete("leader")]).await;
    let new = win(&*other, b"other", long()).await;
    // WHEN the old holder resigns
    old.resign().await.expect("the store answers");
    // THEN the new one keeps it
    assert_eq!(get(&*one, "leader").await, Some(b"other".to_vec()));
    assert!(!*new.lost().borrow());
}

/// Every transaction of a leader compares its leadership.
pub async fn the_record_of_an_office_is_read_and_compared_like_any_other(
    fixture: &impl StoreFixture,
) {
    let store = fixture.client().await;
    let leadership = win(&*store, b"U", long()).await;
    assert_eq!(
        store.scan("lead").await.expect("the store answers"),
        [("leader".to_owned(), b"U".to_vec())]
    );
    assert_eq!(
        commit(&*store, vec![bytes("leader", b"U")], vec![put("hi", &[1])]).await,
        TxnOutcome::Applied
    );
    leadership.resign().await.expect("the store answers");
    let refused = TxnOutcome::Refused(vec![("leader".to_owned(), None)]);
    assert_eq!(
        commit(&*store, vec![bytes("leader", b"U")], vec![put("hi", &[2])]).await,
        refused
    );
}

/// The lease belongs to the record that the campaign put, not to its key.
pub async fn a_record_put_over_an_office_outlives_its_lease(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    let leadership = win(&*store, b"U", long()).await;
    apply(&*store, vec![put("leader", b"plain")]).await;
    leadership.resign().await.expect("the store answers");
    assert_eq!(get(&*store, "leader").await, Some(b"plain".to_vec()));
}

/// For cases that never wait for an end.
fn long() -> Duration {
    Duration::from_secs(60)
}

async fn win(store: &dyn RecordStore, value: &[u8], ttl: Duration) -> Box<dyn Leadership> {
    match store
        .campaign("leader", value.to_vec(), ttl)
        .await
        .expect("the store answers")
    {
        Campaign::Won(leadership) => leadership,
        Campaign::Held(value) => panic!("the office is held by {value:?}"),
    }
}

async fn held_by(store: &dyn RecordStore, ttl: Duration) -> Value {
    match store
        .campaign("leader", b"a rival".to_vec(), ttl)
        .await
        .expect("the store answers")
    {
        Campaign::Won(_) => panic!("the office was free"),
        Campaign::Held(value) => value,
    }
}
