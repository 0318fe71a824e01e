//! The watermark: everything below it, from an origin on, is committed. Derived from coverage,
//! never set.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::cursor::{Cursor, CursorKind};
use crate::range::CursorRange;

/// How far the committed ranges reach from an origin without a hole. Grows with the coverage, never
/// falls (I7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watermark {
    /// Nothing is committed at the origin, which lies below every position.
    Nothing,
    /// Everything from the origin up to here, which is the first position not committed.
    At(Cursor),
    /// Everything from the origin on.
    Everything,
}

impl Watermark {
    /// The watermark of a coverage, from `origin`, the first position wanted; `None` wants
    /// everything.
    #[must_use]
    pub fn of(coverage: &Coverage, kind: CursorKind, origin: Option<Cursor>) -> Self {
        let wanted = CursorRange::new(origin, None).unwrap_or(CursorRange::ALL);
        match coverage.gaps(kind, &wanted).first() {
            None => Self::Everything,
            Some(gap) => gap.start().map_or(Self::Nothing, Self::At),
        }
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::At(at) => write!(f, "below {at}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}
