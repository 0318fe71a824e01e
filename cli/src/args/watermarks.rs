//! Where the steps' watermarks stand.

use clap::Subcommand;

use super::file::FileArgs;

/// Verbs of `watermarks`.
#[derive(Debug, Clone, Subcommand)]
pub enum WatermarksCommand {
    /// All of them
    Ls(FileArgs),
    /// A step's
    Show {
        /// The file.
        #[command(flatten)]
        pipeline: FileArgs,
        /// The step
        step: String,
    },
    /// Puts a step's elsewhere: the next run reads from there on
    Set {
        /// The file.
        #[command(flatten)]
        pipeline: FileArgs,
        /// The step
        step: String,
        /// The first position that the next run reads
        #[arg(allow_hyphen_values = true)]
        position: String,
        /// Why; it is kept with the run that does it
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Takes a step's away: the next run reads from the first row on
    Reset {
        /// The file.
        #[command(flatten)]
        pipeline: FileArgs,
        /// The step
        step: String,
        /// Why; it is kept with the run that does it
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}
