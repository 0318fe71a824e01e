//! Cuts ranges of whole numbers: at equal widths, or into parts of about equally many rows. Reckons
//! in `i128`, so the ends of the 64-bit numbers are no special case.

use serde::{Deserialize, Serialize};

use super::estimate;
use super::hops::{Hops, RAW_PARTS_MIN, Stretch, are_settled, settled};
use super::ranges::{PARTITIONS_MAX, PartitionError, ascending_range};
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
    /// Parts of one width that are one partition together, because nothing was found in them.
    joined: Vec<Stretch>,
    hops: Hops,
}

/// Where the inner bounds lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cuts {
    /// At `second`, where the second partition begins, and every `width` further.
    Width { second: i64, width: u64, parts: u64 },
    /// Runs of about equally many rows a part, adjacent and ascending. At most as many as a
    /// histogram has bounds.
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
        i128::from(self.last)
            .saturating_sub(i128::from(self.start))
            .saturating_add(1)
    }

    /// Where part `no` of the run begins: strictly ascending, because a run has no more parts than
    /// values.
    fn boundary(&self, no: u64) -> i128 {
        // Widths and numbers are of 64 bits, so 128 bits hold their product.
        let behind = self
            .width()
            .saturating_mul(i128::from(no))
            .checked_div(i128::from(self.parts))
            .unwrap_or(0);
        i128::from(self.start).saturating_add(behind)
    }
}

impl Integer {
    /// Ranges of `width` values: from the declared start, else from multiples of the width.
    ///
    /// # Errors
    /// [`PartitionError`] when the bounds contradict each other, or too many partitions would come
    /// of them.
    pub fn by_width(
        width: u64,
        start: Option<i64>,
        end: Option<i64>,
        facts: &PartitionFacts,
    ) -> Result<Self, PartitionError> {
        let width = width.max(1);
        let Some((low, last)) = bounds(start, end, facts)? else {
            return Ok(Self::of(
                start,
                end,
                Cuts::Width {
                    second: 0,
                    width,
                    parts: 1,
                },
            ));
        };
        let step = i128::from(width);
        let base = if start.is_some() {
            low
        } else {
            low.div_euclid(step).saturating_mul(step)
        };
        let part_of = |at: i128| u64::try_from(at.saturating_sub(base).div_euclid(step)).ok();
        let raw = part_of(last)
            .and_then(|last| last.checked_add(1))
            .ok_or_else(|| too_many(u64::MAX, low, last))?;
        // With one part there is no second one, whose start might even lie outside the 64-bit
        // numbers.
        let second = if raw > 1 {
            i64::try_from(base.saturating_add(step)).unwrap_or(i64::MAX)
        } else {
            0
        };
        let mut made = Self::of(
            start,
            end,
            Cuts::Width {
                second,
                width,
                parts: raw,
            },
        );
        if raw > RAW_PARTS_MIN {
            let ends = facts
                .empty
                .iter()
                .filter_map(|(low, high)| Some((integer(*low)?, integer(*high)?)));
            let stretches = ends
                .filter(|(low, high)| low < high)
                .filter_map(|(low, high)| {
                    let first = part_of(i128::from(low)).map_or(0, |part| part.saturating_add(1));
                    Some(Stretch {
                        first,
                        last: part_of(i128::from(high))?.checked_sub(1)?,
                    })
                });
            made.joined = settled(stretches, raw);
            made.number();
        }
        if made.len() > PARTITIONS_MAX {
            return Err(too_many(made.len(), low, last));
        }
        Ok(made)
    }

    /// Parts of about `rows_max` rows each, of a table of `rows`: cut by the histogram, where the
    /// server keeps one, else into even widths.
    ///
    /// # Errors
    /// [`PartitionError`] when the bounds contradict each other, or too many partitions would come
    /// of them.
    pub fn by_rows(
        rows: u64,
        rows_max: u64,
        start: Option<i64>,
        end: Option<i64>,
        facts: &PartitionFacts,
    ) -> Result<Self, PartitionError> {
        let Some((low, last)) = bounds(start, end, facts)? else {
            return Ok(Self::of(
                start,
                end,
                Cuts::Width {
                    second: 0,
                    width: 1,
                    parts: 1,
                },
            ));
        };
        let behind = last.saturating_add(1);
        let rows = estimate::rows_within(facts, rows, low, behind);
        let wanted = rows.div_ceil(rows_max.max(1)).max(1);
        if wanted > PARTITIONS_MAX {
            return Err(too_many(wanted, low, last));
        }
        let mut points = vec![low];
        for at in facts
            .histogram
            .iter()
            .filter_map(|at| integer(*at))
            .map(i128::from)
        {
            // A histogram may end with the largest value itself, which bounds no stretch of its
            // own.
            if points.last().is_some_and(|before| *before < at) && at < last {
                points.push(at);
            }
        }
        points.push(behind);
        Ok(Self::of(
            start,
            end,
            Cuts::Even {
                runs: runs(&points, wanted),
            },
        ))
    }

