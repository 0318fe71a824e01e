//! A child process that never outlives the test, however the test ends.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::until;

/// What can be sent to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`: asks it to drain and to end.
    Term,
    /// `SIGINT`: what Ctrl-C sends.
    Int,
    /// `SIGKILL`: ends it between two instructions.
    Kill,
    /// `SIGSTOP`: freezes it.
    Stop,
    /// `SIGCONT`: lets it go on.
    Cont,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// Sends a signal by the shell's own `kill`; a negative number means a process group. One that is
/// gone already is no error.
pub(crate) fn send(signal: Signal, to: i64) -> Result<()> {
    Command::new("sh")
        .args([
            "-c",
            r#"kill -s "$1" -- "$2" 2>/dev/null || true"#,
            "send",
            signal.name(),
            &to.to_string(),
        ])
        .status()
        .context("run sh to send a signal")?;
    Ok(())
}

/// Ends a process group and removes a folder as soon as this process has died, be it by `SIGKILL`.
///
/// It is a shell that waits on a pipe whose other end only this process holds: the kernel closes it
/// with us, whatever happens. Dropping the value dismisses the shell: whoever drops it has ended
/// the group himself.
#[derive(Debug)]
pub struct Sweeper(Child);

impl Sweeper {
    /// Watches over a process group and, if one is given, the folder it writes to.
    ///
    /// # Errors
    /// No shell can be started.
    pub fn over(group: u32, folder: Option<&Path>) -> Result<Self> {
        // The pause lets the group's last member leave the folder.
        let script =
            r#"read -r _; kill -s KILL -- "-$1"; [ -z "$2" ] || { sleep 1; rm -rf -- "$2"; }"#;
        let shell = Command::new("sh")
            .args(["-c", script, "sweeper", &group.to_string()])
            .arg(folder.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start a sweeper")?;
        Ok(Self(shell))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // Killed before its pipe is closed, or it would sweep.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A child in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Process {
    // Dropped after `Drop::drop` has ended the child: the sweeper is dismissed last.
    child: Child,
    ended: Option<ExitStatus>,
    _sweeper: Sweeper,
}

impl Process {
    /// Starts `command`, its output going to the two files.
    pub(crate) fn start(
        mut command: Command,
        stdout: File,
        stderr: File,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        match Sweeper::over(child.id(), folder) {
            Ok(sweeper) => Ok(Self {
                child,
                ended: None,
                _sweeper: sweeper,
            }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .context("ask whether a child has ended")?;
        }
        Ok(self.ended)
    }

    /// Waits for it to end by itself.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("process {} to end", self.id());
        until(&what, limit, || std::future::ready(self.ended())).await
    }

    /// Sends a signal to the whole group, unless the child has ended: its number may be another's
    /// by then.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        match self.ended()? {
            Some(_) => Ok(()),
            None => send(signal, -i64::from(self.id())),
        }
    }

    /// Kills the whole group and waits for the child's end.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::Kill)?;
        match self.ended {
            Some(status) => Ok(status),
            None => Ok(*self
                .ended
                .insert(self.child.wait().context("wait for a killed child")?)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill().is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
