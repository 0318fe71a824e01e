//! A table all of whose rows are replaced: it holds those that came, or what it held before.

use highwater_common::assignment::ErrorClass;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{ExistingRows, Shrinking, WriteMode};

use super::bench::{Bench, Given, failure, range};
use super::{Row, TableChange, TargetFixture};
use crate::connector::{Claim, PrepareRequest, Rows, WriteRequest};

/// The claim of the only task of a stream that replaces its table.
pub(super) fn claim<F: TargetFixture>(bench: &Bench<F>, attempt: u32) -> Claim {
    Claim {
        slice: None,
        ..bench.claim(Slice::Range(CursorRange::ALL), attempt)
    }
}

/// The write of all rows.
pub(super) fn replacing<F: TargetFixture>(bench: &Bench<F>) -> WriteRequest {
    WriteRequest {
        mode: WriteMode::ReplaceTable,
        rows: Rows::All,
        resident: ExistingRows::Replace,
        ..bench.write_request(Slice::Null)
    }
}

/// Prepares the table for such a stream.
pub(super) async fn prepare<F: TargetFixture>(bench: &Bench<F>) {
    let mut request = PrepareRequest {
        mode: WriteMode::ReplaceTable,
        placing: None,
        partition_column: None,
        ..bench.prepare_request()
    };
    request.stream.kind = None;
    let prepared = bench.target.prepare(&request).await;
    let warnings = prepared.expect("it can be prepared").warnings();
    assert_eq!(warnings, Vec::<String>::new());
}

/// Whoever put the other rows there, and wherever they lie.
pub async fn a_replaced_table_holds_the_rows_that_came_and_no_other<F: TargetFixture>() {
    // GIVEN a table with rows of another stream's, of nobody's, and one without a position
    let mut bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    bench.insert(20..25).await;
    let nowhere = Row {
        pos: None,
        ..Row::old(30)
    };
    bench.change([TableChange::Insert(nowhere)]).await;
    // WHEN all of it is replaced
    bench.next_run();
    prepare(&bench).await;
    let (first, request) = (claim(&bench, 1), replacing(&bench));
    let came = Given::rows(5..40);
    let receipt = bench.load_as(&first, &request, came).await;
    // THEN it holds what came, and its receipt says so
    assert_eq!(receipt.expect("it is replaced").rows, 35);
    assert_eq!(
        (bench.count().await, bench.rows_where(Row::is_old).await),
        (35, 0)
    );
    let row = bench.target.ledger_row(&bench.run, &first.task).await;
    assert_eq!(row.expect("readable").expect("there").receipt.rows, 35);
    // AND that covers nothing: another run loads its range as if there were no receipt
    bench.next_run();
    let (_, coverage) = bench.prepare().await;
    let ranges: Vec<_> = coverage
        .ranges(highwater_common::cursor::CursorKind::Integer)
        .collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(!coverage.null());
    let resident = failure(
        bench
            .load_as(
                &bench.claim(range(20, 30), 1),
                &bench.write_request(range(20, 30)),
                Given::rows(20..30),
            )
            .await,
    );
    assert_eq!(resident.code, "resident_rows");
}

/// Half of the rows is enough; nothing at all, or less, takes a leave.
pub async fn a_table_is_not_left_with_less_than_half_of_its_rows<F: TargetFixture>() {
    let bench = Bench::<F>::fresh().await;
    prepare(&bench).await;
    bench.insert(0..11).await;
    let leave = |allow_empty, allow_shrink| WriteRequest {
        shrinking: Shrinking {
            allow_empty,
            allow_shrink,
        },
        ..replacing(&bench)
    };
    let refusals = [
        (5, leave(false, false), "shrunk_source"),
        (5, leave(true, false), "shrunk_source"),
        (0, leave(false, false), "empty_source"),
        (0, leave(false, true), "empty_source"),
    ];
    for ((rows, request, code), attempt) in refusals.into_iter().zip(1..) {
        let came = Given::rows(0..rows);
        let refusal = failure(bench.load_as(&claim(&bench, attempt), &request, came).await);
        assert_eq!(
            (refusal.class, refusal.code.as_str()),
            (ErrorClass::Permanent, code)
        );
        assert_eq!(bench.rows_where(Row::is_old).await, 11);
    }
    let enough = bench
        .load_as(&claim(&bench, 5), &leave(false, false), Given::rows(0..6))
        .await;
    assert_eq!(enough.expect("it is replaced").rows, 6);
}

/// With the leave it goes.
pub async fn a_table_is_emptied_when_that_is_allowed<F: TargetFixture>() {
    let bench = Bench::<F>::fresh().await;
    prepare(&bench).await;
    bench.insert(0..11).await;
    let request = WriteRequest {
        shrinking: Shrinking {
            allow_empty: true,
            allow_shrink: false,
        },
        ..replacing(&bench)
    };
    let emptied = bench
        .load_as(&claim(&bench, 1), &request, Given::rows(0..0))
        .await;
    assert_eq!(emptied.expect("it is emptied").rows, 0);
    assert_eq!(bench.count().await, 0);
}

/// The old rows go with the commit, not before.
pub async fn a_table_is_replaced_whole_or_not_at_all<F: TargetFixture>() {
    let bench = Bench::<F>::fresh().await;
    prepare(&bench).await;
    bench.insert(0..10).await;
    let broken = Given::rows(0..300).then_dies();
    let refusal = failure(
        bench
            .load_as(&claim(&bench, 1), &replacing(&bench), broken)
            .await,
    );
    assert_eq!(refusal.code, "source_gone");
    assert_eq!(bench.rows_where(Row::is_old).await, 10);
}

/// What is replaced anyway needs no row to be there.
pub async fn an_emptied_table_is_replaced_in_spite_of_its_receipts<F: TargetFixture>() {
    let mut bench = Bench::<F>::fresh().await;
    prepare(&bench).await;
    let first = bench
        .load_as(&claim(&bench, 1), &replacing(&bench), Given::rows(0..10))
        .await;
    first.expect("it is replaced");
    for damage in [TableChange::Empty, TableChange::Drop] {
        bench.change([damage]).await;
        bench.next_run();
        prepare(&bench).await;
        let again = bench
            .load_as(&claim(&bench, 1), &replacing(&bench), Given::rows(0..10))
            .await;
        assert_eq!(again.expect("it is replaced").rows, 10);
        assert_eq!(bench.count().await, 10);
    }
}
