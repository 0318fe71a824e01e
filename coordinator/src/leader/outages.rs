//! Connections that are away: what an attempt that could not reach one means, and what shows that
//! it is back.

use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::id::{SessionId, TaskId};
use highwater_common::outage::breaks_an_attempt;
use highwater_common::record::{RetryRecord, TaskHistory};
use highwater_common::retry::BREAKS_MAX;

use super::Leader;
use super::batch::Planned;
use crate::engine::{Change, ChangeKind, Reach, spoken};

impl Leader {
    /// The task of an attempt that could not reach a connection goes back, with no attempt counted,
    /// and waits for the connection.
    ///
    /// # Errors
    /// The error, when the attempt counts like any other: another error, a connection that the task
    /// has no business with, one that is given up, or one that breaks under this very task again
    /// and again.
    pub(super) fn held_back(
        &mut self,
        task: &TaskId,
        error: AttemptError,
        mut history: TaskHistory,
        jitter: f64,
    ) -> Result<Planned, AttemptError> {
        let now_millis = self.clock.wall_millis();
        let Some(connection) = error
            .connection
            .clone()
            .filter(|_| error.class == ErrorClass::Unreachable)
        else {
            return Err(error);
        };
        let Some((lease, run)) = self.lease(task) else {
            return Err(error);
        };
        let (address, attempt, id, spec) = (
            lease.address.clone(),
            lease.attempt,
            run.id,
            Arc::clone(&run.spec),
        );
        let intent = run.record.intent;
        let Some(known) = spec.steps.get(&address.step) else {
            return Err(error);
        };
        let Some(kind) = run.kind(&address) else {
            return Err(error);
        };
        let reach = Reach::of(known, intent, kind);
        if !reach.connections.contains(&connection) {
            return Err(error);
        }
        let Some(run) = self.cluster.runs.get_mut(&id) else {
            return Err(error);
        };
        run.outages
            .failed(&connection, &address, now_millis, jitter);
        let lasted = run
            .outages
            .of(&connection)
            .map(|outage| outage.lasted(now_millis))
            .unwrap_or_default();
        tracing::info!(run = %id, %connection, ?lasted, error = %error.message, "a connection is \
            away");
        if let Some(limit) = reach.limit.filter(|limit| lasted >= *limit) {
            let who = if limit < known.retries.unreachable {
                "a plan"
            } else {
                "`retries.unreachable`"
            };
            let (lasted, limit) = (spoken(lasted), spoken(limit));
            let message = format!(
                "{connection} was unreachable for {lasted}, and {who} gives it {limit}: {}",
                error.message
            );
            return Err(AttemptError::received(
                ErrorClass::Permanent,
                error.code,
                message,
            ));
        }
        history.breaks = history
            .breaks
            .saturating_add(u32::from(breaks_an_attempt(&error.code)));
        if reach.limit.is_some() && history.breaks > BREAKS_MAX {
            return Err(error);
        }
        let attempts = attempt.get().saturating_sub(1);
        // Due at once: what it waits for is the connection, and for a while another worker than the
        // one that met the outage.
        let not_before_millis = now_millis;
        let record = RetryRecord {
            address: address.clone(),
            attempts,
            history,
            not_before_millis,
            error,
        };
        Ok(Change {
            run: id,
            task: *task,
            address,
            kind: ChangeKind::Delay(record),
        }
        .into())
    }

    /// An attempt of the task has had an answer from every connection it needs.
    pub(super) fn reached(&mut self, task: &TaskId) {
        let Some((lease, run)) = self.lease(task) else {
            return;
        };
        let (address, id, spec) = (lease.address.clone(), run.id, Arc::clone(&run.spec));
        let (Some(known), Some(run)) = (
            spec.steps.get(&address.step),
            self.cluster.runs.get_mut(&id),
        ) else {
            return;
        };
        let Some(kind) = run.kind(&address) else {
            return;
        };
        run.outages
            .reached(&Reach::of(known, run.record.intent, kind).connections);
    }

    /// The attempts of a session that say so themselves. Only one that was sent to find out is
    /// believed: the others may have had their answers before the outage began.
    pub(super) fn heard_reached(&mut self, session: &SessionId, reached: &[TaskId]) {
        for task in reached {
            let asks =
                |(lease, run): (&highwater_common::record::LeaseRecord, &crate::engine::Run)| {
                    lease.session == *session && run.outages.is_asking(&lease.address)
                };
            if self.lease(task).is_some_and(asks) {
                self.reached(task);
                self.has_changed = true; // what waited for the connection may go
            }
        }
    }
}
