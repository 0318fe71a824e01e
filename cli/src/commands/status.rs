//! `status`: a run as it stands, and why it waits.

use super::Context;
use super::run::get;
use crate::connect::{Need, Where};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render::{self, Moment, Steps};

pub(super) async fn status(
    context: &mut Context<'_>,
    run: Option<&str>,
    all: bool,
) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let document = get(context, &mut connection, run.unwrap_or_default()).await?;
    context.close(connection).await;
    // One document says how far the run is, but not how fast it goes.
    let moment = Moment {
        now: jiff::Timestamp::now(),
        pace: None,
    };
    let steps = match all {
        true => Steps::Each,
        false => Steps::Folded,
    };
    context.print(
        &document.json,
        |look| render::status(&document.view, &moment, steps, look),
        || vec![document.view.run.to_string()],
    )?;
    Ok(ExitCode::Success)
}
