//! What a person is told when a command does not do what was asked: what, where, why, and the next
//! command.

use std::error::Error;
use std::path::Path;

use tonic::{Code, Status};

use crate::exit::{self, ExitCode};
use crate::problems::FileProblems;
use crate::render::Look;

/// Why a command ended without doing what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct CliError {
    exit: ExitCode,
    what: String,
    place: Option<String>,
    why: Option<String>,
    next: Option<String>,
    problems: Option<Box<FileProblems>>,
}

impl CliError {
    /// An error that says `what`, as a sentence without a full stop.
    pub fn new(exit: ExitCode, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            place: None,
            why: None,
            next: None,
            problems: None,
        }
    }

    /// What is wrong with a pipeline file.
    #[must_use]
    pub fn problems(problems: FileProblems) -> Self {
        let what = problems.count_text();
        Self {
            problems: Some(Box::new(problems)),
            ..Self::new(ExitCode::Usage, what)
        }
    }

    /// A call that was refused or failed while doing `what`.
    #[must_use]
    pub fn from_status(what: impl Into<String>, status: &Status) -> Self {
        let mut why = status.message().to_owned();
        if why.is_empty() {
            status.code().description().clone_into(&mut why);
        }
        if let Some(deepest) = deepest_source(status).filter(|deepest| !why.contains(deepest)) {
            why = format!("{why}: {deepest}");
        }
        let exit = if is_broken_line(status) {
            ExitCode::Unreachable
        } else {
            exit::of_code(status.code())
        };
        Self::new(exit, what).why(why)
    }

    /// A file or a folder that could not be used.
    #[must_use]
    pub fn from_io(
        exit: ExitCode,
        what: impl Into<String>,
        path: &Path,
        error: &std::io::Error,
    ) -> Self {
        Self::new(exit, what)
            .at(path.display().to_string())
            .why(error.to_string())
    }

    /// Adds where it happened.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds the command, or the act, that leads on.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds the next command unless there is one already.
    #[must_use]
    pub fn or_next(self, next: impl FnOnce() -> String) -> Self {
        if self.next.is_some() {
            self
        } else {
            self.next(next())
        }
    }

    /// What the process ends with.
    #[must_use]
    pub const fn exit(&self) -> ExitCode {
        self.exit
    }

    /// The text for stderr, ending with a line feed.
    #[must_use]
    pub fn render(&self, look: &Look) -> String {
        let mut text = self
            .problems
            .as_ref()
            .map(|problems| problems.render(look))
            .unwrap_or_default();
        text.push_str(&format!("{} {}\n", look.bad("error:"), self.what));
        for (name, value) in [
            ("where", &self.place),
            ("why", &self.why),
            ("next", &self.next),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("  {} {value}\n", look.dim(&format!("{name}:"))));
            }
        }
        text
    }
}

/// True when the line broke under a call: transports have several words for it, and only what was
/// made on this side has a cause. What the coordinator answered comes without one.
fn is_broken_line(status: &Status) -> bool {
    let words = [
        Code::Unknown,
        Code::Internal,
        Code::Cancelled,
        Code::DataLoss,
    ];
    status.source().is_some() && words.contains(&status.code())
}

/// The innermost cause: of a broken connection it is the one that says something ("Connection
/// refused").
fn deepest_source(error: &dyn Error) -> Option<String> {
    let mut source = error.source()?;
    while let Some(deeper) = source.source() {
        source = deeper;
    }
    Some(source.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_why_and_what_to_do_next() {
        let error = CliError::from_status(
            "cannot start the run",
            &Status::failed_precondition("run r-71c is active"),
        )
        .at("cluster http://127.0.0.1:7070")
        .next("highwater cancel r-71c --reason … -y");
        assert_eq!(error.exit(), ExitCode::Refused);
        insta::assert_snapshot!(error.render(&Look::plain()), @r"
        error: cannot start the run
          where: cluster http://127.0.0.1:7070
          why: run r-71c is active
          next: highwater cancel r-71c --reason … -y
        ");
    }

    #[test]
    fn a_coordinator_that_dies_under_a_call_is_unreachable_and_one_that_answers_is_not() {
        let broken = std::io::Error::new(
            std::io::ErrorKind::BrokenPipe,
            "stream closed because of a broken pipe",
        );
        let died = CliError::from_status(
            "cannot start the run",
            &Status::from_error(Box::new(broken)),
        );
        assert_eq!(died.exit(), ExitCode::Unreachable);
        let answered = CliError::from_status("cannot start the run", &Status::unknown("a bug"));
        assert_eq!(answered.exit(), ExitCode::Unexpected);
    }

    #[test]
    fn an_error_without_more_to_say_is_one_line() {
        let error = CliError::new(ExitCode::Unexpected, "cannot read the answer");
        assert_eq!(
            error.render(&Look::plain()),
            "error: cannot read the answer\n"
        );
    }
}
