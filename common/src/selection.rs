//! Which steps and tasks of a run a person means: `orders`, `'raw_*'`, `orders+`,
//! `orders[2024-01..2024-03]`.
//!
//! A selection is text, an optional plus on each side, and an optional stretch in brackets. `*` in
//! the text stands for any characters; a plus in front adds the steps that the named ones wait for,
//! one behind adds those that wait for them. A stretch takes the partitions that overlap it, and
//! both of its ends are meant whole: `[2024-01..2024-03]` ends with March.

mod steps;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

pub use self::steps::only;
use crate::cursor::{Cursor, CursorKind};
use crate::dag::Dag;
use crate::id::StepName;
use crate::partition::{BoundError, read_bound};
use crate::range::{CursorRange, Slice};
use crate::spec::Bound;

/// What a person means, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    text: String,
    pattern: String,
    with_upstream: bool,
    with_downstream: bool,
    stretch: Option<Stretch>,
}

/// Which partitions are meant, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stretch {
    /// The rows without a position.
    Null,
    /// From one position to another one, open where there is none.
    Between(Option<String>, Option<String>),
}

/// Which partitions are meant, once it is known what their positions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picked {
    /// All, and the tasks that have none.
    All,
    /// That of the rows without a position.
    Null,
    /// Those that overlap the range.
    Range(CursorRange),
}

/// Why a text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The text has not the form.
    #[error(
        "`{text}` is no selection: {why}. Legal are a step's name, a pattern such as 'raw_*', `+orders` \
         with what it waits for, `orders+` with what waits for it, and orders[2024-01..2024-03] for \
         some of its partitions"
    )]
    Form {
        /// The text.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No step has such a name.
    #[error("`{text}` selects no step; this run has {known}")]
    NoStep {
        /// The text.
        text: String,
        /// The steps that there are.
        known: String,
    },
    /// A position cannot be read.
    #[error("`{text}` cannot be read for step `{step}`: {why}")]
    Position {
        /// The selection.
        text: String,
        /// The step whose partitions are meant.
        step: StepName,
        /// What is wrong.
        why: BoundError,
    },
    /// Some of a step cannot be meant.
    #[error(
        "`{0}` names partitions, and a run takes whole steps: leave out the brackets, or retry a run by \
         them"
    )]
    WholeSteps(String),
    /// All of it is too long.
    #[error("the selection is longer than {most} bytes: say it by a pattern")]
    TooLong {
        /// What is legal.
        most: usize,
    },
    /// A step runs beside one that is not meant.
    #[error(
        "`{step}` runs for the periods of `{followed}`, while that one loads them: select `+{step}`"
    )]
    Followed {
        /// The step.
        step: StepName,
        /// What it follows.
        followed: StepName,
    },
    /// The end lies before the start.
    #[error("`{0}` ends before it begins")]
    Backwards(String),
    /// The steps have no partitions.
    #[error("`{text}` names partitions, and step `{step}` has none: leave out the brackets")]
    NoPartitions {
        /// The selection.
        text: String,
        /// The step.
        step: StepName,
    },
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let wrong = |why| SelectionError::Form {
            text: text.to_owned(),
            why,
        };
        let rest = text.trim();
        let (with_upstream, rest) = match rest.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (with_downstream, rest) = match rest.strip_suffix('+') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (pattern, stretch) = match rest.split_once('[') {
            None => (rest, None),
            Some((pattern, stretch)) => {
                let stretch = stretch
                    .strip_suffix(']')
                    .ok_or_else(|| wrong("a bracket is not closed"))?;
                (pattern, Some(Stretch::read(stretch).map_err(wrong)?))
            }
        };
        if pattern.is_empty() {
            return Err(wrong("it names no step"));
        }
        let is_legal = |character: char| {
            character.is_ascii_lowercase()
                || character.is_ascii_digit()
                || matches!(character, '_' | '*')
        };
        if !pattern.chars().all(is_legal) {
            return Err(wrong(
                "steps have names of small letters, digits and underscores",
            ));
        }
        if stretch.is_some() && (with_upstream || with_downstream) {
            return Err(wrong("partitions are of one step, and a plus adds others"));
        }
        Ok(Self {
            text: text.to_owned(),
            pattern: pattern.to_owned(),
            with_upstream,
            with_downstream,
            stretch,
        })
    }
}

