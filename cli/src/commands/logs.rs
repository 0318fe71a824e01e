//! `logs`: what happened to a run's tasks lately, as long as the leader remembers it.

use std::time::Duration;

use highwater_common::document::EventsDocument;
use highwater_proto::v1::ListEventsRequest;

use super::run_named::run_of;
use super::{Context, run};
use crate::args::LogsArgs;
use crate::connect::{Connection, Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;

/// How often a followed run is asked for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn logs(context: &mut Context<'_>, args: &LogsArgs) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let mut after = 0;
    loop {
        let ended = match args.follow {
            true => run::get(
                context,
                &mut connection,
                args.run.as_deref().unwrap_or_default(),
            )
            .await?
            .view
            .status
            .has_ended(),
            false => true,
        };
        let document = events(context, &mut connection, args, after).await?;
        after = document.view.events.last().map_or(after, |event| event.seq);
        if !document.view.events.is_empty() || !args.follow {
            context.print(
                &document.json,
                |look| render::events(&document.view, look),
                || {
                    document
                        .view
                        .events
                        .iter()
                        .map(|event| event.seq.to_string())
                        .collect()
                },
            )?;
        }
        if ended {
            context.close(connection).await;
            return Ok(ExitCode::Success);
        }
        let pause = async {
            tokio::time::sleep(FOLLOW_EVERY).await;
            Ok(())
        };
        context.unless_interrupted(pause).await?;
    }
}

async fn events(
    context: &mut Context<'_>,
    connection: &mut Connection,
    args: &LogsArgs,
    after: u64,
) -> Result<Fetched<EventsDocument>, CliError> {
    let place = connection.banner().to_owned();
    let request = ListEventsRequest {
        run: run_of(args.run.as_deref().unwrap_or_default())?,
        step: args.step.clone().unwrap_or_default(),
        after,
    };
    context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.list_events(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot show the log", &status).at(place)
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await
}
