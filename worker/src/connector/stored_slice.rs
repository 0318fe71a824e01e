//! How a ledger holds slices and positions, on every engine, and what its committed slices cover.
//! Never orders anything but the raw numbers of one kind of position.

use std::borrow::Cow;

use highwater_common::coverage::Coverage;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::range::{CursorRange, Slice};

/// A slice as three columns: what kind its positions are, and the raw numbers of its ends, open
/// where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connector) struct StoredSlice {
    pub(in crate::connector) kind: Cow<'static, str>,
    pub(in crate::connector) start: Option<i64>,
    pub(in crate::connector) end: Option<i64>,
}

/// The kind of the range that has no ends, and so no kind of position.
pub(in crate::connector) const ALL: &str = "all";
/// The kind of a task that is of no slice: it puts rows in the place of all others.
const TABLE: &str = "table";
/// The kind of the rows without a position.
pub(in crate::connector) const NULL: &str = "null";

impl StoredSlice {
    /// What a claim says of its task.
    pub(in crate::connector) fn of_task(slice: Option<&Slice>) -> Self {
        slice.map_or(
            Self {
                kind: Cow::Borrowed(TABLE),
                start: None,
                end: None,
            },
            Self::of,
        )
    }

    pub(in crate::connector) fn of(slice: &Slice) -> Self {
        match slice {
            Slice::Null => Self {
                kind: Cow::Borrowed(NULL),
                start: None,
                end: None,
            },
            Slice::Range(range) => Self {
                kind: range.kind().map_or(Cow::Borrowed(ALL), kind_text),
                start: range.start().map(raw),
                end: range.end().map(raw),
            },
        }
    }
}

/// The slice of the ledger's three columns; `None` of a task that is of none, and for one that no
/// version has written.
pub(in crate::connector) fn stored_slice(
    kind: &str,
    start: Option<i64>,
    end: Option<i64>,
) -> Option<Slice> {
    match kind {
        NULL => Some(Slice::Null),
        ALL => Some(Slice::Range(CursorRange::ALL)),
        other => {
            let kind = other.parse().ok()?;
            let at = |raw: Option<i64>| raw.and_then(|raw| cursor(kind, raw));
            CursorRange::new(at(start), at(end)).ok().map(Slice::Range)
        }
    }
}

/// The ledger's word for a kind of position.
pub(in crate::connector) fn kind_text(kind: CursorKind) -> Cow<'static, str> {
    match kind {
        CursorKind::Integer => Cow::Borrowed("integer"),
        CursorKind::Instant => Cow::Borrowed("instant"),
        CursorKind::Civil => Cow::Borrowed("civil"),
        CursorKind::Date => Cow::Borrowed("date"),
        CursorKind::Placed(_) => Cow::Owned(kind.to_string()),
    }
}

pub(in crate::connector) fn raw(at: Cursor) -> i64 {
    match at {
        Cursor::Integer(raw)
        | Cursor::Instant(raw)
        | Cursor::Civil(raw)
        | Cursor::Placed(_, raw) => raw,
        Cursor::Date(days) => i64::from(days),
    }
}

/// A position with its kind, as the ledger holds how far a task has come: `integer:17`.
pub(in crate::connector) fn cursor_text(at: Cursor) -> String {
    format!("{}:{}", kind_text(at.kind()), raw(at))
}

/// The position of a text of [`cursor_text`]; `None` for one that no version has written.
pub(in crate::connector) fn stored_cursor(text: &str) -> Option<Cursor> {
    let (kind, at) = text.rsplit_once(':')?;
    cursor(kind.parse().ok()?, at.parse().ok()?)
}

/// The position that a ledger or an answer holds as a raw number; `None` for a day out of range.
pub(in crate::connector) fn cursor(kind: CursorKind, raw: i64) -> Option<Cursor> {
    match kind {
        CursorKind::Integer => Some(Cursor::Integer(raw)),
        CursorKind::Instant => Some(Cursor::Instant(raw)),
        CursorKind::Civil => Some(Cursor::Civil(raw)),
        CursorKind::Date => i32::try_from(raw).ok().map(Cursor::Date),
        CursorKind::Placed(id) => Some(Cursor::Placed(id, raw)),
    }
}

/// Merges ranges that come in ascending order of their starts, open starts first.
#[derive(Debug)]
pub(in crate::connector) struct RangeMerger {
    kind: CursorKind,
    merged: Vec<(Option<i64>, Option<i64>)>,
    /// Whether one of them was without ends by itself.
    has_whole: bool,
}

impl RangeMerger {
    pub(in crate::connector) const fn new(kind: CursorKind) -> Self {
        Self {
            kind,
            merged: Vec::new(),
            has_whole: false,
        }
    }

    /// Takes the next range.
    pub(in crate::connector) fn push(&mut self, start: Option<i64>, end: Option<i64>) {
        self.has_whole |= start.is_none() && end.is_none();
        let Some((_, last_end)) = self.merged.last_mut() else {
            self.merged.push((start, end));
            return;
        };
        match (*last_end, start) {
            // It touches or overlaps the last one, or starts open like it.
            (None, _) | (_, None) => *last_end = later(*last_end, end),
            (Some(reached), Some(start)) if start <= reached => *last_end = later(*last_end, end),
            (Some(_), Some(start)) => self.merged.push((Some(start), end)),
        }
    }

