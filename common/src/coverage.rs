//! What has been committed: ranges across runs, ordinals within one.
//!
//! Both are semilattices: merging is commutative, associative and idempotent, so neither the order
//! in which commits become known nor a repeat of one can matter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cursor::{Cursor, CursorKind};
use crate::id::DocumentDigest;
use crate::range::{CursorRange, Slice};

/// The committed ranges of a stream, and whether its rows without a position are.
///
/// Kept in one form only: by kind, ascending, disjoint and not adjacent. So two coverages are equal
/// when they cover the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Record", into = "Record")]
pub struct Coverage {
    kinds: BTreeMap<CursorKind, Vec<Span>>,
    null: bool,
}

/// A range of one kind of cursor, which unlike a [`CursorRange`] may be all of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: Option<Cursor>,
    end: Option<Cursor>,
}

/// What a range without ends is of, and of the rules by which sources place their rows, which are
/// too many to be listed: those are all covered where all of these are.
const KINDS: [CursorKind; 4] = [
    CursorKind::Integer,
    CursorKind::Instant,
    CursorKind::Civil,
    CursorKind::Date,
];

impl Coverage {
    /// The coverage of these ranges.
    #[must_use]
    pub fn of(ranges: &[CursorRange], null: bool) -> Self {
        let mut coverage = Self {
            kinds: BTreeMap::new(),
            null,
        };
        ranges.iter().for_each(|range| coverage.insert_range(range));
        coverage
    }

    /// Adds what a slice holds.
    pub fn insert(&mut self, slice: &Slice) {
        match slice {
            Slice::Range(range) => self.insert_range(range),
            Slice::Null => self.null = true,
        }
    }

    fn insert_range(&mut self, range: &CursorRange) {
        let span = Span {
            start: range.start(),
            end: range.end(),
        };
        match range.kind() {
            Some(kind) => insert(self.kinds.entry(kind).or_default(), span),
            None => KINDS
                .into_iter()
                .for_each(|kind| insert(self.kinds.entry(kind).or_default(), span)),
        }
    }

    /// Everything that either covers.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (kind, spans) in &other.kinds {
            let own = self.kinds.entry(*kind).or_default();
            spans.iter().for_each(|span| insert(own, *span));
        }
        self.null |= other.null;
        self
    }

    /// True when all of `slice` is covered, for positions of `kind`.
    #[must_use]
    pub fn contains(&self, kind: CursorKind, slice: &Slice) -> bool {
        match slice {
            Slice::Null => self.null,
            Slice::Range(range) => self.gaps(kind, range).is_empty(),
        }
    }

    /// The parts of `within` that are not covered, ascending, for positions of `kind`.
    #[must_use]
    pub fn gaps(&self, kind: CursorKind, within: &CursorRange) -> Vec<CursorRange> {
        let spans = self.spans(kind);
        let first = spans.partition_point(|span| ends_by(span.end, within.start()));
        let mut gaps = Vec::new();
        let mut from = within.start();
        for span in spans.iter().skip(first) {
            if let Some(start) = span.start
                && from.is_none_or(|from| from < start)
            {
                let end = within.end().map_or(start, |end| end.min(start));
                gaps.extend(CursorRange::new(from, Some(end)));
            }
            let Some(end) = span.end else { return gaps };
            from = Some(end);
            if within.end().is_some_and(|outside| outside <= end) {
                return gaps;
            }
        }
        gaps.extend(CursorRange::new(from, within.end()));
        gaps
    }

    /// The committed ranges of a kind, ascending and merged.
    pub fn ranges(&self, kind: CursorKind) -> impl Iterator<Item = CursorRange> + '_ {
        self.spans(kind)
            .iter()
            .filter_map(|span| CursorRange::new(span.start, span.end).ok())
    }

    /// What its ranges are of; of one without ends, every kind that a column's values may be of.
    pub fn kinds(&self) -> impl Iterator<Item = CursorKind> + '_ {
        let some = self.kinds.iter().filter(|(_, spans)| !spans.is_empty());
        some.map(|(kind, _)| *kind)
    }

    /// The committed ranges of a kind; where there are none, those of all others, so that it is not
    /// lost that something has been committed.
    #[must_use]
    pub fn told(&self, kind: CursorKind) -> Vec<CursorRange> {
        let own: Vec<CursorRange> = self.ranges(kind).collect();
        if !own.is_empty() {
            return own;
        }
        let others = self.kinds.values().flatten();
        others
            .filter_map(|span| CursorRange::new(span.start, span.end).ok())
            .collect()
    }

    /// Whether something is covered that positions of `kind` do not tell.
    #[must_use]
    pub fn has_others(&self, kind: CursorKind) -> bool {
        let is_other_rule =
            |other: &CursorKind| *other != kind && matches!(other, CursorKind::Placed(_));
        let mut some = self.kinds.iter().filter(|(_, spans)| !spans.is_empty());
        if !matches!(kind, CursorKind::Placed(rule) if rule.places_null()) {
            return some.any(|(other, _)| is_other_rule(other) || self.spans(kind).is_empty());
        }
        // Rows without a position of another rule have one of this rule: whether they are covered
        // goes with all others.
        match self.kinds.get(&kind).filter(|own| !own.is_empty()) {
            Some(own) => self.null && !is_all(own),
            None if self.has_all() => !self.null,
            None => self.null || some.next().is_some(),
        }
    }

    /// Whether the rows without a position are covered.
    #[must_use]
    pub const fn null(&self) -> bool {
        self.null
    }

    /// True when some position of `slice` is covered, or could be: a range without ends is of every
    /// kind.
    #[must_use]
    pub fn meets(&self, slice: &Slice) -> bool {
        let Slice::Range(range) = slice else {
            return self.null;
        };
        let meets =
            |span: &Span| !ends_by(span.end, range.start()) && !ends_by(range.end(), span.start);
        match range.kind() {
            Some(kind) => self.spans(kind).iter().any(meets),
            None => self.kinds.values().flatten().any(meets),
        }
    }

    /// The digest of what is covered: the same for equal coverages, however they came about.
    #[must_use]
    pub fn digest(&self) -> DocumentDigest {
        let text = serde_json::to_vec(self)
            .expect("a coverage is made of numbers and lists, which JSON can hold");
        DocumentDigest::of(&text)
    }

    /// True when nothing is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.null && self.kinds.values().all(Vec::is_empty)
    }

    /// Whether every position of every kind is covered.
    fn has_all(&self) -> bool {
        KINDS
            .iter()
            .all(|kind| self.kinds.get(kind).is_some_and(|spans| is_all(spans)))
    }

    fn spans(&self, kind: CursorKind) -> &[Span] {
        let own = |kind| self.kinds.get(&kind).map(Vec::as_slice);
        let all = || own(CursorKind::Integer).filter(|_| self.has_all());
        let of_any_rule = match kind {
            CursorKind::Placed(_) => all(),
            CursorKind::Integer | CursorKind::Instant | CursorKind::Civil | CursorKind::Date => {
                None
            }
        };
        of_any_rule.or_else(|| own(kind)).unwrap_or_default()
    }
}

