//! Runs programs that are not ours, of those that whoever started the worker allows: without a shell,
//! with a clean environment, and never for longer than the attempt.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::guard;

/// Lines of what a program says that a message holds at the most; the last ones.
const TOLD_LINES_MAX: usize = 8;
/// Bytes of a line that are kept.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines of an attempt that go to the log.
const LOGGED_LINES_MAX: u64 = 10_000;
/// How long the last lines of a program that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of what a program said that a message holds at the most; the last ones.
const TOLD_BYTES_MAX: usize = 600;
/// A shorter secret is no secret: it would hide every other word.
const SECRET_BYTES_MIN: usize = 4;
/// Where programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs that a worker runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedPrograms(Vec<PathBuf>);

/// A path that names neither a program nor a folder of such.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct AllowedError {
    /// The path.
    path: String,
    /// Why not.
    source: io::Error,
}

impl AllowedPrograms {
    /// Those of these paths: programs, and folders of such. Links are followed now.
    ///
    /// # Errors
    /// [`AllowedError`] for a path where nothing is.
    pub fn new(paths: &[PathBuf]) -> Result<Self, AllowedError> {
        let settled = paths.iter().map(|path| {
            path.canonicalize().map_err(|source| AllowedError {
                path: path.display().to_string(),
                source,
            })
        });
        settled.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a program is, if it is one of these; links are followed first, and `..` is none.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<PathBuf> {
        let found = Path::new(path).canonicalize().ok()?;
        let is_allowed = self.0.iter().any(|allowed| found.starts_with(allowed));
        (is_allowed && found.is_file()).then_some(found)
    }
}

/// A program as it is run.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    /// What nobody may read in what it says.
    pub(crate) secrets: Vec<String>,
    pub(crate) folder: PathBuf,
}

/// Why a program has no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// It was not started.
    #[error("it cannot be started: {0}")]
    NotStarted(io::Error),
    /// It was, and nobody knows more.
    #[error("its guard was lost: {0}")]
    Lost(io::Error),
}

/// How a program has ended.
pub(crate) struct Ended {
    /// Its exit code, and 128 and the signal that it was ended by; `None` where its guard was.
    pub(crate) code: Option<i32>,
    /// The last lines of what it said.
    pub(crate) told: String,
}

impl Program {
    /// Runs it to its end. Dropping this kills it, with everything that it has started.
    pub(crate) async fn run(&self) -> Result<Ended, RunError> {
        let mut command = Command::from(guard::command(&self.path, &self.arguments));
        let folder = match self.folder.is_dir() {
            true => self.folder.as_path(),
            false => Path::new("/"),
        };
        command
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(RunError::NotStarted)?;
        // Closed when this is dropped, and when the worker dies: then its guard kills it.
        let _alive = child.stdin.take();
        let mut said = Said {
            secrets: &self.secrets,
            lines: VecDeque::new(),
            logged: 0,
        };
        let (mut out, mut err) = (lines(child.stdout.take()), lines(child.stderr.take()));
        let (mut out_ended, mut err_ended) = (out.is_none(), err.is_none());
        let mut status = None;
        // What has left the program's process group may hold the pipes for as long as it likes.
        let mut patience = pin!(tokio::time::sleep(LAST_WORDS));
        while !(out_ended && err_ended && status.is_some()) {
            tokio::select! {
                biased;
                line = next(&mut out), if !out_ended => {
                    out_ended = !said.hear(line.map_err(RunError::Lost)?);
                }
                line = next(&mut err), if !err_ended => {
                    err_ended = !said.hear(line.map_err(RunError::Lost)?);
                }
                ended = child.wait(), if status.is_none() => {
                    status = Some(ended.map_err(RunError::Lost)?);
                    patience.set(tokio::time::sleep(LAST_WORDS));
                }
                () = patience.as_mut(), if status.is_some() => break,
            }
        }
        Ok(Ended {
            code: status.and_then(|status| status.code()),
            told: said.told(),
        })
    }
}

/// What a program writes to one of its pipes.
struct Lines {
    from: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// What has come of the next line. It is kept here, so that whoever stops waiting for the rest
    /// loses nothing of it.
    line: Vec<u8>,
}

fn lines(from: Option<impl AsyncRead + Send + Unpin + 'static>) -> Option<Lines> {
    from.map(|from| Lines {
        from: BufReader::new(Box::new(from)),
        line: Vec::new(),
    })
}

