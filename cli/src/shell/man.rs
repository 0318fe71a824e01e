//! Pages of the manual: one of the command, and one of each verb.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::visible;
use crate::args::Cli;

/// The section of the manual that commands are in.
const SECTION: &str = "1";

/// The page of the command itself.
pub(crate) fn page() -> io::Result<Vec<u8>> {
    rendered(built())
}

/// Writes every page to a folder, which is made if it is missing; returns their files.
pub(crate) fn write_pages(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut written = Vec::new();
    write_below(&built(), None, folder, &mut written)?;
    Ok(written)
}

fn built() -> Command {
    let mut command = visible(&Cli::command());
    command.build();
    command
}

fn write_below(
    command: &Command,
    above: Option<&str>,
    folder: &Path,
    written: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let name = match above {
        Some(above) => format!("{above}-{}", command.get_name()),
        None => command.get_name().to_owned(),
    };
    for below in command.get_subcommands() {
        write_below(below, Some(&name), folder, written)?;
    }
    let path = folder.join(format!("{name}.{SECTION}"));
    std::fs::write(&path, rendered(command.clone())?)?;
    written.push(path);
    Ok(())
}

fn rendered(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).section(SECTION).render(&mut page)?;
    Ok(page)
}
