//! A worker that is worse than any real one: it pauses past its lease and goes on, dies, loses
//! answers and repeats itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_common::assignment::{
    Assignment, AttemptError, ErrorClass, Outcome, StepOrder, Work,
};
use highwater_common::commit::Resume;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::SessionId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::Doors;
use super::target::{Claimed, RECEIPT, Target, slice_of};
use crate::error::ServiceError;
use crate::fixtures::{FakeWorker, permanent, tell, transient, well};
use crate::leader::{Beat, Request};

pub(super) struct SimulatedWorker {
    pub(super) name: String,
    pub(super) machine: Machine,
    pub(super) door: usize,
    pub(super) doors: Doors,
    pub(super) target: Arc<Target>,
    pub(super) rng: StdRng,
    pub(super) faults_until: Instant,
}

type Held = Arc<Mutex<BTreeMap<u128, Assignment>>>;

/// What a worker runs on. While it is frozen nothing of it goes on, wherever it stands, and nobody
/// there notices.
#[derive(Clone)]
pub(super) struct Machine(Arc<Mutex<Instant>>);

impl Machine {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn freeze(&self, time: Duration) {
        *self.0.lock().unwrap() = Instant::now() + time;
    }

    async fn thawed(&self) {
        loop {
            let thaws = *self.0.lock().unwrap();
            if Instant::now() >= thaws {
                return;
            }
            tokio::time::sleep_until(thaws).await;
        }
    }
}

impl SimulatedWorker {
    /// One session after the other, for ever.
    pub(super) async fn run(mut self) {
        loop {
            self.door += 1;
            let session = SessionId::from_bytes(self.rng.random());
            let handle = self.doors.handle(self.door);
            if FakeWorker::register(handle, &self.name, session)
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(100..700))).await;
                continue;
            }
            self.session(session).await;
        }
    }

    fn is_faulty(&self) -> bool {
        Instant::now() < self.faults_until
    }

    /// Pulls until the session is lost, or the worker dies: what it has begun goes on in both
    /// cases.
    async fn session(&mut self, session: SessionId) {
        let held = Held::default();
        let mut next_beat = Instant::now();
        loop {
            self.machine.thawed().await;
            if self.is_faulty() && self.rng.random_range(0..400) == 0 {
                // Stopped, or swapped out: the attempts sleep less long than the heartbeats.
                tokio::time::sleep(Duration::from_secs(self.rng.random_range(10..40))).await;
            }
            if self.is_faulty() && self.rng.random_range(0..300) == 0 {
                return;
            }
            if Instant::now() >= next_beat {
                next_beat = Instant::now() + Duration::from_secs(3);
                let attempts = held
                    .lock()
                    .unwrap()
                    .values()
                    .map(|one| (one.task, one.fence.nonce))
                    .collect();
                let draining = false;
                let beat = Beat {
                    attempts,
                    draining,
                    ..Beat::default()
                };
                let ask = |reply| Request::Heartbeat {
                    session,
                    beat,
                    reply,
                };
                match self.doors.handle(self.door).ask(ask).await {
                    Err(ServiceError::SessionEnded) => return,
                    Err(_) => self.door += 1,
                    Ok((end, _drain)) => held
                        .lock()
                        .unwrap()
                        .retain(|nonce, _| !end.iter().any(|other| other.bits() == *nonce)),
                }
            }
            let free = 4 - u32::try_from(held.lock().unwrap().len()).unwrap().min(4);
            if free == 0 {
                tokio::time::sleep(Duration::from_millis(400)).await;
                continue;
            }
            match self
                .doors
                .handle(self.door)
                .ask(|reply| Request::Pull {
                    session,
                    free,
                    reply,
                })
                .await
            {
                Err(ServiceError::SessionEnded) => return,
                Err(_) => {
                    self.door += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                // The answer is lost on its way.
                Ok(_) if self.is_faulty() && self.rng.random_range(0..40) == 0 => {}
                Ok(granted) => {
                    for one in granted {
                        self.target.received(&one.assignment);
                        let order: StepOrder = serde_json::from_slice(&one.order).unwrap();
                        held.lock()
                            .unwrap()
                            .insert(one.assignment.fence.nonce.bits(), one.assignment.clone());
                        let attempt = Attempt {
                            order,
                            assignment: one.assignment,
                            session,
                            machine: self.machine.clone(),
                            doors: self.doors.clone(),
                            target: Arc::clone(&self.target),
                            rng: StdRng::seed_from_u64(self.rng.random()),
                            held: Arc::clone(&held),
                            read_after: 0,
                        };
                        tokio::spawn(attempt.run());
                    }
                }
            }
        }
    }
}

struct Attempt {
    order: StepOrder,
    assignment: Assignment,
    session: SessionId,
    machine: Machine,
    doors: Doors,
    target: Arc<Target>,
    rng: StdRng,
    held: Held,
    /// How often the target had lost commits when this attempt asked what it holds.
    read_after: u32,
}

