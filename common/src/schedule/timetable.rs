//! The instants of a cron expression in a zone, with its days of 23 and 25 hours.
//!
//! A time that the clock leaps over counts as long after the leap as it lies behind its beginning:
//! a load of half past two runs at half past three. A time that the clock shows twice counts once,
//! the first time; only a schedule of every hour counts it both times, since both are hours.

use std::collections::BTreeSet;

use jiff::civil::{DateTime, Time};

use super::cron::Cron;
use crate::partition::{DAY_MICROS, UnknownZone, Zone, micros};

const HOUR_MICROS: i64 = 3_600_000_000;
/// The span that is looked through first; most schedules have an instant in each hour or day.
const SPAN_MICROS: i64 = HOUR_MICROS;
/// How much longer each further one is.
const SPAN_FACTOR: i64 = 24;
/// The longest: a 29 February that is a Sunday is up to forty years away.
const SPAN_MICROS_MAX: i64 = 41 * 366 * DAY_MICROS;
/// Where the zone's clocks are changed, an instant may lie that far from what they show.
const LEAP_MICROS_MAX: i64 = 2 * DAY_MICROS;

/// Cron times in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    cron: Cron,
    zone: Zone,
}

/// The latest instants of a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latest {
    /// Ascending, in microseconds since 1970.
    pub instants: Vec<i64>,
    /// There are earlier ones.
    pub has_more: bool,
}

impl Timetable {
    /// The instants of `cron` on the clocks of the zone of that IANA name.
    ///
    /// # Errors
    /// There is no such zone.
    pub fn new(cron: Cron, zone: &str) -> Result<Self, UnknownZone> {
        let zone = Zone::named(zone)?;
        Ok(Self { cron, zone })
    }

    /// The first instant after `after`; both in microseconds since 1970. `None` when none comes in
    /// forty years, or before the end of the calendar.
    #[must_use]
    pub fn next_after(&self, after: i64) -> Option<i64> {
        spans().find_map(|span| self.within(after, after.saturating_add(span)).pop_first())
    }

    /// The instants in `(after, until]`: the latest `count_max` of them.
    #[must_use]
    pub fn latest(&self, after: i64, until: i64, count_max: usize) -> Latest {
        let mut found = BTreeSet::new();
        for span in spans() {
            let from = until.saturating_sub(span).max(after);
            found = self.within(from, until);
            if found.len() > count_max || from == after {
                break;
            }
        }
        let too_many = found.len().saturating_sub(count_max);
        Latest {
            instants: found.into_iter().skip(too_many).collect(),
            has_more: too_many > 0,
        }
    }

    /// The instants in `(after, until]`.
    fn within(&self, after: i64, until: i64) -> BTreeSet<i64> {
        let widened = |by: i64| (after.saturating_sub(by), until.saturating_add(by));
        let (from, to) = widened(LEAP_MICROS_MAX);
        let (from, to) = match self.zone.is_steady(from, to) {
            true => (after, until),
            false => (from, to),
        };
        let (first, last) = (self.zone.shows(from), self.zone.shows(to));
        let mut day = self.zone.date(from);
        let mut found = BTreeSet::new();
        while after < until && day <= self.zone.date(to) {
            // What the clocks show is looked at first, as it costs least.
            let may_lie_within = |hour: &Time| {
                let begins = micros(day.to_datetime(*hour));
                begins <= last && begins.saturating_add(HOUR_MICROS) > first
            };
            if self.cron.has_day(day) {
                let hours = self.cron.hours().filter(may_lie_within);
                let times = hours.flat_map(|hour| self.cron.times(hour));
                let instants = times.flat_map(|time| self.instants(day.to_datetime(time)));
                let within = instants.flatten().filter(|at| *at > after && *at <= until);
                found.extend(within);
            }
            match day.tomorrow() {
                Ok(tomorrow) => day = tomorrow,
                Err(_) => break,
            }
        }
        found
    }

    fn instants(&self, civil: DateTime) -> [Option<i64>; 2] {
        let (first, second) = self.zone.instants(civil);
        [first, second.filter(|_| self.cron.is_of_every_hour())]
    }
}

/// Spans to look through, each longer than the one before.
fn spans() -> impl Iterator<Item = i64> {
    std::iter::successors(Some(SPAN_MICROS), |span| {
        let next = span.saturating_mul(SPAN_FACTOR).min(SPAN_MICROS_MAX);
        (next > *span).then_some(next)
    })
}
