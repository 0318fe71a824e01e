//! Which way to load a table, and why: ranked from facts and wishes alone.
//!
//! What does not fit is refused first, each time with what was found, what it would take and what
//! can be done. What fits is ordered by how much of the source it brings, then by whether it was
//! made for such a table, then by its cost. A way that is refused is never recommended.

mod advice;
mod case;
mod columns;
mod facts;
mod file;
mod growing;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod whole;

pub use advice::{Advice, Assurance, Cost, Ranked, Refusal, Refused, Way};
pub use facts::{
    Changes, LogAccess, MovedBy, PositionColumn, ReplicaIdentity, ServerLog, Sight, TableAsFound,
    TargetAsFound, TargetSide, TargetTable, Wishes,
};

pub use columns::moved_by_name;
pub use file::{Draft, DraftTable, pipeline_file};

use case::{Case, Judged};

/// All ways to load a table, those that fit in their order.
#[must_use]
pub fn rank(found: &TableAsFound, wishes: &Wishes) -> Advice {
    let case = &Case { found, wishes };
    let judged = [
        whole::full_refresh(case),
        growing::backfill(case),
        growing::incremental(case),
        growing::cdc(case),
        whole::swap(case),
    ];
    let (mut fitting, mut refused) = (Vec::new(), Vec::new());
    for one in judged {
        match one {
            Judged::Fits(fit) => fitting.push(*fit),
            Judged::Refused(way) => refused.push(way),
        }
    }
    let is_weak = |way: &Ranked| way.assurance == Assurance::BestEffort || !way.runs_here;
    if fitting.iter().all(|fit| is_weak(&fit.ranked)) {
        fitting.extend(whole::nightly(case));
    }
    fitting.sort_by_key(|fit| {
        let Ranked {
            assurance,
            way,
            cost,
            ..
        } = &fit.ranked;
        (*assurance, !fit.is_made_for_it, cost.bytes_a_day, *way)
    });
    Advice {
        table: found.table.clone(),
        rows: found.rows,
        rows_exact: found.rows_exact,
        bytes: found.bytes,
        key: found.key.clone(),
        stamp: columns::stamp(found).map(columns::told),
        ranked: fitting.into_iter().map(|fit| fit.ranked).collect(),
        refused,
    }
}
