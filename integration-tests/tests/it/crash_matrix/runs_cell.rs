//! One cell of two runs of one pipeline: the first does a part and is broken off, the second loads
//! what it left. It is struck where the two meet: within the fence of the first, or within what the
//! second does before its rows. In the end every row is there once.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use highwater_integration_tests::{Binary, Finished, Signal};

use super::bench::{Bench, NeverStruck, Strike};
use super::cell::{Action, CONVERGED_MAX, SIGABRT, UNREACHABLE, ended_well};
use super::place::Place;
use super::table::{Engine, Mode, Table};

/// The first run's process ends with tasks in hand.
const BROKEN_OFF: &str = "attempt::before_guard=5*off->1*return(abort)";
/// The first run's tasks fail, but for a few, and none is tried again.
const FAILING: &str = "attempt::before_guard=4*off->return";
const PART_COMMITTED: i32 = 3;
const REFUSED: i32 = 6;

/// How the first run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Story {
    /// It is cancelled, and struck meanwhile.
    Cancelled,
    /// It fails. The second one is struck.
    Failed,
}

/// A cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunsCell {
    pub(super) place: Place,
    pub(super) story: Story,
    pub(super) action: Action,
    pub(super) engine: Engine,
    pub(super) mode: Mode,
}

impl fmt::Display for RunsCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            story,
            action,
            engine,
            mode,
        } = self;
        write!(
            f,
            "two runs, the first {story:?}: {} (after {}) {action:?} {engine:?} {mode:?}",
            place.name, place.passed
        )
    }
}

impl Strike for RunsCell {
    type Bench = Bench;

    async fn run(self, bench: &Bench, no: usize) -> Result<()> {
        let folder = bench.folder(&format!("cell-{no}"))?;
        let table = Table::make(bench, (self.engine, self.mode), &folder, no).await?;
        let file = folder.join("pipeline.yaml");
        let whole = table.pipeline(bench, self.mode);
        match self.story {
            Story::Cancelled => {
                std::fs::write(&file, whole).context("write the pipeline")?;
                let Finished { status, stderr, .. } = run(&folder)
                    .await?
                    .failpoints(BROKEN_OFF)
                    .run(CONVERGED_MAX)
                    .await?;
                ensure!(
                    status.signal() == Some(SIGABRT),
                    "the first run ended otherwise \
                    ({status}): {stderr}"
                );
                self.strike(&folder, &["cancel", "matrix", "--reason", "a test", "-y"])
                    .await?;
                let latest = status_of(&folder).await?;
                ensure!(
                    latest["status"] == "cancelled",
                    "the first run is not cancelled: \
                    {latest:#}"
                );
                again(&folder, &RUN).await?;
            }
            Story::Failed => {
                let once = whole.replace("initial: 100ms", "initial: 100ms, max_attempts: 1");
                std::fs::write(&file, once).context("write the pipeline")?;
                let Finished { status, stderr, .. } = run(&folder)
                    .await?
                    .failpoints(FAILING)
                    .run(CONVERGED_MAX)
                    .await?;
                ensure!(
                    status.code() == Some(PART_COMMITTED),
                    "the first run ended otherwise \
                    ({status}): {stderr}"
                );
                let first = status_of(&folder).await?;
                std::fs::write(&file, whole).context("write the pipeline again")?;
                self.strike(&folder, &RUN).await?;
                // The first is over, for ever.
                let first = first["run"].as_str().context("the first run has no id")?;
                let retried = highwater(&folder, &["retry", first])
                    .await?
                    .run(CONVERGED_MAX)
                    .await?;
                let Finished { status, stderr, .. } = retried;
                ensure!(
                    status.code() == Some(REFUSED),
                    "an older run was taken up again \
                    ({status}): {stderr}"
                );
                table.check_superseded().await?;
            }
        }
        table.check_runs(bench, self.mode, 2).await
    }
}

const RUN: [&str; 3] = ["run", "pipeline.yaml", "--workers=2"];

impl RunsCell {
    /// Gives the command until the place struck and what it is for is done, by itself or by another
    /// process.
    async fn strike(&self, folder: &Path, command: &[&str]) -> Result<()> {
        let told = if self.action == Action::Resume {
            "return(stall 4000)"
        } else {
            self.action.told()
        };
        let armed = highwater(folder, command)
            .await?
            .failpoints(&self.place.armed(self.place.passed, told));
        let struck = format!("failpoint {} struck", self.place.name);
        let log = match self.action {
            Action::Kill => {
                let mut running = armed.start()?;
                let log = running
                    .until_stderr_holds(&struck, CONVERGED_MAX)
                    .await
                    .context(NeverStruck)?;
                running.signal(Signal::Kill)?;
                running.wait(CONVERGED_MAX).await?;
                again(folder, command).await?;
                log
            }
            Action::Abort => {
                let Finished { status, stderr, .. } = armed.run(CONVERGED_MAX).await?;
                let is_untouched = !stderr.contains(&struck);
                ensure!(
                    status.signal() == Some(SIGABRT) || is_untouched,
                    "it ended otherwise \
                    ({status}): {stderr}"
                );
                again(folder, command).await?;
                stderr
            }
            Action::Fail | Action::Resume => {
                let Finished { status, stderr, .. } = armed.run(CONVERGED_MAX).await?;
                match status.code() {
                    Some(0) => {}
                    Some(UNREACHABLE) => again(folder, command).await?,
                    _ => bail!("it did not get over it ({status}): {stderr}"),
                }
                stderr
            }
        };
        if log.contains(&struck) {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{log}").context(NeverStruck))
        }
    }
}

async fn highwater(folder: &Path, command: &[&str]) -> Result<Binary> {
    let highwater =
        Binary::highwater()
            .await?
            .args(command)
            .args(["-v", "-o", "json", "--progress", "none"]);
    Ok(highwater
        .env("NO_COLOR", "1")
        .env("HIGHWATER_SESSION_TTL", "3s")
        .current_folder(folder))
}

async fn run(folder: &Path) -> Result<Binary> {
    highwater(folder, &RUN).await
}

/// The same command, with nothing in the way.
async fn again(folder: &Path, command: &[&str]) -> Result<()> {
    let Finished {
        status,
        stdout,
        stderr,
    } = highwater(folder, command).await?.run(CONVERGED_MAX).await?;
    if command.first() == Some(&"run") {
        ensure!(
            status.success(),
            "run again, it failed ({status}): {stderr}"
        );
        return ended_well(&stdout);
    }
    // A cancel that was acknowledged before the process died has nothing left to cancel.
    ensure!(
        status.success() || status.code() == Some(REFUSED),
        "given again, it failed \
        ({status}): {stderr}"
    );
    Ok(())
}

/// The latest run's document.
async fn status_of(folder: &Path) -> Result<serde_json::Value> {
    let Finished { stdout, stderr, .. } = highwater(folder, &["status", "matrix"])
        .await?
        .run(CONVERGED_MAX)
        .await?;
    serde_json::from_str(&stdout).with_context(|| format!("read {stdout:?}: {stderr}"))
}
