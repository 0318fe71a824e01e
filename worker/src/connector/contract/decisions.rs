//! The ledger's rules, said once in `highwater_common::ledger` and once in each database's words:
//! here both are asked about the same rows.

use highwater_common::commit::{LedgerRow, LedgerState, Resume, judge};
use highwater_common::id::DocumentDigest;
use highwater_common::ledger::{self, ClaimStep, RunMark};

use super::TargetFixture;
use super::bench::{Bench, Given, failure, fence, range};
use crate::connector::{Claim, ClaimOutcome, GuardOutcome, GuardStep};

const STATES: [LedgerState; 4] = [
    LedgerState::Open,
    LedgerState::Intent,
    LedgerState::Committed,
    LedgerState::Fenced,
];

async fn row_of<F: TargetFixture>(bench: &Bench<F>, claim: &Claim) -> LedgerRow {
    bench
        .target
        .ledger_row(&claim.run, &claim.task)
        .await
        .expect("readable")
        .expect("there is a row")
}

/// Every state of a row, under a smaller, the same and a larger token, of this attempt and of
/// another, for this spec and for another: the answer is the decision's, and so is the row that is
/// left.
pub async fn every_claim_does_to_the_ledger_what_is_decided<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let mut start = 0;
    for state in STATES {
        for asked in [
            fence(1, 2),
            fence(2, 2),
            fence(2, 9),
            fence(3, 2),
            fence(3, 9),
        ] {
            for spec in ["spec", "another"] {
                start += 10;
                // GIVEN a row that was claimed by the second attempt, and what became of it since
                let former = bench.claim(range(start, start + 10), 2);
                drop(bench.held(&former).await);
                bench.fixture.alter_claim(start, state, 0, false).await;
                let before = row_of(&bench, &former).await;
                assert_eq!((before.state, before.fence), (state, former.fence));
                // WHEN another claim comes
                let claim = Claim {
                    fence: asked,
                    spec_digest: DocumentDigest::of(spec.as_bytes()),
                    ..former.clone()
                };
                let answer = bench.target.claim(&claim).await;
                // THEN answer and row are as decided
                let decided = ledger::claim(
                    Some(RunMark::Running),
                    Some(&before),
                    &asked,
                    &claim.spec_digest,
                );
                let case = format!("{state:?}, {asked:?}, {spec}: {decided:?}");
                let after = row_of(&bench, &claim).await;
                match decided {
                    ClaimStep::Raise => {
                        assert!(
                            matches!(answer, Ok(ClaimOutcome::Held(_))),
                            "{case}, not {answer:?}"
                        );
                        assert_eq!(
                            (after.state, after.fence),
                            (LedgerState::Open, asked),
                            "{case}"
                        );
                    }
                    ClaimStep::NoteRun => panic!("{case}: the run is known"),
                    ClaimStep::Stands(meaning) => {
                        assert_eq!(after, before, "{case}");
                        assert_means(answer, meaning, &case);
                    }
                }
            }
        }
    }
}

fn assert_means(
    answer: Result<ClaimOutcome, crate::connector::ConnectorError>,
    meaning: Resume,
    case: &str,
) {
    match (answer, meaning) {
        (Ok(ClaimOutcome::Held(_)), Resume::Begin)
        | (Ok(ClaimOutcome::SpecChanged), Resume::SpecChanged) => {}
        (Ok(ClaimOutcome::Committed(told)), Resume::ReportOnly(receipt)) => {
            assert_eq!(told, receipt, "{case}")
        }
        (Ok(ClaimOutcome::Fenced { newer: told }), Resume::Fenced { newer }) => {
            assert_eq!(told, newer, "{case}")
        }
        (Ok(ClaimOutcome::Superseded), Resume::Superseded) => {}
        (answer @ Err(_), Resume::Probe) => assert_eq!(failure(answer).code, "in_doubt", "{case}"),
        (answer, _) => panic!("{case}, not {answer:?}"),
    }
}

/// A claim of a fenced run begins nothing, whatever its row says.
pub async fn every_claim_of_a_fenced_run_is_superseded<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN rows in every state, and none, of a run that was fenced
    let claims: Vec<_> = (0..4)
        .map(|at| bench.claim(range(at * 10, at * 10 + 10), 2))
        .collect();
    for (claim, (at, state)) in claims.iter().zip((0..).zip(STATES)) {
        drop(bench.held(claim).await);
        bench.fixture.alter_claim(at * 10, state, 0, false).await;
    }
    bench
        .target
        .fence_run(&bench.cluster, &bench.run)
        .await
        .expect("a run can be fenced");
    for (claim, state) in claims.iter().zip(STATES) {
        // THEN the fence has made of each row what is decided
        assert_eq!(row_of(&bench, claim).await.state, ledger::fence(state));
        // AND every claim, also of a later attempt, is told so
        for later in [2, 3] {
            let answer = bench
                .target
                .claim(&bench.claim(claim.slice.expect("of a slice"), later))
                .await;
            assert!(
                matches!(answer, Ok(ClaimOutcome::Superseded)),
                "{state:?}, not {answer:?}"
            );
        }
    }
    let first = bench.target.claim(&bench.claim(range(90, 100), 1)).await;
    assert!(
        matches!(first, Ok(ClaimOutcome::Superseded)),
        "not {first:?}"
    );
}

/// A guard holds for its own open row, and for no other.
pub async fn every_guard_holds_where_it_is_decided_and_nowhere_else<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    let mut start = 0;
    for state in STATES {
        for (later, is_renewed) in [(0, false), (1, false), (0, true), (1, true)] {
            start += 10;
            // GIVEN a claim, and what became of its row behind its back
            let slice = range(start, start + 10);
            let claim = bench.claim(slice, 1);
            let claimed = bench.held(&claim).await;
            bench
                .fixture
                .alter_claim(start, state, later, is_renewed)
                .await;
            let found = row_of(&bench, &claim).await;
            assert_eq!(found.state, state);
            assert_ne!(found.fence == claim.fence, later > 0 || is_renewed);
            // WHEN it comes to its guard
            let tx = claimed.begin().await.expect("begins");
            let rows = &mut Given::rows(start..start + 3);
            let (tx, receipt) = tx
                .write(&bench.write_request(slice), rows)
                .await
                .expect("writes");
            let answer = tx
                .guard(&GuardStep::last(receipt))
                .await
                .expect("the guard can be asked");
            // THEN it holds where the decision says so
            let is_permitted = judge(ledger::guard(Some(&found), &claim.fence), None).is_ok();
            let holds = matches!(answer, GuardOutcome::Holds(_));
            assert_eq!(
                holds, is_permitted,
                "{state:?}, {:?} for {:?}",
                found.fence, claim.fence
            );
            drop(answer);
        }
    }
}
