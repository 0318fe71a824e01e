//! Changes of a log, applied to a table: by what a batch of them comes to, and where the rows get in
//! each other's way, by ever smaller batches.

use async_trait::async_trait;
use bytes::Bytes;
use highwater_common::error_code::ErrorCode;
use highwater_common::log::{Field, Net, Partial, RowChange, Step, fold};

use super::ConnectorError;
use super::copy_text::{encode_field, encode_null};
use super::log::{ApplyRequest, ApplyTx};
use super::rows::{RowBatch, RowStream};
use super::traits::TargetTx;
use super::transaction::{DataTx, merge, permanent};

/// No batch of staged rows is larger, but for one of a single row.
const BATCH_BYTES: usize = 512 * 1024;

impl DataTx {
    /// Applies changes, in their order.
    ///
    /// # Errors
    /// Those of the connector; permanent `apply_unsupported`.
    pub async fn apply(
        mut self,
        request: &ApplyRequest,
        changes: &[RowChange],
    ) -> Result<Self, ConnectorError> {
        match apply(self.tx.as_mut(), request, changes).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.tx.discard().await;
                Err(error)
            }
        }
    }
}

async fn apply(
    tx: &mut dyn TargetTx,
    request: &ApplyRequest,
    changes: &[RowChange],
) -> Result<(), ConnectorError> {
    tx.hold(&request.write).await?;
    let mut rest = vec![changes];
    while let Some(batch) = rest.pop() {
        applying(tx)?.mark().await?;
        match apply_batch(tx, request, batch).await {
            Ok(()) => applying(tx)?.keep().await?,
            // Two rows that trade a unique value get in each other's way when both are written at
            // once; one after the other, as in the source, they do not.
            Err(error)
                if error.report.code == ErrorCode::ConstraintViolation && batch.len() > 1 =>
            {
                applying(tx)?.back().await?;
                let (first, second) = batch.split_at(batch.len() / 2);
                rest.extend([second, first]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn apply_batch(
    tx: &mut dyn TargetTx,
    request: &ApplyRequest,
    batch: &[RowChange],
) -> Result<(), ConnectorError> {
    let write = &request.write;
    for step in fold(batch, &request.key) {
        match step {
            Step::Truncate { at } => match &request.marks {
                None => applying(tx)?.empty().await?,
                Some(marks) => applying(tx)?.mark_all(marks, at).await?,
            },
            Step::Move { from, row } => {
                let present = row.iter().enumerate();
                let (columns, mut row): (Vec<usize>, Vec<Field>) = present
                    .filter(|(_, field)| **field != Field::Unchanged)
                    .map(|(at, field)| (at, field.clone()))
                    .unzip();
                row.splice(0..0, from);
                let mut rows = TextRows::of(vec![row]);
                let marks = request.marks.as_deref();
                applying(tx)?
                    .change_key(write, &columns, marks, &mut rows)
                    .await?;
            }
            Step::Net(Net {
                gone,
                partial,
                whole,
            }) => {
                if !gone.is_empty() {
                    let mut keys = TextRows::of(gone);
                    applying(tx)?.remove(write, &mut keys).await?;
                }
                for Partial { columns, rows } in partial {
                    let mut rows = TextRows::of(rows);
                    applying(tx)?.update(write, &columns, &mut rows).await?;
                }
                if !whole.is_empty() {
                    merge(tx, write, &mut TextRows::of(whole)).await?;
                }
            }
        }
    }
    Ok(())
}

fn applying(tx: &mut dyn TargetTx) -> Result<&mut dyn ApplyTx, ConnectorError> {
    let place = tx.place();
    tx.applying().ok_or_else(|| {
        let message = format!("{place} cannot apply the changes of a log");
        permanent(ErrorCode::ApplyUnsupported, message)
    })
}

/// Rows at hand, as text of a COPY stream.
struct TextRows {
    rest: std::vec::IntoIter<Vec<Field>>,
    rows: u64,
    bytes: u64,
}

impl TextRows {
    fn of(rows: Vec<Vec<Field>>) -> Self {
        Self {
            rest: rows.into_iter(),
            rows: 0,
            bytes: 0,
        }
    }
}

#[async_trait]
impl RowStream for TextRows {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        let mut frame = Vec::new();
        while frame.len() < BATCH_BYTES
            && let Some(row) = self.rest.next()
        {
            for (at, field) in row.iter().enumerate() {
                if at > 0 {
                    frame.push(b'\t');
                }
                match field {
                    Field::Text(text) => encode_field(text, &mut frame),
                    Field::Null | Field::Unchanged => encode_null(&mut frame),
                }
            }
            frame.push(b'\n');
            self.rows += 1;
        }
        self.bytes += frame.len() as u64;
        Ok((!frame.is_empty()).then(|| RowBatch::Copy(Bytes::from(frame))))
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
