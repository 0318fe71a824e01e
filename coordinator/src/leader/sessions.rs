//! Sessions: who is alive, and what becomes of the attempts of those who are not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{ClusterId, SessionId, TaskId, WorkerId};
use highwater_common::record::WorkerRecord;
use highwater_common::token::Nonce;
use highwater_proto::convert::records::StoredRecord;

use super::batch::Planned;
use super::reply::Reply;
use super::{Leader, TermEnded};
use crate::engine::Session;
use crate::error::ServiceError;
use crate::store::Key;
use crate::store::keys::RecordKey;

/// Heartbeats that an assignment may be missing from before it is taken for lost on its way.
const MISSED_HEARTBEATS: u32 = 3;

/// A worker that begins a session.
pub(crate) struct Registration {
    pub(crate) worker: WorkerId,
    pub(crate) record: WorkerRecord,
    pub(crate) reply: Reply<ClusterId>,
}

impl Leader {
    /// Begins sessions, and ends earlier ones of the same workers: thousands that come back at once
    /// take a few transactions, and not one each.
    pub(super) async fn register(
        &mut self,
        registrations: Vec<Registration>,
    ) -> Result<(), TermEnded> {
        let mut registrations = VecDeque::from(registrations);
        while !registrations.is_empty() {
            let mut group = BTreeMap::new();
            // One that comes twice has its first session replaced by the second.
            while let Some(next) =
                registrations.pop_front_if(|next| !group.contains_key(&next.worker))
            {
                group.insert(next.worker.clone(), next);
            }
            self.register_group(group).await?;
        }
        Ok(())
    }

    async fn register_group(
        &mut self,
        mut group: BTreeMap<WorkerId, Registration>,
    ) -> Result<(), TermEnded> {
        let mut earlier = Vec::new();
        for (id, session) in &self.cluster.sessions {
            if let Some(registration) = group.get_mut(&session.worker) {
                registration.record.cordoned = session.record.cordoned;
                earlier.push(*id);
            }
        }
        // The attempts go first: a lease whose session has no record would be nobody's to expire.
        self.drop_sessions(&earlier).await?;
        let put = |registration: &Registration| {
            (
                RecordKey::Worker(registration.worker.clone()).render(),
                registration.record.to_bytes(),
            )
        };
        self.put_parts("worker_record", group.values().map(put).collect())
            .await?;
        let heard = self.clock.monotonic();
        let deadline = heard + self.sessions.ttl;
        self.sessions_end = self.sessions_end.min(deadline);
        for Registration {
            worker,
            record,
            reply,
        } in group.into_values()
        {
            tracing::info!(%worker, slots = record.slots, "worker registered");
            let session = Session {
                worker,
                deadline,
                heard,
                draining: false,
                told_to_drain: false,
                record,
            };
            self.cluster
                .sessions
                .insert(session.record.session, session);
            let _ = reply.send(Ok(self.cluster.id)); // whoever has gone registers again
        }
        Ok(())
    }

    /// Notes that a worker is alive, and names the attempts it shall end.
    pub(super) async fn heartbeat(
        &mut self,
        session: SessionId,
        attempts: &[(TaskId, Nonce)],
        draining: bool,
    ) -> Result<Result<Vec<Nonce>, ServiceError>, TermEnded> {
        let now = self.clock.monotonic();
        let Some(known) = self.cluster.sessions.get_mut(&session) else {
            return Ok(Err(ServiceError::SessionEnded));
        };
        known.heard = now;
        known.deadline = now + self.sessions.ttl;
        let was_draining = std::mem::replace(&mut known.draining, draining || known.told_to_drain);
        self.has_changed |= was_draining != known.draining;
        let end = attempts
            .iter()
            .filter(|(task, nonce)| !self.may_go_on(&session, task, *nonce))
            .map(|(_, nonce)| *nonce);
        let end = end.collect();
        self.release_unheard(session, attempts, now).await?;
        Ok(Ok(end))
    }

    /// Notes what the attempts of a session say that they do.
    pub(super) fn heard_doing(&mut self, session: &SessionId, said: Vec<(TaskId, String)>) {
        let now_millis = self.clock.wall_millis();
        let said = said.into_iter().collect();
        self.has_changed |= self.cluster.leases.say(session, said, now_millis);
    }

    /// Ends a session in good order: whatever it still holds never reached its worker, or was given
    /// up by it, so it goes back and no attempt is counted.
    pub(super) async fn leave(
        &mut self,
        id: SessionId,
    ) -> Result<Result<(), ServiceError>, TermEnded> {
        let Some(session) = self.end_session(&id) else {
            return Ok(Err(ServiceError::SessionEnded));
        };
        tracing::info!(worker = %session.worker, "worker left");
        self.has_changed = true;
        let held = self.cluster.leases.held_by(&id);
        let changes = held.filter_map(|(task, _)| self.released(task)).collect();
        self.apply_changes(changes).await?;
        let key = RecordKey::Worker(session.worker).render();
        self.delete(vec![key]).await?;
        Ok(Ok(()))
    }

