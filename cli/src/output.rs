//! The two streams: stdout is data, all else goes to stderr. Never panics because a reader has
//! gone.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;

use crate::args::{Global, STATE_DIR};
use crate::config::Environment;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render::Look;

/// Where a command writes.
pub struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    /// How stdout is written.
    pub data_look: Look,
    /// How stderr is written.
    pub talk_look: Look,
    is_quiet: bool,
}

impl Output {
    /// The process's own streams, each asked by itself whether it is a terminal.
    #[must_use]
    pub fn of_process(global: &Global, environment: &Environment) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let look = |is_terminal| look(global, environment, is_terminal);
        Self {
            data_look: look(stdout.is_terminal()),
            talk_look: look(stderr.is_terminal()),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            is_quiet: global.quiet,
        }
    }

    /// Streams of a caller's own, which are no terminals.
    #[must_use]
    pub fn to(
        global: &Global,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
    ) -> Self {
        let look = look(global, &Environment::default(), false);
        Self {
            stdout,
            stderr,
            data_look: look.clone(),
            talk_look: look,
            is_quiet: global.quiet,
        }
    }

    /// Writes data. A reader that has gone wants no more of it, which is no error.
    ///
    /// # Errors
    /// Any other failure to write, such as a full disk.
    pub fn data(&mut self, text: &str) -> Result<(), CliError> {
        match self
            .stdout
            .write_all(text.as_bytes())
            .and_then(|()| self.stdout.flush())
        {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(
                CliError::new(ExitCode::Unexpected, "cannot write to stdout")
                    .why(error.to_string()),
            ),
        }
    }

    /// Tells a person something, unless they asked for quiet. There is nobody to tell of a failure.
    pub fn say(&mut self, line: &str) {
        if !self.is_quiet {
            self.tell(&format!("{line}\n"));
        }
    }

    /// Writes to stderr, quiet or not: errors, and the answer to a Ctrl-C.
    pub fn tell(&mut self, text: &str) {
        self.stderr
            .write_all(text.as_bytes())
            .and_then(|()| self.stderr.flush())
            .ok();
    }
}

fn look(global: &Global, environment: &Environment, is_terminal: bool) -> Look {
    Look {
        is_terminal: is_terminal && !environment.is_dumb,
        has_color: environment.paints(global.color, is_terminal),
        is_ascii: environment.is_dumb,
        program: program(global),
    }
}

/// How the next command has to begin to reach the same place.
fn program(global: &Global) -> String {
    let mut program = "highwater".to_owned();
    if let Some(name) = &global.context {
        program.push_str(&format!(" --context {name}"));
    } else if let Some(url) = &global.coordinator {
        program.push_str(&format!(" --coordinator {url}"));
    } else if global.state != Path::new(STATE_DIR) {
        program.push_str(&format!(" --state {}", global.state.display()));
    }
    program
}
