//! Rows that wait in a table beside until all of them are there: the table that is read holds them
//! then, or what it held before.

use highwater_common::assignment::Receipt;
use highwater_common::spec::{Shrinking, TableName};

use super::bench::{Bench, Given, assert_lost, commit, failure};
use super::refreshes::{claim, prepare, replacing};
use super::{Row, TargetFixture};
use crate::connector::{Claim, StageRequest, Stages, WriteRequest};

/// A target whose table holds the old rows of ids 0 to 9.
async fn prepared<F: TargetFixture>() -> Bench<F> {
    let bench = Bench::<F>::fresh().await;
    prepare(&bench).await;
    bench.insert(0..10).await;
    bench
}

fn stages<F: TargetFixture>(bench: &Bench<F>) -> &dyn Stages {
    bench.target.stages().expect("rows can wait")
}

/// The table that an attempt's rows wait in, made now.
async fn stage<F: TargetFixture>(bench: &Bench<F>, claim: &Claim) -> TableName {
    let request = StageRequest {
        table: bench.fixture.table(),
        run: bench.run,
        stream: claim.stream.clone(),
        attempt: claim.fence,
    };
    let columns = bench.fixture.columns();
    let columns: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let made = stages(bench).make(&request, &columns).await;
    made.expect("it can be made")
}

async fn fill<F: TargetFixture>(bench: &Bench<F>, stage: &TableName, mut rows: Given) {
    let request = WriteRequest {
        table: stage.clone(),
        ..replacing(bench)
    };
    let filled = stages(bench).fill(&request, &mut rows).await;
    filled.expect("it can be filled");
}

/// Those that were there and are among them are not touched, the others come and go.
pub async fn a_table_holds_the_rows_that_waited_and_no_other<F: TargetFixture>() {
    let bench = prepared::<F>().await;
    // GIVEN rows that came in two pieces: one that the table holds already, one that it holds
    // otherwise, and new ones
    let first = claim(&bench, 1);
    let held = bench.held(&first).await;
    let stage = stage(&bench, &first).await;
    fill(&bench, &stage, Given::of(&[Row::old(3)])).await;
    fill(&bench, &stage, Given::rows(8..20)).await;
    // WHEN they are published THEN nobody has seen one before
    assert_eq!(bench.rows_where(Row::is_old).await, 10);
    let request = replacing(&bench);
    let tx = held.begin().await.expect("it begins");
    let tx = tx.replace_by(&request, &stage, 13).await;
    let receipt = Receipt { rows: 13, bytes: 0 };
    commit(tx.expect("it is published"), &receipt).await;
    assert_eq!(
        (bench.count().await, bench.rows_where(Row::is_old).await),
        (13, 1)
    );
}

/// An attempt that finds another number of rows than it has read publishes none.
pub async fn rows_that_are_missing_publish_nothing<F: TargetFixture>() {
    let bench = prepared::<F>().await;
    let first = claim(&bench, 1);
    let held = bench.held(&first).await;
    let stage = stage(&bench, &first).await;
    fill(&bench, &stage, Given::rows(0..9)).await;
    let request = replacing(&bench);
    let tx = held.begin().await.expect("it begins");
    let refused = failure(tx.replace_by(&request, &stage, 10).await);
    assert_eq!(refused.code, "replaced_range_counts_differently");
    assert_eq!(bench.rows_where(Row::is_old).await, 10);
}

/// Whatever an attempt that was given up still writes, the next one publishes its own rows.
pub async fn a_stage_is_one_attempts_own<F: TargetFixture>() {
    let bench = prepared::<F>().await;
    // GIVEN an attempt that has lost its task to another one
    let (first, second) = (claim(&bench, 1), claim(&bench, 2));
    let zombie = bench.held(&first).await;
    let zombies = stage(&bench, &first).await;
    let held = bench.held(&second).await;
    let own = stage(&bench, &second).await;
    assert_ne!(own, zombies);
    // WHEN both write their rows THEN the later one publishes its own
    fill(&bench, &own, Given::rows(0..5)).await;
    fill(&bench, &zombies, Given::rows(5..50)).await;
    let request = WriteRequest {
        shrinking: Shrinking {
            allow_shrink: true,
            ..Shrinking::default()
        },
        ..replacing(&bench)
    };
    let tx = held.begin().await.expect("it begins");
    let tx = tx.replace_by(&request, &own, 5).await;
    commit(tx.expect("it is published"), &Receipt { rows: 5, bytes: 0 }).await;
    assert_eq!(bench.count().await, 5);
    // AND the other one none, if it can still speak
    if let Ok(tx) = zombie.begin().await
        && let Ok(tx) = tx.replace_by(&request, &zombies, 45).await
    {
        assert_lost(tx, &Receipt { rows: 45, bytes: 0 }).await;
    }
    assert_eq!(bench.count().await, 5);
}
