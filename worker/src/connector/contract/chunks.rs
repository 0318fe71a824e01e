//! A slice that is committed bit by bit: the ledger says how far it came, whatever becomes of it.

use highwater_common::assignment::Receipt;
use highwater_common::chunk::Reached;
use highwater_common::close::Ordinals;
use highwater_common::coverage::Coverage;
use highwater_common::cursor::Cursor;
use highwater_common::range::Slice;
use highwater_common::spec::WriteMode;

use super::bench::{Bench, Given, assert_lost, range};
use super::{TargetFixture, Writers};
use crate::connector::{
    ClaimOutcome, CommitOutcome, DataTx, GuardOutcome, GuardStep, HeldClaim, Next, WatermarkMove,
    WriteRequest,
};

const WHOLE: (i64, i64) = (0, 30);

fn appending<F: TargetFixture>(bench: &Bench<F>, slice: Slice) -> WriteRequest {
    WriteRequest {
        mode: WriteMode::Append,
        ..bench.write_request(slice)
    }
}

/// Writes the positions `[start, end)` of a slice, and guards the chunk that ends there.
async fn guarded<F: TargetFixture>(
    bench: &Bench<F>,
    tx: DataTx,
    start: i64,
    end: i64,
) -> GuardOutcome {
    let request = appending(bench, range(start, end));
    let mut rows = Given::rows(start..end);
    let (tx, receipt) = tx.write(&request, &mut rows).await.expect("it is written");
    let step = GuardStep {
        next: match end == WHOLE.1 {
            true => Next::Committed,
            false => Next::Continue {
                cursor: Cursor::Integer(end),
            },
        },
        ..GuardStep::last(receipt)
    };
    tx.guard(&step).await.expect("the guard can be asked")
}

/// The same, committed; the claim lives on unless it was the last chunk.
async fn commit_chunk<F: TargetFixture>(
    bench: &Bench<F>,
    claimed: HeldClaim,
    start: i64,
    end: i64,
) -> Option<HeldClaim> {
    let tx = claimed.begin().await.expect("it begins");
    let GuardOutcome::Holds(guarded) = guarded(bench, tx, start, end).await else {
        panic!("the guard was to hold");
    };
    match guarded.commit().await {
        CommitOutcome::Committed(claimed) => claimed,
        other => panic!("the commit was to be known, not {other:?}"),
    }
}

fn reached(chunks: u32, cursor: i64) -> Reached {
    let rows = u64::try_from(cursor).expect("positive");
    Reached {
        chunks,
        cursor: Some(Cursor::Integer(cursor)),
        receipt: Receipt {
            rows,
            bytes: rows * 10,
        },
    }
}

/// What the next run is told that the stream has.
async fn coverage_of_next<F: TargetFixture>(bench: &mut Bench<F>) -> Coverage {
    bench.next_run();
    bench.prepare().await.1
}

fn covered(start: i64, end: i64) -> Coverage {
    let mut coverage = Coverage::default();
    coverage.insert(&range(start, end));
    coverage
}

/// An attempt that dies between two chunks leaves those that it committed; the next one is told
/// where to go on, and all of it is one receipt in the end.
pub async fn an_attempt_goes_on_where_the_commits_of_the_one_before_end<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    let slice = range(WHOLE.0, WHOLE.1);
    // GIVEN an attempt that commits two chunks and dies in the third
    let claimed = bench.held(&bench.claim(slice, 1)).await;
    assert_eq!(claimed.reached(), Reached::default());
    let claimed = commit_chunk(&bench, claimed, 0, 10)
        .await
        .expect("it goes on");
    assert_eq!(claimed.reached(), reached(1, 10));
    let claimed = commit_chunk(&bench, claimed, 10, 20)
        .await
        .expect("it goes on");
    let tx = claimed.begin().await.expect("it begins");
    let mut rows = Given::rows(20..25).then_dies();
    let died = tx.write(&appending(&bench, range(20, 30)), &mut rows).await;
    assert!(died.is_err());
    assert_eq!(bench.count().await, 20);
    // WHEN the next one claims THEN it goes on at the third
    let claimed = bench.held(&bench.claim(slice, 2)).await;
    assert_eq!(claimed.reached(), reached(2, 20));
    assert!(commit_chunk(&bench, claimed, 20, 30).await.is_none());
    // AND every row is there once, and the receipt is that of the whole slice
    assert_eq!(bench.count().await, 30);
    let again = bench
        .target
        .claim(&bench.claim(slice, 3))
        .await
        .expect("an answer");
    let ClaimOutcome::Committed(receipt) = again else {
        panic!("the task was to be committed, not {again:?}");
    };
    let whole = Receipt {
        rows: 30,
        bytes: 300,
    };
    assert_eq!(receipt, whole);
    let told = bench
        .target
        .receipts(&bench.cluster, super::bench::STREAM)
        .await;
    let told = told.expect("an answer");
    assert_eq!((told.receipts, told.rows), (1, 30));
    assert_eq!(coverage_of_next(&mut bench).await, covered(0, 30));
}

