//! Typed positions in a dataset. Instants, civil times and dates are three types: none is ever
//! compared with another.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::placing::PlacingId;

/// What a cursor of a column is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CursorKind {
    /// A whole number.
    Integer,
    /// A point in time, such as a `timestamp with time zone`.
    Instant,
    /// A reading of a wall clock without a zone.
    Civil,
    /// A day of the calendar.
    Date,
    /// A number that only the source can tell, by this rule.
    Placed(PlacingId),
}

impl fmt::Display for CursorKind {
    /// The word that is stored for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer => f.write_str("integer"),
            Self::Instant => f.write_str("instant"),
            Self::Civil => f.write_str("civil"),
            Self::Date => f.write_str("date"),
            Self::Placed(id) => write!(f, "placed:{id}"),
        }
    }
}

/// A text that is the word for no kind of position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of position")]
pub struct NoCursorKind(String);

impl FromStr for CursorKind {
    type Err = NoCursorKind;

    fn from_str(text: &str) -> Result<Self, NoCursorKind> {
        let unknown = || NoCursorKind(text.to_owned());
        match text {
            "integer" => Ok(Self::Integer),
            "instant" => Ok(Self::Instant),
            "civil" => Ok(Self::Civil),
            "date" => Ok(Self::Date),
            other => {
                let id = other.strip_prefix("placed:").ok_or_else(unknown)?;
                id.parse().map(Self::Placed).map_err(|_| unknown())
            }
        }
    }
}

impl TryFrom<String> for CursorKind {
    type Error = NoCursorKind;

    fn try_from(text: String) -> Result<Self, NoCursorKind> {
        text.parse()
    }
}

impl From<CursorKind> for String {
    fn from(kind: CursorKind) -> Self {
        kind.to_string()
    }
}

/// A position in a dataset. Ordered within its kind; positions of different kinds do not meet in
/// one range.
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
    /// A number that the source gives a row, by this rule.
    Placed(PlacingId, i64),
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
            Self::Placed(id, _) => CursorKind::Placed(id),
        }
    }

    /// The next position of the kind; `None` behind the last one.
    #[must_use]
    pub fn successor(self) -> Option<Self> {
        match self {
            Self::Integer(at) => at.checked_add(1).map(Self::Integer),
            Self::Instant(at) => at.checked_add(1).map(Self::Instant),
            Self::Civil(at) => at.checked_add(1).map(Self::Civil),
            Self::Date(at) => at.checked_add(1).map(Self::Date),
            Self::Placed(id, at) => at.checked_add(1).map(|at| Self::Placed(id, at)),
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
        Self::Civil(
            Offset::UTC
                .to_timestamp(at)
                .map_or_else(|_| saturated(at), Timestamp::as_microsecond),
        )
    }

    /// The position of a day.
    #[must_use]
    pub fn date(day: civil::Date) -> Self {
        let days = day.since(EPOCH).map_or(0, |span| span.get_days());
        Self::Date(days)
    }

    /// The civil time of a civil or date cursor, when the calendar of years −9999 to 9999 holds it.
    /// A server's may reach much further.
    #[must_use]
    pub fn to_civil(self) -> Option<civil::DateTime> {
        match self {
            Self::Civil(micros) => Timestamp::from_microsecond(micros)
                .ok()
                .map(|at| TimeZone::UTC.to_datetime(at)),
            Self::Date(days) => {
                let Day { year, month, day } = Day::of(i64::from(days));
                civil::Date::new(i16::try_from(year).ok()?, month, day)
                    .ok()
                    .map(|day| day.at(0, 0, 0, 0))
            }
            Self::Integer(_) | Self::Instant(_) | Self::Placed(..) => None,
        }
    }
}

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A day of the Gregorian calendar, carried on before and after the years that a library's calendar
/// holds: a server's days reach to the year 5874897, and one typing error is enough to meet them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Day {
    /// 0 is the year before 1, as ISO 8601 counts.
    year: i64,
    month: i8,
    day: i8,
}

impl Day {
    /// The day so many days after 1970-01-01; moved to where the reckoning cannot overflow, which
    /// is far beyond any server.
    fn of(days: i64) -> Self {
        // Idea: years begin in March, so that a leap day is a year's last; 400 of them always have
        // 146,097 days.
        const DAYS_PER_ERA: i64 = 146_097;
        const MARCH_OF_YEAR_0: i64 = -719_468;
        let days = days
            .clamp(i64::MIN / 4, i64::MAX / 4)
            .saturating_sub(MARCH_OF_YEAR_0);
        let (era, of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
        let leaps = (of_era / 1_460)
            .saturating_sub(of_era / 36_524)
            .saturating_add(of_era / 146_096);
        let year_of_era = of_era.saturating_sub(leaps) / 365;
        let before = year_of_era
            .saturating_mul(365)
            .saturating_add(year_of_era / 4)
            .saturating_sub(year_of_era / 100);
        let day_of_year = of_era.saturating_sub(before);
        let month_from_march = day_of_year.saturating_mul(5).saturating_add(2) / 153;
        let day =
            day_of_year.saturating_sub(month_from_march.saturating_mul(153).saturating_add(2) / 5);
        let is_behind_new_year = month_from_march >= 10;
        let month = if is_behind_new_year {
            month_from_march.saturating_sub(9)
        } else {
            month_from_march.saturating_add(3)
        };
        let year = era
            .saturating_mul(400)
            .saturating_add(year_of_era)
            .saturating_add(i64::from(is_behind_new_year));
        let small = |number: i64| i8::try_from(number).unwrap_or(1);
        Self {
            year,
            month: small(month),
            day: small(day.saturating_add(1)),
        }
    }
}

impl fmt::Display for Day {
    /// `22024-01-15`; a year before 0 has a sign and six digits, as ISO 8601 has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        let width = if *year < 0 { 7 } else { 4 };
        write!(f, "{year:0width$}-{month:02}-{day:02}")
    }
}

