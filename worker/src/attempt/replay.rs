//! The log of a source, applied to the target: whole transactions, in their order, and with each
//! commit the position that the target holds. Only then is the source told that it may let go of
//! what was applied.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt};
use highwater_common::error_code::ErrorCode;
use highwater_common::log::{LogEvent, LogIdentity, Lsn, Removal, RowChange, mark_column};
use highwater_common::spec::{Bound, Chunk, WriteMode};
use highwater_common::window::StoredWatermark;
use highwater_runtime::failpoint;
use tokio::time::Instant;

use super::claim::{Claiming, claim_of};
use super::commit::{Committing, guard_and_commit};
use super::prepare::stream_request;
use super::window::{behind, watermarks, window_of};
use super::{AttemptContext, OrderContext, chunks, malformed, superseded};
use crate::connector::{
    ApplyRequest, ChangeLog, ChangeStream, ConnectorError, DataTx, ForgetOutcome, GuardStep,
    HeldClaim, LogMark, LogOpened, LogPosition, LogRequest, Next, PlaceRequest, PrepareOutcome,
    RowFormat, Rows, Source, Target, WatermarkMove, WriteRequest,
};
use crate::patience::{Call, answered, unless_stalled};

/// How long a prepare waits for transactions that were open before the log.
const OPEN_WAIT: Duration = Duration::from_mins(4);
/// Changes that are held in memory and applied at once, a commit or not.
const BATCH_CHANGES: usize = 10_000;
const BATCH_BYTES: usize = 8 << 20;

/// What is replayed, and how.
pub(crate) struct Replay {
    pub(crate) log: LogRequest,
    /// How much of the log one commit takes.
    pub(crate) chunk: Chunk,
    /// What becomes of rows that the source deletes.
    pub(crate) removal: Removal,
    /// The column that says when a row was deleted, of one that stays so.
    pub(crate) deleted_at: Option<String>,
}

fn change_log(source: &dyn Source) -> Result<&dyn ChangeLog, AttemptError> {
    source
        .change_log()
        .ok_or_else(|| malformed("a source that keeps no log"))
}

/// Makes the log begin before the table is copied, and stores where, before anything is copied: or
/// holds the log that is there to the position that the target has. Gives what became of the task
/// where the stream is not the run's any more.
pub(crate) async fn open_log(
    cx: &AttemptContext<'_>,
    log: &LogRequest,
) -> Result<Option<Outcome>, AttemptError> {
    let context = cx.of;
    let (source, target) = (context.source()?, context.target()?);
    let source = change_log(source.as_ref())?;
    let asked = window_of(&context.order).ok_or_else(|| malformed("no position in a log"))?;
    let found = behind(context, target.as_ref(), asked).await?;
    let after = found.watermark.map(position).transpose()?;
    let opened = of_source(context, source.open(log, after, OPEN_WAIT)).await?;
    if let Some(after) = after {
        let held = held_position(context, target.as_ref()).await?;
        check_identity(
            context,
            log,
            after,
            held.and_then(|of| of.identity),
            &opened,
        )?;
    }
    failpoint::hit_on("replay::after_open", &context.worker).await?;
    if after.is_none() && found.is_copied() {
        return Err(no_position(context)?);
    }
    if after.is_none() {
        let place = PlaceRequest {
            cluster: context.order.cluster,
            stream: stream_request(cx)?,
            to: Some(Bound(opened.begins.to_cursor().to_string())),
            identity: Some(opened.identity),
            tz: "UTC".to_owned(),
        };
        let placing = watermarks(target.as_ref())?.place(&place);
        match context.of_target(Call::Prepare, placing).await? {
            ForgetOutcome::Done(_) => {}
            ForgetOutcome::Not(PrepareOutcome::Fenced { newer }) => {
                return Ok(Some(Outcome::Fenced { newer }));
            }
            ForgetOutcome::Not(PrepareOutcome::Superseded | PrepareOutcome::Prepared { .. }) => {
                return superseded(context, target.as_ref()).await.map(Some);
            }
        }
    }
    if !found.is_copied() {
        of_source(context, source.settle(OPEN_WAIT)).await?;
    }
    Ok(None)
}

