//! What `validate` takes.

use std::path::PathBuf;

use clap::Args;

use super::file::OverlayArgs;

/// What `validate` takes.
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// The pipeline file
    #[arg(required_unless_present = "explain")]
    pub file: Option<PathBuf>,
    /// What it is read with.
    #[command(flatten)]
    pub over: OverlayArgs,
    /// What a key means, and what may stand there: `steps.write.mode`, or the end of its path
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    pub explain: Option<String>,
}
