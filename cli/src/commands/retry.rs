//! `retry`: only what failed, again.

use std::path::Path;

use highwater_common::document::RunDocument;
use highwater_proto::v1::RetryRequest;

use super::Context;
use super::run::{follow_to_end, may_detach};
use crate::args::{FileArgs, RetryArgs};
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;

pub(super) async fn retry(
    context: &mut Context<'_>,
    args: &RetryArgs,
) -> Result<ExitCode, CliError> {
    let place = Where::new(context.global, args.workers);
    may_detach(args.detach, &place)?;
    let run = match &args.run {
        Some(run) if names_a_file(run) => {
            pipeline_file::read(&FileArgs {
                file: run.into(),
                params: Vec::new(),
            })?
            .name
        }
        Some(run) => run.clone(),
        None => String::new(),
    };
    let mut connection = context.open(&place, Need::Act).await?;
    let place = connection.banner().to_owned();
    let program = context.output.talk_look.program.clone();
    let request = RetryRequest {
        run,
        step: args.step.clone().unwrap_or_default(),
    };
    let document: Fetched<RunDocument> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.retry(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot retry the run", &status)
                    .at(place)
                    .next(format!("{program} status"))
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    if args.detach {
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

/// Neither a run id nor a pipeline's name has a dot or a slash in it.
fn names_a_file(run: &str) -> bool {
    run.contains(['.', '/']) || Path::new(run).is_file()
}
