//! `schedules`: the pipelines that a cluster runs by itself.

use highwater_common::document::{RunDocument, SchedulesDocument};
use highwater_proto::v1::control_schedule_request::Action;
use highwater_proto::v1::{
    ControlScheduleRequest, Document, ListSchedulesRequest, SetScheduleRequest,
};
use tonic::{Code, Response, Status};

use super::Context;
use super::hands::must_say_why;
use super::run_named::run_of;
use crate::args::{FileArgs, SchedulesCommand};
use crate::connect::{Connection, Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::traced::traced;
use crate::{pipeline_file, render};

pub(super) async fn schedules(
    context: &mut Context<'_>,
    command: &SchedulesCommand,
) -> Result<ExitCode, CliError> {
    match command {
        SchedulesCommand::Ls => list(context, None).await,
        SchedulesCommand::Show { pipeline } => list(context, Some(run_of(pipeline)?)).await,
        SchedulesCommand::Set { pipeline, reason } => set(context, pipeline, reason).await,
        SchedulesCommand::Pause(args) => {
            must_say_why(&args.reason)?;
            act(context, &args.pipeline, &args.reason, Action::Pause).await
        }
        SchedulesCommand::Resume(args) => {
            act(context, &args.pipeline, &args.reason, Action::Resume).await
        }
        SchedulesCommand::Trigger(args) => {
            act(context, &args.pipeline, &args.reason, Action::Trigger).await
        }
        SchedulesCommand::Rm(args) => {
            must_say_why(&args.reason)?;
            act(context, &args.pipeline, &args.reason, Action::Remove).await
        }
    }
}

/// The way to the cluster: a process that ends with its run keeps no times.
async fn open(context: &mut Context<'_>) -> Result<Connection, CliError> {
    let place = Where::new(context.global, 0);
    if place.coordinator.is_none() {
        return Err(
            CliError::new(ExitCode::Usage, "only a cluster keeps schedules")
                .why("what runs in this process ends with it")
                .next(
                    "highwater run FILE --every 1h, a timer of this machine, or name a cluster with \
                     --coordinator",
                ),
        );
    }
    context.open(&place, Need::Act).await
}

async fn list(context: &mut Context<'_>, only: Option<String>) -> Result<ExitCode, CliError> {
    let mut connection = open(context).await?;
    let place = connection.banner().to_owned();
    let request = ListSchedulesRequest {
        pipeline: only.clone().unwrap_or_default(),
    };
    let document = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.list_schedules(request)).await;
            read(answer, "cannot list the schedules", &place)
        })
        .await?;
    context.close(connection).await;
    if let (Some(pipeline), true) = (&only, document.view.schedules.is_empty()) {
        let what = format!("pipeline {pipeline} has no schedule there");
        return Err(CliError::new(ExitCode::NothingSelected, what)
            .next("highwater schedules set FILE, or highwater schedules ls"));
    }
    show(context, &document, only.is_some())
}

async fn set(
    context: &mut Context<'_>,
    file: &FileArgs,
    reason: &str,
) -> Result<ExitCode, CliError> {
    let pipeline = pipeline_file::read(file)?;
    let mut connection = open(context).await?;
    context.remark(&pipeline);
    let place = connection.banner().to_owned();
    let request = context.signed(SetScheduleRequest {
        spec: pipeline.spec.clone(),
        base_dir: pipeline.base_dir.display().to_string(),
        reason: reason.to_owned(),
    });
    let document = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                traced("schedules set", connection.client.set_schedule(request)),
            )
            .await;
            read(answer, "cannot set the schedule", &place)
        })
        .await?;
    context.close(connection).await;
    show(context, &document, true)
}

async fn act(
    context: &mut Context<'_>,
    pipeline: &str,
    reason: &str,
    action: Action,
) -> Result<ExitCode, CliError> {
    let pipeline = run_of(pipeline)?;
    let mut connection = open(context).await?;
    if action == Action::Remove {
        let reach = format!(
            "takes the schedule of {pipeline} from the cluster: nothing runs it by itself any more"
        );
        context.confirm(&reach).await?;
    }
    let place = connection.banner().to_owned();
    let what = match action {
        Action::Unspecified | Action::Pause => "cannot pause the schedule",
        Action::Resume => "cannot resume the schedule",
        Action::Trigger => "cannot begin a run of the schedule",
        Action::Remove => "cannot take the schedule away",
    };
    let request = context.signed(ControlScheduleRequest {
        pipeline,
        action: action.into(),
        reason: reason.to_owned(),
    });
    let answer = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                traced("schedules", connection.client.control_schedule(request)),
            )
            .await;
            let answer = answer.map_err(|status| refused(what, &status).at(&place))?;
            Ok(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    if action == Action::Trigger {
        let document: Fetched<RunDocument> = Fetched::try_from(answer)?;
        context.print_summary(&document)?;
        return Ok(ExitCode::Success);
    }
    let document = Fetched::try_from(answer)?;
    show(context, &document, true)
}

fn read(
    answer: Result<Response<Document>, Status>,
    what: &'static str,
    place: &str,
) -> Result<Fetched<SchedulesDocument>, CliError> {
    let answer = answer.map_err(|status| refused(what, &status).at(place))?;
    Fetched::try_from(answer.into_inner())
}

/// A coordinator of an earlier version knows nothing of schedules.
fn refused(what: &'static str, status: &Status) -> CliError {
    match status.code() {
        Code::Unimplemented => CliError::new(ExitCode::Refused, what)
            .why("the coordinator is of an earlier version, which keeps no schedules")
            .next("upgrade every coordinator of the cluster"),
        _ => CliError::from_status(what, status),
    }
}

fn show(
    context: &mut Context<'_>,
    document: &Fetched<SchedulesDocument>,
    is_one: bool,
) -> Result<ExitCode, CliError> {
    context.print(
        &document.json,
        |look| match is_one {
            true => render::schedule(&document.view, look),
            false => render::schedules(&document.view, look),
        },
        || {
            let schedules = document.view.schedules.iter();
            schedules.map(|of| of.pipeline.to_string()).collect()
        },
    )?;
    Ok(ExitCode::Success)
}
