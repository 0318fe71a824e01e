//! What is asked of pipelines that run by themselves.

use std::sync::Arc;

use highwater_common::document::SchedulesDocument;
use highwater_common::id::PipelineName;
use highwater_common::roles::Role;
use highwater_proto::convert::FieldError;
use highwater_proto::v1 as pb;
use highwater_proto::v1::control_schedule_request::Action;
use tonic::{Request, Response, Status};

use super::documents::{document_of, encode};
use super::gate::Permit;
use super::operator::word;
use super::submissions::spec_of;
use crate::coordinator::CoordinatorHandle;
use crate::engine::schedule_document;
use crate::error::ServiceError;
use crate::leader::{NewSchedule, Request as Ask, ScheduleAction, Word};

const SCHEDULES: &str = "schedules/v1";

/// Lets a pipeline run by itself.
pub(super) async fn set(
    handle: &CoordinatorHandle,
    request: Request<pb::SetScheduleRequest>,
) -> Result<Response<pb::Document>, Status> {
    let word = word(&request, request.get_ref().reason.clone());
    let permit = Permit::of(request.extensions());
    let request = request.into_inner();
    let spec = spec_of(handle, &request.spec, &request.base_dir)?;
    let pipeline = spec.name.clone();
    permit.check("SetSchedule", Role::Operator, Some(&pipeline))?;
    if spec.schedule.is_none() {
        return Err(ServiceError::NoSchedule(pipeline).into());
    }
    let new = NewSchedule {
        canonical: spec.canonical_json(),
        spec: Arc::new(spec),
        base_dir: request.base_dir,
    };
    act(handle, &pipeline, ScheduleAction::Set(new), word).await?;
    listed(handle, Some(pipeline)).await
}

/// Holds a schedule back, lets it go on, begins a run of it, or takes it away.
pub(super) async fn control(
    handle: &CoordinatorHandle,
    request: Request<pb::ControlScheduleRequest>,
) -> Result<Response<pb::Document>, Status> {
    let word = word(&request, request.get_ref().reason.clone());
    let permit = Permit::of(request.extensions());
    let request = request.into_inner();
    let action = match request.action() {
        Action::Unspecified => {
            return Err(Status::invalid_argument(
                "action: what is to become of the schedule?",
            ));
        }
        Action::Pause => ScheduleAction::Pause,
        Action::Resume => ScheduleAction::Resume,
        Action::Trigger => ScheduleAction::Trigger,
        Action::Remove => ScheduleAction::Remove,
    };
    let pipeline = pipeline_of(&request.pipeline)?;
    permit.check("ControlSchedule", Role::Operator, Some(&pipeline))?;
    match act(handle, &pipeline, action, word).await? {
        Some((run, _)) => {
            let document = document_of(handle, run).await?;
            encode("run/v1", &document).map(Response::new)
        }
        None => listed(handle, Some(pipeline)).await,
    }
}

/// The pipelines that run by themselves.
pub(super) async fn list(
    handle: &CoordinatorHandle,
    request: pb::ListSchedulesRequest,
) -> Result<Response<pb::Document>, Status> {
    let only = match request.pipeline.as_str() {
        "" => None,
        name => Some(pipeline_of(name)?),
    };
    listed(handle, only).await
}

async fn act(
    handle: &CoordinatorHandle,
    pipeline: &PipelineName,
    action: ScheduleAction,
    word: Word,
) -> Result<Option<(highwater_common::id::RunId, bool)>, ServiceError> {
    let pipeline = pipeline.clone();
    handle
        .ask(|reply| Ask::Schedule {
            pipeline,
            action,
            word,
            reply,
        })
        .await
}

async fn listed(
    handle: &CoordinatorHandle,
    only: Option<PipelineName>,
) -> Result<Response<pb::Document>, Status> {
    let document = handle
        .look(move |leader| {
            let cluster = leader.cluster();
            let (_, now) = leader.now();
            let meant = cluster.schedules.iter();
            let meant = meant.filter(|(name, _)| only.as_ref().is_none_or(|only| only == *name));
            let documents = meant.map(|(name, scheduled)| {
                let now = now.saturating_mul(1000);
                schedule_document(cluster, name, scheduled, now, |run| leader.short_of(run))
            });
            Ok(SchedulesDocument {
                schema: SCHEDULES.to_owned(),
                schedules: documents.collect(),
            })
        })
        .await?;
    encode(SCHEDULES, &document).map(Response::new)
}

fn pipeline_of(text: &str) -> Result<PipelineName, ServiceError> {
    let read = text.parse::<PipelineName>();
    read.map_err(|error| FieldError::new("pipeline", error.to_string()).into())
}
