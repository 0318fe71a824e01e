//! The worker's instruments: its attempts, what they read, and what their tasks came to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_common::assignment::{Outcome, Receipt, StepOrder, Work};
use highwater_runtime::admin::Ready;
use highwater_runtime::metrics::StepNames;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider, NoopMeterProvider};
use tokio::sync::watch;

/// Bounds of the time that a task takes, in seconds: from a no-op to six hours.
const TASK_SECONDS: [f64; 12] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 10_800.0, 21_600.0,
];

/// The instruments of a worker.
#[derive(Debug)]
pub struct WorkerMetrics {
    attempts: Counter<u64>,
    duration: Histogram<f64>,
    rows: Counter<u64>,
    bytes: Counter<u64>,
    commits: Counter<u64>,
    sessions: Counter<u64>,
    names: Mutex<StepNames>,
    /// How far the steps that follow a log are behind it, and what their slots keep, in bytes: while
    /// an attempt of theirs runs here.
    logs: LogGauges,
}

/// By pipeline and step: bytes behind the end of the log, and bytes that the slot keeps.
type LogGauges = Arc<Mutex<BTreeMap<(String, String), (u64, u64)>>>;

/// What a log is told of as long as it lives.
#[derive(Debug)]
pub(crate) struct LogGauge {
    logs: LogGauges,
    of: (String, String),
}

impl LogGauge {
    pub(crate) fn set(&self, lag_bytes: u64, retained_bytes: u64) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.insert(self.of.clone(), (lag_bytes, retained_bytes));
    }
}

impl Drop for LogGauge {
    fn drop(&mut self) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.remove(&self.of);
    }
}

fn log_gauge(
    meter: &Meter,
    logs: &LogGauges,
    name: &'static str,
    description: &'static str,
    number: fn((u64, u64)) -> u64,
) {
    let logs = Arc::clone(logs);
    let gauge = meter.u64_observable_gauge(name).with_unit("By");
    let gauge = gauge.with_description(description);
    gauge
        .with_callback(move |to| {
            let logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
            for ((pipeline, step), numbers) in logs.iter() {
                let labels = [
                    KeyValue::new("pipeline", pipeline.clone()),
                    KeyValue::new("step", step.clone()),
                ];
                to.observe(number(*numbers), &labels);
            }
        })
        .build();
}

/// What an attempt counts of its rows.
#[derive(Debug, Clone)]
pub(crate) struct StepMetrics {
    of: Arc<WorkerMetrics>,
    pipeline: String,
    step: String,
    strategy: &'static str,
    read: [KeyValue; 3],
}

impl Default for WorkerMetrics {
    /// Instruments that nobody reads.
    fn default() -> Self {
        Self::new(&NoopMeterProvider::new().meter("highwater"))
    }
}

impl WorkerMetrics {
    /// Makes the instruments.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let metrics = Self {
            attempts: meter
                .u64_counter("task_attempts")
                .with_description("Attempts that ended, by outcome and class of error")
                .build(),
            duration: meter
                .f64_histogram("task_duration")
                .with_unit("s")
                .with_description("How long attempts took")
                .with_boundaries(TASK_SECONDS.to_vec())
                .build(),
            rows: meter
                .u64_counter("rows")
                .with_description("Rows that were read, and rows of tasks that were completed")
                .build(),
            bytes: meter
                .u64_counter("bytes") // the unit is the name already
                .with_description("Bytes that were read, and bytes of tasks that were completed")
                .build(),
            commits: meter
                .u64_counter("commits")
                .with_description("Commits, and claims of what was committed, by what came of them")
                .build(),
            sessions: meter
                .u64_counter("worker_sessions")
                .with_description("Sessions that this worker began")
                .build(),
            names: Mutex::default(),
            logs: LogGauges::default(),
        };
        log_gauge(
            meter,
            &metrics.logs,
            "cdc_lag",
            "How much of the source's log lies behind the position of a step that follows it",
            |(lag, _)| lag,
        );
        log_gauge(
            meter,
            &metrics.logs,
            "cdc_slot_retained",
            "How much of the source's log its server keeps for the slot of a step",
            |(_, retained)| retained,
        );
        metrics.sessions.add(0, &[]);
        metrics
    }

    pub(crate) fn session_began(&self) {
        self.sessions.add(1, &[]);
    }

    /// What the attempts of a step count by.
    pub(crate) fn of_step(self: &Arc<Self>, order: &StepOrder) -> StepMetrics {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (pipeline, step) = names.labels_of(order.pipeline.as_str(), order.step.as_str());
        StepMetrics {
            of: Arc::clone(self),
            pipeline: pipeline.to_owned(),
            step: step.to_owned(),
            strategy: order.strategy.load().name(),
            read: directed(pipeline, step, "read"),
        }
    }
}

