//! Cuts ranges of whole numbers: at equal widths, or into parts of about equally many rows. Reckons in `i128`, so the ends of
//! the 64-bit numbers are no special case.

use serde::{Deserialize, Serialize};

use super::{PARTITIONS_MAX, PartitionError, ascending_range, estimate};
use crate::cursor::{Cursor, CursorKind};
use crate::facts::PartitionFacts;
use crate::range::CursorRange;

/// The rule of whole numbers. Its partitions are numbered from 0, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Integer {
    start: Option<i64>,
    end: Option<i64>,
    cuts: Cuts,
}

/// Where the inner bounds lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cuts {
    /// At `second`, where the second partition begins, and every `width` further.
    Width { second: i64, width: u64, parts: u64 },
    /// Runs of about equally many rows a part, adjacent and ascending. At most as many as a histogram has bounds.
    Even { runs: Vec<Run> },
}

/// A stretch `[start, last]` cut into `parts` of equal width, give or take one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// The number of its first part.
    first: u64,
    parts: u64,
    start: i64,
    last: i64,
}

impl Run {
    fn width(&self) -> i128 {
        i128::from(self.last) - i128::from(self.start) + 1
    }

    /// Where part `no` of the run begins: strictly ascending, because a run has no more parts than values.
    fn boundary(&self, no: u64) -> i128 {
        i128::from(self.start) + self.width() * i128::from(no) / i128::from(self.parts)
    }
}

impl Integer {
    /// Ranges of `width` values: from the declared start, else from multiples of the width.
    ///
    /// # Errors
    /// [`PartitionError`] when the bounds contradict each other, or too many partitions would come of them.
    pub fn by_width(
        width: u64,
        start: Option<i64>,
        end: Option<i64>,
        facts: &PartitionFacts,
    ) -> Result<Self, PartitionError> {
        let width = width.max(1);
        let Some((low, last)) = bounds(start, end, facts)? else {
            return Ok(Self { start, end, cuts: Cuts::Width { second: 0, width, parts: 1 } });
        };
        let step = i128::from(width);
        let base = if start.is_some() { low } else { low.div_euclid(step) * step };
        let parts = (last - base) / step + 1;
        let parts = checked_parts(parts, low, last)?;
        // With one part there is no second one, whose start might even lie outside the 64-bit numbers.
        let second = if parts > 1 { i64::try_from(base + step).unwrap_or(i64::MAX) } else { 0 };
        Ok(Self { start, end, cuts: Cuts::Width { second, width, parts } })
    }

    /// Parts of about `rows_max` rows each, of a table of `rows`: cut by the histogram, where the server keeps one, else
    /// into even widths.
    ///
    /// # Errors
    /// [`PartitionError`] when the bounds contradict each other, or too many partitions would come of them.
    pub fn by_rows(
        rows: u64,
        rows_max: u64,
        start: Option<i64>,
        end: Option<i64>,
        facts: &PartitionFacts,
    ) -> Result<Self, PartitionError> {
        let Some((low, last)) = bounds(start, end, facts)? else {
            return Ok(Self { start, end, cuts: Cuts::Width { second: 0, width: 1, parts: 1 } });
        };
        let rows = estimate::rows_within(facts, rows, low, last + 1);
        let wanted = checked_parts(i128::from(rows.div_ceil(rows_max.max(1)).max(1)), low, last)?;
        let mut points = vec![low];
        for at in facts.histogram.iter().filter_map(|at| integer(*at)).map(i128::from) {
            // A histogram may end with the largest value itself, which bounds no stretch of its own.
            if points.last().is_some_and(|before| *before < at) && at < last {
                points.push(at);
            }
        }
        points.push(last + 1);
        Ok(Self { start, end, cuts: Cuts::Even { runs: runs(&points, wanted) } })
    }

    /// How many partitions there are; at least one.
    pub(super) fn len(&self) -> u64 {
        match &self.cuts {
            Cuts::Width { parts, .. } => *parts,
            Cuts::Even { runs } => runs.last().map_or(1, |run| run.first + run.parts),
        }
    }

    /// Partition `no`, for `no < len()`.
    pub(super) fn range(&self, no: u64) -> CursorRange {
        let start = if no == 0 { self.start } else { Some(self.boundary(no)) };
        let end = if no + 1 == self.len() { self.end } else { Some(self.boundary(no + 1)) };
        ascending_range(start.map(Cursor::Integer), end.map(Cursor::Integer))
    }

    /// The whole range.
    pub(super) fn whole(&self) -> CursorRange {
        ascending_range(self.start.map(Cursor::Integer), self.end.map(Cursor::Integer))
    }

