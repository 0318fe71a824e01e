//! `completions` and `man`: what a shell and the manual know of the command.

use super::Context;
use crate::args::{CompletionsArgs, ManArgs};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::shell;

pub(super) fn completions(
    context: &mut Context<'_>,
    args: &CompletionsArgs,
) -> Result<ExitCode, CliError> {
    context.output.data(&shell::completions(args.shell))?;
    Ok(ExitCode::Success)
}

pub(super) fn man(context: &mut Context<'_>, args: &ManArgs) -> Result<ExitCode, CliError> {
    let Some(folder) = &args.folder else {
        let page = shell::page().map_err(|error| {
            CliError::new(ExitCode::Unexpected, "cannot write the page").why(error.to_string())
        })?;
        context.output.data(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::Success);
    };
    let written = shell::write_pages(folder).map_err(|error| {
        CliError::from_io(
            ExitCode::Unexpected,
            "cannot write the pages",
            folder,
            &error,
        )
    })?;
    let count = written.len();
    context
        .output
        .say(&format!("{count} pages in {}", folder.display()));
    Ok(ExitCode::Success)
}