    const fn of(start: Option<i64>, end: Option<i64>, cuts: Cuts) -> Self {
        Self {
            start,
            end,
            cuts,
            joined: Vec::new(),
            hops: Hops::NONE,
        }
    }

    /// Puts down where the ordinals hop, once the joined parts are settled.
    fn number(&mut self) {
        self.hops = Hops::over(std::iter::empty(), &self.joined);
    }

    /// How many partitions there are; at least one.
    pub(super) fn len(&self) -> u64 {
        self.raw().saturating_sub(self.hops.left_out()).max(1)
    }

    /// How many parts there are, joined ones counted one by one.
    fn raw(&self) -> u64 {
        match &self.cuts {
            Cuts::Width { parts, .. } => *parts,
            Cuts::Even { runs } => runs
                .last()
                .map_or(1, |run| run.first.saturating_add(run.parts)),
        }
    }

    /// Partition `no`, for `no < len()`.
    pub(super) fn range(&self, no: u64) -> CursorRange {
        let next = no.saturating_add(1);
        let start = if no == 0 {
            self.start
        } else {
            Some(self.boundary(self.hops.raw(no)))
        };
        let end = if next >= self.len() {
            self.end
        } else {
            Some(self.boundary(self.hops.raw(next)))
        };
        ascending_range(start.map(Cursor::Integer), end.map(Cursor::Integer))
    }

    /// The whole range.
    pub(super) fn whole(&self) -> CursorRange {
        ascending_range(
            self.start.map(Cursor::Integer),
            self.end.map(Cursor::Integer),
        )
    }

    /// The stretches of more than one part that are one partition.
    pub(super) fn joined(&self) -> impl Iterator<Item = CursorRange> + '_ {
        let bounds = |stretch: &Stretch| {
            let end = self.boundary(stretch.last.saturating_add(1));
            (
                Some(Cursor::Integer(self.boundary(stretch.first))),
                Some(Cursor::Integer(end)),
            )
        };
        self.joined
            .iter()
            .filter_map(move |stretch| CursorRange::try_from(bounds(stretch)).ok())
    }

    /// Where part `no` begins, for `0 < no < raw()`. Every inner bound is at most the largest value
    /// found, or below the declared end, or was checked when it was read: all are 64-bit numbers.
    fn boundary(&self, no: u64) -> i64 {
        let at = self.exact_boundary(no);
        i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
    }

    fn exact_boundary(&self, no: u64) -> i128 {
        match &self.cuts {
            Cuts::Width { second, width, .. } => {
                let steps = i128::from(no).saturating_sub(1);
                i128::from(*second).saturating_add(i128::from(*width).saturating_mul(steps))
            }
            Cuts::Even { runs } => {
                let run = runs
                    .partition_point(|run| run.first <= no)
                    .saturating_sub(1);
                runs.get(run)
                    .map_or(0, |run| run.boundary(no.saturating_sub(run.first)))
            }
        }
    }
}

/// The first and the last value that bound the partitions; `None` where one open partition holds
/// everything.
fn bounds(
    start: Option<i64>,
    end: Option<i64>,
    facts: &PartitionFacts,
) -> Result<Option<(i128, i128)>, PartitionError> {
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        return Err(PartitionError::Empty {
            start: Cursor::Integer(start),
            end: Cursor::Integer(end),
        });
    }
    for at in [facts.min, facts.max].into_iter().flatten() {
        if at.kind() != CursorKind::Integer {
            return Err(PartitionError::Kind {
                at,
                kind: CursorKind::Integer,
            });
        }
    }
    let low = start.or(facts.min.and_then(integer)).map(i128::from);
    let last = end
        .map(|end| i128::from(end).saturating_sub(1))
        .or(facts.max.and_then(integer).map(i128::from));
    Ok(low.zip(last).filter(|(low, last)| low <= last))
}

