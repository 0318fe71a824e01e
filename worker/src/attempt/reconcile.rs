//! Rows of the target that the source has no more: all keys of both are compared, range by range of the
//! key where it is one whole number, and what none of the source's names is removed, all of it in one
//! transaction with the task's receipt.
//!
//! No row goes that the source had when its range was read. Whatever is in the target was committed there before its range
//! is read, by the loads before this phase: nobody else writes the stream, and whoever takes it makes
//! this one's guard fail. So a row that is in the target and not among the keys was deleted in
//! the source in between. Each range is read at a point in time of its own. A row that comes back under its key is the
//! next window's where every write moves its cursor forward; with an old position, such as of a
//! restored row, no window brings it: rows that were deleted are missing then, and marks are taken off by the next
//! comparison.
//!
//! Old rows outlive doubt: where none of the target's rows would stay, or less than half of them, nothing is removed,
//! unless the step allows it. And where the source has less than half as many rows after its keys
//! were read as it had keys, it was emptied meanwhile, and nothing is removed either.

use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome, Receipt};
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind, CursorForm, Engine};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::shrink::refused_shrinking;
use highwater_common::spec::{TableName, WriteMode};
use highwater_runtime::failpoint;

use super::chunks::{begin_with_rows, format, write_request};
use super::claim::{Claiming, claim_of};
use super::commit::{Committing, guard_and_commit};
use super::{AttemptContext, malformed};
use crate::connector::{
    Compared, ComparedKeys, DataTx, GuardStep, HeldClaim, ReadRequest, RowStream, Rows, SliceRows,
    Source, Target, WriteRequest,
};
use crate::meter::Metered;
use crate::patience::{Call, answered, unless_stalled};

const ALL: Slice = Slice::Range(CursorRange::ALL);

/// Removes what the source has no more.
pub(crate) async fn reconcile(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let target = cx.of.target()?;
    let target = target.as_ref();
    let claimed = match claim_of(cx, target, None).await? {
        Claiming::Held(claimed) => claimed,
        Claiming::Over(outcome) => return Ok(outcome),
    };
    let source = cx.of.source()?;
    check_one_server(cx, source.as_ref())?;
    let comparing = Comparing {
        cx,
        write: key_request(cx, target).await?,
        ranged: key_range(cx, target, source.as_ref()).await?,
        source,
    };
    let (tx, all) = comparing.compare_all(claimed).await?;
    if let Some(why) = comparing.refused(all).await? {
        tx.give_up().await;
        return Err(why);
    }
    let (came, held, gone) = (all.came, all.held, all.gone);
    tracing::info!(came, held, gone, "compared all keys");
    let receipt = Receipt {
        rows: gone,
        bytes: 0,
    };
    match guard_and_commit(cx, target, tx, &GuardStep::last(receipt)).await? {
        Committing::Committed(_) => Ok(Outcome::Committed(receipt)),
        Committing::Over(outcome) => Ok(outcome),
    }
}

/// Refuses a source of several servers, one of which may be behind another: the rows that a window has brought from one
/// may not be on the other yet.
fn check_one_server(cx: &AttemptContext<'_>, source: &dyn Source) -> Result<(), AttemptError> {
    if source
        .compared_keys()
        .is_none_or(ComparedKeys::is_one_server)
    {
        return Ok(());
    }
    let connection = &cx.of.tables()?.0.connection;
    let message = format!(
        "the URL of {connection} names several hosts, and the keys of one may be behind the rows of another: nothing is \
         removed. Add `target_session_attrs=read-write` to the URL, or name one host"
    );
    Err(AttemptError::new(
        ErrorClass::Permanent,
        ErrorCode::MergeUnsupported,
        message,
    ))
}

