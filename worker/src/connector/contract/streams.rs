//! One stream, one writer, over all runs: who takes a stream fences every other run that had it.

use highwater_common::coverage::Coverage;
use highwater_common::id::RunId;

use super::bench::{Bench, Given, assert_lost, assert_writes_in_vain, range};
use super::{TargetFixture, Writers};
use crate::connector::{ClaimOutcome, PrepareOutcome};

fn covering(slices: &[(i64, i64)]) -> Coverage {
    let mut coverage = Coverage::default();
    slices.iter().for_each(|(start, end)| coverage.insert(&range(*start, *end)));
    coverage
}

/// What an older run has under way never lands once a newer one was prepared, and what it had committed is told.
pub async fn a_stream_that_is_taken_fences_every_earlier_run<F: TargetFixture>() {
    let mut bench = Bench::<F>::prepared().await;
    // GIVEN a run with a committed slice, and an attempt that fell asleep; where the target takes several writers, before its guard
    bench.load(range(0, 10), Given::rows(0..10)).await;
    let (slept, request) = (bench.claim(range(10, 20), 1), bench.write_request(range(10, 20)));
    let unclaimed = bench.claim(range(20, 30), 1);
    let claimed = bench.held(&slept).await;
    let (mut claimed, mut written) = (Some(claimed), None);
    if F::WRITERS == Writers::Many {
        let tx = claimed.take().expect("just claimed").begin().await.expect("begins");
        written = Some(tx.write(&request, &mut Given::rows(10..20)).await.expect("writes"));
    }
    // WHEN a newer run is prepared
    let older = bench.next_run();
    let (_, coverage) = bench.prepare().await;
    // THEN it is told what the older one has committed
    assert_eq!(coverage, covering(&[(0, 10)]));
    // AND the attempt wakes up in vain, no claim of its run begins any more, and the target says by whom it is fenced
    match (claimed, written) {
        (Some(claimed), _) => assert_writes_in_vain(claimed, &request, Given::rows(10..20)).await,
        (None, Some((tx, receipt))) => assert_lost(tx, &receipt).await,
        (None, None) => unreachable!("claimed or written"),
    }
    for claim in [&slept, &unclaimed] {
        let answer = bench.target.claim(claim).await.expect("an answer");
        assert!(matches!(answer, ClaimOutcome::Superseded), "{answer:?}");
    }
    assert_eq!(bench.target.fenced_by(&older).await.expect("an answer"), Some(bench.run));
    assert_eq!(bench.target.fenced_by(&bench.run).await.expect("an answer"), None);
    assert_eq!(bench.rows_where("1 = 1").await, 10);
    // AND the newer run loads what is missing
    bench.load(range(10, 20), Given::rows(10..20)).await;
    assert_eq!(bench.rows_where("1 = 1").await, 20);
}

/// A prepare that sleeps while a newer run begins and works must not fence that one when it wakes up.
pub async fn a_late_prepare_of_an_older_run_takes_nothing<F: TargetFixture>() {
    let mut bench = Bench::<F>::fresh().await;
    // GIVEN a run whose prepare fell asleep before it had done anything, and another one's after it had done everything
    let asleep = bench.prepare_request();
    bench.next_run();
    bench.prepare().await;
    let done = bench.prepare_request();
    // WHEN a newer run has begun, and they wake up
    let second = bench.next_run();
    bench.prepare().await;
    let held = bench.held(&bench.claim(range(0, 10), 1)).await;
    let answers = [bench.target.prepare(&asleep).await, bench.target.prepare(&done).await];
    // THEN the first is told of the larger token, the second that it is fenced, and neither has changed anything
    let newer = bench.prepare_request().stream.token;
    assert_eq!(answers[0].as_ref().expect("an answer"), &PrepareOutcome::Outrun { newer });
    assert_eq!(answers[1].as_ref().expect("an answer"), &PrepareOutcome::Superseded);
    assert_eq!(bench.target.fenced_by(&second).await.expect("an answer"), Some(bench.run));
    drop(held);
    bench
        .load_as(&bench.claim(range(0, 10), 2), &bench.write_request(range(0, 10)), Given::rows(0..10))
        .await
        .expect("loads");
    // AND under a larger token the first may have the stream: its run was never fenced
    let mut again = asleep.clone();
    again.stream.token = bench.claim(range(0, 10), 9).fence.token;
    let answer = bench.target.prepare(&again).await.expect("an answer");
    assert!(matches!(answer, PrepareOutcome::Prepared { .. }), "{answer:?}");
}

/// What the run's own plan has committed is none of what it found; what an earlier plan of it has committed is.
pub async fn a_run_that_prepares_again_is_told_of_others_only<F: TargetFixture>() {
    let bench = Bench::<F>::prepared().await;
    bench.load(range(0, 10), Given::rows(0..10)).await;
    assert_eq!(bench.prepare().await.1, Coverage::default());
    let mut request = bench.prepare_request();
    request.stream.generation = 2;
    let answer = bench.target.prepare(&request).await.expect("an answer");
    assert!(
        matches!(&answer, PrepareOutcome::Prepared { coverage, .. } if *coverage == covering(&[(0, 10)])),
        "{answer:?}"
    );
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
    assert_eq!(bench.target.fenced_by(&first).await.expect("an answer"), None);
    bench.run = first;
    bench
        .load_as(&bench.claim(range(0, 10), 2), &bench.write_request(range(0, 10)), Given::rows(0..10))
        .await
        .expect("loads");
    // WHEN a run takes its stream, THEN it is fenced in all it does there
    bench.run = RunId::from_bytes([99; 16]);
    bench.prepare().await;
    assert_eq!(bench.target.fenced_by(&first).await.expect("an answer"), Some(bench.run));
}
