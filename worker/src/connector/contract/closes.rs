//! What a step's close is told of its commits.

use highwater_common::assignment::ErrorClass;
use highwater_common::close::Ordinals;
use highwater_common::id::{ClusterId, RunId};
use highwater_common::spec::WriteMode;

use super::bench::{Bench, Given, failure, plan, range};
use super::{TableChange, TargetFixture};
use crate::connector::CloseRequest;

pub(super) fn request<F: TargetFixture>(bench: &Bench<F>, mode: WriteMode) -> CloseRequest {
    let claim = bench.claim(range(0, 10), 1);
    CloseRequest {
        cluster: claim.cluster,
        run: claim.run,
        plan: claim.plan,
        step: claim.step,
        phase: claim.phase,
        table: bench.fixture.table(),
        mode,
    }
}

/// Those that are committed and no others: not what is open, and nothing of another plan, phase,
/// step or run.
pub async fn the_commits_of_a_phase_are_told_by_their_ordinals<F: TargetFixture>() {
    // GIVEN three committed tasks, and one that is open
    let bench = Bench::<F>::prepared().await;
    for start in [0, 10, 40] {
        bench
            .load(range(start, start + 10), Given::rows(start..start + 10))
            .await;
    }
    let held = bench.held(&bench.claim(range(20, 30), 1)).await;
    // WHEN their step asks, THEN it is told of the three
    let asked = request(&bench, WriteMode::Append);
    let told = bench.target.committed(&asked).await.expect("an answer");
    assert_eq!(told, Ordinals::of_ranges([(0, 1), (4, 4)]));
    drop(held);
    // AND whoever else asks is told of none
    let others = [
        CloseRequest {
            plan: plan(2),
            ..asked.clone()
        },
        CloseRequest {
            phase: asked.phase + 1,
            ..asked.clone()
        },
        CloseRequest {
            step: "others".parse().expect("a legal name"),
            ..asked.clone()
        },
        CloseRequest {
            run: RunId::from_bytes([99; 16]),
            ..asked.clone()
        },
    ];
    for other in others {
        assert_eq!(
            bench.target.committed(&other).await.expect("an answer"),
            Ordinals::default(),
            "{other:?}"
        );
    }
    let foreign = CloseRequest {
        cluster: ClusterId::from_bytes([2; 16]),
        ..asked.clone()
    };
    assert_eq!(
        failure(bench.target.committed(&foreign).await).code,
        "target_of_another_cluster"
    );
    // WHEN the target is put back to before it all, THEN none is there
    bench.fixture.forget_claims().await;
    assert_eq!(
        bench.target.committed(&asked).await.expect("an answer"),
        Ordinals::default()
    );
}

/// Nothing is there; but rows that were appended must not be loaded again by somebody who cannot
/// know which they are.
pub async fn a_target_without_a_ledger_holds_no_commit<F: TargetFixture>() {
    // GIVEN a target without a ledger and without a table
    let bench = Bench::<F>::fresh().await;
    for mode in [WriteMode::Append, WriteMode::ReplacePartition] {
        let told = bench
            .target
            .committed(&request(&bench, mode))
            .await
            .expect("an answer");
        assert_eq!(told, Ordinals::default());
    }
    // WHEN there is a table, and rows in it, THEN whoever appends is refused
    bench.fixture.change(&TableChange::Make).await;
    let appends = request(&bench, WriteMode::Append);
    assert_eq!(
        bench.target.committed(&appends).await.expect("an answer"),
        Ordinals::default()
    );
    bench.insert(1..2).await;
    let refusal = failure(bench.target.committed(&appends).await);
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "ledger_missing")
    );
    assert!(
        refusal.message.contains("could double them"),
        "{}",
        refusal.message
    );
    let told = bench
        .target
        .committed(&request(&bench, WriteMode::ReplacePartition))
        .await
        .expect("an answer");
    assert_eq!(told, Ordinals::default());
}
