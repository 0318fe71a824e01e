//! Who watches a run is told all that matters, and costs the leader nothing of his own.

use std::pin::Pin;

use futures_util::StreamExt as _;

use super::*;
use crate::fixtures::{Bench, one_load, well};

type Documents = Pin<Box<dyn Stream<Item = Result<pb::Document, Status>> + Send>>;

/// The next document, read.
async fn next(documents: &mut Documents) -> RunDocument {
    let document = documents
        .next()
        .await
        .expect("a document")
        .expect("no error");
    serde_json::from_slice(&document.json).expect("a run")
}

#[tokio::test(start_paused = true)]
async fn sixty_four_followers_cost_the_leader_as_much_as_one() {
    for followers in [1, 64] {
        // GIVEN a run under way, and so many who watch it
        let bench = Bench::new(1_000);
        let mut worker = bench.worker("w1").await;
        let run = bench.prepared(&mut worker).await;
        let board = Board::of(bench.handle().clone());
        let mut watching: Vec<Documents> = Vec::new();
        for _ in 0..followers {
            watching.push(Box::pin(board.watch(run)));
        }
        for documents in &mut watching {
            assert_eq!(next(documents).await.tasks.done, 0);
        }
        // WHEN it goes on for four seconds, with a change every few milliseconds
        let before = bench.look(|leader| leader.looks()).await;
        let began = tokio::time::Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            let task = worker.take_one().await;
            worker.complete(&task, well(&task, 1_000)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let looks = bench.look(|leader| leader.looks()).await - before;
        // THEN the leader was asked four times a second, by however many
        assert!(
            looks <= 4 * 4 + 3,
            "{looks} looks for {followers} followers"
        );
        // AND all know how far it is, and hear of its end
        let done = bench
            .look(move |leader| {
                leader.cluster().runs[&run]
                    .steps
                    .values()
                    .next()
                    .unwrap()
                    .counts()
                    .done
            })
            .await;
        bench.finish(&mut worker, run).await;
        for documents in &mut watching {
            assert!(next(documents).await.tasks.done >= done - 60);
            while let Some(document) = documents.next().await {
                let document: RunDocument =
                    serde_json::from_slice(&document.unwrap().json).unwrap();
                assert!(!document.status.has_ended() || document.tasks.done == 1_000);
            }
        }
        assert!(board.lock().is_empty(), "nobody watches any more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_watches_any_more_is_not_looked_at() {
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.submit(&one_load()).await;
    let board = Board::of(bench.handle().clone());
    // GIVEN two who watch, of whom one goes, THEN the other one is told on
    let (mut first, mut second): (Documents, Documents) =
        (Box::pin(board.watch(run)), Box::pin(board.watch(run)));
    let (before, _) = (next(&mut first).await, next(&mut second).await);
    drop(first);
    let task = worker.take_one().await;
    worker.complete(&task, well(&task, 2)).await.unwrap();
    assert_ne!(next(&mut second).await.status, before.status);
    // WHEN that one goes too, THEN the loop ends, and one who comes later begins anew
    drop(second);
    tokio::time::sleep(LOOK_EVERY * 2).await;
    assert!(board.lock().is_empty());
    let mut third: Documents = Box::pin(board.watch(run));
    next(&mut third).await;
    // WHEN another term begins, THEN whoever watches is told on, to the end
    bench.new_term().await;
    bench.finish(&mut worker, run).await;
    let mut last = next(&mut third).await;
    while let Some(document) = third.next().await {
        last = serde_json::from_slice(&document.expect("no error").json).expect("a run");
    }
    assert_eq!((last.status.has_ended(), last.tasks.done), (true, 2));
}
