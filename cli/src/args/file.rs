//! The pipeline file that a verb is about.

use std::path::{Path, PathBuf};

use clap::Args;

/// A pipeline file and its parameters.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The pipeline file
    pub file: PathBuf,
    /// What it is read with.
    #[command(flatten)]
    pub over: OverlayArgs,
}

/// What a pipeline file is read with.
#[derive(Debug, Clone, Default, Args)]
pub struct OverlayArgs {
    /// A parameter's value; may be given again
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_param)]
    pub params: Vec<(String, String)>,
    /// The environment of the file that is laid over it
    #[arg(
        long = "env",
        value_name = "NAME",
        env = "HIGHWATER_ENV",
        hide_env_values = true
    )]
    pub environment: Option<String>,
    /// A key of the file, such as `steps.orders.limits.tasks=8`; may be given again, and comes last
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = parse_set)]
    pub sets: Vec<String>,
}

impl OverlayArgs {
    /// The flags as they would be typed again, each with a space before it.
    #[must_use]
    pub(crate) fn typed(&self) -> String {
        let params = self.params.iter();
        let params = params.map(|(name, value)| ("--param", format!("{name}={value}")));
        let environment = self.environment.iter().map(|name| ("--env", name.clone()));
        let sets = self.sets.iter().map(|set| ("--set", set.clone()));
        let all = params.chain(environment).chain(sets);
        all.map(|(flag, value)| format!(" {flag} {}", quoted(&value)))
            .collect()
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn parse_set(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((path, _)) if !path.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err("expected PATH=VALUE".to_owned()),
    }
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
