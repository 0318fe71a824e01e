//! `run`: begins a run, or goes on with an unfinished one, and follows it.

use std::time::Duration;

use highwater_common::document::RunDocument;
use highwater_common::errand::Errand;
use highwater_common::id::RunId;
use highwater_proto::v1::{GetRunRequest, SubmitRequest};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::run_named::run_of;
use crate::args::{OverlayArgs, RunArgs};
use crate::connect::{Connection, Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::{self, ExitCode};
use crate::follow::{Followed, Follower, Until};
use crate::found_tables;
use crate::pipeline_file::{Found, PipelineFile};
use crate::progress::Reporter;
use crate::saved_plan::{self, PlanFile};
use crate::traced::traced;

pub(super) async fn run(context: &mut Context<'_>, args: &RunArgs) -> Result<ExitCode, CliError> {
    let place = Where::new(context.global, args.workers);
    may_detach(args.detach, &place)?;
    let saved = saved_plan::read(&args.pipeline.file)?;
    let pipeline = match &saved {
        Some(plan) => of_plan(context, plan, args).await?,
        None => read_selected(context, args).await?,
    };
    let submission = Submission {
        fresh: args.new,
        detach: args.detach,
    };
    match args.every {
        None => {
            let ended = submit_and_follow(context, &place, &pipeline, submission).await;
            match (&saved, ended) {
                (Some(plan), Ok(ExitCode::Refused)) => {
                    let again = plan.plan_again(&context.output.talk_look.program);
                    context.output.say(&format!("next: {again}"));
                    Ok(ExitCode::Refused)
                }
                (_, ended) => ended,
            }
        }
        Some(every) => run_every(context, &place, args, every.0).await,
    }
}

/// The pipeline, and the steps of it that are meant.
async fn read_selected(
    context: &mut Context<'_>,
    args: &RunArgs,
) -> Result<PipelineFile, CliError> {
    let mut pipeline = context.read(&args.pipeline).await?;
    pipeline.select(&args.selections)?;
    Ok(pipeline)
}

/// The pipeline of a plan that was saved, once it holds to its file.
async fn of_plan(
    context: &mut Context<'_>,
    plan: &PlanFile,
    args: &RunArgs,
) -> Result<PipelineFile, CliError> {
    let OverlayArgs {
        params,
        environment,
        sets,
    } = &args.pipeline.over;
    let (asked, made) = (environment.as_deref(), plan.environment());
    if asked.is_some() && asked != made {
        let of = made.map_or_else(|| "no environment".to_owned(), |made| format!("`{made}`"));
        return Err(
            CliError::new(ExitCode::Usage, "the plan is of another environment")
                .at(plan.path.display().to_string())
                .why(format!(
                    "it was made for {of}, and --env or HIGHWATER_ENV asks for `{}`",
                    asked.unwrap_or_default()
                ))
                .next(plan.plan_again(&context.output.talk_look.program)),
        );
    }
    let is_changed = !params.is_empty() || !sets.is_empty() || !args.selections.is_empty();
    if is_changed || args.every.is_some() {
        return Err(CliError::new(
            ExitCode::Usage,
            "a saved plan is run once, and as it was shown",
        )
        .at(plan.path.display().to_string())
        .why("--param, --set, --every and a selection of steps would make another one")
        .next(plan.plan_again(&context.output.talk_look.program)));
    }
    let found = match plan.file() {
        Some(file) => context.unless_interrupted(found_tables::found(&file)).await,
        None => Ok(Found::new()),
    };
    // A file that is not right any more is told as what makes the plan stale.
    let found = found.or_else(|error| match error.exit() {
        ExitCode::Usage => Ok(Found::new()),
        _ => Err(error),
    })?;
    plan.check_file(&context.output.talk_look.program, &found)?;
    Ok(plan.pipeline())
}

/// Runs again and again, until somebody interrupts it. A run that fails is told, and the next one
/// begins at its time; what is wrong with the file or the place ends it. The file is read anew each
/// time.
async fn run_every(
    context: &mut Context<'_>,
    place: &Where,
    args: &RunArgs,
    every: Duration,
) -> Result<ExitCode, CliError> {
    if every.is_zero() {
        return Err(
            CliError::new(ExitCode::Usage, "no time lies between two runs")
                .next("--every 5m, or another duration"),
        );
    }
    let submission = Submission {
        fresh: false,
        detach: false,
    };
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let waited = context
            .unless_interrupted(async { Ok(turns.tick().await) })
            .await;
        waited?;
        let pipeline = match read_selected(context, args).await {
            // A database that says nothing for a while is no reason to stop for good.
            Err(error) if error.exit() == ExitCode::Unreachable => {
                context.output.say(&error.to_string());
                continue;
            }
            read => read?,
        };
        let ended = Box::pin(submit_and_follow(context, place, &pipeline, submission)).await?;
        // One that came while the run drained has stopped no more than that.
        if ended == ExitCode::Interrupted || context.interrupts.have_come() {
            return Ok(ended);
        }
    }
}

