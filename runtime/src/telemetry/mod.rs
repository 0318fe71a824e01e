//! Sends traces, metrics and logs over OTLP, where OpenTelemetry's environment variables say so.
//!
//! Without an endpoint nothing is made that could send. With one, whatever is sent goes through
//! bounded queues to threads of its own: a receiver that is slow or away costs what is lost there,
//! and never work. Never knows what is traced or counted.

mod settings;
mod told;

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::time::Instant;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use self::settings::{Settings, Signal, Way};
use self::told::Told;

/// What is sent at the end of a process, one after another: what of it takes longer is lost.
const THREADS_MAX: usize = 3;

/// What a process is to whoever receives its telemetry.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Whether somebody waits for it to end: then nothing is sent twice.
    pub is_command: bool,
}

/// The telemetry of a process, open until it is closed.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    resource: Option<Resource>,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    /// Where metrics go, and whoever reads the instruments for that.
    metrics: Option<(Way, bool)>,
    meters: Mutex<Vec<SdkMeterProvider>>,
    parent: Option<String>,
    problems: Vec<String>,
}

impl Telemetry {
    /// What the environment asks for. To be called in the context of a runtime, which carries what
    /// is sent.
    ///
    /// `with_ids` makes ids of traces although nobody receives them, for log lines that tell them.
    #[must_use]
    pub fn of_environment(program: Program, with_ids: bool) -> Self {
        Self::open(Settings::read(variable), program, with_ids)
    }

    fn open(settings: Settings, program: Program, with_ids: bool) -> Self {
        let mut parts = Parts {
            parent: settings.parent.clone(),
            problems: settings.problems.clone(),
            ..Parts::default()
        };
        if !settings.sends_something() && !with_ids {
            return Self(Arc::new(parts));
        }
        let resource = resource(&settings, program);
        let Settings {
            traces,
            metrics,
            logs,
            ..
        } = settings;
        let again = !program.is_command;
        let mut problems = Vec::new();
        let mut cannot = |signal: Signal, why: String| {
            problems.push(format!("no {} are sent: {why}", signal.name()));
        };
        let tracer = SdkTracerProvider::builder().with_resource(resource.clone());
        let tracer = match traces.map(|way| (spans_to(&way, again), way)) {
            Some((Ok(exporter), way)) => {
                Some(tracer.with_batch_exporter(Told::of(Signal::Traces, &way.endpoint, exporter)))
            }
            Some((Err(why), _)) => {
                cannot(Signal::Traces, why);
                with_ids.then_some(tracer)
            }
            None => with_ids.then_some(tracer),
        };
        parts.traces = tracer.map(opentelemetry_sdk::trace::TracerProviderBuilder::build);
        match logs.map(|way| (logs_to(&way, again), way)) {
            Some((Ok(exporter), way)) => {
                let exporter = Told::of(Signal::Logs, &way.endpoint, exporter);
                parts.logs = Some(
                    SdkLoggerProvider::builder()
                        .with_resource(resource.clone())
                        .with_batch_exporter(exporter)
                        .build(),
                );
            }
            Some((Err(why), _)) => cannot(Signal::Logs, why),
            None => {}
        }
        parts.problems.append(&mut problems);
        parts.metrics = metrics.map(|way| (way, again));
        parts.resource = Some(resource);
        Self(Arc::new(parts))
    }

    /// What makes spans; `None` where nobody wants any.
    pub(crate) fn tracer(&self) -> Option<SdkTracer> {
        let traces = self.0.traces.as_ref()?;
        Some(traces.tracer("highwater"))
    }

    pub(crate) fn logs(&self) -> Option<&SdkLoggerProvider> {
        self.0.logs.as_ref()
    }

