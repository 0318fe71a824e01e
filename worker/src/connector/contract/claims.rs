//! Who may commit: claims, fences, and what the ledger says afterwards.

use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::commit::LedgerState;
use highwater_common::id::DocumentDigest;

use super::bench::{
    Bench, Given, assert_lost, assert_writes_in_vain, commit, failure, fence, range,
};
use super::{TargetFixture, Writers};
use crate::connector::{ClaimOutcome, CommitOutcome, GuardOutcome, GuardStep, HeldClaim};

/// The later attempt holds the task.
pub async fn a_growing_token_takes_the_claim_over<F: TargetFixture>() {
    // GIVEN a task that was claimed
    let bench = Bench::<F>::prepared().await;
    let (first, second) = (bench.claim(range(0, 10), 1), bench.claim(range(0, 10), 2));
    let _former = bench.held(&first).await;
    // WHEN a larger token claims it
    let _held = bench.held(&second).await;
    // THEN the ledger has the newer fence, and the older attempt cannot come back
    let row = bench
        .target
        .ledger_row(&bench.run, &first.task)
        .await
        .expect("readable")
        .expect("claimed");
    assert_eq!((row.state, row.fence), (LedgerState::Open, second.fence));
    assert_eq!(
        (row.spec_digest, row.receipt),
        (first.spec_digest, Receipt::default())
    );
    let answer = bench.target.claim(&first).await.expect("an answer");
    assert!(
        matches!(answer, ClaimOutcome::Fenced { newer } if newer == second.fence.token),
        "{answer:?}"
    );
}

/// A token that comes twice, after a store was restored, is told apart by its nonce.
pub async fn an_equal_token_with_another_nonce_is_fenced<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN a claim
    let first = bench.claim(range(0, 10), 1);
    let _held = bench.held(&first).await;
    // WHEN the same token comes with another nonce
    let mut again = first.clone();
    again.fence = fence(1, 99);
    let answer = bench.target.claim(&again).await.expect("an answer");
    // THEN it is refused, and the ledger keeps the first
    assert!(
        matches!(answer, ClaimOutcome::Fenced { newer } if newer == first.fence.token),
        "{answer:?}"
    );
    let row = bench
        .target
        .ledger_row(&bench.run, &first.task)
        .await
        .expect("readable")
        .expect("claimed");
    assert_eq!(row.fence, first.fence);
}

/// A late attempt meets the newer token and is told it.
pub async fn a_smaller_token_is_fenced<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let newer = bench.claim(range(0, 10), 5);
    drop(bench.held(&newer).await);
    let answer = bench
        .target
        .claim(&bench.claim(range(0, 10), 4))
        .await
        .expect("an answer");
    assert!(
        matches!(answer, ClaimOutcome::Fenced { newer: met } if met == newer.fence.token),
        "{answer:?}"
    );
}

/// A claim whose answer was lost is repeated by its own attempt, and goes on.
pub async fn the_same_attempt_may_claim_again<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let claim = bench.claim(range(0, 10), 1);
    drop(bench.held(&claim).await);
    let receipt = bench
        .load_as(
            &claim,
            &bench.write_request(claim.slice.expect("of a slice")),
            Given::rows(0..10),
        )
        .await
        .expect("the load goes through");
    assert_eq!(receipt.rows, 10);
}

/// A zombie writes what it likes and commits nothing; while it does, it stands in nobody's way.
pub async fn guard_is_last_and_fences_the_zombie<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let (slice, request) = (range(0, 10), bench.write_request(range(0, 10)));
    let (zombie, successor) = (bench.claim(slice, 1), bench.claim(slice, 2));
    // GIVEN an attempt that fell asleep after its claim; where the target takes several writers, in
    // mid-transaction
    let claimed = bench.held(&zombie).await;
    let (mut claimed, mut written) = (Some(claimed), None);
    if F::WRITERS == Writers::Many {
        let tx = claimed
            .take()
            .expect("just claimed")
            .begin()
            .await
            .expect("begins");
        let other = bench.write_request(range(1_000, 1_010));
        written = Some(
            tx.write(&other, &mut Given::rows(1_000..1_010))
                .await
                .expect("writes"),
        );
    }
    // WHEN its successor does the whole work, and the zombie wakes up afterwards
    let receipt = bench
        .load_as(&successor, &request, Given::rows(0..8))
        .await
        .expect("the successor commits");
    match (claimed, written) {
        (Some(claimed), _) => assert_writes_in_vain(claimed, &request, Given::rows(0..10)).await,
        (None, Some((tx, receipt))) => assert_lost(tx, &receipt).await,
        (None, None) => unreachable!("claimed or written"),
    }
    // THEN the rows and the ledger are the successor's
    assert_eq!(bench.count().await, 8);
    let row = bench
        .target
        .ledger_row(&bench.run, &zombie.task)
        .await
        .expect("readable")
        .expect("claimed");
    assert_eq!(
        (row.state, row.fence, row.receipt),
        (LedgerState::Committed, successor.fence, receipt)
    );
}

