//! The contract of sources and targets as a suite of tests: what the traits promise, tried on a
//! real server.
//!
//! A connector plugs in with a fixture and a macro, [`target_contract!`](crate::target_contract) or
//! [`source_contract!`](crate::source_contract); one that merges with
//! [`merge_contract!`](crate::merge_contract), too, one that answers for checks with
//! [`check_contract!`](crate::check_contract), one whose tables can take the place of others with
//! [`swap_contract!`](crate::swap_contract), and one where rows can wait beside a table with
//! [`staging_contract!`](crate::staging_contract). The suite speaks no SQL: how its table is
//! changed and looked at is the fixture's business.

mod bench;
pub mod checks;
pub mod chunks;
pub mod claims;
pub mod closes;
pub mod decisions;
pub mod drops;
pub mod fences;
pub mod merges;
pub mod reads;
pub mod receipts;
pub mod refreshes;
pub mod stages;
pub mod streams;
pub mod swaps;
pub mod writes;

pub use bench::Given;

use std::sync::Arc;

use async_trait::async_trait;
use highwater_common::commit::LedgerState;
use highwater_common::facts::{ColumnFacts, CursorForm, Engine};
use highwater_common::spec::TableName;

use super::{Source, Target};

/// How many attempts may have an open transaction on a target at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// One: the next attempt's claim waits until the transaction before it has ended.
    One,
    /// Many: a zombie's transaction may stay open while its successor claims and commits.
    Many,
}

/// A row of the suite's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub id: i64,
    /// The position.
    pub pos: Option<i64>,
    /// The rest.
    pub note: Option<String>,
}

impl Row {
    const OLD: &str = "old";

    /// A row of somebody else's.
    fn old(id: i64) -> Self {
        Self {
            id,
            pos: Some(id),
            note: Some(Self::OLD.to_owned()),
        }
    }

    fn is_old(&self) -> bool {
        self.note.as_deref() == Some(Self::OLD)
    }
}

/// What somebody else does to the suite's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// Makes it, empty, with its three columns and its key.
    Make,
    /// Puts a row into it.
    Insert(Row),
    /// Gives it one more column, which may be NULL.
    AddColumn,
    /// What an owner does now and then, and what changes no row: `vacuum`.
    Tidy,
    /// Gives it another name.
    RenameAway,
    /// Gives the table that was renamed away its own name again.
    RenameBack,
    /// Puts the rows of the table that was renamed away into the one in its place.
    FillFromAway,
    /// Deletes its rows.
    Empty,
    /// Drops it.
    Drop,
}

impl TableChange {
    /// The statement for a table of this name, in the SQL that all dialects share.
    #[must_use]
    pub fn sql(&self, table: &str) -> String {
        let away = format!("{table}_away");
        match self {
            Self::Make => format!(
                "create table {table} (id bigint not null primary key, pos bigint, note text)"
            ),
            Self::Insert(Row { id, pos, note }) => {
                let pos = pos.map_or("null".to_owned(), |pos| pos.to_string());
                let note = note.as_ref();
                let note = note.map_or("null".to_owned(), |note| format!("'{note}'"));
                format!("insert into {table} (id, pos, note) values ({id}, {pos}, {note})")
            }
            Self::AddColumn => format!("alter table {table} add column more text"),
            Self::Tidy => "vacuum".to_owned(),
            Self::RenameAway => format!("alter table {table} rename to {away}"),
            Self::RenameBack => format!("alter table {away} rename to {table}"),
            Self::FillFromAway => format!("insert into {table} select id, pos, note from {away}"),
            Self::Empty => format!("delete from {table}"),
            Self::Drop => format!("drop table {table}"),
        }
    }
}

/// A target that belongs to one test.
#[async_trait]
pub trait TargetFixture: Send + Sync + Sized {
    /// How many writers the target has at once.
    const WRITERS: Writers;

    /// An empty target without a ledger.
    async fn fresh() -> Self;

    /// A connector on the target; every call gives a new one, as another worker would have.
    fn target(&self) -> Arc<dyn Target>;

    /// The engine whose types [`TargetFixture::columns`] have.
    fn source_engine(&self) -> Engine;

    /// The name of the table that the suite loads; it does not exist yet.
    fn table(&self) -> TableName;

    /// `id`, a whole number of 64 bits, NOT NULL; `pos`, one that may be NULL; `note`, text that
    /// may be NULL.
    fn columns(&self) -> Vec<ColumnFacts>;

