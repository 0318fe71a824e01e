//! A time zone as a clock: when does it first show a civil time, which civil times does it leap
//! over? Only the zones built into the program count, so one version of it plans alike on every
//! machine.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use super::period;
use crate::id::DocumentDigest;

/// A named zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    name: String,
    tz: TimeZone,
}

/// The name is not one of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a time zone")]
pub struct UnknownZone(pub String);

/// A clock that is put forward: it never shows the civil times of `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Zone {
    /// The zone of an IANA name, in any case.
    pub(crate) fn named(name: &str) -> Result<Self, UnknownZone> {
        if name.eq_ignore_ascii_case("utc") {
            return Ok(Self {
                name: "UTC".to_owned(),
                tz: TimeZone::UTC,
            });
        }
        let tz = TimeZoneDatabase::bundled()
            .get(name)
            .map_err(|_| UnknownZone(name.to_owned()))?;
        Ok(Self {
            name: tz.iana_name().unwrap_or(name).to_owned(),
            tz,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_utc(&self) -> bool {
        self.tz == TimeZone::UTC
    }

    /// The first instant at which the clock shows `civil` or later: the former of two when it is
    /// put back, the leap itself when it is put forward. Saturates at the ends of the calendar, so
    /// it never falls as `civil` grows.
    pub(super) fn reaches(&self, civil: i64) -> i64 {
        if self.is_utc() {
            return civil;
        }
        let Some(at) = period::datetime(civil) else {
            return if civil < 0 { i64::MIN } else { i64::MAX };
        };
        let (offset, leap) = match self.tz.to_ambiguous_timestamp(at).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, None),
            AmbiguousOffset::Fold { before, after: _ } => (before, None),
            AmbiguousOffset::Gap { before, after } => (before, Some(after)),
        };
        let Ok(instant) = offset.to_timestamp(at) else {
            return if civil < 0 { i64::MIN } else { i64::MAX };
        };
        let Some(after) = leap else {
            return instant.as_microsecond();
        };
        // The clock before the leap would have shown `at` at `instant`, so the leap is the latest
        // one up to there.
        let beyond = Timestamp::from_microsecond(instant.as_microsecond().saturating_add(1))
            .unwrap_or(instant);
        let found = self
            .tz
            .preceding(beyond)
            .take(LEAPS_MAX)
            .find(|leap| leap.offset() == after);
        found
            .map_or(instant, |leap| leap.timestamp())
            .as_microsecond()
    }

    /// What the clock shows at an instant, which is first moved into the calendar.
    pub(crate) fn shows(&self, instant: i64) -> i64 {
        if self.is_utc() {
            instant
        } else {
            period::micros(self.tz.to_datetime(timestamp(instant)))
        }
    }

    /// Whether the clock is never changed in `[from, to]`.
    pub(crate) fn is_steady(&self, from: i64, to: i64) -> bool {
        self.is_utc() || self.changes(from, to).next().is_none()
    }

    /// The day that the clock shows at an instant, which is first moved into the calendar.
    pub(crate) fn date(&self, instant: i64) -> Date {
        self.tz.to_datetime(timestamp(instant)).date()
    }

    /// When the clock shows `civil`, and when it does so for the second time. A time that it leaps
    /// over counts as long after the leap as it lies behind its beginning. `None` beyond the
    /// calendar.
    pub(crate) fn instants(&self, civil: DateTime) -> (Option<i64>, Option<i64>) {
        let at = |offset: Offset| {
            let instant = offset.to_timestamp(civil).ok();
            instant.map(Timestamp::as_microsecond)
        };
        match self.tz.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => (at(offset), None),
            AmbiguousOffset::Gap { before, after: _ } => (at(before), None),
            AmbiguousOffset::Fold { before, after } => (at(before), at(after)),
        }
    }

    /// The earliest time that the clock shows at `instant` or ever after. Where it will be put back,
    /// this stands still at the first time that will be shown again until that has passed.
    pub(crate) fn earliest_from(&self, instant: i64) -> i64 {
        let until = instant.saturating_add(PUT_BACK_MICROS);
        let later = self
            .changes(instant, until)
            .map(|change| self.shows(change.as_microsecond()));
        later.fold(self.shows(instant), i64::min)
    }

    /// Where the clock is put forward in `[from, to]`, ascending.
    pub(super) fn gaps(&self, from: i64, to: i64) -> Vec<Gap> {
        let mut offset = self.tz.to_offset(timestamp(from));
        let mut gaps = Vec::new();
        for change in self.changes(from, to) {
            let (before, after) = (offset, self.tz.to_offset(change));
            if after > before {
                let at = change.as_microsecond();
                let civil =
                    |seconds: i32| at.saturating_add(i64::from(seconds).saturating_mul(1_000_000));
                gaps.push(Gap {
                    from: civil(before.seconds()),
                    to: civil(after.seconds()),
                });
            }
            offset = after;
        }
        gaps
    }

    /// A digest of everything the zone's rules say between two instants. A plan carries it: a
    /// program whose zones say something else would cut a running step at other places.
    pub(super) fn digest(&self, from: i64, to: i64) -> DocumentDigest {
        let mut text = Vec::from(self.tz.to_offset(timestamp(from)).seconds().to_be_bytes());
        for change in self.changes(from, to) {
            text.extend(change.as_microsecond().to_be_bytes());
            text.extend(self.tz.to_offset(change).seconds().to_be_bytes());
        }
        DocumentDigest::of(&text)
    }

    fn changes(&self, from: i64, to: i64) -> impl Iterator<Item = Timestamp> {
        let to = timestamp(to);
        self.tz
            .following(timestamp(from))
            .map(|change| change.timestamp())
            .take_while(move |change| *change <= to)
    }
}

/// No clock is put back by more than a day.
const PUT_BACK_MICROS: i64 = 2 * period::DAY_MICROS;

/// Changes of a zone's rules that may lie within one leap of its clock.
const LEAPS_MAX: usize = 4;

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_of_the_world_reaches_a_later_time_earlier() {
        // GIVEN every zone, and every change of its clock in three hundred years
        let (from, to) = (
            micros("1800-01-01T00:00:00Z"),
            micros("2100-01-01T00:00:00Z"),
        );
        for name in TimeZoneDatabase::bundled().available() {
            let zone = Zone::named(name.as_str()).expect("an available zone");
            for change in zone.changes(from, to) {
                // WHEN the civil hours around the change are looked up
                let hour = zone
                    .shows(change.as_microsecond())
                    .div_euclid(period::HOUR_MICROS);
                let instants: Vec<i64> = (hour - 3..hour + 4)
                    .map(|hour| zone.reaches(hour * period::HOUR_MICROS))
                    .collect();
                // THEN their instants ascend
                assert!(instants.is_sorted(), "{name} {change}: {instants:?}");
            }
        }
    }

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>()
            .expect("an instant")
            .as_microsecond()
    }
}
