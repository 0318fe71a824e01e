//! Random histories: whatever happened, the store tells a new leader what the old one knew.

use std::time::Duration;

use highwater_common::assignment::Outcome;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::fixtures::{Bench, FakeWorker, options, permanent, pipeline, transient, well};
use crate::store::faulty::Fault;

/// One random history; ends with the view in memory held against the one that the store gives.
async fn history(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bench = Bench::with(4, seed, options());
    let spec = pipeline(
        "shop",
        "limits: {tasks: 6}",
        &[
            ("a", "$load    retries: {max_attempts: 2}"),
            ("b", "$load    depends_on: [a]"),
            (
                "c",
                "    strategy: {type: noop, tasks: 5}\n    limits: {tasks: 2}",
            ),
        ],
    );
    let mut workers: Vec<FakeWorker> = Vec::new();
    let mut run = bench.submit(&spec).await;
    for turn in 0..60_u32 {
        match rng.random_range(0..20) {
            0 => {
                let name = format!("w{}", rng.random_range(0..3));
                let session = highwater_common::id::SessionId::from_bytes(rng.random());
                workers.extend(FakeWorker::register(bench.handle().clone(), &name, session).await);
            }
            1 if turn % 3 == 0 => bench.new_term().await,
            2 => tokio::time::sleep(Duration::from_secs(rng.random_range(1..20))).await,
            3 => bench.store.next(Fault::AppliedAnswerLost),
            4 => bench.store.next(Fault::NeverArrived),
            5 => drop(bench.retry(run).await),
            6 if turn % 5 == 0 => drop(bench.cancel(run).await),
            7 => {
                run = match bench.status(run).await.has_ended() {
                    true => bench.submit(&spec).await,
                    false => run,
                }
            }
            8 if turn % 4 == 0 => {
                bench.kill().await;
                workers
                    .iter_mut()
                    .for_each(|worker| worker.handle = bench.handle().clone());
            }
            _ => {
                let Some(at) = (!workers.is_empty()).then(|| rng.random_range(0..workers.len()))
                else {
                    continue;
                };
                let worker = &mut workers[at];
                let Ok(tasks) = worker.pull(rng.random_range(1..6)).await else {
                    continue;
                };
                for task in tasks {
                    let outcome = match rng.random_range(0..12) {
                        0 => transient(),
                        1 => Outcome::Released,
                        2 if turn % 2 == 0 => permanent(),
                        3 => continue, // kept
                        _ => well(&task, 4),
                    };
                    let _ = worker.complete(&task, outcome).await;
                }
                let _ = worker.beat().await;
            }
        }
        let (held, loaded) = bench.views().await;
        assert_eq!(held, loaded, "HIGHWATER_SEED={seed} after turn {turn}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_view_rebuilt_from_the_store_equals_the_view_in_memory() {
    for seed in crate::simulation::seeds(40) {
        history(seed).await;
    }
}
