//! What `graph` takes.

use clap::Args;

use super::file::parse_param;

/// What `graph` takes.
#[derive(Debug, Clone, Args)]
pub struct GraphArgs {
    /// A pipeline file, or a run: an id, a unique prefix of it, or a pipeline; the latest run of all
    /// when left out
    #[arg(value_name = "FILE|RUN")]
    pub of: Option<String>,
    /// A parameter's value
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_param)]
    pub params: Vec<(String, String)>,
}
