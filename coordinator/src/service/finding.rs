//! What of what the leader knows a caller means by a text.

use highwater_common::id::{RunId, StepName};
use highwater_common::roles::Role;
use highwater_common::spec::Spec;
use highwater_net::trace;
use highwater_proto::convert::FieldError;
use tonic::Status;
use tracing::Span;

use super::gate::Permit;
use crate::coordinator::CoordinatorHandle;
use crate::error::ServiceError;
use crate::leader::{Leader, chosen_steps};

/// The run that `text` means: a prefix of its id, the latest of a pipeline, or the latest of all.
pub(super) fn find_run(leader: &Leader, text: &str) -> Result<RunId, ServiceError> {
    let newest = leader.cluster().newest_first();
    if text.is_empty() {
        return newest.first().map(|run| run.id).ok_or(ServiceError::NoRun);
    }
    if let Some(run) = newest
        .iter()
        .find(|run| run.record.pipeline.as_str() == text)
    {
        return Ok(run.id);
    }
    let prefix = text.strip_prefix("r-").unwrap_or(text);
    let fits: Vec<RunId> = newest
        .iter()
        .map(|run| run.id)
        .filter(|id| id.to_string().starts_with(prefix))
        .collect();
    match fits.as_slice() {
        [one] => Ok(*one),
        [] => Err(ServiceError::UnknownRun(text.to_owned())),
        [..] => Err(ServiceError::AmbiguousRun {
            prefix: text.to_owned(),
            count: fits.len(),
        }),
    }
}

/// Says of the call's span which run's trace it goes on with.
async fn link(handle: &CoordinatorHandle, run: RunId) {
    if trace::current().is_none() {
        return;
    }
    let known = handle.look(move |leader| {
        let known = leader.cluster().runs.get(&run);
        Ok(known.and_then(|run| run.record.trace))
    });
    if let Ok(Some(begun)) = known.await {
        trace::link(&Span::current(), &begun);
    }
}

/// The run that a text means, for who wants to act on it, if he may act on its pipeline.
pub(super) async fn find_to_act(
    handle: &CoordinatorHandle,
    text: String,
    permit: &Permit,
    what: &str,
) -> Result<RunId, Status> {
    let (run, pipeline) = handle
        .look(move |leader| {
            let id = find_run(leader, &text)?;
            let run = leader.cluster().runs.get(&id);
            let run = run.ok_or(ServiceError::UnknownRun(text))?;
            Ok((id, run.record.pipeline.clone()))
        })
        .await?;
    permit.check(what, Role::Operator, Some(&pipeline))?;
    link(handle, run).await;
    Ok(run)
}

/// The step of a request; empty means all.
pub(super) fn read_step(name: &str) -> Result<Option<StepName>, Status> {
    match name {
        "" => Ok(None),
        name => name
            .parse()
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("step: {error}"))),
    }
}

/// Whether a run can be of these steps; of some it cannot where it `is_of_all`.
pub(super) fn check_selection(
    selection: &[String],
    is_of_all: bool,
    spec: &Spec,
) -> Result<(), ServiceError> {
    if is_of_all && !selection.is_empty() {
        let problem = "it goes together with neither adopt nor errand nor saved_plan";
        return Err(FieldError::new("selection", problem).into());
    }
    chosen_steps(spec, selection)?;
    Ok(())
}
