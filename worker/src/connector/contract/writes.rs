//! What a partition's rows become in the target, and what is left when they do not get there.

use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::commit::LedgerState;
use highwater_common::coverage::Coverage;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{ExistingRows, WriteMode};

use super::bench::{Bench, Given, failure, range};
use super::{Row, TargetFixture};
use crate::connector::ClaimOutcome;

/// A worker that died after its prepare is followed by one that prepares again.
pub async fn prepare_again_changes_nothing<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    let (warnings, coverage) = bench.prepare().await;
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        coverage,
        Coverage::default(),
        "what its own plan has committed is no news to it"
    );
    assert_eq!(bench.count().await, 10);
    let table = bench.probe().await.table.expect("the table is there");
    assert_eq!(
        table
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>(),
        ["id", "pos", "note"]
    );
    assert_eq!(table.key, ["id"]);
    assert!(table.partition_indexed && table.has_rows);
    assert_eq!(table.partition_form, Some(bench.fixture.form()));
}

/// Rows of an earlier run of the stream give way; neighbours stay.
pub async fn a_replaced_range_holds_exactly_the_rows_read<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    bench.load(range(0, 100), Given::rows(0..100)).await;
    bench.load(range(100, 700), Given::rows(100..700)).await;
    // WHEN another run loads the first range again, and finds fewer rows
    bench.run = highwater_common::id::RunId::from_bytes([8; 16]);
    let receipt = bench.load(range(0, 100), Given::rows(0..40)).await;
    // THEN the range holds those, and its neighbour what it held
    assert_eq!(receipt.rows, 40);
    assert_eq!(
        bench
            .rows_where(|row| row.pos.is_some_and(|pos| pos < 100))
            .await,
        40
    );
    assert_eq!(
        bench
            .rows_where(|row| row.pos.is_some_and(|pos| pos >= 100) && row.note.is_some())
            .await,
        600
    );
}

/// After an error nothing is left to commit, and nothing stands in the next attempt's way.
pub async fn a_failed_statement_poisons_the_attempt<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let (claim, request) = (
        bench.claim(range(0, 10), 1),
        bench.write_request(range(0, 10)),
    );
    // GIVEN rows of which the last repeats a key
    let rows = Given::rows(0..10).and(Given::rows(9..10));
    // WHEN they are written
    let refusal = failure(bench.load_as(&claim, &request, rows).await);
    // THEN the attempt is over for good, with a reason that names the table, and left nothing
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "constraint_violation")
    );
    assert!(
        refusal.message.contains(&bench.fixture.table().name),
        "{}",
        refusal.message
    );
    assert_eq!(bench.count().await, 0);
    let row = bench
        .target
        .ledger_row(&bench.run, &claim.task)
        .await
        .expect("readable")
        .expect("claimed");
    assert_eq!(
        (row.state, row.receipt),
        (LedgerState::Open, Receipt::default())
    );
    // AND the next attempt does the work
    let receipt = bench
        .load_as(&bench.claim(range(0, 10), 2), &request, Given::rows(0..10))
        .await
        .expect("commits");
    assert_eq!((receipt.rows, bench.count().await), (10, 10));
}

/// The old rows go with the commit, not before.
pub async fn a_source_that_dies_halfway_leaves_the_old_rows<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    bench.load(range(0, 500), Given::rows(0..500)).await;
    bench.run = highwater_common::id::RunId::from_bytes([8; 16]);
    let claim = bench.claim(range(0, 500), 1);
    let rows = Given::rows(0..300).then_dies();
    let refusal = failure(
        bench
            .load_as(
                &claim,
                &bench.write_request(claim.slice.expect("of a slice")),
                rows,
            )
            .await,
    );
    assert_eq!(refusal.code, "source_gone");
    assert_eq!(bench.count().await, 500);
}

/// Rows that nobody of this stream wrote are not deleted without a word.
pub async fn resident_rows_without_receipt_are_not_replaced_unasked<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN rows of somebody else's
    bench.insert(5..8).await;
    // WHEN the range they lie in is loaded
    let claim = bench.claim(range(0, 10), 1);
    let refusal = failure(
        bench
            .load_as(
                &claim,
                &bench.write_request(claim.slice.expect("of a slice")),
                Given::rows(0..10),
            )
            .await,
    );
    // THEN it is refused, and they stay
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "resident_rows")
    );
    assert!(
        refusal.message.contains('3') && refusal.message.contains("write.resident"),
        "{}",
        refusal.message
    );
    assert_eq!(bench.rows_where(Row::is_old).await, 3);
    // AND a range beside them is loaded
    assert_eq!(
        bench.load(range(10, 20), Given::rows(10..20)).await.rows,
        10
    );
}

