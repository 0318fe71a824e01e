//! What the verbs take by which an operator holds a run back, limits it, or leaves something out.

use clap::Args;
use highwater_common::controls::LimitChange;
use highwater_common::id::{ConnectionName, PoolName, StepName};
use highwater_common::turn::PRIORITY_MAX;

/// What `pause` takes.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    /// A run, a pipeline or a pipeline file
    pub run: String,
    /// Only these steps, by name or pattern (`'raw_*'`); all of the run when nothing is named
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// Only what uses this connection; may be given several times
    #[arg(long = "connection", value_name = "NAME")]
    pub connections: Vec<ConnectionName>,
    /// Why; it is shown where the run waits, and kept
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// What `resume` takes.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// A run, a pipeline or a pipeline file
    pub run: String,
    /// Only these steps, by name or pattern (`'raw_*'`); everything when nothing is named
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// Only what uses this connection; may be given several times
    #[arg(long = "connection", value_name = "NAME")]
    pub connections: Vec<ConnectionName>,
    /// Why; it is kept
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// What `limits` takes.
#[derive(Debug, Clone, Args)]
pub struct LimitsArgs {
    /// A run, a pipeline or a pipeline file
    pub run: String,
    /// Tasks of the run at once; `default` is what its file says
    #[arg(long, value_name = "N", value_parser = read_limit)]
    pub tasks: Option<Said>,
    /// Its priority among runs, 1 to 9; `default` is what its file says, or 5
    #[arg(long, value_name = "N", value_parser = read_priority)]
    pub priority: Option<Said>,
    /// Tasks of a step at once
    #[arg(long = "step", value_name = "STEP=N", value_parser = read_named::<StepName>)]
    pub steps: Vec<(StepName, Said)>,
    /// Tasks at once of the steps that name a pool
    #[arg(long = "pool", value_name = "POOL=N", value_parser = read_named::<PoolName>)]
    pub pools: Vec<(PoolName, Said)>,
    /// Sessions of a connection at once
    #[arg(long = "connection", value_name = "NAME=N", value_parser = read_named::<ConnectionName>)]
    pub connections: Vec<(ConnectionName, Said)>,
    /// Why; it is kept
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// A limit as it was typed: a number, or the file's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said(pub Option<u32>);

impl LimitsArgs {
    /// What is asked; nothing when the limits are only to be shown.
    #[must_use]
    pub fn change(&self) -> Option<LimitChange> {
        let change = LimitChange {
            tasks: self.tasks.map(|Said(limit)| limit),
            priority: self.priority.map(|Said(limit)| limit),
            steps: named(&self.steps),
            pools: named(&self.pools),
            connections: named(&self.connections),
        };
        (change != LimitChange::default()).then_some(change)
    }
}

fn named<N: Ord + Clone>(limits: &[(N, Said)]) -> std::collections::BTreeMap<N, Option<u32>> {
    let limits = limits.iter();
    limits
        .map(|(name, Said(limit))| (name.clone(), *limit))
        .collect()
}

fn read_limit(text: &str) -> Result<Said, String> {
    match (text, text.parse()) {
        ("default", _) => Ok(Said(None)),
        (_, Ok(0)) => Err("0 would let nothing run: `highwater pause` is for that".to_owned()),
        (_, Ok(limit)) => Ok(Said(Some(limit))),
        (_, Err(_)) => Err("expected a number, or `default`".to_owned()),
    }
}

fn read_priority(text: &str) -> Result<Said, String> {
    match (text, text.parse()) {
        ("default", _) => Ok(Said(None)),
        (_, Ok(priority @ 1..=PRIORITY_MAX)) => Ok(Said(Some(priority))),
        (_, Ok(_) | Err(_)) => Err(format!("expected 1 to {PRIORITY_MAX}, or `default`")),
    }
}

fn read_named<N>(text: &str) -> Result<(N, Said), String>
where
    N: std::str::FromStr<Err: std::fmt::Display>,
{
    let (name, limit) = text
        .split_once('=')
        .ok_or("expected NAME=N, or NAME=default")?;
    let name = name.parse().map_err(|error: N::Err| error.to_string())?;
    Ok((name, read_limit(limit)?))
}

/// What `skip` takes.
#[derive(Debug, Clone, Args)]
pub struct SkipArgs {
    /// A run, a pipeline or a pipeline file
    pub run: String,
    /// The steps, by name or pattern (`'raw_*'`)
    #[arg(value_name = "STEP", required = true)]
    pub steps: Vec<String>,
    /// Why; it is shown with the steps, and kept
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// What `accept` takes.
#[derive(Debug, Clone, Args)]
pub struct AcceptArgs {
    /// A run, a pipeline or a pipeline file
    pub run: String,
    /// Which dead tasks: `orders`, `'raw_*'`, `orders[2024-01..2024-03]`
    #[arg(value_name = "SELECTION", required = true)]
    pub selections: Vec<String>,
    /// Why; it is shown with the tasks, and kept
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Tasks at once in this process; a cluster's workers are its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Do not follow the run; only with a cluster
    #[arg(long)]
    pub detach: bool,
}

/// What `cluster audit` takes.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Only of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
}
