//! What a step's checks ask of a target.

use std::time::Duration;

use highwater_common::assignment::ErrorClass;
use highwater_common::check::Found;
use highwater_common::range::Slice;

use super::bench::{Bench, Given, commit, failure, range};
use super::{Row, TableChange, TargetFixture};
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

/// About NULLs, about values that are there more than once, and whatever a query says.
pub async fn a_loaded_table_answers_each_question<F: TargetFixture>() {
    // GIVEN rows of which three have no position, and four share their note with another one
    let bench = Bench::<F>::prepared().await;
    let row = |id: i64, pos: Option<i64>, note: Option<&str>| Row {
        id,
        pos,
        note: note.map(str::to_owned),
    };
    for given in [
        row(1, None, None),
        row(2, None, None),
        row(3, None, Some("a")),
        row(4, Some(4), Some("a")),
        row(5, Some(4), Some("b")),
        row(6, Some(4), Some("b")),
        row(7, Some(7), None),
    ] {
        bench.change([TableChange::Insert(given)]).await;
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let query = |sql: &str| Question::Query(sql.to_owned());
    // WHEN it is asked THEN it answers
    for (question, answer) in [
        (Question::Rows(vec![Rows::All]), Found::Rows(7)),
        (Question::Nulls(names(&["id"])), Found::Nulls(0)),
        (Question::Nulls(names(&["pos", "note"])), Found::Nulls(4)),
        (Question::Shared(names(&["id"])), Found::Shared(0)),
        (Question::Shared(names(&["note"])), Found::Shared(2)),
        (Question::Shared(names(&["pos", "note"])), Found::Shared(1)),
        (
            query("select count(*) = 7 from {table}"),
            Found::Truth(Some(true)),
        ),
        (
            query("select min(id) > 1 from {table};"),
            Found::Truth(Some(false)),
        ),
        (
            query("select max(id) > null from {table} -- so"),
            Found::Truth(None),
        ),
        (
            query("select true from {table} where id > 7"),
            Found::Odd("no row"),
        ),
        (
            query("select true from {table}"),
            Found::Odd("several rows"),
        ),
        (
            query("select true, min(id) from {table}"),
            Found::Odd("a row of several columns"),
        ),
    ] {
        let request = request(&bench, question);
        let asking = bench.target.checks().expect("it answers");
        let found = asking.ask(&request).await.expect("it answers");
        assert_eq!(found, answer, "{request:?}");
    }
    let text = request(&bench, query("select min(note) from {table}"));
    let found = bench.target.checks().expect("it answers").ask(&text).await;
    assert!(matches!(found.expect("it answers"), Found::Odd(_)));
}

/// Whatever a query says, and wherever it is asked.
pub async fn a_query_that_writes_is_refused<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.insert(0..5).await;
    let asking = bench.target.checks().expect("it answers");
    for (sql, attempt) in [
        "delete from {table} returning true",
        "with gone as (delete from {table} returning 1) select true from gone",
        "select true) as a; delete from {table}; select * from (select true",
    ]
    .into_iter()
    .zip(1..)
    {
        let question = || Question::Query(sql.to_owned());
        // apart from a commit, and within the transaction that writes
        assert!(
            asking.ask(&request(&bench, question())).await.is_err(),
            "{sql}"
        );
        let (claim, write) = (
            bench.claim(range(20, 30), attempt),
            bench.write_request(range(20, 30)),
        );
        let tx = bench.held(&claim).await.begin().await.expect("it begins");
        let (tx, _) = tx
            .write(&write, &mut Given::rows(20..23))
            .await
            .expect("it writes");
        assert!(tx.ask(&request(&bench, question())).await.is_err(), "{sql}");
    }
    assert_eq!(bench.count().await, 5);
}

/// And its session ends with it.
pub async fn a_query_takes_no_longer_than_it_may<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n where i < \
                   2000000000) select count(*) > 0 from n, {table}";
    let request = CheckRequest {
        within: Duration::from_millis(200),
        ..request(&bench, Question::Query(endless.to_owned()))
    };
    bench.insert(50..55).await;
    let asking = bench.target.checks().expect("it answers");
    let refusal = failure(asking.ask(&request).await);
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Resource, "statement_timeout")
    );
    bench.load(range(0, 10), Given::rows(0..3)).await;
}
