//! Typed positions in a dataset. Instants, civil times and dates are three types: none is ever compared with another.

use std::fmt;

use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// What a cursor of a column is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorKind {
    /// A whole number.
    Integer,
    /// A point in time, such as a `timestamp with time zone`.
    Instant,
    /// A reading of a wall clock without a zone.
    Civil,
    /// A day of the calendar.
    Date,
}

/// A position in a dataset. Ordered within its kind; positions of different kinds do not meet in one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// A whole number.
    Integer(i64),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Instant(i64),
    /// Microseconds since 1970-01-01T00:00:00 on a clock without a zone.
    Civil(i64),
    /// Days since 1970-01-01.
    Date(i32),
}

impl Cursor {
    /// The kind of this position.
    #[must_use]
    pub const fn kind(self) -> CursorKind {
        match self {
            Self::Integer(_) => CursorKind::Integer,
            Self::Instant(_) => CursorKind::Instant,
            Self::Civil(_) => CursorKind::Civil,
            Self::Date(_) => CursorKind::Date,
        }
    }

    /// The position of an instant, to the microsecond below.
    #[must_use]
    pub fn instant(at: Timestamp) -> Self {
        Self::Instant(at.as_microsecond())
    }

    /// The position of a civil time, to the microsecond below.
    #[must_use]
    pub fn civil(at: civil::DateTime) -> Self {
        Self::Civil(Offset::UTC.to_timestamp(at).map_or_else(|_| saturated(at), Timestamp::as_microsecond))
    }

    /// The position of a day.
    #[must_use]
    pub fn date(day: civil::Date) -> Self {
        let days = day.since(EPOCH).map_or(0, |span| span.get_days());
        Self::Date(days)
    }

    /// The civil time of a civil or date cursor, when jiff's calendar holds it.
    #[must_use]
    pub fn to_civil(self) -> Option<civil::DateTime> {
        match self {
            Self::Civil(micros) => Timestamp::from_microsecond(micros).ok().map(|at| TimeZone::UTC.to_datetime(at)),
            Self::Date(days) => EPOCH.checked_add(days.days()).ok().map(|day| day.at(0, 0, 0, 0)),
            Self::Integer(_) | Self::Instant(_) => None,
        }
    }
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

fn saturated(at: civil::DateTime) -> i64 {
    if at.year() < 0 { i64::MIN } else { i64::MAX }
}

impl fmt::Display for Cursor {
    /// ISO 8601 for times, digits for numbers. Fractions only where there are some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer(value) => value.fmt(f),
            Self::Instant(micros) => match Timestamp::from_microsecond(micros) {
                Ok(at) => at.fmt(f),
                Err(_) => write!(f, "{micros} us"),
            },
            Self::Civil(micros) => match self.to_civil() {
                Some(at) => at.fmt(f),
                None => write!(f, "{micros} us"),
            },
            Self::Date(days) => match self.to_civil() {
                Some(at) => at.date().fmt(f),
                None => write!(f, "{days} d"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_as_iso_8601() {
        assert_eq!(Cursor::Instant(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Cursor::Civil(1_500_000).to_string(), "1970-01-01T00:00:01.5");
        assert_eq!(Cursor::Date(-1).to_string(), "1969-12-31");
        assert_eq!(Cursor::date(civil::date(2013, 1, 1)).to_string(), "2013-01-01");
        assert_eq!(Cursor::civil(civil::date(2013, 1, 1).at(5, 0, 0, 0)).to_string(), "2013-01-01T05:00:00");
    }
}
