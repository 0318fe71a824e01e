//! One total order, durable, never half.

use futures_util::future::join_all;

use super::{StoreFixture, absent, apply, bytes, commit, delete, get, put};
use crate::store::records::{Decision, Updated, update};
use crate::store::{
    Expect, Op, RecordStore, StoreError, StoreTxn, TXN_BYTES_MAX, TXN_OPERATIONS_MAX, TxnOutcome,
};

/// Both kinds of expects hold and fail as they say.
pub async fn absence_and_bytes_are_what_a_commit_can_expect(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    // GIVEN a record that was put where none was
    assert_eq!(
        commit(&*store, vec![absent("run/1")], vec![put("run/1", b"A")]).await,
        TxnOutcome::Applied
    );
    // THEN absence holds no more, and its bytes do
    let refused = TxnOutcome::Refused(vec![("run/1".to_owned(), Some(b"A".to_vec()))]);
    assert_eq!(
        commit(&*store, vec![absent("run/1")], vec![put("run/1", b"B")]).await,
        refused
    );
    assert_eq!(
        commit(
            &*store,
            vec![bytes("run/1", b"a")],
            vec![put("run/1", b"B")]
        )
        .await,
        refused
    );
    assert_eq!(
        commit(
            &*store,
            vec![bytes("run/1", b"A")],
            vec![put("run/1", b"B")]
        )
        .await,
        TxnOutcome::Applied
    );
    assert_eq!(get(&*store, "run/1").await, Some(b"B".to_vec()));
    // THEN no bytes hold where there is no record
    let refused = TxnOutcome::Refused(vec![("run/2".to_owned(), None)]);
    assert_eq!(
        commit(
            &*store,
            vec![bytes("run/2", b"A")],
            vec![put("run/1", b"C")]
        )
        .await,
        refused
    );
}

/// The caller learns all that it compared, from the instant of the refusal.
pub async fn a_refusal_tells_the_current_values_in_order_and_applies_nothing(
    fixture: &impl StoreFixture,
) {
    let store = fixture.client().await;
    apply(&*store, vec![put("leader", b"U"), put("seg/1", b"old")]).await;
    // WHEN one of several expects does not hold
    let expects = vec![
        bytes("seg/1", b"stale"),
        absent("att/1"),
        bytes("leader", b"U"),
    ];
    let outcome = commit(
        &*store,
        expects,
        vec![put("att/1", b"lease"), delete("leader")],
    )
    .await;
    // THEN every key is told with its value, in the order of the expects
    let current = [
        ("seg/1", Some("old")),
        ("att/1", None),
        ("leader", Some("U")),
    ];
    let current =
        current.map(|(key, value)| (key.to_owned(), value.map(|value| value.as_bytes().to_vec())));
    assert_eq!(outcome, TxnOutcome::Refused(current.to_vec()));
    // THEN nothing has changed
    assert_eq!(
        (get(&*store, "att/1").await, get(&*store, "leader").await),
        (None, Some(b"U".to_vec()))
    );
}

