//! The log of a source, applied to the target: whole transactions, in their order, and with each
//! commit the position that the target holds. Only then is the source told that it may let go of
//! what was applied.

use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt};
use highwater_common::error_code::ErrorCode;
use highwater_common::log::{LogEvent, LogIdentity, Lsn, Removal, RowChange, mark_column};
use highwater_common::spec::{Chunk, WriteMode};
use highwater_runtime::failpoint;
use tokio::time::Instant;

use super::claim::{Claiming, claim_of};
use super::commit::{Committing, guard_and_commit};
use super::log::{
    OPEN_WAIT, change_log, check_identity, held_position, no_position, of_source, position,
};
use super::{AttemptContext, OrderContext, chunks, malformed};
use crate::connector::{
    ApplyRequest, ChangeLog, ChangeStream, ConnectorError, DataTx, GuardStep, HeldClaim, LogEnd,
    LogMark, LogPosition, LogRequest, Next, RowFormat, Rows, Target, WatermarkMove, WriteRequest,
};
use crate::metrics::LogGauge;
use crate::patience::unless_stalled;

/// Changes that are held in memory and applied at once, a commit or not.
const BATCH_CHANGES: usize = 10_000;
const BATCH_BYTES: usize = 8 << 20;
/// How long the server may take to write its log to disk up to where it ends: before a last commit,
/// and while it is followed.
const DURABLE_WAIT: Duration = Duration::from_secs(2);
const FOLLOWED_WAIT: Duration = Duration::from_millis(300);
/// How long somebody who follows a log waits before he looks whether it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WATCH_EVERY: Duration = Duration::from_secs(5);
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// How long the position may stay behind a log that tells nothing of the table, and how far: the
/// source keeps its log that long, and each move is a commit in the target.
const IDLE_MOVE: Duration = Duration::from_secs(10);
const IDLE_BYTES: u64 = 16 << 20;
/// After so long a task that follows is given back, so that what it has met is forgotten.
const FOLLOW_FOR: Duration = Duration::from_mins(10);

/// What is replayed, and how.
pub(crate) struct Replay {
    pub(crate) log: LogRequest,
    /// Whether it goes on where the log ends.
    pub(crate) follows: bool,
    /// How much of the log one commit takes.
    pub(crate) chunk: Chunk,
    /// What becomes of rows that the source deletes.
    pub(crate) removal: Removal,
    /// The column that says when a row was deleted, of one that stays so.
    pub(crate) deleted_at: Option<String>,
    /// How much of the log the slot may keep before people are told.
    pub(crate) slot_retained_max: Option<u64>,
}

