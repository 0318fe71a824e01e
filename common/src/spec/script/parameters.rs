//! The values that go into a script's statements, and of which type they are there.

use super::super::value::{BoundForm, bound};
use crate::cursor::CursorKind;
use crate::cursor_form::CursorForm;

/// A value that goes into a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// `{run.id}`: the id of the run.
    RunId,
    /// `{run.reference_time}`: what "now" means for all of the run.
    ReferenceTime,
    /// `{pipeline}`: the name of the pipeline.
    Pipeline,
    /// `{step}`: the name of the step.
    Step,
    /// `{partition.start}`: the first position of the period that the statements run for.
    PartitionStart,
    /// `{partition.end}`: the first position behind it.
    PartitionEnd,
    /// What `${param:since}` becomes: a value.
    Literal {
        /// As it is written.
        value: String,
        /// What it is.
        of: LiteralKind,
    },
}

/// What a literal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiteralKind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A day.
    Date,
    /// A time, with a zone or without one.
    Timestamp,
}

impl LiteralKind {
    pub(super) const ALL: [Self; 4] = [Self::Text, Self::Integer, Self::Date, Self::Timestamp];

    /// The word for it.
    pub(in super::super) const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }
}

/// How a value stands in a script; what [`statements`](super::statements) reads as [`Parameter::Literal`]. It has no
/// letter that could end a quote or a comment which it stands in.
pub(in super::super) fn literal(value: &str, of: LiteralKind) -> String {
    let digits: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{{{}:{digits}}}", of.word())
}

/// The value of a text that [`literal`] has written, without its braces.
pub(super) fn read_literal(text: &str) -> Option<Parameter> {
    let (word, digits) = text.split_once(':')?;
    let of = LiteralKind::ALL
        .into_iter()
        .find(|kind| kind.word() == word)?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let value = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
    Some(Parameter::Literal { value, of })
}

/// PostgreSQL's type of a position that is written so.
pub(super) const fn position_type(kind: CursorKind, form: CursorForm) -> &'static str {
    match (form, kind) {
        (CursorForm::EpochSeconds | CursorForm::EpochMillis, _) => "int8",
        (CursorForm::TextDate | CursorForm::TextTime { .. }, _) => "text",
        (CursorForm::Native | CursorForm::Oid, CursorKind::Integer | CursorKind::Placed(_)) => {
            "int8"
        }
        (CursorForm::Native | CursorForm::Oid, CursorKind::Instant) => "timestamptz",
        (CursorForm::Native | CursorForm::Oid, CursorKind::Civil) => "timestamp",
        (CursorForm::Native | CursorForm::Oid, CursorKind::Date) => "date",
    }
}

pub(super) fn postgres_type(parameter: &Parameter, position: &'static str) -> &'static str {
    match parameter {
        Parameter::PartitionStart | Parameter::PartitionEnd => position,
        Parameter::RunId | Parameter::Pipeline | Parameter::Step => "text",
        Parameter::ReferenceTime => "timestamptz",
        Parameter::Literal { value, of } => match of {
            LiteralKind::Text => "text",
            LiteralKind::Integer => "int8",
            LiteralKind::Date => "date",
            LiteralKind::Timestamp if matches!(bound(value), Some(BoundForm::Instant(_))) => {
                "timestamptz"
            }
            LiteralKind::Timestamp => "timestamp",
        },
    }
}
