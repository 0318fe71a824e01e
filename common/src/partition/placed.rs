//! Cuts positions that only the source can tell into ranges of the numbers that stand for them.

use serde::{Deserialize, Serialize};

use super::ranges::{PARTITIONS_MAX, PartitionError, ascending_range};
use crate::cursor::{Cursor, CursorKind};
use crate::placing::PlacingId;
use crate::range::CursorRange;

/// The most parts that a hash cuts a table into: each of them reads all of it.
pub const HASH_PARTS_MAX: u64 = 1_000;

/// Ranges of the numbers of a rule. Numbered from 0, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Placed {
    id: PlacingId,
    cuts: PlacedCuts,
}

/// Where the numbers are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PlacedCuts {
    /// All 64-bit numbers into parts of one width, give or take one.
    Evenly(u64),
    /// At these numbers, which ascend.
    At(Vec<i64>),
}

impl Placed {
    /// Parts of one width of the numbers of a rule.
    #[must_use]
    pub fn evenly(id: PlacingId, parts: u64) -> Self {
        Self {
            id,
            cuts: PlacedCuts::Evenly(parts.clamp(1, PARTITIONS_MAX)),
        }
    }

    /// Parts between these numbers, which ascend, and beyond them.
    ///
    /// # Errors
    /// [`PartitionError`] when they do not.
    pub fn between(id: PlacingId, at: Vec<i64>) -> Result<Self, PartitionError> {
        let pairs = at.iter().zip(at.iter().skip(1));
        let ascend = pairs.into_iter().all(|(one, next)| one < next);
        match ascend && (at.len() as u64) < PARTITIONS_MAX {
            true => Ok(Self {
                id,
                cuts: PlacedCuts::At(at),
            }),
            false => Err(PartitionError::Stored("its bounds")),
        }
    }

    /// What the positions are.
    pub(super) const fn kind(&self) -> CursorKind {
        CursorKind::Placed(self.id)
    }

    /// How many partitions there are; at least one.
    pub(super) const fn len(&self) -> u64 {
        match &self.cuts {
            PlacedCuts::Evenly(parts) => *parts,
            PlacedCuts::At(at) => (at.len() as u64).saturating_add(1),
        }
    }

    /// Partition `no`, for `no < len()`. The first and the last are open.
    pub(super) fn range(&self, no: u64) -> CursorRange {
        let next = no.saturating_add(1);
        let start = (no > 0).then(|| self.boundary(no));
        let end = (next < self.len()).then(|| self.boundary(next));
        ascending_range(start, end)
    }

    /// Where part `no` begins, for `0 < no < len()`.
    fn boundary(&self, no: u64) -> Cursor {
        let at = match &self.cuts {
            PlacedCuts::Evenly(parts) => {
                // 2⁶⁴ numbers times a million parts fit into 128 bits, and each part has some.
                let behind = (1_i128 << 64)
                    .saturating_mul(i128::from(no))
                    .checked_div(i128::from(*parts))
                    .unwrap_or(0);
                let at = i128::from(i64::MIN).saturating_add(behind);
                i64::try_from(at).unwrap_or(i64::MAX)
            }
            PlacedCuts::At(at) => {
                let before = usize::try_from(no.saturating_sub(1)).unwrap_or(usize::MAX);
                at.get(before).copied().unwrap_or(i64::MAX)
            }
        };
        Cursor::Placed(self.id, at)
    }
}

/// The stored form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: PlacingId,
    cuts: PlacedCuts,
}

impl From<Placed> for Record {
    fn from(Placed { id, cuts }: Placed) -> Self {
        Self { id, cuts }
    }
}

impl TryFrom<Record> for Placed {
    type Error = PartitionError;

    fn try_from(Record { id, cuts }: Record) -> Result<Self, PartitionError> {
        match cuts {
            PlacedCuts::Evenly(1..=PARTITIONS_MAX) => Ok(Self { id, cuts }),
            PlacedCuts::Evenly(_) => Err(PartitionError::Stored("its parts")),
            PlacedCuts::At(at) => Self::between(id, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn id() -> PlacingId {
        "00000000000000a1".parse().expect("an id")
    }

    fn placed() -> impl Strategy<Value = Placed> {
        prop_oneof![
            (1_u64..2_000).prop_map(|parts| Placed::evenly(id(), parts)),
            btree_set(any::<i64>(), 0..50).prop_map(|at| {
                Placed::between(id(), at.into_iter().collect()).expect("they ascend")
            }),
        ]
    }

    proptest! {
        #[test]
        fn placed_parts_cover_every_number_once(cut in placed(), at in any::<i64>()) {
            let at = Cursor::Placed(cut.id, at);
            let last = cut.len() - 1;
            let holding = (0..=last).filter(|no| cut.range(*no).contains(at)).count();
            prop_assert_eq!(holding, 1);
            let adjacent = (1..=last).all(|no| cut.range(no - 1).end() == cut.range(no).start());
            prop_assert!(adjacent);
            prop_assert_eq!((cut.range(0).start(), cut.range(last).end()), (None, None));
            let text = serde_json::to_string(&cut).expect("it has a JSON form");
            prop_assert_eq!(serde_json::from_str::<Placed>(&text).expect("sound"), cut);
        }
    }

    #[test]
    fn a_stored_rule_that_places_no_row_or_one_twice_is_refused() {
        for cuts in [
            r#"{"evenly":0}"#,
            r#"{"evenly":18446744073709551615}"#,
            r#"{"at":[1,1]}"#,
            r#"{"at":[2,1]}"#,
        ] {
            let text = format!(r#"{{"id":"00000000000000a1","cuts":{cuts}}}"#);
            assert!(serde_json::from_str::<Placed>(&text).is_err(), "{text}");
        }
    }
}
