//! How many rows a range holds, guessed from what the probe found. For people and for sizes, never
//! for a decision about rows.

use crate::cursor::Cursor;
use crate::facts::PartitionFacts;
use crate::placing::{KeyPlacing, Placing};
use crate::range::CursorRange;

/// A whole table in the unit of [`share_below`].
const WHOLE: i128 = 1_000_000_000;

/// About how many of a table's `rows` lie in `range`, if they lie as the histogram says, or evenly
/// without one.
#[must_use]
pub fn rows_in(facts: &PartitionFacts, rows: u64, range: &CursorRange) -> u64 {
    if let Some(Placing::Keys(keys)) = &facts.placing {
        return rows_between(keys, rows, range);
    }
    let low = range.start().map_or(i128::MIN, number);
    let end = range.end().map_or(i128::MAX, number);
    rows_within(facts, rows, low, end)
}

/// Between two bounds of a key lie about equally many rows.
fn rows_between(keys: &KeyPlacing, rows: u64, range: &CursorRange) -> u64 {
    let before = |at: Cursor| {
        keys.bounds
            .partition_point(|bound| i128::from(bound.number) < number(at))
    };
    let all = keys.bounds.len().saturating_add(1);
    let first = range
        .start()
        .map_or(0, |start| before(start).saturating_add(1));
    let behind = range.end().map_or(all, |end| before(end).saturating_add(1));
    let parts = behind.saturating_sub(first) as u128;
    let share = u128::from(rows).saturating_mul(parts).div_ceil(all as u128);
    u64::try_from(share).unwrap_or(rows)
}

/// Like [`rows_in`], for `[low, end)` in the column's own unit.
pub(super) fn rows_within(facts: &PartitionFacts, rows: u64, low: i128, end: i128) -> u64 {
    // Nobody looked for bounds that are declared: perhaps all rows lie between them. An empty table
    // has no rows anyway.
    let (Some(min), Some(max)) = (facts.min, facts.max) else {
        return rows;
    };
    let (least, last) = (number(min), number(max));
    if last < least {
        return 0; // such facts say nothing
    }
    let mut points = vec![least];
    for at in facts.histogram.iter().copied().map(number) {
        // A histogram may end with the largest value itself, which bounds no stretch of its own.
        if points.last().is_some_and(|before| *before < at) && at < last {
            points.push(at);
        }
    }
    points.push(last.saturating_add(1));
    let share = share_below(&points, end).saturating_sub(share_below(&points, low));
    if share >= WHOLE {
        return rows;
    }
    // Rounded up, because a range that holds values is better not called empty.
    let rows_there = i128::from(rows)
        .saturating_mul(share.max(0))
        .saturating_add(WHOLE.saturating_sub(1))
        / WHOLE;
    u64::try_from(rows_there).unwrap_or(rows)
}

/// Which share of the table lies below `at`: between neighbouring points, of which there are two or
/// more, ascending, lie equally many rows.
fn share_below(points: &[i128], at: i128) -> i128 {
    let passed = points.partition_point(|point| *point <= at);
    let stretch = passed.checked_sub(1);
    let (Some(stretch), Some(from)) = (stretch, stretch.and_then(|no| points.get(no))) else {
        return 0;
    };
    let Some(to) = points.get(passed) else {
        return WHOLE;
    };
    let stretches = points.len().saturating_sub(1).max(1) as i128;
    let whole = (stretch as i128).saturating_mul(WHOLE);
    // The points ascend, so no width is nothing; the widest is that of the 64-bit numbers, which
    // 128 bits hold times WHOLE.
    let part = at
        .saturating_sub(*from)
        .saturating_mul(WHOLE)
        .checked_div(to.saturating_sub(*from))
        .unwrap_or(0);
    whole
        .saturating_add(part)
        .checked_div(stretches)
        .unwrap_or(0)
}

/// A position in its own unit.
fn number(at: Cursor) -> i128 {
    match at {
        Cursor::Integer(value)
        | Cursor::Instant(value)
        | Cursor::Civil(value)
        | Cursor::Placed(_, value) => i128::from(value),
        Cursor::Date(days) => i128::from(days),
    }
}
