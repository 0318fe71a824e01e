//! What goes to the log, which is stderr, and to whoever receives logs and spans over OTLP.

mod json;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::telemetry::Telemetry;

/// Our own crates, by the names that their log lines carry.
const CRATES: [&str; 7] = [
    "cli",
    "common",
    "coordinator",
    "net",
    "proto",
    "runtime",
    "worker",
];
/// What sends logs must not be told of in them.
const SENDERS: &str = "h2=off,hyper=off,tonic=off,tower=off,opentelemetry=off";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, with the ids of trace and span.
    Json,
}

type Sink = Box<dyn Layer<Registry> + Send + Sync>;

/// Sends a daemon's log lines to stderr: those of `level` and graver, and of the network stack's
/// none below warnings.
pub(crate) fn daemon_to_stderr(level: &str, format: LogFormat, telemetry: &Telemetry) {
    let filter = || EnvFilter::new(format!("{level},h2=warn,hyper=warn,tonic=warn"));
    let stderr = match format {
        LogFormat::Text => text(filter()),
        LogFormat::Json => fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(json::Line)
            .with_writer(std::io::stderr)
            // the spans of an event say which task it is about
            .with_filter(filter_fn(is_own_span).or(filter_fn(is_event).and(filter())))
            .boxed(),
    };
    let sent = EnvFilter::new(format!("{level},{SENDERS}"));
    tracing_subscriber::registry()
        .with(sinks(stderr, sent, telemetry))
        .init();
    telemetry.tell_problems();
}

/// Sends a command's log lines to stderr: of others' crates errors only, of our own those of
/// `level` and graver. Whoever receives logs gets what our own crates say at all.
pub fn command_to_stderr(level: LevelFilter, telemetry: &Telemetry) {
    let ours = |level: LevelFilter| {
        CRATES
            .map(|name| format!("highwater_{name}={level}"))
            .join(",")
    };
    let shown = EnvFilter::new(format!("error,highwater={level},{}", ours(level)));
    let sent = ours(level.max(LevelFilter::INFO));
    let sent = EnvFilter::new(format!("error,{sent},{SENDERS}"));
    // Only a second installation fails, and then the first one holds.
    tracing_subscriber::registry()
        .with(sinks(text(shown), sent, telemetry))
        .try_init()
        .ok();
    telemetry.tell_problems();
}

/// Lines for people. Spans are not shown there, and where nobody else wants them they cost nothing.
fn text(filter: EnvFilter) -> Sink {
    let is_terminal = std::io::stderr().is_terminal(); // a file or a pipe gets no escape codes
    fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .with_filter(filter_fn(is_event).and(filter))
        .boxed()
}

fn sinks(stderr: Sink, sent: EnvFilter, telemetry: &Telemetry) -> Vec<Sink> {
    let mut sinks = vec![stderr];
    if let Some(tracer) = telemetry.tracer() {
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_own_span));
        sinks.push(spans.boxed());
    }
    if let Some(logs) = telemetry.logs() {
        let events = OpenTelemetryTracingBridge::new(logs);
        let events = events.with_filter(filter_fn(is_event).and(sent));
        sinks.push(events.boxed());
    }
    sinks
}

fn is_own_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("highwater")
}

/// Events for the log. What OpenTelemetry says of itself it says at each try: a receiver that is
/// away is told of by `telemetry`, and only what is lost for want of room by itself.
fn is_event(metadata: &Metadata<'_>) -> bool {
    let is_repeated =
        metadata.target().starts_with("opentelemetry") && !metadata.name().contains("Dropp");
    metadata.is_event() && !is_repeated
}