impl Attempt {
    async fn run(mut self) {
        if let Some(outcome) = self.work().await {
            self.report(outcome).await;
        }
        self.held
            .lock()
            .unwrap()
            .remove(&self.assignment.fence.nonce.bits());
    }

    /// Some time, now and then longer than any lease.
    async fn pause(&mut self) {
        let millis = match self.rng.random_range(0..30) {
            0 if !self.target.is_healed() => self.rng.random_range(12_000..90_000),
            1..=3 if !self.target.is_healed() => self.rng.random_range(1_500..12_000),
            _ => self.rng.random_range(1..1_500),
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.machine.thawed().await;
    }

    /// `None` when the attempt dies.
    async fn work(&mut self) -> Option<Outcome> {
        self.pause().await;
        let is_faulty = !self.target.is_healed();
        if is_faulty && self.rng.random_range(0..30) == 0 {
            return None;
        }
        if is_faulty && self.rng.random_range(0..15) == 0 {
            return Some(transient());
        }
        match self.assignment.work {
            Work::Partition(_) => {}
            Work::Probe => return Some(self.target.probe(&self.order)),
            Work::Prepare => {
                let prepared = self.target.prepare(&self.order, &self.assignment);
                self.pause().await;
                return Some(prepared);
            }
            Work::Fence => {
                self.target.fence(self.order.run);
                self.pause().await;
                return Some(well(&self.assignment, 0));
            }
            Work::Close { phase } => {
                self.read_after = self.target.losses();
                let committed = self.target.committed(&self.order, phase);
                self.pause().await;
                return Some(committed);
            }
            Work::Build
            | Work::Check
            | Work::Publish
            | Work::Reconcile
            | Work::Statements
            | Work::Command
            | Work::Replay
            | Work::Follow
            | Work::Noop(_)
            | Work::Count(_) => {
                return Some(well(&self.assignment, 0));
            }
        }
        if is_faulty && self.rng.random_range(0..8) == 0 {
            return Some(permanent());
        }
        if let Some(outcome) = self.claim().await {
            return Some(outcome);
        }
        self.pause().await;
        if is_faulty && self.rng.random_range(0..20) == 0 {
            return None;
        }
        let mut is_committed = false;
        if let Some(permit) = self.target.guard(&self.order, &self.assignment) {
            self.pause().await;
            is_committed = self.target.commit(permit, &self.order, &self.assignment);
        }
        self.pause().await;
        if is_faulty && self.rng.random_range(0..20) == 0 {
            return None; // committed, and nobody hears of it
        }
        if is_committed {
            return Some(Outcome::Committed(RECEIPT));
        }
        let meaning = self.target.ask(&self.order, &self.assignment);
        Some(meaning.map_or_else(transient, |meaning| self.outcome_of(meaning)))
    }

    /// How the attempt ends already; `None` when its claim stands.
    async fn claim(&mut self) -> Option<Outcome> {
        let slice = slice_of(&self.assignment)?;
        loop {
            match self.target.claim(&self.order, &self.assignment, slice) {
                Claimed::Noted => self.pause().await,
                Claimed::Is(Resume::Begin) => return None,
                Claimed::Is(meaning) => return Some(self.outcome_of(meaning)),
                Claimed::Unprepared => {
                    let message = "the target is another server";
                    let error =
                        AttemptError::new(ErrorClass::Permanent, ErrorCode::TargetChanged, message);
                    return Some(Outcome::Unprepared(error));
                }
                Claimed::PlanChanged => {
                    let message = "the stream was taken for another plan";
                    let error =
                        AttemptError::new(ErrorClass::Permanent, ErrorCode::PlanChanged, message);
                    return Some(Outcome::Failed(error));
                }
            }
        }
    }

    /// How an attempt ends that may not go on.
    fn outcome_of(&self, meaning: Resume) -> Outcome {
        match meaning {
            Resume::ReportOnly(receipt) => Outcome::Committed(receipt),
            Resume::Superseded => Outcome::Superseded {
                by: self.target.fenced_by(self.order.run),
            },
            Resume::Fenced { newer } => Outcome::Fenced { newer },
            Resume::Begin | Resume::Probe => transient(),
            Resume::SpecChanged => panic!("no spec of the simulation changes"),
        }
    }

    /// Tells both coordinators in turn until one of them knows, and once more now and then.
    async fn report(&mut self, outcome: Outcome) {
        let mut repeats = u32::from(self.rng.random_range(0..6) == 0);
        for door in 0..40 {
            let handle = self.doors.handle(door);
            match tell(&handle, self.session, &self.assignment, outcome.clone()).await {
                Ok(counted) => {
                    if counted && matches!(outcome, Outcome::Committed(_)) {
                        self.target.acknowledge(self.assignment.task);
                    }
                    if counted && matches!(outcome, Outcome::Closed(_)) {
                        let token = self.assignment.fence.token;
                        self.target.note_closed(&self.order, token, self.read_after);
                    }
                    if repeats == 0 {
                        return;
                    }
                    repeats -= 1;
                }
                Err(ServiceError::SessionEnded) => return,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(self.rng.random_range(50..900))).await
                }
            }
        }
    }
}
