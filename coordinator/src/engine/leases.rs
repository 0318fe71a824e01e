//! Who holds which task: derived from the leases of all tracks, and kept by task and by session, so
//! that a heartbeat looks at its own worker's tasks and at no others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_common::id::{RunId, SessionId, TaskId};
use highwater_common::record::TaskAddress;

/// Where an open task stands, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenLease {
    /// Its run.
    pub(crate) run: RunId,
    /// Its place in it.
    pub(crate) address: TaskAddress,
    /// Who has it.
    pub(crate) session: SessionId,
    /// Since when, by the leader's monotonic clock.
    pub(crate) since: Duration,
    /// What its attempt says that it does, while an answer takes long.
    pub(crate) doing: Option<Doing>,
}

/// What an attempt says that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doing {
    /// In words.
    pub(crate) words: String,
    /// Since when it says so, in milliseconds of the clock on the wall.
    pub(crate) since_millis: i64,
}

/// The open tasks of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    by_task: BTreeMap<TaskId, OpenLease>,
    by_session: BTreeMap<SessionId, BTreeSet<TaskId>>,
}

impl FromIterator<(TaskId, OpenLease)> for Leases {
    fn from_iter<I: IntoIterator<Item = (TaskId, OpenLease)>>(open: I) -> Self {
        let mut leases = Self::default();
        for (task, lease) in open {
            leases.insert(task, lease);
        }
        leases
    }
}

impl Leases {
    /// A task is open.
    pub(crate) fn insert(&mut self, task: TaskId, lease: OpenLease) {
        self.remove(&task);
        self.by_session
            .entry(lease.session)
            .or_default()
            .insert(task);
        self.by_task.insert(task, lease);
    }

    /// It is open no longer.
    pub(crate) fn remove(&mut self, task: &TaskId) {
        let Some(lease) = self.by_task.remove(task) else {
            return;
        };
        if let Some(tasks) = self.by_session.get_mut(&lease.session) {
            tasks.remove(task);
            if tasks.is_empty() {
                self.by_session.remove(&lease.session);
            }
        }
    }

    /// Forgets the tasks of a run.
    pub(crate) fn forget(&mut self, run: &RunId) {
        let gone: Vec<TaskId> = self
            .by_task
            .iter()
            .filter(|(_, lease)| lease.run == *run)
            .map(|(task, _)| *task)
            .collect();
        gone.iter().for_each(|task| self.remove(task));
    }

    /// Where an open task stands.
    pub(crate) fn get(&self, task: &TaskId) -> Option<&OpenLease> {
        self.by_task.get(task)
    }

    /// Notes what the attempts of a session say that they do: those that are not named say nothing.
    /// True when that is not what they said before.
    pub(crate) fn say(
        &mut self,
        session: &SessionId,
        mut said: BTreeMap<TaskId, String>,
        now_millis: i64,
    ) -> bool {
        let mut has_changed = false;
        for task in self.by_session.get(session).into_iter().flatten() {
            let Some(lease) = self.by_task.get_mut(task) else {
                continue;
            };
            let words = said.remove(task);
            if lease.doing.as_ref().map(|doing| &doing.words) != words.as_ref() {
                has_changed = true;
                lease.doing = words.map(|words| Doing {
                    words,
                    since_millis: now_millis,
                });
            }
        }
        has_changed
    }

    /// How many tasks are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_task.len()
    }

    /// Every open task.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.by_task.keys()
    }

    /// Those who hold any.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &SessionId> {
        self.by_session.keys()
    }

    /// What a session holds.
    pub(crate) fn held_by(
        &self,
        session: &SessionId,
    ) -> impl Iterator<Item = (&TaskId, &OpenLease)> {
        let tasks = self.by_session.get(session).into_iter().flatten();
        tasks.filter_map(|task| self.by_task.get_key_value(task))
    }

    /// How many tasks a session holds.
    pub(crate) fn busy(&self, session: &SessionId) -> usize {
        self.by_session.get(session).map_or(0, BTreeSet::len)
    }
}
