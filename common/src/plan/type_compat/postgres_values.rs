//! What PostgreSQL's types hold.

use super::values::{ANY_LENGTH, Digits, Time, Unit, Values};
use crate::type_definition::{TypeDefinition, TypeName};

/// The last years that a day and a time of it may lie in.
const LAST_YEAR: i64 = 5_874_897;
const LAST_YEAR_OF_A_TIMESTAMP: i64 = 294_276;

/// Digits of a second's fraction.
const FRACTION_MAX: i64 = 6;

/// Extensions' types that hold any text.
const TEXT_EXTENSIONS: [(&str, &str); 1] = [("citext", "citext")];

impl<'a> From<&'a TypeDefinition> for Values<'a> {
    /// What a type without parts holds. Of the others no more is known here than that each value
    /// has a text.
    fn from(definition: &'a TypeDefinition) -> Self {
        use TypeDefinition as T;
        match definition.without_domains() {
            T::Base { name, modifiers } => base(definition, name, modifiers),
            T::Enum { labels, .. } => Self::Labels(labels),
            T::Array(_)
            | T::Domain { .. }
            | T::Composite { .. }
            | T::Range { .. }
            | T::TooLarge { .. } => Self::Unknown,
        }
    }
}

fn base<'a>(definition: &TypeDefinition, name: &'a TypeName, modifiers: &'a str) -> Values<'a> {
    use Values as V;
    let named = V::Named(name, modifiers);
    if let Some(extension) = &name.extension {
        let is_text = TEXT_EXTENSIONS.contains(&(extension.as_str(), name.name.as_str()));
        return if is_text { V::Text(ANY_LENGTH) } else { named };
    }
    if !name.is_built_in() {
        return named;
    }
    let numbers = definition.numbers();
    let first = numbers.first().copied();
    let length = first.and_then(|first| u64::try_from(first).ok());
    let exactly = length.map_or(ANY_LENGTH, |all| all..=all);
    let at_most = length.map_or(ANY_LENGTH, |most| 0..=most);
    let fraction = Some(first.map_or(FRACTION_MAX, |digits| digits.clamp(0, FRACTION_MAX)));
    let time = |until, fraction, zone| {
        V::Time(Time {
            until,
            fraction,
            zone,
        })
    };
    match name.name.as_str() {
        "boolean" => V::Bool,
        "smallint" => V::Whole(i16::MIN.into()..=i16::MAX.into()),
        "integer" => V::Whole(i32::MIN.into()..=i32::MAX.into()),
        "bigint" => V::Whole(i64::MIN..=i64::MAX),
        "oid" => V::Whole(0..=u32::MAX.into()),
        "real" => V::Float(f32::MANTISSA_DIGITS),
        "double precision" => V::Float(f64::MANTISSA_DIGITS),
        "numeric" => V::Decimal(first.map(|precision| {
            let behind = numbers.get(1).copied().unwrap_or(0);
            let whole = precision.saturating_sub(behind);
            Digits { whole, behind }
        })),
        "text" => V::Text(ANY_LENGTH),
        "character varying" => V::Text(at_most),
        "character" => V::Text(exactly),
        "bit" => V::Bits(exactly),
        "bit varying" => V::Bits(at_most),
        "date" => time(Some(LAST_YEAR), None, false),
        "time without time zone" => time(None, fraction, false),
        "time with time zone" => time(None, fraction, true),
        "timestamp without time zone" => time(Some(LAST_YEAR_OF_A_TIMESTAMP), fraction, false),
        "timestamp with time zone" => time(Some(LAST_YEAR_OF_A_TIMESTAMP), fraction, true),
        "interval" => interval(modifiers),
        "uuid" => V::Uuid,
        "json" => V::Json { as_written: true },
        "jsonb" => V::Json { as_written: false },
        "inet" => V::Network { hosts: true },
        "cidr" => V::Network { hosts: false },
        _ => named,
    }
}

/// The larger units are always held; what holds no seconds holds no digits of them.
fn interval(modifiers: &str) -> Values<'static> {
    let (fields, digits) = modifiers.split_once('(').unwrap_or((modifiers, ""));
    let smallest = match fields.split_whitespace().last() {
        Some("year") => Unit::Year,
        Some("month") => Unit::Month,
        Some("day") => Unit::Day,
        Some("hour") => Unit::Hour,
        Some("minute") => Unit::Minute,
        Some(_) | None => Unit::Second,
    };
    let digits: i64 = digits
        .trim_end_matches(')')
        .trim()
        .parse()
        .unwrap_or(FRACTION_MAX);
    let fraction = if smallest == Unit::Second {
        digits.min(FRACTION_MAX)
    } else {
        0
    };
    Values::Interval(smallest, fraction)
}
