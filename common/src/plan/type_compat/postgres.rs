//! Into PostgreSQL. From PostgreSQL a value comes as its type's own text, so a pair is judged by
//! what the target's type makes of such texts; from SQLite it comes as whatever it is, so the value
//! itself is judged, where the target's type alone does not refuse it.

use super::Compat;
use crate::facts::{ColumnFacts, ColumnKind};
use crate::type_definition::{TypeDefinition, TypeName};

const NARROWS: &str = "the target's type is narrower";
const ROUNDS: &str = "the target would round values in silence";
const PADS: &str = "the target would pad values to another length";
const ZONES: &str = "a civil time and an instant differ by a zone that nobody has named";
const NO_RULE: &str = "no lossless conversion between these types is known";
const TOO_LARGE: &str = "the type's definition is too large to be compared";

/// Built-in types whose every value is a value of the other one, written alike.
const WIDENS: [(&str, &[&str]); 7] = [
    (
        "smallint",
        &["integer", "bigint", "real", "double precision"],
    ),
    ("integer", &["bigint", "double precision"]),
    ("oid", &["bigint", "double precision"]),
    // A day beyond the year 294276 is no timestamp; the server refuses it aloud, and nobody has
    // one.
    ("date", &["timestamp without time zone"]),
    ("cidr", &["inet"]),
    ("jsonb", &["json"]),
    ("bit", &["bit varying"]),
];

/// Types that are refused though they look alike, and why.
const REFUSED: [(&str, &[&str], &str); 10] = [
    (
        "real",
        &["double precision", "numeric"],
        "the digits of a real are not all of its value, and name another double precision",
    ),
    ("double precision", &["real", "numeric"], ROUNDS),
    ("bigint", &["real", "double precision"], ROUNDS),
    ("integer", &["real"], ROUNDS),
    ("numeric", &["real", "double precision"], ROUNDS),
    (
        "numeric",
        &["bigint", "integer", "smallint"],
        "a numeric may be NaN, be larger or have a \
        fraction",
    ),
    ("bigint", &["integer", "smallint"], NARROWS),
    ("integer", &["smallint"], NARROWS),
    (
        "json",
        &["jsonb"],
        "jsonb keeps one of two equal keys, and neither their order nor the \
                          spelling",
    ),
    (
        "integer",
        &["oid"],
        "an oid takes a negative number for a large one",
    ),
];

/// Digits that a whole number has at most.
const WHOLE_DIGITS: [(&str, i64); 4] = [
    ("smallint", 5),
    ("integer", 10),
    ("oid", 10),
    ("bigint", 19),
];

/// Extensions' types that hold any text.
const TEXT_EXTENSIONS: [(&str, &str); 1] = [("citext", "citext")];

pub(super) fn within(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    match carry(&TypeDefinition::of(from), &TypeDefinition::of(to)) {
        Ok(()) => Compat::Carried,
        Err(reason) => Compat::Refused(reason),
    }
}

/// Whether two columns have the same form in a binary COPY.
#[must_use]
pub fn has_same_wire_form(from: &ColumnFacts, to: &ColumnFacts) -> bool {
    // Both are sent as the letters themselves.
    let is_letters = |name: &TypeName| matches!(name.name.as_str(), "text" | "character varying");
    let is_same = |one: &TypeDefinition, two: &TypeDefinition, is_whole: bool| {
        let (TypeDefinition::Base { name: one, .. }, TypeDefinition::Base { name: two, .. }) =
            (one, two)
        else {
            return false;
        };
        one == two || (is_whole && is_letters(one) && is_letters(two))
    };
    if !from.binary_portable || !to.binary_portable {
        return false;
    }
    match (TypeDefinition::of(from), TypeDefinition::of(to)) {
        // An array names the type of its elements.
        (TypeDefinition::Array(one), TypeDefinition::Array(two)) => is_same(&one, &two, false),
        (one, two) => one == two || is_same(&one, &two, true),
    }
}

