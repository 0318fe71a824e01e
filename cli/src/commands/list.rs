//! `ls`: runs, newest first.

use highwater_common::document::RunsDocument;
use highwater_proto::v1::ListRunsRequest;

use super::Context;
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;

pub(super) async fn list(
    context: &mut Context<'_>,
    pipeline: Option<&str>,
    limit: u32,
) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let place = connection.banner().to_owned();
    let request = ListRunsRequest {
        pipeline: pipeline.unwrap_or_default().to_owned(),
        limit,
    };
    let document: Fetched<RunsDocument> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.list_runs(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot list the runs", &status).at(place)
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    let now = jiff::Timestamp::now();
    context.print(
        &document.json,
        |look| render::runs(&document.view, now, look),
        || {
            document
                .view
                .runs
                .iter()
                .map(|run| run.run.to_string())
                .collect()
        },
    )?;
    Ok(ExitCode::Success)
}
