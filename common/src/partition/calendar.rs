//! Cuts at the starts of civil periods, as the stored instants, civil times or dates they are.
//!
//! A period begins at the first instant at which the zone's clock reaches it. So days of 23 and of
//! 25 hours come out right, a day without a midnight begins at its first instant, and a period that
//! never was (the clock leapt over all of it) has no instants and is dropped. Where a rule has very
//! many periods, a stretch of them in which nothing was found is one partition: one wrong date must
//! not make a million.

use serde::{Deserialize, Serialize};

use super::hops::{Hops, RAW_PARTS_MIN, Stretch, are_settled, settled};
use super::period;
use super::ranges::{PARTITIONS_MAX, PartitionError, ascending_range};
use super::zone::Zone;
use crate::cursor::{Cursor, CursorKind};
use crate::id::DocumentDigest;
use crate::range::CursorRange;
use crate::spec::Grain;

/// The rule of a calendar. Its partitions are numbered from 0, ascending, without the dropped
/// periods.
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
    /// Periods, counted from the first, that are one partition together.
    joined: Vec<Stretch>,
    /// Both of these, as the ordinals hop over them.
    hops: Hops,
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
    /// Neighbouring positions between which nothing, or next to nothing, was found.
    pub empty: &'a [(Cursor, Cursor)],
}

impl Calendar {
    /// The calendar that covers `[start, end)`, open where a side is not declared.
    ///
    /// # Errors
    /// [`PartitionError`] when the request contradicts itself or asks for too many partitions.
    pub fn new(request: CalendarRequest<'_>) -> Result<Self, PartitionError> {
        let CalendarRequest {
            kind,
            grain,
            tz,
            start,
            end,
            min,
            max,
            empty,
        } = request;
        let zone = Zone::named(tz)?;
        check_kinds(kind, grain, &zone, [start, end, min, max])?;
        if let (Some(start), Some(end)) = (start, end)
            && start >= end
        {
            return Err(PartitionError::Empty { start, end });
        }
        let (dropped, joined, hops) = (Vec::new(), Vec::new(), Hops::NONE);
        let mut calendar = Self {
            kind,
            grain,
            zone,
            start,
            end,
            first: 0,
            last: 0,
            dropped,
            joined,
            hops,
        };
        // Where nothing bounds the periods, or what was found lies beyond the declared side, one
        // partition holds it all.
        if let (Some(low), Some(high)) = (start.or(min), end.or(max))
            && (low < high || (low == high && end.is_none()))
        {
            calendar.first = calendar.last_reaching(low, true);
            calendar.last = calendar
                .last_reaching(high, end.is_none())
                .max(calendar.first);
            calendar.dropped = calendar.never_were();
            if calendar.raw() > RAW_PARTS_MIN {
                calendar.joined = calendar.joined_by(empty);
            }
            calendar.number();
            if calendar.len() > PARTITIONS_MAX {
                return Err(PartitionError::TooMany {
                    partitions: calendar.len(),
                    low,
                    high,
                });
            }
            calendar.check_bounds()?;
        }
        Ok(calendar)
    }

    /// The same range in periods of another length.
    ///
    /// # Errors
    /// [`PartitionError`] when its positions have no such periods, or there are too many.
    pub fn with_grain(&self, grain: Grain) -> Result<Self, PartitionError> {
        Self::new(CalendarRequest {
            kind: self.kind,
            grain,
            tz: self.zone.name(),
            start: self.start,
            end: self.end,
            min: None,
            max: None,
            empty: &[],
        })
    }

    /// How many partitions there are; at least one.
    pub(super) fn len(&self) -> u64 {
        self.raw().saturating_sub(self.hops.left_out()).max(1)
    }

    /// How many periods there are, those without a partition of their own included.
    fn raw(&self) -> u64 {
        u64::try_from(self.last.saturating_sub(self.first))
            .unwrap_or(0)
            .saturating_add(1)
    }

    /// Partition `no`, for `no < len()`.
    pub(super) fn range(&self, no: u64) -> CursorRange {
        let next = no.saturating_add(1);
        let start = if no == 0 {
            self.start
        } else {
            Some(self.boundary(self.period(no)))
        };
        let end = if next >= self.len() {
            self.end
        } else {
            Some(self.boundary(self.period(next)))
        };
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

    /// The stretches of more than one period that are one partition.
    pub(super) fn joined(&self) -> impl Iterator<Item = CursorRange> + '_ {
        let bounds = |stretch: &Stretch| {
            let end = self.period_at(stretch.last).saturating_add(1);
            (
                Some(self.boundary(self.period_at(stretch.first))),
                Some(self.boundary(end)),
            )
        };
        self.joined
            .iter()
            .filter_map(move |stretch| CursorRange::try_from(bounds(stretch)).ok())
    }

    /// The period with which partition `no` begins.
    fn period(&self, no: u64) -> i64 {
        self.period_at(self.hops.raw(no)).min(self.last)
    }

    /// The period so many behind the first.
    fn period_at(&self, raw: u64) -> i64 {
        self.first.saturating_add_unsigned(raw)
    }

    /// Puts down where the ordinals hop, once periods, dropped and joined are settled.
    fn number(&mut self) {
        let raw = |period: &i64| {
            period
                .checked_sub(self.first)
                .and_then(|raw| u64::try_from(raw).ok())
        };
        self.hops = Hops::over(self.dropped.iter().filter_map(raw), &self.joined);
    }

