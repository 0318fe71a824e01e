//! What the verbs take that let a run go on, or end it.

use clap::Args;

/// What `retry` takes.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// A run, a pipeline or a pipeline file; the latest run of all when left out
    pub run: Option<String>,
    /// Which dead tasks: `orders`, `'raw_*'`, `orders[2024-01..2024-03]`; all when left out
    #[arg(value_name = "SELECTION")]
    pub selections: Vec<String>,
    /// Only this step
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Tasks at once in this process; a cluster's workers are its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Follow the run to its end, which is what happens when nothing else is said
    #[arg(long, conflicts_with = "detach")]
    pub follow: bool,
    /// Do not follow the run; only with a cluster
    #[arg(long)]
    pub detach: bool,
}

/// What `resolve` takes.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("verdict").required(true))]
pub struct ResolveArgs {
    /// A run, a pipeline or a pipeline file
    pub run: String,
    /// The step
    pub step: String,
    /// It was done: the run goes on behind it
    #[arg(long, group = "verdict")]
    pub applied: bool,
    /// It was not done, or not all of it: it runs again
    #[arg(long, group = "verdict")]
    pub not_applied: bool,
    /// How you know; it stands among the run's events
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Tasks at once in this process; a cluster's workers are its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Do not follow the run; only with a cluster
    #[arg(long)]
    pub detach: bool,
}

/// What `cancel` takes.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// A run id or a unique prefix of it, or a pipeline
    pub run: String,
    /// Why; it is kept with the run
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
