//! Reads a slice through COPY: one statement, one snapshot, bounded frames, counted rows.
//! Never takes a stream for whole that its server did not end.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::ColumnFacts;
use sqlx::{Executor, PgConnection};
use tokio::sync::mpsc;

use super::casts::naming_casts;
use super::errors::{classify, fault, permanent};
use super::session::Endpoint;
use crate::connector::copy_binary::BinaryWalker;
use crate::connector::copy_text::{LineCutter, TextWalker, decode_row};
use crate::connector::value_text::decode_value;
use crate::connector::{ConnectorError, RowBatch, RowFormat, RowStream, Value};

/// Small frames are joined up to this size, so that a row costs no write of its own.
const FRAME_BYTES: usize = 128 * 1024;
/// No batch of a COPY stream is larger.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

type Pump = Pin<Box<dyn Future<Output = Result<(), ConnectorError>> + Send>>;

/// A slice being read. The pump owns the connection and runs only while `next` is awaited, so
/// dropping this drops both.
pub(super) struct CopyOut {
    pump: Option<Pump>,
    batches: mpsc::Receiver<Piece>,
    first: Option<Piece>,
    rows: u64,
    bytes: u64,
}

struct Piece {
    batch: RowBatch,
    rows: u64,
    bytes: u64,
}

/// What a pump reads, and how.
pub(super) struct CopyOrder {
    pub(super) endpoint: Endpoint,
    pub(super) what: String,
    pub(super) statement: String,
    pub(super) format: RowFormat,
    pub(super) columns: Vec<ColumnFacts>,
}

impl CopyOut {
    /// Begins to read. The first batch is awaited here: until then the session would be idle in its
    /// transaction, and ended if the target took its time.
    pub(super) async fn begin(
        conn: PgConnection,
        order: CopyOrder,
    ) -> Result<Self, ConnectorError> {
        let (pieces, batches) = mpsc::channel(1);
        let pump: Pump = Box::pin(pump(conn, order, pieces));
        let mut reading = Self {
            pump: Some(pump),
            batches,
            first: None,
            rows: 0,
            bytes: 0,
        };
        reading.first = reading.next_piece().await?;
        Ok(reading)
    }

    async fn next_piece(&mut self) -> Result<Option<Piece>, ConnectorError> {
        if let Some(pump) = &mut self.pump {
            let ended = tokio::select! { biased;
                piece = self.batches.recv() => match piece {
                    Some(piece) => return Ok(Some(piece)),
                    // The sender lives in the pump; it is gone only when the pump is about to
                    // answer.
                    None => pump.await,
                },
                ended = &mut *pump => ended,
            };
            self.pump = None;
            ended?;
        }
        Ok(self.batches.recv().await)
    }
}

#[async_trait]
impl RowStream for CopyOut {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => self.next_piece().await?,
        };
        Ok(piece.map(|piece| {
            (self.rows, self.bytes) = (piece.rows, piece.bytes);
            piece.batch
        }))
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

async fn pump(
    mut conn: PgConnection,
    order: CopyOrder,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), ConnectorError> {
    let what = format!("read {}", order.what);
    let failed = |error| naming_casts(classify(&order.endpoint, &what, error), &order.columns);
    let mut gather = Gather::new(&order);
    let mut frames = conn.copy_out_raw(&order.statement).await.map_err(failed)?;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(failed)?;
        gather.take(&frame)?;
        while let Some(piece) = gather.piece(FRAME_BYTES) {
            // Nobody listens any more: the reader was dropped, and this future is about to be.
            pieces.send(piece).await.ok();
        }
    }
    drop(frames);
    gather.finish()?;
    while let Some(piece) = gather.piece(1) {
        pieces.send(piece).await.ok();
    }
    match conn.execute("commit").await {
        Ok(_) => order.endpoint.keep_or_close(conn).await,
        Err(error) => tracing::debug!(%error, "the session of a slice that was read could not be \
            kept"),
    }
    Ok(())
}

enum Walk {
    Binary(BinaryWalker),
    Text(TextWalker),
    Values {
        cutter: LineCutter,
        rows: Vec<Vec<Value>>,
    },
}

/// Joins frames into batches and counts their rows.
struct Gather<'o> {
    order: &'o CopyOrder,
    walk: Walk,
    buffer: BytesMut,
    /// Pieces of large frames, before what the buffer holds.
    large: VecDeque<Bytes>,
    held_bytes: usize,
    bytes: u64,
}

impl<'o> Gather<'o> {
    fn new(order: &'o CopyOrder) -> Self {
        let walk = match order.format {
            RowFormat::CopyBinary => Walk::Binary(BinaryWalker::default()),
            RowFormat::CopyText => Walk::Text(TextWalker::default()),
            RowFormat::Values => Walk::Values {
                cutter: LineCutter::default(),
                rows: Vec::new(),
            },
        };
        Self {
            order,
            walk,
            buffer: BytesMut::with_capacity(2 * FRAME_BYTES),
            large: VecDeque::new(),
            held_bytes: 0,
            bytes: 0,
        }
    }

