//! What only a server across a network can do to its clients: be dead, be frozen, come back.

use std::time::Duration;

use highwater_coordinator::store::etcd::{EtcdLogin, EtcdOptions, EtcdStore};
use highwater_coordinator::store::{
    Campaign, Expect, Leadership, Op, RecordStore, StoreError, StoreTxn, TxnOutcome,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::etcd_server::{EtcdServer, free_port};

const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

fn options(endpoints: Vec<String>) -> EtcdOptions {
    EtcdOptions {
        request_timeout: REQUEST_TIMEOUT,
        ..EtcdOptions::new(endpoints, "test")
    }
}

fn dead_endpoint() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

fn put_if_absent(key: &str, value: &[u8]) -> StoreTxn {
    StoreTxn {
        expects: vec![Expect::Absent(key.to_owned())],
        ops: vec![Op::Put(key.to_owned(), value.to_vec())],
    }
}

async fn win(store: &EtcdStore, ttl: Duration) -> Box<dyn Leadership> {
    match store.campaign("leader", b"me".to_vec(), ttl).await.unwrap() {
        Campaign::Won(leadership) => leadership,
        Campaign::Held(value) => panic!("held by {value:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_dead_from_the_start_is_survived() {
    // GIVEN two endpoints, the first of which nobody listens on
    let server = EtcdServer::start();
    let store = EtcdStore::connect(options(vec![dead_endpoint(), server.endpoint()]))
        .await
        .unwrap();
    // THEN nothing fails, and no outcome is unknown: what never left was sent elsewhere
    for n in 0..50 {
        let key = format!("run/{n}");
        assert_eq!(
            store.commit(put_if_absent(&key, b"A")).await.unwrap(),
            TxnOutcome::Applied
        );
        assert_eq!(store.get(&key).await.unwrap(), Some(b"A".to_vec()));
    }
    assert_eq!(store.scan("run/").await.unwrap().len(), 50);
    win(&store, Duration::from_secs(5))
        .await
        .resign()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_etcd_is_unreachable_and_tells_no_secret() {
    let login = EtcdLogin {
        user: "highwater".to_owned(),
        password: "hunter2".to_owned(),
    };
    let options = EtcdOptions {
        login: Some(login),
        ..options(vec![dead_endpoint(), dead_endpoint()])
    };
    let error = timeout(PATIENCE, EtcdStore::connect(options.clone()))
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    let told = format!("{error} {error:?} {options:?}");
    assert!(!told.contains("hunter2"), "{told}");
    // A password in an endpoint is refused before it can get into any message.
    let options = EtcdOptions::new(vec!["http://me:hunter2@127.0.0.1:2379".to_owned()], "test");
    let error = EtcdStore::connect(options).await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_timed_out_is_unknown_and_a_compare_tells_what_came_of_it() {
    let server = EtcdServer::start();
    let store = EtcdStore::connect(options(vec![server.endpoint()]))
        .await
        .unwrap();
    for round in 0..3 {
        let key = format!("att/{round}");
        // GIVEN a member that freezes before a transaction reaches it
        server.freeze();
        let sent = Instant::now();
        // THEN its outcome is unknown, in time
        let outcome = store.commit(put_if_absent(&key, b"first")).await;
        assert!(matches!(outcome, Ok(TxnOutcome::Unknown)), "{outcome:?}");
        assert!(sent.elapsed() < REQUEST_TIMEOUT * 3, "{:?}", sent.elapsed());
        // WHEN it goes on, a transaction with the same expects settles which of the two applied,
        // for good
        server.thaw();
        let load_order = timeout(PATIENCE, async {
            loop {
                match store.commit(put_if_absent(&key, b"second")).await {
                    Ok(TxnOutcome::Applied) => return b"second".to_vec(),
                    Ok(TxnOutcome::Refused(current)) => return current[0].1.clone().unwrap(),
                    // The connection to the frozen member was given up and is made anew.
                    Ok(TxnOutcome::Unknown) | Err(_) => {}
                }
            }
        });
        let load_order = load_order.await.unwrap();
        assert!(
            load_order == b"first" || load_order == b"second",
            "{load_order:?}"
        );
        for _ in 0..10 {
            assert_eq!(store.get(&key).await.unwrap().as_ref(), Some(&load_order));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_etcd_is_survived_by_records_clients_and_watches() {
    // GIVEN a record, and someone who waits for the next
    let mut server = EtcdServer::start();
    let store = EtcdStore::connect(options(vec![server.endpoint()]))
        .await
        .unwrap();
    assert_eq!(
        store.commit(put_if_absent("run/1", b"A")).await.unwrap(),
        TxnOutcome::Applied
    );
    let mut hints = store.hints("run/").await.unwrap();
    // WHEN etcd is killed, it is unreachable
    server.kill();
    assert!(matches!(
        store.get("run/1").await,
        Err(StoreError::Unreachable { .. })
    ));
    // THEN nothing is lost once it is back, and the same client goes on
    server.start_again();
    let found = timeout(PATIENCE, async {
        loop {
            if let Ok(found) = store.get("run/1").await {
                return found;
            }
        }
    });
    assert_eq!(found.await.unwrap(), Some(b"A".to_vec()));
    hints.borrow_and_update();
    assert_eq!(
        store.commit(put_if_absent("run/2", b"B")).await.unwrap(),
        TxnOutcome::Applied
    );
    timeout(PATIENCE, hints.changed())
        .await
        .expect("a hint comes")
        .unwrap();
    assert_eq!(store.scan("run/").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_etcd_falls_silent_gives_up_before_etcd_does() {
    let ttl = Duration::from_secs(3);
    let server = EtcdServer::start();
    let store = EtcdStore::connect(options(vec![server.endpoint()]))
        .await
        .unwrap();
    let leadership = win(&store, ttl).await;
    let mut lost = leadership.lost();
    // GIVEN a leadership that has been renewed at least once
    assert!(timeout(ttl / 2, lost.wait_for(|lost| *lost)).await.is_err());
    // WHEN etcd falls silent
    server.freeze();
    let frozen = Instant::now();
    // THEN the holder gives up before the lease can have ended
    timeout(PATIENCE, lost.wait_for(|lost| *lost))
        .await
        .expect("it gives up")
        .unwrap();
    assert!(frozen.elapsed() < ttl, "{:?}", frozen.elapsed());
    // WHEN etcd goes on, the leadership can be won again
    server.thaw();
    drop(leadership);
    let mut hints = store.hints("leader").await.unwrap();
    let next = timeout(PATIENCE, async {
        loop {
            if let Ok(Campaign::Won(leadership)) =
                store.campaign("leader", b"next".to_vec(), ttl).await
            {
                return leadership;
            }
            timeout(ttl / 4, hints.changed()).await.ok();
        }
    });
    assert!(!*next.await.unwrap().lost().borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_share_an_etcd_and_never_see_each_other() {
    let server = EtcdServer::start();
    let one = EtcdStore::connect(EtcdOptions::new(vec![server.endpoint()], "one"))
        .await
        .unwrap();
    let other = EtcdStore::connect(EtcdOptions::new(vec![server.endpoint()], "one2"))
        .await
        .unwrap();
    assert_eq!(
        one.commit(put_if_absent("run/1", b"A")).await.unwrap(),
        TxnOutcome::Applied
    );
    assert_eq!(
        other.commit(put_if_absent("run/1", b"B")).await.unwrap(),
        TxnOutcome::Applied
    );
    assert_eq!(
        one.scan("").await.unwrap(),
        [("run/1".to_owned(), b"A".to_vec())]
    );
    assert_eq!(
        other.scan("").await.unwrap(),
        [("run/1".to_owned(), b"B".to_vec())]
    );
}

/// Asks etcd by its JSON gateway, as somebody who knows nothing of us.
async fn ask_etcd(endpoint: &str, path: &str, body: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://"))
        .await
        .unwrap();
    let request = format!(
        "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_is_not_starved_by_somebody_who_compacts_all_the_time() {
    // GIVEN records of many pages
    const RECORDS: usize = 12_000;
    let server = EtcdServer::start();
    let store = EtcdStore::connect(options(vec![server.endpoint()]))
        .await
        .unwrap();
    for batch in 0..RECORDS / 100 {
        let ops = (0..100)
            .map(|n| Op::Put(format!("seg/{batch:03}{n:02}"), vec![7; 64]))
            .collect();
        assert_eq!(
            store
                .commit(StoreTxn {
                    expects: Vec::new(),
                    ops
                })
                .await
                .unwrap(),
            TxnOutcome::Applied
        );
    }
    // WHEN somebody else writes and compacts without a pause
    let endpoint = server.endpoint();
    let stranger = tokio::spawn(async move {
        for round in 0_u32.. {
            let put = ask_etcd(
                &endpoint,
                "/v3/kv/put",
                r#"{"key":"c3RyYW5nZXI=","value":"c3RyYW5nZXI="}"#,
            )
            .await;
            let revision = put["header"]["revision"]
                .as_str()
                .expect("a put has a revision")
                .to_owned();
            ask_etcd(
                &endpoint,
                "/v3/kv/compaction",
                &format!(r#"{{"revision":"{revision}"}}"#),
            )
            .await;
            assert!(round < u32::MAX, "it goes on for as long as the test does");
        }
    });
    // THEN a scan comes whole all the same, each time
    for _ in 0..3 {
        assert_eq!(store.scan("seg/").await.unwrap().len(), RECORDS);
    }
    assert!(!stranger.is_finished(), "it has compacted to the end");
    stranger.abort();
}
