//! The tasks of a track that wait for their next attempt, kept by when something happens to them: a
//! million of them are walked neither by each turn of the leader nor by whoever looks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use highwater_common::record::RetryRecord;

use super::stored::Stored;

/// Records of tasks that wait, by ordinal; read like the map they are.
#[derive(Clone, Default)]
pub(crate) struct Retries {
    records: BTreeMap<u64, Stored<RetryRecord>>,
    /// When each is due, and which it is.
    due: BTreeSet<(i64, u64)>,
    /// Until when those that failed somewhere wait for another worker.
    avoiding: BTreeSet<(i64, u64)>,
}

impl std::fmt::Debug for Retries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.records.fmt(f) // the rest follows from it
    }
}

impl Deref for Retries {
    type Target = BTreeMap<u64, Stored<RetryRecord>>;

    fn deref(&self) -> &Self::Target {
        &self.records
    }
}

impl Retries {
    /// A task waits.
    pub(crate) fn insert(&mut self, ordinal: u64, held: Stored<RetryRecord>) {
        self.remove(&ordinal);
        self.due.insert((held.record.not_before_millis, ordinal));
        self.avoiding
            .extend(avoids_until(&held.record).map(|until| (until, ordinal)));
        self.records.insert(ordinal, held);
    }

    /// It waits no longer.
    pub(crate) fn remove(&mut self, ordinal: &u64) {
        let Some(held) = self.records.remove(ordinal) else {
            return;
        };
        self.due.remove(&(held.record.not_before_millis, *ordinal));
        if let Some(until) = avoids_until(&held.record) {
            self.avoiding.remove(&(until, *ordinal));
        }
    }

    /// Those that are due, the one that has been for longest first.
    pub(super) fn due(&self, now_millis: i64) -> impl Iterator<Item = u64> + '_ {
        self.due
            .range(..=(now_millis, u64::MAX))
            .map(|(_, ordinal)| *ordinal)
    }

    /// When the first of them is, or was, due.
    pub(super) fn first_due_millis(&self) -> Option<i64> {
        self.due.first().map(|(moment, _)| *moment)
    }

    /// Whether one of them waits for another worker than those on which it failed.
    pub(super) fn any_avoids(&self, now_millis: i64) -> bool {
        self.avoiding
            .last()
            .is_some_and(|(until, _)| *until > now_millis)
    }

    /// The next moment after this one at which one becomes due, or takes any worker.
    pub(crate) fn next_moment(&self, now_millis: i64) -> Option<i64> {
        let later = (now_millis.saturating_add(1), 0);
        let next = |moments: &BTreeSet<(i64, u64)>| {
            moments.range(later..).next().map(|(moment, _)| *moment)
        };
        next(&self.due)
            .into_iter()
            .chain(next(&self.avoiding))
            .min()
    }
}

/// How long, from when it is due, a task waits for another worker than those on which it failed.
pub(super) const AVOIDS_FOR_MILLIS: i64 = 30_000;

/// Until when a task waits for another worker; then anybody is better than nobody, for the others
/// may be stuck.
pub(crate) const fn avoids_until(retry: &RetryRecord) -> Option<i64> {
    match retry.history.failed_on.is_empty() {
        true => None,
        false => Some(retry.not_before_millis.saturating_add(AVOIDS_FOR_MILLIS)),
    }
}

#[cfg(test)]
mod tests;