/// How a run begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Submission {
    /// An unfinished run of another spec is cancelled.
    pub(crate) fresh: bool,
    /// The run is not followed.
    pub(crate) detach: bool,
}

/// A run of this process ends with it, so nobody can leave it behind.
pub(super) fn may_detach(detach: bool, place: &Where) -> Result<(), CliError> {
    if detach && place.coordinator.is_none() {
        return Err(CliError::new(ExitCode::Usage, "--detach needs a cluster")
            .why("a run of this process ends with it")
            .next("leave --detach away, or name a cluster with --coordinator"));
    }
    Ok(())
}

/// Whoever runs a file here may not have written it, so he says which programs it may run.
pub(super) fn may_run_programs(place: &Where, pipeline: &PipelineFile) -> Result<(), CliError> {
    if place.coordinator.is_some() {
        return Ok(());
    }
    let (allowed, chosen) = (place.programs()?, pipeline.chosen());
    let steps = chosen.map_or_else(|_| Default::default(), |spec| spec.steps);
    for (step, of) in &steps {
        for path in of.strategy.load().programs() {
            if allowed.find(path).is_none() {
                return Err(CliError::new(
                    ExitCode::Refused,
                    format!("the step {step} runs {path}"),
                )
                .at(pipeline.path.display().to_string())
                .why("it is not there, or none of the programs that are allowed here")
                .next(format!(
                    "highwater run {} --allow-exec {path}",
                    pipeline.typed
                )));
            }
        }
    }
    Ok(())
}

pub(crate) async fn submit_and_follow(
    context: &mut Context<'_>,
    place: &Where,
    pipeline: &PipelineFile,
    submission: Submission,
) -> Result<ExitCode, CliError> {
    may_run_programs(place, pipeline)?;
    let mut connection = context.open(place, Need::Own).await?;
    context.remark(pipeline);
    let program = context.output.talk_look.program.clone();
    let again = format!("{program} run {}", pipeline.typed);
    let wanted = if submission.fresh {
        Wanted::FreshRun
    } else {
        Wanted::Run
    };
    let (run, attached) = submit(context, &mut connection, pipeline, wanted)
        .await
        .map_err(|error| {
            let exit = error.exit();
            error.or_next(|| match exit {
                ExitCode::Refused if pipeline.saved.is_some() => {
                    format!("{program} status, or plan the pipeline again")
                }
                ExitCode::Refused => {
                    format!("{program} status, or {again} --new to cancel the unfinished run first")
                }
                _ => again.clone(),
            })
        })?;
    if attached {
        context
            .output
            .say("an unfinished run of the same file goes on");
    }
    if submission.detach {
        let document = get(context, &mut connection, &run.to_string()).await?;
        context.print_summary(&document)?;
        return Ok(ExitCode::Success);
    }
    let come_back = if connection.embedded.is_some() {
        again
    } else {
        format!("{program} status {}", run.short(6))
    };
    follow_to_end(context, connection, run.to_string(), come_back).await
}

/// What a submission asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A run; an unfinished one of the same spec goes on.
    Run,
    /// A run; an unfinished one of another spec is cancelled.
    FreshRun,
    /// A plan, and no more.
    Plan,
    /// A plan whose probes take over the targets that belong to another cluster.
    Adoption,
    /// What the targets' ledgers hold, perhaps after voiding some of it.
    Errand(Errand),
}