/// The claim alone is the fence: the successor need not have begun, let alone committed.
pub async fn a_successors_claim_alone_fences_the_zombie<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN two attempts that have claimed, one after the other
    let slice = range(0, 10);
    let zombie = bench.held(&bench.claim(slice, 1)).await;
    let successor = bench.held(&bench.claim(slice, 2)).await;
    // WHEN the first goes on, THEN it writes in vain and the second does not
    assert_zombie_and_successor(&bench, zombie, successor).await;
}

/// Store and target were both rewound: the same token is issued again, and only the nonce tells the
/// attempts apart.
pub async fn a_token_issued_again_fences_the_zombie_by_its_nonce<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN a claim that the target forgot
    let slice = range(0, 10);
    let zombie = bench.held(&bench.claim(slice, 1)).await;
    bench.fixture.forget_claims().await;
    // AND another attempt under the same token
    let mut again = bench.claim(slice, 1);
    again.fence = fence(1, 99);
    let successor = bench.held(&again).await;
    // WHEN the first goes on, THEN it writes in vain and the second does not
    assert_zombie_and_successor(&bench, zombie, successor).await;
}

async fn assert_zombie_and_successor<F: TargetFixture>(
    bench: &Bench<F>,
    zombie: HeldClaim,
    successor: HeldClaim,
) {
    let request = bench.write_request(range(0, 10));
    assert_writes_in_vain(zombie, &request, Given::rows(0..10)).await;
    assert_eq!(bench.count().await, 0);
    let tx = successor.begin().await.expect("begins");
    let (tx, receipt) = tx
        .write(&request, &mut Given::rows(0..7))
        .await
        .expect("writes");
    commit(tx, &receipt).await;
    assert_eq!(bench.count().await, 7);
}

/// An attempt that comes after the commit has only to report it.
pub async fn a_committed_task_replays_its_receipt<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let receipt = bench.load(range(0, 10), Given::rows(0..10)).await;
    assert_eq!(receipt.rows, 10);
    // WHEN another worker claims the task again, with a larger token
    let answer = bench
        .fixture
        .target()
        .claim(&bench.claim(range(0, 10), 2))
        .await
        .expect("an answer");
    // THEN it is given the receipt
    assert!(
        matches!(answer, ClaimOutcome::Committed(replayed) if replayed == receipt),
        "{answer:?}"
    );
}

/// A task belongs to one version of the spec.
pub async fn a_changed_spec_is_told_and_claims_nothing<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let claim = bench.claim(range(0, 10), 1);
    drop(bench.held(&claim).await);
    let mut changed = bench.claim(range(0, 10), 2);
    changed.spec_digest = DocumentDigest::of(b"another spec");
    let answer = bench.target.claim(&changed).await.expect("an answer");
    assert!(matches!(answer, ClaimOutcome::SpecChanged), "{answer:?}");
    let row = bench
        .target
        .ledger_row(&bench.run, &claim.task)
        .await
        .expect("readable")
        .expect("claimed");
    assert_eq!(row.fence, claim.fence);
}

/// A plan was made for one server and one life of it.
pub async fn a_claim_on_another_target_than_planned_is_refused<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let mut claim = bench.claim(range(0, 10), 1);
    claim.fingerprint = "another target".to_owned();
    let refusal = failure(bench.target.claim(&claim).await);
    assert_eq!(refusal.code, "target_changed", "{}", refusal.message);
    assert_eq!(
        bench
            .target
            .ledger_row(&bench.run, &claim.task)
            .await
            .expect("readable"),
        None
    );
}

