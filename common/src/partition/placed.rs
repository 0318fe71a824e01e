//! Cuts positions that only the source can tell into ranges of the numbers that stand for them.

use serde::{Deserialize, Serialize};

use super::ranges::{PARTITIONS_MAX, PartitionError, ascending_range};
use crate::cursor::{Cursor, CursorKind};
use crate::placing::PlacingId;
use crate::range::CursorRange;

/// The most parts that a hash cuts a table into: each of them reads all of it.
pub const HASH_PARTS_MAX: u64 = 1_000;

/// Parts of all 64-bit numbers, of one width, give or take one. Numbered from 0, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Placed {
    id: PlacingId,
    parts: u64,
}

impl Placed {
    /// Of the positions of a rule.
    #[must_use]
    pub fn evenly(id: PlacingId, parts: u64) -> Self {
        Self {
            id,
            parts: parts.clamp(1, PARTITIONS_MAX),
        }
    }

    /// What the positions are.
    pub(super) const fn kind(&self) -> CursorKind {
        CursorKind::Placed(self.id)
    }

    /// How many partitions there are; at least one.
    pub(super) const fn len(&self) -> u64 {
        self.parts
    }

    /// Partition `no`, for `no < len()`. The first and the last are open.
    pub(super) fn range(&self, no: u64) -> CursorRange {
        let next = no.saturating_add(1);
        let start = (no > 0).then(|| self.boundary(no));
        let end = (next < self.parts).then(|| self.boundary(next));
        ascending_range(start, end)
    }

    /// Where part `no` begins, for `0 < no < len()`: at least 2⁶⁴ / [`PARTITIONS_MAX`] behind the one
    /// before.
    fn boundary(&self, no: u64) -> Cursor {
        // 2⁶⁴ numbers times a million parts fit into 128 bits.
        let behind = (1_i128 << 64)
            .saturating_mul(i128::from(no))
            .checked_div(i128::from(self.parts))
            .unwrap_or(0);
        let at = i128::from(i64::MIN).saturating_add(behind);
        Cursor::Placed(self.id, i64::try_from(at).unwrap_or(i64::MAX))
    }
}

/// The stored form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: PlacingId,
    parts: u64,
}

impl From<Placed> for Record {
    fn from(Placed { id, parts }: Placed) -> Self {
        Self { id, parts }
    }
}

impl TryFrom<Record> for Placed {
    type Error = PartitionError;

    fn try_from(Record { id, parts }: Record) -> Result<Self, PartitionError> {
        match parts {
            1..=PARTITIONS_MAX => Ok(Self { id, parts }),
            _ => Err(PartitionError::Stored("its parts")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(parts: u64) -> Placed {
        Placed::evenly("00000000000000a1".parse().expect("an id"), parts)
    }

    proptest! {
        #[test]
        fn parts_of_a_hash_cover_every_number_once(parts in 1_u64..2_000, at in any::<i64>()) {
            let cut = placed(parts);
            let at = Cursor::Placed(cut.id, at);
            let holding = (0..cut.len()).filter(|no| cut.range(*no).contains(at)).count();
            prop_assert_eq!(holding, 1);
            let adjacent = (1..cut.len()).all(|no| cut.range(no - 1).end() == cut.range(no).start());
            prop_assert!(adjacent);
            prop_assert_eq!((cut.range(0).start(), cut.range(parts - 1).end()), (None, None));
        }
    }

    #[test]
    fn a_stored_rule_without_parts_is_refused() {
        let text = serde_json::to_string(&placed(7)).expect("it has a JSON form");
        assert_eq!(
            serde_json::from_str::<Placed>(&text).expect("sound"),
            placed(7)
        );
        for parts in ["0", "18446744073709551615"] {
            let damaged = text.replace("\"parts\":7", &format!("\"parts\":{parts}"));
            assert!(
                serde_json::from_str::<Placed>(&damaged).is_err(),
                "{damaged}"
            );
        }
    }
}
