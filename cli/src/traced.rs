//! The span of what a command asks for, which begins a trace: of the run that it submits, for one.
//! It is as short as the call. To follow a run is no part of it: a span that takes hours is told of
//! only when it ends.

use std::sync::OnceLock;

use highwater_common::trace::TraceParent;
use highwater_net::trace;
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

/// The span that whoever started this process has begun, if any.
static PARENT: OnceLock<TraceParent> = OnceLock::new();

/// Puts everything that this process asks for under the span of whoever started it, by W3C's
/// `traceparent`. What is none is as if it were not there.
pub fn continue_trace(parent: Option<&str>) {
    if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
        PARENT.get_or_init(|| parent);
    }
}

/// A call, in a span that is named as the verb that makes it.
pub(crate) fn traced<F: Future>(verb: &str, call: F) -> Instrumented<F> {
    let span =
        tracing::info_span!(parent: None, "command", otel.name = format!("highwater {verb}"));
    if let Some(parent) = PARENT.get() {
        trace::put_under(&span, parent);
    }
    call.instrument(span)
}