    /// The periods that lie wholly between two positions of which nothing was found in between.
    fn joined_by(&self, empty: &[(Cursor, Cursor)]) -> Vec<Stretch> {
        let raw = |period: i64| u64::try_from(period.saturating_sub(self.first)).ok();
        let ordered = empty.iter().filter(|(low, high)| {
            low.kind() == self.kind && high.kind() == self.kind && low < high
        });
        let stretches = ordered.filter_map(|(low, high)| {
            let first = self.last_reaching(*low, true).saturating_add(1);
            let last = self.last_reaching(*high, true).saturating_sub(1);
            Some(Stretch {
                first: raw(first.max(self.first))?,
                last: raw(last)?,
            })
        });
        settled(stretches, self.raw())
    }

    /// Every bound between two partitions ascends strictly if the first and the last of them are in
    /// the calendar and within the declared sides: periods ascend, and those at which a clock does
    /// not are dropped.
    fn check_bounds(&self) -> Result<(), PartitionError> {
        let inside = |at: &Cursor| {
            self.start.is_none_or(|start| start < *at)
                && self.end.is_none_or(|end| *at < end)
                && ![Cursor::Instant(i64::MIN), Cursor::Instant(i64::MAX)].contains(at)
        };
        let sound = |period: i64| {
            period::start(self.grain, period).is_some() && inside(&self.boundary(period))
        };
        if self.first < self.last && !(sound(self.first.saturating_add(1)) && sound(self.last)) {
            return Err(PartitionError::Stored("its bounds"));
        }
        Ok(())
    }

    /// The first position of a period; saturates outside the calendar.
    fn boundary(&self, period: i64) -> Cursor {
        let outside = if period < 0 { i64::MIN } else { i64::MAX };
        let civil = period::start(self.grain, period).unwrap_or(outside);
        match self.kind {
            CursorKind::Instant => Cursor::Instant(self.zone.reaches(civil)),
            CursorKind::Date => Cursor::Date(to_day(civil)),
            CursorKind::Civil | CursorKind::Integer | CursorKind::Placed(_) => Cursor::Civil(civil),
        }
    }

    /// The last period that begins before `at`, or, when `inclusive`, not after it.
    fn last_reaching(&self, at: Cursor, inclusive: bool) -> i64 {
        let begins_by = |period: i64| {
            let boundary = self.boundary(period);
            // A boundary past all instants is no boundary: such a period never begins.
            boundary != Cursor::Instant(i64::MAX)
                && (boundary < at || (inclusive && boundary == at))
        };
        let civil = match at {
            Cursor::Instant(micros) => self.zone.shows(micros),
            Cursor::Date(days) => i64::from(days).saturating_mul(period::DAY_MICROS),
            Cursor::Civil(micros) | Cursor::Integer(micros) | Cursor::Placed(_, micros) => micros,
        };
        let mut period = period::holding(self.grain, civil);
        // Where the clock was put back, later periods may have begun before; where it leapt,
        // several begin at once. A clock is moved by at most a day or so, so these walks are short;
        // `start` bounds them at the calendar's ends.
        while let next = period.saturating_add(1)
            && period::start(self.grain, next).is_some()
            && begins_by(next)
        {
            period = next;
        }
        while period::start(self.grain, period).is_some() && !begins_by(period) {
            period = period.saturating_sub(1);
        }
        period
    }

    /// The periods strictly between the first and the last that a leap of the clock swallowed
    /// whole.
    fn never_were(&self) -> Vec<i64> {
        if self.kind != CursorKind::Instant || self.zone.is_utc() {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        let (from, to) = self.inner_instants();
        for gap in self.zone.gaps(from, to) {
            let mut period =
                period::holding(self.grain, gap.from.saturating_sub(1)).saturating_add(1);
            while let next = period.saturating_add(1)
                && period::start(self.grain, next).is_some_and(|begins| begins <= gap.to)
            {
                if self.first < period && period < self.last {
                    dropped.push(period);
                }
                period = next;
            }
        }
        dropped
    }

    /// Where all boundaries between partitions lie.
    fn inner_instants(&self) -> (i64, i64) {
        let instant = |period| match self.boundary(period) {
            Cursor::Instant(micros) => micros,
            Cursor::Civil(_) | Cursor::Date(_) | Cursor::Integer(_) | Cursor::Placed(..) => 0,
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
        return Err(PartitionError::ZoneWithoutInstants {
            kind,
            tz: zone.name().to_owned(),
        });
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joined: Vec<Stretch>,
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
            joined: calendar.joined,
        }
    }
}

impl TryFrom<Record> for Calendar {
    type Error = PartitionError;

    fn try_from(record: Record) -> Result<Self, PartitionError> {
        let Record {
            kind,
            grain,
            tz,
            start,
            end,
            first,
            last,
            dropped,
            joined,
            zone_digest,
        } = record;
        let zone = Zone::named(&tz)?;
        check_kinds(kind, grain, &zone, [start, end, None, None])?;
        if last < first
            || last.checked_sub(first).is_none()
            || CursorRange::new(start, end).is_err()
        {
            return Err(PartitionError::Stored("its periods"));
        }
        let hops = Hops::NONE;
        let mut calendar = Self {
            kind,
            grain,
            zone,
            start,
            end,
            first,
            last,
            dropped,
            joined,
            hops,
        };
        calendar.check_bounds()?;
        if calendar.zone_digest() != zone_digest || calendar.never_were() != calendar.dropped {
            return Err(PartitionError::ZoneChanged { tz });
        }
        if !are_settled(&calendar.joined, calendar.raw()) {
            return Err(PartitionError::Stored("its joined periods"));
        }
        calendar.number();
        if calendar.len() > PARTITIONS_MAX {
            return Err(PartitionError::Stored("how many partitions it makes"));
        }
        Ok(calendar)
    }
}
