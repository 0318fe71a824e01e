//! A table, copied once and then followed through its database's log: probe both sides, prepare the
//! target and the log, move the table, apply the log, ask the target what it has of that.

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, Outcome, Work};
use highwater_common::log::Removal;
use highwater_common::spec::{Cdc, Deletes};

use super::{Run, other_work};
use crate::attempt::{
    AttemptContext, Replay, as_prepared, ask_for_commits, build, check_table, move_slice, open_log,
    prepare_with, probe, replay,
};
use crate::connector::LogRequest;

#[async_trait]
impl Run for Cdc {
    async fn run(&self, cx: &AttemptContext<'_>, work: &Work) -> Result<Outcome, AttemptError> {
        match work {
            Work::Probe => probe(self, cx).await,
            Work::Prepare => {
                let mode = Self::prepared_as(&cx.of.load_order()?.write);
                match prepare_with(cx, &self.own_columns(), mode).await? {
                    prepared @ Outcome::Prepared { .. } => {
                        let not_taken = open_log(cx, &log(self, cx)?).await?;
                        Ok(not_taken.unwrap_or(prepared))
                    }
                    other => Ok(other),
                }
            }
            Work::Partition(slice) => as_prepared(cx, move_slice(cx, *slice, &[]).await).await,
            Work::Build => build(cx).await,
            Work::Replay | Work::Follow => {
                let of = Replay {
                    follows: *work == Work::Follow,
                    log: log(self, cx)?,
                    chunk: self.chunk,
                    removal: match self.deletes {
                        Deletes::Hard => Removal::Delete,
                        Deletes::Ignore => Removal::Keep,
                        Deletes::Soft => Removal::Mark,
                    },
                    deleted_at: self.deleted_at.clone(),
                    slot_retained_max: self.slot_retained_max,
                };
                // What was committed stays, and says that the attempt has come further.
                let kept = |error: AttemptError| error.keeping(cx.progress.committed());
                as_prepared(cx, replay(cx, &of).await.map_err(kept)).await
            }
            Work::Check => check_table(cx.of).await,
            Work::Close { phase } => ask_for_commits(cx.of, *phase).await,
            Work::Count(_)
            | Work::Publish
            | Work::Statements
            | Work::Command
            | Work::Noop(_)
            | Work::Reconcile
            | Work::Fence => Err(other_work(work)),
        }
    }
}

/// Which log the step follows.
fn log(of: &Cdc, cx: &AttemptContext<'_>) -> Result<LogRequest, AttemptError> {
    let load_order = cx.of.load_order()?;
    let source = cx.of.order.source.as_ref();
    Ok(LogRequest {
        slot: of.slot.clone(),
        publication: of.publication.clone(),
        table: cx.of.cut_table()?.clone(),
        columns: load_order.columns.clone(),
        left_out: of.from.columns.exclude.clone(),
        key: load_order.key.clone(),
        makes: source.is_some_and(|(connection, _)| !connection.is_read_only()),
    })
}
