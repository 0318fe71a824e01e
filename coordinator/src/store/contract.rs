//! The contract of [`RecordStore`], as a suite that runs on every backend: see
//! [`record_store_contract!`].
//!
//! A backend that has not passed it is none. Each case gets a store of its own.

pub mod commits;
pub mod elections;
pub mod reads;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Expect, Op, RecordStore, StoreTxn, TxnOutcome};

/// The longest that a case waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store for one case.
#[async_trait]
pub trait StoreFixture: Send + Sync + Sized {
    /// The time to live of the suite's leaderships; short, since some cases wait for its end.
    const TTL: Duration;

    /// A store without records.
    async fn fresh() -> Self;

    /// A client of the store; each call answers another one, if the store can have several.
    async fn client(&self) -> Arc<dyn RecordStore>;
}

/// Makes a module `$name` of tests, one for each case of the contract, on stores from the
/// [`StoreFixture`] `$fixture`.
#[macro_export]
macro_rules! record_store_contract {
    ($name:ident, $fixture:ty) => {
        $crate::record_store_contract! { @cases $name, $fixture,
            commits: [
                absence_and_bytes_are_what_a_commit_can_expect,
                a_refusal_tells_the_current_values_in_order_and_applies_nothing,
                of_two_assignments_of_one_task_exactly_one_applies,
                all_of_a_transaction_applies_or_nothing,
                a_record_can_go_and_come_again,
                bytes_are_compared_and_never_revisions,
                an_empty_value_is_not_an_absent_one,
                any_bytes_make_a_value,
                a_transaction_without_operations_only_checks,
                a_batch_of_120_operations_applies_and_one_of_121_is_not_sent,
                a_transaction_of_too_many_bytes_is_not_sent,
                a_key_named_twice_is_not_sent,
                no_increment_of_many_is_lost,
            ],
            reads: [
                a_scan_goes_by_bytes_and_stays_below_its_prefix,
                a_scan_ends_where_its_pages_do,
                a_scan_of_many_pages_is_one_instant_while_others_write,
                a_scan_of_large_values_comes_whole,
                a_read_sees_what_was_applied_before_it,
                a_change_wakes_those_who_wait_for_it,
                the_history_can_go_and_the_records_stay,
                a_store_can_be_named_and_measured,
            ],
            elections: [
                an_office_is_held_by_one,
                of_many_candidates_exactly_one_wins,
                a_living_reign_outlasts_its_ttl,
                a_resigned_office_is_free_at_once,
                an_office_that_was_let_go_is_free_after_its_ttl,
                a_late_resignation_does_not_touch_a_successor,
                the_record_of_an_office_is_read_and_compared_like_any_other,
                a_record_put_over_an_office_outlives_its_lease,
            ],
        }
    };
    (@cases $name:ident, $fixture:ty, $($group:ident: [$($case:ident,)*],)*) => {
        mod $name {
            use super::*;

            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture = <$fixture as $crate::store::contract::StoreFixture>::fresh().await;
                    $crate::store::contract::$group::$case(&fixture).await;
                }
            )*)*
        }
    };
}

fn absent(key: &str) -> Expect {
    Expect::Absent(key.to_owned())
}

fn bytes(key: &str, value: &[u8]) -> Expect {
    Expect::Bytes(key.to_owned(), value.to_vec())
}

fn put(key: &str, value: &[u8]) -> Op {
    Op::Put(key.to_owned(), value.to_vec())
}

fn delete(key: &str) -> Op {
    Op::Delete(key.to_owned())
}

async fn commit(store: &dyn RecordStore, expects: Vec<Expect>, ops: Vec<Op>) -> TxnOutcome {
    store
        .commit(StoreTxn { expects, ops })
        .await
        .expect("the store answers")
}

async fn apply(store: &dyn RecordStore, ops: Vec<Op>) {
    assert_eq!(commit(store, vec![], ops).await, TxnOutcome::Applied);
}

async fn get(store: &dyn RecordStore, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.expect("the store answers")
}
