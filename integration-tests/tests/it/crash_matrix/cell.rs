//! One cell of the embedded mode: it strikes, sees that it did, lets the run come to its end, and
//! looks at every row and at the ledger.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use highwater_integration_tests::{Binary, Finished, Signal};

use super::bench::{Bench, NeverStruck, Strike};
use super::place::Place;
use super::table::{Engine, Mode, Table};

/// The longest that a run may take from the strike to its end.
pub(super) const CONVERGED_MAX: Duration = Duration::from_secs(30);
/// How long a silent worker counts as alive. A stall of four seconds is longer.
const SESSION_TTL: &str = "3s";
/// The signal of `abort()`.
pub(super) const SIGABRT: i32 = 6;
/// The exit code of a command whose question met the end of a term.
pub(super) const UNREACHABLE: i32 = 5;

/// What happens at the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The process ends.
    Abort,
    /// The step fails, and the process goes on.
    Fail,
    /// The step waits, and the process is killed.
    Kill,
    /// The step waits for longer than a lease lives, then goes on.
    Resume,
}

impl Action {
    /// What a failpoint is told; how long one waits that shall go on depends on who waits for it.
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Abort => "return(abort)",
            Self::Fail => "return",
            Self::Kill | Self::Resume => "return(stall)",
        }
    }
}

/// A cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) place: Place,
    pub(super) action: Action,
    pub(super) engine: Engine,
    pub(super) mode: Mode,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            action,
            engine,
            mode,
        } = self;
        write!(
            f,
            "{} (after {}) {action:?} {engine:?} {mode:?}",
            place.name, place.passed
        )
    }
}

impl Strike for Cell {
    type Bench = Bench;

    async fn run(self, bench: &Bench, no: usize) -> Result<()> {
        let folder = bench.folder(&format!("cell-{no}"))?;
        let table = Table::make(bench, (self.engine, self.mode), &folder, no).await?;
        std::fs::write(
            folder.join("pipeline.yaml"),
            table.pipeline(bench, self.mode),
        )
        .context(
            "write \
            the pipeline",
        )?;
        self.strike(&folder).await?;
        table.check(bench, self.mode).await
    }
}

impl Cell {
    /// Runs until the place struck and the run has ended, by itself or by another process.
    async fn strike(&self, folder: &Path) -> Result<()> {
        let armed = highwater(folder).await?.failpoints(&self.failpoints());
        let log = match self.action {
            Action::Kill => {
                let mut running = armed.start()?;
                let log = match running
                    .until_stderr_holds(&self.struck(), CONVERGED_MAX)
                    .await
                {
                    Ok(log) => log,
                    // It came to its end before the strike could; one that failed by itself is
                    // another matter.
                    Err(error) if running.ended()?.is_some_and(|status| status.success()) => {
                        return Err(error.context(NeverStruck));
                    }
                    Err(error) => return Err(error),
                };
                running.signal(Signal::Kill)?;
                running.wait(CONVERGED_MAX).await?;
                again(folder).await?;
                log
            }
            Action::Abort => {
                let Finished { status, stderr, .. } = armed.run(CONVERGED_MAX).await?;
                let is_untouched = !stderr.contains(&self.struck());
                ensure!(
                    status.signal() == Some(SIGABRT) || is_untouched,
                    "it ended otherwise \
                    ({status}): {stderr}"
                );
                again(folder).await?;
                stderr
            }
            Action::Fail | Action::Resume => {
                let Finished {
                    status,
                    stdout,
                    stderr,
                } = armed.run(CONVERGED_MAX).await?;
                match status.code() {
                    Some(0) => ended_well(&stdout)?,
                    Some(UNREACHABLE) => again(folder).await?,
                    _ => bail!("it did not get over it ({status}): {stderr}"),
                }
                stderr
            }
        };
        if !log.contains(&self.struck()) {
            return Err(anyhow::anyhow!("{log}").context(NeverStruck));
        }
        if self.is_zombie() {
            ensure!(log.contains("worker lost"), "the lease was not lost: {log}");
        }
        Ok(())
    }

    fn is_zombie(&self) -> bool {
        self.place.is_for_zombies && self.action == Action::Resume
    }

    /// What the log says when the place has struck.
    fn struck(&self) -> String {
        let worker = if self.is_zombie() { "@embedded-1" } else { "" };
        format!("failpoint {}{worker} struck", self.place.name)
    }

    fn failpoints(&self) -> String {
        let Place {
            name, passed, with, ..
        } = self.place;
        let own = match self.action {
            Action::Resume if self.is_zombie() => {
                format!(
                    "{name}@embedded-1=1*off->1*return(stall \
                         4000);heartbeat::silent@embedded-1=return(stall 5000)"
                )
            }
            Action::Resume => self.place.armed(passed, "return(stall 4000)"),
            Action::Abort | Action::Fail | Action::Kill => {
                self.place.armed(passed, self.action.told())
            }
        };
        if with.is_empty() {
            own
        } else {
            format!("{own};{with}")
        }
    }
}

async fn highwater(folder: &Path) -> Result<Binary> {
    let args = [
        "run",
        "pipeline.yaml",
        "--workers",
        "2",
        "-v",
        "-o",
        "json",
        "--progress",
        "none",
    ];
    let highwater = Binary::highwater().await?.args(args).env("NO_COLOR", "1");
    Ok(highwater
        .env("HIGHWATER_SESSION_TTL", SESSION_TTL)
        .current_folder(folder))
}

/// Runs again, with nothing in the way.
async fn again(folder: &Path) -> Result<()> {
    let Finished {
        status,
        stdout,
        stderr,
    } = highwater(folder).await?.run(CONVERGED_MAX).await?;
    ensure!(
        status.success(),
        "run again, it failed ({status}): {stderr}"
    );
    ended_well(&stdout)
}

pub(super) fn ended_well(stdout: &str) -> Result<()> {
    let run: serde_json::Value = serde_json::from_str(stdout).with_context(|| {
        format!(
            "read \
        {stdout:?}"
        )
    })?;
    ensure!(
        run["status"] == "success",
        "the run did not succeed: {stdout}"
    );
    Ok(())
}
