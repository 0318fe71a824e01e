//! The crash matrix: at every named place of an attempt, of a worker's calls and of the
//! coordinator's transactions the process is ended, the step made to fail, or made to wait until it
//! is killed or its lease is lost; in every write mode, and in both ways to run Highwater: the
//! embedded process for both kinds of target, and a cluster of daemons over etcd. However it
//! struck, the run then ends, and rows and ledger are exact.
//!
//! A normal run strikes at each place once and takes turns through the rest; `make crash-matrix`
//! does every cell. `HIGHWATER_MATRIX_CELL=t2::before` picks the cells whose names hold that text.

mod bench;
mod cell;
mod cluster_cell;
mod place;
mod runs_cell;
mod table;

use std::fmt;

use bench::{Bench, ClusterBench, in_turns};
use cell::{Action, Cell};
use cluster_cell::{ClusterCell, Victim};
use place::{
    ATTEMPT, CALLS, CLAIM, CUT, DELETES, FENCE, IN_PLACE, NEWER_RUN, Place, RECORDS, REFRESH,
    STAGED, SWAP, TASKS, TWIN, WINDOW,
};
use runs_cell::{RunsCell, Story};
use table::{Engine, Mode};

/// Cells of the embedded mode at once. Most of them wait most of the time.
const CELLS_AT_ONCE: usize = 3;
/// Cells of a cluster at once. They wait still more: for sessions and leads that have to end.
const CLUSTER_CELLS_AT_ONCE: usize = 5;