    fn take(&mut self, frame: &Bytes) -> Result<(), ConnectorError> {
        // The server sends a row a frame, so an oversized frame is an oversized row.
        if frame.len() > self.order.endpoint.session().row_bytes_max {
            return Err(self.too_large(frame.len()));
        }
        self.bytes += frame.len() as u64;
        self.held_bytes += frame.len();
        let order = self.order;
        match &mut self.walk {
            Walk::Binary(walker) => {
                walker.feed(frame).map_err(|error| broken(order, &error))?;
                self.keep(frame);
            }
            Walk::Text(walker) => {
                walker.feed(frame);
                self.keep(frame);
            }
            Walk::Values { cutter, rows } => {
                cutter.feed(frame, |line| {
                    rows.push(decode_line(order, line)?);
                    Ok::<_, ConnectorError>(())
                })?;
            }
        }
        Ok(())
    }

    /// Small frames are joined. A large one is cut where it lies: of a row of a gigabyte no second
    /// copy is made.
    fn keep(&mut self, frame: &Bytes) {
        if frame.len() < BATCH_BYTES_MAX {
            self.buffer.extend_from_slice(frame);
            return;
        }
        if !self.buffer.is_empty() {
            self.large.push_back(self.buffer.split().freeze());
        }
        let mut rest = frame.clone();
        while !rest.is_empty() {
            self.large
                .push_back(rest.split_to(rest.len().min(BATCH_BYTES_MAX)));
        }
    }

    /// The next batch, when at least `bytes_min` bytes are held.
    fn piece(&mut self, bytes_min: usize) -> Option<Piece> {
        let rows_seen = self.rows();
        let batch = match &mut self.walk {
            Walk::Binary(_) | Walk::Text(_) if !self.large.is_empty() => {
                RowBatch::Copy(self.large.pop_front()?)
            }
            Walk::Binary(_) | Walk::Text(_) => {
                if self.buffer.len() < bytes_min.max(1) {
                    return None;
                }
                let end = self.buffer.len().min(BATCH_BYTES_MAX);
                RowBatch::Copy(self.buffer.split_to(end).freeze())
            }
            Walk::Values { rows, .. } => {
                if rows.is_empty() || self.held_bytes < bytes_min {
                    return None;
                }
                self.held_bytes = 0;
                RowBatch::Rows(std::mem::take(rows))
            }
        };
        Some(Piece {
            batch,
            rows: rows_seen,
            bytes: self.bytes,
        })
    }

    fn finish(&mut self) -> Result<(), ConnectorError> {
        let order = self.order;
        match &self.walk {
            Walk::Binary(walker) => walker
                .finish()
                .map(drop)
                .map_err(|error| broken(order, &error)),
            Walk::Text(walker) => walker
                .finish()
                .map(drop)
                .map_err(|error| broken(order, &error)),
            Walk::Values { cutter, .. } => cutter
                .finish()
                .map(drop)
                .map_err(|error| broken(order, &error)),
        }
    }

    fn rows(&self) -> u64 {
        match &self.walk {
            Walk::Binary(walker) => walker.rows(),
            Walk::Text(walker) => walker.rows(),
            Walk::Values { cutter, .. } => cutter.lines(),
        }
    }

    fn too_large(&self, bytes: usize) -> ConnectorError {
        let message = format!(
            "row {} of {} on {} holds {} MiB; at most {} MiB can travel, so leave its large column \
             out",
            self.rows() + 1,
            self.order.what,
            self.order.endpoint,
            bytes / (1024 * 1024),
            self.order.endpoint.session().row_bytes_max / (1024 * 1024),
        );
        permanent(ErrorCode::RowTooLarge, message)
    }
}

fn decode_line(order: &CopyOrder, line: &[u8]) -> Result<Vec<Value>, ConnectorError> {
    let fields = decode_row(line).map_err(|error| broken(order, &error))?;
    if fields.len() != order.columns.len() {
        let message = format!(
            "a row of {} on {} has {} fields where {} were asked for",
            order.what,
            order.endpoint,
            fields.len(),
            order.columns.len()
        );
        return Err(fault(
            ErrorClass::Transient,
            ErrorCode::BrokenStream,
            message,
        ));
    }
    let values = fields
        .into_iter()
        .zip(&order.columns)
        .map(|(field, column)| decode_value(field, column));
    values
        .collect::<Result<_, _>>()
        .map_err(|error| permanent(error.code(), error.to_string()))
}

fn broken(order: &CopyOrder, error: &(impl std::error::Error + ?Sized)) -> ConnectorError {
    let message = format!("cannot read {} on {}: {error}", order.what, order.endpoint);
    fault(ErrorClass::Transient, ErrorCode::BrokenStream, message)
}