/// Whether spans are every position of their kind.
const fn is_all(spans: &[Span]) -> bool {
    matches!(spans, [of] if of.start.is_none() && of.end.is_none())
}

/// Adds a span: everything that it overlaps or touches becomes one with it.
fn insert(spans: &mut Vec<Span>, span: Span) {
    // `None` is the least start and comes first in the order of `Option`; as an end it is the
    // greatest.
    let first = spans.partition_point(
        |other| matches!((other.end, span.start), (Some(end), Some(start)) if end < start),
    );
    let beyond = spans.partition_point(|other| {
        matches!((other.start, span.end), (Some(start), Some(end)) if start <= end)
            || other.start.is_none()
            || span.end.is_none()
    });
    let beyond = beyond.max(first); // what a span touches lies in one piece
    let touched = spans.get(first..beyond).unwrap_or_default();
    let start = touched
        .first()
        .map_or(span.start, |other| other.start.min(span.start));
    let end = touched.last().map_or(span.end, |other| {
        other.end.zip(span.end).map(|(a, b)| a.max(b))
    });
    spans.splice(first..beyond, [Span { start, end }]);
}

/// True when a span that ends there lies wholly before `start`.
fn ends_by(end: Option<Cursor>, start: Option<Cursor>) -> bool {
    matches!((end, start), (Some(end), Some(start)) if end <= start)
}

/// The stored form: what is stored is inserted again, so a document in another form still reads as
/// what it means.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    kinds: BTreeMap<CursorKind, Vec<Sides>>,
    null: bool,
}

/// The start and the end of a span.
type Sides = (Option<Cursor>, Option<Cursor>);

impl From<Coverage> for Record {
    fn from(coverage: Coverage) -> Self {
        let pairs = |spans: Vec<Span>| {
            spans
                .into_iter()
                .map(|span| (span.start, span.end))
                .collect()
        };
        Self {
            kinds: coverage
                .kinds
                .into_iter()
                .map(|(kind, spans)| (kind, pairs(spans)))
                .collect(),
            null: coverage.null,
        }
    }
}

impl From<Record> for Coverage {
    fn from(record: Record) -> Self {
        let mut coverage = Self {
            kinds: BTreeMap::new(),
            null: record.null,
        };
        for (kind, pairs) in record.kinds {
            let spans = coverage.kinds.entry(kind).or_default();
            for (start, end) in pairs {
                // A damaged pair covers nothing: what is not surely committed is loaded again.
                let of_kind = [start, end]
                    .into_iter()
                    .flatten()
                    .all(|at| at.kind() == kind);
                if of_kind && CursorRange::new(start, end).is_ok() {
                    insert(spans, Span { start, end });
                }
            }
        }
        coverage.kinds.retain(|_, spans| !spans.is_empty());
        coverage
    }
}

/// The committed ordinals of one step of one run: a bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrdinalSet {
    words: Vec<u64>,
}

impl OrdinalSet {
    /// Adds an ordinal.
    pub fn insert(&mut self, ordinal: u64) {
        let (word, bit) = place(ordinal);
        if self.words.len() <= word {
            self.words.resize(word.saturating_add(1), 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    /// True when the ordinal was added.
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        let (word, bit) = place(ordinal);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many ordinals were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// How many ordinals from 0 on are there without a hole.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        let full = self
            .words
            .iter()
            .take_while(|word| **word == u64::MAX)
            .count();
        let behind = self
            .words
            .get(full)
            .map_or(0, |word| u64::from(word.trailing_ones()));
        (full as u64).saturating_mul(64).saturating_add(behind)
    }

    /// Everything that either holds.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(own, word)| *own |= word);
        self
    }
}

fn place(ordinal: u64) -> (usize, u64) {
    (
        usize::try_from(ordinal / 64).unwrap_or(usize::MAX),
        1 << (ordinal % 64),
    )
}

#[cfg(test)]
mod tests;
