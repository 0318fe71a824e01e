use super::*;
use crate::store::memory::MemoryStore;

fn put(key: &str) -> StoreTxn {
    StoreTxn {
        expects: vec![],
        ops: vec![Op::Put(key.to_owned(), b"v".to_vec())],
    }
}

fn faulty() -> Faulty {
    Faulty::around(Arc::new(MemoryStore::new()))
}

#[tokio::test]
async fn each_fault_meets_one_commit_and_the_next_one_goes_through() {
    let store = faulty();
    store.next(Fault::Rejected);
    store.next(Fault::NeverArrived);
    store.next(Fault::AppliedAnswerLost);
    assert!(matches!(
        store.commit(put("a")).await,
        Err(StoreError::Rejected { .. })
    ));
    assert_eq!(store.commit(put("b")).await.unwrap(), TxnOutcome::Unknown);
    assert_eq!(store.commit(put("c")).await.unwrap(), TxnOutcome::Unknown);
    assert_eq!(store.commit(put("d")).await.unwrap(), TxnOutcome::Applied);
    let keys: Vec<_> = store
        .scan("")
        .await
        .unwrap()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        (keys, store.commits_seen(), store.faults_left()),
        (vec!["c".to_owned(), "d".to_owned()], 4, 0)
    );
}

#[tokio::test]
async fn a_fault_waits_for_the_keys_it_is_meant_for() {
    let store = faulty();
    store.next_that_changes("att/", Fault::Unreachable);
    assert_eq!(
        store.commit(put("seg/1")).await.unwrap(),
        TxnOutcome::Applied
    );
    assert!(store.commit(put("att/1")).await.is_err());
}

#[tokio::test]
async fn a_held_commit_waits_for_its_release() {
    // GIVEN a commit that is held
    let store = faulty();
    let mut held = store.hold_next_that_changes("att/");
    let commit = store.commit(put("att/1"));
    let look = async {
        held.arrived().await;
        let before = store.get("att/1").await.unwrap();
        // WHEN it is released
        held.release();
        before
    };
    // THEN it was not applied before, and is now
    let (outcome, before) = tokio::join!(commit, look);
    assert_eq!((outcome.unwrap(), before), (TxnOutcome::Applied, None));
    assert_eq!(store.get("att/1").await.unwrap(), Some(b"v".to_vec()));
}

#[tokio::test]
async fn a_reign_can_be_told_that_it_is_lost() {
    let store = faulty();
    let won = store
        .campaign("leader", b"me".to_vec(), Duration::from_secs(10))
        .await
        .unwrap();
    let Campaign::Won(leadership) = won else {
        panic!("nobody else is there")
    };
    let mut lost = leadership.lost();
    assert!(!*lost.borrow());
    store.lose_reigns();
    lost.changed().await.unwrap();
    assert!(*lost.borrow());
}
