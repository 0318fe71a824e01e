//! Chunks: how much of a partition one commit takes where rows are appended, and how far the
//! commits of a task have come.
//!
//! A partition that is replaced is one chunk, because only a whole range can be emptied and counted
//! again. Rows that are appended may be committed bit by bit: the ledger's row says up to which
//! position they are there, and the next attempt goes on behind it.

use crate::assignment::Receipt;
use crate::cursor::Cursor;
use crate::range::{CursorRange, Slice};
use crate::spec::Chunk;

/// Rows of the first chunk of an attempt: few enough to be committed soon whatever a row weighs.
const FIRST_ROWS: u64 = 20_000;
/// Rows that a chunk has at least, unless `chunk.max_rows` is smaller: each costs a commit.
const LEAST_ROWS: u64 = 500;

/// How many rows the next chunk is to have. Follows the time and the bytes of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize(u64);

impl ChunkSize {
    /// The size of an attempt's first chunk.
    #[must_use]
    pub fn first(limits: &Chunk) -> Self {
        Self(FIRST_ROWS.clamp(1, limits.max_rows.max(1)))
    }

    /// Rows.
    #[must_use]
    pub const fn rows(self) -> u64 {
        self.0
    }

    /// Half of it, for a chunk that took a database too long; `None` for a single row.
    #[must_use]
    pub const fn half(self) -> Option<Self> {
        match self.0 / 2 {
            0 => None,
            half => Some(Self(half)),
        }
    }

    /// The size after a chunk of `rows` and `bytes` that took `millis`: what would have met the
    /// target in time and bytes, but at most double and at least half of this one.
    #[must_use]
    pub fn after(self, limits: &Chunk, rows: u64, bytes: u64, millis: u64) -> Self {
        let max = limits.max_rows.max(1);
        // One that was halved grows from where it is.
        let least = LEAST_ROWS.min(max).min(self.0);
        let target = u64::try_from(limits.target.as_millis()).unwrap_or(u64::MAX);
        let wanted = share(rows, target, millis).min(share(rows, limits.max_bytes, bytes));
        let near = wanted.clamp(self.0 / 2, self.0.saturating_mul(2));
        Self(near.clamp(least, max))
    }
}

/// `rows * wanted / found`; without anything found, as many as can be.
fn share(rows: u64, wanted: u64, found: u64) -> u64 {
    let share = u128::from(rows)
        .saturating_mul(u128::from(wanted))
        .checked_div(u128::from(found));
    share.map_or(u64::MAX, |share| u64::try_from(share).unwrap_or(u64::MAX))
}

/// How far the commits of a task have come, as its ledger row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// How many chunks are committed.
    pub chunks: u32,
    /// The first position of the slice that is not committed; `None` when nothing is.
    pub cursor: Option<Cursor>,
    /// What is committed.
    pub receipt: Receipt,
}

impl Reached {
    /// What is left of a slice; `None` when the position lies outside of it.
    #[must_use]
    pub fn rest_of(&self, slice: Slice) -> Option<Slice> {
        let Some(cursor) = self.cursor else {
            return Some(slice);
        };
        match slice {
            Slice::Null => None,
            Slice::Range(range) if range.contains(cursor) => {
                CursorRange::new(Some(cursor), range.end())
                    .ok()
                    .map(Slice::Range)
            }
            Slice::Range(_) => None,
        }
    }

    /// After one more chunk, which ends at `cursor`.
    #[must_use]
    pub fn and(self, chunk: Receipt, cursor: Cursor) -> Self {
        Self {
            chunks: self.chunks.saturating_add(1),
            cursor: Some(cursor),
            receipt: self.receipt.and(chunk),
        }
    }
}