    /// How many ranges it has become.
    pub(in crate::connector) fn len(&self) -> usize {
        self.merged.len()
    }

    /// The ranges, ascending, none touching the next.
    pub(in crate::connector) fn finish(self) -> Vec<CursorRange> {
        let at = |raw: Option<i64>| raw.and_then(|raw| cursor(self.kind, raw));
        self.merged
            .iter()
            .filter_map(|(start, end)| CursorRange::new(at(*start), at(*end)).ok())
            .collect()
    }
}

/// What a stream's receipts cover: the ranges of one kind, and of others, where there are none, the
/// first, so that it is not lost that something has been committed.
pub(in crate::connector) fn covering(
    merger: RangeMerger,
    other: Option<Slice>,
    null: bool,
) -> Coverage {
    // A hash has a place for the rows without a value, too: where all of its parts are there, nothing
    // is left.
    let is_placed =
        matches!(merger.kind, CursorKind::Placed(rule) if rule.places_null()) && !merger.has_whole;
    let own = merger.finish();
    let mut coverage = Coverage::of(&own, null || (is_placed && own == [CursorRange::ALL]));
    if own.is_empty() {
        other.iter().for_each(|other| coverage.insert(other));
    }
    coverage
}

/// The later of two ends, of which an open one is the latest.
fn later(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.zip(b).map(|(a, b)| a.max(b))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn merge(mut ranges: Vec<(Option<i64>, Option<i64>)>) -> Vec<CursorRange> {
        ranges.sort();
        let mut merger = RangeMerger::new(CursorKind::Integer);
        ranges
            .into_iter()
            .for_each(|(start, end)| merger.push(start, end));
        merger.finish()
    }

    #[test]
    fn a_ledgers_words_mean_what_they_meant() {
        // GIVEN the words that ledgers hold THEN each stands for its kind, and comes back
        for (kind, word) in [
            (CursorKind::Integer, "integer"),
            (CursorKind::Instant, "instant"),
            (CursorKind::Civil, "civil"),
            (CursorKind::Date, "date"),
            (
                CursorKind::Placed("00c0ffee00c0ffee".parse().expect("an id")),
                "placed:00c0ffee00c0ffee",
            ),
        ] {
            assert_eq!(kind_text(kind), word);
            let at = |raw| cursor(kind, raw).expect("in range");
            let range = CursorRange::new(Some(at(3)), Some(at(7))).expect("not empty");
            assert_eq!(
                stored_slice(word, Some(3), Some(7)),
                Some(Slice::Range(range))
            );
            assert_eq!(cursor_text(at(3)), format!("{word}:3"));
            assert_eq!(stored_cursor(&format!("{word}:3")), Some(at(3)));
        }
        assert_eq!(stored_slice("lunar", Some(3), Some(7)), None);
        assert_eq!(stored_cursor("lunar:3"), None);
        assert_eq!(stored_cursor("integer:three"), None);
        assert_eq!(stored_slice(NULL, None, None), Some(Slice::Null));
    }

    #[test]
    fn a_merger_counts_what_it_keeps_apart() {
        let mut merger = RangeMerger::new(CursorKind::Integer);
        assert_eq!(merger.len(), 0);
        merger.push(Some(1), Some(2));
        merger.push(Some(2), Some(3));
        assert_eq!(merger.len(), 1);
        merger.push(Some(4), Some(5));
        merger.push(Some(6), Some(7));
        assert_eq!(merger.len(), 3);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let range = |start, end| {
            CursorRange::new(
                Option::map(start, Cursor::Integer),
                Option::map(end, Cursor::Integer),
            )
            .expect("not empty")
        };
        assert_eq!(
            merge(vec![(Some(5), Some(9)), (Some(1), Some(5))]),
            vec![range(Some(1), Some(9))]
        );
        assert_eq!(
            merge(vec![(None, Some(3)), (Some(4), None)]),
            vec![range(None, Some(3)), range(Some(4), None)]
        );
        assert_eq!(
            merge(vec![(None, None), (Some(4), Some(5))]),
            vec![CursorRange::ALL]
        );
    }

    proptest! {
        #[test]
        fn merged_ranges_hold_what_the_ranges_held(ranges in vec((-20_i64..20, 1_i64..9), 0..12), at in -25_i64..35) {
            let ranges: Vec<_> = ranges.iter().map(|(start, width)| (Some(*start), Some(start + width))).collect();
            let held = ranges.iter().any(|(start, end)| *start <= Some(at) && Some(at) < *end);
            let merged = merge(ranges);
            prop_assert_eq!(merged.iter().any(|range| range.contains(Cursor::Integer(at))), held);
            prop_assert!(merged.windows(2).all(|pair| pair[0].end() < pair[1].start()));
        }
    }
}
