//! Rows on their way out of SQLite: each value by its own storage class, in bounded batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::TableName;
use sqlx::sqlite::{Sqlite, SqliteRow, SqliteValueRef};
use sqlx::{Decode, Either, Executor, Row, TypeInfo, ValueRef};
use tokio::sync::mpsc;

use super::errors::DatabaseFile;
use super::position::Condition;
use super::session::Session;
use super::{casts, sql};
use crate::connector::{ConnectorError, ReadRequest, RowBatch, RowStream, Value};
use crate::supervisor::{SpawnKind, Supervisor};

const BATCH_ROWS_MAX: usize = 1_000;
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// The largest row that is carried.
const ROW_BYTES_MAX: u64 = 1 << 30;
/// Batches that the reading loop may be ahead.
const BATCHES_AHEAD_MAX: usize = 2;

/// What the reading loop tells: rows, then `None` once SQLite said that there are no more.
type Told = Result<Option<Batch>, ConnectorError>;

struct Batch {
    rows: Vec<Vec<Value>>,
    bytes: u64,
}

/// The rows of a slice. The loop that reads owns the connection; dropping this ends both.
pub(super) struct SqliteRows {
    batches: mpsc::Receiver<Told>,
    abandoned: Arc<AtomicBool>,
    place: DatabaseFile,
    ended: bool,
    rows: u64,
    bytes: u64,
}

impl SqliteRows {
    /// Begins to read on `session`, which nobody else uses any more.
    pub(super) fn begin(
        mut session: Session,
        place: DatabaseFile,
        supervisor: &Supervisor,
        (request, name): (&ReadRequest, &TableName),
        condition: Condition,
    ) -> Self {
        let (tell, batches) = mpsc::channel(BATCHES_AHEAD_MAX);
        let abandoned = session.abandon_flag();
        let names: Vec<String> = request
            .columns
            .iter()
            .map(|column| column.source_name().to_owned())
            .collect();
        let columns: Vec<String> = request.columns.iter().map(casts::read).collect();
        let table = request.relation.to_string();
        let text = format!(
            "select {} from {} where {}",
            columns.join(", "),
            sql::table(name),
            condition.text
        );
        let reader = place.clone();
        supervisor.spawn(SpawnKind::Attempt, async move {
            let read = Reading {
                place: reader,
                table,
                names,
            };
            if let Err(error) = read.run(&mut session, text, condition, &tell).await {
                // A reader that is gone needs no reason.
                tell.send(Err(error)).await.ok();
            }
            session.close().await;
        });
        Self {
            batches,
            abandoned,
            place,
            ended: false,
            rows: 0,
            bytes: 0,
        }
    }
}

#[async_trait]
impl RowStream for SqliteRows {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        match self.batches.recv().await {
            Some(Ok(Some(batch))) => {
                self.rows += batch.rows.len() as u64;
                self.bytes += batch.bytes;
                Ok(Some(RowBatch::Rows(batch.rows)))
            }
            Some(Ok(None)) => {
                self.ended = true;
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None if self.ended => Ok(None),
            // The loop went without a word: its rows may not be all.
            None => Err(self.place.lost("a read")),
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for SqliteRows {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

struct Reading {
    place: DatabaseFile,
    table: String,
    names: Vec<String>,
}

impl Reading {
    async fn run(
        &self,
        session: &mut Session,
        text: String,
        condition: Condition,
        tell: &mpsc::Sender<Told>,
    ) -> Result<(), ConnectorError> {
        let failed = || {
            self.place
                .failed(format!("read the rows of {}", self.table))
        };
        let mut steps = Executor::fetch_many(session.conn(), sql::bound(text, &condition));
        let mut batch = Batch {
            rows: Vec::new(),
            bytes: 0,
        };
        let mut is_whole = false;
        while let Some(step) = steps.next().await {
            let row = match step.map_err(failed())? {
                Either::Right(row) => row,
                Either::Left(_done) => {
                    is_whole = true;
                    continue;
                }
            };
            let (values, bytes) = self.values(&row)?;
            batch.rows.push(values);
            batch.bytes += bytes;
            if batch.rows.len() >= BATCH_ROWS_MAX || batch.bytes >= BATCH_BYTES_MAX {
                let full = std::mem::replace(
                    &mut batch,
                    Batch {
                        rows: Vec::new(),
                        bytes: 0,
                    },
                );
                if tell.send(Ok(Some(full))).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !is_whole {
            // The connection's thread ended; its silence must not pass for the end of the rows.
            return Err(failed()(sqlx::Error::WorkerCrashed));
        }
        if !batch.rows.is_empty() {
            tell.send(Ok(Some(batch))).await.ok();
        }
        tell.send(Ok(None)).await.ok();
        Ok(())
    }

    fn values(&self, row: &SqliteRow) -> Result<(Vec<Value>, u64), ConnectorError> {
        let mut bytes = 0;
        let mut values = Vec::with_capacity(self.names.len());
        for (at, name) in self.names.iter().enumerate() {
            let raw = row
                .try_get_raw(at)
                .map_err(self.place.failed(format!("read column `{name}`")))?;
            let value = value_of(raw).map_err(|reason| {
                let message = format!(
                    "column `{name}` of `{}` holds {reason}; correct it, or exclude the column",
                    self.table
                );
                self.place.permanent(ErrorCode::ValueUnreadable, message)
            })?;
            bytes += size_of(&value);
            values.push(value);
        }
        if bytes > ROW_BYTES_MAX {
            let message = format!(
                "a row of `{}` has {bytes} bytes, and at most {ROW_BYTES_MAX} are carried; exclude \
                 its largest column",
                self.table
            );
            return Err(self.place.permanent(ErrorCode::RowTooLarge, message));
        }
        Ok((values, bytes))
    }
}

/// The value by its own storage class, whatever its column was declared as.
pub(super) fn value_of(raw: SqliteValueRef<'_>) -> Result<Value, &'static str> {
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let class = raw.type_info();
    match class.name() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(raw)
            .map(Value::Integer)
            .map_err(|_| "an unreadable integer"),
        "REAL" => <f64 as Decode<Sqlite>>::decode(raw)
            .map(Value::Real)
            .map_err(|_| "an unreadable number"),
        "TEXT" => {
            let bytes =
                <Vec<u8> as Decode<Sqlite>>::decode(raw).map_err(|_| "an unreadable text")?;
            Ok(String::from_utf8(bytes)
                .map_or_else(|error| Value::RawText(error.into_bytes()), Value::Text))
        }
        "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(raw)
            .map(Value::Bytes)
            .map_err(|_| "an unreadable blob"),
        _ => Err("a value of an unknown storage class"),
    }
}

fn size_of(value: &Value) -> u64 {
    match value {
        Value::Null => 1,
        Value::Integer(_) | Value::Real(_) => 8,
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) | Value::RawText(bytes) => bytes.len() as u64,
    }
}
