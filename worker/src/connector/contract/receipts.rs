//! Receipts and the table they speak of: one without the other is refused, before anything is
//! loaded on top of it.

use highwater_common::assignment::{AttemptError, ErrorClass};

use super::bench::{Bench, Given, failure, range};
use super::{TableChange, TargetFixture};

/// What the probe and a newer run's prepare say; both must refuse.
async fn refusals<F: TargetFixture>(bench: &mut Bench<F>) -> [AttemptError; 2] {
    let probed = failure(bench.target.probe(&bench.target_probe()).await);
    let run = bench.next_run();
    let prepared = failure(bench.target.prepare(&bench.prepare_request()).await);
    bench.run = run;
    [probed, prepared]
}

async fn assert_refused<F: TargetFixture>(bench: &mut Bench<F>, why: &str) {
    for refusal in refusals(bench).await {
        assert_eq!(
            (refusal.class, refusal.code.as_str()),
            (ErrorClass::Permanent, "receipts_without_rows")
        );
        for text in [
            why,
            "coverage forget",
            "another name of the step",
            "bring the table itself back",
        ] {
            assert!(
                refusal.message.contains(text),
                "{text}: {}",
                refusal.message
            );
        }
    }
}

async fn assert_fine<F: TargetFixture>(bench: &mut Bench<F>) {
    assert_eq!(bench.probe().await.covered.len(), 1);
    bench.prepare().await;
}

/// Emptied, dropped, renamed away or made anew with the same rows: the receipts are none of that
/// table.
pub async fn an_emptied_or_remade_table_is_refused_with_its_receipts<F: TargetFixture>() {
    use TableChange::{AddColumn, Drop, Empty, FillFromAway, Make, RenameAway, RenameBack, Tidy};
    // GIVEN a table with receipts, which may be vacuumed and altered as its owner likes
    let mut bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    bench.change([Tidy, AddColumn]).await;
    assert_fine(&mut bench).await;
    // WHEN it is renamed away THEN its receipts are refused, and taken again once it is back
    bench.change([RenameAway]).await;
    assert_refused(&mut bench, "there is no such table any more").await;
    bench.change([RenameBack]).await;
    assert_fine(&mut bench).await;
    // WHEN another one stands in its place, with the very same rows
    bench.change([RenameAway, Make, FillFromAway]).await;
    assert_refused(&mut bench, "was made anew").await;
    bench.change([Tidy]).await;
    assert_refused(&mut bench, "was made anew").await;
    bench.change([Drop, RenameBack]).await;
    assert_fine(&mut bench).await;
    // WHEN it is emptied, or dropped
    bench.change([Empty]).await;
    assert_refused(&mut bench, "the table is empty").await;
    bench.change([Drop]).await;
    assert_refused(&mut bench, "there is no such table any more").await;
}

/// A slice that held nothing leaves a receipt of nothing, and needs no table to be true.
pub async fn receipts_of_nothing_contradict_no_table<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    // GIVEN a slice that was loaded, and loaded again by a later run when its rows were gone
    bench.load(range(0, 10), Given::rows(0..10)).await;
    bench.next_run();
    bench.prepare().await;
    bench.load(range(0, 20), Given::rows(0..0)).await;
    // THEN the empty table is as it should be
    assert_fine(&mut bench).await;
    // WHEN it is dropped THEN it is made again, and its slices are loaded again
    bench.change([TableChange::Drop]).await;
    assert_eq!(bench.probe().await.covered.len(), 0);
    bench.next_run();
    assert!(bench.prepare().await.1.is_empty());
    bench.load(range(0, 10), Given::rows(0..10)).await;
    assert_eq!(bench.count().await, 10);
}