/// Asks for a run, or only for its plan; true when it goes on with an unfinished one.
pub(super) async fn submit(
    context: &mut Context<'_>,
    connection: &mut Connection,
    pipeline: &PipelineFile,
    wanted: Wanted,
) -> Result<(RunId, bool), CliError> {
    let request = SubmitRequest {
        spec: pipeline.spec.clone(),
        base_dir: pipeline.base_dir.display().to_string(),
        plan_only: matches!(wanted, Wanted::Plan | Wanted::Adoption | Wanted::Errand(_)),
        fresh: wanted == Wanted::FreshRun,
        adopt: wanted == Wanted::Adoption,
        errand: match &wanted {
            Wanted::Errand(errand) => errand.to_json(),
            Wanted::Run | Wanted::FreshRun | Wanted::Plan | Wanted::Adoption => Vec::new(),
        },
        saved_plan: pipeline.saved.clone().unwrap_or_default(),
        selection: pipeline.selections.clone(),
    };
    let verb = match &wanted {
        Wanted::Run | Wanted::FreshRun => "run",
        Wanted::Plan => "plan",
        Wanted::Adoption => "cluster adopt",
        Wanted::Errand(errand) => errand.verb(),
    };
    let what = match wanted {
        Wanted::Run | Wanted::FreshRun => "cannot start the run",
        Wanted::Plan => "cannot plan the pipeline",
        Wanted::Adoption => "cannot adopt the targets",
        Wanted::Errand(Errand::Undo(_)) => "cannot undo the swap",
        Wanted::Errand(Errand::Clean(_)) => "cannot look beside the tables",
        Wanted::Errand(Errand::Show { .. } | Errand::Forget(_)) => {
            "cannot ask the targets' ledgers"
        }
        Wanted::Errand(Errand::PlaceWatermark(_)) => "cannot place the watermark",
        Wanted::Errand(Errand::Standing { .. }) => "cannot look at the logs",
        Wanted::Errand(Errand::Resync(_)) => "cannot begin the log anew",
    };
    let place = connection.banner().to_owned();
    let request = context.signed(request);
    let answer = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                traced(verb, connection.client.submit(request)),
            )
            .await;
            answer.map_err(|status| CliError::from_status(what, &status).at(&place))
        })
        .await?
        .into_inner();
    let bytes = <[u8; 16]>::try_from(answer.run.as_slice()).map_err(|_| {
        CliError::new(
            ExitCode::Unexpected,
            "the coordinator's run id has not 16 bytes",
        )
        .at(place)
    })?;
    Ok((RunId::from_bytes(bytes), answer.attached))
}

/// A run as it stands.
pub(super) async fn get(
    context: &mut Context<'_>,
    connection: &mut Connection,
    run: &str,
) -> Result<Fetched<RunDocument>, CliError> {
    let place = connection.banner().to_owned();
    let program = context.output.talk_look.program.clone();
    context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                connection
                    .client
                    .get_run(GetRunRequest { run: run_of(run)? }),
            )
            .await;
            let answer = answer.map_err(|status| {
                let error = CliError::from_status("cannot show the run", &status).at(&place);
                error.or_next(|| format!("{program} ls"))
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await
}

/// Follows a run to its end, and prints how it ended.
pub(super) async fn follow_to_end(
    context: &mut Context<'_>,
    mut connection: Connection,
    run: String,
    come_back: String,
) -> Result<ExitCode, CliError> {
    let reporter = Reporter::new(context.global, context.output);
    let follower = Follower {
        connection: &mut connection,
        run,
        until: Until::Ended,
        come_back,
        output: context.output,
        interrupts: context.interrupts,
    };
    match follower.follow(reporter).await? {
        Followed::Reached(document) => {
            context.close(connection).await;
            context.print_summary(&document)?;
            Ok(exit::of_run(&document.view))
        }
        // Whoever left has been told how to come back, and waits for nothing more.
        Followed::Left => Ok(ExitCode::Interrupted),
    }
}
