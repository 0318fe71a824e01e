//! A receiver of traces, metrics and logs over OTLP, as a collector is one: it keeps what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What is said of something, as text.
pub type Attributes = BTreeMap<String, String>;

/// A span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Who sent it.
    pub resource: Attributes,
    /// What it stands for.
    pub name: String,
    /// What kind it is, as the protocol writes it.
    pub kind: SpanKind,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The span that it is under; empty for a root.
    pub parent: String,
    /// The spans that it goes on with: their traces and ids.
    pub links: Vec<(String, String)>,
    /// What it says of itself.
    pub attributes: Attributes,
    /// Whether it stands for something that failed.
    pub is_error: bool,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Who sent it.
    pub resource: Attributes,
    /// What it says.
    pub text: String,
    /// The trace that it belongs to; empty for none.
    pub trace: String,
    /// What else it says.
    pub attributes: Attributes,
}

/// A metric of a process: who sent it, its name and its unit.
pub type Metric = (String, String, String);

/// A receiver. Dropping it ends it.
#[derive(Debug)]
pub struct Receiver {
    address: String,
    received: Arc<Received>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Mutex<Vec<Span>>,
    metrics: Mutex<BTreeSet<Metric>>,
    logs: Mutex<Vec<LogLine>>,
    /// How many came of each, of metrics those with a number.
    counts: [AtomicUsize; 3],
    /// Whether what comes is counted, and not kept.
    only_counts: bool,
}

impl Received {
    /// Counts what came; false when that is all that is wanted.
    fn keeps(&self, kind: usize, came: usize) -> bool {
        self.counts[kind].fetch_add(came, Ordering::Relaxed);
        !self.only_counts
    }
}

impl Receiver {
    /// A receiver on a free port.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// A receiver at this address.
    ///
    /// # Errors
    /// Somebody else listens there.
    pub async fn start_at(address: &str) -> Result<Self> {
        Self::receiving(address, Received::default()).await
    }

    /// A receiver at this address that keeps nothing, and counts.
    ///
    /// # Errors
    /// Somebody else listens there.
    pub async fn counting_at(address: &str) -> Result<Self> {
        let received = Received {
            only_counts: true,
            ..Received::default()
        };
        Self::receiving(address, received).await
    }

    async fn receiving(address: &str, received: Received) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .context("listen for telemetry")?;
        let address = listener.local_addr()?.to_string();
        let received = Arc::new(received);
        let service = Service(Arc::clone(&received));
        let server = Server::builder()
            .add_service(TraceServiceServer::new(service.clone()))
            .add_service(MetricsServiceServer::new(service.clone()))
            .add_service(LogsServiceServer::new(service));
        let serving = async move {
            let served = server.serve_with_incoming(TcpIncoming::from(listener));
            served.await.ok();
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the value that stands for it"
        )]
        let serving = tokio::spawn(serving);
        Ok(Self {
            address,
            received,
            serving,
        })
    }

    /// Where it listens, as a host and a port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What a process has to have in its environment to send everything here, soon.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://{}", self.address),
            ),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_BLRP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "300".to_owned()),
        ]
    }

    /// How many spans, metrics and log lines it has been sent.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let [spans, metrics, lines] = &self.received.counts;
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        (count(spans), count(metrics), count(lines))
    }

    /// The spans that it has been sent.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        locked(&self.received.spans).clone()
    }

    /// The metrics of which it has been sent a number.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<Metric> {
        locked(&self.received.metrics).clone()
    }

    /// The log lines that it has been sent.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        locked(&self.received.logs).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
struct Service(Arc<Received>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let sent = request.into_inner().resource_spans;
        let scopes = sent.iter().flat_map(|of| &of.scope_spans);
        let came = scopes.map(|of| of.spans.len()).sum();
        if !self.0.keeps(0, came) {
            return Ok(Response::new(ExportTraceServiceResponse::default()));
        }
        let mut spans = locked(&self.0.spans);
        for of_process in sent {
            let resource = of(of_process.resource);
            let sent = of_process.scope_spans.into_iter().flat_map(|of| of.spans);
            spans.extend(sent.map(|span| {
                Span {
                    resource: resource.clone(),
                    kind: span.kind(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    links: span
                        .links
                        .iter()
                        .map(|to| (hex(&to.trace_id), hex(&to.span_id)))
                        .collect(),
                    attributes: attributes(span.attributes),
                    is_error: span.status.is_some_and(|status| status.code == 2),
                    name: span.name,
                }
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let sent = request.into_inner().resource_metrics;
        let scopes = sent.iter().flat_map(|of| &of.scope_metrics);
        let came = scopes.map(|of| of.metrics.len()).sum();
        if !self.0.keeps(1, came) {
            return Ok(Response::new(ExportMetricsServiceResponse::default()));
        }
        let mut metrics = locked(&self.0.metrics);
        for of_process in sent {
            let resource = of(of_process.resource);
            let from = resource.get("service.name").cloned().unwrap_or_default();
            let sent = of_process
                .scope_metrics
                .into_iter()
                .flat_map(|of| of.metrics);
            metrics.extend(sent.map(|metric| (from.clone(), metric.name, metric.unit)));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let sent = request.into_inner().resource_logs;
        let scopes = sent.iter().flat_map(|of| &of.scope_logs);
        let came = scopes.map(|of| of.log_records.len()).sum();
        if !self.0.keeps(2, came) {
            return Ok(Response::new(ExportLogsServiceResponse::default()));
        }
        let mut logs = locked(&self.0.logs);
        for of_process in sent {
            let resource = of(of_process.resource);
            let sent = of_process
                .scope_logs
                .into_iter()
                .flat_map(|of| of.log_records);
            logs.extend(sent.map(|line| LogLine {
                resource: resource.clone(),
                text: text(line.body),
                trace: hex(&line.trace_id),
                attributes: attributes(line.attributes),
            }));
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

fn of(resource: Option<Resource>) -> Attributes {
    resource.map_or_else(Attributes::new, |resource| attributes(resource.attributes))
}

fn attributes(of: Vec<KeyValue>) -> Attributes {
    let pairs = of.into_iter();
    pairs.map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
