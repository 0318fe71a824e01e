//! Cuts at the starts of civil periods, as the stored instants, civil times or dates they are.
//!
//! A period begins at the first instant at which the zone's clock reaches it. So days of 23 and of 25 hours come out right,
//! a day without a midnight begins at its first instant, and a period that never was (the clock leapt over all of it) has no
//! instants and is dropped.

use serde::{Deserialize, Serialize};

use super::zone::Zone;
use super::{PARTITIONS_MAX, PartitionError, ascending_range, period};
use crate::cursor::{Cursor, CursorKind};
use crate::id::DocumentDigest;
use crate::range::CursorRange;
use crate::spec::Grain;

/// The rule of a calendar. Its partitions are numbered from 0, ascending, without the dropped periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Calendar {
    kind: CursorKind,
    grain: Grain,
    zone: Zone,
    start: Option<Cursor>,
    end: Option<Cursor>,
    /// The periods of the first and of the last partition.
    first: i64,
    last: i64,
    /// Periods between them that never were, ascending.
    dropped: Vec<i64>,
}

/// What a calendar is made of.
#[derive(Debug, Clone, Copy)]
pub struct CalendarRequest<'a> {
    /// What the column's positions are; not integer.
    pub kind: CursorKind,
    /// How long a period is.
    pub grain: Grain,
    /// IANA name of the zone whose clock counts; `UTC` for civil times and dates.
    pub tz: &'a str,
    /// The declared start.
    pub start: Option<Cursor>,
    /// The declared end.
    pub end: Option<Cursor>,
    /// The smallest position found; bounds the periods where no start is declared.
    pub min: Option<Cursor>,
    /// The largest position found; bounds the periods where no end is declared.
    pub max: Option<Cursor>,
}

impl Calendar {
    /// The calendar that covers `[start, end)`, open where a side is not declared.
    ///
    /// # Errors
    /// [`PartitionError`] when the request contradicts itself or asks for too many partitions.
    pub fn new(request: CalendarRequest<'_>) -> Result<Self, PartitionError> {
        let CalendarRequest { kind, grain, tz, start, end, min, max } = request;
        let zone = Zone::named(tz)?;
        check_kinds(kind, grain, &zone, [start, end, min, max])?;
        if let (Some(start), Some(end)) = (start, end)
            && start >= end
        {
            return Err(PartitionError::Empty { start, end });
        }
        let mut calendar = Self { kind, grain, zone, start, end, first: 0, last: 0, dropped: Vec::new() };
        // Where nothing bounds the periods, or what was found lies beyond the declared side, one partition holds it all.
        if let (Some(low), Some(high)) = (start.or(min), end.or(max))
            && (low < high || (low == high && end.is_none()))
        {
            calendar.first = calendar.last_reaching(low, true);
            calendar.last = calendar.last_reaching(high, end.is_none());
            let raw = u64::try_from(calendar.last - calendar.first).unwrap_or(0) + 1;
            if raw > PARTITIONS_MAX {
                return Err(PartitionError::TooMany { partitions: raw, low, high });
            }
            calendar.dropped = calendar.never_were();
        }
        Ok(calendar)
    }

    /// How many partitions there are; at least one.
    pub(super) fn len(&self) -> u64 {
        let raw = u64::try_from(self.last - self.first).unwrap_or(0) + 1;
        raw - self.dropped.len() as u64
    }

    /// Partition `no`, for `no < len()`.
    pub(super) fn range(&self, no: u64) -> CursorRange {
        let period = self.period(no);
        let start = if period == self.first { self.start } else { Some(self.boundary(period)) };
        let end = if period == self.last { self.end } else { Some(self.boundary(period + 1)) };
        ascending_range(start, end)
    }

    /// What the positions are.
    pub(super) const fn kind(&self) -> CursorKind {
        self.kind
    }

    /// The whole range.
    pub(super) fn whole(&self) -> CursorRange {
        ascending_range(self.start, self.end)
    }

    /// The periods that were dropped because they never were.
    #[must_use]
    pub fn dropped(&self) -> &[i64] {
        &self.dropped
    }

    /// How long a period is.
    #[must_use]
    pub const fn grain(&self) -> Grain {
        self.grain
    }

    /// The name of the zone whose clock counts.
    #[must_use]
    pub fn tz(&self) -> &str {
        self.zone.name()
    }

    /// The period of partition `no`: each dropped period before it pushes it one further.
    fn period(&self, no: u64) -> i64 {
        let raw = self.first + i64::try_from(no).unwrap_or(0);
        // The i-th dropped period is passed by everything from its own number, less those dropped before it, on.
        let (mut low, mut high) = (0, self.dropped.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.dropped[middle] - middle as i64 <= raw { low = middle + 1 } else { high = middle }
        }
        raw + low as i64
    }

    /// The first position of a period; saturates outside the calendar.
    fn boundary(&self, period: i64) -> Cursor {
        let outside = if period < 0 { i64::MIN } else { i64::MAX };
        let civil = period::start(self.grain, period).unwrap_or(outside);
        match self.kind {
            CursorKind::Instant => Cursor::Instant(self.zone.reaches(civil)),
            CursorKind::Date => Cursor::Date(to_day(civil)),
            CursorKind::Civil | CursorKind::Integer => Cursor::Civil(civil),
        }
    }

