//! From the declared partitioning and the probe's facts to a generator, or to the reasons why there
//! is none.

use super::position_forms::kind_name;
use super::problem::Problems;
use crate::coverage::Coverage;
use crate::cursor::{Cursor, CursorKind};
use crate::error_code::ErrorCode;
use crate::facts::{PartitionFacts, StepFacts};
use crate::partition::{
    BoundError, Calendar, CalendarRequest, Integer, PartitionError, Partitioning, Placed, Rule,
    Single, read_bound,
};
use crate::placing::Placing;
use crate::range::CursorRange;
use crate::spec::{Backfill, Bound, Nulls, PartitionBy};
use crate::window::{newest_end, safe_end};

/// The generator of a step's partitions.
pub(super) fn settle_generator(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    problems: &mut Problems<'_>,
) -> Option<Partitioning> {
    check_kind(step, column, problems)?;
    let tz = step.partition.zone();
    let mut read = |side: &str, bound: &Option<Bound>| match bound {
        None => Some(None),
        Some(bound) => read_side(side, bound, step, column, tz, problems).map(Some),
    };
    let start = read("start", &step.start);
    let end = match step.ends_now() {
        true => end_now(step, facts, column, problems).map(Some),
        false => read("end", &step.end),
    };
    let (start, end) = (start?, end?);
    if step.is_continued && !step.ends_now() {
        check_continued_end(step, facts, column, end, problems)?;
    }
    let made = match &step.partition.by {
        PartitionBy::Calendar { grain, tz } => {
            let (min, max, empty) = (column.min, column.max, column.empty.as_slice());
            let request = CalendarRequest {
                kind: column.kind,
                grain: *grain,
                tz,
                start,
                end,
                min,
                max,
                empty,
            };
            Calendar::new(request).map(Rule::Calendar)
        }
        PartitionBy::Integer { width, max_rows } => {
            let (start, end) = (integer(start), integer(end));
            match width {
                Some(width) => Integer::by_width(*width, start, end, column),
                None => Integer::by_rows(facts.source.rows, *max_rows, start, end, column),
            }
            .map(Rule::Integer)
        }
        PartitionBy::Hash { parts, .. } => {
            let id = column.placing.as_ref()?.id();
            Ok(Rule::Placed(Placed::evenly(id, *parts)))
        }
        PartitionBy::Keyset { .. } | PartitionBy::Auto { .. } => {
            let Some(Placing::Keys(keys)) = &column.placing else {
                return None;
            };
            let numbers = keys.bounds.iter().map(|bound| bound.number).collect();
            Placed::between(Placing::Keys(keys.clone()).id(), numbers).map(Rule::Placed)
        }
    };
    let null = settle_nulls(step, column, problems);
    match made {
        Ok(rule) => Some(Partitioning::new(rule, step.order, null)),
        Err(error) => {
            tell(step, column, &error, problems);
            None
        }
    }
}

/// Where a step ends that ends now: below, nothing more is committed. Where another step goes on
/// from there, it stays where the first run has put it.
fn end_now(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    problems: &mut Problems<'_>,
) -> Option<Cursor> {
    if let Some(end) = kept_end(facts, column).filter(|_| step.is_continued) {
        return Some(end);
    }
    safe_end_now(step, facts, column, problems)
}

/// Where a step ended the last time.
fn kept_end(facts: &StepFacts, column: &PartitionFacts) -> Option<Cursor> {
    let covered = Coverage::of(&facts.target.covered, false);
    covered
        .ranges(column.kind)
        .last()
        .and_then(|range| range.end())
}

/// Refuses an end beyond where another step goes on, or will: what lies there is that one's, and would be there twice.
fn check_continued_end(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    end: Option<Cursor>,
    problems: &mut Problems<'_>,
) -> Option<()> {
    let kept = kept_end(facts, column);
    let most = match kept {
        Some(kept) => kept,
        None => safe_end_now(step, facts, column, problems)?,
    };
    if end.is_some_and(|end| end <= most) {
        return Some(());
    }
    let table = &step.from.relation;
    let why = match kept {
        Some(_) => format!("another step goes on from {most}, and has what comes after it"),
        None => format!("rows of {table} may still be committed from {most} on"),
    };
    problems.add(
        ErrorCode::PlanWindow,
        format!("the end lies beyond the one at which another step goes on: {why}"),
        format!("end at {most} or before it; what comes later is loaded by the step that goes on"),
    );
    None
}

