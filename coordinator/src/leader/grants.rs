//! What is handed out: pending tasks, under tokens that grow, to the pulls that wait.

use std::collections::BTreeMap;

use highwater_common::assignment::Assignment;
use highwater_common::id::{AttemptNo, SessionId};
use highwater_common::record::{LeaseRecord, TaskAddress, TaskHistory};
use highwater_common::task::TaskState;
use highwater_common::token::{Fence, FencingToken, Nonce};
use highwater_proto::convert::records::hi_to_bytes;
use rand::RngExt;

use super::{Granted, Leader, TermEnded};
use crate::engine::{Change, ChangeKind, Reach, assign};
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op};

/// Tasks handed out in one turn at the most, before requests are looked at again.
const GRANTS_MAX: usize = 256;

impl Leader {
    /// Raises `hi` above a token that a target has seen: the store was rewound.
    pub(super) async fn raise_hi_above(&mut self, newer: FencingToken) -> Result<(), TermEnded> {
        if newer.hi() < self.hi {
            return Ok(()); // the attempt's own token is of an earlier term; the next one's will do
        }
        tracing::warn!(%newer, hi = self.hi, "a target has seen larger tokens than this store: \
            raising hi");
        self.set_hi(newer.hi() + 1).await
    }

    async fn set_hi(&mut self, hi: u64) -> Result<(), TermEnded> {
        let key = RecordKey::High.render();
        let expects = vec![Expect::Bytes(key.clone(), hi_to_bytes(self.hi))];
        self.commit_records("hi", expects, vec![Op::Put(key, hi_to_bytes(hi))])
            .await?;
        self.hi = hi;
        self.lo = 0;
        Ok(())
    }

    /// Hands pending tasks to the parked pulls.
    pub(super) async fn hand_out(&mut self) -> Result<(), TermEnded> {
        self.has_more = false;
        let now = self.clock.wall_millis();
        let waiting = self.cluster.runs.values_mut();
        for run in waiting.filter(|run| run.wants_work()) {
            // A clock that was put back must not keep it from aging.
            let at = run.moved_millis.get_or_insert(now);
            *at = (*at).min(now);
        }
        let seats = self.parking.seats();
        if seats.is_empty() {
            return Ok(());
        }
        let grants = assign(&self.cluster, &seats, now, GRANTS_MAX);
        if grants.is_empty() {
            return Ok(());
        }
        self.has_more = grants.len() >= GRANTS_MAX;
        if FencingToken::LO_MAX - self.lo < u32::try_from(grants.len()).unwrap_or(u32::MAX) {
            self.set_hi(self.hi + 1).await?;
        }
        let mut granted: BTreeMap<SessionId, Vec<Granted>> = BTreeMap::new();
        let mut changes = Vec::new();
        for grant in grants {
            let Some((change, one)) = self.grant(&grant.run, grant.address, grant.session) else {
                continue;
            };
            granted.entry(grant.session).or_default().push(one);
            changes.push(change.into());
        }
        let stale = self.apply_changes(changes).await?;
        for (session, mut granted) in granted {
            // only what the store has is anybody's
            granted.retain(|one| !stale.contains(&one.assignment.task));
            if let Some(parked) = self.parking.take(&session) {
                // A caller that has gone meanwhile never heard of its tasks: its heartbeats will
                // not name them, and they return.
                let _ = parked.reply.send(Ok(granted));
            }
        }
        Ok(())
    }

    fn grant(
        &mut self,
        run: &highwater_common::id::RunId,
        address: TaskAddress,
        session: SessionId,
    ) -> Option<(Change, Granted)> {
        let worker = self.cluster.sessions.get(&session)?.worker.clone();
        let cluster = self.cluster.id;
        let nonce = Nonce::new(self.rng.random());
        self.lo += 1;
        let fence = Fence {
            token: FencingToken::new(self.hi, self.lo)?,
            nonce,
        };
        let run = self.cluster.runs.get_mut(run)?;
        let work = run.work(&address)?;
        let task = run.task_id(&address)?;
        let (table, kind) = (run.table(&address)?, run.kind(&address)?);
        let retry = match table.state(address.ordinal) {
            TaskState::RetryWait => table
                .retries
                .get(&address.ordinal)
                .map(|held| held.record.clone()),
            TaskState::Pending
            | TaskState::Open
            | TaskState::Done
            | TaskState::Dead
            | TaskState::InDoubt
            | TaskState::Covered
            | TaskState::Superseded => None,
        };
        let known = run.spec.steps.get(&address.step)?;
        run.outages.asked(
            &Reach::of(known, run.record.intent, kind).connections,
            &address,
        );
        let (before, history) = retry.map_or((0, TaskHistory::default()), |retry| {
            (retry.attempts, retry.history)
        });
        let attempt = AttemptNo::new(before + 1);
        let (order, json) = run.order_document(cluster, &address)?;
        let (phase, ordinal) = (address.phase, address.ordinal);
        let lease = LeaseRecord {
            address: address.clone(),
            attempt,
            fence,
            worker,
            session,
            history,
        };
        let change = Change {
            run: run.id,
            task,
            address,
            kind: ChangeKind::Assign(lease),
        };
        Some((
            change,
            Granted {
                assignment: Assignment {
                    task,
                    attempt,
                    fence,
                    work,
                    phase,
                    ordinal,
                    order,
                },
                order: json,
            },
        ))
    }
}
