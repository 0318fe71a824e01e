//! Civil periods as numbers: period 0 of a grain is the one that holds 1970-01-01T00:00:00.
//! Never looks at a zone: a civil time here is microseconds on a clock without one.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

use crate::cursor::Cursor;
use crate::spec::Grain;

/// Microseconds of an hour of the clock.
pub(super) const HOUR_MICROS: i64 = 3_600_000_000;
/// Microseconds from midnight to midnight.
pub(crate) const DAY_MICROS: i64 = 24 * HOUR_MICROS;
/// The first day of the calendar, -9999-01-01, as days since 1970-01-01.
pub(super) const DAY_MIN: i64 = -4_371_587;
/// The last day of the calendar, 9999-12-31, as days since 1970-01-01.
pub(super) const DAY_MAX: i64 = 2_932_896;

/// The first civil time of the calendar.
const MICROS_MIN: i64 = DAY_MIN * DAY_MICROS;
/// The last civil time of the calendar.
const MICROS_MAX: i64 = (DAY_MAX + 1) * DAY_MICROS - 1;

/// Days from a Monday to 1970-01-01, which was a Thursday.
const MONDAY_DAYS: i64 = 3;

/// The civil time at which period `no` begins; `None` outside the calendar.
pub(super) fn start(grain: Grain, no: i64) -> Option<i64> {
    let micros = match grain {
        Grain::Hour => no.checked_mul(HOUR_MICROS)?,
        Grain::Day => no.checked_mul(DAY_MICROS)?,
        Grain::Week => no
            .checked_mul(7)?
            .checked_sub(MONDAY_DAYS)?
            .checked_mul(DAY_MICROS)?,
        Grain::Month => first_of_month(no)?,
        Grain::Year => first_of_month(no.checked_mul(12)?)?,
    };
    is_in_calendar(micros).then_some(micros)
}

/// The period that holds a civil time, which is first moved into the calendar.
pub(super) fn holding(grain: Grain, civil: i64) -> i64 {
    let civil = civil.clamp(MICROS_MIN, MICROS_MAX);
    let day = civil.div_euclid(DAY_MICROS);
    match grain {
        Grain::Hour => civil.div_euclid(HOUR_MICROS),
        Grain::Day => day,
        Grain::Week => day.saturating_add(MONDAY_DAYS).div_euclid(7),
        Grain::Month => month_of(day),
        Grain::Year => month_of(day).div_euclid(12),
    }
}

/// The civil time of `at` in microseconds, to the microsecond below.
pub(crate) fn micros(at: DateTime) -> i64 {
    let midnight = days_of(at.date()).saturating_mul(DAY_MICROS);
    let since = at.time().duration_since(jiff::civil::Time::midnight());
    midnight.saturating_add(i64::try_from(since.as_micros()).unwrap_or(0))
}

/// The civil time of `micros`; `None` outside the calendar.
pub(super) fn datetime(micros: i64) -> Option<DateTime> {
    let day = day_at(micros.div_euclid(DAY_MICROS))?;
    day.at(0, 0, 0, 0)
        .checked_add(SignedDuration::from_micros(micros.rem_euclid(DAY_MICROS)))
        .ok()
}

/// Days since 1970-01-01.
pub(super) fn days_of(day: Date) -> i64 {
    match Cursor::date(day) {
        Cursor::Date(days) => i64::from(days),
        Cursor::Integer(_) | Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Placed(..) => 0,
    }
}

fn day_at(days: i64) -> Option<Date> {
    let days = i32::try_from(days).ok()?;
    Cursor::Date(days).to_civil().map(DateTime::date)
}

fn is_in_calendar(micros: i64) -> bool {
    (MICROS_MIN..=MICROS_MAX).contains(&micros)
}

fn first_of_month(no: i64) -> Option<i64> {
    let year = i16::try_from(no.div_euclid(12).checked_add(1970)?).ok()?;
    let month = i8::try_from(no.rem_euclid(12).checked_add(1)?).ok()?;
    Date::new(year, month, 1)
        .ok()
        .map(|day| days_of(day).saturating_mul(DAY_MICROS))
}

fn month_of(day: i64) -> i64 {
    day_at(day).map_or(0, |day| {
        let years = i64::from(day.year()).saturating_sub(1970);
        years
            .saturating_mul(12)
            .saturating_add(i64::from(day.month()))
            .saturating_sub(1)
    })
}

/// The position of a day, moved into what a date can be.
pub(super) fn to_date_cursor(days: i64) -> Cursor {
    Cursor::Date(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_holds_its_own_start_and_not_the_moment_before() {
        for grain in [
            Grain::Hour,
            Grain::Day,
            Grain::Week,
            Grain::Month,
            Grain::Year,
        ] {
            for no in [-4_000, -1, 0, 1, 521, 7_000] {
                let Some(at) = start(grain, no) else { continue };
                assert_eq!(
                    (holding(grain, at), holding(grain, at - 1)),
                    (no, no - 1),
                    "{grain:?} {no}"
                );
            }
        }
    }

    #[test]
    fn the_calendar_ends_where_it_says() {
        assert_eq!(days_of(Date::MIN), DAY_MIN);
        assert_eq!(days_of(Date::MAX), DAY_MAX);
        assert_eq!(
            (start(Grain::Day, DAY_MAX + 1), start(Grain::Year, 9000)),
            (None, None)
        );
        assert_eq!(
            (start(Grain::Hour, i64::MAX), start(Grain::Month, i64::MIN)),
            (None, None)
        );
        assert_eq!(holding(Grain::Year, i64::MAX), 9999 - 1970);
    }

    #[test]
    fn weeks_begin_on_mondays() {
        let monday =
            datetime(start(Grain::Week, 2_300).expect("in the calendar")).expect("in the calendar");
        assert_eq!(monday.date().weekday(), jiff::civil::Weekday::Monday);
        assert_eq!(
            micros(monday),
            start(Grain::Week, 2_300).expect("in the calendar")
        );
    }
}
