//! One stream, one writer, over all runs: who takes a stream fences every other run that had it.

use highwater_common::coverage::Coverage;
use highwater_common::id::RunId;

use super::bench::{Bench, Given, assert_lost, assert_writes_in_vain, plan, range};
use super::{TargetFixture, Writers};
use crate::connector::{ClaimOutcome, PrepareOutcome};

fn covering(slices: &[(i64, i64)]) -> Coverage {
    let mut coverage = Coverage::default();
    slices
        .iter()
        .for_each(|(start, end)| coverage.insert(&range(*start, *end)));
    coverage
}

/// What an older run has under way never lands once a newer one was prepared, and what it had
/// committed is told.
pub async fn a_stream_that_is_taken_fences_every_earlier_run<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    // GIVEN a run with a committed slice, and an attempt that fell asleep; where the target takes
    // several writers, before its guard
    bench.load(range(0, 10), Given::rows(0..10)).await;
    let (slept, request) = (
        bench.claim(range(10, 20), 1),
        bench.write_request(range(10, 20)),
    );
    let unclaimed = bench.claim(range(20, 30), 1);
    let claimed = bench.held(&slept).await;
    let (mut claimed, mut written) = (Some(claimed), None);
    if F::WRITERS == Writers::Many {
        let tx = claimed
            .take()
            .expect("just claimed")
            .begin()
            .await
            .expect("begins");
        written = Some(
            tx.write(&request, &mut Given::rows(10..20))
                .await
                .expect("writes"),
        );
    }
    // WHEN a newer run is prepared
    let older = bench.next_run();
    let (_, coverage) = bench.prepare().await;
    // THEN it is told what the older one has committed
    assert_eq!(coverage, covering(&[(0, 10)]));
    // AND the attempt wakes up in vain, no claim of its run begins any more, and the target says by
    // whom it is fenced
    match (claimed, written) {
        (Some(claimed), _) => assert_writes_in_vain(claimed, &request, Given::rows(10..20)).await,
        (None, Some((tx, receipt))) => assert_lost(tx, &receipt).await,
        (None, None) => unreachable!("claimed or written"),
    }
    for claim in [&slept, &unclaimed] {
        let answer = bench.target.claim(claim).await.expect("an answer");
        assert!(matches!(answer, ClaimOutcome::Superseded), "{answer:?}");
    }
    assert_eq!(
        bench.target.fenced_by(&older).await.expect("an answer"),
        Some(bench.run)
    );
    assert_eq!(
        bench.target.fenced_by(&bench.run).await.expect("an answer"),
        None
    );
    assert_eq!(bench.count().await, 10);
    // AND the newer run loads what is missing
    bench.load(range(10, 20), Given::rows(10..20)).await;
    assert_eq!(bench.count().await, 20);
}

/// A prepare that sleeps while a newer run begins and works must not fence that one when it wakes
/// up.
pub async fn a_late_prepare_of_an_older_run_takes_nothing<F: TargetFixture>() {
    let mut bench = Bench::<F>::fresh().await;
    // GIVEN a run whose prepare fell asleep before it had done anything, and another one's after it
    // had done everything
    let asleep = bench.prepare_request();
    bench.next_run();
    bench.prepare().await;
    let done = bench.prepare_request();
    // WHEN a newer run has begun, and they wake up
    let second = bench.next_run();
    bench.prepare().await;
    let held = bench.held(&bench.claim(range(0, 10), 1)).await;
    let answers = [
        bench.target.prepare(&asleep).await,
        bench.target.prepare(&done).await,
    ];
    // THEN the first is told of the larger token, the second that it is fenced, and neither has
    // changed anything
    let newer = bench.prepare_request().stream.token;
    assert_eq!(
        answers[0].as_ref().expect("an answer"),
        &PrepareOutcome::Fenced { newer }
    );
    assert_eq!(
        answers[1].as_ref().expect("an answer"),
        &PrepareOutcome::Superseded
    );
    assert_eq!(
        bench.target.fenced_by(&second).await.expect("an answer"),
        Some(bench.run)
    );
    drop(held);
    bench
        .load_as(
            &bench.claim(range(0, 10), 2),
            &bench.write_request(range(0, 10)),
            Given::rows(0..10),
        )
        .await
        .expect("loads");
    // AND under a larger token the first may have the stream: its run was never fenced
    let mut again = asleep.clone();
    again.stream.token = bench.claim(range(0, 10), 9).fence.token;
    let answer = bench.target.prepare(&again).await.expect("an answer");
    assert!(
        matches!(answer, PrepareOutcome::Prepared { .. }),
        "{answer:?}"
    );
}

/// A repeat for the same plan leaves its tasks alone, and what they have committed is no news to
/// that plan: their claims meet it.
pub async fn a_run_that_prepares_again_is_told_of_what_its_plan_has_not_committed<
    F: TargetFixture,
