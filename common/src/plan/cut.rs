//! From the declared partitioning and the probe's facts to a generator, or to the reasons why there
//! is none.

use super::problem::Problems;
use crate::coverage::Coverage;
use crate::cursor::{Cursor, CursorKind};
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, ColumnKind, CursorForm, Engine, PartitionFacts, StepFacts};
use crate::partition::{
    BoundError, Calendar, CalendarRequest, Integer, PartitionError, Partitioning, Rule, Single,
    read_bound,
};
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
    let tz = match &step.partition.by {
        PartitionBy::Calendar { tz, .. } => tz.as_str(),
        PartitionBy::Integer { .. } => "UTC",
    };
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
    let covered = Coverage::of(&facts.target.covered, false);
    let kept = covered
        .ranges(column.kind)
        .last()
        .and_then(|range| range.end());
    if let Some(end) = kept.filter(|_| step.is_continued) {
        return Some(end);
    }
    let (table, name) = (&step.from.relation, &column.column);
    let horizon = facts
        .window
        .as_ref()
        .and_then(|found| found.horizon.as_ref());
    let end = match (horizon, column.kind) {
        (None, _) => column.max.and_then(|max| newest_end(max, column.form)),
        (Some(_), CursorKind::Civil | CursorKind::Date) => {
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

/// How positions are written in the target: as its column holds them, or will. A column that would
/// hold them in two forms, or cannot be compared with them at all, is a problem: its ranges could
/// be neither found nor counted.
pub(super) fn target_form(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    problems: &mut Problems<'_>,
) -> Option<CursorForm> {
    let written = written_form(facts, column);
    let arrives = arrival(facts, column);
    if let Some(type_name) = text_of_numbers(facts, column) {
        let (from, name) = (&step.from.relation, &column.column);
        problems.add(
            ErrorCode::PlanPartitionForm,
            format!(
                "column {name} of {from} is {type_name}, which SQLite keeps as text, and that has \
                 another order than its numbers"
            ),
            format!("read a view that casts it, such as `{name}::bigint`, and cut that"),
        );
        return None;
    }
    let Some(table) = &facts.target.table else {
        return Some(written);
    };
    let held = table.partition_form;
    let fits = match (facts.target.engine, held) {
        (Engine::Postgres, Some(CursorForm::Native)) => !is_finer_than_micros(column.form),
        (Engine::Postgres, None) => may_hold(&table.columns, arrives, written),
        // Its declared type is of no account: a column without values takes those that come.
        (Engine::Sqlite, None) => true,
        (Engine::Sqlite, Some(held)) if facts.source.engine == Engine::Postgres => {
            held == written || (column.form == CursorForm::Native && is_plain(held))
        }
        (Engine::Postgres | Engine::Sqlite, Some(held)) => held == written,
    };
    if fits {
        return Some(if held == Some(CursorForm::Native) {
            CursorForm::Native
        } else {
            written
        });
    }
    let (from, to, name) = (&step.from.relation, &step.to.table, &column.column);
    let message = match held {
        Some(CursorForm::Native) => {
            format!(
                "column {name} of {from} holds fractions of more than six digits, which {to} \
                     would round"
            )
        }
        Some(held) => {
            let (held, written) = (form_name(held), form_name(written));
            format!(
                "column {arrives} of {to} holds {held}, and would be given {written} from {from}"
            )
        }
        None => {
            let declared = table
                .columns
                .iter()
                .find(|other| other.name.eq_ignore_ascii_case(arrives));
            let declared = declared.map_or("missing", |other| other.type_name.as_str());
            let (kind, written) = (kind_name(column.kind), form_name(written));
            format!(
                "column {arrives} of {to} is {declared}, and cannot be compared with {kind} as {from} \
                 gives them: {written}"
            )
        }
    };
    problems.add(
        ErrorCode::PlanPartitionForm,
        message,
        format!("load another table, or bring {arrives} of {to} to the form of {from}"),
    );
    None
}

/// The name of the partition column in the target.
pub(super) fn arrival<'a>(facts: &'a StepFacts, column: &'a PartitionFacts) -> &'a str {
    let arrives = facts.source.arrival_of(&column.column);
    arrives.map_or(&column.column, |read| &read.name)
}

/// The form of the positions in rows that come to a table without any.
fn written_form(facts: &StepFacts, column: &PartitionFacts) -> CursorForm {
    match (facts.source.engine, facts.target.engine) {
        // The same types, and text and numbers that stand for times, stay what they are.
        (Engine::Postgres, Engine::Postgres)
        | (Engine::Sqlite, Engine::Postgres | Engine::Sqlite) => column.form,
        (Engine::Postgres, Engine::Sqlite) if column.form != CursorForm::Native => column.form,
        (Engine::Postgres, Engine::Sqlite) => match column.kind {
            CursorKind::Integer => CursorForm::Native,
            CursorKind::Date => CursorForm::TextDate,
            // Whole seconds without a suffix are a prefix of every text of that second, whatever
            // fraction or zone mark follows, so they compare rightly with all of them.
            CursorKind::Instant | CursorKind::Civil => CursorForm::TextTime {
                separator_t: false,
                fraction_digits: 0,
                zulu: false,
            },
        },
    }
}

/// The type of a partition column of whole numbers that arrive in SQLite as text, if they do.
fn text_of_numbers<'f>(facts: &'f StepFacts, column: &PartitionFacts) -> Option<&'f str> {
    if (facts.source.engine, facts.target.engine, column.kind)
        != (Engine::Postgres, Engine::Sqlite, CursorKind::Integer)
    {
        return None;
    }
    let own = facts.source.arrival_of(&column.column)?;
    let arrives_whole = matches!(
        own.kind,
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64
    );
    (!arrives_whole).then_some(own.type_name.as_str())
}

