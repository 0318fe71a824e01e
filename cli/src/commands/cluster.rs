//! `cluster`: who leads and who works; and taking over targets.

use highwater_common::document::{AdoptedDocument, ClusterDocument};
use highwater_common::id::ConnectionName;
use highwater_proto::v1::GetClusterRequest;
use serde_json::json;

use super::Context;
use super::plan::{Planned, make_plan};
use super::run::Wanted;
use crate::args::FileArgs;
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::{embedded, render};

pub(super) async fn status(context: &mut Context<'_>) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let place = connection.banner().to_owned();
    let document: Fetched<ClusterDocument> = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                connection.client.get_cluster(GetClusterRequest {}),
            )
            .await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot show the cluster", &status).at(place)
            })?;
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

pub(super) async fn adopt(
    context: &mut Context<'_>,
    args: &FileArgs,
) -> Result<ExitCode, CliError> {
    let pipeline = context.read(args).await?;
    let place = Where::new(context.global, 0);
    let reach = format!(
        "takes over every target of {}: whatever else has written there, and still runs, is fenced \
         off",
        pipeline.name
    );
    let adopted = if place.coordinator.is_some() {
        let connection = context.open(&place, Need::Act).await?;
        context.confirm(&reach).await?;
        let come_back = format!(
            "{} cluster adopt {}",
            context.output.talk_look.program,
            args.file.display()
        );
        match make_plan(context, connection, &pipeline, Wanted::Adoption, come_back).await? {
            Planned::Made(plan) => plan.view.adopted,
            Planned::Not(exit) => return Ok(exit),
        }
    } else {
        context
            .output
            .say(&format!("embedded {}", place.state.display()));
        context.confirm(&reach).await?;
        context
            .unless_interrupted(embedded::adopt(&place.state, &pipeline))
            .await?
    };
    let lines: Vec<String> = adopted.iter().map(line).collect();
    context.print(
        &json!({"schema": "adoption/v1", "adopted": lines}),
        |_| lines.iter().map(|line| format!("{line}\n")).collect(),
        || lines.clone(),
    )?;
    Ok(ExitCode::Success)
}

fn line(
    (name, AdoptedDocument { cluster, former }): (&ConnectionName, &AdoptedDocument),
) -> String {
    match former {
        None => format!("{name}: was nobody's, is this cluster's now ({cluster})"),
        Some(former) if former == cluster => {
            format!("{name}: was this cluster's already ({cluster})")
        }
        Some(former) => {
            format!("{name}: taken over from {former}, is this cluster's now ({cluster})")
        }
    }
}
