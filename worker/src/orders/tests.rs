//! What is kept, what is forgotten, and what comes of a task whose order is neither.

use highwater_common::assignment::StepOrder;
use highwater_common::id::{ClusterId, RunId};
use highwater_common::spec::{Noop, Strategy};

use super::*;
use crate::programs::AllowedPrograms;
use crate::supervisor::Supervisor;

/// The `no`th order, as it comes.
fn order(no: usize) -> (DocumentDigest, Vec<u8>) {
    let order = StepOrder {
        reference_time_micros: 0,
        cluster: ClusterId::from_bytes([1; 16]),
        run: RunId::from_bytes([2; 16]),
        pipeline: "shop".parse().expect("a name"),
        generation: 1,
        step: format!("s{no}").parse().expect("a name"),
        spec_digest: DocumentDigest::of(b"a spec"),
        base_dir: String::new(),
        strategy: Strategy::Noop(Noop {
            tasks: 1,
            hold: std::time::Duration::ZERO,
        }),
        attempt_millis_max: None,
        stall_millis_max: 600_000,
        errand: None,
        source: None,
        target: None,
        load_order: None,
        adopts: false,
        trace: None,
    };
    let json = serde_json::to_vec(&order).expect("an order");
    (DocumentDigest::of(&json), json)
}

fn learn(orders: &mut Orders, some: impl IntoIterator<Item = (DocumentDigest, Vec<u8>)>) {
    orders.learn(some.into_iter().collect(), |json| {
        Ok(OrderContext::new(
            serde_json::from_slice(json)?,
            "w1".to_owned(),
            AllowedPrograms::default(),
            Supervisor::default(),
        ))
    });
}

#[test]
fn orders_in_use_are_kept_and_of_the_others_the_latest() {
    // GIVEN a pull of 200 orders, all of which attempts need
    let mut orders = Orders::default();
    let all: Vec<_> = (0..200).map(order).collect();
    learn(&mut orders, all.clone());
    let held: Vec<_> = all
        .iter()
        .map(|(digest, _)| orders.of(digest).expect("just learnt"))
        .collect();
    // THEN none is forgotten
    orders.forget();
    assert_eq!(orders.digests().len(), 200);
    // WHEN the first hundred attempts have ended, and some of their orders are needed again
    drop(held.into_iter().take(100).collect::<Vec<_>>());
    learn(&mut orders, []);
    for (digest, _) in &all[..30] {
        drop(orders.of(digest).expect("known still"));
    }
    orders.forget();
    // THEN as many are kept as may be, those that were needed last among them
    assert_eq!(orders.digests().len(), UNUSED_MAX);
    for (digest, _) in &all[..30] {
        assert!(orders.digests().contains(digest));
    }
}

#[test]
fn a_task_without_an_order_it_can_read_is_an_attempt_that_failed() {
    // GIVEN an order of a version that this worker cannot read
    let mut orders = Orders::default();
    let (digest, _) = order(1);
    learn(&mut orders, [(digest, b"{\"order\": 2}".to_vec())]);
    // THEN its task fails with a reason, is counted, and its order is asked for again
    let failed = orders.of(&digest).err().expect("unreadable");
    assert_eq!(
        (failed.class, failed.code.as_str()),
        (ErrorClass::Transient, "unreadable_order")
    );
    assert!(
        failed
            .message
            .contains("one version of coordinator and worker"),
        "{}",
        failed.message
    );
    assert!(orders.digests().is_empty());
    // WHEN it does not come at all, THEN that is said
    learn(&mut orders, []);
    assert_eq!(
        orders.of(&digest).err().expect("missing").code,
        "missing_order"
    );
    // WHEN it comes, THEN the task has it
    learn(&mut orders, [order(1)]);
    assert!(orders.of(&digest).is_ok());
}
