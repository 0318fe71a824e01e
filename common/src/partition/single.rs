//! One range that nothing cuts.

use serde::{Deserialize, Serialize};

use crate::cursor::CursorKind;
use crate::range::CursorRange;

/// A single range of positions of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Single {
    kind: CursorKind,
    range: CursorRange,
}

impl Single {
    /// The range, of positions of `kind` where it has no ends that tell.
    #[must_use]
    pub fn new(kind: CursorKind, range: CursorRange) -> Self {
        Self {
            kind: range.kind().unwrap_or(kind),
            range,
        }
    }

    /// What its positions are.
    #[must_use]
    pub const fn kind(&self) -> CursorKind {
        self.kind
    }

    /// The range.
    #[must_use]
    pub const fn range(&self) -> CursorRange {
        self.range
    }
}
