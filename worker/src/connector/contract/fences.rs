//! Runs that are fenced, and targets that change hands.

use highwater_common::assignment::ErrorClass;
use highwater_common::id::{ClusterId, RunId};

use super::bench::{Bench, Given, assert_lost, failure, range};
use super::{TargetFixture, Writers};
use crate::connector::ClaimOutcome;

/// Invariant I2: after the fence was answered, nothing of the run commits.
pub async fn a_fenced_run_commits_nothing_more<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN one committed task, and one whose attempt is under way
    bench.load(range(10, 20), Given::rows(10..20)).await;
    let (claim, request) = (
        bench.claim(range(0, 10), 1),
        bench.write_request(range(0, 10)),
    );
    let claimed = bench.held(&claim).await;
    let (mut claimed, mut written) = (Some(claimed), None);
    if F::WRITERS == Writers::Many {
        let tx = claimed
            .take()
            .expect("just claimed")
            .begin()
            .await
            .expect("begins");
        written = Some(
            tx.write(&request, &mut Given::rows(0..10))
                .await
                .expect("writes"),
        );
    }
    // WHEN the run is fenced, twice
    let report = bench
        .target
        .fence_run(&bench.cluster, &bench.run)
        .await
        .expect("fences");
    assert_eq!(report.attempts, 1);
    assert_eq!(
        bench
            .target
            .fence_run(&bench.cluster, &bench.run)
            .await
            .expect("fences")
            .attempts,
        0
    );
    // THEN the attempt loses its guard, and no claim of the run begins, not even a first one
    let (tx, receipt) = match (claimed, written) {
        (Some(claimed), _) => {
            let tx = claimed.begin().await.expect("begins");
            tx.write(&request, &mut Given::rows(0..10))
                .await
                .expect("writes")
        }
        (None, Some(written)) => written,
        (None, None) => unreachable!("claimed or written"),
    };
    assert_lost(tx, &receipt).await;
    for slice in [range(0, 10), range(20, 30)] {
        let answer = bench
            .target
            .claim(&bench.claim(slice, 2))
            .await
            .expect("an answer");
        assert!(matches!(answer, ClaimOutcome::Superseded), "{answer:?}");
    }
    // AND what was committed stays
    assert_eq!(bench.count().await, 10);
}

/// A run that never touched the target is fenced all the same: a claim that comes later finds the
/// fence.
pub async fn a_run_is_fenced_in_a_target_without_a_ledger<F: TargetFixture>() {
    let bench = Bench::<F>::fresh().await;
    let report = bench
        .target
        .fence_run(&bench.cluster, &bench.run)
        .await
        .expect("fences");
    assert_eq!(report.attempts, 0);
    bench
        .target
        .prepare(&bench.prepare_request())
        .await
        .expect("prepares");
    let answer = bench
        .target
        .claim(&bench.claim(range(0, 10), 1))
        .await
        .expect("an answer");
    assert!(matches!(answer, ClaimOutcome::Superseded), "{answer:?}");
    // AND another run is free
    let mut other = bench.claim(range(0, 10), 1);
    other.run = RunId::from_bytes([8; 16]);
    drop(bench.held(&other).await);
}

/// Two clusters do not share a target by accident.
pub async fn a_second_cluster_is_refused_until_it_adopts<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    // GIVEN a second cluster
    let first = bench.cluster;
    bench.cluster = ClusterId::from_bytes([2; 16]);
    bench.run = RunId::from_bytes([9; 16]);
    // WHEN it comes to the target
    let refusals = [
        failure(bench.target.probe(&bench.target_probe()).await),
        failure(bench.target.prepare(&bench.prepare_request()).await),
        failure(bench.target.claim(&bench.claim(range(10, 20), 1)).await),
    ];
    // THEN it is refused everywhere, and told what to do
    for refusal in refusals {
        assert_eq!(
            (refusal.class, refusal.code.as_str()),
            (ErrorClass::Permanent, "target_of_another_cluster")
        );
        assert!(
            refusal.message.contains("highwater cluster adopt"),
            "{}",
            refusal.message
        );
    }
    // AND once it has adopted the target, it works there and the first does not
    assert_eq!(
        bench.target.adopt(&bench.cluster).await.expect("adopts"),
        Some(first)
    );
    bench.fingerprint = bench.probe().await.fingerprint;
    bench.load(range(10, 20), Given::rows(10..20)).await;
    assert_eq!(bench.count().await, 20);
    bench.cluster = first;
    assert_eq!(
        failure(bench.target.probe(&bench.target_probe()).await).code,
        "target_of_another_cluster"
    );
}

/// A cluster that lost a target may get it back, with workers that slept meanwhile.
pub async fn a_run_is_fenced_whoever_the_target_belongs_to<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let second = ClusterId::from_bytes([2; 16]);
    // GIVEN a target that another cluster has adopted, and a run of the first one that never came
    // to it
    bench.target.adopt(&second).await.expect("adopts");
    // WHEN that run is cancelled, and the first cluster gets the target back
    assert_eq!(
        bench
            .target
            .fence_run(&bench.cluster, &bench.run)
            .await
            .expect("fences")
            .attempts,
        0
    );
    bench.target.adopt(&bench.cluster).await.expect("adopts");
    // THEN no claim of the run begins
    let mut claim = bench.claim(range(0, 10), 1);
    claim.fingerprint = bench.probe().await.fingerprint;
    let answer = bench.target.claim(&claim).await.expect("an answer");
    assert!(matches!(answer, ClaimOutcome::Superseded), "{answer:?}");
}
