//! A coordinator or a worker as a child process: started, killed, frozen, ended and started again.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::binary::{Binary, Running};
use crate::process::Signal;

/// Which program a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Coordinator,
    Worker,
}

/// A daemon, running or not. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    program: Program,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    running: Option<Running>,
    /// What earlier processes of it have written.
    past: String,
}

impl Daemon {
    pub(super) fn new(program: Program) -> Self {
        // Many daemons run here at once, and one of them would take the usual port.
        let env = vec![("HIGHWATER_ADMIN_LISTEN".to_owned(), "off".to_owned())];
        Self {
            program,
            args: Vec::new(),
            env,
            running: None,
            past: String::new(),
        }
    }

    /// Adds arguments, from its next start on.
    pub fn args<A: Into<OsString>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, from its next start on.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, having killed it if it runs.
    ///
    /// # Errors
    /// It does not build, or cannot be started.
    pub async fn start(&mut self) -> Result<()> {
        self.kill()?;
        let binary = match self.program {
            Program::Coordinator => Binary::coordinator().await?,
            Program::Worker => Binary::worker().await?,
        };
        let binary = self
            .env
            .iter()
            .fold(binary.args(&self.args), |binary, (name, value)| {
                binary.env(name, value)
            });
        // What the caller of the test run has in his folder or his environment is not meant for the
        // child.
        self.running = Some(binary.current_folder(std::env::temp_dir()).start()?);
        Ok(())
    }

    /// Kills it between two instructions.
    ///
    /// # Errors
    /// There is no shell to send the signal.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.kill()?;
            self.past.push_str(&running.stderr()?);
        }
        Ok(())
    }

    /// Freezes it.
    ///
    /// # Errors
    /// It does not run, or there is no shell to send the signal.
    pub fn freeze(&mut self) -> Result<()> {
        self.running()?.signal(Signal::Stop)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// It does not run, or there is no shell to send the signal.
    pub fn thaw(&mut self) -> Result<()> {
        self.running()?.signal(Signal::Cont)
    }

    /// Asks it to end in good order.
    ///
    /// # Errors
    /// It does not run, or there is no shell to send the signal.
    pub fn terminate(&mut self) -> Result<()> {
        self.running()?.signal(Signal::Term)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not run, or has not ended within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.running()?.wait(limit).await?;
        self.kill()?;
        Ok(status)
    }

    /// True while its process is there, frozen or not.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.running
            .as_mut()
            .is_some_and(|running| matches!(running.ended(), Ok(None)))
    }

    /// Waits until it has logged `text` since its latest start.
    ///
    /// # Errors
    /// It does not run, has ended without, or `limit` has passed.
    pub async fn until_logged(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.running()?
            .until_stderr_holds(text, limit)
            .await
            .map(drop)
    }

    /// Where its admin port is, which has to be on.
    ///
    /// # Errors
    /// It does not run, has no admin port, or `limit` has passed.
    pub async fn admin(&mut self, limit: Duration) -> Result<String> {
        self.until_logged("health and metrics", limit).await?;
        let log = self.running()?.stderr()?;
        let line = log.lines().find(|line| line.contains("health and metrics"));
        let address = line.and_then(|line| line.split("admin=").nth(1));
        let address = address.and_then(|rest| rest.split_whitespace().next());
        address
            .map(ToOwned::to_owned)
            .context("it tells no address")
    }

    /// Everything that it has logged, in all its processes.
    #[must_use]
    pub fn log(&self) -> String {
        let now = self
            .running
            .as_ref()
            .and_then(|running| running.stderr().ok())
            .unwrap_or_default();
        format!("{}{now}", self.past)
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("the daemon does not run")
    }
}