/// What the target is asked to do with keys.
async fn key_request(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
) -> Result<WriteRequest, AttemptError> {
    let load_order = cx.of.load_order()?;
    let key = load_order.key.iter().map(|name| {
        let mut columns = load_order.columns.iter();
        let found = columns.find(|column| column.name == *name);
        found
            .cloned()
            .ok_or_else(|| malformed("a key that is not read"))
    });
    let columns: Vec<ColumnFacts> = key.collect::<Result<_, _>>()?;
    if columns.is_empty() {
        return Err(malformed("no key"));
    }
    let write = write_request(cx.of, target, ALL, format(cx.of, target).await?)?;
    Ok(WriteRequest {
        columns,
        rows: Rows::All,
        mode: WriteMode::Merge,
        ..write
    })
}

/// The key's column in the source and in the target, where both servers order it alike and find its
/// ranges by it: a whole number of PostgreSQL's, with which an index of the source begins.
async fn key_range(
    cx: &AttemptContext<'_>,
    target: &dyn Target,
    source: &dyn Source,
) -> Result<Option<(TableName, [String; 2])>, AttemptError> {
    let load_order = cx.of.load_order()?;
    let (from, to) = cx.of.tables()?;
    let [key] = load_order.key.as_slice() else {
        return Ok(None);
    };
    let is_whole = |of: &ColumnFacts| {
        let whole = [ColumnKind::Int16, ColumnKind::Int32, ColumnKind::Int64];
        of.name == *key && whole.contains(&of.kind) && of.definition.is_none()
    };
    let read = load_order.columns.iter().find(|of| is_whole(of));
    let read = read.filter(|of| of.cast_from().is_none());
    let engines = cx.of.order.target.as_ref().map(|(of, _)| of.engine());
    let (Some(read), Some(table)) = (read, from.relation.table()) else {
        return Ok(None);
    };
    if cx.of.source_engine() != Engine::Postgres || engines != Some(Engine::Postgres) {
        return Ok(None);
    }
    let Some(keys) = source.compared_keys() else {
        return Ok(None);
    };
    let looking = keys.is_led_by(table, read.source_name());
    if !answered(Call::Check, &from.connection, cx.of.stall(), looking).await? {
        return Ok(None);
    }
    let own = cx
        .of
        .of_target(Call::Columns, target.columns(&to.table))
        .await?;
    let names = [read.source_name().to_owned(), key.clone()];
    Ok(own.iter().any(is_whole).then(|| (table.clone(), names)))
}

/// What all ranges of a comparison have in common.
struct Comparing<'a> {
    cx: &'a AttemptContext<'a>,
    source: Box<dyn Source>,
    /// Of all rows.
    write: WriteRequest,
    /// Where the key is cut, if it is: the source's table, and the column on either side.
    ranged: Option<(TableName, [String; 2])>,
}

