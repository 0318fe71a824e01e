//! `plan`: what a run would do. Changes nothing.

use std::path::Path;

use highwater_common::document::PlanDocument;
use highwater_common::saved_plan::SavedPlan;
use highwater_common::status::RunStatus;
use highwater_proto::v1::GetPlanRequest;

use super::Context;
use super::run::{Wanted, submit};
use crate::args::PlanArgs;
use crate::connect::{Connection, Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::{self, ExitCode};
use crate::follow::{Followed, Follower, Until};
use crate::found_tables;
use crate::pipeline_file::{self, PipelineFile};
use crate::progress::Reporter;
use crate::render;
use crate::saved_plan;

/// Workers that probe, when they live in this process.
const PROBE_WORKERS: u32 = 4;

pub(super) async fn plan(context: &mut Context<'_>, args: &PlanArgs) -> Result<ExitCode, CliError> {
    if args.resolved {
        let found = found_tables::found(&args.pipeline);
        let found = context.unless_interrupted(found).await?;
        let document = pipeline_file::resolved(&args.pipeline, &found)?;
        let steps = document["steps"].as_object();
        let steps = steps.map_or_else(Vec::new, |steps| steps.keys().cloned().collect());
        context.print(&document, |_| render::yaml(&document), || steps)?;
        return Ok(ExitCode::Success);
    }
    let mut pipeline = context.read(&args.pipeline).await?;
    pipeline.select(&args.selections)?;
    let place = Where::new(context.global, PROBE_WORKERS);
    let after = AfterPlan {
        out: args.out.as_deref(),
        exit_code: args.exit_code,
    };
    plan_file(context, &place, &pipeline, after).await
}

/// What is done with a plan beside showing it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AfterPlan<'a> {
    /// It is saved here.
    pub(crate) out: Option<&'a Path>,
    /// The exit code says whether there is something to do.
    pub(crate) exit_code: bool,
}

pub(crate) async fn plan_file(
    context: &mut Context<'_>,
    place: &Where,
    pipeline: &PipelineFile,
    after: AfterPlan<'_>,
) -> Result<ExitCode, CliError> {
    let mut connection = context.open(place, Need::Act).await?;
    context.remark(pipeline);
    let program = context.output.talk_look.program.clone();
    let come_back = format!("{program} plan {}", pipeline.typed);
    let planned = plan_over(context, &mut connection, pipeline, Wanted::Plan, come_back).await?;
    let plan = match planned {
        Planned::Made(plan) => plan,
        Planned::Not(ExitCode::Interrupted) => return Ok(ExitCode::Interrupted),
        Planned::Not(exit) => {
            context.close(connection).await;
            return Ok(exit);
        }
    };
    let saved = match after.out {
        Some(_) => Some(to_save(context, &mut connection, &plan.view.run.to_string()).await?),
        None => None,
    };
    context.close(connection).await;
    context.print(
        &plan.json,
        |look| render::plan(&plan.view, look),
        || vec![plan.view.run.to_string()],
    )?;
    let next = match (after.out, saved) {
        (Some(path), Some(saved)) => {
            saved_plan::write(path, saved, &plan.json, pipeline)?;
            context.output.say(&format!("saved {}", path.display()));
            path.display().to_string()
        }
        _ => pipeline.typed.clone(),
    };
    context.output.say(&format!("next: {program} run {next}"));
    Ok(match after.exit_code && plan.view.tasks > 0 {
        true => ExitCode::WorkToDo,
        false => ExitCode::Success,
    })
}

/// All that a plan is made from.
async fn to_save(
    context: &mut Context<'_>,
    connection: &mut Connection,
    run: &str,
) -> Result<serde_json::Value, CliError> {
    let place = connection.banner().to_owned();
    let request = GetPlanRequest {
        run: run.to_owned(),
        to_save: true,
    };
    let fetched: Fetched<SavedPlan> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.get_plan(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot save the plan", &status).at(place)
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    Ok(fetched.json)
}

/// What came of a submission that ends with its plan.
pub(super) enum Planned {
    /// The plan.
    Made(Box<Fetched<PlanDocument>>),
    /// There is none, and why has been told.
    Not(ExitCode),
}

/// Submits, and follows until there is a plan.
pub(super) async fn make_plan(
    context: &mut Context<'_>,
    mut connection: Connection,
    pipeline: &PipelineFile,
    wanted: Wanted,
    come_back: String,
) -> Result<Planned, CliError> {
    let planned = plan_over(context, &mut connection, pipeline, wanted, come_back).await?;
    // What is left to go on keeps what runs in this process.
    if !matches!(planned, Planned::Not(ExitCode::Interrupted)) {
        context.close(connection).await;
    }
    Ok(planned)
}

/// The same over a connection that stays open, for what comes after it.
pub(super) async fn plan_over(
    context: &mut Context<'_>,
    connection: &mut Connection,
    pipeline: &PipelineFile,
    wanted: Wanted,
    come_back: String,
) -> Result<Planned, CliError> {
    let (run, _) = submit(context, connection, pipeline, wanted).await?;
    let reporter = Reporter::new(context.global, context.output);
    let follower = Follower {
        connection: &mut *connection,
        run: run.to_string(),
        until: Until::Planned,
        come_back,
        output: context.output,
        interrupts: context.interrupts,
    };
    let document = match follower.follow(reporter).await? {
        Followed::Reached(document) => document,
        Followed::Left => return Ok(Planned::Not(ExitCode::Interrupted)),
    };
    match document.view.status {
        RunStatus::Failed | RunStatus::Cancelling | RunStatus::Cancelled => {
            // There is no plan to print: stdout stays empty.
            let text = render::summary(
                &document.view,
                jiff::Timestamp::now(),
                &context.output.talk_look,
            );
            context.output.tell(&text);
            return Ok(Planned::Not(exit::of_run(&document.view)));
        }
        RunStatus::Planning | RunStatus::Planned | RunStatus::Running | RunStatus::Success => {}
    }
    let place = connection.banner().to_owned();
    let plan: Fetched<PlanDocument> = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                connection.client.get_plan(GetPlanRequest {
                    run: run.to_string(),
                    to_save: false,
                }),
            )
            .await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot show the plan", &status).at(place)
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    Ok(Planned::Made(Box::new(plan)))
}
