//! What `advise` and `init` take.

use std::path::PathBuf;

use clap::Args;
use highwater_common::config::ConfigDuration;

use super::file::OverlayArgs;

/// What `advise` takes.
#[derive(Debug, Clone, Args)]
pub struct AdviseArgs {
    /// A pipeline file, or a database to read: `postgres://host/shop`, `sqlite:shop.db`, or a
    /// reference such as `${env:SHOP_URL}`
    #[arg(value_name = "FILE|URL")]
    pub of: String,
    /// Only this table; may be given again. Without it, the tables that the file's steps read, or
    /// all of the database
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// How old the target may be: 30s, 5m, 24h
    #[arg(long, value_name = "DURATION")]
    pub fresh: Option<ConfigDuration>,
    /// It is loaded once, and never again
    #[arg(long)]
    pub once: bool,
    /// The target is read all day, and its readers may not wait
    #[arg(long)]
    pub critical: bool,
    /// A row that is deleted has to leave the target
    #[arg(long)]
    pub deletes_matter: bool,
    /// Tasks at once that the times are told for
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub slots: u32,
    /// Write a pipeline file of what comes first for each table; `-` writes it to stdout
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// What it is read with.
    #[command(flatten)]
    pub over: OverlayArgs,
}

/// What `init` takes.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// The file to write; `-` writes to stdout
    #[arg(default_value = "pipeline.yaml")]
    pub file: PathBuf,
    /// The database to read: `postgres://host/shop`, `sqlite:shop.db`, or a reference such as
    /// `${env:SHOP_URL}`
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// Only the tables of this schema
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<String>,
}