    /// The span, in W3C's words, that whoever started the process has begun.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.0.parent.as_deref()
    }

    /// What was asked for and cannot be done, once there is a log to tell it in.
    pub(crate) fn tell_problems(&self) {
        for problem in &self.0.problems {
            tracing::warn!("{problem}");
        }
    }

    /// What sends the instruments' numbers; `None` where nobody wants any.
    pub(crate) fn metric_reader(&self) -> Option<PeriodicReader<impl PushMetricExporter + use<>>> {
        let (way, again) = self.0.metrics.as_ref()?;
        match metrics_to(way, *again) {
            Ok(exporter) => {
                let exporter = Told::of(Signal::Metrics, &way.endpoint, exporter);
                Some(PeriodicReader::builder(exporter).build())
            }
            Err(why) => {
                tracing::warn!("no metrics are sent: {why}");
                None
            }
        }
    }

    pub(crate) fn resource(&self) -> Option<&Resource> {
        self.0.resource.as_ref()
    }

    /// Lets the instruments' last numbers be sent, too, when everything is closed.
    pub(crate) fn close_too(&self, meters: SdkMeterProvider) {
        let known = self.0.meters.lock();
        known.unwrap_or_else(PoisonError::into_inner).push(meters);
    }

    /// Sends what is left, and waits for that not longer than `limit`.
    pub fn close(self, limit: Duration) {
        let mut closings: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        let meters =
            std::mem::take(&mut *(self.0.meters.lock()).unwrap_or_else(PoisonError::into_inner));
        if let Some(traces) = self.0.traces.clone() {
            closings.push(Box::new(move || drop(traces.shutdown_with_timeout(limit))));
        }
        if let Some(logs) = self.0.logs.clone() {
            closings.push(Box::new(move || drop(logs.shutdown_with_timeout(limit))));
        }
        if !meters.is_empty() {
            closings.push(Box::new(move || {
                for meters in meters {
                    drop(meters.shutdown_with_timeout(limit));
                }
            }));
        }
        // Each on a thread of its own, for not all of them keep to their limit.
        let (tell, told) = sync_channel(THREADS_MAX);
        let mut open = closings.len();
        for closing in closings {
            let tell = tell.clone();
            std::thread::spawn(move || {
                closing();
                tell.send(()).ok();
            });
        }
        drop(tell);
        let until = Instant::now() + limit;
        while open > 0 {
            let rest = until.saturating_duration_since(Instant::now());
            match told.recv_timeout(rest) {
                Ok(()) => open -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}

fn spans_to(way: &Way, again: bool) -> Result<SpanExporter, String> {
    let exporter = SpanExporter::builder().with_tonic();
    built(tuned(exporter, way, again)?.build())
}

fn logs_to(way: &Way, again: bool) -> Result<LogExporter, String> {
    let exporter = LogExporter::builder().with_tonic();
    built(tuned(exporter, way, again)?.build())
}

fn metrics_to(way: &Way, again: bool) -> Result<MetricExporter, String> {
    let exporter = MetricExporter::builder().with_tonic();
    built(tuned(exporter, way, again)?.build())
}

fn built<T>(exporter: Result<T, ExporterBuildError>) -> Result<T, String> {
    exporter.map_err(|error| crate::with_causes(&error))
}

fn tuned<B: WithExportConfig + WithTonicConfig>(
    exporter: B,
    way: &Way,
    again: bool,
) -> Result<B, String> {
    let mut exporter = exporter.with_endpoint(&way.endpoint);
    if !again {
        exporter = exporter.with_retry_policy(RetryPolicy::disabled());
    }
    if !way.endpoint.starts_with("https://") {
        return Ok(exporter);
    }
    let read = |path: &String| {
        std::fs::read(path).map_err(|error| format!("{path} cannot be read: {error}"))
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &way.authority {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_webpki_roots(),
    };
    if let Some((certificate, key)) = &way.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(exporter.with_tls_config(tls))
}

/// What the environment says of the process beats what it says of itself.
fn resource(settings: &Settings, program: Program) -> Resource {
    let own = Resource::builder_empty()
        .with_service_name(program.name)
        .with_attributes([
            KeyValue::new("service.namespace", "highwater"),
            KeyValue::new("service.version", program.version),
            KeyValue::new("service.instance.id", crate::daemon::host_and_process()),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &settings.service {
        Some(name) => own.with_service_name(name.clone()).build(),
        None => own.build(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "OpenTelemetry's variables are read here, and nowhere else"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
