//! What `plan` takes.

use clap::Args;

use super::file::FileArgs;

/// What `plan` takes.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// Print the file with all that is laid over it, its defaults and its parameters put in, and
    /// nothing else; needs no network
    #[arg(long)]
    pub resolved: bool,
}
