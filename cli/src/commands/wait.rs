//! `wait`: blocks until a run has ended, then ends with the run's own code.

use super::{Context, run};
use crate::args::WaitArgs;
use crate::connect::{Need, Where};
use crate::error::CliError;
use crate::exit::{self, ExitCode};
use crate::follow::{Followed, Follower, Until};
use crate::progress::Reporter;

pub(super) async fn wait(context: &mut Context<'_>, args: &WaitArgs) -> Result<ExitCode, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let wanted = args.run.clone().unwrap_or_default();
    let found = run::get(context, &mut connection, &wanted).await?;
    let id = found.view.run.to_string();
    let come_back = format!(
        "{} wait {}",
        context.output.talk_look.program, found.view.short
    );
    let reporter = Reporter::new(context.global, context.output);
    let follower = Follower {
        connection: &mut connection,
        run: id,
        until: Until::Ended,
        come_back,
        output: context.output,
        interrupts: context.interrupts,
    };
    let followed = match args.timeout {
        None => follower.follow(reporter).await?,
        Some(limit) => match tokio::time::timeout(limit.0, follower.follow(reporter)).await {
            Ok(followed) => followed?,
            Err(_) => {
                context.close(connection).await;
                return Ok(ExitCode::TimedOut);
            }
        },
    };
    match followed {
        Followed::Reached(document) => {
            context.close(connection).await;
            context.print_summary(&document)?;
            Ok(exit::of_run(&document.view))
        }
        Followed::Left => Ok(ExitCode::Interrupted),
    }
}
