//! `tasks`: the tasks of a run, by state.

use highwater_common::document::TasksDocument;
use highwater_proto::v1::ListTasksRequest;

use super::Context;
use super::retry::selected;
use super::run_named::run_of;
use crate::args::TasksArgs;
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;

pub(super) async fn tasks(
    context: &mut Context<'_>,
    args: &TasksArgs,
) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let place = connection.banner().to_owned();
    let request = ListTasksRequest {
        run: run_of(args.run.as_deref().unwrap_or_default())?,
        step: selected(args.step.as_ref(), &args.selections),
        state: args.task_state.clone().unwrap_or_default(),
        limit: args.limit,
    };
    let document: Fetched<TasksDocument> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.list_tasks(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot list the tasks", &status).at(place)
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    context.print(
        &document.json,
        |look| render::tasks(&document.view, look),
        || {
            document
                .view
                .tasks
                .iter()
                .map(|task| task.task.to_string())
                .collect()
        },
    )?;
    Ok(if document.view.tasks.is_empty() {
        ExitCode::NothingSelected
    } else {
        ExitCode::Success
    })
}
