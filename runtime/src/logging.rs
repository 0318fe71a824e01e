//! What goes to the log, which is stderr.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Our own crates, by the names that their log lines carry.
const CRATES: [&str; 7] = [
    "cli",
    "common",
    "coordinator",
    "net",
    "proto",
    "runtime",
    "worker",
];

/// Sends a daemon's log lines to stderr: those of `level` and graver, and of the network stack's
/// none below warnings.
pub(crate) fn daemon_to_stderr(level: &str) {
    let filter = EnvFilter::new(format!("{level},h2=warn,hyper=warn,tonic=warn"));
    let is_terminal = std::io::stderr().is_terminal(); // a file or a pipe gets no escape codes
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .init();
}

/// Sends a command's log lines to stderr: of others' crates errors only, of our own those of
/// `level` and graver.
pub fn command_to_stderr(level: LevelFilter) {
    let ours = CRATES
        .map(|name| format!("highwater_{name}={level}"))
        .join(",");
    let filter = EnvFilter::new(format!("error,highwater={level},{ours}"));
    // Only a second installation fails, and then the first one holds.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .ok();
}
