use std::convert::Infallible;
use std::sync::Arc;

use super::*;
use crate::store::faulty::{Fault, Faulty};
use crate::store::memory::MemoryStore;

fn increment(value: Option<&[u8]>) -> Result<Decision, Infallible> {
    Ok(Decision::Put(vec![value.map_or(0, |value| value[0]) + 1]))
}

async fn put(store: &MemoryStore, key: &str, value: &[u8]) {
    let ops = vec![Op::Put(key.to_owned(), value.to_vec())];
    assert_eq!(
        store
            .commit(StoreTxn {
                expects: vec![],
                ops
            })
            .await
            .unwrap(),
        TxnOutcome::Applied
    );
}

#[tokio::test]
async fn a_record_is_made_changed_kept_and_removed() {
    let store = MemoryStore::new();
    let made = update(&store, &[], "run/1", 1, increment).await.unwrap();
    assert_eq!(made, Updated::Applied(Some(vec![1])));
    let changed = update(&store, &[], "run/1", 1, increment).await.unwrap();
    assert_eq!(changed, Updated::Applied(Some(vec![2])));
    let kept = update(&store, &[], "run/1", 1, |_| {
        Ok::<_, Infallible>(Decision::Keep)
    })
    .await
    .unwrap();
    assert_eq!(kept, Updated::Kept(Some(vec![2])));
    let removed = update(&store, &[], "run/1", 1, |_| {
        Ok::<_, Infallible>(Decision::Delete)
    })
    .await
    .unwrap();
    assert_eq!(
        (removed, store.get("run/1").await.unwrap()),
        (Updated::Applied(None), None)
    );
}

#[tokio::test]
async fn whoever_is_outrun_decides_again_on_the_new_value() {
    // GIVEN a record that another client changes while the first decision is made
    let store = MemoryStore::new();
    put(&store, "run/1", &[10]).await;
    let mut seen = Vec::new();
    // WHEN it is updated
    let outcome = update(&store, &[], "run/1", 2, |value| {
        if seen.is_empty() {
            futures_util::FutureExt::now_or_never(put(&store, "run/1", &[20]))
                .expect("memory does not wait");
        }
        seen.push(value.map(<[u8]>::to_vec));
        increment(value)
    })
    .await
    .unwrap();
    // THEN the second decision saw that change
    assert_eq!(outcome, Updated::Applied(Some(vec![21])));
    assert_eq!(seen, [Some(vec![10]), Some(vec![20])]);
}

#[tokio::test]
async fn the_attempts_have_an_end() {
    let store = MemoryStore::new();
    let mut rounds = 0;
    let outcome = update(&store, &[], "run/1", 3, |_| {
        rounds += 1;
        futures_util::FutureExt::now_or_never(put(&store, "run/1", &[rounds]))
            .expect("memory does not wait");
        Ok::<_, Infallible>(Decision::Delete)
    })
    .await
    .unwrap();
    assert_eq!((outcome, rounds), (Updated::Contended, 3));
}

#[tokio::test]
async fn a_leader_that_is_none_any_more_changes_nothing() {
    // GIVEN a store that somebody else leads
    let store = MemoryStore::new();
    put(&store, "leader", b"other").await;
    // WHEN the old leader updates a record
    let given = [Expect::Bytes("leader".to_owned(), b"me".to_vec())];
    let outcome = update(&store, &given, "run/1", 5, increment).await.unwrap();
    // THEN it is told who leads, and nothing has changed
    assert_eq!(
        outcome,
        Updated::NotGiven(vec![("leader".to_owned(), Some(b"other".to_vec()))])
    );
    assert_eq!(store.get("run/1").await.unwrap(), None);
}

#[tokio::test]
async fn a_lost_answer_goes_back_to_the_caller_and_is_not_repeated() {
    // GIVEN a store that applies the next commit and loses its answer
    let store = Faulty::around(Arc::new(MemoryStore::new()));
    store.next(Fault::AppliedAnswerLost);
    // WHEN a record is updated
    let outcome = update(&store, &[], "run/1", 5, increment).await.unwrap();
    // THEN the caller learns what to look for, and it was applied once
    assert_eq!(
        outcome,
        Updated::Unknown {
            wanted: Some(vec![1])
        }
    );
    assert_eq!(store.get("run/1").await.unwrap(), Some(vec![1]));
}

#[tokio::test]
async fn an_undecided_update_sends_nothing() {
    let store = MemoryStore::new();
    let error = update(&store, &[], "run/1", 5, |_| Err("not a run"))
        .await
        .unwrap_err();
    assert!(matches!(error, UpdateError::Undecided("not a run")));
}
