//! A table that takes the place of another: whole, once, and only where its task is still its own.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::commit::LedgerState;
use highwater_common::range::Slice;
use highwater_common::spec::TableName;

use super::bench::{Bench, Given, commit, failure, range};
use super::{TableChange, TargetFixture};
use crate::connector::faulty::{Fault, Faulty, TargetOp};
use crate::connector::{
    ClaimOutcome, CommitOutcome, ConnectorError, DataTx, Doing, ExchangeRequest, Exchanged,
    GuardOutcome, GuardStep, ShadowFound, ShadowKind, ShadowRequest, Shadows, TargetProbe,
    WriteRequest,
};

/// The slice of the task that publishes: none of the rows'.
const PUBLISH: (i64, i64) = (500, 510);

/// A target whose tables can take the place of others.
pub trait SwapFixture: TargetFixture {
    /// A session that reads the table, and may read it again, until it is dropped.
    fn keep_reading(&self) -> impl Future<Output = Box<dyn Any + Send>> + Send;
}

/// A table with the rows 0 to 9, and a finished shadow with the rows 20 to 29.
struct Swap<F> {
    bench: Bench<F>,
    identity: String,
    shadow: TableName,
}

impl<F: SwapFixture> Swap<F> {
    async fn finished() -> Self {
        let bench = Bench::<F>::prepared().await;
        bench.load(range(0, 10), Given::rows(0..10)).await;
        let identity = identity(&bench).await;
        let mut swap = Self {
            bench,
            identity,
            shadow: TableName {
                schema: None,
                name: String::new(),
            },
        };
        let request = swap.shadow_request();
        swap.shadow = swap.shadows().make(&request).await.expect("it is made");
        swap.load_shadow(range(20, 30), Given::rows(20..30)).await;
        swap.shadows()
            .finish(&request, &Doing::default())
            .await
            .expect("finished");
        swap
    }

    fn shadows(&self) -> &dyn Shadows {
        self.bench.target.shadows().expect("the target has shadows")
    }

    fn shadow_request(&self) -> ShadowRequest {
        ShadowRequest {
            table: self.bench.fixture.table(),
            identity: self.identity.clone(),
            run: self.bench.run,
            stream: self.bench.claim(range(0, 1), 1).stream,
        }
    }

    fn exchange_request(&self) -> ExchangeRequest {
        ExchangeRequest {
            table: self.bench.fixture.table(),
            identity: self.identity.clone(),
            by: self.shadow.clone(),
            run: self.bench.run,
            stream: self.bench.claim(range(0, 1), 1).stream,
            lock_wait: Duration::from_millis(200),
        }
    }

    async fn load_shadow(&self, slice: Slice, rows: Given) {
        let request = WriteRequest {
            table: self.shadow.clone(),
            ..self.bench.write_request(slice)
        };
        let claim = self.bench.claim(slice, 1);
        let loaded = self.bench.load_as(&claim, &request, rows).await;
        loaded.expect("the shadow is loaded");
    }

    /// An attempt of the task that publishes, up to its guard.
    async fn exchanged(&self, attempt: u32) -> Result<(DataTx, Exchanged), ConnectorError> {
        let claim = self.bench.claim(range(PUBLISH.0, PUBLISH.1), attempt);
        let tx = self.bench.held(&claim).await.begin().await?;
        tx.exchange(&self.exchange_request()).await
    }

    async fn publish(&self, attempt: u32) -> Exchanged {
        let (tx, exchanged) = self.exchanged(attempt).await.expect("it is exchanged");
        commit(tx, &Receipt::default()).await;
        exchanged
    }

    async fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self
            .bench
            .fixture
            .rows(None)
            .await
            .iter()
            .map(|row| row.id)
            .collect();
        ids.sort_unstable();
        ids
    }

    async fn found(&self) -> Vec<ShadowFound> {
        self.shadows().find().await.expect("they are looked for")
    }
}

async fn identity<F: TargetFixture>(bench: &Bench<F>) -> String {
    let probe = TargetProbe {
        exchange: true,
        ..bench.target_probe()
    };
    let facts = bench.target.probe(&probe).await.expect("it is probed");
    let facts = facts.table.expect("the table is there").exchange;
    facts.expect("it was asked for").identity
}

fn ids(of: std::ops::Range<i64>) -> Vec<i64> {
    of.collect()
}

