//! The pipeline file that a verb is about.

use std::path::{Path, PathBuf};

use clap::Args;

/// A pipeline file and its parameters.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The pipeline file
    pub file: PathBuf,
    /// A parameter's value
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_param)]
    pub params: Vec<(String, String)>,
}

pub(super) fn parse_param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Whether a file is meant where a run may be named as well: neither a run's id nor a pipeline's name
/// has a dot or a slash in it.
pub(crate) fn names_a_file(run: &str) -> bool {
    run.contains(['.', '/']) || Path::new(run).is_file()
}