/// The position below which nothing more is committed.
fn safe_end_now(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    problems: &mut Problems<'_>,
) -> Option<Cursor> {
    let (table, name) = (&step.from.relation, &column.column);
    let horizon = facts
        .window
        .as_ref()
        .and_then(|found| found.horizon.as_ref());
    let end = match (horizon, column.kind) {
        (None, _) => column.max.and_then(|max| newest_end(max, column.form)),
        (Some(_), CursorKind::Civil | CursorKind::Date | CursorKind::Placed(_)) => {
            problems.add(
                ErrorCode::PlanCursorZone,
                format!(
                    "column {name} of {table} holds {}, and nothing says which clock stamps them",
                    kind_name(column.kind)
                ),
                "write `end` as a time",
            );
            return None;
        }
        (Some(horizon), kind) => safe_end(horizon, kind, column.max, "UTC").ok().flatten(),
    };
    if end.is_none() {
        let why = match horizon.and_then(|horizon| horizon.held_by.as_deref()) {
            Some(held) => format!("rows may still be committed anywhere, because of {held}"),
            None => "it has no row yet".to_owned(),
        };
        problems.add(
            ErrorCode::PlanHorizon,
            format!("nothing says where {table} ends now: {why}"),
            "plan again later, or write `end` as a position",
        );
    }
    end.map(|end| end.settled)
}

/// One range that nothing cuts.
pub(super) fn settle_range(
    step: &Backfill,
    column: &PartitionFacts,
    range: CursorRange,
    problems: &mut Problems<'_>,
) -> Partitioning {
    let null = settle_nulls(step, column, problems);
    let rule = Rule::Single(Single::new(column.kind, range));
    Partitioning::new(rule, step.order, null)
}

fn check_kind(step: &Backfill, column: &PartitionFacts, problems: &mut Problems<'_>) -> Option<()> {
    let (table, name, kind) = (&step.from.relation, &column.column, kind_name(column.kind));
    match &step.partition.by {
        PartitionBy::Hash { .. } if !matches!(column.placing, Some(Placing::Hash(_))) => problems
            .add(
                ErrorCode::PlanNotProbed,
                format!("the probe found no hash of {table}: its worker is of an older version"),
                "bring all workers to one version, and plan again",
            ),
        PartitionBy::Keyset { .. } if !matches!(column.placing, Some(Placing::Keys(_))) => problems
            .add(
                ErrorCode::PlanNotProbed,
                format!("the probe found no key of {table}: its worker is of an older version"),
                "bring all workers to one version, and plan again",
            ),
        PartitionBy::Hash { .. } | PartitionBy::Keyset { .. } | PartitionBy::Auto { .. } => {
            return Some(());
        }
        PartitionBy::Integer { .. } if column.kind != CursorKind::Integer => problems.add(
            ErrorCode::PlanPartitionKind,
            format!("column {name} of {table} holds {kind}, which `by: integer` cannot cut"),
            "use `by: calendar`, or name a column of whole numbers",
        ),
        PartitionBy::Calendar { .. } if column.kind == CursorKind::Integer => problems.add(
            ErrorCode::PlanPartitionKind,
            format!("column {name} of {table} holds {kind}, which `by: calendar` cannot cut"),
            "use `by: integer`, or name a column of dates or times",
        ),
        PartitionBy::Calendar { grain, .. } if !grain.fits(column.kind) => problems.add(
            ErrorCode::PlanPartitionGrain,
            format!("column {name} of {table} holds {kind}, which cannot be cut into hours"),
            "use `grain: day` or a longer one",
        ),
        PartitionBy::Calendar { tz, .. }
            if column.kind != CursorKind::Instant && !tz.eq_ignore_ascii_case("utc") =>
        {
            problems.add(
                ErrorCode::PlanPartitionZone,
                format!(
                    "column {name} of {table} holds {kind}, which no zone applies to, so `tz: \
                     {tz}` has no meaning"
                ),
                "remove `partition.tz`: the periods are then those that the column shows",
            );
        }
        PartitionBy::Integer { .. } | PartitionBy::Calendar { .. } => return Some(()),
    }
    None
}

