//! What `plan` takes.

use std::path::PathBuf;

use clap::Args;

use super::file::FileArgs;

/// What `plan` takes.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// Only these steps, as `run` takes them; all when left out
    #[arg(value_name = "SELECTION", conflicts_with_all = ["out", "resolved"])]
    pub selections: Vec<String>,
    /// Print the file with all that is laid over it, its defaults and its parameters put in, and
    /// nothing else; needs no network
    #[arg(long)]
    pub resolved: bool,
    /// Save the plan in a file, which `run` carries out as it was shown, or refuses
    #[arg(long, value_name = "FILE", conflicts_with = "resolved")]
    pub out: Option<PathBuf>,
    /// End with code 10 where there is something to do, and with 0 where there is nothing
    #[arg(long, conflicts_with = "resolved")]
    pub exit_code: bool,
}
