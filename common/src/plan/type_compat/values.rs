//! The values that a type holds, as a set, whichever engine the type is of. A pair of types is
//! carried if the source's set lies within the target's.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::type_definition::TypeName;

pub(super) const NARROWS: &str = "the target's type is narrower";
pub(super) const ROUNDS: &str = "the target would round values in silence";
pub(super) const ZONES: &str = "a civil time and an instant differ by a zone that nobody has named";
pub(super) const NO_RULE: &str = "no lossless conversion between these types is known";
const PADS: &str = "the target would pad values to another length";
const NOT_WHOLE: &str = "a numeric may be NaN, be larger or have a fraction";
const SPELLING: &str =
    "jsonb keeps one of two equal keys, and neither their order nor the spelling";
const MODIFIERS: &str = "its modifiers differ";

/// Why a value has no place.
pub(super) type Reason = Cow<'static, str>;

/// A set of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Values<'a> {
    Bool,
    /// Whole numbers.
    Whole(RangeInclusive<i64>),
    /// IEEE 754 floats of so many bits of precision: 24 or 53.
    Float(u32),
    /// Decimals and NaN; infinities, too, where nothing limits them.
    Decimal(Option<Digits>),
    /// Texts of so many letters.
    Text(Lengths),
    /// Strings of so many bits.
    Bits(Lengths),
    /// An enumeration's labels, in their order.
    Labels(&'a [String]),
    /// Days, times of day, or both.
    Time(Time),
    /// Spans of time, counted down to a unit, and so many digits of it.
    Interval(Unit, i64),
    Uuid,
    /// Documents, with every key and blank as it was written, or only what they mean.
    Json {
        as_written: bool,
    },
    /// Networks, or also hosts in them.
    Network {
        hosts: bool,
    },
    /// Known by their type's name alone, and by what stands in the brackets behind it.
    Named(&'a TypeName, &'a str),
    /// Not known at all, but that each value has a text.
    Unknown,
}

/// Digits of a decimal before and behind its point. Either may be negative: `numeric(2,-3)` holds
/// thousands only, `numeric(2,3)` nothing of a tenth or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digits {
    pub(super) whole: i64,
    pub(super) behind: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    /// The last year of its days, if it has days.
    pub(super) until: Option<i64>,
    /// Digits of a second's fraction, if it has a time of day.
    pub(super) fraction: Option<i64>,
    pub(super) zone: bool,
}

/// What an interval counts down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

/// How long a text may be.
pub(super) type Lengths = RangeInclusive<u64>;
pub(super) const ANY_LENGTH: Lengths = 0..=u64::MAX;

/// Whether every value of `from` keeps its value in `to`; else why not.
pub(super) fn carries(from: &Values<'_>, to: &Values<'_>) -> Result<(), Reason> {
    use Values as V;
    match (from, to) {
        // There is no value that could change.
        (V::Labels([]), V::Text(_)) => Ok(()),
        // Every type has a text form.
        (_, V::Text(lengths)) => {
            ensure(lengths.start() <= from.letters().start(), PADS)?;
            ensure(from.letters().end() <= lengths.end(), NARROWS)
        }
        (V::Whole(from), V::Whole(to)) => ensure(
            to.contains(from.start()) && to.contains(from.end()),
            NARROWS,
        ),
        (V::Whole(from), V::Float(bits)) => ensure(largest(from) <= 1 << bits, ROUNDS),
        (V::Whole(from), V::Decimal(Some(to))) => {
            ensure(to.behind >= 0, ROUNDS)?;
            ensure(
                largest(from).to_string().len() as u64 <= length(to.whole),
                NARROWS,
            )
        }
        (V::Float(bits), V::Float(to)) => ensure(bits <= to, ROUNDS),
        (V::Whole(_) | V::Float(_) | V::Decimal(_), V::Decimal(None)) => Ok(()),
        (V::Float(_) | V::Decimal(None), V::Decimal(Some(_))) => ensure(false, ROUNDS),
        (V::Decimal(Some(from)), V::Decimal(Some(to))) => {
            ensure(from.behind <= to.behind, ROUNDS)?;
            ensure(from.whole <= to.whole, NARROWS)
        }
        (V::Decimal(from), V::Float(bits)) => {
            let is_exact = |from: Digits| from.behind <= 0 && first_beyond(from.whole) <= 1 << bits;
            ensure(from.is_some_and(is_exact), ROUNDS)
        }
        (V::Decimal(_), V::Whole(_)) => ensure(false, NOT_WHOLE),
        (V::Labels(from), V::Labels(to)) => labels(from, to),
        (V::Bits(from), V::Bits(to)) => ensure(
            to.contains(from.start()) && to.contains(from.end()),
            NARROWS,
        ),
        (V::Time(from), V::Time(to)) => {
            let has_parts = from.until.is_some() == to.until.is_some()
                && from.fraction.is_some() <= to.fraction.is_some();
            ensure(has_parts, NO_RULE)?;
            ensure(from.zone == to.zone, ZONES)?;
            ensure(from.until <= to.until, NARROWS)?;
            ensure(from.fraction <= to.fraction, ROUNDS)
        }
        (V::Interval(unit, digits), V::Interval(to_unit, to_digits)) => {
            ensure(unit <= to_unit && digits <= to_digits, ROUNDS)
        }
        (V::Json { as_written }, V::Json { as_written: to }) => ensure(as_written <= to, SPELLING),
        (V::Network { hosts }, V::Network { hosts: to }) => ensure(hosts <= to, NARROWS),
        (V::Named(name, modifiers), V::Named(to_name, to_modifiers)) => {
            ensure(name.is_same_base(to_name), NO_RULE)?;
            ensure(
                to_modifiers.is_empty() || modifiers == to_modifiers,
                MODIFIERS,
            )
        }
        (from, to) => ensure(from == to && *from != V::Unknown, NO_RULE),
    }
}

