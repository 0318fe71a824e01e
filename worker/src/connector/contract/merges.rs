//! Rows that take the place of those with their key: the newest stays, whoever commits last.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::commit::{LedgerRow, LedgerState};
use highwater_common::cursor::Cursor;
use highwater_common::ledger;
use highwater_common::range::Slice;
use highwater_common::spec::WriteMode;

use super::bench::{Bench, Given, assert_writes_in_vain, commit, failure, range};
use super::{Row, TableChange, TargetFixture};
use crate::connector::{
    Claim, ClaimOutcome, CommitOutcome, GuardOutcome, GuardStep, MergeBy, Next, WriteRequest,
};

/// A target that merges.
pub trait MergeFixture: TargetFixture {
    /// Lets no two rows have the same note.
    fn unique_notes(&self) -> impl Future<Output = ()> + Send;
}

/// Merges by `id`; by `pos`, if `newest`, the newer row is told.
fn merging<F: TargetFixture>(bench: &Bench<F>, slice: Slice, newest: bool) -> WriteRequest {
    WriteRequest {
        mode: WriteMode::Merge,
        merge_by: MergeBy {
            key: vec!["id".to_owned()],
            cursor: newest.then(|| "pos".to_owned()),
            marks: None,
        },
        ..bench.write_request(slice)
    }
}

fn row(id: i64, pos: impl Into<Option<i64>>, note: &str) -> Row {
    Row {
        id,
        pos: pos.into(),
        note: Some(note.to_owned()),
    }
}

/// Merges rows as a task of its own.
async fn merge<F: TargetFixture>(bench: &Bench<F>, slice: Slice, rows: &[Row]) {
    bench
        .load_as(
            &bench.claim(slice, 1),
            &merging(bench, slice, true),
            Given::of(rows),
        )
        .await
        .expect("the merge goes through");
}

async fn refusal<F: TargetFixture>(
    bench: &Bench<F>,
    slice: Slice,
    newest: bool,
    rows: &[Row],
) -> AttemptError {
    failure(
        bench
            .load_as(
                &bench.claim(slice, 1),
                &merging(bench, slice, newest),
                Given::of(rows),
            )
            .await,
    )
}

/// The table's rows by their ids.
async fn rows<F: TargetFixture>(bench: &Bench<F>) -> Vec<Row> {
    let mut rows = bench.fixture.rows(None).await;
    rows.sort_by_key(|row| row.id);
    rows
}

/// What one window read of a row, and a later one again, ends as the later one read it; what
/// neither read stays.
pub async fn a_merge_of_two_windows_ends_as_the_newest<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.change([TableChange::Insert(row(9, 3, "mine"))]).await;
    let first = [row(1, 10, "first"), row(2, 12, "kept")];
    let second = [row(1, 25, "second"), row(3, 27, "new")];
    merge(&bench, range(10, 20), &first).await;
    merge(&bench, range(20, 30), &second).await;
    let all = [
        row(1, 25, "second"),
        row(2, 12, "kept"),
        row(3, 27, "new"),
        row(9, 3, "mine"),
    ];
    assert_eq!(rows(&bench).await, all);
    // AND the same once more changes nothing
    merge(&bench, range(21, 30), &second).await;
    assert_eq!(rows(&bench).await, all);
}

/// The window that read first may commit last.
pub async fn an_older_window_committing_last_does_not_win<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    merge(&bench, range(20, 30), &[row(1, 25, "second")]).await;
    merge(
        &bench,
        range(10, 20),
        &[row(1, 10, "first"), row(2, 12, "kept")],
    )
    .await;
    assert_eq!(
        rows(&bench).await,
        [row(1, 25, "second"), row(2, 12, "kept")]
    );
    // AND no row without a cursor takes the place of one that has it, but one that has it does
    merge(
        &bench,
        Slice::Null,
        &[row(1, None, "none"), row(4, None, "none")],
    )
    .await;
    merge(&bench, range(30, 40), &[row(4, 31, "some")]).await;
    assert_eq!(
        rows(&bench).await,
        [row(1, 25, "second"), row(2, 12, "kept"), row(4, 31, "some")]
    );
}

