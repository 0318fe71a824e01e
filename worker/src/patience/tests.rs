//! Waits on a clock that is held.
#![allow(
    clippy::disallowed_methods,
    reason = "tests own their time and their loops"
)]

use std::future::{pending, ready};
use std::sync::Arc;

use highwater_common::assignment::Receipt;
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;

const STALL: Duration = Duration::from_mins(10);

fn name(text: &str) -> ConnectionName {
    text.parse().expect("a name")
}

/// Dropped with what holds it.
struct Session(Arc<()>);

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_given_up_and_its_session_is_dropped() {
    for call in [
        Call::Probe,
        Call::Adopt,
        Call::Prepare,
        Call::Columns,
        Call::Claim,
        Call::Ledger,
        Call::Fence,
    ] {
        // GIVEN a call that holds a session, and never answers
        let held = Arc::new(());
        let session = Session(Arc::clone(&held));
        let asked = async move {
            let _session = &session.0;
            pending::<Result<(), ConnectorError>>().await
        };
        // WHEN its answer is waited for
        let began = Instant::now();
        let error = answered(call, &name("warehouse"), STALL, asked)
            .await
            .expect_err("nobody answers");
        // THEN it is given up within its time, by name, as its connection's outage
        assert!(
            began.elapsed() <= call.limit(STALL) + Duration::from_secs(1),
            "{call}"
        );
        assert_eq!(
            (error.class, error.code.as_str()),
            (ErrorClass::Unreachable, "silent")
        );
        assert_eq!(error.connection, Some(name("warehouse")));
        assert!(
            error.message.contains(&call.to_string()) && error.message.contains("warehouse"),
            "{}",
            error.message
        );
        assert_eq!(Arc::strong_count(&held), 1, "the session is gone");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_the_answer() {
    let answer = answered(Call::Claim, &name("warehouse"), STALL, ready(Ok(7))).await;
    assert_eq!(answer.expect("answered"), 7);
}

#[tokio::test(start_paused = true)]
async fn a_probe_takes_as_long_as_its_server_is_seen_at_work() {
    // GIVEN a probe that takes ten times as long as one may without an answer
    let (doing, limit) = (Doing::default(), Call::Probe.limit(STALL));
    let (source, began) = (name("legacy"), Instant::now());
    let scan = async {
        sleep(limit * 10).await;
        Ok(7)
    };
    // WHEN its server is seen at work all the time THEN its answer is the answer
    let seen = async {
        loop {
            sleep(limit / 3).await;
            doing.is_at_work();
        }
    };
    let answer = tokio::select! {
        answer = answered_at_work(Call::Probe, &source, STALL, &doing, scan) => answer,
        () = seen => unreachable!("it is seen for ever"),
    };
    assert_eq!(answer.expect("answered"), 7);
    assert_eq!(began.elapsed(), limit * 10);
    // WHEN it is seen no more THEN it is given up as the silent host that it may be
    let silent = answered_at_work(
        Call::Probe,
        &source,
        STALL,
        &doing,
        pending::<Result<(), _>>(),
    );
    let error = silent.await.expect_err("nobody answers");
    assert_eq!(began.elapsed(), limit * 11);
    assert_eq!(
        (error.class, error.code.as_str(), error.connection),
        (ErrorClass::Unreachable, "silent", Some(source))
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_ended_only_once_nothing_has_moved_for_long() {
    let (source, target) = (name("legacy"), name("warehouse"));
    let sides = Sides {
        source: &source,
        target: &target,
    };
    let progress = Progress::default();
    let began = Instant::now();
    // GIVEN an attempt that moves a byte now and then, each time just before it would be ended, and
    // at last no more
    let moving = async {
        for byte in 1..=20 {
            sleep(STALL * 9 / 10).await;
            progress.note(Receipt {
                rows: 0,
                bytes: byte,
            });
        }
        pending::<Result<(), AttemptError>>().await
    };
    // WHEN it is watched
    let error = unless_stalled(&progress, STALL, sides, moving)
        .await
        .expect_err("it moves no more");
    // THEN it is ended after the last one, as something that may go well the next time
    let silent = began.elapsed() - STALL * 9 / 10 * 20;
    assert!(
        (STALL * 7 / 8..=STALL * 9 / 8).contains(&silent),
        "{silent:?}"
    );
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Transient, "stalled")
    );
    assert!(
        error
            .message
            .starts_with("nothing was taken by warehouse for 10 min"),
        "{}",
        error.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_blames_nobody() {
    let (source, target) = (name("legacy"), name("warehouse"));
    let sides = Sides {
        source: &source,
        target: &target,
    };
    let progress = Progress::default();
    // GIVEN an attempt that is watched
    let watched = unless_stalled(
        &progress,
        STALL,
        sides,
        pending::<Result<(), AttemptError>>(),
    );
    tokio::pin!(watched);
    assert!(timeout(Duration::ZERO, &mut watched).await.is_err());
    // WHEN hours pass at once, as they do for a process that was stopped
    advance(STALL * 30).await;
    // THEN it has time to go on
    assert!(
        timeout(STALL / 2, &mut watched).await.is_err(),
        "the time that it was frozen is not held against it"
    );
    assert!(
        timeout(STALL, &mut watched).await.is_ok(),
        "but it is watched"
    );
}