impl Comparing<'_> {
    /// Compares range by range, in one transaction.
    async fn compare_all(&self, claimed: HeldClaim) -> Result<(DataTx, Compared), AttemptError> {
        let worker = &self.cx.of.worker;
        let mut next = self.range_from(None).await?;
        let keys = self.keys(next);
        let (mut tx, mut keys) = begin_with_rows(keys, claimed).await?;
        self.cx.progress.note_reached();
        failpoint::hit_on("attempt::after_begin", worker).await?;
        let mut all = Compared::default();
        loop {
            let (on, compared) = self.compare(tx, next, keys).await?;
            (tx, all) = (on, all.and(compared));
            failpoint::hit_on("attempt::between_ranges", worker).await?;
            let Some(end) = next.and_then(|range| range.end()) else {
                return Ok((tx, all));
            };
            next = self.range_from(Some(end)).await?;
            keys = self.keys(next).await?;
        }
    }

    /// The next range of the key; `None` of one that is not cut.
    async fn range_from(&self, start: Option<Cursor>) -> Result<Option<CursorRange>, AttemptError> {
        let Some((table, [column, _])) = &self.ranged else {
            return Ok(None);
        };
        let rest = CursorRange::new(start, None)
            .map_err(|_| malformed("a range that ends before it begins"))?;
        let rows = self.cx.of.load_order()?.chunk.map(|chunk| chunk.max_rows);
        let of = slice_of(column, rest);
        let kind = CursorKind::Integer;
        let asked = async {
            let before = rows.unwrap_or(u64::MAX);
            Ok(self.source.position_at(table, &of, kind, before).await?)
        };
        let end = self.of_source(asked).await?;
        Ok(Some(CursorRange::new(start, end).unwrap_or(rest)))
    }

    /// The source's keys of a range.
    async fn keys(&self, range: Option<CursorRange>) -> Result<Box<dyn RowStream>, AttemptError> {
        let read = ReadRequest {
            relation: self.cx.of.tables()?.0.relation.clone(),
            columns: self.write.columns.clone(),
            rows: self.rows(range, 0),
            format: self.write.format,
        };
        let asked = async { Ok(self.source.read(&read).await?) };
        self.of_source(asked).await
    }

    async fn of_source<T>(
        &self,
        asked: impl Future<Output = Result<T, AttemptError>>,
    ) -> Result<T, AttemptError> {
        let (context, progress) = (self.cx.of, self.cx.progress);
        progress.wait_for_source(true);
        let answer = unless_stalled(progress, context.stall(), context.sides()?, asked).await;
        progress.wait_for_source(false);
        answer
    }

    /// The rows of a range, in the source (0) or in the target (1).
    fn rows(&self, range: Option<CursorRange>, side: usize) -> Rows {
        match (&self.ranged, range) {
            (Some((_, names)), Some(range)) => names
                .get(side)
                .map_or(Rows::All, |name| Rows::Slice(slice_of(name, range))),
            (None, _) | (_, None) => Rows::All,
        }
    }

    async fn compare(
        &self,
        tx: DataTx,
        range: Option<CursorRange>,
        keys: Box<dyn RowStream>,
    ) -> Result<(DataTx, Compared), AttemptError> {
        let (context, progress) = (self.cx.of, self.cx.progress);
        let write = WriteRequest {
            rows: self.rows(range, 1),
            ..self.write.clone()
        };
        let comparing = async {
            let mut keys = Metered::new(keys, Arc::clone(progress), context.worker.clone());
            let compared = tx.remove_missing(&write, &mut keys).await?;
            Ok(compared)
        };
        unless_stalled(progress, context.stall(), context.sides()?, comparing).await
    }

    /// Why nothing is removed.
    async fn refused(&self, all: Compared) -> Result<Option<AttemptError>, AttemptError> {
        let (from, to) = self.cx.of.tables()?;
        let allowed = self.cx.of.load_order()?.shrinking;
        let why = |code: ErrorCode, what: String| {
            let key = match code {
                ErrorCode::EmptySource => "allow_empty",
                _ => "allow_shrink",
            };
            let message = format!(
                "{what}: all rows of {} on {} stay. Look at the source, and at what the role that \
                 reads it may see; if so many rows are really deleted, set `{key}: true` in the \
                 step's strategy",
                to.table, to.connection
            );
            AttemptError::new(ErrorClass::Permanent, code, message)
        };
        let Compared { came, held, gone } = all;
        if let Some(code) = refused_shrinking(held, held.saturating_sub(gone), allowed) {
            let what = format!(
                "{gone} of {held} rows are none of the {came} that {} has",
                from.relation
            );
            return Ok(Some(why(code, what)));
        }
        if gone == 0 || self.ranged.is_none() {
            return Ok(None);
        }
        let counting = self
            .source
            .count(&from.relation, &[Rows::All], self.cx.of.stall());
        let counting = answered(Call::Check, &from.connection, self.cx.of.stall(), counting);
        let now = counting.await?;
        Ok(refused_shrinking(came, now, allowed).map(|code| {
            let what = format!(
                "{} had {came} rows when its keys were read, and has {now} now",
                from.relation
            );
            why(code, what)
        }))
    }
}

fn slice_of(column: &str, range: CursorRange) -> SliceRows {
    SliceRows {
        column: column.to_owned(),
        form: CursorForm::Native,
        slice: Slice::Range(range),
    }
}
