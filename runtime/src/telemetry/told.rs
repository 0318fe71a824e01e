//! A receiver that is away: told once, and once more when it is back, however often sending fails;
//! of one that comes and goes at most every ten minutes.
//! Never decides what is sent again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use tokio::time::Instant;

use super::settings::Signal;

/// An exporter that tells of its receiver.
#[derive(Debug)]
pub(super) struct Told<E> {
    inner: E,
    signal: Signal,
    endpoint: String,
    /// Batches lost since the receiver took one.
    lost: AtomicU64,
    /// When it was told last that something is lost.
    told: Mutex<Option<Instant>>,
    /// Whether what is lost now was told.
    is_told: AtomicBool,
}

/// How long nothing more is told of a receiver that takes one batch and loses another.
const TOLD_EVERY: Duration = Duration::from_mins(10);

impl<E> Told<E> {
    pub(super) fn of(signal: Signal, endpoint: &str, inner: E) -> Self {
        Self {
            inner,
            signal,
            endpoint: endpoint.to_owned(),
            lost: AtomicU64::new(0),
            told: Mutex::new(None),
            is_told: AtomicBool::new(false),
        }
    }

    /// Whether it is time to tell of a loss.
    fn tells(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }

    fn note(&self, sent: OTelSdkResult) -> OTelSdkResult {
        let (signal, endpoint) = (self.signal.name(), &self.endpoint);
        match &sent {
            Ok(()) => {
                // One that was told of is told of again; more of the same are not.
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 && self.is_told.swap(false, Ordering::Relaxed) {
                    tracing::info!(endpoint, lost, "{signal} are sent again");
                }
            }
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => {
                if self.lost.fetch_add(1, Ordering::Relaxed) == 0 && self.tells() {
                    self.is_told.store(true, Ordering::Relaxed);
                    tracing::warn!(endpoint, %error, "{signal} are not sent: work goes on without");
                }
            }
        }
        sent
    }
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.note(self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Told<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.note(self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Told<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.note(self.inner.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