/// Two coordinators that both believe they lead give one task out at the same time.
pub async fn of_two_assignments_of_one_task_exactly_one_applies(fixture: &impl StoreFixture) {
    let (one, other) = (fixture.client().await, fixture.client().await);
    apply(&*one, vec![put("seg/1", &[0])]).await;
    for round in 1..=50_u8 {
        let att = format!("att/{round}");
        let assign = async |store: &dyn RecordStore, who: &[u8]| {
            let expects = vec![absent(&att), bytes("seg/1", &[round - 1])];
            commit(store, expects, vec![put(&att, who), put("seg/1", &[round])]).await
        };
        // WHEN both assign it
        let outcomes = tokio::join!(assign(&*one, b"one"), assign(&*other, b"other"));
        // THEN one did, and the other learns who
        let (winner, refused) = match outcomes {
            (TxnOutcome::Applied, TxnOutcome::Refused(current)) => (b"one".to_vec(), current),
            (TxnOutcome::Refused(current), TxnOutcome::Applied) => (b"other".to_vec(), current),
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(
            refused,
            [
                (att.clone(), Some(winner.clone())),
                ("seg/1".to_owned(), Some(vec![round]))
            ]
        );
        assert_eq!(get(&*one, &att).await, Some(winner));
    }
}

/// No reader and no other writer ever meets half of a transaction.
pub async fn all_of_a_transaction_applies_or_nothing(fixture: &impl StoreFixture) {
    let (store, reader) = (fixture.client().await, fixture.client().await);
    let keys: Vec<String> = (0..40).map(|n| format!("att/{n:02}")).collect();
    let puts = |value: &[u8]| keys.iter().map(|key| put(key, value)).collect::<Vec<_>>();
    // GIVEN a transaction one of whose many expects fails
    apply(&*store, vec![put("att/39", b"taken")]).await;
    let expects = keys.iter().map(|key| absent(key)).collect();
    assert!(matches!(
        commit(&*store, expects, puts(b"mine")).await,
        TxnOutcome::Refused(_)
    ));
    assert_eq!(
        store.scan("att/").await.expect("the store answers"),
        [("att/39".to_owned(), b"taken".to_vec())]
    );
    // WHEN all of them are written over and over
    apply(&*store, puts(&[0])).await;
    let write = async {
        for round in 1..=30 {
            apply(&*store, puts(&[round])).await;
        }
    };
    // THEN every look at them sees one round
    let read = async {
        for _ in 0..30 {
            let records = reader.scan("att/").await.expect("the store answers");
            assert_eq!(records.len(), keys.len());
            assert!(
                records.iter().all(|(_, value)| *value == records[0].1),
                "{records:?}"
            );
        }
    };
    tokio::join!(write, read);
}

/// A deletion leaves nothing behind that a compare could meet.
pub async fn a_record_can_go_and_come_again(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    // GIVEN a record that was put and deleted; deleting none is no error
    apply(&*store, vec![delete("att/1")]).await;
    apply(&*store, vec![put("att/1", b"A")]).await;
    assert_eq!(
        commit(&*store, vec![bytes("att/1", b"A")], vec![delete("att/1")]).await,
        TxnOutcome::Applied
    );
    // THEN it is absent
    assert_eq!(get(&*store, "att/1").await, None);
    assert!(matches!(
        commit(&*store, vec![bytes("att/1", b"A")], vec![]).await,
        TxnOutcome::Refused(_)
    ));
    // THEN it can be put anew, and one transaction can move it
    assert_eq!(
        commit(&*store, vec![absent("att/1")], vec![put("att/1", b"A")]).await,
        TxnOutcome::Applied
    );
    let moved = vec![delete("att/1"), put("retry/1", b"A")];
    assert_eq!(
        commit(
            &*store,
            vec![bytes("att/1", b"A"), absent("retry/1")],
            moved
        )
        .await,
        TxnOutcome::Applied
    );
    assert_eq!(
        (get(&*store, "att/1").await, get(&*store, "retry/1").await),
        (None, Some(b"A".to_vec()))
    );
}

/// A restored store issues revisions again, so nothing may rest on them.
pub async fn bytes_are_compared_and_never_revisions(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    // GIVEN a value that went and came back
    for value in [b"A", b"B", b"A"] {
        apply(&*store, vec![put("run/1", value)]).await;
    }
    // THEN expecting it holds
    assert_eq!(
        commit(
            &*store,
            vec![bytes("run/1", b"A")],
            vec![put("run/1", b"C")]
        )
        .await,
        TxnOutcome::Applied
    );
}

/// Empty bytes are a value.
pub async fn an_empty_value_is_not_an_absent_one(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    // GIVEN no record: empty bytes do not hold
    assert!(matches!(
        commit(&*store, vec![bytes("run/1", b"")], vec![]).await,
        TxnOutcome::Refused(_)
    ));
    // GIVEN an empty one: absence does not
    apply(&*store, vec![put("run/1", b"")]).await;
    assert_eq!(get(&*store, "run/1").await, Some(vec![]));
    let refused = TxnOutcome::Refused(vec![("run/1".to_owned(), Some(vec![]))]);
    assert_eq!(
        commit(&*store, vec![absent("run/1")], vec![]).await,
        refused
    );
    assert_eq!(
        commit(&*store, vec![bytes("run/1", b"")], vec![]).await,
        TxnOutcome::Applied
    );
    assert_eq!(
        store.scan("run/").await.expect("the store answers"),
        [("run/1".to_owned(), vec![])]
    );
}

/// Values are opaque.
pub async fn any_bytes_make_a_value(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    let value: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
    apply(&*store, vec![put("run/1", &value)]).await;
    assert_eq!(get(&*store, "run/1").await.as_ref(), Some(&value));
    assert_eq!(
        commit(&*store, vec![bytes("run/1", &value)], vec![]).await,
        TxnOutcome::Applied
    );
    assert!(matches!(
        commit(&*store, vec![bytes("run/1", &value[1..])], vec![]).await,
        TxnOutcome::Refused(_)
    ));
}

/// Such a transaction asks whether something holds at one instant.
pub async fn a_transaction_without_operations_only_checks(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    apply(&*store, vec![put("leader", b"U")]).await;
    assert_eq!(
        commit(
            &*store,
            vec![bytes("leader", b"U"), absent("run/1")],
            vec![]
        )
        .await,
        TxnOutcome::Applied
    );
    assert!(matches!(
        commit(&*store, vec![bytes("leader", b"V")], vec![]).await,
        TxnOutcome::Refused(_)
    ));
    assert_eq!(commit(&*store, vec![], vec![]).await, TxnOutcome::Applied);
}

/// The limit is the same everywhere, so that what works embedded works on a server.
pub async fn a_batch_of_120_operations_applies_and_one_of_121_is_not_sent(
    fixture: &impl StoreFixture,
) {
    let store = fixture.client().await;
    let batch = |count: usize| -> (Vec<Expect>, Vec<Op>) {
        let keys: Vec<String> = (0..count).map(|n| format!("att/{n}")).collect();
        (
            keys.iter().map(|key| absent(key)).collect(),
            keys.iter().map(|key| put(key, b"lease")).collect(),
        )
    };
    let (expects, ops) = batch(TXN_OPERATIONS_MAX + 1);
    is_malformed(&*store, expects, vec![]).await;
    is_malformed(&*store, vec![], ops).await;
    let (expects, ops) = batch(TXN_OPERATIONS_MAX);
    assert_eq!(
        commit(&*store, expects.clone(), ops.clone()).await,
        TxnOutcome::Applied
    );
    let TxnOutcome::Refused(current) = commit(&*store, expects, ops).await else {
        panic!("nothing is absent now")
    };
    assert_eq!(current.len(), TXN_OPERATIONS_MAX);
}

/// Up to the limit, a transaction applies; past it, nothing is sent.
pub async fn a_transaction_of_too_many_bytes_is_not_sent(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    let half = vec![7; TXN_BYTES_MAX / 2 - 5];
    apply(&*store, vec![put("seg/1", &half), put("seg/2", &half)]).await;
    is_malformed(
        &*store,
        vec![absent("x")],
        vec![put("seg/1", &half), put("seg/2", &half)],
    )
    .await;
    is_malformed(
        &*store,
        vec![bytes("seg/1", &half), bytes("seg/2", &half)],
        vec![delete("x")],
    )
    .await;
    assert_eq!(get(&*store, "seg/2").await, Some(half));
}

/// What two operations on one key would do is nobody's guess.
pub async fn a_key_named_twice_is_not_sent(fixture: &impl StoreFixture) {
    let store = fixture.client().await;
    is_malformed(&*store, vec![], vec![put("run/1", b"A"), delete("run/1")]).await;
    is_malformed(&*store, vec![absent("run/1"), bytes("run/1", b"A")], vec![]).await;
    is_malformed(&*store, vec![], vec![put("", b"A")]).await;
    assert_eq!(get(&*store, "run/1").await, None);
}

/// Compare-and-swap under contention: each success counts once.
pub async fn no_increment_of_many_is_lost(fixture: &impl StoreFixture) {
    const WRITERS: u8 = 4;
    const ROUNDS: u8 = 10;
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        clients.push(fixture.client().await);
    }
    let increment = |value: Option<&[u8]>| {
        Ok::<_, std::convert::Infallible>(Decision::Put(vec![
            value.map_or(0, |value| value[0]) + 1,
        ]))
    };
    let work = clients.iter().map(async |client| {
        for _ in 0..ROUNDS {
            let updated = update(&**client, &[], "hi", 1_000, increment)
                .await
                .expect("the store answers");
            assert!(matches!(updated, Updated::Applied(Some(_))), "{updated:?}");
        }
    });
    join_all(work).await;
    assert_eq!(get(&*clients[0], "hi").await, Some(vec![WRITERS * ROUNDS]));
}

async fn is_malformed(store: &dyn RecordStore, expects: Vec<Expect>, ops: Vec<Op>) {
    let outcome = store.commit(StoreTxn { expects, ops }).await;
    assert!(
        matches!(outcome, Err(StoreError::Malformed { .. })),
        "{outcome:?}"
    );
}
