//! What a program tells of itself in numbers: instruments, and the page that Prometheus reads.
//! Never knows what is counted.

use std::collections::BTreeSet;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::telemetry::Telemetry;

/// Pipelines, steps, and groups of workers that have series of their own; the others share one.
pub const PIPELINES_MAX: usize = 50;
/// The same for steps, over all pipelines.
pub const STEPS_MAX: usize = 200;
/// The same for groups of workers.
pub const GROUPS_MAX: usize = 20;
/// What a label says of those that have no series of their own.
pub const OTHER: &str = "other";

/// Series of one instrument at the most, whatever its labels are.
const SERIES_MAX: usize = 5_000;

/// The numbers of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

/// The instruments cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be set up: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// No number yet, but for which version of the program this is. They are sent, too, where
    /// `telemetry` sends any, under the names that the page has.
    ///
    /// # Errors
    /// [`MetricsError`], which would be a defect.
    pub fn new(version: &'static str, telemetry: &Telemetry) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let named_and_bounded = |instrument: &Instrument| {
            let stream = Stream::builder()
                .with_name(format!("highwater_{}", instrument.name()))
                .with_cardinality_limit(SERIES_MAX);
            stream.build().ok()
        };
        let resource = telemetry.resource().cloned();
        let resource = resource.unwrap_or_else(|| Resource::builder_empty().build());
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_view(named_and_bounded)
            .with_reader(exporter);
        let provider = match telemetry.metric_reader() {
            Some(sending) => provider.with_reader(sending).build(),
            None => provider.build(),
        };
        telemetry.close_too(provider.clone());
        let metrics = Self { registry, provider };
        metrics
            .meter()
            .u64_gauge("build_info")
            .with_description("1, with the version of the program")
            .build()
            .record(1, &[opentelemetry::KeyValue::new("version", version)]);
        Ok(metrics)
    }

    /// Where instruments are made; their names get `highwater_` in front.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.provider.meter("highwater")
    }

    /// Everything, in Prometheus' text form.
    ///
    /// # Errors
    /// A number that cannot be written, which would be a defect.
    pub fn text(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(|error| MetricsError(error.to_string()))?;
        String::from_utf8(text).map_err(|error| MetricsError(error.to_string()))
    }
}

/// Which pipelines and steps have series of their own. Whoever came first keeps his.
#[derive(Debug, Clone, Default)]
pub struct StepNames {
    pipelines: BTreeSet<String>,
    steps: BTreeSet<(String, String)>,
}

impl StepNames {
    /// What the labels `pipeline` and `step` say of a step.
    pub fn labels_of<'a>(&mut self, pipeline: &'a str, step: &'a str) -> (&'a str, &'a str) {
        if !admits(&mut self.pipelines, pipeline.to_owned(), PIPELINES_MAX) {
            return (OTHER, OTHER);
        }
        let pair = (pipeline.to_owned(), step.to_owned());
        match admits(&mut self.steps, pair, STEPS_MAX) {
            true => (pipeline, step),
            false => (pipeline, OTHER),
        }
    }

    /// Forgets those that are no more, so that others may have their place.
    pub fn keep(&mut self, is_there: impl Fn(&str, &str) -> bool) {
        self.steps
            .retain(|(pipeline, step)| is_there(pipeline, step));
        let steps = &self.steps;
        self.pipelines
            .retain(|pipeline| steps.iter().any(|(of, _)| of == pipeline));
    }
}

/// Whether a name has a place among at most `max`, or gets one.
fn admits<T: Ord>(known: &mut BTreeSet<T>, name: T, max: usize) -> bool {
    known.contains(&name) || known.len() < max && known.insert(name)
}

/// Which groups of workers have series of their own.
#[derive(Debug, Clone, Default)]
pub struct GroupNames(BTreeSet<String>);

impl GroupNames {
    /// What the label `group` says of a group.
    pub fn label_of<'a>(&mut self, group: &'a str) -> &'a str {
        match admits(&mut self.0, group.to_owned(), GROUPS_MAX) {
            true => group,
            false => OTHER,
        }
    }
}

#[cfg(test)]
mod tests;