/// The rows of the shadow are read by the table's name, and the receipts stay true.
pub async fn a_shadow_takes_the_place_of_the_table<F: SwapFixture>() {
    let swap = Swap::<F>::finished().await;
    let exchanged = swap.publish(1).await;
    assert_eq!(swap.ids().await, ids(20..30));
    assert_eq!(identity(&swap.bench).await, exchanged.identity);
    assert_ne!(exchanged.identity, swap.identity);
    // AND the table that left is found with whose it is, and the shadow is none any more
    let found = swap.found().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].table, exchanged.kept);
    assert_eq!(
        (found[0].kind, found[0].run),
        (ShadowKind::Kept, swap.bench.run)
    );
    assert_eq!(found[0].identity, swap.identity);
    assert!(found[0].since_micros > 0);
    // AND the stream goes on with the table that is there now
    swap.bench.prepare().await;
}

/// A run that died goes on with its shadow, rows and all; another run has its own.
pub async fn a_run_goes_on_with_its_own_shadow<F: SwapFixture>() {
    let mut swap = Swap::<F>::finished().await;
    let request = swap.shadow_request();
    let again = swap.shadows().make(&request).await.expect("it is found");
    assert_eq!(again, swap.shadow);
    swap.shadows()
        .finish(&request, &Doing::default())
        .await
        .expect("nothing is left to do");
    let found = swap.found().await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].kind, &found[0].table),
        (ShadowKind::Shadow, &swap.shadow)
    );
    // GIVEN another run, which has taken the stream
    let first = swap.bench.run;
    swap.bench.next_run();
    swap.bench.prepare().await;
    let other = swap
        .shadows()
        .make(&swap.shadow_request())
        .await
        .expect("made");
    assert_ne!(other, swap.shadow);
    // WHEN the first one is dropped THEN the other one stays, and the table does
    swap.shadows().drop(&found[0]).await.expect("it is dropped");
    swap.shadows()
        .drop(&found[0])
        .await
        .expect("it is gone already");
    let left = swap.found().await;
    assert_eq!(left.len(), 1);
    assert!(left[0].table == other && left[0].run != first, "{left:?}");
    assert_eq!(swap.ids().await, ids(0..10));
}

/// A shadow that lacks its key is not published.
pub async fn an_unfinished_shadow_is_not_published<F: SwapFixture>() {
    let mut swap = Swap::<F>::finished().await;
    swap.bench.next_run();
    swap.bench.prepare().await;
    let request = swap.shadow_request();
    swap.shadow = swap.shadows().make(&request).await.expect("made");
    let error = failure(swap.exchanged(1).await);
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Permanent, "shadow_unfit")
    );
    assert_eq!(swap.ids().await, ids(0..10));
    // AND neither is one of a table that was altered since, nor one that is gone
    swap.shadows()
        .finish(&request, &Doing::default())
        .await
        .expect("finished");
    swap.bench.change([TableChange::AddColumn]).await;
    assert_eq!(failure(swap.exchanged(2).await).code, "shadow_unfit");
    for found in swap.found().await {
        swap.shadows().drop(&found).await.expect("dropped");
    }
    assert_eq!(failure(swap.exchanged(3).await).code, "shadow_unfit");
    assert_eq!(
        failure(swap.shadows().finish(&request, &Doing::default()).await).code,
        "shadow_unfit"
    );
}

/// A table that somebody made anew under the name is not taken for the planned one.
pub async fn a_target_replaced_since_the_plan_is_not_swapped<F: SwapFixture>() {
    let swap = Swap::<F>::finished().await;
    let somebodys = [
        TableChange::RenameAway,
        TableChange::Make,
        TableChange::FillFromAway,
    ];
    swap.bench.change(somebodys).await;
    let error = failure(swap.exchanged(1).await);
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Permanent, "target_replaced")
    );
    assert_eq!(swap.ids().await, ids(0..10));
    let request = swap.shadow_request();
    assert_eq!(
        failure(swap.shadows().make(&request).await).code,
        "target_replaced"
    );
    assert_eq!(
        failure(swap.shadows().finish(&request, &Doing::default()).await).code,
        "target_replaced"
    );
}

