//! Positions of the partition column as SQLite asks for them: the conditions that hold for a
//! slice's rows, or for values of one form. Performs no I/O.

use highwater_common::cursor::CursorKind;
use highwater_common::facts::CursorForm;
use highwater_common::range::Slice;

use super::sql::ident;
use crate::connector::Rows;
pub(super) use crate::connector::position::{
    Bound, are_digits_of_days, bound, cursor, epoch_form, form_of, free_form_of, shape,
};

const GLOB_DATE: &str = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]";
const GLOB_TIME: &str = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9]";

/// What PostgreSQL writes for the time before, or after, all others. Both sort so among dates and
/// times.
pub(super) const INFINITIES: &str = "('infinity', '-infinity')";

/// A condition on the partition column, and the values of its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) text: String,
    pub(super) bounds: Vec<Bound>,
}

/// The condition that holds for exactly the rows of `slice`.
pub(super) fn condition(column: &str, slice: &Slice, form: CursorForm) -> Condition {
    let column = ident(column);
    let range = match slice {
        Slice::Null => {
            return Condition {
                text: format!("{column} is null"),
                bounds: Vec::new(),
            };
        }
        Slice::Range(range) => range,
    };
    let mut terms = Vec::new();
    let mut bounds = Vec::new();
    for (operator, cursor) in [(">=", range.start()), ("<", range.end())] {
        if let Some(cursor) = cursor {
            terms.push(format!("{column} {operator} ?"));
            bounds.push(bound(cursor, form));
        }
    }
    if terms.is_empty() {
        terms.push(format!("{column} is not null"));
    }
    Condition {
        text: terms.join(" and "),
        bounds,
    }
}

/// The condition that holds for exactly these rows.
pub(super) fn of_rows(rows: &Rows) -> Condition {
    match rows {
        Rows::Placed(of) if of.are_all() => of_rows(&Rows::All),
        Rows::All => Condition {
            text: "true".to_owned(),
            bounds: Vec::new(),
        },
        Rows::Slice(of) => condition(&of.column, &of.slice, of.form),
        // No file places rows by itself, and what another source did it cannot tell.
        Rows::Placed(_) => Condition {
            text: "false".to_owned(),
            bounds: Vec::new(),
        },
    }
}

/// The SQL condition that a value of `column` has exactly this form.
pub(super) fn has_form(column: &str, form: CursorForm) -> String {
    let column = ident(column);
    match form {
        CursorForm::Native
        | CursorForm::Oid
        | CursorForm::EpochSeconds
        | CursorForm::EpochMillis => {
            format!("typeof({column}) = 'integer'")
        }
        CursorForm::TextDate => {
            format!("typeof({column}) = 'text' and {column} glob '{GLOB_DATE}'")
        }
        CursorForm::TextTime {
            separator_t,
            fraction_digits,
            zulu,
        } => {
            let separator = if separator_t { 'T' } else { ' ' };
            let fraction = match fraction_digits {
                0 => String::new(),
                digits => format!(".{}", "[0-9]".repeat(usize::from(digits))),
            };
            let end = if zulu { "Z" } else { "" };
            format!(
                "typeof({column}) = 'text' and {column} glob \
                     '{GLOB_DATE}{separator}{GLOB_TIME}{fraction}{end}'"
            )
        }
    }
}

/// The SQL condition that a value is a time as PostgreSQL writes it: as many digits of a fraction
/// as it needs, and `+00` or no zone, or, where `kind` says which of the two, just that. Text in
/// this form has the order of its times, and a bound without needless digits fits among them.
pub(super) fn has_free_fraction(
    column: &str,
    separator_t: bool,
    kind: Option<CursorKind>,
) -> String {
    let column = ident(column);
    let separator = if separator_t { 'T' } else { ' ' };
    let rest = format!("replace(substr({column}, 20), '+00', '')");
    let zone = match kind {
        Some(CursorKind::Instant) => format!(" and {column} glob '*+00'"),
        Some(CursorKind::Civil) => format!(" and {column} not glob '*+00'"),
        Some(CursorKind::Integer | CursorKind::Date | CursorKind::Placed(_)) | None => {
            String::new()
        }
    };
    format!(
        "typeof({column}) = 'text' and substr({column}, 1, 19) glob \
         '{GLOB_DATE}{separator}{GLOB_TIME}' and ({rest} = '' or {rest} glob '.[0-9]*' and {rest} \
         not glob '.*[^0-9]*'){zone}"
    )
}

/// The SQL condition that a value stands among the positions of a column of this form: it has the
/// form, or is a time as PostgreSQL writes it where the others are, or one of its infinities.
pub(super) fn has_place(column: &str, form: CursorForm) -> String {
    let strict = has_form(column, form);
    let infinite = format!("{} in {INFINITIES}", ident(column));
    match form {
        CursorForm::Native
        | CursorForm::Oid
        | CursorForm::EpochSeconds
        | CursorForm::EpochMillis => strict,
        CursorForm::TextDate | CursorForm::TextTime { zulu: true, .. } => {
            format!("{strict} or {infinite}")
        }
        CursorForm::TextTime { separator_t, .. } => {
            format!(
                "{strict} or {infinite} or {}",
                has_free_fraction(column, separator_t, None)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_common::range::CursorRange;

    use super::*;

    #[test]
    fn an_open_range_holds_everything_but_null() {
        let all = condition("at", &Slice::Range(CursorRange::ALL), CursorForm::TextDate);
        assert_eq!(
            (all.text.as_str(), all.bounds.len()),
            ("\"at\" is not null", 0)
        );
        assert_eq!(
            condition("at", &Slice::Null, CursorForm::TextDate).text,
            "\"at\" is null"
        );
    }
}
