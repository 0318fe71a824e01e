//! What is recommended, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::TableName;

/// The ways to load a table that are weighed against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// All of it, again and again, in the place of what is there.
    FullRefresh,
    /// Its history once, in parallel.
    Backfill,
    /// What was written since the last run.
    Incremental,
    /// Its history in parallel, then what was written since.
    BackfillIncremental,
    /// Every change, from the log.
    Cdc,
    /// A copy in parallel, then every change from the log.
    BackfillCdc,
    /// All of it beside the table that is read, whose place it takes.
    Swap,
    /// All of it beside the table that is read, whose rows are then brought to it.
    SwapInPlace,
    /// All of it once a day, because nothing else fits.
    Nightly,
}

impl Way {
    /// All that there are.
    pub const ALL: [Self; 9] = [
        Self::FullRefresh,
        Self::Backfill,
        Self::Incremental,
        Self::BackfillIncremental,
        Self::Cdc,
        Self::BackfillCdc,
        Self::Swap,
        Self::SwapInPlace,
        Self::Nightly,
    ];

    /// Whether it reads the log of the source, in which it makes what it needs for that.
    #[must_use]
    pub const fn follows_log(self) -> bool {
        matches!(self, Self::Cdc | Self::BackfillCdc)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FullRefresh => "full_refresh",
            Self::Backfill => "backfill",
            Self::Incremental => "incremental",
            Self::BackfillIncremental => "backfill + incremental",
            Self::Cdc => "cdc",
            Self::BackfillCdc => "backfill + cdc",
            Self::Swap => "swap",
            Self::SwapInPlace => "swap, in place",
            Self::Nightly => "full_refresh nightly",
        }
    }

    /// The strategies of a pipeline file that it takes.
    #[must_use]
    pub const fn strategies(self) -> &'static [&'static str] {
        match self {
            Self::FullRefresh | Self::Nightly => &["full_refresh"],
            Self::Backfill => &["backfill"],
            Self::Incremental => &["incremental"],
            Self::BackfillIncremental => &["backfill", "incremental"],
            Self::Cdc | Self::BackfillCdc => &["cdc"],
            Self::Swap | Self::SwapInPlace => &["swap"],
        }
    }
}

/// How much of the source a way brings, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assurance {
    /// Every change arrives.
    NoLoss,
    /// What may be missing is known and named.
    Bounded,
    /// It rests on what nobody enforces.
    BestEffort,
}

/// What a way costs. Estimates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Rows of the first load.
    pub rows: u64,
    /// Bytes of the first load.
    pub bytes: u64,
    /// Seconds that the first load takes.
    pub seconds: u64,
    /// With so many tasks at once.
    pub slots: u32,
    /// Bytes that are read on each later day.
    pub bytes_a_day: u64,
    /// Queries of the source on each later day.
    pub queries_a_day: u64,
    /// Bytes that the target takes beyond the table itself.
    pub space: u64,
    /// What is locked, and for how long.
    pub locks: String,
    /// What is kept of the source's log; `None` where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// A way that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// The way.
    pub way: Way,
    /// What people call it.
    pub name: String,
    /// How often it runs.
    pub cadence: String,
    /// How much of the source it brings.
    pub assurance: Assurance,
    /// What it brings, in a line.
    pub brings: String,
    /// The facts that speak for it.
    pub because: Vec<String>,
    /// What to know before it is chosen.
    pub cautions: Vec<String>,
    /// What it costs.
    pub cost: Cost,
    /// Whether this version can run it.
    pub runs_here: bool,
}

/// A way that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The way.
    pub way: Way,
    /// What people call it.
    pub name: String,
    /// Why, all of it.
    pub because: Vec<Refusal>,
}

/// A reason why a way does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was found.
    pub fact: String,
    /// What it would take.
    pub threshold: String,
    /// What can be done about it.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; it needs {}: {}",
            self.fact, self.threshold, self.remedy
        )
    }
}

/// What is recommended for a table, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The table.
    pub table: TableName,
    /// Its rows.
    pub rows: u64,
    /// Whether they were counted.
    pub rows_exact: bool,
    /// Its bytes.
    pub bytes: u64,
    /// The columns of its key.
    pub key: Vec<String>,
    /// The column that says when a row was last written, and who sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// What fits.
    pub ranked: Vec<Ranked>,
    /// What does not.
    pub refused: Vec<Refused>,
}