/// A time of which a library's calendar knows nothing, to the microsecond.
fn write_far(f: &mut fmt::Formatter<'_>, micros: i64) -> fmt::Result {
    let (day, rest) = (
        Day::of(micros.div_euclid(MICROS_PER_DAY)),
        micros.rem_euclid(MICROS_PER_DAY),
    );
    let (seconds, fraction) = (rest / MICROS_PER_SECOND, rest % MICROS_PER_SECOND);
    write!(
        f,
        "{day}T{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )?;
    if fraction == 0 {
        return Ok(());
    }
    let digits = format!("{fraction:06}");
    write!(f, ".{}", digits.trim_end_matches('0'))
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

fn saturated(at: civil::DateTime) -> i64 {
    if at.year() < 0 { i64::MIN } else { i64::MAX }
}

impl fmt::Display for Cursor {
    /// ISO 8601 for times, digits for numbers. Fractions only where there are some. Years beyond
    /// 9999 have as many digits as they need, so that every position has a text and no two of a
    /// kind have the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer(value) | Self::Placed(_, value) => value.fmt(f),
            Self::Instant(micros) => match Timestamp::from_microsecond(micros) {
                Ok(at) => at.fmt(f),
                Err(_) => {
                    write_far(f, micros)?;
                    f.write_str("Z")
                }
            },
            Self::Civil(micros) => match self.to_civil() {
                Some(at) => at.fmt(f),
                None => write_far(f, micros),
            },
            Self::Date(days) => Day::of(i64::from(days)).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursors_read_as_iso_8601() {
        assert_eq!(Cursor::Instant(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Cursor::Civil(1_500_000).to_string(),
            "1970-01-01T00:00:01.5"
        );
        assert_eq!(Cursor::Date(-1).to_string(), "1969-12-31");
        assert_eq!(
            Cursor::date(civil::date(2013, 1, 1)).to_string(),
            "2013-01-01"
        );
        assert_eq!(
            Cursor::civil(civil::date(2013, 1, 1).at(5, 0, 0, 0)).to_string(),
            "2013-01-01T05:00:00"
        );
    }

    #[test]
    fn years_out_of_a_librarys_calendar_read_as_years() {
        assert_eq!(Cursor::Date(7_324_587).to_string(), "22024-01-15");
        assert_eq!(Cursor::Date(2_145_042_905).to_string(), "5874897-12-31");
        assert_eq!(Cursor::Date(i32::MAX).to_string(), "5881580-07-11");
        assert_eq!(Cursor::Date(i32::MIN).to_string(), "-5877641-06-23");
        assert_eq!(Cursor::Date(-719_528).to_string(), "0000-01-01");
        assert_eq!(
            Cursor::Instant(i64::MAX).to_string(),
            "294247-01-10T04:00:54.775807Z"
        );
        assert_eq!(
            Cursor::Civil(i64::MIN).to_string(),
            "-290308-12-21T19:59:05.224192"
        );
        assert_eq!(
            Cursor::Instant(253_402_300_800_000_000).to_string(),
            "10000-01-01T00:00:00Z"
        );
        assert_eq!(Cursor::Date(i32::MAX).to_civil(), None);
    }

    #[test]
    fn days_read_as_the_librarys_own_where_it_has_them() {
        let mut day = civil::Date::MIN;
        while let Ok(next) = day.checked_add(jiff::Span::new().days(97)) {
            let at = Cursor::date(day);
            assert_eq!(
                (at.to_string(), at.to_civil()),
                (day.to_string(), Some(day.at(0, 0, 0, 0)))
            );
            day = next;
        }
    }

    proptest! {
        #[test]
        fn no_two_positions_of_a_kind_read_alike(a in any::<i64>(), b in any::<i64>(), near in -2_i64..=2) {
            for b in [b, a.saturating_add(near)] {
                prop_assert_eq!(a == b, Cursor::Instant(a).to_string() == Cursor::Instant(b).to_string());
                prop_assert_eq!(a == b, Cursor::Civil(a).to_string() == Cursor::Civil(b).to_string());
                let (a, b) = (a as i32, b as i32);
                prop_assert_eq!(a == b, Cursor::Date(a).to_string() == Cursor::Date(b).to_string());
            }
        }
    }
}