    /// How positions of `pos` are written.
    fn form(&self) -> CursorForm {
        CursorForm::Native
    }

    /// Changes the table as somebody else would.
    async fn change(&self, change: &TableChange);

    /// The rows of the table, which exists: all of them, or those whose position is `from` or
    /// behind it.
    async fn rows(&self, from: Option<i64>) -> Vec<Row>;

    /// Makes the table swallow the row with this `id` behind the writer's back: inserted, counted,
    /// and gone.
    async fn swallow(&self, id: i64);

    /// Deletes the ledger's task rows, as a target does that is restored from a backup.
    async fn forget_claims(&self);

    /// Changes the ledger row whose range begins at `start`, behind everybody's back: its state,
    /// its token by so much, and its nonce to another if `renewed`.
    async fn alter_claim(&self, start: i64, state: LedgerState, later: i64, renewed: bool);

    /// Counts one more chunk in the ledger row of the claim whose range begins at `start`, as a
    /// session of the same attempt does that nobody heard of any more.
    async fn count_a_chunk(&self, start: i64);
}

/// A source that belongs to one test.
#[async_trait]
pub trait SourceFixture: Send + Sync + Sized {
    /// A source whose table `items` has `rows` rows: `id` 1, 2, …, the primary key; `pos`, indexed,
    /// `id * 10`, or NULL for every seventh; `note`, the text `note <id>`, or NULL for every fifth.
    async fn fresh(rows: i64) -> Self;

    /// A connector on the source.
    fn source(&self) -> Arc<dyn Source>;

    /// The name of the table.
    fn table(&self) -> TableName {
        TableName {
            schema: None,
            name: "items".to_owned(),
        }
    }
}

/// Runs the contract of a [`Target`](crate::connector::Target) on a [`TargetFixture`].
#[macro_export]
macro_rules! target_contract {
    ($name:ident, $fixture:ty) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;

            $crate::contract_cases! { $fixture;
                claims::a_growing_token_takes_the_claim_over
                claims::an_equal_token_with_another_nonce_is_fenced
                claims::a_smaller_token_is_fenced
                claims::the_same_attempt_may_claim_again
                claims::guard_is_last_and_fences_the_zombie
                claims::a_successors_claim_alone_fences_the_zombie
                claims::a_token_issued_again_fences_the_zombie_by_its_nonce
                claims::a_committed_task_replays_its_receipt
                fences::a_fenced_run_commits_nothing_more
                fences::a_run_is_fenced_in_a_target_without_a_ledger
                claims::a_changed_spec_is_told_and_claims_nothing
                fences::a_second_cluster_is_refused_until_it_adopts
                fences::a_run_is_fenced_whoever_the_target_belongs_to
                claims::a_claim_on_another_target_than_planned_is_refused
                claims::a_target_keeps_its_fingerprint
                claims::a_commit_whose_answer_was_lost_is_found_in_the_ledger
                claims::attempts_at_the_same_time_all_commit
                claims::two_attempts_at_once_commit_once
                chunks::an_attempt_goes_on_where_the_commits_of_the_one_before_end
                chunks::a_part_of_a_slice_is_covered_when_its_run_is_fenced
                chunks::a_part_of_a_slice_is_no_committed_task
                chunks::a_zombie_adds_no_chunk_to_those_that_it_committed
                chunks::a_chunk_of_the_same_attempt_on_another_session_loses_the_guard
                chunks::a_watermark_that_was_moved_meanwhile_loses_the_guard
                decisions::every_claim_does_to_the_ledger_what_is_decided
                decisions::every_claim_of_a_fenced_run_is_superseded
                decisions::every_guard_holds_where_it_is_decided_and_nowhere_else
                streams::a_stream_that_is_taken_fences_every_earlier_run
                streams::a_late_prepare_of_an_older_run_takes_nothing
                streams::a_run_that_prepares_again_is_told_of_what_its_plan_has_not_committed
                streams::another_plan_of_the_run_commits_nothing_once_the_stream_is_taken
                streams::a_run_of_another_stream_goes_on
                closes::the_commits_of_a_phase_are_told_by_their_ordinals
                closes::a_target_without_a_ledger_holds_no_commit
                receipts::an_emptied_or_remade_table_is_refused_with_its_receipts
                receipts::receipts_of_nothing_contradict_no_table
                writes::prepare_again_changes_nothing
                writes::a_replaced_range_holds_exactly_the_rows_read
                writes::a_failed_statement_poisons_the_attempt
                writes::a_source_that_dies_halfway_leaves_the_old_rows
                writes::resident_rows_without_receipt_are_not_replaced_unasked
                writes::resident_rows_are_replaced_when_asked
                writes::a_replaced_range_that_counts_differently_rolls_back
                writes::the_null_partition_is_a_slice_of_its_own
                writes::an_empty_slice_leaves_a_receipt
                writes::appended_rows_stay_beside_those_that_are_there
                writes::coverage_merges_ranges_that_touch
                refreshes::a_replaced_table_holds_the_rows_that_came_and_no_other
                refreshes::a_table_is_not_left_with_less_than_half_of_its_rows
                refreshes::a_table_is_emptied_when_that_is_allowed
                refreshes::a_table_is_replaced_whole_or_not_at_all
                refreshes::an_emptied_table_is_replaced_in_spite_of_its_receipts
                drops::a_begin_or_commit_dropped_at_any_await_leaves_no_open_transaction
            }
        }
    };
}

