//! Runs our own binaries as children: with failpoints, with captured output, to be killed, frozen
//! and waited for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::folders::{
    kept_folder, lock, profile_folder, repository, scratch_folder, target_folder,
};
use crate::process::{Process, Signal};
use crate::wait::until;

/// What is built, with failpoints compiled in.
const BINARIES: [&str; 3] = ["highwater", "highwater-coordinator", "highwater-worker"];
/// What compiles the failpoints in.
const FEATURES: &str =
    "highwater-cli/failpoints,highwater-coordinator/failpoints,highwater-worker/failpoints";

/// A program about to be started.
#[derive(Debug)]
pub struct Binary {
    command: Command,
}

/// A started program. Dropping it kills it and everything it has started.
#[derive(Debug)]
pub struct Running {
    process: Process,
    output: TempDir,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Binary {
    /// The `highwater` command, built from the tree as it is now, with failpoints compiled in.
    ///
    /// # Errors
    /// It does not build.
    pub async fn highwater() -> Result<Self> {
        Self::built("highwater").await
    }

    /// The `highwater-coordinator` daemon, built as [`Binary::highwater`] is.
    ///
    /// # Errors
    /// It does not build.
    pub async fn coordinator() -> Result<Self> {
        Self::built("highwater-coordinator").await
    }

    /// The `highwater-worker` daemon, built as [`Binary::highwater`] is.
    ///
    /// # Errors
    /// It does not build.
    pub async fn worker() -> Result<Self> {
        Self::built("highwater-worker").await
    }

    /// The `highwater` command of another tree, kept in `folder`. What both trees depend on is built
    /// once.
    ///
    /// # Errors
    /// It does not build.
    pub async fn of_tree(tree: &Path, folder: &Path) -> Result<Self> {
        let (tree, program) = (tree.to_owned(), folder.join("highwater"));
        let kept = program.clone();
        let build = move || -> Result<()> {
            let _lock = lock(&kept_folder("tmp")?.join("highwater.lock"))?;
            let built = build_at(&tree, "--offline")?.join("highwater");
            std::fs::copy(&built, &kept).context("keep the program of the other tree")?;
            Ok(())
        };
        let built = tokio::task::spawn_blocking(build).await;
        built.context("build the other tree")??;
        Ok(Self::at(program))
    }

    /// An integration test of another tree, kept in `folder`, which wants nothing but arguments.
    /// What both trees depend on is built once.
    ///
    /// # Errors
    /// It does not build.
    pub async fn test_of_tree(tree: &Path, folder: &Path, test: &str) -> Result<Self> {
        let (tree, program) = (tree.to_owned(), folder.join(test));
        let (kept, test) = (program.clone(), test.to_owned());
        let build = move || -> Result<()> {
            let _lock = lock(&kept_folder("tmp")?.join("highwater.lock"))?;
            // Not the whole of it: the other programs would be built with what the test alone needs.
            let told = cargo(
                &tree,
                &[
                    "--offline",
                    "--test",
                    &test,
                    "--message-format",
                    "json-render-diagnostics",
                ],
            )?;
            let built = told
                .lines()
                .filter(|line| line.contains("\"executable\":\""));
            let built = built.filter_map(|line| serde_json::from_str::<Json>(line).ok());
            let built = built.filter(|told| told["target"]["name"] == test.as_str());
            let mut built = built.filter_map(|told| told["executable"].as_str().map(PathBuf::from));
            let built = built.next_back().context("cargo told of no such test")?;
            std::fs::copy(&built, &kept).context("keep the test of the other tree")?;
            Ok(())
        };
        let built = tokio::task::spawn_blocking(build).await;
        built.context("build a test of the other tree")??;
        Ok(Self::at(program))
    }

    async fn built(name: &str) -> Result<Self> {
        static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
        let build = || async {
            tokio::task::spawn_blocking(build_binaries)
                .await
                .context("build highwater")?
        };
        Ok(Self::at(BUILT.get_or_try_init(build).await?.join(name)))
    }

    /// Which program it is.
    pub(crate) fn program(&self) -> &OsStr {
        self.command.get_program()
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(self.program())
    }

    /// Any program.
    #[must_use]
    pub fn at(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        // What the caller of the test run has set for itself is not meant for the child.
        command.env_remove("FAILPOINTS");
        Self { command }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Arms failpoints: `"name=action;name=action"`.
    #[must_use]
    pub fn failpoints(self, failpoints: &str) -> Self {
        self.env("FAILPOINTS", failpoints)
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn current_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(self) -> Result<Running> {
        let output = scratch_folder("output")?;
        let stdout =
            File::create(output.path().join("stdout")).context("make a file for the output")?;
        let stderr =
            File::create(output.path().join("stderr")).context("make a file for the errors")?;
        let process = Process::start(self.command, stdout, stderr, Some(output.path()))?;
        Ok(Running { process, output })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// It cannot be started, or has not ended within `limit`.
    pub async fn run(self, limit: Duration) -> Result<Finished> {
        let mut running = self.start()?;
        match running.wait(limit).await {
            Ok(status) => Ok(Finished {
                status,
                stdout: running.stdout()?,
                stderr: running.stderr()?,
            }),
            Err(error) => {
                Err(error.context(format!("its standard error so far: {}", running.stderr()?)))
            }
        }
    }
}

impl Running {
    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Sends a signal to it and to everything it has started; nothing happens when it has ended.
    ///
    /// # Errors
    /// There is no shell to send it.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it, and returns when it is gone.
    ///
    /// # Errors
    /// There is no shell to send the signal.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended within `limit`; it goes on then.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit).await
    }

    /// Waits until its standard error holds `text`, and returns what it holds.
    ///
    /// # Errors
    /// It has ended without, or `limit` has passed.
    pub async fn until_stderr_holds(&mut self, text: &str, limit: Duration) -> Result<String> {
        until(&format!("standard error to hold {text:?}"), limit, || {
            let mut look = || {
                // Asked first: what was written before the end is seen after it.
                let ended = self.process.ended()?;
                let stderr = read(&self.output, "stderr")?;
                if stderr.contains(text) {
                    return Ok(Some(stderr));
                }
                ensure!(
                    ended.is_none(),
                    "it ended ({ended:?}) without {text:?} on its standard error: {stderr}"
                );
                Ok(None)
            };
            std::future::ready(look())
        })
        .await
    }

    /// What it has written to its standard output so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read(&self.output, "stdout")
    }

    /// What it has written to its standard error so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        read(&self.output, "stderr")
    }
}

fn read(folder: &TempDir, name: &str) -> Result<String> {
    let bytes = std::fs::read(folder.path().join(name))
        .with_context(|| format!("read the child's {name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Builds the binaries of a tree, with failpoints compiled in, and returns the folder that they are
/// in until another tree is built. `lock` is what cargo may do about the file of locked versions.
fn build_at(tree: &Path, lock: &str) -> Result<PathBuf> {
    cargo(tree, &[lock, "--bins", "--features", FEATURES])?;
    profile_folder()
}

/// Builds something of a tree, and gives what cargo tells of it.
fn cargo(tree: &Path, what: &[&str]) -> Result<String> {
    let mut cargo = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, as the tests are built: a single package would have its dependencies
    // built anew, with other features.
    cargo
        .current_dir(tree)
        .args(["build", "--quiet", "--workspace"])
        .args(what)
        .arg("--target-dir")
        .arg(target_folder()?);
    // Cargo tells this test what package it belongs to. Some build scripts ask for the same
    // variables, and would run anew.
    let about_us = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR"
    };
    for name in std::env::vars_os().map(|(name, _)| name).filter(about_us) {
        cargo.env_remove(name);
    }
    if profile_folder()?.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().context("run cargo build")?;
    ensure!(
        output.status.success(),
        "cargo build failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds the binaries and returns a folder of copies: a later build without failpoints must not
/// replace what the tests run.
fn build_binaries() -> Result<PathBuf> {
    let folder = kept_folder("tmp")?;
    let _lock = lock(&folder.join("highwater.lock"))?;
    // A run of nextest is many processes: one of them builds. Elsewhere cargo itself finds that
    // there is nothing to do.
    let stamp = folder.join("highwater.run");
    let run = variable("NEXTEST_RUN_ID");
    let built = std::fs::read_to_string(&stamp).ok().map(OsString::from);
    if run.is_some() && run == built && BINARIES.iter().all(|name| folder.join(name).exists()) {
        return Ok(folder);
    }
    let profile = build_at(repository(), "--locked")?;
    for name in BINARIES {
        let fresh = folder.join("highwater.new");
        std::fs::copy(profile.join(name), &fresh).with_context(|| format!("copy {name}"))?;
        std::fs::rename(&fresh, folder.join(name))
            .with_context(|| format!("put {name} in its place"))?;
    }
    if let Some(run) = run.as_ref().and_then(|run| run.to_str()) {
        std::fs::write(&stamp, run).context("note which run has built")?;
    }
    Ok(folder)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness runs inside cargo, which speaks by variables"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
