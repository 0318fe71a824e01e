//! Steps that follow a log.

use clap::{Args, Subcommand};

use super::file::FileArgs;

/// Verbs of `cdc`.
#[derive(Debug, Clone, Subcommand)]
pub enum CdcCommand {
    /// Where each step stands in its log, and what its slot keeps
    Status(FileArgs),
    /// Drops a step's slot and copies its table anew: what to do about a gap
    #[command(after_help = "\
Example:
  highwater cdc resync pipeline.yaml orders --reason 'the slot was lost'")]
    Resync(ResyncArgs),
}

/// What `cdc resync` takes.
#[derive(Debug, Clone, Args)]
pub struct ResyncArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// The step
    pub step: String,
    /// Why; it is kept with the receipts, which are voided
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Tasks at once in this process; a cluster's workers are its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Do not follow the run; only with a cluster
    #[arg(long)]
    pub detach: bool,
}
