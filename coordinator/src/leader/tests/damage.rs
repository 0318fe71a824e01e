//! What cannot be read of one run, or panics when it is derived, is that run's damage: the leader
//! leads on.

use highwater_common::status::RunStatus;

use crate::error::ServiceError;
use crate::fixtures::{Bench, one_load, pipeline};
use crate::store::{Op, RecordStore as _, StoreTxn, TxnOutcome};

/// Spoils every record below a prefix, as if a bit had turned on a disk. The form that it says
/// stays.
async fn spoil(bench: &Bench, prefix: &str) {
    let records = bench.store.scan(prefix).await.unwrap();
    assert!(!records.is_empty(), "nothing at {prefix}");
    for (key, mut value) in records {
        value.truncate(value.len() - 1);
        let txn = StoreTxn {
            expects: Vec::new(),
            ops: vec![Op::Put(key, value)],
        };
        assert!(matches!(
            bench.store.commit(txn).await,
            Ok(TxnOutcome::Applied)
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn one_unreadable_spec_damages_one_run() {
    for prefix in ["pipeline/shop/", "plan/", "facts/", "att/", "seg/", "step/"] {
        // GIVEN a run under way, and a record of it that can no longer be read
        let bench = Bench::new(2);
        let mut worker = bench.worker("w1").await;
        let run = bench.prepared(&mut worker).await;
        let _ = worker.take_one().await;
        spoil(&bench, prefix).await;
        // WHEN a new term reads it
        bench.new_term().await;
        // THEN that run has failed and says why
        let (status, reason) = bench
            .look(move |leader| {
                let record = &leader.cluster().runs[&run].record;
                (record.status, record.reason.clone())
            })
            .await;
        assert_eq!(status, RunStatus::Failed, "{prefix}: {reason}");
        assert!(
            reason.contains("cannot be read") || reason.contains("can no longer be read"),
            "{prefix}: {reason}"
        );
        assert!(
            matches!(bench.retry(run).await, Err(ServiceError::Damaged { .. })),
            "{prefix}"
        );
        // AND another pipeline runs
        let mut worker = bench.worker("w1").await;
        let other = bench
            .submit(&pipeline("other", "", &[("items", "$load")]))
            .await;
        assert_eq!(
            bench.finish(&mut worker, other).await,
            RunStatus::Success,
            "{prefix}"
        );
        // AND it can be cancelled: its target is fenced, or it says that nobody knows the target
        bench.cancel(run).await.unwrap();
        assert_eq!(
            bench.finish(&mut worker, run).await,
            RunStatus::Cancelled,
            "{prefix}"
        );
        let reason = bench
            .look(move |leader| leader.cluster().runs[&run].record.reason.clone())
            .await;
        assert_eq!(
            reason.contains("were not fenced"),
            prefix.starts_with("pipeline/"),
            "{prefix}: {reason}"
        );
        // AND the pipeline itself runs again
        let again = bench.submit(&one_load()).await;
        assert_eq!(
            bench.finish(&mut worker, again).await,
            RunStatus::Success,
            "{prefix}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_own_record_is_unreadable_is_left_out_and_loses_nothing() {
    let bench = Bench::new(2);
    let mut worker = bench.worker("w1").await;
    let run = bench.prepared(&mut worker).await;
    let before = bench.store.scan("").await.unwrap().len();
    spoil(&bench, "run/").await;
    bench.new_term().await;
    assert!(
        bench
            .look(move |leader| !leader.cluster().runs.contains_key(&run))
            .await
    );
    assert_eq!(bench.store.scan("").await.unwrap().len(), before);
    let mut worker = bench.worker("w1").await;
    let other = bench
        .submit(&pipeline("other", "", &[("items", "$load")]))
        .await;
    assert_eq!(bench.finish(&mut worker, other).await, RunStatus::Success);
}
