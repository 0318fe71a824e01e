//! The coordinator's decisions: from a view of the cluster to what should happen next. Pure: no
//! I/O, no clock, no randomness.
//!
//! The leader asks `engine` what to do, does it as one store transaction, and puts the answer back
//! into the view. So the same view always leads to the same actions, and a lost hint costs a delay
//! and never correctness.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unwrap_used
    )
)]

mod advance;
mod assign;
mod budget;
mod change;
mod chosen;
mod counts;
mod document;
mod doubts;
#[cfg(test)]
mod fixtures;
mod followed;
mod lag;
mod leases;
mod outages;
mod placement;
mod prune;
mod reach;
mod retries;
mod scheduled;
mod schedules;
mod step;
mod stored;
mod task_table;
mod unselected;
mod view;
mod waits;

pub(crate) use advance::{Advance, advance};
pub(crate) use assign::assign;
pub(crate) use change::{Change, ChangeKind};
pub(crate) use chosen::Chosen;
pub(crate) use counts::{Counts, GroupCounts};
pub(crate) use document::{
    cluster_document, plan_document, rfc3339, run_document, run_summary, tasks_document,
};
pub(crate) use doubts::in_doubt;
pub(crate) use leases::{Leases, OpenLease};
pub(crate) use outages::{Outages, spoken};
pub(crate) use placement::Seat;
pub(crate) use prune::prunable;
pub(crate) use reach::Reach;
pub(crate) use scheduled::Scheduled;
pub(crate) use schedules::{next_due, schedule_document};
pub(crate) use step::Step;
pub(crate) use stored::Stored;
pub(crate) use task_table::TaskTable;
pub(crate) use view::{Cluster, Run, Session};