/// Runs what a target that merges promises besides, on a
/// [`MergeFixture`](crate::connector::contract::merges::MergeFixture).
#[macro_export]
macro_rules! merge_contract {
    ($name:ident, $fixture:ty) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;

            $crate::contract_cases! { $fixture;
                merges::a_merge_of_two_windows_ends_as_the_newest
                merges::an_older_window_committing_last_does_not_win
                merges::of_rows_that_come_together_the_newest_stays
                merges::rows_of_one_key_without_a_cursor_are_refused
                merges::a_merge_never_touches_a_row_sharing_only_a_secondary_unique_key
                merges::rows_that_are_nothing_but_their_key_are_merged
                merges::a_merge_goes_on_with_another_chunk
                merges::a_claim_alone_ends_the_attempts_of_every_other_task
                merges::a_late_claim_of_another_task_is_fenced
                merges::a_claim_alone_does_to_other_rows_what_is_decided
            }
        }
    };
}

/// Runs what a target promises besides whose tables can take the place of others, on a
/// [`SwapFixture`](crate::connector::contract::swaps::SwapFixture).
#[macro_export]
macro_rules! swap_contract {
    ($name:ident, $fixture:ty) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;

            $crate::contract_cases! { $fixture;
                swaps::a_shadow_takes_the_place_of_the_table
                swaps::a_run_goes_on_with_its_own_shadow
                swaps::an_unfinished_shadow_is_not_published
                swaps::a_target_replaced_since_the_plan_is_not_swapped
                swaps::a_blocked_swap_leaves_the_lock_queue
                swaps::a_zombie_cannot_publish_its_shadow
                swaps::a_crash_around_the_rename_publishes_once
                swaps::an_undone_swap_brings_the_old_table_back
            }
        }
    };
}

/// Runs what a target promises besides where rows can wait in a table beside.
#[macro_export]
macro_rules! staging_contract {
    ($name:ident, $fixture:ty) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;

            $crate::contract_cases! { $fixture;
                stages::a_table_holds_the_rows_that_waited_and_no_other
                stages::rows_that_are_missing_publish_nothing
                stages::a_stage_is_one_attempts_own
            }
        }
    };
}

/// Runs what a target promises besides that answers for the checks of a step.
#[macro_export]
macro_rules! check_contract {
    ($name:ident, $fixture:ty) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;

            $crate::contract_cases! { $fixture;
                checks::a_transaction_answers_about_what_it_has_written
                checks::what_is_given_up_was_never_there
                checks::a_loaded_table_answers_each_question
                checks::a_query_that_writes_is_refused
                checks::a_query_takes_no_longer_than_it_may
            }
        }
    };
}

/// Runs the contract of a [`Source`](crate::connector::Source) on a [`SourceFixture`].
#[macro_export]
macro_rules! source_contract {
    ($name:ident, $fixture:ty) => {
        mod $name {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;

            $crate::contract_cases! { $fixture;
                reads::a_probe_tells_columns_key_rows_and_bounds
                reads::an_empty_table_has_no_bounds
                reads::the_slices_cover_every_row_once_even_null
                reads::an_unknown_table_is_refused_by_name
                reads::an_unknown_column_is_refused_by_name
                reads::a_dropped_stream_lets_the_source_go
                reads::rows_outside_of_a_range_are_counted_by_kind
                reads::rows_are_counted_for_a_check
                reads::the_position_behind_so_many_rows_is_told
            }
        }
    };
}

/// One test for each case of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_cases {
    ($fixture:ty; $($module:ident::$case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::connector::contract::$module::$case::<$fixture>().await;
            }
        )*
    };
}
