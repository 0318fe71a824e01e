//! Half-open ranges of cursors, and slices: what one partition of a dataset holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cursor::{Cursor, CursorKind};

/// `[start, end)`: `end` is the first position outside. A missing side is open. Never empty: `start
/// < end`, always, and both of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    try_from = "(Option<Cursor>, Option<Cursor>)",
    into = "(Option<Cursor>, Option<Cursor>)"
)]
pub struct CursorRange {
    start: Option<Cursor>,
    end: Option<Cursor>,
}

/// Why two positions make no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The end does not lie behind the start.
    #[error("{end} does not lie behind {start}")]
    Empty {
        /// The start as given.
        start: Cursor,
        /// The end as given.
        end: Cursor,
    },
    /// The two positions are of different kinds.
    #[error("{start} and {end} are positions of different kinds")]
    Kinds {
        /// The start as given.
        start: Cursor,
        /// The end as given.
        end: Cursor,
    },
}

impl CursorRange {
    /// Everything that has a position, (−∞, +∞).
    pub const ALL: Self = Self {
        start: None,
        end: None,
    };

    /// `[start, end)`, open where a side is `None`.
    ///
    /// # Errors
    /// [`RangeError`] when the range would be empty or mixes kinds.
    pub fn new(start: Option<Cursor>, end: Option<Cursor>) -> Result<Self, RangeError> {
        if let (Some(start), Some(end)) = (start, end) {
            if start.kind() != end.kind() {
                return Err(RangeError::Kinds { start, end });
            }
            if start >= end {
                return Err(RangeError::Empty { start, end });
            }
        }
        Ok(Self { start, end })
    }

    /// The first position inside, or `None` when everything below `end` is.
    #[must_use]
    pub const fn start(&self) -> Option<Cursor> {
        self.start
    }

    /// The first position outside, or `None` when everything from `start` is inside.
    #[must_use]
    pub const fn end(&self) -> Option<Cursor> {
        self.end
    }

    /// The kind of the range's positions; `None` for (−∞, +∞), which has all.
    #[must_use]
    pub fn kind(&self) -> Option<CursorKind> {
        self.start.or(self.end).map(Cursor::kind)
    }

    /// True when `at` lies inside.
    #[must_use]
    pub fn contains(&self, at: Cursor) -> bool {
        self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at < end)
    }

    /// Both halves, or `None` unless `at` lies strictly inside.
    #[must_use]
    pub fn split_at(self, at: Cursor) -> Option<(Self, Self)> {
        let inside =
            self.start.is_none_or(|start| start < at) && self.end.is_none_or(|end| at < end);
        inside.then_some((
            Self {
                start: self.start,
                end: Some(at),
            },
            Self {
                start: Some(at),
                end: self.end,
            },
        ))
    }
}

impl TryFrom<(Option<Cursor>, Option<Cursor>)> for CursorRange {
    type Error = RangeError;

    fn try_from((start, end): (Option<Cursor>, Option<Cursor>)) -> Result<Self, RangeError> {
        Self::new(start, end)
    }
}

impl From<CursorRange> for (Option<Cursor>, Option<Cursor>) {
    fn from(range: CursorRange) -> Self {
        (range.start, range.end)
    }
}

impl fmt::Display for CursorRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start {
            Some(start) => write!(f, "[{start}, ")?,
            None => f.write_str("(-inf, ")?,
        }
        match self.end {
            Some(end) => write!(f, "{end})"),
            None => f.write_str("+inf)"),
        }
    }
}

/// What one partition of a dataset holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// The rows whose partition column lies in the range.
    Range(CursorRange),
    /// The rows whose partition column is NULL.
    Null,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Null => f.write_str("NULL"),
        }
    }
}
