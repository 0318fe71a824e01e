//! What attempts are made of: what they work with, and each thing that they may do. Which of it an
//! attempt does is said by `dispatch` and by its strategy.

mod build;
mod check;
mod chunks;
mod claim;
mod close;
mod commit;
mod context;
mod errand;
mod exchange;
mod left_out;
mod log;
mod log_errand;
mod lost_commit;
mod prepare;
mod probe;
mod program;
mod reconcile;
mod replay;
mod staged;
mod statements;
mod window;

use highwater_common::assignment::{AttemptError, Outcome};

pub(crate) use self::build::build;
pub(crate) use self::check::check_table;
#[cfg(test)]
pub(crate) use self::chunks::begin_with_rows;
pub(crate) use self::claim::move_slice;
pub(crate) use self::close::{as_prepared, ask_for_commits};
pub(crate) use self::context::{AttemptContext, OrderContext, malformed};
pub(crate) use self::errand::errand;
pub(crate) use self::exchange::{
    build_shadow, drop_shadow, exchange, make_shadow, settle_exchange,
};
pub(crate) use self::left_out::count_left_out;
pub(crate) use self::log::open_log;
pub(crate) use self::prepare::{prepare, prepare_with};
pub(crate) use self::probe::probe;
pub(crate) use self::program::run_program;
pub(crate) use self::reconcile::reconcile;
pub(crate) use self::replay::{Replay, replay};
pub(crate) use self::staged::{publish_in_place, replace_all};
pub(crate) use self::statements::run_statements;

use crate::connector::Target;

/// The target says that nothing of the run commits any more, and why.
pub(crate) async fn superseded(
    context: &OrderContext,
    target: &dyn Target,
) -> Result<Outcome, AttemptError> {
    Ok(Outcome::Superseded {
        by: target.fenced_by(&context.order.run).await?,
    })
}
