//! The spans of an attempt. All of them belong to the trace of the attempt's run, whichever worker has
//! it. Never says what is in a row, but for the bounds of its partition.

use highwater_common::assignment::{Assignment, Outcome, Work};
use highwater_net::trace;
use tokio::time::Instant;
use tracing::{Span, field};

use crate::attempt::OrderContext;
use crate::meter::Progress;

/// Attempts a second that are traced, and how many more at once after a while with fewer. Attempts that
/// move rows take seconds; those that take milliseconds come by the thousand, and to tell of each would
/// take longer than they do.
const ATTEMPTS_A_SECOND: f64 = 50.0;
const ATTEMPTS_AT_ONCE: f64 = 200.0;

/// Which attempts of a worker are traced.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: f64,
    since: Instant,
    /// Those that were not, after the last that was.
    untraced: u64,
}

impl Allowance {
    pub(crate) fn full(now: Instant) -> Self {
        Self {
            left: ATTEMPTS_AT_ONCE,
            since: now,
            untraced: 0,
        }
    }

    /// Whether the next attempt is traced: then how many before it were not.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + passed * ATTEMPTS_A_SECOND).min(ATTEMPTS_AT_ONCE);
        self.since = now;
        if self.left < 1.0 {
            self.untraced += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.untraced))
    }
}

/// An attempt, from when it was handed out until the coordinator has heard how it ended. One that is
/// not traced belongs to the trace for its log lines alone.
pub(crate) fn of_attempt(
    order: Option<&OrderContext>,
    assignment: &Assignment,
    allowance: &mut Allowance,
) -> Span {
    let allowed = allowance.take(Instant::now());
    let run = order.and_then(|order| order.order.trace);
    if run.is_none() && allowed.is_none() {
        return Span::none();
    }
    let Assignment {
        task,
        attempt,
        fence,
        work,
        ..
    } = assignment;
    let span = tracing::info_span!(
        parent: None,
        "attempt",
        otel.name = name_of(*work),
        highwater.run = field::Empty,
        highwater.pipeline = field::Empty,
        highwater.step = field::Empty,
        highwater.task = %task,
        highwater.attempt = attempt.get(),
        highwater.token = %fence.token,
        highwater.partition = %work,
        highwater.worker = field::Empty,
        highwater.outcome = field::Empty,
        highwater.untraced = field::Empty,
        error.type = field::Empty,
    );
    if let Some(order) = order {
        span.record("highwater.run", field::display(&order.order.run));
        span.record("highwater.pipeline", field::display(&order.order.pipeline));
        span.record("highwater.step", field::display(&order.order.step));
        span.record("highwater.worker", &order.worker);
    }
    if let Some(run) = run {
        let run = if allowed.is_some() {
            run
        } else {
            run.unsampled()
        };
        trace::put_under(&span, &run);
    }
    if let Some(untraced) = allowed.filter(|untraced| *untraced > 0) {
        span.record("highwater.untraced", untraced);
    }
    span
}

/// What an attempt is called by what it does: a load is what most of them are.
const fn name_of(work: Work) -> &'static str {
    match work {
        Work::Probe => "probe",
        Work::Publish => "publish",
        Work::Reconcile => "reconcile",
        Work::Fence => "fence",
        Work::Prepare
        | Work::Partition(_)
        | Work::Build
        | Work::Check
        | Work::Statements
        | Work::Command
        | Work::Replay
        | Work::Follow
        | Work::Noop(_)
        | Work::Count(_)
        | Work::Close { .. } => "attempt",
    }
}

/// Notes what an attempt came to; without an outcome it was ended from outside.
pub(crate) fn ended(span: &Span, outcome: Option<&Outcome>) {
    let (told, _) = crate::metrics::told(outcome);
    span.record("highwater.outcome", told);
    if let Some(Outcome::Failed(error) | Outcome::Unprepared(error)) = outcome {
        span.record("error.type", error.code.to_string());
        trace::failed(span, error.code.to_string());
    }
}

/// The claim of a task.
pub(crate) fn of_claim() -> Span {
    child(|| tracing::info_span!("claim"))
}

/// A chunk on its way: read, and written. The first 64 of an attempt have spans.
pub(crate) fn of_chunk(progress: &Progress) -> Span {
    child(|| match progress.may_trace_chunk() {
        true => tracing::info_span!("chunk"),
        false => Span::none(),
    })
}

/// A commit, until its answer or the ledger's is there. The first 64 of an attempt have spans.
pub(crate) fn of_commit(progress: &Progress) -> Span {
    child(|| match progress.may_trace_commit() {
        true => tracing::info_span!("commit"),
        false => Span::none(),
    })
}

/// The coordinator is told how an attempt ended.
pub(crate) fn of_completion() -> Span {
    child(|| tracing::info_span!("complete"))
}

/// A span within one that is traced: none begins a trace of its own.
fn child(span: impl FnOnce() -> Span) -> Span {
    match trace::current().is_some_and(|of| of.is_sampled()) {
        true => span(),
        false => Span::none(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_attempts_that_come_by_the_thousand_some_are_traced_and_tell_how_many_were_not() {
        // GIVEN ten seconds of a thousand attempts each
        let begun = Instant::now();
        let mut allowance = Allowance::full(begun);
        let (mut traced, mut told) = (0_u64, 0_u64);
        for no in 0..10_000 {
            if let Some(untraced) = allowance.take(begun + Duration::from_millis(no)) {
                traced += 1;
                told += untraced;
            }
        }
        // THEN those at once are traced, and then as many as may be a second
        assert!((690..=710).contains(&traced), "{traced}");
        // AND the others are told of, but for those after the last
        assert!((9_200..=9_310).contains(&told), "{told}");
        // WHEN a while has passed, THEN as many at once may be traced again, and not more
        let later = begun + Duration::from_secs(3_600);
        let again = (0..1_000).filter(|_| allowance.take(later).is_some());
        assert_eq!(again.count(), 200);
    }
}
