//! What a step's checks ask of a target.

use std::time::Duration;

use highwater_common::check::Found;
use highwater_common::range::Slice;

use super::TargetFixture;
use super::bench::{Bench, Given, commit, range};
use crate::connector::{CheckRequest, Claim, DataTx, Question, Rows};

fn request<F: TargetFixture>(bench: &Bench<F>, question: Question) -> CheckRequest {
    CheckRequest {
        table: bench.fixture.table(),
        question,
        within: Duration::from_secs(60),
    }
}

async fn asked<F: TargetFixture>(
    bench: &Bench<F>,
    tx: DataTx,
    question: Question,
) -> (DataTx, Found) {
    let answer = tx.ask(&request(bench, question)).await;
    answer.expect("it answers")
}

/// Of its own rows, too, and of those that it has deleted none; then it goes on as if nobody had
/// asked.
pub async fn a_transaction_answers_about_what_it_has_written<F: TargetFixture>() {
    // GIVEN a table of which a transaction has replaced a range
    let bench = Bench::<F>::prepared().await;
    bench.insert(20..25).await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    let (claim, write) = (
        bench.claim(range(0, 10), 2),
        bench.write_request(range(0, 10)),
    );
    let claim = Claim {
        task: bench.claim(range(10, 20), 2).task,
        ..claim
    };
    let tx = bench.held(&claim).await.begin().await.expect("it begins");
    let (tx, receipt) = tx
        .write(&write, &mut Given::rows(0..3))
        .await
        .expect("it writes");
    // WHEN it is asked for all rows, and for those of ranges
    let (tx, all) = asked(&bench, tx, Question::Rows(vec![Rows::All])).await;
    let rows = |slice: Slice| bench.write_request(slice).rows;
    let some = vec![rows(range(0, 2)), rows(range(24, 30)), rows(Slice::Null)];
    let (tx, some) = asked(&bench, tx, Question::Rows(some)).await;
    // THEN it answers as it will be once it is committed, which it can be
    assert_eq!((all, some), (Found::Rows(8), Found::Rows(3)));
    commit(tx, &receipt).await;
    assert_eq!(bench.count().await, 8);
}

/// Nor does it stand in the way of the next one.
pub async fn what_is_given_up_was_never_there<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let (claim, write) = (
        bench.claim(range(0, 10), 1),
        bench.write_request(range(0, 10)),
    );
    let tx = bench.held(&claim).await.begin().await.expect("it begins");
    let (tx, _) = tx
        .write(&write, &mut Given::rows(0..3))
        .await
        .expect("it writes");
    let (tx, found) = asked(&bench, tx, Question::Rows(vec![Rows::All])).await;
    assert_eq!(found, Found::Rows(3));
    tx.give_up().await;
    assert_eq!(bench.count().await, 0);
    let claim = bench.claim(range(0, 10), 2);
    let again = bench.load_as(&claim, &write, Given::rows(0..5)).await;
    assert_eq!(again.expect("it is loaded").rows, 5);
}
