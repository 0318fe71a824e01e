//! The partitions of a phase that moves rows: a rule, and what of it earlier runs have committed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::partition::{Partitioning, first_where};
use crate::range::{CursorRange, Slice};

/// The partitions of a table, expanded by ordinal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitions {
    partitioning: Partitioning,
    /// What earlier runs committed and this one leaves out; empty when everything is loaded again.
    covered: Coverage,
    tasks: u64,
}

impl Partitions {
    /// The partitions of a rule, without what is covered.
    #[must_use]
    pub fn new(partitioning: Partitioning, covered: Coverage) -> Self {
        // Counted by the edges of the covered ranges, not by the partitions.
        let mut tasks = partitioning.ranges();
        for range in covered.ranges(partitioning.kind()) {
            tasks = tasks.saturating_sub(contained(&partitioning, &range));
        }
        let has_null_task = partitioning.has_null() && !covered.null();
        Self {
            tasks: tasks.saturating_add(u64::from(has_null_task)),
            partitioning,
            covered,
        }
    }

    /// Of these, the rows without a position alone.
    #[must_use]
    pub fn only_null(self) -> Self {
        Self::new(self.partitioning, Coverage::of(&[CursorRange::ALL], false))
    }

    /// The rule behind the ordinals. A partition of it may be committed already, wholly or in part:
    /// [`Partitions::slice`] is what a task moves.
    #[must_use]
    pub const fn partitioning(&self) -> &Partitioning {
        &self.partitioning
    }

    /// What earlier runs committed and this one leaves out.
    #[must_use]
    pub const fn covered(&self) -> &Coverage {
        &self.covered
    }

    /// How many ordinals there are, those left out included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.partitioning.len()
    }

    /// True when there is no partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many partitions are loaded.
    #[must_use]
    pub const fn tasks_planned(&self) -> u64 {
        self.tasks
    }

    /// What the task of an ordinal moves: its partition without what earlier runs committed at its
    /// edges; `None` when they committed all of it, and beyond the last ordinal.
    #[must_use]
    pub fn slice(&self, ordinal: u64) -> Option<Slice> {
        match self.partitioning.partition(ordinal)? {
            Slice::Null => (!self.covered.null()).then_some(Slice::Null),
            Slice::Range(range) if self.covered.is_empty() => Some(Slice::Range(range)),
            Slice::Range(range) => {
                let gaps = self.covered.gaps(self.partitioning.kind(), &range);
                let (first, last) = (gaps.first()?, gaps.last()?);
                CursorRange::new(first.start(), last.end())
                    .ok()
                    .map(Slice::Range)
            }
        }
    }

    /// True when the partition of an ordinal is left out, because earlier runs committed all of it.
    #[must_use]
    pub fn skips(&self, ordinal: u64) -> bool {
        self.slice(ordinal).is_none()
    }

    /// How many ranges, from the first in the cursor's order and `from` of which are known to be,
    /// are committed without a gap; `is_committed` is asked for ordinals, and for each once.
    pub fn reached(&self, from: u64, is_committed: impl Fn(u64) -> bool) -> u64 {
        // Ordinals follow the declared order; ranges follow the cursor.
        let mut reached = from;
        while reached < self.partitioning.ranges()
            && is_committed(self.partitioning.ordinal_of(reached))
        {
            reached = reached.saturating_add(1);
        }
        reached
    }
}

/// How many partitions lie wholly within `range`.
fn contained(partitioning: &Partitioning, range: &CursorRange) -> u64 {
    let count = partitioning.ranges();
    // `None` is the least start; as an end it is the greatest.
    let first = first_where(count, |no| partitioning.range(no).start() >= range.start());
    let beyond = first_where(count, |no| {
        match (partitioning.range(no).end(), range.end()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(end), Some(limit)) => end > limit,
        }
    });
    beyond.saturating_sub(first)
}

/// The partitions in which a covered range begins or ends: at most two for each.
pub(super) fn cut_by_coverage(partitioning: &Partitioning, covered: &Coverage) -> BTreeSet<u64> {
    let edges = covered
        .ranges(partitioning.kind())
        .flat_map(|range| [range.start(), range.end()])
        .flatten();
    edges
        .filter_map(|edge| {
            let after = first_where(partitioning.ranges(), |no| {
                partitioning.range(no).start().is_some_and(|s| s >= edge)
            });
            let no = after.checked_sub(1)?;
            let inside = partitioning.range(no).split_at(edge).is_some();
            inside.then_some(no)
        })
        .collect()
}
