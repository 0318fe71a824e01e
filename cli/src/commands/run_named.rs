//! What is meant where a verb takes a run.

use crate::args::{FileArgs, OverlayArgs, names_a_file};
use crate::error::CliError;
use crate::pipeline_file;

/// A run as the coordinator is asked for it: that of a pipeline file is its pipeline's latest.
pub(super) fn run_of(run: &str) -> Result<String, CliError> {
    if !names_a_file(run) {
        return Ok(run.to_owned());
    }
    let file = FileArgs {
        file: run.into(),
        over: OverlayArgs::default(),
    };
    Ok(pipeline_file::read(&file)?.name)
}
