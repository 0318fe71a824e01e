//! Verbs of `connections`.

use clap::{Args, Subcommand};

use super::file::FileArgs;

/// Verbs of `connections`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConnectionsCommand {
    /// Asks each database what it is, and what its role may do as far as the file's steps need it
    Test(TestArgs),
}

/// What `connections test` takes.
#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// The file.
    #[command(flatten)]
    pub pipeline: FileArgs,
    /// Only this connection
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}