    /// The last period that begins before `at`, or, when `inclusive`, not after it.
    fn last_reaching(&self, at: Cursor, inclusive: bool) -> i64 {
        let begins_by = |period: i64| {
            let boundary = self.boundary(period);
            // A boundary past all instants is no boundary: such a period never begins.
            boundary != Cursor::Instant(i64::MAX) && (boundary < at || (inclusive && boundary == at))
        };
        let civil = match at {
            Cursor::Instant(micros) => self.zone.shows(micros),
            Cursor::Date(days) => i64::from(days).saturating_mul(period::DAY_MICROS),
            Cursor::Civil(micros) | Cursor::Integer(micros) => micros,
        };
        let mut period = period::holding(self.grain, civil);
        // Where the clock was put back, later periods may have begun before; where it leapt, several begin at once. A
        // clock is moved by at most a day or so, so these walks are short; `start` bounds them at the calendar's ends.
        while period::start(self.grain, period + 1).is_some() && begins_by(period + 1) {
            period += 1;
        }
        while period::start(self.grain, period).is_some() && !begins_by(period) {
            period -= 1;
        }
        period
    }

    /// The periods strictly between the first and the last that a leap of the clock swallowed whole.
    fn never_were(&self) -> Vec<i64> {
        if self.kind != CursorKind::Instant || self.zone.is_utc() {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        let (from, to) = self.inner_instants();
        for gap in self.zone.gaps(from, to) {
            let mut period = period::holding(self.grain, gap.from - 1) + 1;
            while period::start(self.grain, period + 1).is_some_and(|next| next <= gap.to) {
                if self.first < period && period < self.last {
                    dropped.push(period);
                }
                period += 1;
            }
        }
        dropped
    }

    /// Where all boundaries between partitions lie.
    fn inner_instants(&self) -> (i64, i64) {
        let instant = |period| match self.boundary(period) {
            Cursor::Instant(micros) => micros,
            Cursor::Civil(_) | Cursor::Date(_) | Cursor::Integer(_) => 0,
        };
        // One microsecond earlier, because what follows an instant does not include it.
        (instant(self.first).saturating_sub(1), instant(self.last))
    }

    fn zone_digest(&self) -> Option<DocumentDigest> {
        (self.kind == CursorKind::Instant && !self.zone.is_utc()).then(|| {
            let (from, to) = self.inner_instants();
            self.zone.digest(from, to)
        })
    }
}

fn check_kinds(
    kind: CursorKind,
    grain: Grain,
    zone: &Zone,
    positions: [Option<Cursor>; 4],
) -> Result<(), PartitionError> {
    if !grain.fits(kind) {
        return Err(PartitionError::Grain { kind, grain });
    }
    if kind != CursorKind::Instant && !zone.is_utc() {
        return Err(PartitionError::ZoneWithoutInstants { kind, tz: zone.name().to_owned() });
    }
    match positions.into_iter().flatten().find(|at| at.kind() != kind) {
        Some(at) => Err(PartitionError::Kind { at, kind }),
        None => Ok(()),
    }
}

fn to_day(civil: i64) -> i32 {
    let days = civil.div_euclid(period::DAY_MICROS);
    i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX })
}

/// The stored form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    kind: CursorKind,
    grain: Grain,
    tz: String,
    start: Option<Cursor>,
    end: Option<Cursor>,
    first: i64,
    last: i64,
    dropped: Vec<i64>,
    zone_digest: Option<DocumentDigest>,
}

impl From<Calendar> for Record {
    fn from(calendar: Calendar) -> Self {
        Self {
            zone_digest: calendar.zone_digest(),
            kind: calendar.kind,
            grain: calendar.grain,
            tz: calendar.zone.name().to_owned(),
            start: calendar.start,
            end: calendar.end,
            first: calendar.first,
            last: calendar.last,
            dropped: calendar.dropped,
        }
    }
}

impl TryFrom<Record> for Calendar {
    type Error = PartitionError;

    fn try_from(record: Record) -> Result<Self, PartitionError> {
        let Record { kind, grain, tz, start, end, first, last, dropped, zone_digest } = record;
        let zone = Zone::named(&tz)?;
        check_kinds(kind, grain, &zone, [start, end, None, None])?;
        let count = last.checked_sub(first).and_then(|count| u64::try_from(count).ok());
        if count.is_none_or(|count| count >= PARTITIONS_MAX) || CursorRange::new(start, end).is_err() {
            return Err(PartitionError::Stored("its periods"));
        }
        let calendar = Self { kind, grain, zone, start, end, first, last, dropped };
        if calendar.zone_digest() != zone_digest || calendar.never_were() != calendar.dropped {
            return Err(PartitionError::ZoneChanged { tz });
        }
        let inside = |at: &Cursor| calendar.start.is_none_or(|s| s < *at) && calendar.end.is_none_or(|e| *at < e);
        let sound = |no: i64| period::start(grain, no).is_some() && inside(&calendar.boundary(no));
        if first < last && !(sound(first + 1) && sound(last)) {
            return Err(PartitionError::Stored("its bounds"));
        }
        Ok(calendar)
    }
}
