//! How positions of a partition column are written on either side, and whether a target that is
//! there writes them so that its ranges can be found and counted.

use super::problem::Problems;
use crate::cursor::{Cursor, CursorKind};
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, ColumnKind, CursorForm, Engine, PartitionFacts, StepFacts};
use crate::partition::Partitioning;
use crate::spec::Backfill;

/// How positions are written in the target: as its column holds them, or will. A column that would
/// hold them in two forms, or cannot be compared with them at all, is a problem: its ranges could
/// be neither found nor counted.
pub(super) fn target_form(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    problems: &mut Problems<'_>,
) -> Option<CursorForm> {
    if column.placing.is_some() {
        return Some(CursorForm::Native); // the target is asked for no position
    }
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
            CursorKind::Integer | CursorKind::Placed(_) => CursorForm::Native,
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

/// What positions are, for people.
pub(super) const fn kind_name(kind: CursorKind) -> &'static str {
    match kind {
        CursorKind::Integer => "whole numbers",
        CursorKind::Instant => "instants",
        CursorKind::Civil => "civil times without a zone",
        CursorKind::Date => "dates",
        CursorKind::Placed(_) => "positions of the source's own",
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
        Cursor::Integer(_) | Cursor::Date(_) | Cursor::Placed(..) => true,
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