fn ensure(is_so: bool, otherwise: &'static str) -> Result<(), Reason> {
    if is_so { Ok(()) } else { Err(otherwise.into()) }
}

/// The largest of some numbers, signs left aside.
fn largest(numbers: &RangeInclusive<i64>) -> u64 {
    numbers
        .start()
        .unsigned_abs()
        .max(numbers.end().unsigned_abs())
}

fn labels(from: &[String], to: &[String]) -> Result<(), Reason> {
    if let Some(missing) = from.iter().find(|label| !to.contains(label)) {
        return Err(format!("the target's type has no label '{missing}'").into());
    }
    let shared = to.iter().filter(|label| from.contains(label));
    match shared.zip(from).find(|(there, here)| there != here) {
        Some((there, here)) => Err(format!(
            "the target's type has its labels in another order: '{there}' comes before '{here}'"
        )
        .into()),
        None => Ok(()),
    }
}

/// The first whole number of more digits, as far as there is one.
fn first_beyond(digits: i64) -> u64 {
    let digits = u32::try_from(length(digits)).unwrap_or(u32::MAX);
    10_u64.saturating_pow(digits)
}

/// Digits as a number of letters.
fn length(digits: i64) -> u64 {
    u64::try_from(digits).unwrap_or(0)
}

/// The letters of a point and what follows it.
fn point(digits: i64) -> u64 {
    match length(digits) {
        0 => 0,
        digits => digits.saturating_add(1),
    }
}

impl Values<'_> {
    /// How many letters the text of a value has at least and at most.
    pub(super) fn letters(&self) -> Lengths {
        match self {
            Self::Bool => 1..=1,
            Self::Whole(numbers) => {
                let letters = |number: &i64| number.to_string().len() as u64;
                1..=letters(numbers.start()).max(letters(numbers.end()))
            }
            // A sign, as many digits as tell it from its neighbours, the point, an exponent.
            Self::Float(bits) => 1..=if *bits < f64::MANTISSA_DIGITS { 15 } else { 24 },
            // A sign, at least one digit, and the point with what follows it; or `NaN`.
            Self::Decimal(Some(digits)) => {
                let whole = length(digits.whole.max(1)).saturating_add(1);
                1..=whole.saturating_add(point(digits.behind)).max(3)
            }
            Self::Text(lengths) | Self::Bits(lengths) => lengths.clone(),
            Self::Labels(labels) => {
                let letters = || labels.iter().map(|label| label.chars().count() as u64);
                letters().min().unwrap_or(0)..=letters().max().unwrap_or(0)
            }
            Self::Time(time) => time.letters(),
            // `P-178000000Y-11M-2147483648DT-2562047788H-59M-59.999999S`, or `P1Y`.
            Self::Interval(unit, digits) => {
                3..=match unit {
                    Unit::Year => 12,
                    Unit::Month => 16,
                    Unit::Day => 28,
                    Unit::Hour => 41,
                    Unit::Minute => 45,
                    Unit::Second => 49_u64.saturating_add(point(*digits)),
                }
            }
            Self::Uuid => 36..=36,
            Self::Named(name, _) if name.is_built_in() => match name.name.as_str() {
                "\"char\"" => 0..=4,
                "macaddr" => 17..=17,
                "macaddr8" => 23..=23,
                "name" => 0..=63,
                _ => ANY_LENGTH,
            },
            Self::Decimal(None)
            | Self::Json { .. }
            | Self::Network { .. }
            | Self::Named(..)
            | Self::Unknown => ANY_LENGTH,
        }
    }
}

impl Time {
    /// `4713-12-31 23:59:59.999999+00 BC`, `5874897-12-31`, `infinity`, `23:59:59-15:59:59`: an
    /// instant is written in UTC, and a time of day in its own zone.
    fn letters(self) -> Lengths {
        let clock = |digits, rest: u64| rest.saturating_add(point(digits));
        match (self.until, self.fraction, self.zone) {
            (Some(_), None, _) => 8..=13,
            (Some(_), Some(digits), false) => 8..=clock(digits, 22),
            (Some(_), Some(digits), true) => 8..=clock(digits, 25),
            (None, digits, false) => 8..=clock(digits.unwrap_or(0), 8),
            (None, digits, true) => 11..=clock(digits.unwrap_or(0), 17),
        }
    }
}