    /// Takes a session out of the view, and tells a pull of it that waits.
    fn end_session(&mut self, id: &SessionId) -> Option<Session> {
        let session = self.cluster.sessions.remove(id)?;
        if let Some(parked) = self.parking.take(id) {
            let _ = parked.reply.send(Err(ServiceError::SessionEnded));
        }
        Some(session)
    }

    /// Takes back assignments that never reached their worker: the answer to its pull was lost.
    async fn release_unheard(
        &mut self,
        session: SessionId,
        attempts: &[(TaskId, Nonce)],
        now: Duration,
    ) -> Result<(), TermEnded> {
        let patience = self.sessions.heartbeat * MISSED_HEARTBEATS;
        let named: BTreeSet<u128> = attempts.iter().map(|(_, nonce)| nonce.bits()).collect();
        let unheard: Vec<TaskId> = self
            .cluster
            .leases
            .held_by(&session)
            .filter(|(task, open)| {
                now.saturating_sub(open.since) > patience
                    && self
                        .lease(task)
                        .is_some_and(|(lease, _)| !named.contains(&lease.fence.nonce.bits()))
            })
            .map(|(task, _)| *task)
            .collect();
        let changes: Vec<Planned> = unheard
            .iter()
            .filter_map(|task| self.released(task))
            .collect();
        self.has_changed |= !changes.is_empty();
        self.apply_changes(changes).await.map(drop)
    }

    /// Ends the sessions that were not heard of in time. While the leader was busy nobody was
    /// silent: whoever spoke meanwhile is listened to first.
    pub(super) async fn expire(&mut self) -> Result<(), TermEnded> {
        let heard_until = self.heard_until;
        if heard_until < self.sessions_end {
            return Ok(());
        }
        let sessions = self.cluster.sessions.iter();
        let (ended, keys): (Vec<SessionId>, BTreeSet<Key>) = sessions
            .filter(|(_, session)| session.deadline <= heard_until)
            .map(|(id, session)| (*id, RecordKey::Worker(session.worker.clone()).render()))
            .unzip();
        self.drop_sessions(&ended).await?;
        let deadlines = self
            .cluster
            .sessions
            .values()
            .map(|session| session.deadline);
        self.sessions_end = deadlines.min().unwrap_or(Duration::MAX);
        // The record goes last: until then a new leader knows whose the leases are.
        self.delete(keys.into_iter().collect()).await
    }

    /// Ends sessions: their attempts count as crashed. The records of their workers stay.
    async fn drop_sessions(&mut self, ids: &[SessionId]) -> Result<(), TermEnded> {
        let mut lost = Vec::new();
        for id in ids {
            if let Some(session) = self.end_session(id) {
                lost.push((*id, session.worker));
            }
        }
        self.lose_leases(&lost).await
    }

    /// Counts the attempts of sessions as crashed.
    async fn lose_leases(&mut self, lost: &[(SessionId, WorkerId)]) -> Result<(), TermEnded> {
        let mut changes = Vec::new();
        for (id, worker) in lost {
            let tasks: Vec<TaskId> = self
                .cluster
                .leases
                .held_by(id)
                .map(|(task, _)| *task)
                .collect();
            if !tasks.is_empty() {
                tracing::warn!(%worker, attempts = tasks.len(), "worker lost");
                self.told.lost(tasks.len());
            }
            for task in tasks {
                let error = AttemptError::new(
                    ErrorClass::Crash,
                    ErrorCode::WorkerLost,
                    format!(
                        "worker {worker} fell silent for {:?} with the task in hand",
                        self.sessions.ttl
                    ),
                );
                changes.extend(self.failed(&task, error, Some(worker)));
            }
        }
        self.apply_changes(changes).await.map(drop)
    }

    /// Counts the attempts of sessions that no record tells of: an earlier leader died while it
    /// replaced them.
    pub(super) async fn lose_orphans(&mut self) -> Result<(), TermEnded> {
        let mut orphans = BTreeMap::new();
        for session in self
            .cluster
            .leases
            .holders()
            .filter(|session| !self.cluster.sessions.contains_key(session))
        {
            let mut held = self.cluster.leases.held_by(session);
            if let Some((lease, _)) = held.find_map(|(task, _)| self.lease(task)) {
                orphans.insert(*session, lease.worker.clone());
            }
        }
        self.lose_leases(&orphans.into_iter().collect::<Vec<_>>())
            .await
    }

    /// Gives back every lease: the store admits one process, so whoever held one is gone for
    /// certain. Nothing is counted; but what may not be repeated unasked is in doubt.
    pub(crate) async fn release_everything(&mut self) -> Result<(), TermEnded> {
        let changes = self
            .cluster
            .leases
            .tasks()
            .filter_map(|task| self.released(task))
            .collect();
        self.apply_changes(changes).await?;
        let workers = std::mem::take(&mut self.cluster.sessions).into_values();
        self.delete(
            workers
                .map(|session| RecordKey::Worker(session.worker).render())
                .collect(),
        )
        .await
    }
}
