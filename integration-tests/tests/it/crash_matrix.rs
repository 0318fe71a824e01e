//! The crash matrix: at every named place of an attempt, of a worker's calls and of the coordinator's transactions the process
//! is ended, the step made to fail, or made to wait until it is killed or its lease is lost; for both kinds of target and both
//! write modes. However it struck, the run then ends, and rows and ledger are exact.
//!
//! A normal run strikes at each place once and takes turns through the rest; `make crash-matrix` does every cell.
//! `HIGHWATER_MATRIX_CELL=t2::before` picks the cells whose names hold that text.

mod bench;
mod cell;

use bench::Bench;
use cell::{Action, Cell, Engine, Mode};

/// Where a cell strikes.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The failpoint's name.
    name: &'static str,
    /// Times that it passes before it strikes, so that there is progress to lose.
    passed: u32,
    /// Failpoints that have to strike elsewhere, for the place to be come to at all.
    with: &'static str,
    /// A single worker can be made a zombie there: it stalls past its lease, then goes on.
    is_for_zombies: bool,
}

impl Place {
    const fn new(name: &'static str, passed: u32) -> Self {
        Self { name, passed, with: "", is_for_zombies: false }
    }

    const fn zombies(name: &'static str, passed: u32) -> Self {
        Self { name, passed, with: "", is_for_zombies: true }
    }

    const fn with(name: &'static str, passed: u32, with: &'static str) -> Self {
        Self { name, passed, with, is_for_zombies: false }
    }
}

/// A worker with a task in hand that falls silent for longer than its session lives.
const SILENT_WORKER: &str =
    "attempt::before_guard@embedded-1=1*off->1*return(stall 4000);heartbeat::silent@embedded-1=return(stall 5000)";
/// An attempt that fails.
const FAILED_ATTEMPT: &str = "attempt::before_guard=2*off->1*return";
/// An attempt that lasts for a few heartbeats.
const LONG_ATTEMPT: &str = "attempt::before_guard=1*off->1*return(stall 1500)";
/// An assignment that never reaches its worker.
const LOST_ASSIGNMENT: &str = "pull::after=3*off->1*return";

const ATTEMPT: [Place; 13] = [
    Place::new("attempt::before_probe", 0),
    Place::new("attempt::after_probe", 0),
    Place::new("attempt::prepare", 0),
    Place::new("attempt::after_prepare", 0),
    Place::zombies("attempt::before_claim", 3),
    Place::zombies("attempt::after_claim", 3),
    Place::zombies("attempt::after_begin", 3),
    Place::zombies("attempt::reading", 5),
    Place::zombies("attempt::before_guard", 3),
    Place::zombies("attempt::before_commit", 3),
    Place::zombies("attempt::after_commit", 3),
    Place::new("commit_before", 3),
    Place::new("commit_answer_lost", 3),
];

const CALLS: [Place; 8] = [
    Place::new("register::before", 1),
    Place::new("register::after", 1),
    Place::new("pull::before", 4),
    Place::new("pull::after", 4),
    Place::with("heartbeat::before", 0, LONG_ATTEMPT),
    Place::with("heartbeat::after", 0, LONG_ATTEMPT),
    Place::zombies("complete::before", 5),
    Place::new("complete::after", 5),
];

const TASKS: [Place; 12] = [
    Place::new("t0::before", 0),
    Place::new("t0::after", 0),
    Place::new("t1::before", 4),
    Place::new("t1::after", 4),
    Place::new("t2::before", 4),
    Place::new("t2::after", 4),
    Place::with("t3::before", 0, FAILED_ATTEMPT),
    Place::with("t3::after", 0, FAILED_ATTEMPT),
    Place::with("t4::before", 0, SILENT_WORKER),
    Place::with("t4::after", 0, SILENT_WORKER),
    Place::with("release::before", 0, LOST_ASSIGNMENT),
    Place::with("release::after", 0, LOST_ASSIGNMENT),
];

const RECORDS: [Place; 14] = [
    Place::new("spec_parts::before", 0),
    Place::new("spec_parts::after", 0),
    Place::new("run_begun::before", 0),
    Place::new("run_begun::after", 0),
    Place::new("worker_record::before", 1),
    Place::new("worker_record::after", 1),
    Place::new("plan_parts::before", 0),
    Place::new("plan_parts::after", 0),
    Place::new("run_record::before", 0),
    Place::new("run_record::after", 0),
    Place::new("run_record::before", 1),
    Place::new("run_record::after", 1),
    Place::new("step_record::before", 0),
    Place::new("step_record::after", 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_an_attempt_loses_and_doubles_nothing() {
    strike(&ATTEMPT, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_around_a_call_of_a_worker_loses_and_doubles_nothing() {
    strike(&CALLS, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_around_a_transaction_of_tasks_loses_and_doubles_nothing() {
    strike(&TASKS, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_around_a_record_of_a_run_loses_and_doubles_nothing() {
    strike(&RECORDS, 9).await;
}

async fn strike(places: &[Place], offset: usize) {
    let all = std::env::var_os("HIGHWATER_FULL_MATRIX").is_some_and(|value| value == "1");
    let only = std::env::var("HIGHWATER_MATRIX_CELL").unwrap_or_default();
    let mut cells = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let combinations = combinations();
        // Seven and sixteen have no factor in common: sixteen places in a row meet sixteen combinations.
        let turn = (at * 7 + offset) % combinations.len();
        let chosen = combinations.into_iter().enumerate().filter(|(nth, _)| all || !only.is_empty() || *nth == turn);
        cells.extend(chosen.map(|(_, (action, engine, mode))| Cell { place: *place, action, engine, mode }));
    }
    cells.retain(|cell| cell.to_string().contains(&only));
    if !cells.is_empty() {
        Bench::start().await.unwrap().run(cells).await;
    }
}

fn combinations() -> Vec<(Action, Engine, Mode)> {
    let mut all = Vec::new();
    for mode in [Mode::Append, Mode::ReplacePartition] {
        for engine in [Engine::Postgres, Engine::Sqlite] {
            for action in [Action::Abort, Action::Fail, Action::Kill, Action::Resume] {
                all.push((action, engine, mode));
            }
        }
    }
    all
}