fn refuse<T>(reason: &str) -> Result<T, String> {
    Err(reason.to_owned())
}

/// Whether every value of `from` keeps its value in `to`; else why not.
fn carry(from: &TypeDefinition, to: &TypeDefinition) -> Result<(), String> {
    use TypeDefinition as T;
    // A value of a domain is one of the type below; a value that a domain of the target forbids is
    // refused by the server.
    let (from, to) = (from.without_domains(), to.without_domains());
    if is_unlimited_text(to) {
        return Ok(()); // every type has a text form, and text without a limit keeps it
    }
    if let Some(limit) = text_limit(to) {
        return into_limited_text(from, limit);
    }
    match (from, to) {
        (T::TooLarge { .. }, _) | (_, T::TooLarge { .. }) => refuse(TOO_LARGE),
        (T::Base { .. }, T::Base { .. }) => base(from, to),
        (T::Array(from), T::Array(to)) => carry(from, to).map_err(|reason| {
            format!(
                "of its \
            elements: {reason}"
            )
        }),
        (T::Enum { labels: from, .. }, T::Enum { labels: to, .. }) => labels(from, to),
        (T::Composite { fields: from, .. }, T::Composite { fields: to, .. }) => fields(from, to),
        (
            T::Range {
                subtype: from,
                rules: from_rules,
                multi: from_multi,
                ..
            },
            T::Range {
                subtype: to,
                rules: to_rules,
                multi: to_multi,
                ..
            },
        ) if from_multi == to_multi => {
            // What can be counted has one form, which other rules keep as it is; nothing else is
            // known to be kept.
            let are_kept =
                from_rules == to_rules || (from_rules == T::COUNTED && to_rules.is_empty());
            if !are_kept {
                return refuse(
                    "the ranges bring their bounds to different forms, or order them \
                               differently",
                );
            }
            carry(from, to).map_err(|reason| format!("of its bounds: {reason}"))?;
            if from == to || is_ordered_alike(from, to) {
                Ok(())
            } else {
                refuse(NO_RULE)
            }
        }
        (
            T::Base { .. }
            | T::Array(_)
            | T::Domain { .. }
            | T::Enum { .. }
            | T::Composite { .. }
            | T::Range { .. },
            T::Base { .. }
            | T::Array(_)
            | T::Domain { .. }
            | T::Enum { .. }
            | T::Composite { .. }
            | T::Range { .. },
        ) => refuse(NO_RULE),
    }
}

/// Whether bounds lie between each other in both types alike: what a text means for an order nobody
/// knows.
fn is_ordered_alike(from: &TypeDefinition, to: &TypeDefinition) -> bool {
    let is_number_or_time = |name: &str| {
        matches!(name, "smallint" | "integer" | "bigint" | "numeric" | "date")
            || name.starts_with("timestamp")
    };
    let known =
        |definition: &TypeDefinition| definition.built_in_name().is_some_and(is_number_or_time);
    known(from) && known(to)
}