/// How the partitions of a backfill are written.
const PARTITIONED: [Mode; 3] = [Mode::Append, Mode::ReplacePartition, Mode::Merge];
const WHOLE: [Mode; 1] = [Mode::Refresh];
const WAITING: [Mode; 1] = [Mode::Staged];
const BESIDE: [Mode; 1] = [Mode::Swap];
const ACTIONS: [Action; 4] = [Action::Abort, Action::Fail, Action::Kill, Action::Resume];
const WORKERS: [Victim; 2] = [Victim::Worker, Victim::WorkerForGood];
const COORDINATORS: [Victim; 2] = [Victim::OnlyCoordinator, Victim::LeaderOfTwo];

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_an_attempt_loses_and_doubles_nothing() {
    strike(&ATTEMPT, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_claim_loses_and_doubles_nothing() {
    strike(&CLAIM, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_refresh_leaves_the_old_rows_or_the_new() {
    strike_in(&WHOLE, &REFRESH, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_refresh_of_a_cluster_leaves_the_old_rows_or_the_new() {
    strike_cluster_in(&WHOLE, &REFRESH, &[Victim::Worker], 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_refresh_of_a_large_table_leaves_the_old_rows_or_the_new() {
    strike_in(&WAITING, &STAGED, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_the_fence_of_a_cancel_loses_and_doubles_nothing() {
    strike_between_runs(&FENCE, Story::Cancelled, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_newer_run_loses_and_doubles_nothing_of_an_older_one() {
    strike_between_runs(&NEWER_RUN, Story::Failed, 6).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_an_attempt_of_a_cluster_loses_and_doubles_nothing() {
    strike_cluster(&ATTEMPT, &WORKERS, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_claim_of_a_cluster_loses_and_doubles_nothing() {
    strike_cluster(&CLAIM, &WORKERS, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_around_a_call_of_a_worker_of_a_cluster_loses_and_doubles_nothing() {
    strike_cluster(&CALLS, &WORKERS, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_around_a_transaction_of_tasks_in_a_cluster_loses_and_doubles_nothing() {
    strike_cluster(&TASKS, &COORDINATORS, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_around_a_record_of_a_run_in_a_cluster_loses_and_doubles_nothing() {
    strike_cluster(&RECORDS, &COORDINATORS, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_swap_leaves_the_old_table_or_the_new() {
    strike_in(&BESIDE, &SWAP, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_publish_in_place_leaves_the_old_rows_or_the_new() {
    strike_in(&[Mode::InPlace], &IN_PLACE, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_the_building_of_a_table_leaves_it_whole() {
    strike_in(&[Mode::Twin], &TWIN, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_while_a_table_is_cut_by_its_key_loses_and_doubles_nothing() {
    strike_in(&[Mode::Keyset], &CUT, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_cluster_that_cuts_a_table_by_its_key_loses_and_doubles_nothing() {
    strike_cluster_in(&[Mode::Keyset], &CUT, &[Victim::Worker], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_comparison_of_keys_removes_what_is_gone_and_nothing_else() {
    strike_in(&[Mode::Deletes], &DELETES, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strike_within_a_swap_of_a_cluster_leaves_the_old_table_or_the_new() {
    strike_cluster_in(&BESIDE, &SWAP, &[Victim::Worker], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_moves_with_the_rows_or_not_at_all() {
    strike_in(&[Mode::Window], &WINDOW, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_of_a_cluster_moves_with_the_rows_or_not_at_all() {
    strike_cluster_in(&[Mode::Window], &WINDOW, &[Victim::Worker], 3).await;
}

/// What an embedded cell may be: what strikes, the engine, and how rows are written.
fn embedded(modes: &[Mode]) -> Vec<(Action, Engine, Mode)> {
    let mut combinations = Vec::new();
    for &mode in modes {
        for &engine in mode.engines() {
            combinations.extend(ACTIONS.map(|action| (action, engine, mode)));
        }
    }
    combinations
}

async fn strike_between_runs(places: &[Place], story: Story, offset: usize) {
    let cells = chosen(
        places,
        &embedded(&PARTITIONED),
        offset,
        |place, (action, engine, mode)| RunsCell {
            place,
            story,
            action,
            engine,
            mode,
        },
    );
    if !cells.is_empty() {
        in_turns(Bench::start().await.unwrap(), cells, CELLS_AT_ONCE).await;
    }
}

async fn strike(places: &[Place], offset: usize) {
    strike_in(&PARTITIONED, places, offset).await;
}

async fn strike_in(modes: &[Mode], places: &[Place], offset: usize) {
    let combinations = embedded(modes);
    let cells = chosen(
        places,
        &combinations,
        offset,
        |place, (action, engine, mode)| Cell {
            place,
            action,
            engine,
            mode,
        },
    );
    if !cells.is_empty() {
        in_turns(Bench::start().await.unwrap(), cells, CELLS_AT_ONCE).await;
    }
}

async fn strike_cluster(places: &[Place], victims: &[Victim], offset: usize) {
    strike_cluster_in(&PARTITIONED, places, victims, offset).await;
}

async fn strike_cluster_in(modes: &[Mode], places: &[Place], victims: &[Victim], offset: usize) {
    let mut combinations = Vec::new();
    for &mode in modes {
        for victim in victims {
            combinations.extend(ACTIONS.map(|action| (action, *victim, mode)));
        }
    }
    let cells = chosen(
        places,
        &combinations,
        offset,
        |place, (action, victim, mode)| ClusterCell {
            place,
            action,
            victim,
            mode,
        },
    );
    if !cells.is_empty() {
        in_turns(
            ClusterBench::start().await.unwrap(),
            cells,
            CLUSTER_CELLS_AT_ONCE,
        )
        .await;
    }
}

/// Every cell when all are wanted or some are picked; else one for each place, taking turns through
/// the combinations.
fn chosen<C: Copy, T: fmt::Display>(
    places: &[Place],
    combinations: &[C],
    offset: usize,
    cell: impl Fn(Place, C) -> T,
) -> Vec<T> {
    let all = std::env::var_os("HIGHWATER_FULL_MATRIX").is_some_and(|value| value == "1");
    let only = std::env::var("HIGHWATER_MATRIX_CELL").unwrap_or_default();
    let mut cells = Vec::new();
    for (at, place) in places.iter().enumerate() {
        // Seven and sixteen have no factor in common: sixteen places in a row meet sixteen
        // combinations.
        let turn = (at * 7 + offset) % combinations.len();
        let chosen = combinations
            .iter()
            .enumerate()
            .filter(|(nth, _)| all || !only.is_empty() || *nth == turn);
        cells.extend(chosen.map(|(_, combination)| cell(*place, *combination)));
    }
    cells.retain(|cell| cell.to_string().contains(&only));
    cells
}