impl Stretch {
    fn read(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("null") {
            return Ok(Self::Null);
        }
        let side = |text: &str| {
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        match text.split_once("..") {
            None => match side(text) {
                None => Err("the brackets are empty"),
                Some(at) => Ok(Self::Between(Some(at.clone()), Some(at))),
            },
            Some((from, to)) => match (side(from), side(to)) {
                (None, None) => Err("`..` alone means all: leave out the brackets"),
                (from, to) => Ok(Self::Between(from, to)),
            },
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Selection {
    /// Whether some of a step's partitions are meant, and not all that it does.
    #[must_use]
    pub const fn is_of_partitions(&self) -> bool {
        self.stretch.is_some()
    }

    /// The steps that are meant.
    ///
    /// # Errors
    /// There is none.
    pub fn steps(&self, dag: &Dag) -> Result<BTreeSet<StepName>, SelectionError> {
        let named = dag
            .order()
            .iter()
            .filter(|name| fits(&self.pattern, name.as_str()));
        let named: BTreeSet<StepName> = named.cloned().collect();
        if named.is_empty() {
            return Err(self.no_step(dag.order()));
        }
        let mut meant = named.clone();
        if self.with_upstream {
            meant.extend(reached(&named, |name| {
                let edges = dag.dependencies(name).iter();
                edges.map(|edge| edge.step.clone()).collect()
            }));
        }
        if self.with_downstream {
            meant.extend(reached(&named, |name| {
                dag.dependants(name).cloned().collect()
            }));
        }
        Ok(meant)
    }

    /// The names that are meant, where only whole steps can be, each by itself.
    ///
    /// # Errors
    /// There is none, or the selection is of partitions, or adds what is before or behind.
    pub fn names(&self, all: &[StepName]) -> Result<Vec<StepName>, SelectionError> {
        if self.is_of_partitions() || self.with_upstream || self.with_downstream {
            return Err(SelectionError::Form {
                text: self.text.clone(),
                why: "here only steps are meant, by name or pattern",
            });
        }
        let named = all.iter().filter(|name| fits(&self.pattern, name.as_str()));
        let named: Vec<StepName> = named.cloned().collect();
        match named.is_empty() {
            true => Err(self.no_step(all)),
            false => Ok(named),
        }
    }

    fn no_step(&self, all: &[StepName]) -> SelectionError {
        let known: Vec<&str> = all.iter().map(StepName::as_str).collect();
        SelectionError::NoStep {
            text: self.text.clone(),
            known: known.join(", "),
        }
    }

    /// The partitions that are meant of a step whose positions are of `kind`, on the clock of `tz`.
    /// `kind` is `None` for a step without partitions.
    ///
    /// # Errors
    /// The step has none, or the text is no position of theirs.
    pub fn picked(
        &self,
        step: &StepName,
        kind: Option<CursorKind>,
        tz: &str,
    ) -> Result<Picked, SelectionError> {
        let (from, to) = match (&self.stretch, kind) {
            (None, _) => return Ok(Picked::All),
            (Some(_), None) => {
                return Err(SelectionError::NoPartitions {
                    text: self.text.clone(),
                    step: step.clone(),
                });
            }
            (Some(Stretch::Null), Some(_)) => return Ok(Picked::Null),
            (Some(Stretch::Between(from, to)), Some(_)) => (from, to),
        };
        let Some(kind) = kind else {
            return Ok(Picked::All);
        };
        let whole = |text: &String| {
            whole(text, kind, tz).map_err(|why| SelectionError::Position {
                text: self.text.clone(),
                step: step.clone(),
                why,
            })
        };
        let from = from.as_ref().map(whole).transpose()?;
        let to = to.as_ref().map(whole).transpose()?;
        let start = from.map(|(start, _)| start);
        let end = to.and_then(|(_, end)| end);
        CursorRange::new(start, end)
            .map(Picked::Range)
            .map_err(|_| SelectionError::Backwards(self.text.clone()))
    }
}

impl Picked {
    /// Whether a task of this slice is meant; of no slice, when it has none.
    #[must_use]
    pub fn takes(&self, slice: Option<&Slice>) -> bool {
        match (self, slice) {
            (Self::All, _) | (Self::Null, Some(Slice::Null)) => true,
            (Self::Range(range), Some(Slice::Range(other))) => overlap(range, other),
            (Self::Null, Some(Slice::Range(_)) | None)
            | (Self::Range(_), Some(Slice::Null) | None) => false,
        }
    }
}

fn overlap(one: &CursorRange, other: &CursorRange) -> bool {
    let before = |end: Option<Cursor>, start: Option<Cursor>| match (end, start) {
        (Some(end), Some(start)) => end <= start,
        (_, _) => false,
    };
    !before(one.end(), other.start()) && !before(other.end(), one.start())
}

/// Everything that can be reached from `from`.
fn reached(
    from: &BTreeSet<StepName>,
    next: impl Fn(&StepName) -> Vec<StepName>,
) -> BTreeSet<StepName> {
    let mut seen = BTreeSet::new();
    let mut ahead: Vec<StepName> = from.iter().flat_map(&next).collect();
    while let Some(name) = ahead.pop() {
        if seen.insert(name.clone()) {
            ahead.extend(next(&name));
        }
    }
    seen
}

/// Whether a name fits a pattern in which `*` stands for any characters.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    true
}

/// What a text means, whole: where it begins, and where the next one would; a month begins with its
/// first day. Without an end where positions have none behind it.
fn whole(text: &str, kind: CursorKind, tz: &str) -> Result<(Cursor, Option<Cursor>), BoundError> {
    let read = |text: String| read_bound(&Bound(text), kind, tz);
    if kind != CursorKind::Integer
        && let Some((start, end)) = period(text)
    {
        return Ok((read(start)?, end.map(read).transpose()?));
    }
    let at = read(text.to_owned())?;
    Ok((at, at.successor()))
}

/// The first moments of a year, month, day, hour or minute, and of the next one.
fn period(text: &str) -> Option<(String, Option<String>)> {
    let day = |day: Date| day.to_string();
    let moment = |at: DateTime| at.to_string();
    let between =
        |start: Date, end: Result<Date, jiff::Error>| Some((day(start), end.ok().map(day)));
    if text.len() == 4 {
        let start: Date = format!("{text}-01-01").parse().ok()?;
        return between(start, start.checked_add(1.year()));
    }
    if text.len() == 7 {
        let start: Date = format!("{text}-01").parse().ok()?;
        return between(start, start.checked_add(1.month()));
    }
    if text.len() == 10 {
        let start: Date = text.parse().ok()?;
        return between(start, start.checked_add(1.day()));
    }
    let between = |start: DateTime, end: Result<DateTime, jiff::Error>| {
        Some((moment(start), end.ok().map(moment)))
    };
    if text.len() == 13 {
        let start: DateTime = format!("{text}:00:00").parse().ok()?;
        return between(start, start.checked_add(1.hour()));
    }
    if text.len() == 16 {
        let start: DateTime = format!("{text}:00").parse().ok()?;
        return between(start, start.checked_add(1.minute()));
    }
    None
}

#[cfg(test)]
mod tests;
