//! What is wrong with a pipeline file, and where. Rendering with a caret is left to whoever shows
//! it.

use std::collections::HashSet;
use std::fmt;

use crate::error_code::ErrorCode;

use serde::Serialize;

use super::secret::{masked_message, masked_ranges};

/// A place in the text of a pipeline file, as [`Problem`] describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Location {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) offset: usize,
    pub(super) length: usize,
    /// The setting that it is in, from 0; none of the file.
    pub(super) set: Option<usize>,
}

impl Location {
    /// The beginning of the text: where a problem is shown that no part of the file caused.
    pub(super) const START: Self = Self {
        line: 1,
        column: 1,
        offset: 0,
        length: 0,
        set: None,
    };
}

/// One problem of a pipeline file. No problem ever repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which kind it is.
    pub code: ErrorCode,
    /// The path of the key or value: `steps.orders.retries.max_attempts`; empty for the file as a
    /// whole.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
    /// The column of the first marked character, in characters from 1.
    pub column: u32,
    /// The byte at which the marked text begins, from 0.
    pub offset: usize,
    /// Bytes of the marked text; 0 marks a point.
    pub length: usize,
    /// Which of the settings of [`Overlay`](super::Overlay) the place is in, from 0; none of the
    /// file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<usize>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Where the file says it.
    pub(super) const fn location(&self) -> Location {
        Location {
            line: self.line,
            column: self.column,
            offset: self.offset,
            length: self.length,
            set: self.set,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Collects every problem of one reading.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem and returns it for a hint.
    #[expect(clippy::indexing_slicing, reason = "it was put there just now")]
    pub(super) fn add(
        &mut self,
        code: ErrorCode,
        path: &str,
        location: Location,
        message: impl Into<String>,
    ) -> &mut Problem {
        let at = self.0.len();
        // Whatever a problem quotes of the file passes here, so a password in an unexpected place
        // is masked here too.
        let (path, message) = (masked_message(path), masked_message(&message.into()));
        let Location {
            line,
            column,
            offset,
            length,
            set,
        } = location;
        self.0.push(Problem {
            code,
            path,
            line,
            column,
            offset,
            length,
            set,
            message,
            hint: None,
        });
        &mut self.0[at]
    }

    /// Gives the last problem a hint.
    pub(super) fn last_hint(&mut self, hint: &str) {
        if let Some(problem) = self.0.last_mut() {
            problem.hint(hint);
        }
    }

    /// Those of several readings together.
    pub(super) fn from(problems: impl IntoIterator<Item = Problem>) -> Self {
        Self(problems.into_iter().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in the order of the file. A value that `defaults` lays under many steps is
    /// reported once, and what stands under a key that is itself refused is not reported at all.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        let is_refusal = |code| {
            matches!(
                code,
                ErrorCode::SpecUnknownKey | ErrorCode::SpecNotSupportedYet
            )
        };
        let refused: HashSet<String> = self
            .0
            .iter()
            .filter(|problem| is_refusal(problem.code))
            .map(|problem| problem.path.clone())
            .collect();
        let is_under = |path: &str| {
            let ends = path
                .match_indices(['.', '['])
                .map(|(at, _)| at)
                .chain([path.len()]);
            ends.into_iter()
                .any(|end| path.get(..end).is_some_and(|above| refused.contains(above)))
        };
        self.0
            .retain(|problem| is_refusal(problem.code) || !is_under(&problem.path));
        let mut seen = HashSet::new();
        self.0.retain(|problem| {
            seen.insert((problem.code, problem.location(), problem.message.clone()))
        });
        self.0.sort_by_key(|problem| (problem.set, problem.offset));
        self.0
    }
}

impl Problem {
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(masked_message(&hint.into()));
    }
}

/// The text of a pipeline file as it may be shown beside `problems`: of the same length, with what
/// looks like a password masked, so that every place still holds.
#[must_use]
pub fn masked(text: &str, problems: &[Problem]) -> String {
    masked_in(text, None, problems)
}

/// The text of a setting of [`Overlay`](super::Overlay) as it may be shown beside `problems`.
#[must_use]
pub fn masked_set(text: &str, set: usize, problems: &[Problem]) -> String {
    masked_in(text, Some(set), problems)
}

fn masked_in(text: &str, set: Option<usize>, problems: &[Problem]) -> String {
    let marked = problems
        .iter()
        .filter(|problem| problem.code == ErrorCode::SpecLiteralPassword && problem.set == set);
    let hidden = marked.map(|problem| {
        (
            problem.offset,
            problem.offset.saturating_add(problem.length),
        )
    });
    masked_ranges(text, hidden.collect())
}
