//! A slice on its way, chunk by chunk: begin, move, guard, commit. The order of these is the whole
//! safety of a load.
//!
//! Where rows are appended, the position that a chunk ends at goes into the ledger with its rows,
//! so that the next attempt goes on there. A partition that is replaced is one chunk.

use std::sync::Arc;

use highwater_common::assignment::{AttemptError, CutBy, LoadOrder, Outcome, Receipt};
use highwater_common::chunk::{ChunkSize, Reached, below};
use highwater_common::cursor::Cursor;
use highwater_common::facts::ColumnFacts;
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{Check, WriteMode};
use highwater_runtime::failpoint;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::check::{Asked, commit_checked, count_source};
use super::commit::{Committing, guard_and_commit};
use super::context::rows_of;
use super::{AttemptContext, OrderContext, malformed};
use crate::connector::{
    ConnectorError, DataTx, GuardStep, HeldClaim, MergeBy, Next, ReadRequest, RowFormat, RowStream,
    SliceRows, Source, Target, WatermarkMove, WriteRequest,
};
use crate::meter::Metered;
use crate::patience::{Call, unless_stalled};
use crate::traces;

/// What a chunk came to.
enum Moved {
    /// It is committed, and the claim lives on for the next one.
    Chunk { claimed: HeldClaim, moved: Receipt },
    /// It was the last one, or not this attempt's to commit.
    Over(Outcome),
}

/// Moves what is left of a slice under a claim that stands. `size` is that of its next chunk, where
/// it is moved in chunks, and stays behind for the next claim. A worker that drains ends it after
/// the chunk that is under way, and gives the rest back.
pub(super) async fn move_chunks(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    mut claimed: HeldClaim,
    slice: Slice,
    checks: &[Check],
    size: &mut Option<ChunkSize>,
) -> Result<Outcome, AttemptError> {
    let load_order = cx.of.load_order()?;
    let loading = Loading {
        cx,
        source: cx.of.source()?,
        target,
        checks,
        format: format(cx.of, target).await?,
    };
    loop {
        let reached = claimed.reached();
        cx.progress.note_committed(reached.receipt.rows);
        let rest = reached
            .rest_of(slice)
            .ok_or_else(|| malformed("a slice that ends before what is committed of it"))?;
        let kept = |error: AttemptError| error.keeping(reached.receipt.rows);
        let end = match *size {
            Some(size) => loading.chunk_end(rest, size).await.map_err(kept)?,
            None => None,
        };
        let (chunk, end) = below(rest, end);
        let begun = Instant::now();
        let moving = loading.move_chunk(claimed, reached, chunk, end);
        let moved = moving.instrument(traces::of_chunk(cx.progress)).await;
        match moved.map_err(kept)? {
            Moved::Over(outcome) => return Ok(outcome),
            Moved::Chunk { claimed: on, moved } => {
                let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let (Some(now), Some(limits)) = (*size, &load_order.chunk) {
                    *size = Some(now.after(limits, moved.rows, moved.bytes, millis));
                }
                claimed = on;
            }
        }
        let struck = failpoint::hit_on("attempt::between_chunks", &cx.of.worker).await;
        let kept = claimed.reached().receipt.rows;
        struck.map_err(|struck| AttemptError::from(struck).keeping(kept))?;
        if cx.drain.is_cancelled() {
            // Its session closes, and whoever claims next goes on behind this chunk.
            tracing::info!(task = %cx.assignment.task, "draining: the rest is given back");
            return Ok(Outcome::Released);
        }
    }
}

/// The format that both sides can read and write.
pub(super) async fn format(
    context: &OrderContext,
    target: &dyn Target,
) -> Result<RowFormat, AttemptError> {
    let agreed = context.format.get_or_try_init(async || {
        let load_order = context.load_order()?;
        let (_, to) = context
            .order
            .target
            .as_ref()
            .ok_or_else(|| malformed("no target"))?;
        let own: Vec<ColumnFacts> = context
            .of_target(Call::Columns, target.columns(&to.table))
            .await?;
        let offered = context.source()?.formats(&load_order.columns);
        let taken = target.formats(context.source_engine(), &load_order.columns, &own);
        offered
            .into_iter()
            .find(|format| taken.contains(format))
            .ok_or_else(|| malformed("no common row format"))
    });
    agreed.await.copied()
}

/// What all chunks of an attempt have in common.
struct Loading<'a> {
    cx: &'a AttemptContext<'a>,
    source: Box<dyn Source>,
    target: &'a dyn Target,
    checks: &'a [Check],
    format: RowFormat,
}