fn read_side(
    side: &str,
    bound: &Bound,
    step: &Backfill,
    column: &PartitionFacts,
    tz: &str,
    problems: &mut Problems<'_>,
) -> Option<Cursor> {
    let at = match read_bound(bound, column.kind, tz) {
        Ok(at) => at,
        Err(error @ BoundError::Zone(_)) => {
            problems.add(
                ErrorCode::PlanUnknownZone,
                error.to_string(),
                "name an IANA zone such as Europe/Berlin",
            );
            return None;
        }
        Err(error @ (BoundError::Form { .. } | BoundError::TooFine { .. })) => {
            let (name, kind) = (&column.column, kind_name(column.kind));
            problems.add(
                ErrorCode::PlanBound,
                format!(
                    "{}: {error} (column {name} of {} holds {kind})",
                    problems.path(side),
                    step.from.relation
                ),
                format!("write `{side}` in one of these forms"),
            );
            return None;
        }
    };
    Some(at)
}

fn settle_nulls(step: &Backfill, column: &PartitionFacts, problems: &mut Problems<'_>) -> bool {
    let (table, name) = (&step.from.relation, &column.column);
    let help = "give the rows a value, or let `nulls` say what becomes of them";
    match (step.partition.nulls, column.nullable, column.null_rows) {
        (Nulls::Partition, nullable, _) => nullable,
        (Nulls::Fail, true, Some(1..)) => {
            let rows = column.null_rows.unwrap_or(0);
            problems.add(
                ErrorCode::PlanNullRows,
                format!("{rows} rows of {table} have no {name}"),
                help,
            );
            false
        }
        (Nulls::Fail, true, None) => {
            let message = format!(
                "column {name} of {table} may be NULL, and the table is too large to be counted"
            );
            problems.add(ErrorCode::PlanNullRowsUnknown, message, help);
            false
        }
        (Nulls::Fail, true, Some(0)) | (Nulls::Fail, false, _) | (Nulls::Ignore, _, _) => false,
    }
}

fn tell(
    step: &Backfill,
    column: &PartitionFacts,
    error: &PartitionError,
    problems: &mut Problems<'_>,
) {
    let (code, help) = match error {
        PartitionError::TooMany { .. } => (
            ErrorCode::PlanTooManyPartitions,
            match &step.partition.by {
                PartitionBy::Calendar { .. } => {
                    "use a coarser `grain`, or declare `start` and `end`"
                }
                PartitionBy::Integer { width: Some(_), .. } => {
                    "use a larger `width`, or declare `start` and `end`"
                }
                PartitionBy::Integer { width: None, .. } => {
                    "use a larger `max_rows`, or declare `start` and `end`"
                }
                PartitionBy::Hash { .. } => "use fewer `parts`",
                PartitionBy::Keyset { .. } | PartitionBy::Auto { .. } => "use a larger `max_rows`",
            },
        ),
        PartitionError::Empty { .. } => (ErrorCode::PlanEmptyRange, "let `end` lie behind `start`"),
        PartitionError::Zone(_) => (
            ErrorCode::PlanUnknownZone,
            "name an IANA zone such as Europe/Berlin",
        ),
        PartitionError::Kind { .. }
        | PartitionError::Grain { .. }
        | PartitionError::ZoneWithoutInstants { .. } => (
            ErrorCode::PlanPartitionKind,
            "let `partition` fit the column",
        ),
        PartitionError::ZoneChanged { .. } | PartitionError::Stored(_) => {
            (ErrorCode::PlanStoredRule, "plan again")
        }
    };
    problems.add(
        code,
        format!(
            "column {} of {}: {error}",
            column.column, step.from.relation
        ),
        help,
    );
}

fn integer(at: Option<Cursor>) -> Option<i64> {
    match at? {
        Cursor::Integer(value) => Some(value),
        Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) | Cursor::Placed(..) => None,
    }
}