/// Of a run that ends in the midst of a slice, the next run of the stream is told what is there,
/// and nothing more is added to it.
pub async fn a_part_of_a_slice_is_covered_when_its_run_is_fenced<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    let slice = range(WHOLE.0, WHOLE.1);
    // GIVEN an attempt that has committed one of its chunks
    let claimed = bench.held(&bench.claim(slice, 1)).await;
    let claimed = commit_chunk(&bench, claimed, 0, 10)
        .await
        .expect("it goes on");
    // WHEN the next run takes the stream THEN it is told of that chunk
    let older = bench.next_run();
    let (_, coverage) = bench.prepare().await;
    assert_eq!(coverage, covered(0, 10));
    // AND the attempt's second chunk is not committed
    let request = appending(&bench, range(10, 20));
    super::bench::assert_writes_in_vain(claimed, &request, Given::rows(10..20)).await;
    assert_eq!(bench.count().await, 10);
    let by = bench.target.fenced_by(&older).await.expect("an answer");
    assert_eq!(by, Some(bench.run));
}

/// A step's close counts tasks, and a task of which a part is committed is none.
pub async fn a_part_of_a_slice_is_no_committed_task<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let claim = bench.claim(range(WHOLE.0, WHOLE.1), 1);
    let claimed = bench.held(&claim).await;
    let claimed = commit_chunk(&bench, claimed, 0, 10)
        .await
        .expect("it goes on");
    let asked = super::closes::request(&bench, WriteMode::Append);
    let told = bench.target.committed(&asked).await.expect("an answer");
    assert_eq!(told, Ordinals::default());
    drop(claimed);
}

/// A zombie that has committed chunks loses its guard to whoever claimed after it, also where the
/// successor has not committed any.
pub async fn a_zombie_adds_no_chunk_to_those_that_it_committed<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let slice = range(WHOLE.0, WHOLE.1);
    let zombie = bench.held(&bench.claim(slice, 1)).await;
    let zombie = commit_chunk(&bench, zombie, 0, 10)
        .await
        .expect("it goes on");
    // GIVEN a zombie in the midst of its second chunk, where the target takes several writers
    let mut asleep = None;
    let mut waiting = Some(zombie);
    if F::WRITERS == Writers::Many {
        let tx = waiting.take().expect("just claimed").begin().await;
        let request = appending(&bench, range(10, 20));
        let mut rows = Given::rows(100..110);
        let tx = tx.expect("it begins");
        asleep = Some(tx.write(&request, &mut rows).await.expect("it is written"));
    }
    // WHEN another attempt claims and commits the rest
    let successor = bench.held(&bench.claim(slice, 2)).await;
    assert_eq!(successor.reached(), reached(1, 10));
    assert!(commit_chunk(&bench, successor, 10, 30).await.is_none());
    // THEN the zombie adds nothing
    match (asleep, waiting) {
        (Some((tx, receipt)), _) => assert_lost(tx, &receipt).await,
        (None, Some(zombie)) => {
            let request = appending(&bench, range(10, 20));
            super::bench::assert_writes_in_vain(zombie, &request, Given::rows(100..110)).await;
        }
        (None, None) => unreachable!("claimed or written"),
    }
    assert_eq!(bench.count().await, 30);
}

/// A claim whose answer was lost is made again by the same attempt, under the same fence: only how
/// many chunks there are tells a session that has overslept it.
pub async fn a_chunk_of_the_same_attempt_on_another_session_loses_the_guard<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let slice = range(WHOLE.0, WHOLE.1);
    let claimed = bench.held(&bench.claim(slice, 1)).await;
    // WHEN a chunk was committed since the claim, under its own token and nonce
    bench.fixture.count_a_chunk(WHOLE.0).await;
    // THEN neither a chunk nor all of it is committed by whoever does not know of it
    let request = appending(&bench, range(0, 10));
    super::bench::assert_writes_in_vain(claimed, &request, Given::rows(0..10)).await;
    assert_eq!(bench.count().await, 0);
}

/// Of two commits that read the same watermark only the first one lands, rows and all.
pub async fn a_watermark_that_was_moved_meanwhile_loses_the_guard<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let moving = async |slice: Slice, ids: std::ops::Range<i64>, position: i64, seen| {
        let tx = bench.held(&bench.claim(slice, 1)).await.begin().await;
        let mut rows = Given::rows(ids);
        let written = tx
            .expect("it begins")
            .write(&appending(&bench, slice), &mut rows)
            .await;
        let (tx, receipt) = written.expect("it is written");
        let step = GuardStep {
            watermark: Some(WatermarkMove {
                stream: "items".to_owned(),
                position: Cursor::Integer(position),
                seen,
                log: None,
            }),
            ..GuardStep::last(receipt)
        };
        match tx.guard(&step).await.expect("the guard can be asked") {
            GuardOutcome::Holds(guarded) => {
                matches!(guarded.commit().await, CommitOutcome::Committed(None))
            }
            GuardOutcome::Lost => false,
        }
    };
    // GIVEN no watermark WHEN two commits make one THEN the second is lost
    assert!(moving(range(0, 10), 0..10, 10, None).await);
    assert!(!moving(range(10, 20), 10..20, 20, None).await);
    // WHEN one moves the version that it has read THEN it moves, and nobody else's of that version
    assert!(moving(range(20, 30), 20..30, 30, Some(1)).await);
    assert!(!moving(range(30, 40), 30..40, 40, Some(1)).await);
    assert!(moving(range(40, 50), 40..50, 50, Some(2)).await);
    assert_eq!(bench.count().await, 30);
}
