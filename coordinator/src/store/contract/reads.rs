//! Reads see what was applied before, scans see one instant, hints come.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{PATIENCE, StoreFixture, apply, delete, get, put};
use crate::store::{Key, Op, RecordStore, Value};

/// The order of keys is the order of their bytes, and a prefix is a prefix of bytes.
pub async fn a_scan_goes_by_bytes_and_stays_below_its_prefix(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    // GIVEN keys on both sides of a prefix, put out of order
    let keys = [
        "att/10/a",
        "att/1/b",
        "att/1",
        "att/1/a",
        "att/1/B",
        "att/1/\u{e9}",
        "att/1/\u{10ffff}",
        "att/1//",
        "att0",
        "b",
    ];
    apply(
        &*store,
        keys.iter()
            .rev()
            .map(|key| put(key, key.as_bytes()))
            .collect(),
    )
    .await;
    // THEN what lies below comes in the order of bytes, with its values
    let below = [
        "att/1//",
        "att/1/B",
        "att/1/a",
        "att/1/b",
        "att/1/\u{e9}",
        "att/1/\u{10ffff}",
    ];
    let expected: Vec<_> = below
        .iter()
        .map(|key| ((*key).to_owned(), key.as_bytes().to_vec()))
        .collect();
    assert_eq!(scan(&*store, "att/1/").await, expected);
    // THEN the empty prefix is above all, and nothing lies below a prefix that no key has
    assert_eq!(scan(&*store, "").await.len(), keys.len());
    assert_eq!(scan(&*store, "seg/").await, []);
}

/// Neither the last page nor an exact one is lost or told twice.
pub async fn a_scan_ends_where_its_pages_do(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    let mut count = 0;
    for step in [1, 126, 1, 1, 126, 1, 1] {
        apply_in_batches(
            &*store,
            (count..count + step)
                .map(|n| put(&format!("att/{n:04}"), b"v"))
                .collect(),
        )
        .await;
        count += step;
        let keys: Vec<Key> = scan(&*store, "att/")
            .await
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        let expected: Vec<Key> = (0..count).map(|n| format!("att/{n:04}")).collect();
        assert_eq!(keys, expected);
    }
}

/// The view that a new leader loads must never have been torn.
pub async fn a_scan_of_many_pages_is_one_instant_while_others_write(fixture: &impl StoreFixture) {
    const RECORDS: usize = 1_200;
    let (store, writer) = (fixture.client().await, fixture.client().await);
    let key = |n: usize| format!("seg/{n:04}");
    // A value is 4 KiB of one byte.
    let value = |round: u8| vec![round; 4096];
    apply_in_batches(
        &*store,
        (0..RECORDS).map(|n| put(&key(n), &value(0))).collect(),
    )
    .await;
    // GIVEN a writer that changes far apart records together, and adds one and removes one
    let done = AtomicBool::new(false);
    let write = async {
        let mut round = 0_u8;
        while !done.load(Ordering::Relaxed) {
            round = round.wrapping_add(1);
            let spread = [0, 127, 128, 400, 800, RECORDS - 1];
            let mut ops: Vec<Op> = spread
                .iter()
                .map(|n| put(&key(*n), &value(round)))
                .collect();
            let (comes, goes) = if round.is_multiple_of(2) {
                (300, 900)
            } else {
                (900, 300)
            };
            ops.extend([put(&key(comes), &value(0)), delete(&key(goes))]);
            apply(&*writer, ops).await;
            // A store in memory never waits, and the reader must have its turn.
            tokio::task::yield_now().await;
        }
        round
    };
    // THEN every scan sees them of one round, and one of the pair
    let read = async {
        for _ in 0..10 {
            let records = scan(&*store, "seg/").await;
            assert!(records.is_sorted_by(|(a, _), (b, _)| a < b));
            assert!(
                matches!(records.len(), RECORDS | 1_199),
                "{}",
                records.len()
            );
            let round_of = |n: usize| {
                records
                    .iter()
                    .find(|(k, _)| *k == key(n))
                    .map(|(_, value)| value[0])
            };
            let first = round_of(0);
            assert!(
                [127, 128, 400, 800, RECORDS - 1]
                    .into_iter()
                    .all(|n| round_of(n) == first)
            );
            assert!(first == Some(0) || round_of(300).is_some() != round_of(900).is_some());
        }
        done.store(true, Ordering::Relaxed);
    };
    let (rounds, ()) = tokio::join!(write, read);
    assert!(rounds > 0);
}

/// A page holds many records, whatever their size.
pub async fn a_scan_of_large_values_comes_whole(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    let value = vec![7; 100 * 1024];
    for batch in 0..10 {
        apply(
            &*store,
            (0..5)
                .map(|n| put(&format!("seg/{batch}{n}"), &value))
                .collect(),
        )
        .await;
    }
    let records = scan(&*store, "seg/").await;
    assert_eq!(records.len(), 50);
    assert!(records.iter().all(|(_, read)| *read == value));
}

/// Whoever was told `Applied` can tell another, who then sees it.
pub async fn a_read_sees_what_was_applied_before_it(fixture: &impl StoreFixture) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    for round in 0..50_u8 {
        apply(&*one, vec![put("run/1", &[round])]).await;
        assert_eq!(get(&*other, "run/1").await, Some(vec![round]));
        assert_eq!(
            scan(&*other, "run/").await,
            [("run/1".to_owned(), vec![round])]
        );
    }
}

/// A hint may come late or for nothing, but it comes.
pub async fn a_change_wakes_those_who_wait_for_it(fixture: &impl StoreFixture) {
    let (store, other) = (fixture.client().await, fixture.client().await);
    let mut hints = store.hints("run/").await.expect("the store answers");
    for op in [put("run/1", b"A"), put("run/1", b"B"), delete("run/1")] {
        // GIVEN someone who has seen all so far
        hints.borrow_and_update();
        // WHEN another client changes a record below the prefix
        apply(&*other, vec![op]).await;
        // THEN a hint comes
        let hint = tokio::time::timeout(PATIENCE, hints.changed()).await;
        hint.expect("a hint comes in time")
            .expect("the store is still there");
    }
}

/// Compaction takes nothing that a read could miss.
pub async fn the_history_can_go_and_the_records_stay(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    for round in 0..3_u8 {
        for value in 0..5_u8 {
            apply(
                &*store,
                vec![put("run/1", &[round, value]), put("run/2", b"same")],
            )
            .await;
        }
        store.compact().await.expect("the store answers");
        let expected = [
            ("run/1".to_owned(), vec![round, 4]),
            ("run/2".to_owned(), b"same".to_vec()),
        ];
        assert_eq!(scan(&*store, "run/").await, expected);
    }
}

/// People want to know where their records are, and how large.
pub async fn a_store_can_be_named_and_measured(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    apply(&*store, vec![put("run/1", &[1; 1024])]).await;
    assert!(!store.place().is_empty());
    assert!(store.size_bytes().await.expect("the store answers") >= 1024);
}

async fn scan(store: &dyn RecordStore, prefix: &str) -> Vec<(Key, Value)> {
    store.scan(prefix).await.expect("the store answers")
}

async fn apply_in_batches(store: &dyn RecordStore, ops: Vec<Op>) {
    for batch in ops.chunks(100) {
        apply(store, batch.to_vec()).await;
    }
}
