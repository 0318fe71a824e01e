//! Highwater's command line, as a library: what `highwater` does with its arguments, its streams
//! and its signals.
//!
//! Never decides anything about a run: it asks the coordinator, through the control service, also
//! when coordinator and workers live in this very process. What it prints to stdout is data,
//! everything else goes to stderr.

mod args;
mod command_line;
mod commands;
mod config;
mod connect;
mod contexts;
mod control;
mod deadline;
mod destination;
mod embedded;
mod error;
mod exit;
mod follow;
mod found_tables;
mod output;
mod pipeline_file;
mod problems;
mod progress;
mod render;
#[cfg(test)]
mod samples;
mod saved_plan;
mod script_files;
mod setting;
mod shell;
#[cfg(test)]
mod tests;
mod token;
mod traced;

pub use args::Cli;
pub use commands::execute;
pub use config::Environment;
pub use contexts::Contexts;
pub use error::CliError;
pub use exit::ExitCode;
use highwater_runtime::telemetry::Telemetry;
pub use output::Output;
pub use traced::continue_trace;
use tracing::level_filters::LevelFilter;

/// Sends log lines to stderr: errors only, unless the flag `-v` was given, once or more often.
pub fn log_to_stderr(verbose: u8, telemetry: &Telemetry) {
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        3.. => LevelFilter::TRACE,
    };
    highwater_runtime::logging::command_to_stderr(level, telemetry);
}
