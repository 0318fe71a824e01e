//! Whoever uses the cluster: they run a pipeline again while an earlier run has failed, is frozen
//! or goes on, take up older runs, and cancel.

use std::sync::Arc;
use std::time::Duration;

use highwater_common::close::SETBACKS_MAX;
use highwater_common::id::RunId;
use highwater_common::spec::Spec;
use highwater_common::status::RunStatus;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::target::Target;
use super::worker::Machine;
use super::{Doors, ENDS_WITHIN, Election};
use crate::error::ServiceError;
use crate::fixtures::{submission, word};
use crate::leader::Request;
use crate::store::memory::MemoryStore;

/// Runs that one pipeline may need after the last fault: those that stand when it ends, and those
/// that learn from the target that the store has forgotten something.
const RUNS_MAX: usize = 8;

/// How often a target loses commits at the most: a step meets each loss twice, by a claim and by a
/// comparison, and after five setbacks it fails.
const LOSSES_MAX: u32 = SETBACKS_MAX / 2;

pub(super) struct People {
    pub(super) doors: Doors,
    pub(super) target: Arc<Target>,
    pub(super) rng: StdRng,
    pub(super) specs: Vec<Spec>,
    pub(super) known: Vec<RunId>,
    pub(super) cancels: JoinSet<Result<(), String>>,
}