/// The next line, or so much of it as is kept; `None` at the end. May be given up at any time.
async fn next(from: &mut Option<Lines>) -> io::Result<Option<String>> {
    let Some(Lines { from, line }) = from else {
        return Ok(None);
    };
    let room = LINE_BYTES_MAX.saturating_sub(line.len() as u64);
    (&mut *from).take(room).read_until(b'\n', line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    let line = std::mem::take(line);
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// What a program has said.
struct Said<'a> {
    secrets: &'a [String],
    lines: VecDeque<String>,
    logged: u64,
}

impl Said<'_> {
    /// Takes a line; false at the end.
    fn hear(&mut self, line: Option<String>) -> bool {
        let Some(line) = line else {
            return false;
        };
        let line = masked(&line, self.secrets);
        self.logged += 1;
        if self.logged <= LOGGED_LINES_MAX {
            tracing::info!(target: "highwater_worker::program", "{line}");
        }
        if self.lines.len() >= TOLD_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        true
    }

    fn told(&self) -> String {
        let told: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        tail(&told.join("\n")).to_owned()
    }
}

/// The end of a text: the message that it stands in keeps its own beginning.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(TOLD_BYTES_MAX);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    from.and_then(|from| text.get(from..)).unwrap_or_default()
}

/// What is looked for in what a program says, line by line: the lines of its secrets, the longest
/// first, for one may be a part of another.
pub(crate) fn lines_of(secrets: &[String]) -> Vec<String> {
    let lines = secrets.iter().flat_map(|secret| secret.lines());
    let mut lines: Vec<String> = lines
        .map(|line| line.trim().to_owned())
        .filter(|line| line.len() >= SECRET_BYTES_MIN)
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
    lines
}

/// The text without its secrets.
fn masked(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_line_whose_end_comes_late_is_one_line() {
        // GIVEN half a line, and somebody who stops waiting for the rest
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut heard = lines(Some(reader));
        writer.write_all(b"the key is hun").await.expect("a pipe");
        let given_up = tokio::time::timeout(Duration::from_millis(50), next(&mut heard)).await;
        assert!(given_up.is_err());
        // WHEN the rest comes THEN it is one line
        writer.write_all(b"ter22\nlast").await.expect("a pipe");
        drop(writer);
        for line in [Some("the key is hunter22"), Some("last"), None] {
            let said = next(&mut heard).await.expect("a pipe");
            assert_eq!(said.as_deref(), line);
        }
    }

    #[test]
    fn a_program_is_allowed_by_its_path_or_by_its_folder_and_by_no_link_out_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (jobs, other) = (folder.path().join("jobs"), folder.path().join("other"));
        for path in [&jobs, &other] {
            std::fs::create_dir(path).expect("a folder");
            std::fs::write(path.join("run"), "").expect("a file");
        }
        std::os::unix::fs::symlink(other.join("run"), jobs.join("link")).expect("a link");
        let allowed = AllowedPrograms::new(std::slice::from_ref(&jobs)).expect("a folder");
        let find = |path: PathBuf| allowed.find(path.to_str().expect("text"));
        assert!(find(jobs.join("run")).is_some());
        for path in [
            other.join("run"),
            jobs.join("link"),
            jobs.join("../other/run"),
            jobs.join("none"),
            jobs.clone(),
        ] {
            assert_eq!(find(path.clone()), None, "{path:?}");
        }
        let one = AllowedPrograms::new(&[other.join("run")]).expect("a program");
        assert!(
            one.find(other.join("run").to_str().expect("text"))
                .is_some()
        );
        assert!(AllowedPrograms::new(&[folder.path().join("none")]).is_err());
    }

    #[test]
    fn a_secret_is_not_said() {
        let secrets = ["hunter", "a", "hunter22", "-----\nkeykey\n-----"].map(str::to_owned);
        let hidden = lines_of(&secrets);
        assert_eq!(masked("a hunter22! keykey", &hidden), "a ***! ***");
    }

    #[test]
    fn the_last_of_what_was_said_is_told() {
        let long = "ä".repeat(1_000) + "end";
        assert!(tail(&long).ends_with("end") && tail(&long).len() <= TOLD_BYTES_MAX);
        assert_eq!(tail("short"), "short");
    }
}