/// `write.resident: replace` is the asking.
pub async fn resident_rows_are_replaced_when_asked<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.insert(5..8).await;
    let claim = bench.claim(range(0, 10), 1);
    let request = crate::connector::WriteRequest {
        resident: ExistingRows::Replace,
        ..bench.write_request(claim.slice.expect("of a slice"))
    };
    bench
        .load_as(&claim, &request, Given::rows(0..10))
        .await
        .expect("the load goes through");
    assert_eq!(
        (bench.count().await, bench.rows_where(Row::is_old).await),
        (10, 0)
    );
}

/// The target is counted, not ourselves.
pub async fn a_replaced_range_that_counts_differently_rolls_back<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN a table that loses a row behind the writer's back
    bench.fixture.swallow(3).await;
    // WHEN a range is loaded
    let claim = bench.claim(range(0, 10), 1);
    let refusal = failure(
        bench
            .load_as(
                &claim,
                &bench.write_request(claim.slice.expect("of a slice")),
                Given::rows(0..10),
            )
            .await,
    );
    // THEN nothing is committed
    assert_eq!(refusal.class, ErrorClass::Permanent);
    let expected = ["replaced_range_counts_differently", "count_mismatch"];
    assert!(
        expected.contains(&refusal.code.as_str()),
        "{}: {}",
        refusal.code,
        refusal.message
    );
    assert_eq!(bench.count().await, 0);
    let row = bench
        .target
        .ledger_row(&bench.run, &claim.task)
        .await
        .expect("readable")
        .expect("claimed");
    assert_eq!(row.state, LedgerState::Open);
}

/// Rows without a position are loaded, and replaced, like any partition.
pub async fn the_null_partition_is_a_slice_of_its_own<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    bench
        .load(Slice::Null, Given::without_position(100..120))
        .await;
    bench.run = highwater_common::id::RunId::from_bytes([8; 16]);
    bench
        .load(Slice::Null, Given::without_position(100..105))
        .await;
    assert_eq!(
        (
            bench.rows_where(|row| row.pos.is_none()).await,
            bench.rows_where(|row| row.pos.is_some()).await
        ),
        (5, 10)
    );
    let facts = bench.probe().await;
    assert!(facts.covered_null);
    assert_eq!(facts.covered.len(), 1);
}

/// An empty partition is done, not forgotten.
pub async fn an_empty_slice_leaves_a_receipt<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let receipt = bench.load(range(0, 10), Given::default()).await;
    assert_eq!(receipt, Receipt::default());
    let answer = bench
        .target
        .claim(&bench.claim(range(0, 10), 2))
        .await
        .expect("an answer");
    assert!(
        matches!(answer, ClaimOutcome::Committed(Receipt { rows: 0, .. })),
        "{answer:?}"
    );
    assert_eq!(bench.probe().await.covered.len(), 1);
}

/// Append deletes nothing, and does not look.
pub async fn appended_rows_stay_beside_those_that_are_there<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.insert(0..3).await;
    let claim = bench.claim(range(0, 10), 1);
    let request = crate::connector::WriteRequest {
        mode: WriteMode::Append,
        ..bench.write_request(claim.slice.expect("of a slice"))
    };
    let receipt = bench
        .load_as(&claim, &request, Given::rows(3..10))
        .await
        .expect("the load goes through");
    assert_eq!((receipt.rows, bench.count().await), (7, 10));
}

/// `reprocess: missing` reads this.
pub async fn coverage_merges_ranges_that_touch<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    for (start, end) in [(30, 40), (10, 20), (0, 10)] {
        bench.load(range(start, end), Given::rows(start..end)).await;
    }
    // GIVEN a claim that never commits, too
    drop(bench.held(&bench.claim(range(20, 30), 1)).await);
    // THEN what is committed is covered, as few ranges, and no more
    let at = |value| Some(Cursor::Integer(value));
    let covered = |start, end| CursorRange::new(at(start), at(end)).expect("not empty");
    let facts = bench.probe().await;
    assert_eq!(facts.covered, [covered(0, 20), covered(30, 40)]);
    assert!(!facts.covered_null);
    // AND it covers no positions of another kind, which are told that there is something
    let mut days = bench.target_probe();
    days.partition = Some(("pos".to_owned(), CursorKind::Date));
    let facts = bench.target.probe(&days).await.expect("probes");
    let coverage = Coverage::of(&facts.covered, facts.covered_null);
    assert_eq!(coverage.ranges(CursorKind::Date).next(), None);
    assert!(coverage.has_others(CursorKind::Date));
    // AND another stream is not covered by it
    let mut other = bench.target_probe();
    other.stream = "shop/other/legacy:items-1/items".to_owned();
    assert_eq!(
        bench.target.probe(&other).await.expect("probes").covered,
        []
    );
}