fn base(from: &TypeDefinition, to: &TypeDefinition) -> Result<(), String> {
    use TypeDefinition as T;
    let (
        T::Base { name, modifiers },
        T::Base {
            name: to_name,
            modifiers: to_modifiers,
        },
    ) = (from, to)
    else {
        return refuse(NO_RULE);
    };
    if name.is_same_base(to_name) {
        // A type without modifiers takes whatever one with modifiers holds.
        if modifiers == to_modifiers || to_modifiers.is_empty() {
            return Ok(());
        }
        return if name.is_built_in() {
            modified(&name.name, from, to)
        } else {
            refuse(
                "its \
            modifiers differ",
            )
        };
    }
    if !(name.is_built_in() && to_name.is_built_in()) {
        return refuse(NO_RULE);
    }
    let (name, to_name) = (name.name.as_str(), to_name.name.as_str());
    if to_name == "numeric"
        && let Some((_, digits)) = WHOLE_DIGITS.iter().find(|(whole, _)| *whole == name)
    {
        return match digits_of(to) {
            Some((whole, _)) if whole < *digits => refuse(NARROWS),
            Some(_) | None => Ok(()),
        };
    }
    if WIDENS
        .iter()
        .any(|(narrow, wide)| *narrow == name && wide.contains(&to_name))
    {
        // Of a time's text the fraction is what a precision takes away, and a day has none.
        return if to_name == "bit varying" {
            modified("bit varying", from, to)
        } else {
            Ok(())
        };
    }
    if let Some((_, _, reason)) = REFUSED
        .iter()
        .find(|(one, two, _)| *one == name && two.contains(&to_name))
    {
        return refuse(reason);
    }
    let is_zoned = |name: &str| name.ends_with("with time zone");
    let is_stamp = |name: &str| name.starts_with("timestamp");
    if is_stamp(name) && is_stamp(to_name) && is_zoned(name) != is_zoned(to_name) {
        return refuse(ZONES);
    }
    refuse(NO_RULE)
}

/// Two modifications of one built-in type, both limited or only the target's.
fn modified(name: &str, from: &TypeDefinition, to: &TypeDefinition) -> Result<(), String> {
    let first = |definition: &TypeDefinition| definition.numbers().first().copied();
    let at_most = |reason| match (first(from), first(to)) {
        (Some(from), Some(to)) if from <= to => Ok(()),
        (_, None) => Ok(()),
        (None | Some(_), Some(_)) => refuse(reason),
    };
    match name {
        "numeric" => match (digits_of(from), digits_of(to)) {
            (_, None) => Ok(()),
            (None, Some(_)) => refuse(ROUNDS),
            (Some((_, scale)), Some((_, to_scale))) if scale > to_scale => refuse(ROUNDS),
            (Some((whole, _)), Some((to_whole, _))) if whole > to_whole => refuse(NARROWS),
            (Some(_), Some(_)) => Ok(()),
        },
        "bit varying" => at_most(NARROWS),
        "interval" => {
            let ((unit, digits), (to_unit, to_digits)) = (interval(from), interval(to));
            if unit <= to_unit && digits <= to_digits {
                Ok(())
            } else {
                refuse(ROUNDS)
            }
        }
        // Six digits are all that a time ever has.
        name if name.starts_with("time") && first(to).is_some_and(|digits| digits >= 6) => Ok(()),
        name if name.starts_with("time") => at_most(ROUNDS),
        _ => refuse("its modifiers differ"),
    }
}

/// Digits before and behind the point of a `numeric`; `None` when unlimited.
fn digits_of(numeric: &TypeDefinition) -> Option<(i64, i64)> {
    let numbers = numeric.numbers();
    let scale = numbers.get(1).copied().unwrap_or(0);
    Some((numbers.first()?.checked_sub(scale)?, scale))
}

/// The smallest unit that an interval of this kind holds, and the digits behind its seconds' point.
/// The larger units are always held.
fn interval(definition: &TypeDefinition) -> (usize, i64) {
    const UNITS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    const DIGITS_MAX: i64 = 6;
    let TypeDefinition::Base { modifiers, .. } = definition else {
        return (UNITS.len(), DIGITS_MAX);
    };
    let (fields, digits) = modifiers.split_once('(').unwrap_or((modifiers, ""));
    let digits = digits
        .trim_end_matches(')')
        .trim()
        .parse()
        .unwrap_or(DIGITS_MAX);
    let smallest = fields
        .split_whitespace()
        .last()
        .and_then(|last| UNITS.iter().position(|unit| *unit == last));
    let smallest = smallest.unwrap_or(UNITS.len().saturating_sub(1));
    // What holds no seconds holds no digits of them.
    (
        smallest,
        if smallest.saturating_add(1) < UNITS.len() {
            0
        } else {
            digits
        },
    )
}