/// Of rows of one key that come together the newest stays, in whatever order they come.
pub async fn of_rows_that_come_together_the_newest_stays<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    let came = [
        row(1, 12, "middle"),
        row(1, 15, "newest"),
        row(1, 11, "oldest"),
        row(1, None, "none"),
    ];
    merge(&bench, range(10, 20), &came).await;
    assert_eq!(rows(&bench).await, [row(1, 15, "newest")]);
}

/// Nothing says which of two rows is meant, so neither is written.
pub async fn rows_of_one_key_without_a_cursor_are_refused<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.change([TableChange::Insert(row(1, 3, "mine"))]).await;
    let twice = [row(1, 10, "one"), row(2, 11, "two"), row(1, 12, "another")];
    let error = refusal(&bench, range(10, 20), false, &twice).await;
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Permanent, "repeated_key")
    );
    assert!(error.message.contains("write.cursor"), "{}", error.message);
    assert_eq!(rows(&bench).await, [row(1, 3, "mine")]);
    // AND rows that are told apart are merged, the later one over the one before
    let request = merging(&bench, range(20, 30), false);
    let claim = bench.claim(range(20, 30), 1);
    bench
        .load_as(&claim, &request, Given::of(&twice[..2]))
        .await
        .expect("the merge goes through");
    assert_eq!(rows(&bench).await, twice[..2]);
}

/// A row of another key that only has the same note is somebody else: a `replace` would delete it.
pub async fn a_merge_never_touches_a_row_sharing_only_a_secondary_unique_key<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.fixture.unique_notes().await;
    bench
        .change([TableChange::Insert(row(3, 3, "a@example.org"))])
        .await;
    let error = refusal(&bench, range(10, 20), true, &[row(1, 10, "a@example.org")]).await;
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Permanent, "constraint_violation")
    );
    assert_eq!(rows(&bench).await, [row(3, 3, "a@example.org")]);
}

/// A table that is nothing but its key.
pub async fn rows_that_are_nothing_but_their_key_are_merged<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.change([TableChange::Insert(row(1, 3, "mine"))]).await;
    let mut request = merging(&bench, range(10, 20), false);
    request.columns.truncate(1);
    let ids = Given::ids([1, 2, 2]);
    bench
        .load_as(&bench.claim(range(10, 20), 1), &request, ids)
        .await
        .expect("the merge goes through");
    let mut ids: Vec<i64> = rows(&bench).await.iter().map(|row| row.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

/// The claim of a task that runs alone: the `lo`th token of the run.
fn alone<F: TargetFixture>(bench: &Bench<F>, slice: Slice, lo: u32) -> Claim {
    Claim {
        runs_alone: true,
        ..bench.claim(slice, lo)
    }
}

/// Where the last commit wins, the attempt that read first must not commit last: a claim ends the
/// open attempts of the other tasks, and those come back by claims of their own.
pub async fn a_claim_alone_ends_the_attempts_of_every_other_task<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    let (old, new) = ([row(1, 15, "old")], [row(1, 25, "new")]);
    let (first, second) = (range(10, 20), range(20, 30));
    // GIVEN an attempt that read a row and fell asleep, and the task that the row has come into
    // since
    let zombie = bench.held(&alone(&bench, first, 1)).await;
    let successor = bench.held(&alone(&bench, second, 2)).await;
    // WHEN the sleeper goes on, be it before the other one commits or after it, THEN in vain
    let request = merging(&bench, first, false);
    assert_writes_in_vain(zombie, &request, Given::of(&old)).await;
    let tx = successor.begin().await.expect("it begins");
    let (tx, receipt) = tx
        .write(&merging(&bench, second, false), &mut Given::of(&new))
        .await
        .expect("it is written");
    commit(tx, &receipt).await;
    assert_eq!(rows(&bench).await, new);
    // AND the sleeper's task is done by its next attempt
    let again = alone(&bench, first, 3);
    bench
        .load_as(&again, &request, Given::of(&[row(2, 16, "other")]))
        .await
        .expect("the merge goes through");
    assert_eq!(rows(&bench).await, [new[0].clone(), row(2, 16, "other")]);
}