async fn of_source<T>(
    context: &OrderContext,
    asked: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, AttemptError> {
    let source = context.sides()?.source;
    answered(Call::Prepare, source, context.stall(), asked).await
}

/// Where the target says that it is in the log, and of which log that is.
async fn held_position(
    context: &OrderContext,
    target: &dyn Target,
) -> Result<Option<LogPosition>, AttemptError> {
    let stream = context.stream()?;
    let asked = watermarks(target)?.log_position(&stream);
    context.of_target(Call::Ledger, asked).await
}

/// Refuses a log that has not told all since the position was stored. What an earlier version has
/// stored says nothing of that, and what is there now is taken for it.
fn check_identity(
    context: &OrderContext,
    log: &LogRequest,
    after: Lsn,
    stored: Option<LogIdentity>,
    now: &LogOpened,
) -> Result<(), AttemptError> {
    let untold = stored.map_or_else(Vec::new, |stored| stored.untold(&now.identity));
    if untold.is_empty() {
        return Ok(());
    }
    let source = context.sides()?.source;
    let message = format!(
        "the log of {} on {source} has not told all that happened behind {after}, and nothing is \
         applied: {}. {}",
        log.table,
        untold.join("; "),
        anew(log)
    );
    let (class, code) = (ErrorClass::Permanent, ErrorCode::SourceChanged);
    Err(AttemptError::new(class, code, message))
}

/// How a table is copied anew whose log has told what is not of it.
fn anew(log: &LogRequest) -> String {
    format!(
        "Drop the slot (`select pg_drop_replication_slot('{}')`), and copy the table anew: \
         `highwater coverage forget`, then run with `write.resident: replace`",
        log.slot
    )
}

fn position(at: StoredWatermark) -> Result<Lsn, AttemptError> {
    Lsn::of_cursor(at.position).ok_or_else(|| malformed("a watermark that is no position in a log"))
}

/// Applies what the log tells from the position that the target holds up to where the log ends now.
pub(crate) async fn replay(cx: &AttemptContext<'_>, of: &Replay) -> Result<Outcome, AttemptError> {
    let context = cx.of;
    let (source, target) = (context.source()?, context.target()?);
    let (source, target) = (change_log(source.as_ref())?, target.as_ref());
    let claimed = match claim_of(cx, target, None).await? {
        Claiming::Held(claimed) => claimed,
        Claiming::Over(outcome) => return Ok(outcome),
    };
    // Under the claim: no attempt before this one moves it any more.
    let Some(LogPosition {
        watermark: at,
        identity: stored,
        ..
    }) = held_position(context, target).await?
    else {
        return Err(no_position(context)?);
    };
    let after = position(at)?;
    let opened = of_source(context, source.open(&of.log, Some(after), OPEN_WAIT)).await?;
    check_identity(context, &of.log, after, stored.clone(), &opened)?;
    of_source(context, source.confirm(&of.log, after)).await?;
    let end = of_source(context, source.end()).await?;
    cx.progress.note_reached();
    let mut replaying = Replaying {
        cx,
        of,
        source,
        target,
        request: apply_request(context, of)?,
        total: claimed.reached().receipt,
        claimed: Some(claimed),
        tx: None,
        seen: at.version,
        held: after,
        reached: after,
        reached_at: None,
        is_identity_new: stored.as_ref() != Some(&opened.identity),
        identity: opened.identity,
        pending: Vec::new(),
        pending_bytes: 0,
        written: Receipt::default(),
        begun: Instant::now(),
    };
    loop {
        let mut piece = stalling(cx, source.read(&of.log, replaying.held, end.position)).await?;
        if let Some(over) = replaying.apply(piece.as_mut()).await? {
            return Ok(over);
        }
        if piece.is_at_end() {
            break;
        }
        if let Some(over) = replaying.commit(false).await? {
            return Ok(over);
        }
        failpoint::hit_on("replay::before_confirm", &context.worker).await?;
        of_source(context, source.confirm(&of.log, replaying.held)).await?;
        if cx.drain.is_cancelled() {
            return Ok(Outcome::Released);
        }
    }
    if end.is_durable {
        replaying.reached = replaying.reached.max(end.position);
        replaying.reached_at = Some(end.at);
    }
    let Some(over) = replaying.commit(true).await? else {
        return Err(malformed("a last commit that is none"));
    };
    if matches!(over, Outcome::Committed(_)) {
        failpoint::hit_on("replay::before_confirm", &context.worker).await?;
        // The next run confirms it, if this one cannot.
        // Of a commit of this very attempt: another one's may not have come as far.
        if let Err(error) = of_source(context, source.confirm(&of.log, replaying.held)).await {
            tracing::warn!(slot = of.log.slot, %error.message, "the slot was not confirmed");
        }
    }
    Ok(over)
}

fn no_position(context: &OrderContext) -> Result<AttemptError, AttemptError> {
    let (from, to) = context.tables()?;
    let message = format!(
        "{} no longer says up to where of the log of {} it is a copy, and nothing is applied: copy \
         the table anew (`highwater coverage forget`, then run with `write.resident: replace`)",
        to.table, from.relation
    );
    let (class, code) = (ErrorClass::Permanent, ErrorCode::LogGap);
    Ok(AttemptError::new(class, code, message))
}

/// What `asked` of the source answers, unless it says nothing for too long.
async fn stalling<T>(
    cx: &AttemptContext<'_>,
    asked: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, AttemptError> {
    let (progress, stall, sides) = (cx.progress, cx.of.stall(), cx.of.sides()?);
    progress.wait_for_source(true);
    let answer = unless_stalled(progress, stall, sides, async { Ok(asked.await?) }).await;
    progress.wait_for_source(false);
    answer
}

/// Where the changes go.
fn apply_request(context: &OrderContext, of: &Replay) -> Result<ApplyRequest, AttemptError> {
    let load_order = context.load_order()?;
    let key = load_order.key.iter().filter_map(|name| {
        let columns = &load_order.columns;
        columns.iter().position(|column| column.name == *name)
    });
    let marks = of.deleted_at.as_deref();
    let columns = of.log.columns.iter().cloned();
    Ok(ApplyRequest {
        key: key.collect(),
        marks: marks.map(str::to_owned),
        write: WriteRequest {
            table: context.tables()?.1.table.clone(),
            columns: columns.chain(marks.map(mark_column)).collect(),
            rows: Rows::All,
            mode: WriteMode::Merge,
            merge_by: chunks::merge_by(load_order),
            triggers: load_order.write.triggers,
            resident: load_order.write.resident,
            shrinking: load_order.shrinking,
            format: RowFormat::CopyText,
            stream: load_order.stream.clone(),
        },
    })
}

struct Replaying<'a> {
    cx: &'a AttemptContext<'a>,
    of: &'a Replay,
    source: &'a dyn ChangeLog,
    target: &'a dyn Target,
    request: ApplyRequest,
    /// Between two transactions.
    claimed: Option<HeldClaim>,
    /// What is applied and not committed.
    tx: Option<DataTx>,
    /// The version of the position that the target holds.
    seen: u64,
    /// Where that is.
    held: Lsn,
    /// Where the last whole transaction ends.
    reached: Lsn,
    /// What the source had committed by then is taken, by its clock.
    reached_at: Option<i64>,
    /// Of which table and server the log is.
    identity: LogIdentity,
    /// Whether the target does not say so yet.
    is_identity_new: bool,
    pending: Vec<RowChange>,
    pending_bytes: usize,
    /// What is taken since the last commit.
    written: Receipt,
    /// What the task has committed.
    total: Receipt,
    /// When the last commit was.
    begun: Instant,
}

impl Replaying<'_> {
    /// Applies a piece of the log, and commits as often as the chunks ask for.
    async fn apply(
        &mut self,
        piece: &mut dyn ChangeStream,
    ) -> Result<Option<Outcome>, AttemptError> {
        let mut is_checked = false;
        loop {
            let events = stalling(self.cx, piece.next()).await?;
            if !is_checked {
                // A slot that still begins where the target is now has told all behind that: nobody
                // else has moved it, or made it anew, before it was read.
                // And no column, table or server was another one while this was told.
                let (cx, log) = (self.cx.of, &self.of.log);
                let asked = self.source.open(log, Some(self.held), OPEN_WAIT);
                let opened = of_source(cx, asked).await?;
                check_identity(cx, log, self.held, Some(self.identity.clone()), &opened)?;
                is_checked = true;
            }
            let Some(events) = events else {
                break;
            };
            for event in events {
                match event {
                    LogEvent::Change(change) => self.take(change).await?,
                    LogEvent::Commit { end, at } => {
                        (self.reached, self.reached_at) = (end, Some(at));
                        if !self.is_full() {
                            continue;
                        }
                        if let Some(over) = self.commit(false).await? {
                            return Ok(Some(over));
                        }
                        let worker = &self.cx.of.worker;
                        failpoint::hit_on("attempt::between_chunks", worker).await?;
                        if self.cx.drain.is_cancelled() {
                            return Ok(Some(Outcome::Released));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    async fn take(&mut self, change: RowChange) -> Result<(), AttemptError> {
        let (key, width) = (&self.request.key, self.of.log.columns.len());
        let Some(change) = self.of.removal.of(change, key, width) else {
            return Ok(());
        };
        let bytes = change.bytes();
        self.written = self.written.and(Receipt {
            rows: 1,
            bytes: bytes as u64,
        });
        self.cx.progress.note(self.total.and(self.written));
        self.pending_bytes += bytes;
        self.pending.push(change);
        match self.pending.len() >= BATCH_CHANGES || self.pending_bytes >= BATCH_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        let chunk = &self.of.chunk;
        self.written.rows >= chunk.max_rows
            || self.written.bytes >= chunk.max_bytes
            || (self.written.rows > 0 && self.begun.elapsed() >= chunk.target)
    }

    async fn open(&mut self) -> Result<DataTx, AttemptError> {
        if let Some(tx) = self.tx.take() {
            return Ok(tx);
        }
        let claimed = self.claimed.take();
        let claimed = claimed.ok_or_else(|| malformed("a claim that is used up"))?;
        let tx = claimed.begin().await?;
        failpoint::hit_on("attempt::after_begin", &self.cx.of.worker).await?;
        Ok(tx)
    }

    /// Applies what is pending, which may end within a transaction of the source: it is committed
    /// with the rest of it.
    async fn flush(&mut self) -> Result<(), AttemptError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let tx = self.open().await?;
        let (request, pending) = (&self.request, &self.pending);
        let applying = async { Ok(tx.apply(request, pending).await?) };
        let context = self.cx.of;
        let (stall, sides) = (context.stall(), context.sides()?);
        self.tx = Some(unless_stalled(self.cx.progress, stall, sides, applying).await?);
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Commits what was applied with the position behind it, which is a whole transaction's end;
    /// gives what the task came to when it is over with that.
    async fn commit(&mut self, is_last: bool) -> Result<Option<Outcome>, AttemptError> {
        if !is_last && self.reached == self.held {
            return Ok(None);
        }
        self.flush().await?;
        let tx = self.open().await?;
        let cursor = self.reached.to_cursor();
        let step = GuardStep {
            chunk: self.written,
            next: match is_last {
                true => Next::Committed,
                false => Next::Continue { cursor },
            },
            watermark: Some(WatermarkMove {
                stream: self.request.write.stream.clone(),
                position: cursor,
                seen: Some(self.seen),
                log: Some(LogMark {
                    identity: self.is_identity_new.then(|| self.identity.clone()),
                    reached_at: self.reached_at,
                    is_live: is_last,
                }),
            }),
        };
        let total = self.total.and(self.written);
        match guard_and_commit(self.cx, self.target, tx, &step).await? {
            Committing::Over(outcome) => return Ok(Some(outcome)),
            Committing::Committed(None) => {
                self.held = self.reached;
                return Ok(Some(Outcome::Committed(total)));
            }
            Committing::Committed(claimed) => self.claimed = claimed,
        }
        self.cx.progress.note_committed(total.rows);
        (self.total, self.written) = (total, Receipt::default());
        (self.held, self.begun) = (self.reached, Instant::now());
        self.is_identity_new = false;
        self.seen += 1;
        Ok(None)
    }
}