/// The time as PostgreSQL writes it, with as many digits of a fraction as the rows there happened
/// to need.
const fn is_plain(form: CursorForm) -> bool {
    matches!(
        form,
        CursorForm::TextTime {
            separator_t: false,
            zulu: false,
            ..
        }
    )
}

const fn is_finer_than_micros(form: CursorForm) -> bool {
    matches!(
        form,
        CursorForm::TextTime {
            fraction_digits: 7..,
            ..
        }
    )
}

/// Whether a column of PostgreSQL that holds no positions yet takes those of a form.
fn may_hold(columns: &[ColumnFacts], name: &str, form: CursorForm) -> bool {
    let kind = columns
        .iter()
        .find(|other| other.name.eq_ignore_ascii_case(name))
        .map(|other| other.kind);
    match form {
        CursorForm::Native | CursorForm::Oid => false,
        CursorForm::TextDate | CursorForm::TextTime { .. } => kind == Some(ColumnKind::Text),
        CursorForm::EpochSeconds | CursorForm::EpochMillis => kind == Some(ColumnKind::Int64),
    }
}

fn form_name(form: CursorForm) -> String {
    match form {
        CursorForm::Native => "values of the server's own type".to_owned(),
        CursorForm::TextDate => "texts like 2013-01-31".to_owned(),
        CursorForm::TextTime {
            separator_t,
            fraction_digits,
            zulu,
        } => {
            let separator = if separator_t { 'T' } else { ' ' };
            let point = if fraction_digits > 0 { "." } else { "" };
            let fraction = "0".repeat(usize::from(fraction_digits));
            let end = if zulu { "Z" } else { "" };
            format!("texts like 2013-01-31{separator}05:00:00{point}{fraction}{end}")
        }
        CursorForm::Oid => "oids".to_owned(),
        CursorForm::EpochSeconds => "seconds since 1970".to_owned(),
        CursorForm::EpochMillis => "milliseconds since 1970".to_owned(),
    }
}

fn check_kind(step: &Backfill, column: &PartitionFacts, problems: &mut Problems<'_>) -> Option<()> {
    let (table, name, kind) = (&step.from.relation, &column.column, kind_name(column.kind));
    match &step.partition.by {
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

const fn kind_name(kind: CursorKind) -> &'static str {
    match kind {
        CursorKind::Integer => "whole numbers",
        CursorKind::Instant => "instants",
        CursorKind::Civil => "civil times without a zone",
        CursorKind::Date => "dates",
    }
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

/// Positions that a form cannot write would let rows through on the wrong side.
pub(super) fn check_form(
    side: &str,
    form: CursorForm,
    partitioning: &Partitioning,
    column: &PartitionFacts,
    problems: &mut Problems<'_>,
) {
    let unit = form.unit_micros();
    let is_written = |at: &Cursor| match *at {
        Cursor::Instant(micros) | Cursor::Civil(micros) => micros.checked_rem(unit) == Some(0),
        Cursor::Integer(_) | Cursor::Date(_) => true,
    };
    let whole = partitioning.whole();
    let text_days = form == CursorForm::TextDate && column.kind == CursorKind::Instant;
    if text_days
        || ![whole.start(), whole.end()]
            .iter()
            .flatten()
            .all(is_written)
    {
        problems.add(
            ErrorCode::PlanPartitionForm,
            format!(
                "column {} of the {side} is written too coarsely for the declared bounds",
                column.column
            ),
            "use bounds that the column can hold: whole seconds, or whole days",
        );
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
        Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) => None,
    }
}