/// A claim that was late is refused, whichever task it is of, also one that had never claimed.
pub async fn a_late_claim_of_another_task_is_fenced<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    let latest = alone(&bench, range(10, 20), 5);
    let late = alone(&bench, range(20, 30), 4);
    let refused = async || {
        let answer = bench.target.claim(&late).await.expect("an answer");
        assert!(
            matches!(answer, ClaimOutcome::Fenced { newer } if newer == latest.fence.token),
            "{answer:?}"
        );
        let row = bench.target.ledger_row(&bench.run, &late.task).await;
        assert_eq!(row.expect("readable"), None);
    };
    // GIVEN a claim WHEN an earlier one of another task comes, THEN it is told the later token
    let held = bench.held(&latest).await;
    refused().await;
    // AND the claim that came before it goes on, and the late one stays refused once it has committed
    let request = merging(&bench, range(10, 20), false);
    let tx = held.begin().await.expect("it begins");
    let (tx, receipt) = tx
        .write(&request, &mut Given::of(&[row(1, 15, "one")]))
        .await
        .expect("it is written");
    commit(tx, &receipt).await;
    refused().await;
    assert_eq!(rows(&bench).await, [row(1, 15, "one")]);
}

/// What a claim does to the rows of other tasks is what is decided, in every state of theirs.
pub async fn a_claim_alone_does_to_other_rows_what_is_decided<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    let mut start = 0;
    let mut others = Vec::new();
    // GIVEN rows of other tasks in every state, under a smaller and the same token
    for state in [
        LedgerState::Open,
        LedgerState::Intent,
        LedgerState::Committed,
        LedgerState::Fenced,
    ] {
        for lo in [2, 3] {
            start += 10;
            let other = bench.claim(range(start, start + 10), lo);
            drop(bench.held(&other).await);
            bench.fixture.alter_claim(start, state, 0, true).await;
            others.push(other);
        }
    }
    let mine = alone(&bench, range(0, 10), 3);
    let row_of = async |claim: &Claim| {
        let row = bench.target.ledger_row(&bench.run, &claim.task).await;
        row.expect("readable").expect("claimed")
    };
    let mut before = Vec::new();
    for other in &others {
        before.push(row_of(other).await);
    }
    // WHEN a task that runs alone is claimed
    drop(bench.held(&mine).await);
    // THEN it took the fences that it was to take, and nothing else has changed
    for (other, before) in others.iter().zip(before) {
        let taken = ledger::takes_fence_of(&before, &mine.fence);
        assert_eq!(taken, before.state == LedgerState::Open);
        let fence = if taken { mine.fence } else { before.fence };
        assert_eq!(row_of(other).await, LedgerRow { fence, ..before });
    }
}

/// What a chunk used beside the table is gone when the next one begins on the same session.
pub async fn a_merge_goes_on_with_another_chunk<F: MergeFixture>() {
    let bench = Bench::<F>::prepared().await;
    let slice = range(0, 20);
    let claimed = bench.held(&bench.claim(slice, 1)).await;
    let tx = claimed.begin().await.expect("it begins");
    let mut first = Given::of(&[row(1, 5, "first")]);
    let (tx, receipt) = tx
        .write(&merging(&bench, range(0, 10), true), &mut first)
        .await
        .expect("it is written");
    let step = GuardStep {
        next: Next::Continue {
            cursor: Cursor::Integer(10),
        },
        ..GuardStep::last(receipt)
    };
    let GuardOutcome::Holds(guarded) = tx.guard(&step).await.expect("the guard can be asked")
    else {
        panic!("the guard was to hold");
    };
    let CommitOutcome::Committed(Some(claimed)) = guarded.commit().await else {
        panic!("the chunk was to be committed");
    };
    let tx = claimed.begin().await.expect("it begins");
    let mut second = Given::of(&[row(1, 15, "second")]);
    let (tx, receipt) = tx
        .write(&merging(&bench, range(10, 20), true), &mut second)
        .await
        .expect("it is written");
    commit(tx, &receipt).await;
    assert_eq!(rows(&bench).await, [row(1, 15, "second")]);
}
