//! What `graph` takes.

use clap::Args;

use super::file::OverlayArgs;

/// What `graph` takes.
#[derive(Debug, Clone, Args)]
pub struct GraphArgs {
    /// A pipeline file, or a run: an id, a unique prefix of it, or a pipeline; the latest run of all
    /// when left out
    #[arg(value_name = "FILE|RUN")]
    pub of: Option<String>,
    /// What it is read with.
    #[command(flatten)]
    pub over: OverlayArgs,
}
