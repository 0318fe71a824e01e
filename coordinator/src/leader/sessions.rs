//! Sessions: who is alive, and what becomes of the attempts of those who are not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::id::{ClusterId, SessionId, TaskId, WorkerId};
use highwater_common::record::WorkerRecord;
use highwater_common::token::Nonce;
use highwater_proto::convert::records::Stored;

use super::request::Parked;
use super::{Fallen, Leader};
use crate::engine::Session;
use crate::error::ServiceError;
use crate::store::Op;
use crate::store::keys::RecordKey;

/// Heartbeats that an assignment may be missing from before it is taken for lost on its way.
const MISSED_HEARTBEATS: u32 = 3;

impl Leader {
    /// Begins a session, and ends an earlier one of the same worker.
    pub(super) async fn register(
        &mut self,
        worker: WorkerId,
        mut record: WorkerRecord,
    ) -> Result<Result<ClusterId, ServiceError>, Fallen> {
        let earlier: Vec<SessionId> =
            self.cluster.sessions.iter().filter(|(_, session)| session.worker == worker).map(|(id, _)| *id).collect();
        if let Some(last) = earlier.last().and_then(|id| self.cluster.sessions.get(id)) {
            record.cordoned = last.record.cordoned;
        }
        // The attempts go first: a lease whose session has no record would be nobody's to expire.
        for id in earlier {
            self.drop_session(&id).await?;
        }
        let put = Op::Put(RecordKey::Worker(worker.clone()).render(), record.to_bytes());
        self.commit_records("worker_record", Vec::new(), vec![put]).await?;
        let heard = self.clock.monotonic();
        tracing::info!(%worker, slots = record.slots, "worker registered");
        let session = Session {
            worker,
            deadline: heard + self.sessions.ttl,
            heard,
            draining: false,
            told_to_drain: false,
            record,
        };
        self.cluster.sessions.insert(session.record.session, session);
        Ok(Ok(self.cluster.id))
    }

    /// Notes that a worker is alive, and names the attempts it shall end.
    pub(super) async fn heartbeat(
        &mut self,
        session: SessionId,
        attempts: &[(TaskId, Nonce)],
        draining: bool,
    ) -> Result<Result<Vec<Nonce>, ServiceError>, Fallen> {
        let now = self.clock.monotonic();
        let Some(known) = self.cluster.sessions.get_mut(&session) else { return Ok(Err(ServiceError::SessionEnded)) };
        known.heard = now;
        known.deadline = now + self.sessions.ttl;
        known.draining = draining || known.told_to_drain;
        let end =
            attempts.iter().filter(|(task, nonce)| !self.may_go_on(&session, task, *nonce)).map(|(_, nonce)| *nonce);
        let end = end.collect();
        self.release_unheard(session, attempts, now).await?;
        Ok(Ok(end))
    }

    /// Takes back assignments that never reached their worker: the answer to its pull was lost.
    async fn release_unheard(
        &mut self,
        session: SessionId,
        attempts: &[(TaskId, Nonce)],
        now: Duration,
    ) -> Result<(), Fallen> {
        let patience = self.sessions.heartbeat * MISSED_HEARTBEATS;
        let named: BTreeSet<u128> = attempts.iter().map(|(_, nonce)| nonce.bits()).collect();
        let unheard: Vec<TaskId> = self
            .cluster
            .leases
            .held_by(&session)
            .filter(|(task, open)| {
                now.saturating_sub(open.since) > patience
                    && self.lease(task).is_some_and(|(lease, _)| !named.contains(&lease.fence.nonce.bits()))
            })
            .map(|(task, _)| *task)
            .collect();
        let changes = unheard.iter().filter_map(|task| self.released(task)).collect();
        self.apply_changes(changes).await.map(drop)
    }

    /// Ends the sessions that were not heard of in time.
    pub(super) async fn expire(&mut self) -> Result<(), Fallen> {
        let now = self.clock.monotonic();
        let sessions = self.cluster.sessions.iter();
        let ended: Vec<(SessionId, WorkerId)> = sessions
            .filter(|(_, session)| session.deadline <= now)
            .map(|(id, session)| (*id, session.worker.clone()))
            .collect();
        let mut keys = BTreeSet::new();
        for (id, worker) in ended {
            self.drop_session(&id).await?;
            keys.insert(RecordKey::Worker(worker).render());
        }
        // The record goes last: until then a new leader knows whose the leases are.
        self.delete(keys.into_iter().collect()).await
    }

    /// Ends a session: its attempts count as crashed. Its worker's record stays.
    async fn drop_session(&mut self, id: &SessionId) -> Result<(), Fallen> {
        let Some(session) = self.cluster.sessions.remove(id) else { return Ok(()) };
        let (gone, parked) = std::mem::take(&mut self.parked).into_iter().partition(|parked| parked.session == *id);
        self.parked = parked;
        let gone: Vec<Parked> = gone;
        for parked in gone {
            let _ = parked.reply.send(Err(ServiceError::SessionEnded));
        }
        self.lose_leases(id, &session.worker).await
    }

    /// Counts the attempts of a session as crashed.
    async fn lose_leases(&mut self, id: &SessionId, worker: &WorkerId) -> Result<(), Fallen> {
        let tasks: Vec<TaskId> = self.cluster.leases.held_by(id).map(|(task, _)| *task).collect();
        if !tasks.is_empty() {
            tracing::warn!(%worker, attempts = tasks.len(), "worker lost");
        }
        let mut changes = Vec::new();
        for task in tasks {
            let error = AttemptError::new(
                ErrorClass::Crash,
                "worker_lost",
                format!("worker {worker} fell silent for {:?} with the task in hand", self.sessions.ttl),
            );
            changes.extend(self.failed(&task, error, Some(worker)));
        }
        self.apply_changes(changes).await.map(drop)
    }

    /// Counts the attempts of sessions that no record tells of: an earlier leader died while it replaced them.
    pub(super) async fn lose_orphans(&mut self) -> Result<(), Fallen> {
        let mut orphans = BTreeMap::new();
        for session in self.cluster.leases.holders().filter(|session| !self.cluster.sessions.contains_key(session)) {
            let mut held = self.cluster.leases.held_by(session);
            if let Some((lease, _)) = held.find_map(|(task, _)| self.lease(task)) {
                orphans.insert(*session, lease.worker.clone());
            }
        }
        for (session, worker) in orphans {
            self.lose_leases(&session, &worker).await?;
        }
        Ok(())
    }

    /// Gives back every lease: the store admits one process, so whoever held one is gone for certain. Nothing is counted.
    pub(crate) async fn release_everything(&mut self) -> Result<(), Fallen> {
        let changes = self.cluster.leases.tasks().filter_map(|task| self.released(task)).collect();
        self.apply_changes(changes).await?;
        let workers = std::mem::take(&mut self.cluster.sessions).into_values();
        self.delete(workers.map(|session| RecordKey::Worker(session.worker).render()).collect()).await
    }
}
