//! The spans of an attempt. All of them belong to the trace of the attempt's run, whichever worker has
//! it. Never says what is in a row.

use highwater_common::assignment::{Assignment, Outcome, Work};
use highwater_net::trace;
use tracing::{Span, field};

use crate::attempt::OrderContext;
use crate::meter::Progress;

/// An attempt, from when it was handed out until the coordinator has heard how it ended.
pub(crate) fn of_attempt(order: Option<&OrderContext>, assignment: &Assignment) -> Span {
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
        error.type = field::Empty,
    );
    if let Some(order) = order {
        span.record("highwater.run", field::display(&order.order.run));
        span.record("highwater.pipeline", field::display(&order.order.pipeline));
        span.record("highwater.step", field::display(&order.order.step));
        span.record("highwater.worker", &order.worker);
        if let Some(run) = &order.order.trace {
            trace::put_under(&span, run);
        }
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

/// A span within one that there is: none begins a trace of its own.
fn child(span: impl FnOnce() -> Span) -> Span {
    match Span::current().is_none() {
        true => Span::none(),
        false => span(),
    }
}
