//! The spans of what a leader does for a run. Each of them is short, and all of a run's belong to the
//! trace that its record names: whoever leads later, and whichever worker has an attempt, goes on in
//! it. Never traces a turn: heartbeats and pulls would fill every trace.

use highwater_common::id::{PipelineName, RunId};
use highwater_net::trace;
use tracing::{Instrument as _, Span, field};

use super::{Leader, Submission, TermEnded};
use crate::error::ServiceError;
use crate::store::StoreTxn;

/// The span of a run's beginning. The run's trace goes on under it.
pub(super) fn of_beginning(pipeline: &PipelineName) -> Span {
    tracing::info_span!(
        parent: None,
        "run.submit",
        highwater.pipeline = %pipeline,
        highwater.run = field::Empty,
        highwater.attached = field::Empty,
    )
}

impl Leader {
    /// Begins a run, or attaches to one: in the trace of whoever asks for it.
    pub(super) async fn submit_traced(
        &mut self,
        mut submission: Submission,
    ) -> Result<Result<(RunId, bool), ServiceError>, TermEnded> {
        let span = of_beginning(submission.pipeline());
        if let Some(caller) = &submission.trace {
            trace::put_under(&span, caller);
        }
        // Where nobody records here, the run belongs to its caller's span.
        submission.trace = trace::of(&span).or(submission.trace);
        let answer = self.submit(submission).instrument(span.clone()).await?;
        match &answer {
            Ok((run, is_attached)) => {
                span.record("highwater.run", field::display(run));
                let known = self.cluster.runs.get(run);
                if let Some(begun) = known
                    .and_then(|run| run.record.trace)
                    .filter(|_| *is_attached)
                {
                    span.record("highwater.attached", true);
                    trace::link(&span, &begun);
                }
            }
            Err(error) => trace::failed(&span, error.to_string()),
        }
        Ok(answer)
    }

    /// Makes a run's plan, in its trace.
    pub(super) async fn plan_traced(&mut self, id: RunId) -> Result<(), TermEnded> {
        let known = self.cluster.runs.get(&id).map(|run| &run.record);
        let Some((pipeline, trace)) = known.map(|of| (&of.pipeline, of.trace)) else {
            return Ok(());
        };
        let Some(trace) = trace else {
            return self.plan(id).await;
        };
        let span = tracing::info_span!(
            parent: None,
            "plan",
            highwater.pipeline = %pipeline,
            highwater.run = %id,
        );
        trace::put_under(&span, &trace);
        self.plan(id).instrument(span).await
    }

    /// Applies a transaction of this term; in a span of its own where that is part of something that
    /// has one.
    ///
    /// # Errors
    /// As [`commit_now`](Self::commit_now) says.
    pub(super) async fn commit(&self, txn: StoreTxn) -> Result<(), TermEnded> {
        if Span::current().is_none() {
            return self.commit_now(txn).await;
        }
        let span = tracing::info_span!("txn", highwater.operations = txn.ops.len());
        self.commit_now(txn).instrument(span).await
    }
}
