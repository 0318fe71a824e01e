//! Into PostgreSQL. From PostgreSQL a value comes as its type's own text, so a pair is judged by
//! what the two types hold; from SQLite it comes as whatever it is, so the value itself is judged,
//! where the target's type alone does not refuse it.

use super::exceptions::Exception;
use super::values::{NO_RULE, ROUNDS, Reason, Time, Values, carries};
use super::verdict::Compat;
use crate::facts::{ColumnFacts, ColumnKind};
use crate::type_definition::TypeDefinition;

const TOO_LARGE: &str = "the type's definition is too large to be compared";
const RULES: &str = "the ranges bring their bounds to different forms, or order them differently";

pub(super) fn within(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    match carry(&from.type_definition(), &to.type_definition()) {
        Ok(()) => Compat::Carried,
        Err(reason) => Compat::Refused(reason.into_owned()),
    }
}

/// Whether every value of `from` keeps its value in `to`; else why not. What has parts is compared
/// part by part.
pub(super) fn carry(from: &TypeDefinition, to: &TypeDefinition) -> Result<(), Reason> {
    use TypeDefinition as T;
    // A value of a domain is one of the type below it; a value that a domain of the target forbids
    // is refused by the server.
    let (from, to) = (from.without_domains(), to.without_domains());
    match (from, to) {
        (T::Array(from), T::Array(to)) => within_part("its elements", from, to),
        (T::Composite { fields: from, .. }, T::Composite { fields: to, .. }) => fields(from, to),
        (
            T::Range {
                subtype: from,
                rules,
                multi,
                ..
            },
            T::Range {
                subtype: to,
                rules: to_rules,
                multi: to_multi,
                ..
            },
        ) if multi == to_multi => {
            // What can be counted has one form, which other rules keep as it is; nothing else is
            // known to be kept.
            if rules != to_rules && !(rules == T::COUNTED && to_rules.is_empty()) {
                return Err(RULES.into());
            }
            within_part("its bounds", from, to)?;
            if from == to || (has_natural_order(from) && has_natural_order(to)) {
                Ok(())
            } else {
                Err(NO_RULE.into())
            }
        }
        (from, to) if from == to && !matches!(from, T::TooLarge { .. }) => Ok(()),
        (from, to) => match (Exception::of(from, to), Values::from(to)) {
            (
                Some(Exception {
                    is_carried: true, ..
                }),
                _,
            ) => Ok(()),
            (Some(Exception { why, .. }), _) => Err((*why).into()),
            (None, values) => carries(&Values::from(from), &values).map_err(|reason| {
                let is_too_large = |one: &T| matches!(one, T::TooLarge { .. });
                let is_unknown =
                    !matches!(values, Values::Text(_)) && (is_too_large(from) || is_too_large(to));
                if is_unknown { TOO_LARGE.into() } else { reason }
            }),
        },
    }
}

fn within_part(what: &str, from: &TypeDefinition, to: &TypeDefinition) -> Result<(), Reason> {
    carry(from, to).map_err(|reason| format!("of {what}: {reason}").into())
}

/// Whether values of a type, and of every other one that this says of, lie between each other alike:
/// what a text means for an order nobody knows.
fn has_natural_order(definition: &TypeDefinition) -> bool {
    matches!(
        Values::from(definition),
        Values::Whole(_) | Values::Decimal(_) | Values::Time(Time { until: Some(_), .. })
    )
}

fn fields(
    from: &[(String, TypeDefinition)],
    to: &[(String, TypeDefinition)],
) -> Result<(), Reason> {
    for (at, (name, _)) in from.iter().enumerate() {
        match to.iter().position(|(other, _)| other == name) {
            Some(there) if there == at => (),
            Some(there) => {
                return Err(format!(
                    "its field {name} is number {} there and {} here",
                    there.saturating_add(1),
                    at.saturating_add(1)
                )
                .into());
            }
            None => return Err(format!("the target's type has no field {name}").into()),
        }
    }
    if to.len() != from.len() {
        return Err(format!(
            "the target's type has {} fields, and the source's {}",
            to.len(),
            from.len()
        )
        .into());
    }
    from.iter()
        .zip(to)
        .try_for_each(|((name, from), (_, to))| within_part(&format!("its field {name}"), from, to))
}

/// What two types of one name differ in, if they do: a created column gets the type only where they
/// do not.
#[must_use]
pub fn definition_differs(from: &TypeDefinition, to: &TypeDefinition) -> Option<String> {
    let back = || carry(to, from).map_err(|reason| format!("the other way round, {reason}").into());
    carry(from, to)
        .and_then(|()| back())
        .err()
        .map(Reason::into_owned)
}

/// Whether a type, or a part of it, rounds, cuts or pads what it is given in text without a word.
fn may_round(definition: &TypeDefinition) -> bool {
    use TypeDefinition as T;
    match definition.without_domains() {
        // Of bits the server refuses those that are too many, or too few.
        T::Base { modifiers, .. } => {
            !modifiers.is_empty() && !matches!(Values::from(definition), Values::Bits(_))
        }
        T::Array(inner) | T::Range { subtype: inner, .. } => may_round(inner),
        T::Composite { fields, .. } => fields.iter().any(|(_, field)| may_round(field)),
        T::Enum { .. } => false,
        T::Domain { .. } | T::TooLarge { .. } => true,
    }
}

/// SQLite's columns promise nothing: the server checks each value that it reads, and the worker
/// those that the server would change in silence. Refused is what no value of the declared type
/// could be carried into, and what nobody looks into: a type with a limit inside of it.
pub(super) fn of_each_value(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    use ColumnKind as K;
    let is_number = |kind| {
        matches!(
            kind,
            K::Bool | K::Int16 | K::Int32 | K::Int64 | K::Float32 | K::Float64 | K::Numeric
        )
    };
    match (from.kind, to.kind) {
        (_, K::Other) if may_round(&to.type_definition()) => Compat::Refused(ROUNDS.to_owned()),
        (K::Bytes, K::Text) => Compat::Refused("bytes are no text".to_owned()),
        (K::Int64 | K::Float64 | K::Any, K::Float32) | (K::Int64, K::Float64) => {
            Compat::ByValue("a number that a float of this size would round")
        }
        (K::Int64, K::Text) | (K::Float64, K::Text | K::Float64 | K::Numeric) => Compat::Carried,
        // A column of floats holds nothing else, not even a whole number.
        (K::Float64, _) => Compat::Refused(NO_RULE.to_owned()),
        (K::Int64, kind) if !is_number(kind) => Compat::Refused(NO_RULE.to_owned()),
        (K::Bytes, kind) if kind != K::Bytes => Compat::Refused(NO_RULE.to_owned()),
        (_, _) => Compat::Carried,
    }
}
