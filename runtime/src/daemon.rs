//! How a daemon starts and ends: its arguments, its log, its configuration file, its exit code.
//! Never decides what it does in between.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser};
use highwater_common::config::{self, FileConfig};

use crate::logging::LogFormat;
use crate::telemetry::{Program, Telemetry};
use crate::{ExitCode, failpoint, logging};

/// The file that is read when none is named.
const DEFAULT_CONFIG: &str = "highwater.config.yaml";
/// What a daemon's last spans, numbers and log lines get to be sent in.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(2);

/// The flags that every daemon has.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// The configuration file [default: highwater.config.yaml, if there is one]
    #[arg(long, env = "HIGHWATER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug
    #[arg(
        long,
        env = "HIGHWATER_LOG",
        default_value = "info",
        value_name = "LEVEL"
    )]
    log: String,
    /// How log lines are written
    #[arg(
        long,
        env = "HIGHWATER_LOG_FORMAT",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
}

/// Why a daemon ends, other than because it was asked to.
#[derive(Debug)]
pub struct Ending {
    /// What the process ends with.
    pub exit: ExitCode,
    /// What the log says last.
    pub message: String,
}

impl Ending {
    /// Ends with `exit`, for the reason `message`.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// The arguments or the configuration file are wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Something that cannot happen did.
    #[must_use]
    pub fn defect(error: &dyn std::error::Error) -> Self {
        Self::new(ExitCode::Unexpected, crate::with_causes(error))
    }

    /// The system does not let it do what any process may.
    #[must_use]
    pub fn cannot(what: &str, error: &io::Error) -> Self {
        Self::new(ExitCode::Unexpected, format!("cannot {what}: {error}"))
    }
}

/// Runs a daemon from its command line to its exit code: reads the arguments, opens the log, does
/// `work` on a runtime, and sends what is left of its telemetry.
pub fn run<A, W>(
    program: Program,
    daemon_args: fn(&A) -> &DaemonArgs,
    work: impl FnOnce(A, Telemetry) -> W,
) -> std::process::ExitCode
where
    A: Parser,
    W: Future<Output = Result<(), Ending>>,
{
    let _armed = failpoint::arm();
    let args = A::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}"); // there is no log yet
            return ExitCode::Unexpected.into();
        }
    };
    let DaemonArgs {
        log, log_format, ..
    } = daemon_args(&args);
    let telemetry = {
        let _carries = runtime.enter();
        Telemetry::of_environment(program, *log_format == LogFormat::Json)
    };
    logging::daemon_to_stderr(log, *log_format, &telemetry);
    let ended = runtime.block_on(work(args, telemetry.clone()));
    let exit = match ended {
        Ok(()) => ExitCode::Success,
        Err(ending) => {
            tracing::error!("{}", ending.message);
            ending.exit
        }
    };
    telemetry.close(CLOSE_WAIT_MAX);
    exit.into()
}

/// The host's name and the process's number: unique, and told to people.
#[must_use]
pub fn host_and_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .collect();
    let host = if host.is_empty() { "host" } else { &host };
    format!("{host}.{}", std::process::id())
}

impl DaemonArgs {
    /// What the configuration file says; nothing, when none is named and there is none of the usual
    /// name.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn read_config(&self) -> Result<FileConfig, Ending> {
        read_config(self.config.as_deref(), Path::new(DEFAULT_CONFIG))
    }
}

fn read_config(named: Option<&Path>, usual: &Path) -> Result<FileConfig, Ending> {
    let path = named.unwrap_or(usual);
    match std::fs::read_to_string(path) {
        Ok(text) => config::parse(&text)
            .map_err(|error| Ending::usage(format!("{}: {error}", path.display()))),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(FileConfig::default())
        }
        Err(error) => Err(Ending::usage(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_no_error_unless_it_was_named_and_a_wrong_one_is_told_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("highwater.config.yaml");
        // GIVEN no file
        assert_eq!(
            read_config(None, &path).expect("nothing said"),
            FileConfig::default()
        );
        let missing = read_config(Some(&path), &path).expect_err("it was named");
        assert!(
            missing
                .message
                .starts_with(&format!("cannot read {}", path.display())),
            "{missing:?}"
        );
        // WHEN there is one, THEN it is read, named or not
        std::fs::write(&path, "worker: {slots: 3}").expect("written");
        for named in [None, Some(path.as_path())] {
            assert_eq!(
                read_config(named, &path).expect("read").worker.slots,
                Some(3)
            );
        }
        // AND one that is wrong is told with its place, whoever named it
        std::fs::write(&path, "worker: {slot: 3}").expect("written");
        let wrong = read_config(None, &path).expect_err("no such key");
        assert_eq!(wrong.exit, ExitCode::Usage);
        assert!(
            wrong.message.starts_with(&path.display().to_string())
                && wrong.message.contains("slot"),
            "{wrong:?}"
        );
    }
}
