//! `cluster`: who leads and who works; and taking over targets.

use highwater_common::view::ClusterDocument;
use highwater_proto::v1::GetClusterRequest;
use serde_json::json;

use super::Context;
use crate::args::FileArgs;
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::{embedded, pipeline_file, render};

pub(super) async fn status(context: &mut Context<'_>) -> Result<ExitCode, CliError> {
    let mut connection = context.open(&Where::new(context.global, 0), Need::Read).await?;
    let place = connection.banner().to_owned();
    let document: Fetched<ClusterDocument> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.get_cluster(GetClusterRequest {})).await;
            let answer =
                answer.map_err(|status| CliError::from_status("cannot show the cluster", &status).at(place))?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    context.print(
        &document.json,
        |look| render::cluster(&document.view, look),
        || vec![document.view.cluster.to_string()],
    )?;
    Ok(ExitCode::Success)
}

pub(super) async fn adopt(context: &mut Context<'_>, args: &FileArgs) -> Result<ExitCode, CliError> {
    let pipeline = pipeline_file::read(args)?;
    let place = Where::new(context.global, 0);
    if place.coordinator.is_some() {
        return Err(CliError::new(ExitCode::Refused, "adopting for a cluster is not supported yet")
            .next("leave --coordinator and HIGHWATER_COORDINATOR away to adopt for this machine's state"));
    }
    context.output.say(&format!("embedded {}", place.state.display()));
    let reach = format!(
        "takes over every target of {}: whatever else has written there, and still runs, is fenced off",
        pipeline.name
    );
    context.confirm(&reach).await?;
    let adopted = context.unless_interrupted(embedded::adopt(&place.state, &pipeline)).await?;
    context.print(
        &json!({"schema": "adoption/v1", "adopted": adopted}),
        |_| adopted.iter().map(|line| format!("{line}\n")).collect(),
        || adopted.clone(),
    )?;
    Ok(ExitCode::Success)
}
