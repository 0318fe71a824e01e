//! What `backfill` takes.

use clap::{Args, ValueEnum};

use super::file::FileArgs;

/// What its help shows.
pub(super) const EXAMPLES: &str = "\
Examples:
  highwater coverage pipeline.yaml orders                                         which gaps are there?
  highwater backfill pipeline.yaml orders --from 2023-05-07 --to 2023-05-08       what is missing of a day
  highwater backfill pipeline.yaml orders --from 2023-05-01 --to 2023-06-01 --reprocess all --plan

Only this step runs. What earlier runs appended is never appended once more.";

/// What `backfill` takes.
#[derive(Debug, Clone, Args)]
pub struct BackfillArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// The step: a backfill
    pub step: String,
    /// The first position that is meant, in the words of `start`; where the file's `start` is when left
    /// out
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// The first position that is not meant any more, in the words of `end`; where the file's `end` is
    /// when left out
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// What of the range is loaded; as the file says when left out
    #[arg(long, value_enum)]
    pub reprocess: Option<ReprocessWord>,
    /// Show what it would do, and change nothing
    #[arg(long, conflicts_with_all = ["new", "detach"])]
    pub plan: bool,
    /// Tasks at once in this process; a cluster's workers are its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Cancel an unfinished run of another version of the file, and begin a new one
    #[arg(long)]
    pub new: bool,
    /// Do not follow the run; only with a cluster
    #[arg(long)]
    pub detach: bool,
}

/// What of a range is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReprocessWord {
    /// What no run has committed, also because it failed
    Missing,
    /// All of it, once more; not of rows that are appended, which would be there twice
    All,
}

impl ReprocessWord {
    /// The word of the pipeline file.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::All => "all",
        }
    }
}
