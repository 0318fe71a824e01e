//! `retry`: only what failed, again. `resolve`: what nobody knew, said by a person.

use highwater_common::document::RunDocument;
use highwater_proto::v1::RetryRequest;

use super::Context;
use super::run::{follow_to_end, may_detach};
use super::run_named::run_of;
use crate::args::{AcceptArgs, ResolveArgs, RetryArgs};
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::traced::traced;

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
        step: selected(args.step.as_ref(), &args.selections),
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
        ..RetryRequest::default()
    };
    ask_and_follow(context, request, asking).await
}

/// Lets a run go on without tasks that are dead.
pub(super) async fn accept(
    context: &mut Context<'_>,
    args: &AcceptArgs,
) -> Result<ExitCode, CliError> {
    if args.reason.trim().is_empty() {
        return Err(CliError::new(ExitCode::Usage, "the reason is empty")
            .why("it is what others will read later"));
    }
    let asking = Asking {
        what: "cannot go on without the tasks",
        workers: args.workers,
        detach: args.detach,
    };
    let request = RetryRequest {
        run: run_of(&args.run)?,
        step: selected(None, &args.selections),
        reason: args.reason.clone(),
        accept: true,
        ..RetryRequest::default()
    };
    ask_and_follow(context, request, asking).await
}

/// Selections as they travel: with spaces between.
pub(super) fn selected(step: Option<&String>, selections: &[String]) -> String {
    let all: Vec<&str> = step
        .into_iter()
        .chain(selections)
        .map(String::as_str)
        .collect();
    all.join(" ")
}

/// A run that a person lets go on.
struct Asking {
    /// What could not be done, where it cannot.
    what: &'static str,
    workers: u32,
    detach: bool,
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
    let request = context.signed(request);
    let document: Fetched<RunDocument> = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                traced("retry", connection.client.retry(request)),
            )
            .await;
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
