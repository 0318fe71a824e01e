//! What a shell and a manual are told of the command.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The shells that completions are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShellName {
    /// Bash, 4 or newer
    Bash,
    /// Zsh
    Zsh,
    /// Fish
    Fish,
}

/// What `completions` takes.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: ShellName,
}

/// What `man` takes.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The folder to write a page of each verb to; without it the command's own page goes to stdout
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Verbs of `config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Lists every setting of the command with its value; needs no network
    View(ViewArgs),
}

/// What `config view` takes.
#[derive(Debug, Clone, Args)]
pub struct ViewArgs {
    /// And where each value comes from: a flag, a variable, a file, or nobody said anything
    #[arg(long)]
    pub show_origin: bool,
}
