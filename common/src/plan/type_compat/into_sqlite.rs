//! Into SQLite, whose columns hold any value, but for what their affinity turns into something
//! else.

use super::values::{Values, carries};
use super::verdict::Compat;
use crate::facts::{ColumnFacts, ColumnKind};

/// How SQLite converts what is stored into a column, by the column's declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Whole numbers. Stores as [`Affinity::Numeric`] does.
    Integer,
    /// Text: a number becomes its text.
    Text,
    /// Stores every value as it comes.
    Blob,
    /// Floats: a whole number becomes one.
    Real,
    /// Numbers: a text that reads as one becomes it.
    Numeric,
}

/// The affinity of a declared type, by SQLite's own five rules in their order.
#[must_use]
pub fn affinity(type_name: &str) -> Affinity {
    let name = type_name.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["INT"]) {
        Affinity::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if name.trim().is_empty() || has(&["BLOB"]) {
        Affinity::Blob
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

const FLOAT_AS_TEXT: &str = "SQLite writes a float as text with 15 digits only";
const DECIMAL_AS_FLOAT: &str = "SQLite would turn a decimal into a float";
const WHOLE_AS_FLOAT: &str = "SQLite would turn a whole number of 64 bits into a float, which \
                              rounds it";

const DECIMALS: &str = "SQLite keeps a decimal in such a column as a whole number or a float, so a \
     value that neither of them is exactly, as 0.10 is not,";
const NUMBERS_IN_TEXT: &str = "SQLite turns a text that reads as a number into one in such a \
                               column, so such a text";
const FLOATS_IN_TEXT: &str = "SQLite writes a float as text with 15 digits only in such a column, \
                              so a float";

/// What a value of a typed source becomes, in the storage class that the worker gives it.
pub(super) fn of_typed(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    use {Affinity as A, ColumnKind as K};
    let refused = |reason: &str| Compat::Refused(reason.to_owned());
    let is_exact_float = || {
        let double = Values::Float(f64::MANTISSA_DIGITS);
        carries(&Values::from(&from.type_definition()), &double).is_ok()
    };
    match (from.kind, affinity(&to.type_name)) {
        (_, A::Blob) | (K::Bytes, _) => Compat::Carried,
        (K::Bool | K::Int16 | K::Int32, _) => Compat::Carried,
        (K::Int64, A::Real) => refused(WHOLE_AS_FLOAT),
        (K::Int64, A::Integer | A::Numeric | A::Text) => Compat::Carried,
        // A float that is whole becomes the whole number: the same number.
        (K::Float32 | K::Float64, A::Real | A::Numeric | A::Integer) => Compat::Carried,
        (K::Float32 | K::Float64, A::Text) => refused(FLOAT_AS_TEXT),
        (K::Numeric, A::Real | A::Numeric | A::Integer) if is_exact_float() => Compat::Carried,
        (K::Numeric, A::Real) => refused(DECIMAL_AS_FLOAT),
        (K::Numeric, A::Numeric | A::Integer) => Compat::ByValue(DECIMALS),
        // Such texts never read as a number, so no affinity touches them.
        (K::Date | K::Time | K::Civil | K::Instant | K::Uuid, _) => Compat::Carried,
        (K::Numeric | K::Text | K::Json | K::Other | K::Any, A::Text) => Compat::Carried,
        (K::Text | K::Json | K::Other | K::Any, A::Integer | A::Numeric | A::Real) => {
            Compat::ByValue(NUMBERS_IN_TEXT)
        }
    }
}

/// A column of SQLite holds values of any class. What one affinity has made of them, the same one
/// leaves as it is.
pub(super) fn within(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    use Affinity as A;
    match (affinity(&from.type_name), affinity(&to.type_name)) {
        (one, two) if one == two => Compat::Carried,
        (_, A::Blob) | (A::Integer, A::Numeric) | (A::Numeric, A::Integer) => Compat::Carried,
        // What a column of floats holds as text is no number, and a float keeps its value as a
        // number of any kind.
        (A::Real, A::Integer | A::Numeric) => Compat::Carried,
        (A::Real, A::Text) => Compat::Refused(FLOAT_AS_TEXT.to_owned()),
        (A::Integer | A::Numeric | A::Blob, A::Text) => Compat::ByValue(FLOATS_IN_TEXT),
        (A::Integer | A::Numeric, A::Real) => Compat::ByValue(
            "SQLite keeps every number as a float in such a column, so one that it \
                             would round",
        ),
        (A::Text | A::Blob, A::Integer | A::Numeric | A::Real) => Compat::ByValue(NUMBERS_IN_TEXT),
        (A::Integer, A::Integer)
        | (A::Numeric, A::Numeric)
        | (A::Text, A::Text)
        | (A::Real, A::Real) => Compat::Carried,
    }
}
