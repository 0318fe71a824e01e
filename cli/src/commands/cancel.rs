//! `cancel`: nothing of the run commits afterwards.

use highwater_common::document::RunDocument;
use highwater_common::number::count;
use highwater_proto::v1::CancelRequest;

use super::Context;
use super::run::get;
use crate::args::CancelArgs;
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CANCEL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::traced::traced;

/// Workers that fence the targets, when they live in this process.
const FENCE_WORKERS: u32 = 4;

pub(super) async fn cancel(
    context: &mut Context<'_>,
    args: &CancelArgs,
) -> Result<ExitCode, CliError> {
    if args.reason.trim().is_empty() {
        return Err(CliError::new(ExitCode::Usage, "the reason is empty")
            .why("it is what others will read later"));
    }
    let mut connection = context
        .open(&Where::new(context.global, FENCE_WORKERS), Need::Act)
        .await?;
    let place = connection.banner().to_owned();
    let run = get(context, &mut connection, &args.run).await?.view;
    context.confirm(&reach(&run)).await?;
    // The full id: what the prefix or the pipeline's name means must not change between the
    // question and the act.
    let request = context.signed(CancelRequest {
        run: run.run.to_string(),
        reason: args.reason.clone(),
    });
    let program = context.output.talk_look.program.clone();
    let document: Fetched<RunDocument> = context
        .unless_interrupted(async {
            let answer = within(
                CANCEL_WAIT_MAX,
                traced("cancel", connection.client.cancel(request)),
            )
            .await;
            let answer = answer.map_err(|status| {
                let error = CliError::from_status("cannot cancel the run", &status).at(place);
                error.next(format!("{program} status {}", run.short))
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    context.print_summary(&document)?;
    Ok(ExitCode::Success)
}

fn reach(run: &RunDocument) -> String {
    let tasks = &run.tasks;
    format!(
        "cancels run {} of {}: {} open and {} waiting tasks will not commit; {} done tasks, {} \
         rows, stay",
        run.short,
        run.pipeline,
        count(tasks.open),
        count(tasks.pending + tasks.retry_wait),
        count(tasks.done),
        count(run.rows)
    )
}
