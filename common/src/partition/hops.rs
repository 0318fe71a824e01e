//! Raw parts of a rule that have no partition of their own: those that never were, and those that
//! were joined to the one before them because nothing lies in them. The list is short, so any
//! partition is still found by its ordinal.

use serde::{Deserialize, Serialize};

/// The most stretches that are joined; what the probe finds beyond that stays cut as the rule says.
pub(super) const STRETCHES_MAX: usize = 100;
/// A rule of fewer raw parts is not looked through: its empty parts cost next to nothing.
pub(super) const RAW_PARTS_MIN: u64 = 1_000;

/// Neighbouring raw parts, both ends included, that are one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Where numbering hops over raw parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hops {
    hops: Vec<Hop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hop {
    /// The first raw part hopped over.
    at: u64,
    /// How many earlier hops have left out.
    before: u64,
    count: u64,
}

impl Hops {
    /// No part is left out.
    pub(super) const NONE: Self = Self { hops: Vec::new() };

    /// The hops over single raw parts and over all but the first of each stretch. Both ascend.
    pub(super) fn over(single: impl Iterator<Item = u64>, stretches: &[Stretch]) -> Self {
        let joined = |part: &u64| {
            stretches
                .iter()
                .any(|stretch| stretch.first < *part && *part <= stretch.last)
        };
        let single = single.filter(|part| !joined(part)).map(|part| (part, part));
        let rest = stretches
            .iter()
            .map(|stretch| (stretch.first.saturating_add(1), stretch.last));
        let mut left_out: Vec<(u64, u64)> = single
            .chain(rest)
            .filter(|(first, last)| first <= last)
            .collect();
        left_out.sort_unstable();
        let mut before = 0_u64;
        let mut hops = Vec::with_capacity(left_out.len());
        for (at, last) in left_out {
            let count = last.saturating_sub(at).saturating_add(1);
            hops.push(Hop { at, before, count });
            before = before.saturating_add(count);
        }
        Self { hops }
    }

    /// How many raw parts have no number.
    pub(super) fn left_out(&self) -> u64 {
        self.hops
            .last()
            .map_or(0, |hop| hop.before.saturating_add(hop.count))
    }

    /// The raw part that partition `no` begins with.
    pub(super) fn raw(&self, no: u64) -> u64 {
        // A hop is passed by everything from its own place, less what was left out before it, on.
        let passed = self
            .hops
            .partition_point(|hop| hop.at.saturating_sub(hop.before) <= no);
        let last = passed.checked_sub(1).and_then(|last| self.hops.get(last));
        no.saturating_add(last.map_or(0, |hop| hop.before.saturating_add(hop.count)))
    }
}

/// The stretches that lie wholly between the first and the last of `raw` parts, ascending and
/// disjoint; of those offered in any order and quality. One of a single part is none.
pub(super) fn settled(offered: impl Iterator<Item = Stretch>, raw: u64) -> Vec<Stretch> {
    let Some(last) = raw.checked_sub(2) else {
        return Vec::new();
    };
    let inner = |stretch: Stretch| Stretch {
        first: stretch.first.max(1),
        last: stretch.last.min(last),
    };
    let mut offered: Vec<Stretch> = offered
        .map(inner)
        .filter(|stretch| stretch.first < stretch.last)
        .collect();
    // The widest are worth most, where there are more than can be kept.
    offered.sort_by_key(|stretch| {
        (
            std::cmp::Reverse(stretch.last.saturating_sub(stretch.first)),
            stretch.first,
        )
    });
    let mut kept: Vec<Stretch> = Vec::new();
    for stretch in offered {
        let is_apart = kept
            .iter()
            .all(|other| stretch.last < other.first || other.last < stretch.first);
        if is_apart && kept.len() < STRETCHES_MAX {
            kept.push(stretch);
        }
    }
    kept.sort_by_key(|stretch| stretch.first);
    kept
}

/// True for what [`settled`] gives.
pub(super) fn are_settled(stretches: &[Stretch], raw: u64) -> bool {
    settled(stretches.iter().copied(), raw) == stretches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbering_hops_over_exactly_what_is_left_out(
            single in prop::collection::btree_set(0_u64..200, 0..20),
            offered in prop::collection::vec((0_u64..200, 0_u64..200), 0..8),
        ) {
            // GIVEN parts that never were, and stretches to be joined, as they come
            let stretches = settled(offered.into_iter().map(|(first, last)| Stretch { first, last }), 200);
            prop_assert!(are_settled(&stretches, 200));
            // WHEN they are numbered
            let hops = Hops::over(single.iter().copied(), &stretches);
            // THEN the numbers are those of all others, in order
            let is_left_out = |part: &u64| {
                single.contains(part) || stretches.iter().any(|stretch| stretch.first < *part && *part <= stretch.last)
            };
            let numbered: Vec<u64> = (0..200).filter(|part| !is_left_out(part)).collect();
            prop_assert_eq!(hops.left_out(), 200 - numbered.len() as u64);
            for (no, raw) in (0..).zip(numbered) {
                prop_assert_eq!(hops.raw(no), raw);
            }
        }
    }
}
