//! Cuts a dataset into partitions: the rule is stored and digested, never the partitions.
//!
//! A [`Partitioning`] gives any partition by its ordinal, so a million of them take no memory and a
//! plan is expanded as the workers get on. Its partitions are disjoint, adjacent, and cover exactly
//! the declared range, or everything, plus the rows without a position where the plan says so.

mod bound;
mod calendar;
mod estimate;
mod hops;
mod integer;
mod period;
mod placed;
mod ranges;
mod single;
#[cfg(test)]
mod tests;
mod zone;

use serde::{Deserialize, Serialize};

pub use self::bound::{BoundError, forms, read_bound};
pub use self::calendar::{Calendar, CalendarRequest};
pub use self::estimate::rows_in;
pub use self::integer::Integer;
pub(crate) use self::period::{DAY_MICROS, micros};
pub use self::placed::{HASH_PARTS_MAX, Placed};
pub use self::ranges::{PARTITIONS_MAX, PartitionError};
pub use self::single::Single;
pub use self::zone::UnknownZone;
pub(crate) use self::zone::Zone;
use crate::cursor::{Cursor, CursorKind};
use crate::range::{CursorRange, Slice};
use crate::spec::Order;

/// The rule that makes a step's partitions. Ordinals run from 0 and always mean the same partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitioning {
    rule: Rule,
    order: Order,
    null: bool,
}

/// How the positions are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// At the starts of civil periods.
    Calendar(Calendar),
    /// Into ranges of whole numbers.
    Integer(Integer),
    /// Into ranges of the numbers that the source places its rows by.
    Placed(Placed),
    /// Not at all: one range is the only partition.
    Single(Single),
}

impl Partitioning {
    /// The generator of a rule's partitions in an order; `null` adds the partition of rows without
    /// a position, at the end.
    #[must_use]
    pub const fn new(rule: Rule, order: Order, null: bool) -> Self {
        Self { rule, order, null }
    }

    /// How many partitions there are; at least one.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a generator is never empty: even an empty table is one partition"
    )]
    pub fn len(&self) -> u64 {
        self.ranges().saturating_add(u64::from(self.null))
    }

    /// Partition `ordinal`, in the order asked for; `None` beyond the last. Takes O(log of the
    /// dropped periods).
    #[must_use]
    pub fn partition(&self, ordinal: u64) -> Option<Slice> {
        match self.place(ordinal)? {
            PartitionRef::Null => Some(Slice::Null),
            PartitionRef::Range(no) => Some(Slice::Range(self.range(no))),
        }
    }

    /// What the positions are.
    #[must_use]
    pub const fn kind(&self) -> CursorKind {
        match &self.rule {
            Rule::Calendar(calendar) => calendar.kind(),
            Rule::Integer(_) => CursorKind::Integer,
            Rule::Placed(placed) => placed.kind(),
            Rule::Single(single) => single.kind(),
        }
    }

    /// Everything that the ranges cover together.
    #[must_use]
    pub fn whole(&self) -> CursorRange {
        match &self.rule {
            Rule::Calendar(calendar) => calendar.whole(),
            Rule::Integer(integer) => integer.whole(),
            Rule::Placed(_) => CursorRange::ALL,
            Rule::Single(single) => single.range(),
        }
    }

    /// Whether the last partition is that of the rows without a position.
    #[must_use]
    pub const fn has_null(&self) -> bool {
        self.null
    }

    /// The stretches that are one partition each, because nothing was found in them when the plan
    /// was made, ascending.
    #[must_use]
    pub fn joined(&self) -> Vec<CursorRange> {
        match &self.rule {
            Rule::Calendar(calendar) => calendar.joined().collect(),
            Rule::Integer(integer) => integer.joined().collect(),
            Rule::Placed(_) | Rule::Single(_) => Vec::new(),
        }
    }

    /// Which partitions come first.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.order
    }

    /// The rule.
    #[must_use]
    pub const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// How many partitions are ranges.
    #[must_use]
    pub fn ranges(&self) -> u64 {
        match &self.rule {
            Rule::Calendar(calendar) => calendar.len(),
            Rule::Integer(integer) => integer.len(),
            Rule::Placed(placed) => placed.len(),
            Rule::Single(_) => 1,
        }
    }

    /// Range `no` in ascending order, whatever the order asked for; for `no < ranges()`.
    #[must_use]
    pub fn range(&self, no: u64) -> CursorRange {
        match &self.rule {
            Rule::Calendar(calendar) => calendar.range(no),
            Rule::Integer(integer) => integer.range(no),
            Rule::Placed(placed) => placed.range(no),
            Rule::Single(single) => single.range(),
        }
    }

    /// The ordinal of range `no`.
    #[must_use]
    pub fn ordinal_of(&self, no: u64) -> u64 {
        match self.order {
            Order::Oldest => no,
            Order::Newest => self.ranges().saturating_sub(no.saturating_add(1)),
        }
    }

    /// The ordinals of the ranges that overlap `over`, found by halving.
    #[must_use]
    pub fn ordinals_over(&self, over: &CursorRange) -> std::ops::Range<u64> {
        let ranges = self.ranges();
        let is_past = |end: Option<Cursor>, start: Option<Cursor>| match (end, start) {
            (Some(end), Some(start)) => end <= start,
            (_, _) => false,
        };
        let first = first_where(ranges, |no| !is_past(self.range(no).end(), over.start()));
        let behind = first_where(ranges, |no| is_past(over.end(), self.range(no).start()));
        if first >= behind {
            return 0..0;
        }
        let (one, other) = (
            self.ordinal_of(first),
            self.ordinal_of(behind.saturating_sub(1)),
        );
        one.min(other)..one.max(other).saturating_add(1)
    }

    fn place(&self, ordinal: u64) -> Option<PartitionRef> {
        let ranges = self.ranges();
        if ordinal < ranges {
            return Some(PartitionRef::Range(match self.order {
                Order::Oldest => ordinal,
                Order::Newest => ranges.saturating_sub(1).saturating_sub(ordinal),
            }));
        }
        (self.null && ordinal == ranges).then_some(PartitionRef::Null)
    }
}

/// What an ordinal stands for.
enum PartitionRef {
    Range(u64),
    Null,
}

/// The first number of `0..count` for which `is_there` holds, if it holds for all after it; `count`
/// when it holds for none.
pub(crate) fn first_where(count: u64, is_there: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if is_there(middle) {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    low
}
