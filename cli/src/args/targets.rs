//! What the verbs take that are about what targets hold: receipts, and tables that were exchanged.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::file::{FileArgs, OverlayArgs};

/// What `coverage` takes.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CoverageArgs {
    /// What to do instead of showing it.
    #[command(subcommand)]
    pub command: Option<CoverageCommand>,
    /// The pipeline file
    pub file: Option<PathBuf>,
    /// Only this step
    pub step: Option<String>,
    /// What it is read with.
    #[command(flatten)]
    pub over: OverlayArgs,
}

/// Verbs of `coverage`.
#[derive(Debug, Clone, Subcommand)]
pub enum CoverageCommand {
    /// Voids receipts of a step: they stay in the ledger, and the next run loads what they covered
    /// again
    Forget(ForgetArgs),
}

/// What `coverage forget` takes.
#[derive(Debug, Clone, Args)]
pub struct ForgetArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// The step
    pub step: String,
    /// Only from this position on, in the words of `start`; receipts are voided whole or not at all
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only below this position, in the words of `end`
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Why; it is kept with the receipts
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Verbs of `swap`.
#[derive(Debug, Clone, Subcommand)]
pub enum SwapCommand {
    /// Brings the table before the latest swap of a step back, with all that hangs on it, and keeps
    /// the other one; the same once more takes it back
    #[command(
        after_help = "Example:\n  highwater swap undo pipeline.yaml customers --reason 'half of them are missing'"
    )]
    Undo(UndoArgs),
    /// Drops what ended runs have left beside the tables that are read: shadows of runs that were
    /// given up or have failed, and on request the tables that were read before
    #[command(after_help = "\
Examples:
  highwater swap clean pipeline.yaml --dry-run       what would be dropped?
  highwater swap clean pipeline.yaml customers -y    what one step has left
  highwater swap clean pipeline.yaml --kept -y       and the tables that `swap undo` would bring back")]
    Clean(CleanArgs),
}

/// What `swap clean` takes.
#[derive(Debug, Clone, Args)]
pub struct CleanArgs {
    /// The pipeline file
    pub file: PathBuf,
    /// Only of this step
    pub step: Option<String>,
    /// The tables that have been read before, too: what is dropped cannot be brought back
    #[arg(long)]
    pub kept: bool,
    /// Show what would be dropped, and drop nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What it is read with.
    #[command(flatten)]
    pub over: OverlayArgs,
}

/// What `swap undo` takes.
#[derive(Debug, Clone, Args)]
pub struct UndoArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// The step
    pub step: String,
    /// Why; it is kept with the receipts, which are voided
    #[arg(long, value_name = "TEXT", default_value = "the swap was undone")]
    pub reason: String,
}
