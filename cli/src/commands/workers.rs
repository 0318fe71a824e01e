//! `workers`: who works; and telling one to stop.

use highwater_common::document::ClusterDocument;
use highwater_proto::v1::set_worker_request::Action;
use highwater_proto::v1::{GetClusterRequest, SetWorkerRequest};

use super::Context;
use crate::args::WorkersCommand;
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;
use crate::traced::traced;

pub(super) async fn workers(
    context: &mut Context<'_>,
    command: &WorkersCommand,
) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let place = connection.banner().to_owned();
    let (what, told) = match command {
        WorkersCommand::Ls => ("cannot list the workers", None),
        WorkersCommand::Cordon { worker } => {
            ("cannot cordon the worker", Some((worker, Action::Cordon)))
        }
        WorkersCommand::Uncordon { worker } => (
            "cannot uncordon the worker",
            Some((worker, Action::Uncordon)),
        ),
        WorkersCommand::Drain { worker } => {
            ("cannot drain the worker", Some((worker, Action::Drain)))
        }
    };
    let told = told.map(|(worker, action)| {
        context.signed(SetWorkerRequest {
            worker: worker.clone(),
            action: action.into(),
        })
    });
    let document: Fetched<ClusterDocument> = context
        .unless_interrupted(async {
            let answer = match told {
                None => {
                    within(
                        CALL_WAIT_MAX,
                        connection.client.get_cluster(GetClusterRequest {}),
                    )
                    .await
                }
                Some(request) => {
                    let asked = connection.client.set_worker(request);
                    within(CALL_WAIT_MAX, traced("workers", asked)).await
                }
            };
            let answer = answer.map_err(|status| CliError::from_status(what, &status).at(place))?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    context.print(
        &document.json,
        |look| render::workers(&document.view, look),
        || {
            document
                .view
                .workers
                .iter()
                .map(|worker| worker.worker.clone())
                .collect()
        },
    )?;
    Ok(ExitCode::Success)
}
