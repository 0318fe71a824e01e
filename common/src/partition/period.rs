//! Civil periods as numbers: period 0 of a grain is the one that holds 1970-01-01T00:00:00.
//! Never looks at a zone: a civil time here is microseconds on a clock without one.

use jiff::civil::{Date, DateTime, date};
use jiff::{SignedDuration, ToSpan};

use crate::spec::Grain;

/// Microseconds of an hour of the clock.
pub(super) const HOUR_MICROS: i64 = 3_600_000_000;
/// Microseconds from midnight to midnight.
pub(crate) const DAY_MICROS: i64 = 24 * HOUR_MICROS;
/// The first day of the calendar, -9999-01-01, as days since 1970-01-01.
pub(super) const DAY_MIN: i64 = -4_371_587;
/// The last day of the calendar, 9999-12-31, as days since 1970-01-01.
pub(super) const DAY_MAX: i64 = 2_932_896;

const EPOCH: Date = date(1970, 1, 1);
/// Days from a Monday to 1970-01-01, which was a Thursday.
const MONDAY_DAYS: i64 = 3;

/// The civil time at which period `no` begins; `None` outside the calendar.
pub(super) fn start(grain: Grain, no: i64) -> Option<i64> {
    let micros = match grain {
        Grain::Hour => no.checked_mul(HOUR_MICROS)?,
        Grain::Day => no.checked_mul(DAY_MICROS)?,
        Grain::Week => no.checked_mul(7)?.checked_sub(MONDAY_DAYS)?.checked_mul(DAY_MICROS)?,
        Grain::Month => first_of_month(no)?,
        Grain::Year => first_of_month(no.checked_mul(12)?)?,
    };
    is_in_calendar(micros).then_some(micros)
}

/// The period that holds a civil time, which is first moved into the calendar.
pub(super) fn holding(grain: Grain, civil: i64) -> i64 {
    let civil = civil.clamp(DAY_MIN * DAY_MICROS, (DAY_MAX + 1) * DAY_MICROS - 1);
    let day = civil.div_euclid(DAY_MICROS);
    match grain {
        Grain::Hour => civil.div_euclid(HOUR_MICROS),
        Grain::Day => day,
        Grain::Week => (day + MONDAY_DAYS).div_euclid(7),
        Grain::Month => month_of(day),
        Grain::Year => month_of(day).div_euclid(12),
    }
}

/// The civil time of `at` in microseconds, to the microsecond below.
pub(super) fn micros(at: DateTime) -> i64 {
    let midnight = days_of(at.date()) * DAY_MICROS;
    let since = at.time().duration_since(jiff::civil::Time::midnight());
    midnight + i64::try_from(since.as_micros()).unwrap_or(0)
}

/// The civil time of `micros`; `None` outside the calendar.
pub(super) fn datetime(micros: i64) -> Option<DateTime> {
    let day = day_at(micros.div_euclid(DAY_MICROS))?;
    day.at(0, 0, 0, 0).checked_add(SignedDuration::from_micros(micros.rem_euclid(DAY_MICROS))).ok()
}

/// Days since 1970-01-01.
pub(super) fn days_of(day: Date) -> i64 {
    day.since(EPOCH).map_or(0, |span| i64::from(span.get_days()))
}

fn day_at(days: i64) -> Option<Date> {
    // The span's constructor panics far outside the calendar, so the range is checked before.
    (DAY_MIN..=DAY_MAX).contains(&days).then(|| EPOCH.checked_add(days.days()).ok()).flatten()
}

fn is_in_calendar(micros: i64) -> bool {
    (DAY_MIN * DAY_MICROS..(DAY_MAX + 1) * DAY_MICROS).contains(&micros)
}

fn first_of_month(no: i64) -> Option<i64> {
    let year = i16::try_from(no.div_euclid(12) + 1970).ok()?;
    let month = i8::try_from(no.rem_euclid(12) + 1).ok()?;
    Date::new(year, month, 1).ok().map(|day| days_of(day) * DAY_MICROS)
}

fn month_of(day: i64) -> i64 {
    day_at(day).map_or(0, |day| (i64::from(day.year()) - 1970) * 12 + i64::from(day.month()) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_holds_its_own_start_and_not_the_moment_before() {
        for grain in [Grain::Hour, Grain::Day, Grain::Week, Grain::Month, Grain::Year] {
            for no in [-4_000, -1, 0, 1, 521, 7_000] {
                let Some(at) = start(grain, no) else { continue };
                assert_eq!((holding(grain, at), holding(grain, at - 1)), (no, no - 1), "{grain:?} {no}");
            }
        }
    }

    #[test]
    fn the_calendar_ends_where_it_says() {
        assert_eq!(days_of(Date::MIN), DAY_MIN);
        assert_eq!(days_of(Date::MAX), DAY_MAX);
        assert_eq!((start(Grain::Day, DAY_MAX + 1), start(Grain::Year, 9000)), (None, None));
        assert_eq!((start(Grain::Hour, i64::MAX), start(Grain::Month, i64::MIN)), (None, None));
        assert_eq!(holding(Grain::Year, i64::MAX), 9999 - 1970);
    }

    #[test]
    fn weeks_begin_on_mondays() {
        let monday = datetime(start(Grain::Week, 2_300).expect("in the calendar")).expect("in the calendar");
        assert_eq!(monday.date().weekday(), jiff::civil::Weekday::Monday);
        assert_eq!(micros(monday), start(Grain::Week, 2_300).expect("in the calendar"));
    }
}