/// Cuts the stretches between the points, which hold equally many rows each, into `wanted` parts:
/// several stretches become one part where there are more of them than parts, and a stretch never
/// gets more parts than it has values.
fn runs(points: &[i128], wanted: u64) -> Vec<Run> {
    let Some((first_point, ends)) = points.split_first() else {
        return Vec::new();
    };
    let stretches = ends.len() as u128;
    let share = |stretch: u128| {
        stretch
            .saturating_mul(u128::from(wanted))
            .checked_div(stretches)
            .unwrap_or(0)
    };
    let mut runs: Vec<Run> = Vec::new();
    let (mut first, mut start) = (0_u64, *first_point);
    for (stretch, end) in (0_u128..).zip(ends) {
        let parts = share(stretch.saturating_add(1)).saturating_sub(share(stretch));
        if parts == 0 {
            continue;
        }
        let values = u128::try_from(end.saturating_sub(start)).unwrap_or(1);
        let parts = u64::try_from(parts.min(values)).unwrap_or(1);
        // The points are 64-bit numbers, except for the last, which lies one beyond one.
        let number = |at: i128| i64::try_from(at).unwrap_or(i64::MAX);
        runs.push(Run {
            first,
            parts,
            start: number(start),
            last: number(end.saturating_sub(1)),
        });
        first = first.saturating_add(parts);
        start = *end;
    }
    runs
}

fn too_many(partitions: u64, low: i128, last: i128) -> PartitionError {
    let number = |at: i128| Cursor::Integer(i64::try_from(at).unwrap_or(i64::MAX));
    PartitionError::TooMany {
        partitions,
        low: number(low),
        high: number(last),
    }
}

fn integer(at: Cursor) -> Option<i64> {
    match at {
        Cursor::Integer(value) => Some(value),
        Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) | Cursor::Placed(..) => None,
    }
}

/// The stored form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    start: Option<i64>,
    end: Option<i64>,
    cuts: Cuts,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joined: Vec<Stretch>,
}

impl From<Integer> for Record {
    fn from(
        Integer {
            start,
            end,
            cuts,
            joined,
            hops: _,
        }: Integer,
    ) -> Self {
        Self {
            start,
            end,
            cuts,
            joined,
        }
    }
}

impl TryFrom<Record> for Integer {
    type Error = PartitionError;

    fn try_from(
        Record {
            start,
            end,
            cuts,
            joined,
        }: Record,
    ) -> Result<Self, PartitionError> {
        let sound = match &cuts {
            Cuts::Width { width, parts, .. } => {
                *width > 0 && *parts > 0 && are_settled(&joined, *parts)
            }
            Cuts::Even { runs } => are_sound(runs) && joined.is_empty(),
        };
        let mut integer = Self {
            joined,
            ..Self::of(start, end, cuts)
        };
        integer.number();
        let inner = |no: u64| {
            i64::try_from(integer.exact_boundary(no)).is_ok_and(|at| {
                start.is_none_or(|start| start < at) && end.is_none_or(|end| at < end)
            })
        };
        let raw = integer.raw();
        let empty = start.zip(end).is_some_and(|(start, end)| start >= end);
        let fits = sound && !empty && integer.len() <= PARTITIONS_MAX;
        if !fits || (raw > 1 && !(inner(1) && inner(raw.saturating_sub(1)))) {
            return Err(PartitionError::Stored("its cuts"));
        }
        Ok(integer)
    }
}

fn are_sound(runs: &[Run]) -> bool {
    let mut next = 0_u64;
    let mut before: Option<i64> = None;
    for run in runs {
        let adjacent = before.is_none_or(|last| last.checked_add(1) == Some(run.start));
        let full = run.parts > 0 && i128::from(run.parts) <= run.width();
        if run.first != next || !adjacent || !full || run.parts > PARTITIONS_MAX {
            return false;
        }
        next = next.saturating_add(run.parts);
        before = Some(run.last);
    }
    (1..=PARTITIONS_MAX).contains(&next)
}
