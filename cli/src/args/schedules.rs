//! The pipelines that a cluster runs by itself.

use clap::{Args, Subcommand};

use super::file::FileArgs;

/// What its help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  highwater schedules set pipeline.yaml                    from now on, by its `schedule`
  highwater schedules ls
  highwater schedules pause shop --reason 'the month is closed'
  highwater schedules trigger shop                         once, now

Only a cluster keeps schedules; in this process there is `run --every`.";

/// Verbs of `schedules`.
#[derive(Debug, Clone, Subcommand)]
pub enum SchedulesCommand {
    /// Lists them: when each runs next, and how it stands
    Ls,
    /// Shows one, and why a time of it began no run
    Show {
        /// A pipeline, or a pipeline file
        pipeline: String,
    },
    /// Gives a pipeline file to the cluster, which runs it by its `schedule` from now on
    Set {
        /// The file.
        #[command(flatten)]
        pipeline: FileArgs,
        /// Why; it is kept
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Holds one back: it begins no run until it is resumed
    Pause(WhyArgs),
    /// Lets one go on; what came in the pause is not caught up
    Resume(PipelineArgs),
    /// Begins a run of one now, whatever the time, also while it is paused
    Trigger(PipelineArgs),
    /// Takes one from the cluster; its runs stay
    Rm(WhyArgs),
}

/// A pipeline, and a reason where one wants to give one.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// A pipeline, or a pipeline file
    pub pipeline: String,
    /// Why; it is kept
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// A pipeline, and a reason.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// A pipeline, or a pipeline file
    pub pipeline: String,
    /// Why; it is kept
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
