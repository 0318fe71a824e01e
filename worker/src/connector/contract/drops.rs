//! Futures that are dropped wherever they happen to wait.

use std::future::{Future, poll_fn};
use std::pin::pin;

use highwater_common::commit::LedgerState;
use highwater_common::range::Slice;

use super::TargetFixture;
use super::bench::{Bench, Given, commit, range};

/// Polls after which an attempt that still waits is stuck.
const POLLS_MAX: usize = 2_000;
/// Rows of each attempt: a few batches, so that writing waits several times.
const ROWS: i64 = 250;

/// Cuts an attempt off after every number of polls that it can take; whatever was under way,
/// nothing stays open, and the task's rows are in the target wholly or not at all.
pub async fn a_begin_or_commit_dropped_at_any_await_leaves_no_open_transaction<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    for polls in 0..POLLS_MAX {
        // GIVEN an attempt that is dropped when it has been polled so often
        let first = i64::try_from(polls).expect("small") * ROWS;
        let slice = range(first, first + ROWS);
        let finished = polled_at_most(polls, attempt(&bench, slice)).await;
        // WHEN the next attempt comes
        let next = bench.claim(slice, 2);
        let answer = bench.target.claim(&next).await.expect(
            "nothing stands in the way of the next \
            claim",
        );
        match answer {
            // THEN it finds the work done by a commit that ran to its end,
            crate::connector::ClaimOutcome::Committed(receipt) => {
                assert_eq!(receipt.rows, ROWS as u64)
            }
            // or nothing of it, and does it itself
            crate::connector::ClaimOutcome::Held(claimed) => {
                let tx = claimed.begin().await.expect("nothing is left open");
                let rows = &mut Given::rows(first..first + ROWS);
                let (tx, receipt) = tx
                    .write(&bench.write_request(slice), rows)
                    .await
                    .expect("writes");
                commit(tx, &receipt).await;
            }
            other => panic!("after {polls} polls: {other:?}"),
        }
        let row = bench
            .target
            .ledger_row(&bench.run, &next.task)
            .await
            .expect("readable")
            .expect("claimed");
        assert_eq!(row.state, LedgerState::Committed);
        assert_eq!(
            bench.fixture.rows(Some(first)).await.len(),
            ROWS as usize,
            "after {polls} polls"
        );
        if finished {
            return;
        }
    }
    panic!("the attempt still waits after {POLLS_MAX} polls");
}

async fn attempt<F: TargetFixture>(bench: &Bench<F>, slice: Slice) {
    let Slice::Range(range) = slice else {
        unreachable!("the case loads ranges")
    };
    let Some(highwater_common::cursor::Cursor::Integer(first)) = range.start() else {
        unreachable!("of whole numbers")
    };
    let tx = bench
        .held(&bench.claim(slice, 1))
        .await
        .begin()
        .await
        .expect("begins");
    let rows = &mut Given::rows(first..first + ROWS);
    let (tx, receipt) = tx
        .write(&bench.write_request(slice), rows)
        .await
        .expect("writes");
    commit(tx, &receipt).await;
}

/// True when the future ended within so many polls; else it was dropped.
async fn polled_at_most(polls: usize, future: impl Future<Output = ()>) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|()| true)
    })
    .await
}
