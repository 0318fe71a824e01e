//! What happened to tasks lately: a bounded ring that the leader keeps in memory, for people who
//! ask why.

use std::collections::VecDeque;

use highwater_common::document::EventDocument;
use highwater_common::id::{RunId, StepName};

use crate::engine::{Change, ChangeKind, Cluster, rfc3339};

/// Events that are remembered at the most.
const EVENTS_MAX: usize = 10_000;

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Events {
    next: u64,
    ring: VecDeque<(RunId, EventDocument)>,
}

impl Events {
    /// Remembers a change, as it is about to be applied to `cluster`: a lease that it ends is still
    /// there.
    pub(super) fn note(&mut self, cluster: &Cluster, change: &Change, now_micros: i64) {
        let Some(event) = describe(cluster, change) else {
            return;
        };
        self.next += 1;
        let event = EventDocument {
            seq: self.next,
            at: rfc3339(now_micros),
            ..event
        };
        self.ring.push_back((change.run, event));
        if self.ring.len() > EVENTS_MAX {
            self.ring.pop_front();
        }
    }

    /// The events of a run after `after`, oldest first.
    pub(super) fn of(
        &self,
        run: &RunId,
        step: Option<&StepName>,
        after: u64,
    ) -> Vec<EventDocument> {
        let of_run = self
            .ring
            .iter()
            .filter(|(of, event)| of == run && event.seq > after);
        of_run
            .map(|(_, event)| event)
            .filter(|event| step.is_none_or(|step| *step == event.step))
            .cloned()
            .collect()
    }
}

fn describe(cluster: &Cluster, change: &Change) -> Option<EventDocument> {
    let run = cluster.runs.get(&change.run)?;
    let held = run
        .table(&change.address)?
        .leases
        .get(&change.address.ordinal)
        .map(|held| &held.record);
    let (what, error, lease) = match &change.kind {
        ChangeKind::Assign(lease) => ("assigned", String::new(), Some(lease)),
        ChangeKind::Complete(_) => ("done", String::new(), held),
        ChangeKind::Delay(record) => ("failed", record.error.message.clone(), held),
        ChangeKind::Die(record) => ("dead", record.error.message.clone(), held),
        ChangeKind::Doubt(record) => ("in doubt", record.error.message.clone(), held),
        ChangeKind::Resolve { applied, reason } => (
            match applied {
                true => "resolved as applied",
                false => "resolved as not applied",
            },
            reason.clone(),
            None,
        ),
        ChangeKind::Accept(record) => ("accepted", record.accepted.clone(), None),
        ChangeKind::Release => ("released", String::new(), held),
        ChangeKind::Supersede => (
            "superseded",
            "planned again: others committed since the plan was made".to_owned(),
            held,
        ),
        ChangeKind::Reopen => ("reopened", String::new(), None),
        ChangeKind::FindLost => (
            "reopened",
            "the target is not as it was when this was done".to_owned(),
            None,
        ),
        ChangeKind::Revive => ("revived", String::new(), None),
    };
    Some(EventDocument {
        seq: 0,
        at: String::new(),
        step: change.address.step.clone(),
        work: run.work(&change.address)?.to_string(),
        attempt: lease.map_or(0, |lease| lease.attempt.get()),
        worker: lease.map_or_else(String::new, |lease| lease.worker.to_string()),
        what: what.to_owned(),
        error,
    })
}