impl Loading<'_> {
    /// Where the next chunk ends; `None` when all of `rest` is one. Rows of one position are never
    /// parted.
    async fn chunk_end(
        &self,
        rest: Slice,
        size: ChunkSize,
    ) -> Result<Option<Cursor>, AttemptError> {
        let Slice::Range(range) = rest else {
            return Ok(None);
        };
        let found = self.position_at(rest, size.rows()).await?;
        match (found, range.start()) {
            (Some(found), Some(start)) if found <= start => {
                let behind = start
                    .successor()
                    .and_then(|behind| CursorRange::new(Some(behind), range.end()).ok());
                match behind {
                    Some(behind) => self.position_at(Slice::Range(behind), 0).await,
                    None => Ok(None),
                }
            }
            (found, _) => Ok(found),
        }
    }

    async fn position_at(&self, slice: Slice, before: u64) -> Result<Option<Cursor>, AttemptError> {
        let (context, progress) = (self.cx.of, self.cx.progress);
        let cut_by = context.cut_by()?;
        let (from, kind) = (context.cut_table()?, cut_by.kind);
        let of = SliceRows {
            column: cut_by.column.clone(),
            form: cut_by.source_form,
            slice,
        };
        progress.wait_for_source(true);
        let asked = async { Ok(self.source.position_at(from, &of, kind, before).await?) };
        let found = unless_stalled(progress, context.stall(), context.sides()?, asked).await;
        progress.wait_for_source(false);
        found
    }

    /// How the stream's watermark moves with a chunk that ends at `cursor`, or with the last one.
    /// Rows without a position move none.
    fn watermark(
        &self,
        chunk: Slice,
        reached: Reached,
        cursor: Option<Cursor>,
    ) -> Result<Option<WatermarkMove>, AttemptError> {
        let load_order = self.cx.of.load_order()?;
        let (Some(order), Slice::Range(_)) = (&load_order.watermark, chunk) else {
            return Ok(None);
        };
        Ok(Some(WatermarkMove {
            stream: load_order.stream.clone(),
            position: order.after(cursor),
            seen: order.version_after(reached.chunks),
            log: None,
        }))
    }

    async fn move_chunk(
        &self,
        claimed: HeldClaim,
        reached: Reached,
        chunk: Slice,
        end: Option<Cursor>,
    ) -> Result<Moved, AttemptError> {
        let (context, progress) = (self.cx.of, self.cx.progress);
        let read = read_request(context, chunk, self.format)?;
        let write = write_request(context, self.target, chunk, self.format)?;
        let source = count_source(context, self.checks).await?;
        let (tx, inner) = begin_with_rows(self.reading(&read), claimed).await?;
        progress.note_reached();
        failpoint::hit_on("attempt::after_begin", &context.worker).await?;
        let moving = async {
            progress.note(reached.receipt);
            let mut rows = Metered::new(inner, Arc::clone(progress), context.worker.clone());
            let (tx, receipt) = tx.write(&write, &mut rows).await?;
            drop(rows);
            Ok((tx, receipt))
        };
        let (stall, sides) = (context.stall(), context.sides()?);
        let (tx, moved) = unless_stalled(progress, stall, sides, moving).await?;
        let Some(cursor) = end else {
            let asked = Asked {
                table: &write.table,
                checks: self.checks,
                source,
            };
            let step = GuardStep {
                watermark: self.watermark(chunk, reached, None)?,
                ..GuardStep::last(moved)
            };
            let all = reached.receipt.and(moved);
            let over = commit_checked(self.cx, self.target, tx, asked, step, all).await?;
            return Ok(Moved::Over(over));
        };
        let step = GuardStep {
            chunk: moved,
            next: Next::Continue { cursor },
            watermark: self.watermark(chunk, reached, Some(cursor))?,
        };
        Ok(
            match guard_and_commit(self.cx, self.target, tx, &step).await? {
                Committing::Committed(Some(claimed)) => Moved::Chunk { claimed, moved },
                Committing::Committed(None) => {
                    Moved::Over(Outcome::Committed(reached.receipt.and(moved)))
                }
                Committing::Over(outcome) => Moved::Over(outcome),
            },
        )
    }

    /// The source's rows, unless it says nothing for too long.
    async fn reading(&self, read: &ReadRequest) -> Result<Box<dyn RowStream>, AttemptError> {
        let (context, progress) = (self.cx.of, self.cx.progress);
        progress.wait_for_source(true);
        let asked = async { Ok(self.source.read(read).await?) };
        let rows = unless_stalled(progress, context.stall(), context.sides()?, asked).await;
        progress.wait_for_source(false);
        rows
    }
}

/// What the source is asked for a slice.
pub(super) fn read_request(
    context: &OrderContext,
    slice: Slice,
    format: RowFormat,
) -> Result<ReadRequest, AttemptError> {
    let load_order = context.load_order()?;
    Ok(ReadRequest {
        relation: context.tables()?.0.relation.clone(),
        columns: load_order.columns.clone(),
        rows: rows_of(load_order, slice, CutBy::in_source),
        format,
    })
}

/// Where and how the target writes it.
pub(super) fn write_request(
    context: &OrderContext,
    target: &dyn Target,
    slice: Slice,
    format: RowFormat,
) -> Result<WriteRequest, AttemptError> {
    let load_order = context.load_order()?;
    Ok(WriteRequest {
        table: context.written_table(target)?,
        columns: load_order.columns.clone(),
        rows: rows_of(load_order, slice, CutBy::in_target),
        // A table beside is loaded; what becomes of the one that is read is the publish's business.
        mode: match load_order.shadow {
            Some(_) => WriteMode::Exchange,
            None => load_order.write.mode,
        },
        merge_by: MergeBy {
            marks: context
                .order
                .strategy
                .load()
                .deleted_at()
                .map(str::to_owned),
            ..merge_by(load_order)
        },
        triggers: load_order.write.triggers,
        resident: load_order.write.resident,
        shrinking: load_order.shrinking,
        format,
        stream: load_order.stream.clone(),
    })
}

/// By what rows find those that they take the place of.
pub(super) fn merge_by(load_order: &LoadOrder) -> MergeBy {
    MergeBy {
        key: load_order.key.clone(),
        cursor: load_order.write.cursor.clone(),
        marks: None,
    }
}

/// The source answers first, and only then the target's transaction begins: a scan may take an hour
/// to its first row, and a target ends a transaction that idles for long. A begin is not watched
/// for a stall, because it may wait for its turn.
pub(crate) async fn begin_with_rows<E: From<ConnectorError>>(
    reading: impl Future<Output = Result<Box<dyn RowStream>, E>>,
    claimed: HeldClaim,
) -> Result<(DataTx, Box<dyn RowStream>), E> {
    let rows = reading.await?;
    let tx = claimed.begin().await?;
    Ok((tx, rows))
}
