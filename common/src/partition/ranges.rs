//! What every rule holds to: how many partitions there may be, and why a range is not cut.

use super::zone::UnknownZone;
use crate::cursor::{Cursor, CursorKind};
use crate::range::CursorRange;
use crate::spec::Grain;

/// The most partitions of a step.
pub const PARTITIONS_MAX: u64 = 1_000_000;

/// Why a range cannot be cut as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// More partitions than [`PARTITIONS_MAX`].
    #[error(
        "{partitions} partitions from {low} to {high} are more than the {PARTITIONS_MAX} that \
             a step may have"
    )]
    TooMany {
        /// How many there would be.
        partitions: u64,
        /// From where.
        low: Cursor,
        /// To where.
        high: Cursor,
    },
    /// The end does not lie behind the start.
    #[error("the end {end} does not lie behind the start {start}")]
    Empty {
        /// The start.
        start: Cursor,
        /// The end.
        end: Cursor,
    },
    /// A position of another kind than the column's.
    #[error("{at} is no position of a column of kind {kind:?}")]
    Kind {
        /// The position.
        at: Cursor,
        /// The column's kind.
        kind: CursorKind,
    },
    /// The grain cannot cut a column of this kind.
    #[error("a column of kind {kind:?} cannot be cut by {grain:?}")]
    Grain {
        /// The column's kind.
        kind: CursorKind,
        /// The grain.
        grain: Grain,
    },
    /// A zone means nothing for positions that are no instants.
    #[error("a column of kind {kind:?} knows no zone, so it cannot be cut by the clock of {tz}")]
    ZoneWithoutInstants {
        /// The column's kind.
        kind: CursorKind,
        /// The zone asked for.
        tz: String,
    },
    /// There is no such zone.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
    /// The rules of a zone are no longer those that the partitions were made by.
    #[error("the rules of the time zone {tz} have changed since the plan was made")]
    ZoneChanged {
        /// The zone.
        tz: String,
    },
    /// A stored rule contradicts itself.
    #[error("a stored partition rule is damaged: {0}")]
    Stored(&'static str),
}

/// The range between two bounds of which the rules have made sure that they ascend.
#[expect(
    clippy::expect_used,
    reason = "a range made up in its place would lose rows, or load them twice, in silence"
)]
pub(super) fn ascending_range(start: Option<Cursor>, end: Option<Cursor>) -> CursorRange {
    CursorRange::new(start, end).expect("a rule's bounds ascend: it was checked when it was made")
}