/// Whether a type holds any text as it is.
fn is_unlimited_text(definition: &TypeDefinition) -> bool {
    let TypeDefinition::Base { name, modifiers } = definition else {
        return false;
    };
    if let Some(extension) = &name.extension {
        return TEXT_EXTENSIONS.contains(&(extension.as_str(), name.name.as_str()));
    }
    name.is_built_in()
        && (name.name == "text"
            || (modifiers.is_empty()
                && matches!(name.name.as_str(), "character varying" | "character")))
}

/// A text of limited length.
struct TextLimit {
    letters: u64,
    /// Whether shorter texts are filled up with blanks.
    pads: bool,
}

fn text_limit(definition: &TypeDefinition) -> Option<TextLimit> {
    let name = definition.built_in_name()?;
    let letters = definition
        .numbers()
        .first()
        .and_then(|letters| u64::try_from(*letters).ok());
    match name {
        "character varying" => Some(TextLimit {
            letters: letters?,
            pads: false,
        }),
        "character" => Some(TextLimit {
            letters: letters?,
            pads: true,
        }),
        _ => None,
    }
}

fn into_limited_text(from: &TypeDefinition, limit: TextLimit) -> Result<(), String> {
    let length = text_length(from);
    match length {
        Some((least, most)) if limit.pads && least == limit.letters && most == limit.letters => {
            Ok(())
        }
        Some(_) | None if limit.pads => refuse(PADS),
        Some((_, most)) if most <= limit.letters => Ok(()),
        Some(_) | None => refuse(NARROWS),
    }
}

/// How many letters the text of a value has at least and at most, where that is known.
fn text_length(definition: &TypeDefinition) -> Option<(u64, u64)> {
    if let TypeDefinition::Enum { labels, .. } = definition {
        let letters = || {
            labels
                .iter()
                .map(|label| u64::try_from(label.chars().count()).unwrap_or(u64::MAX))
        };
        return Some((letters().min()?, letters().max()?));
    }
    let first = || {
        definition
            .numbers()
            .first()
            .and_then(|number| u64::try_from(*number).ok())
    };
    Some(match definition.built_in_name()? {
        "boolean" => (1, 1),
        "\"char\"" => (0, 4),
        "smallint" => (1, 6),
        "integer" => (1, 11),
        "oid" => (1, 10),
        "bigint" => (1, 20),
        "uuid" => (36, 36),
        "macaddr" => (17, 17),
        "macaddr8" => (23, 23),
        "name" => (0, 63),
        "character" | "bit" => (first()?, first()?),
        "character varying" | "bit varying" => (0, first()?),
        "date" => (8, 13),
        "time without time zone" => (8, 15),
        "numeric" => {
            let (whole, scale) = digits_of(definition)?;
            let behind = if scale > 0 { scale.checked_add(1)? } else { 0 };
            // A sign, at least one digit, and the point with what follows it; or `NaN`.
            let most = whole.max(1).checked_add(1)?.checked_add(behind)?;
            (1, u64::try_from(most.max(3)).ok()?)
        }
        _ => return None,
    })
}

fn labels(from: &[String], to: &[String]) -> Result<(), String> {
    if let Some(missing) = from.iter().find(|label| !to.contains(label)) {
        return Err(format!("the target's type has no label '{missing}'"));
    }
    let shared = to.iter().filter(|label| from.contains(label));
    match shared.zip(from).find(|(there, here)| there != here) {
        Some((there, here)) => Err(format!(
            "the target's type has its labels in another order: '{there}' comes before \
                         '{here}'"
        )),
        None => Ok(()),
    }
}

