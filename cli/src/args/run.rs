//! What `run` takes.

use clap::Args;
use highwater_common::config::ConfigDuration;

use super::file::FileArgs;

/// What `run` takes.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// Only these steps: `orders`, `'raw_*'`, `+kpis` with what it waits for, `orders+` with what waits
    /// for it; all when left out
    #[arg(value_name = "SELECTION")]
    pub selections: Vec<String>,
    /// Tasks at once in this process; a cluster's workers are its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Cancel an unfinished run of another version of the file, and begin a new one
    #[arg(long)]
    pub new: bool,
    /// Run again so long after each run has begun, or as soon as it has ended if it took longer
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["detach", "new"])]
    pub every: Option<ConfigDuration>,
    /// Follow the run to its end, which is what happens when nothing else is said
    #[arg(long, conflicts_with = "detach")]
    pub follow: bool,
    /// Do not follow the run; only with a cluster
    #[arg(long)]
    pub detach: bool,
}