/// Applies what the log tells from the position that the target holds up to where the log ends now,
/// or for as long as nobody ends it.
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
    let mut end = of_source(context, source.end(of.durable_wait())).await?;
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
    let over_at = Instant::now() + FOLLOW_FOR;
    let mut watch = Watch::new(cx, of);
    loop {
        let read = Instant::now();
        let reading = source.read(&of.log, replaying.held, end.position);
        let mut piece = match stalling(cx, reading).await {
            Ok(piece) => piece,
            Err(error) => return Err(replaying.explained(error).await),
        };
        if let Some(over) = replaying.apply(piece.as_mut()).await? {
            return Ok(over);
        }
        if piece.is_at_end() && !of.follows {
            watch.look(cx, source, replaying.held).await?;
            break;
        }
        let is_at_end = piece.is_at_end();
        drop(piece);
        if is_at_end && end.is_durable {
            replaying.reached = replaying.reached.max(end.position);
            replaying.reached_at = Some(end.at);
        }
        watch.look(cx, source, replaying.held).await?;
        if is_at_end && !replaying.is_due() {
            let pause = replaying.pause(read.elapsed());
            match next_end(cx, source, &end, pause, replaying.wakes(over_at)).await? {
                Some(next) if Instant::now() < over_at => end = next,
                Some(_) | None => return Ok(Outcome::Released),
            }
            continue;
        }
        if let Some(over) = replaying.commit(false).await? {
            return Ok(over);
        }
        failpoint::hit_on("replay::before_confirm", &context.worker).await?;
        of_source(context, source.confirm(&of.log, replaying.held)).await?;
        if cx.drain.is_cancelled() {
            return Ok(Outcome::Released);
        }
        if is_at_end {
            let pause = replaying.pause(read.elapsed());
            match next_end(cx, source, &end, pause, replaying.wakes(over_at)).await? {
                Some(next) if Instant::now() < over_at => end = next,
                Some(_) | None => return Ok(Outcome::Released),
            }
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

impl Replay {
    const fn durable_wait(&self) -> Duration {
        match self.follows {
            true => FOLLOWED_WAIT,
            false => DURABLE_WAIT,
        }
    }
}

/// Looks every now and then what the slot keeps, and tells.
struct Watch<'a> {
    of: &'a Replay,
    gauge: Option<LogGauge>,
    looked: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(cx: &AttemptContext<'_>, of: &'a Replay) -> Self {
        Self {
            of,
            gauge: cx.progress.log(),
            looked: None,
        }
    }

    async fn look(
        &mut self,
        cx: &AttemptContext<'_>,
        source: &dyn ChangeLog,
        held: Lsn,
    ) -> Result<(), AttemptError> {
        let is_early = |at: Instant| at.elapsed() < WATCH_EVERY;
        if self.looked.is_some_and(is_early) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let shown = of_source(cx.of, source.standing(&self.of.log)).await?;
        let Some(slot) = shown.slot else {
            return Ok(());
        };
        if let Some(gauge) = &self.gauge {
            let lag = shown.end.byte().saturating_sub(held.byte());
            gauge.set(lag, slot.retained_bytes);
        }
        if let Some(alert) = slot.alert(&self.of.log.slot, self.of.slot_retained_max) {
            tracing::warn!(step = %cx.of.order.step, "{alert}");
        }
        Ok(())
    }
}

/// Where the log ends once it has gone on, or at `wakes` all the same; `None` when the worker drains.
async fn next_end(
    cx: &AttemptContext<'_>,
    source: &dyn ChangeLog,
    last: &LogEnd,
    pause: Duration,
    wakes: Instant,
) -> Result<Option<LogEnd>, AttemptError> {
    loop {
        tokio::select! { biased;
            () = cx.drain.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
        let end = of_source(cx.of, source.end(FOLLOWED_WAIT)).await?;
        // What was not on disk yet may have been committed all the same.
        if end.position > last.position || !last.is_durable || Instant::now() >= wakes {
            return Ok(Some(end));
        }
    }
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
            let events = match stalling(self.cx, piece.next()).await {
                Ok(events) => events,
                Err(error) => return Err(self.explained(error).await),
            };
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

    /// Why the log cannot be read: where its slot is gone, that says more than the read does.
    async fn explained(&mut self, error: AttemptError) -> AttemptError {
        if error.class != ErrorClass::Permanent {
            return error;
        }
        let asked = self.source.open(&self.of.log, Some(self.held), OPEN_WAIT);
        match of_source(self.cx.of, asked).await {
            Err(why) if why.code == ErrorCode::LogGap => why,
            Ok(_) | Err(_) => error,
        }
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

    /// How long the log is left alone after a read that took so long. One that tells nothing of the
    /// table is read again from where the position is, and is no reason to keep the source busy.
    fn pause(&self, took: Duration) -> Duration {
        match self.total == Receipt::default() || self.begun.elapsed() > LOOK_EVERY {
            true => (took * 2).clamp(LOOK_EVERY, IDLE_LOOK),
            false => LOOK_EVERY,
        }
    }

    /// Whether there is something to commit where a log that is followed ends: changes, or a position
    /// that has stayed behind for long enough.
    fn is_due(&self) -> bool {
        let behind = self.reached.byte().saturating_sub(self.held.byte());
        self.written.rows > 0
            || behind >= IDLE_BYTES
            || (behind > 0 && self.begun.elapsed() >= IDLE_MOVE)
    }

    /// When a log that says nothing more is looked at again: to commit a position that has stayed
    /// behind, or to give the task back.
    fn wakes(&self, over_at: Instant) -> Instant {
        match self.reached > self.held {
            true => over_at.min(self.begun + IDLE_MOVE),
            false => over_at,
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
                    is_live: is_last || self.of.follows,
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