>() {
    let bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    let claim = bench.claim(range(10, 20), 1);
    let held = bench.held(&claim).await;
    assert_eq!(bench.prepare().await.1, covering(&[]));
    assert_eq!(bench.probe().await.covered.len(), 1);
    assert!(
        bench
            .target
            .ledger_row(&claim.run, &claim.task)
            .await
            .expect("an answer")
            .is_some()
    );
    drop(held);
}

/// A store that was put back to before a run had its plan plans it once more, and may cut it
/// otherwise: what is still under way under the former plan never lands, and the probe and the
/// prepare are told the same of what did.
pub async fn another_plan_of_the_run_commits_nothing_once_the_stream_is_taken<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    // GIVEN a run with a committed slice, an attempt that fell asleep, and one that has not claimed
    // yet
    bench.load(range(0, 10), Given::rows(0..10)).await;
    let (slept, request) = (
        bench.claim(range(10, 20), 1),
        bench.write_request(range(10, 20)),
    );
    let unclaimed = bench.claim(range(20, 30), 12);
    let claimed = bench.held(&slept).await;
    let (mut claimed, mut written) = (Some(claimed), None);
    if F::WRITERS == Writers::Many {
        let tx = claimed
            .take()
            .expect("just claimed")
            .begin()
            .await
            .expect("begins");
        written = Some(
            tx.write(&request, &mut Given::rows(10..20))
                .await
                .expect("writes"),
        );
    }
    // WHEN the run is planned anew, under the same generation, and prepared: by a token that the
    // former plan's prepare had, too
    let facts = bench.probe().await;
    let (mut anew, mut late) = (bench.prepare_request(), bench.prepare_request());
    anew.stream.plan = Some(plan(2));
    let answer = bench.target.prepare(&anew).await.expect("an answer");
    assert_eq!(
        answer,
        PrepareOutcome::Fenced {
            newer: anew.stream.token
        }
    );
    // AND by a larger one
    anew.stream.token = bench.claim(range(10, 20), 9).fence.token;
    let answer = bench.target.prepare(&anew).await.expect("an answer");
    // AND a prepare of the former plan is late
    late.stream.token = bench.claim(range(10, 20), 8).fence.token;
    let outrun = bench.target.prepare(&late).await.expect("an answer");
    assert_eq!(
        outrun,
        PrepareOutcome::Fenced {
            newer: anew.stream.token
        }
    );
    // THEN both were told what is committed
    let PrepareOutcome::Prepared { coverage, .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(coverage, covering(&[(0, 10)]));
    assert_eq!(Coverage::of(&facts.covered, facts.covered_null), coverage);
    // AND the attempt wakes up in vain, and what the former plan had not begun never begins
    match (claimed, written) {
        (Some(claimed), _) => assert_writes_in_vain(claimed, &request, Given::rows(10..20)).await,
        (None, Some((tx, receipt))) => assert_lost(tx, &receipt).await,
        (None, None) => unreachable!("claimed or written"),
    }
    for claim in [&slept, &unclaimed] {
        let answer = bench.target.claim(claim).await.expect("an answer");
        assert!(matches!(answer, ClaimOutcome::PlanChanged), "{answer:?}");
    }
    assert_eq!(bench.count().await, 10);
    // AND the plan that has the stream loads what is missing, also under the name of a task that
    // the former one had
    let mut claim = bench.claim(range(10, 20), 2);
    claim.plan = plan(2);
    bench
        .load_as(&claim, &request, Given::rows(10..20))
        .await
        .expect("loads");
    assert_eq!(bench.count().await, 20);
}

/// Two streams in one target have nothing to do with each other, unless a run has rows of both.
pub async fn a_run_of_another_stream_goes_on<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    let held = bench.held(&bench.claim(range(0, 10), 1)).await;
    drop(held);
    // WHEN another run takes another stream
    let first = bench.next_run();
    let mut request = bench.prepare_request();
    request.stream.stream = "shop/others/legacy:items-1/items".to_owned();
    bench.target.prepare(&request).await.expect("prepares");
    // THEN the first one goes on
    assert_eq!(
        bench.target.fenced_by(&first).await.expect("an answer"),
        None
    );
    bench.run = first;
    bench
        .load_as(
            &bench.claim(range(0, 10), 2),
            &bench.write_request(range(0, 10)),
            Given::rows(0..10),
        )
        .await
        .expect("loads");
    // WHEN a run takes its stream, THEN it is fenced in all it does there
    bench.run = RunId::from_bytes([99; 16]);
    bench.prepare().await;
    assert_eq!(
        bench.target.fenced_by(&first).await.expect("an answer"),
        Some(bench.run)
    );
}