impl StepMetrics {
    /// A log that the step follows.
    pub(crate) fn log(&self) -> LogGauge {
        LogGauge {
            logs: Arc::clone(&self.of.logs),
            of: (self.pipeline.clone(), self.step.clone()),
        }
    }

    /// So much more has been read.
    pub(crate) fn read(&self, more: Receipt) {
        self.of.rows.add(more.rows, &self.read);
        self.of.bytes.add(more.bytes, &self.read);
    }

    /// A commit has come to this, or a claim has found one.
    pub(crate) fn committed(&self, result: &'static str) {
        self.of.commits.add(1, &[KeyValue::new("result", result)]);
    }

    /// An attempt has ended; without an outcome it was ended from outside.
    pub(crate) fn ended(&self, outcome: Option<&Outcome>, took: Duration) {
        let (outcome, class) = told(outcome);
        let labels = [
            KeyValue::new("pipeline", self.pipeline.clone()),
            KeyValue::new("step", self.step.clone()),
            KeyValue::new("outcome", outcome),
            KeyValue::new("error_class", class),
        ];
        self.of.attempts.add(1, &labels);
        let labels = [
            KeyValue::new("strategy", self.strategy),
            KeyValue::new("outcome", outcome),
        ];
        self.of.duration.record(took.as_secs_f64(), &labels);
    }

    /// The coordinator has counted what an attempt came to. An exchange publishes rows that other
    /// tasks have moved: it has read none, and they are counted already.
    pub(crate) fn counted(&self, outcome: &Outcome, work: Work, has_read: bool) {
        let committed = match outcome {
            Outcome::Committed(receipt) => Some(receipt),
            Outcome::Checked(checked) => checked.committed.as_ref(),
            _ => None,
        };
        if let Some(receipt) = committed.filter(|_| has_read || work != Work::Publish) {
            let labels = directed(&self.pipeline, &self.step, "committed");
            self.of.rows.add(receipt.rows, &labels);
            self.of.bytes.add(receipt.bytes, &labels);
        }
    }
}

fn directed(pipeline: &str, step: &str, direction: &'static str) -> [KeyValue; 3] {
    [
        KeyValue::new("pipeline", pipeline.to_owned()),
        KeyValue::new("step", step.to_owned()),
        KeyValue::new("direction", direction),
    ]
}

/// What the labels `outcome` and `error_class` say.
pub(crate) fn told(outcome: Option<&Outcome>) -> (&'static str, String) {
    match outcome {
        Some(
            Outcome::Committed(_)
            | Outcome::Checked(_)
            | Outcome::Probed(_)
            | Outcome::Done
            | Outcome::Prepared { .. }
            | Outcome::RunFenced { .. }
            | Outcome::Counted(_)
            | Outcome::Closed(_),
        ) => ("done", String::new()),
        Some(Outcome::Failed(error) | Outcome::Unprepared(error)) => {
            ("failed", error.class.to_string())
        }
        Some(Outcome::Fenced { .. } | Outcome::Superseded { .. }) => ("fenced", String::new()),
        Some(Outcome::Released) => ("released", String::new()),
        None => ("ended", String::new()),
    }
}

/// Whether a worker has a session: it was let in, and has not been silent too long.
#[derive(Debug, Clone)]
pub struct HasSession(pub(crate) watch::Receiver<bool>);

impl Ready for HasSession {
    fn ready(&self) -> Result<(), String> {
        match *self.0.borrow() {
            true => Ok(()),
            false => Err("waits for a coordinator that lets it in".to_owned()),
        }
    }
}
