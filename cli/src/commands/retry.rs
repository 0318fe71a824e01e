//! `retry`: only what failed, again. `resolve`: what nobody knew, said by a person.

use highwater_common::document::RunDocument;
use highwater_proto::v1::RetryRequest;

use super::Context;
use super::run::{follow_to_end, may_detach};
use crate::args::{FileArgs, OverlayArgs, ResolveArgs, RetryArgs, names_a_file};
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;

pub(super) async fn retry(
    context: &mut Context<'_>,
    args: &RetryArgs,
) -> Result<ExitCode, CliError> {
    let asking = Asking {
        what: "cannot retry the run",
        workers: args.workers,
        detach: args.detach,
    };
    let request = RetryRequest {
        run: args.run.as_deref().map_or(Ok(String::new()), run_of)?,
        step: args.step.clone().unwrap_or_default(),
        ..RetryRequest::default()
    };
    ask_and_follow(context, request, asking).await
}

/// What a person says of a task that is in doubt.
pub(super) async fn resolve(
    context: &mut Context<'_>,
    args: &ResolveArgs,
) -> Result<ExitCode, CliError> {
    let asking = Asking {
        what: "cannot resolve what is in doubt",
        workers: args.workers,
        detach: args.detach,
    };
    let request = RetryRequest {
        run: run_of(&args.run)?,
        step: args.step.clone(),
        applied: Some(args.applied),
        reason: args.reason.clone(),
    };
    ask_and_follow(context, request, asking).await
}

/// A run that a person lets go on.
struct Asking {
    /// What could not be done, where it cannot.
    what: &'static str,
    workers: u32,
    detach: bool,
}

/// The run of a pipeline file is its pipeline's latest.
fn run_of(run: &str) -> Result<String, CliError> {
    if !names_a_file(run) {
        return Ok(run.to_owned());
    }
    let file = FileArgs {
        file: run.into(),
        over: OverlayArgs::default(),
    };
    Ok(pipeline_file::read(&file)?.name)
}

async fn ask_and_follow(
    context: &mut Context<'_>,
    request: RetryRequest,
    Asking {
        what,
        workers,
        detach,
    }: Asking,
) -> Result<ExitCode, CliError> {
    let place = Where::new(context.global, workers);
    may_detach(detach, &place)?;
    let mut connection = context.open(&place, Need::Act).await?;
    let place = connection.banner().to_owned();
    let program = context.output.talk_look.program.clone();
    let document: Fetched<RunDocument> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.retry(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status(what, &status)
                    .at(place)
                    .next(format!("{program} status"))
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    if detach {
        context.print_summary(&document)?;
        return Ok(ExitCode::Success);
    }
    let come_back = if connection.embedded.is_some() {
        format!("{program} run the pipeline file")
    } else {
        format!("{program} status {}", document.view.short)
    };
    follow_to_end(
        context,
        connection,
        document.view.run.to_string(),
        come_back,
    )
    .await
}
