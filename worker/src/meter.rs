//! How far an attempt is: what its heartbeats tell, and what shows that it goes on at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use highwater_common::assignment::Receipt;
use highwater_runtime::failpoint;

use crate::connector::{ConnectorError, Doing, RowBatch, RowStream};
use crate::metrics::{LogGauge, StepMetrics};

/// Spans of one kind that an attempt has at the most.
const SPANS_MAX: u32 = 64;

/// How far an attempt is, for its heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Rows that the task has committed, in chunks.
    committed: AtomicU64,
    /// Whether both sides have answered.
    reached: AtomicBool,
    /// Whether the source's next rows are waited for; else it is the target that has them.
    waits_for_source: AtomicBool,
    /// What it says that it is doing.
    doing: Doing,
    /// Where rows are counted as they are read.
    metrics: Option<StepMetrics>,
    /// Chunks and commits that were traced.
    chunks_traced: AtomicU32,
    commits_traced: AtomicU32,
}

impl Progress {
    /// Nothing yet; what is read is counted there, too.
    pub(crate) fn counted_by(metrics: Option<StepMetrics>) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    /// A commit has come to this: `committed`, `replayed`, `fenced`, `superseded` or `unknown`.
    pub(crate) fn count_commit(&self, result: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.committed(result);
        }
    }

    /// Whether one more chunk has a span.
    pub(crate) fn may_trace_chunk(&self) -> bool {
        self.chunks_traced.fetch_add(1, Ordering::Relaxed) < SPANS_MAX
    }

    /// Whether one more commit has a span.
    pub(crate) fn may_trace_commit(&self) -> bool {
        self.commits_traced.fetch_add(1, Ordering::Relaxed) < SPANS_MAX
    }

    pub(crate) fn get(&self) -> (u64, u64) {
        (
            self.rows.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    /// What is told of the log that the step follows; `None` where nobody listens.
    pub(crate) fn log(&self) -> Option<LogGauge> {
        self.metrics.as_ref().map(StepMetrics::log)
    }

    pub(crate) const fn doing(&self) -> &Doing {
        &self.doing
    }

    pub(crate) fn has_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// So much has been moved, all in all.
    pub(crate) fn note(&self, moved: Receipt) {
        self.rows.store(moved.rows, Ordering::Relaxed);
        self.bytes.store(moved.bytes, Ordering::Relaxed);
    }

    /// So much more has been moved.
    fn add(&self, moved: Receipt) {
        self.rows.fetch_add(moved.rows, Ordering::Relaxed);
        self.bytes.fetch_add(moved.bytes, Ordering::Relaxed);
        if let Some(metrics) = &self.metrics {
            metrics.read(moved);
        }
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub(crate) fn note_committed(&self, rows: u64) {
        self.committed.store(rows, Ordering::Relaxed);
    }

    pub(crate) fn waits_for_source(&self) -> bool {
        self.waits_for_source.load(Ordering::Relaxed)
    }

    pub(crate) fn note_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wait_for_source(&self, waits: bool) {
        self.waits_for_source.store(waits, Ordering::Relaxed);
    }
}

/// Tells the heartbeat of rows as they move; several may do so at once.
pub(crate) struct Metered {
    inner: Box<dyn RowStream>,
    progress: Arc<Progress>,
    /// What was told of these rows.
    told: Receipt,
    worker: String,
}

impl Metered {
    pub(crate) fn new(inner: Box<dyn RowStream>, progress: Arc<Progress>, worker: String) -> Self {
        Self {
            inner,
            progress,
            told: Receipt::default(),
            worker,
        }
    }

    /// What has moved of these rows.
    pub(crate) fn moved(&self) -> Receipt {
        Receipt {
            rows: self.inner.rows(),
            bytes: self.inner.bytes(),
        }
    }
}

#[async_trait]
impl RowStream for Metered {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        self.progress.wait_for_source(true);
        let batch = self.inner.next().await?;
        self.progress.wait_for_source(false);
        let moved = self.moved();
        self.progress.add(Receipt {
            rows: moved.rows.saturating_sub(self.told.rows),
            bytes: moved.bytes.saturating_sub(self.told.bytes),
        });
        self.told = moved;
        failpoint::hit_on("attempt::reading", &self.worker).await?;
        Ok(batch)
    }

    fn rows(&self) -> u64 {
        self.inner.rows()
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}