/// Whoever reads for long keeps nobody else from reading: the swap gives up, and comes again.
pub async fn a_blocked_swap_leaves_the_lock_queue<F: SwapFixture>() {
    let swap = Swap::<F>::finished().await;
    let reader = swap.bench.fixture.keep_reading().await;
    let error = failure(swap.exchanged(1).await);
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Resource, "swap_blocked")
    );
    // THEN others read while the reader still holds on, and nothing is changed
    assert_eq!(swap.ids().await, ids(0..10));
    assert_eq!(swap.found().await[0].kind, ShadowKind::Shadow);
    // AND the same attempt goes through once the reader is gone
    drop(reader);
    let request = swap.exchange_request();
    let patient = ExchangeRequest {
        lock_wait: Duration::from_secs(10),
        ..request
    };
    let claim = swap.bench.claim(range(PUBLISH.0, PUBLISH.1), 1);
    let tx = swap.bench.held(&claim).await.begin().await.expect("begins");
    let (tx, _) = tx.exchange(&patient).await.expect("it is exchanged");
    commit(tx, &Receipt::default()).await;
    assert_eq!(swap.ids().await, ids(20..30));
}

/// Whose claim is somebody else's by the time of the guard exchanges nothing.
pub async fn a_zombie_cannot_publish_its_shadow<F: SwapFixture>() {
    let swap = Swap::<F>::finished().await;
    let (zombie, _) = swap.exchanged(1).await.expect("it is exchanged");
    swap.bench
        .fixture
        .alter_claim(PUBLISH.0, LedgerState::Open, 1, true)
        .await;
    let guarded = zombie.guard(&GuardStep::last(Receipt::default())).await;
    assert!(matches!(guarded, Ok(GuardOutcome::Lost)));
    assert_eq!(swap.ids().await, ids(0..10));
    assert_eq!(identity(&swap.bench).await, swap.identity);
    assert_eq!(swap.found().await[0].kind, ShadowKind::Shadow);
    // AND the later attempt publishes
    swap.publish(3).await;
    assert_eq!(swap.ids().await, ids(20..30));
}

/// The commit may be lost, or only its answer: the next attempt publishes what is not published.
pub async fn a_crash_around_the_rename_publishes_once<F: SwapFixture>() {
    for (fault, is_there) in [
        (Fault::Reject(ErrorClass::Transient), false),
        (Fault::AppliedAnswerLost, true),
    ] {
        let mut swap = Swap::<F>::finished().await;
        let faulty = Faulty::around(Arc::clone(&swap.bench.target));
        faulty.next(TargetOp::Commit, fault);
        swap.bench.target = Arc::new(faulty);
        let (tx, _) = swap.exchanged(1).await.expect("it is exchanged");
        let guarded = tx.guard(&GuardStep::last(Receipt::default())).await;
        let Ok(GuardOutcome::Holds(guarded)) = guarded else {
            panic!("the guard was to hold");
        };
        let outcome = guarded.commit().await;
        assert!(matches!(outcome, CommitOutcome::Unknown(_)), "{outcome:?}");
        let claim = swap.bench.claim(range(PUBLISH.0, PUBLISH.1), 2);
        match swap.bench.target.claim(&claim).await.expect("an answer") {
            ClaimOutcome::Committed(_) => assert!(is_there, "nothing was committed"),
            ClaimOutcome::Held(held) => {
                assert!(!is_there, "it is committed");
                let tx = held.begin().await.expect("begins");
                let (tx, _) = tx
                    .exchange(&swap.exchange_request())
                    .await
                    .expect("exchanged");
                commit(tx, &Receipt::default()).await;
            }
            other => panic!("unexpected: {other:?}"),
        }
        assert_eq!(swap.ids().await, ids(20..30));
        let found = swap.found().await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].kind, &found[0].identity),
            (ShadowKind::Kept, &swap.identity)
        );
    }
}

/// The kept table comes back as it left; the other one is kept then.
pub async fn an_undone_swap_brings_the_old_table_back<F: SwapFixture>() {
    let mut swap = Swap::<F>::finished().await;
    let exchanged = swap.publish(1).await;
    let first = std::mem::replace(&mut swap.identity, exchanged.identity);
    swap.shadow = exchanged.kept;
    let (tx, undone) = {
        let claim = swap.bench.claim(range(PUBLISH.0 + 10, PUBLISH.1 + 10), 1);
        let tx = swap.bench.held(&claim).await.begin().await.expect("begins");
        tx.exchange(&swap.exchange_request())
            .await
            .expect("it is exchanged")
    };
    commit(tx, &Receipt::default()).await;
    assert_eq!(undone.identity, first);
    assert_eq!(swap.ids().await, ids(0..10));
    assert_eq!(identity(&swap.bench).await, first);
    let found = swap.found().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0].table, &found[0].identity),
        (&undone.kept, &swap.identity)
    );
    swap.bench.prepare().await;
}
