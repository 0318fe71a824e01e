//! Coordinator and workers in this process, over a folder.

use std::path::Path;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::connect::{ControlClient, Need};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file::PipelineFile;

/// A coordinator and workers that run in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Reaches the coordinator.
    pub client: ControlClient,
    /// Cancelled to drain: attempts come to their next stop, nothing new begins, then everything ends.
    pub drain: CancellationToken,
    /// Cancelled to stop at once. What is open stays open, and the next process takes it up.
    pub stop: CancellationToken,
    /// Answers once everything has ended, and with an error when it ended by itself.
    pub ended: oneshot::Receiver<Result<(), CliError>>,
}

/// Starts what `need` asks for over the folder `dir`.
///
/// # Errors
/// Code 6 when another process holds the folder.
#[expect(clippy::unused_async, reason = "starting will wait for the store")]
pub(crate) async fn start(dir: &Path, workers: u32, need: Need) -> Result<Embedded, CliError> {
    Err(CliError::new(ExitCode::Unexpected, format!("{need:?} with {workers} workers is not available in this build"))
        .at(dir.display().to_string())
        .next("name a cluster with --coordinator"))
}

/// Takes over the targets of a pipeline for the cluster of the folder `dir`, and tells what it took, a line each.
///
/// # Errors
/// When a target cannot be reached, or is held by a live process.
#[expect(clippy::unused_async, reason = "adopting will wait for the targets")]
pub(crate) async fn adopt(dir: &Path, pipeline: &PipelineFile) -> Result<Vec<String>, CliError> {
    Err(CliError::new(ExitCode::Unexpected, format!("adopting the targets of {} is not available", pipeline.name))
        .at(dir.display().to_string()))
}
