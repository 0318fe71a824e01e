//! How many rows a range holds, guessed from what the probe found. For people and for sizes, never for a decision about rows.

use crate::cursor::Cursor;
use crate::facts::PartitionFacts;
use crate::range::CursorRange;

/// A whole table in the unit of [`share_below`].
const WHOLE: i128 = 1_000_000_000;

/// About how many of a table's `rows` lie in `range`, if they lie as the histogram says, or evenly without one.
#[must_use]
pub fn rows_in(facts: &PartitionFacts, rows: u64, range: &CursorRange) -> u64 {
    let low = range.start().map_or(i128::MIN, number);
    let end = range.end().map_or(i128::MAX, number);
    rows_within(facts, rows, low, end)
}

/// Like [`rows_in`], for `[low, end)` in the column's own unit.
pub(super) fn rows_within(facts: &PartitionFacts, rows: u64, low: i128, end: i128) -> u64 {
    let (Some(min), Some(max)) = (facts.min, facts.max) else { return 0 };
    let mut points = vec![number(min)];
    let beyond = number(max) + 1;
    for at in facts.histogram.iter().copied().map(number) {
        // A histogram may end with the largest value itself, which bounds no stretch of its own.
        if points.last().is_some_and(|before| *before < at) && at < beyond - 1 {
            points.push(at);
        }
    }
    points.push(beyond);
    let share = share_below(&points, end) - share_below(&points, low);
    if share >= WHOLE {
        return rows;
    }
    // Rounded up, because a range that holds values is better not called empty.
    let rows_there = (i128::from(rows) * share.max(0) + WHOLE - 1) / WHOLE;
    u64::try_from(rows_there).unwrap_or(rows)
}

/// Which share of the table lies below `at`: between neighbouring points lie equally many rows.
fn share_below(points: &[i128], at: i128) -> i128 {
    let stretches = (points.len() - 1) as i128;
    let passed = points.partition_point(|point| *point <= at);
    if passed == 0 {
        return 0;
    }
    if passed == points.len() {
        return WHOLE;
    }
    let (from, to) = (points[passed - 1], points[passed]);
    let whole = (passed as i128 - 1) * WHOLE;
    (whole + (at - from) * WHOLE / (to - from)) / stretches
}

/// A position in its own unit.
fn number(at: Cursor) -> i128 {
    match at {
        Cursor::Integer(value) | Cursor::Instant(value) | Cursor::Civil(value) => i128::from(value),
        Cursor::Date(days) => i128::from(days),
    }
}