    /// Where partition `no` begins, for `0 < no < len()`.
    fn boundary(&self, no: u64) -> i64 {
        let at = match &self.cuts {
            Cuts::Width { second, width, .. } => i128::from(*second) + i128::from(*width) * (i128::from(no) - 1),
            Cuts::Even { runs } => {
                let run = runs.partition_point(|run| run.first <= no).saturating_sub(1);
                runs.get(run).map_or(0, |run| run.boundary(no - run.first))
            }
        };
        // Every inner bound is at most the largest value found, or below the declared end: both are 64-bit numbers.
        i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
    }
}

/// The first and the last value that bound the partitions; `None` where one open partition holds everything.
fn bounds(
    start: Option<i64>,
    end: Option<i64>,
    facts: &PartitionFacts,
) -> Result<Option<(i128, i128)>, PartitionError> {
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        return Err(PartitionError::Empty { start: Cursor::Integer(start), end: Cursor::Integer(end) });
    }
    for at in [facts.min, facts.max].into_iter().flatten() {
        if at.kind() != CursorKind::Integer {
            return Err(PartitionError::Kind { at, kind: CursorKind::Integer });
        }
    }
    let low = start.or(facts.min.and_then(integer)).map(i128::from);
    let last = end.map(|end| i128::from(end) - 1).or(facts.max.and_then(integer).map(i128::from));
    Ok(low.zip(last).filter(|(low, last)| low <= last))
}

/// Cuts the stretches between the points, which hold equally many rows each, into `wanted` parts: several stretches become
/// one part where there are more of them than parts, and a stretch never gets more parts than it has values.
fn runs(points: &[i128], wanted: u64) -> Vec<Run> {
    let stretches = (points.len() - 1) as u128;
    let share = |stretch: u128| stretch * u128::from(wanted) / stretches;
    let mut runs: Vec<Run> = Vec::new();
    let (mut first, mut start) = (0, points[0]);
    for (stretch, end) in points[1..].iter().enumerate() {
        let stretch = stretch as u128;
        let parts = share(stretch + 1) - share(stretch);
        if parts == 0 {
            continue;
        }
        let values = u128::try_from(*end - start).unwrap_or(1);
        let parts = u64::try_from(parts.min(values)).unwrap_or(1);
        // The points are 64-bit numbers, except for the last, which lies one beyond one.
        let number = |at: i128| i64::try_from(at).unwrap_or(i64::MAX);
        runs.push(Run { first, parts, start: number(start), last: number(*end - 1) });
        first += parts;
        start = *end;
    }
    runs
}

fn checked_parts(parts: i128, low: i128, last: i128) -> Result<u64, PartitionError> {
    let number = |at: i128| Cursor::Integer(i64::try_from(at).unwrap_or(i64::MAX));
    let partitions = u64::try_from(parts).unwrap_or(u64::MAX);
    if partitions > PARTITIONS_MAX {
        return Err(PartitionError::TooMany { partitions, low: number(low), high: number(last) });
    }
    Ok(partitions)
}

fn integer(at: Cursor) -> Option<i64> {
    match at {
        Cursor::Integer(value) => Some(value),
        Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) => None,
    }
}

/// The stored form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    start: Option<i64>,
    end: Option<i64>,
    cuts: Cuts,
}

impl From<Integer> for Record {
    fn from(Integer { start, end, cuts }: Integer) -> Self {
        Self { start, end, cuts }
    }
}

impl TryFrom<Record> for Integer {
    type Error = PartitionError;

    fn try_from(Record { start, end, cuts }: Record) -> Result<Self, PartitionError> {
        let sound = match &cuts {
            Cuts::Width { width, parts, .. } => *width > 0 && (1..=PARTITIONS_MAX).contains(parts),
            Cuts::Even { runs } => are_sound(runs),
        };
        let integer = Self { start, end, cuts };
        let count = if sound { integer.len() } else { 0 };
        let inner = |no| start.is_none_or(|s| s < integer.boundary(no)) && end.is_none_or(|e| integer.boundary(no) < e);
        let empty = start.zip(end).is_some_and(|(start, end)| start >= end);
        if !sound || empty || (count > 1 && !(inner(1) && inner(count - 1))) {
            return Err(PartitionError::Stored("its cuts"));
        }
        Ok(integer)
    }
}

fn are_sound(runs: &[Run]) -> bool {
    let mut next = 0;
    let mut before: Option<i64> = None;
    for run in runs {
        let adjacent = before.is_none_or(|last| last.checked_add(1) == Some(run.start));
        let full = run.parts > 0 && i128::from(run.parts) <= run.width();
        if run.first != next || !adjacent || !full || run.parts > PARTITIONS_MAX {
            return false;
        }
        next += run.parts;
        before = Some(run.last);
    }
    (1..=PARTITIONS_MAX).contains(&next)
}