fn fields(
    from: &[(String, TypeDefinition)],
    to: &[(String, TypeDefinition)],
) -> Result<(), String> {
    for (at, (name, _)) in from.iter().enumerate() {
        match to.iter().position(|(other, _)| other == name) {
            Some(there) if there == at => (),
            Some(there) => {
                return Err(format!(
                    "its field {name} is number {} there and {} here",
                    there.saturating_add(1),
                    at.saturating_add(1)
                ));
            }
            None => return Err(format!("the target's type has no field {name}")),
        }
    }
    if to.len() != from.len() {
        return Err(format!(
            "the target's type has {} fields, and the source's {}",
            to.len(),
            from.len()
        ));
    }
    from.iter().zip(to).try_for_each(|((name, from), (_, to))| {
        carry(from, to).map_err(|reason| format!("of its field {name}: {reason}"))
    })
}

/// What two types of one name differ in, if they do: a created column gets the type only where they
/// do not.
#[must_use]
pub fn definition_differs(from: &TypeDefinition, to: &TypeDefinition) -> Option<String> {
    let back = || carry(to, from).map_err(|reason| format!("the other way round, {reason}"));
    carry(from, to).and_then(|()| back()).err()
}

/// Whether a type, or a part of it, rounds, cuts or pads what it is given in text without a word.
#[must_use]
pub fn may_round(definition: &TypeDefinition) -> bool {
    use TypeDefinition as T;
    match definition.without_domains() {
        // Of bits the server refuses those that are too many, or too few.
        T::Base { name, modifiers } => {
            !modifiers.is_empty()
                && !matches!(
                    name.name.as_str(),
                    "bit"
                        | "bit \
            varying"
                )
        }
        T::Array(inner) | T::Range { subtype: inner, .. } => may_round(inner),
        T::Composite { fields, .. } => fields.iter().any(|(_, field)| may_round(field)),
        T::Enum { .. } => false,
        T::Domain { .. } | T::TooLarge { .. } => true,
    }
}

/// The server checks each value of SQLite that it reads, and the worker those that the server would
/// change in silence. Refused is what no value could be carried into, and what nobody looks into: a
/// type with a limit inside of it.
pub(super) fn from_sqlite(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    use ColumnKind as K;
    let definition = TypeDefinition::of(to);
    match (from.kind, to.kind) {
        (K::Civil, K::Instant) | (K::Instant, K::Civil) => Compat::Refused(ZONES.to_owned()),
        (K::Bytes, K::Text) => Compat::Refused("bytes are no text".to_owned()),
        (_, K::Other) if may_round(&definition) => Compat::Refused(ROUNDS.to_owned()),
        (K::Text | K::Any, _) | (_, K::Text) => by_value(from.kind, to.kind),
        // A column of floats holds nothing else, not even a whole number.
        (K::Float32 | K::Float64, K::Bool | K::Int16 | K::Int32 | K::Int64) => {
            Compat::Refused(NO_RULE.to_owned())
        }
        (
            K::Bool | K::Int16 | K::Int32 | K::Int64 | K::Float32 | K::Float64 | K::Numeric,
            K::Bool | K::Int16 | K::Int32 | K::Int64 | K::Float32 | K::Float64 | K::Numeric,
        ) => by_value(from.kind, to.kind),
        (K::Date, K::Civil) => Compat::Carried,
        (one, two) if one == two => Compat::Carried,
        (
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Float32
            | K::Float64
            | K::Numeric
            | K::Bytes
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other,
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Float32
            | K::Float64
            | K::Numeric
            | K::Bytes
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other
            | K::Any,
        ) => Compat::Refused(NO_RULE.to_owned()),
    }
}

/// SQLite's columns promise nothing. That is told only where a value of the declared type may well
/// be one that does not go.
fn by_value(from: ColumnKind, to: ColumnKind) -> Compat {
    use ColumnKind as K;
    match (from, to) {
        (K::Int64 | K::Float64 | K::Numeric | K::Any, K::Float32) | (K::Int64, K::Float64) => {
            Compat::ByValue("a number that a float of this size would round")
        }
        _ => Compat::Carried,
    }
}
