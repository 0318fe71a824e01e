//! Completions of shells and pages of the manual, both made from the parser, so that neither can
//! know another command line than it takes.

mod completions;
mod man;

use clap::Command;

pub(crate) use self::completions::completions;
pub(crate) use self::man::{page, write_pages};

/// The command as people see it: without what is hidden.
fn visible(command: &Command) -> Command {
    let mut seen = Command::new(lasting(command.get_name()))
        .disable_help_subcommand(true)
        .args(
            command
                .get_arguments()
                .filter(|arg| !arg.is_hide_set())
                .cloned(),
        )
        .subcommands(
            command
                .get_subcommands()
                .filter(|below| !below.is_hide_set())
                .map(visible),
        )
        .subcommand_required(command.is_subcommand_required_set());
    if let Some(about) = command.get_about() {
        seen = seen.about(about.clone());
    }
    if let Some(long) = command.get_long_about() {
        seen = seen.long_about(long.clone());
    }
    if let Some(after) = command.get_after_help() {
        seen = seen.after_help(after.clone());
    }
    if let Some(version) = command.get_version() {
        seen = seen.version(lasting(version)).propagate_version(true);
    }
    seen
}

/// A name as the parser's library takes one. It lasts as long as the process, which writes a script or
/// some pages and ends.
fn lasting(name: &str) -> &'static str {
    name.to_owned().leak()
}

#[cfg(test)]
mod tests;
