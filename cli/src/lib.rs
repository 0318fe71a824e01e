//! Highwater's command line, as a library: what `highwater` does with its arguments, its streams and its signals.
//!
//! Never decides anything about a run: it asks the coordinator, through the control service, also when coordinator and
//! workers live in this very process. What it prints to stdout is data, everything else goes to stderr.

mod args;
mod commands;
mod config;
mod connect;
mod contexts;
mod deadline;
mod embedded;
mod error;
mod exit;
mod follow;
mod interrupt;
mod output;
mod pipeline_file;
mod problems;
mod progress;
mod render;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use args::Cli;
pub use commands::execute;
pub use config::Environment;
pub use contexts::Contexts;
pub use error::CliError;
pub use exit::ExitCode;
pub use interrupt::Interrupts;
pub use output::Output;

/// Sends log lines to stderr: errors only, unless the flag `-v` was given, once or more often.
pub fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "info",
        2 => "debug",
        3.. => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(format!("error,highwater={level}"));
    let filter = ["cli", "common", "coordinator", "net", "proto", "worker"].iter().fold(filter, |filter, name| {
        match format!("highwater_{name}={level}").parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        }
    });
    // Only a second installation fails, and then the first one holds.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init().ok();
}
