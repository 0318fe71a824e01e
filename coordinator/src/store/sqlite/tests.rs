use tempfile::TempDir;

use super::*;
use crate::store::Op;

async fn put(store: &SqliteStore, key: &str, value: &[u8]) {
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

async fn win(store: &SqliteStore, ttl: Duration) -> Box<dyn Leadership> {
    match store.campaign("leader", b"me".to_vec(), ttl).await.unwrap() {
        Campaign::Won(leadership) => leadership,
        Campaign::Held(_) => panic!("nobody else is there"),
    }
}

fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    (folder, path)
}

#[tokio::test]
async fn records_survive_a_reopening_and_those_of_old_leases_do_not() {
    // GIVEN a store with records and a leader
    let (_folder, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    put(&store, "run/1", b"A").await;
    let leadership = win(&store, Duration::from_secs(60)).await;
    // WHEN it is closed with the leader still in leadership, and opened again
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    // THEN the record is there, and the leadership is free
    assert_eq!(
        store.scan("").await.unwrap(),
        [("run/1".to_owned(), b"A".to_vec())]
    );
    let next = win(&store, Duration::from_secs(60)).await;
    // THEN the old term has no power over the new one
    assert!(leadership.resign().await.is_err());
    assert_eq!(store.get("leader").await.unwrap(), Some(b"me".to_vec()));
    next.resign().await.unwrap();
}

#[tokio::test]
async fn a_second_holder_is_refused_until_the_first_has_closed() {
    let (_folder, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    let second = SqliteStore::open(&path).await;
    assert!(
        matches!(second, Err(StoreError::HeldElsewhere { .. })),
        "{second:?}"
    );
    store.close().await.unwrap();
    SqliteStore::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_looker_on_sees_the_records_and_changes_nothing() {
    // GIVEN a store that is held
    let (_folder, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    put(&store, "run/1", b"A").await;
    let _reign = win(&store, Duration::from_secs(60)).await;
    // WHEN another one looks at it
    let looker = SqliteStore::open_read_only(&path).await.unwrap();
    // THEN it sees what is there and what comes, but for leased records
    assert_eq!(looker.get("run/1").await.unwrap(), Some(b"A".to_vec()));
    put(&store, "run/1", b"B").await;
    assert_eq!(
        looker.scan("").await.unwrap(),
        [("run/1".to_owned(), b"B".to_vec())]
    );
    // THEN its changes are refused
    let ops = vec![Op::Delete("run/1".to_owned())];
    let outcome = looker
        .commit(StoreTxn {
            expects: vec![],
            ops,
        })
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Rejected { .. })),
        "{outcome:?}"
    );
    assert!(
        looker
            .campaign("office", vec![], Duration::from_secs(1))
            .await
            .is_err()
    );
    assert_eq!(store.get("run/1").await.unwrap(), Some(b"B".to_vec()));
    // THEN it can look once the holder is gone
    looker.close().await.unwrap();
    store.close().await.unwrap();
    let looker = SqliteStore::open_read_only(&path).await.unwrap();
    assert_eq!(
        looker.scan("").await.unwrap(),
        [("run/1".to_owned(), b"B".to_vec())]
    );
}

#[tokio::test]
async fn looking_at_nothing_makes_no_file() {
    let (_folder, path) = file();
    assert!(matches!(
        SqliteStore::open_read_only(&path).await,
        Err(StoreError::Unreachable { .. })
    ));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_of_another_format_is_refused() {
    let (_folder, path) = file();
    SqliteStore::open(&path)
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut sqlite = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options)
        .await
        .unwrap();
    sqlx::query("update meta set format = 2")
        .execute(&mut sqlite)
        .await
        .unwrap();
    sqlx::Connection::close(sqlite).await.unwrap();
    let opened = SqliteStore::open(&path).await;
    assert!(
        matches!(opened, Err(StoreError::Rejected { .. })),
        "{opened:?}"
    );
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_transaction_behind() {
    // GIVEN commits whose callers stop waiting at once
    let (_folder, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    for n in 0..20_u8 {
        let ops = (0..50)
            .map(|at| Op::Put(format!("att/{at}"), vec![n]))
            .collect();
        let commit = store.commit(StoreTxn {
            expects: vec![],
            ops,
        });
        futures_util::FutureExt::now_or_never(commit);
    }
    // WHEN the next caller asks
    put(&store, "run/1", b"A").await;
    // THEN each of those commits was carried out wholly, in order
    let records = store.scan("att/").await.unwrap();
    assert_eq!(records.len(), 50);
    assert!(records.iter().all(|(_, value)| *value == [19]));
}

#[tokio::test]
async fn a_closed_store_is_unreachable() {
    let (_folder, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(
        store.get("run/1").await,
        Err(StoreError::Unreachable { .. })
    ));
    let outcome = store.commit(StoreTxn::default()).await;
    assert!(
        matches!(outcome, Err(StoreError::Unreachable { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn the_end_of_a_lease_is_a_hint() {
    // GIVEN a looker for the leadership of a holder that has let go
    let (_folder, path) = file();
    let store = SqliteStore::open(&path).await.unwrap();
    let leadership = win(&store, Duration::from_millis(100)).await;
    let mut hints = store.hints("leader").await.unwrap();
    drop(leadership);
    // WHEN its time to live has passed THEN a hint comes, and the leadership is free
    hints.changed().await.unwrap();
    assert_eq!(store.get("leader").await.unwrap(), None);
}