/// The part of a range below `end`, or all of it when `end` does not cut it.
#[must_use]
pub fn below(rest: Slice, end: Option<Cursor>) -> (Slice, Option<Cursor>) {
    let cut = match (rest, end) {
        (Slice::Range(range), Some(end)) => range.split_at(end).map(|(below, _)| (below, end)),
        (Slice::Range(_) | Slice::Null, _) => None,
    };
    match cut {
        Some((below, end)) => (Slice::Range(below), Some(end)),
        None => (rest, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn limits(max_rows: u64) -> Chunk {
        Chunk {
            target: Duration::from_secs(10),
            max_rows,
            max_bytes: 64 << 20,
        }
    }

    #[test]
    fn a_chunk_grows_and_shrinks_towards_its_target_by_twos() {
        let limits = limits(500_000);
        let first = ChunkSize::first(&limits);
        assert_eq!(first.rows(), 20_000);
        // Fast and light: twice as many. Slow: half. Heavy: as many as the bytes allow.
        assert_eq!(first.after(&limits, 20_000, 1_000, 10).rows(), 40_000);
        assert_eq!(first.after(&limits, 20_000, 1_000, 60_000).rows(), 10_000);
        assert_eq!(first.after(&limits, 20_000, 80 << 20, 10).rows(), 16_000);
        assert_eq!(first.after(&limits, 20_000, 1_000, 8_000).rows(), 25_000);
        // Nothing was there: more are looked for.
        assert_eq!(first.after(&limits, 0, 0, 0).rows(), 40_000);
        assert_eq!(
            ChunkSize::first(&Chunk {
                max_rows: 7,
                ..limits
            })
            .rows(),
            7
        );
    }

    #[test]
    fn a_chunk_that_took_too_long_is_halved_down_to_a_row_and_grows_again_by_twos() {
        let limits = limits(500_000);
        let mut sizes = vec![ChunkSize::first(&limits)];
        while let Some(half) = sizes.last().and_then(|size| size.half()) {
            sizes.push(half);
        }
        let rows: Vec<u64> = sizes.iter().map(|size| size.rows()).collect();
        assert_eq!(rows[..3], [20_000, 10_000, 5_000]);
        assert_eq!(rows.last(), Some(&1));
        assert!(rows.windows(2).all(|pair| pair[1] == pair[0] / 2));
        // A fast chunk doubles it, a slow one leaves it where it is.
        assert_eq!(ChunkSize(10).after(&limits, 10, 100, 1).rows(), 20);
        assert_eq!(ChunkSize(10).after(&limits, 10, 100, 60_000).rows(), 10);
    }

    #[test]
    fn what_is_left_begins_where_the_commits_end() {
        let at = Cursor::Integer;
        let range = |start, end| {
            Slice::Range(CursorRange::new(Some(at(start)), Some(at(end))).expect("not empty"))
        };
        let reached = Reached::default();
        assert_eq!(reached.rest_of(range(0, 9)), Some(range(0, 9)));
        let reached = reached.and(Receipt { rows: 2, bytes: 3 }, at(4));
        assert_eq!(reached.rest_of(range(0, 9)), Some(range(4, 9)));
        assert_eq!(reached.rest_of(range(5, 9)), None);
        assert_eq!(reached.rest_of(Slice::Null), None);
        assert_eq!(below(range(0, 9), Some(at(4))), (range(0, 4), Some(at(4))));
        assert_eq!(below(range(0, 9), Some(at(9))), (range(0, 9), None));
        assert_eq!(below(Slice::Null, Some(at(4))), (Slice::Null, None));
    }

    proptest! {
        #[test]
        fn a_size_stays_within_its_limits(
            max_rows in 1_u64..2_000_000, steps in proptest::collection::vec(
                (0_u64..u64::MAX, 0_u64..u64::MAX, 0_u64..u64::MAX), 0..20),
        ) {
            let limits = limits(max_rows);
            let mut size = ChunkSize::first(&limits);
            for (rows, bytes, millis) in steps {
                size = size.after(&limits, rows, bytes, millis);
                prop_assert!((LEAST_ROWS.min(max_rows)..=max_rows).contains(&size.rows()));
            }
        }
    }
}