/// Restarting a worker is no change of the target; nor is work on it.
pub async fn a_target_keeps_its_fingerprint<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let before = bench.probe().await.fingerprint;
    let claim = bench.claim(range(0, 10), 1);
    let tx = bench.held(&claim).await.begin().await.expect("begins");
    let (tx, receipt) = tx
        .write(&bench.write_request(range(0, 10)), &mut Given::rows(0..10))
        .await
        .expect("writes");
    commit(tx, &receipt).await;
    let after = bench
        .fixture
        .target()
        .probe(&bench.target_probe())
        .await
        .expect("probes")
        .fingerprint;
    assert_eq!(before, after);
}

/// A commit whose answer was lost is in the ledger, or it is not; the ledger's word is final.
pub async fn a_commit_whose_answer_was_lost_is_found_in_the_ledger<F: TargetFixture>() {
    use crate::connector::faulty::{Fault, Faulty, TargetOp};
    let mut bench = Bench::<F>::prepared().await;
    // GIVEN a target that applies the first commit and loses its answer, and loses the second
    // commit itself
    let faulty = Faulty::around(bench.fixture.target());
    faulty.next(TargetOp::Commit, Fault::AppliedAnswerLost);
    faulty.next(TargetOp::Commit, Fault::Reject(ErrorClass::Transient));
    bench.target = std::sync::Arc::new(faulty);
    for (slice, ids, state) in [
        (range(0, 10), 0..10, LedgerState::Committed),
        (range(10, 20), 10..20, LedgerState::Open),
    ] {
        let claim = bench.claim(slice, 1);
        let tx = bench.held(&claim).await.begin().await.expect("begins");
        let (tx, receipt) = tx
            .write(&bench.write_request(slice), &mut Given::rows(ids))
            .await
            .expect("writes");
        let GuardOutcome::Holds(guarded) = tx
            .guard(&GuardStep::last(receipt))
            .await
            .expect("an answer")
        else {
            panic!("the guard was to hold")
        };
        // WHEN it commits
        assert!(matches!(guarded.commit().await, CommitOutcome::Unknown(_)));
        // THEN the ledger, asked anew, says what became of it
        let row = bench
            .target
            .ledger_row(&bench.run, &claim.task)
            .await
            .expect("readable")
            .expect("claimed");
        assert_eq!((row.state, row.fence), (state, claim.fence));
    }
    assert_eq!(bench.count().await, 10);
}

/// Many workers, one target: every task is committed once, whatever the order.
pub async fn attempts_at_the_same_time_all_commit<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let tasks =
        (0..8).map(|n| bench.load(range(n * 50, n * 50 + 50), Given::rows(n * 50..n * 50 + 50)));
    let receipts = futures_util::future::join_all(tasks).await;
    assert_eq!(
        receipts.iter().map(|receipt| receipt.rows).sum::<u64>(),
        400
    );
    assert_eq!(bench.count().await, 400);
}

/// Of two attempts on one task that run at the same time, the one with the smaller token commits
/// nothing.
pub async fn two_attempts_at_once_commit_once<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let slice = range(0, 10);
    let attempt = |number: u32| {
        let bench = &bench;
        async move {
            let claim = bench.claim(slice, number);
            // A fenced attempt's session may be ended at any statement, those of its claim
            // included, or run into the rows of the one that fenced it. Nobody ends the session of
            // the last claim.
            let claimed = match bench.fixture.target().claim(&claim).await {
                Ok(ClaimOutcome::Held(claimed)) => claimed,
                Ok(ClaimOutcome::Committed(_) | ClaimOutcome::Fenced { .. }) => return 0,
                Err(error)
                    if matches!(
                        error.report.class,
                        ErrorClass::Transient | ErrorClass::Unreachable
                    ) =>
                {
                    return 0;
                }
                other => panic!("{other:?}"),
            };
            let Ok(tx) = claimed.begin().await else {
                return 0;
            };
            let Ok((tx, receipt)) = tx
                .write(&bench.write_request(slice), &mut Given::rows(0..10))
                .await
            else {
                return 0;
            };
            match tx.guard(&GuardStep::last(receipt)).await {
                Ok(crate::connector::GuardOutcome::Holds(guarded)) => {
                    assert!(matches!(
                        guarded.commit().await,
                        crate::connector::CommitOutcome::Committed(_)
                    ));
                    1
                }
                Ok(crate::connector::GuardOutcome::Lost) | Err(_) => 0,
            }
        }
    };
    let commits: i32 = futures_util::future::join_all((1..=4).map(attempt))
        .await
        .into_iter()
        .sum();
    assert_eq!((commits, bench.count().await), (1, 10));
}