impl People {
    /// Does one thing after the other until then.
    pub(super) async fn act_until(mut self, until: Instant) -> Self {
        let began = Instant::now();
        while Instant::now() < until && !self.target.is_violated() {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..6_000))).await;
            // One pipeline after the other is new, so that there is something to load at any time.
            let parts = u32::try_from(self.specs.len()).unwrap();
            let at = began.elapsed().as_millis() / ((until - began) / parts).as_millis();
            let newest = usize::try_from(at).unwrap().min(self.specs.len() - 1);
            let spec = if self.rng.random_range(0..4) > 0 {
                newest
            } else {
                self.rng.random_range(0..=newest)
            };
            self.act(spec).await;
        }
        self
    }

    async fn act(&mut self, spec: usize) {
        match self.rng.random_range(0..12) {
            4 | 5 if !self.known.is_empty() => {
                let run = self.known[self.rng.random_range(0..self.known.len())];
                let _ = self
                    .doors
                    .ask(|reply| Request::Retry {
                        run,
                        selections: Vec::new(),
                        verdict: None,
                        word: word(""),
                        reply,
                    })
                    .await;
            }
            6 if !self.known.is_empty() => {
                let run = self.known[self.rng.random_range(0..self.known.len())];
                self.cancels
                    .spawn(cancel(self.doors.clone(), Arc::clone(&self.target), run));
            }
            7 => self.target.grow(self.rng.random()),
            9 | 10 => self.submit(spec, true).await,
            // A run of its own if the former one has ended, else the same.
            _ => self.submit(spec, false).await,
        }
    }

    /// Runs a pipeline, if it may begin now.
    async fn submit(&mut self, spec: usize, fresh: bool) {
        if let Ok(run) = self.begin(spec, fresh).await {
            self.known.push(run);
        }
    }

    async fn begin(&self, spec: usize, fresh: bool) -> Result<RunId, ServiceError> {
        let submission = || submission(&self.specs[spec], false, fresh);
        let begun = self
            .doors
            .ask(|reply| Request::Submit {
                submission: submission(),
                reply,
            })
            .await;
        begun.map(|(run, _)| run)
    }

    /// I11, once there are no faults any more: each pipeline is run until it succeeds, which takes
    /// a few runs at the most, and everything ends.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        for spec in 0..self.specs.len() {
            let mut ends = Vec::new();
            // One more run where the target has lost commits: of what earlier runs or steps that
            // had ended have committed only the next plan knows.
            let successes = 1 + usize::from(self.target.losses() > 0);
            let is_success =
                |(_, status): &&(RunId, Option<RunStatus>)| *status == Some(RunStatus::Success);
            while ends.iter().filter(is_success).count() < successes {
                if ends.len() == RUNS_MAX {
                    return Err(format!(
                        "I11: {} does not succeed: {ends:?}",
                        self.specs[spec].name
                    ));
                }
                match self.begin(spec, false).await {
                    Ok(run) => ends.push((run, self.ends(run).await?)),
                    // A cancel is under way.
                    Err(ServiceError::SpecChanged { .. }) => {
                        tokio::time::sleep(Duration::from_secs(1)).await
                    }
                    Err(error) => {
                        return Err(format!(
                            "I11: {} is refused: {error}",
                            self.specs[spec].name
                        ));
                    }
                }
            }
        }
        let cancels = async {
            let mut told = Vec::new();
            while let Some(cancel) = self.cancels.join_next().await {
                told.extend(cancel.expect("a cancel does not panic").err());
            }
            told
        };
        match tokio::time::timeout(ENDS_WITHIN, cancels).await {
            Err(_) => Err("I11: a cancel is never acknowledged".to_owned()),
            Ok(told) if !told.is_empty() => Err(told.join("\n")),
            Ok(_) => Ok(()),
        }
    }

    /// How a run ended; `None` when the store has forgotten it.
    async fn ends(&self, run: RunId) -> Result<Option<RunStatus>, String> {
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            let status = status(&self.doors, run).await;
            match status {
                Some(status) if !status.has_ended() => {}
                None | Some(_) => return Ok(status),
            }
            if Instant::now() > deadline {
                let view = self.doors.look(crate::fixtures::portrait).await;
                return Err(format!("I11: run {run} has not ended\n{view}"));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn status(doors: &Doors, run: RunId) -> Option<RunStatus> {
    doors
        .look(move |cluster| cluster.runs.get(&run).map(|run| run.record.status))
        .await
}

/// Cancels a run and waits for the acknowledgement: the run's status.
async fn cancel(doors: Doors, target: Arc<Target>, run: RunId) -> Result<(), String> {
    match doors
        .ask(|reply| Request::Cancel {
            run,
            word: word("enough"),
            reply,
        })
        .await
    {
        Ok(()) => {}
        Err(ServiceError::RunEnded { .. } | ServiceError::UnknownRun(_)) => return Ok(()),
        Err(error) => return Err(format!("a cancel is refused: {error}")),
    }
    loop {
        match status(&doors, run).await {
            Some(RunStatus::Cancelled) => {
                target.acknowledge_cancel(run);
                return Ok(());
            }
            // A store that was put back has forgotten the wish.
            None if target.is_rewound() => return Ok(()),
            Some(status) if status.has_ended() && target.is_rewound() => return Ok(()),
            None => {
                return Err(format!(
                    "I5: run {run}, which is to be cancelled, is forgotten"
                ));
            }
            Some(status) if status.has_ended() => {
                return Err(format!(
                    "I5: run {run}, which is to be cancelled, is {status}"
                ));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Lets the target lose its latest commits at a random moment, now and then in another life of its
/// server.
pub(super) async fn lose_commits(target: Arc<Target>, mut rng: StdRng) {
    while target.losses() < LOSSES_MAX {
        let backup = target.backup();
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..20_000))).await;
        if target.is_healed() {
            return;
        }
        target.put_back(backup, rng.random());
    }
}

/// Puts the store back to a backup, again and again: often to one that knows of a run no more than
/// that it is being planned, as soon as tasks of its plan are handed out.
pub(super) async fn rewind(
    store: MemoryStore,
    target: Arc<Target>,
    election: Election,
    machines: [Machine; 3],
    mut rng: StdRng,
) {
    loop {
        // Half of the backups are of a run that is being planned, put back once its plan is under
        // way; the others are of anything, at any time.
        let is_of_planning = rng.random_range(0..3) > 0;
        if is_of_planning {
            target.is_asked_for_a_plan().await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..2_000))).await;
        let backup = store.backup();
        let waits = Duration::from_millis(rng.random_range(1..15_000));
        let mut is_frozen = rng.random();
        if is_of_planning && rng.random_range(0..4) > 0 {
            is_frozen |= tokio::time::timeout(waits, target.loads_begin())
                .await
                .is_ok();
        } else {
            tokio::time::sleep(waits).await;
        }
        if target.is_healed() {
            return;
        }
        // What was handed out stands still, wherever it is, until the store that has forgotten it
        // has gone on.
        for machine in machines.iter().filter(|_| is_frozen) {
            if rng.random_range(0..3) > 0 {
                machine.freeze(Duration::from_millis(rng.random_range(8_000..60_000)));
            }
        }
        target.note_rewound();
        store.restore(backup);
        target.grow(rng.random());
        if rng.random() {
            election.revoke(&mut rng).await;
        }
        if is_frozen {
            tokio::time::sleep(Duration::from_millis(rng.random_range(1..30_000))).await;
        }
    }
}
