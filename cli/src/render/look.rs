//! How a stream may be written: colours, box characters, and how the next command begins.

use highwater_common::status::{RunStatus, StepStatus};

/// What a stream takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Somebody looks at it: carets and pictures help.
    pub is_terminal: bool,
    /// Escape codes for colours may be used. A colour never says what no word says.
    pub has_color: bool,
    /// Nothing beyond ASCII is drawn.
    pub is_ascii: bool,
    /// How a command that leads on begins: `highwater`, with the flags that lead to the same place.
    pub program: String,
}

impl Look {
    /// Plain lines, as through a pipe.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            is_terminal: false,
            has_color: false,
            is_ascii: false,
            program: "highwater".to_owned(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.has_color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn bad(&self, text: &str) -> String {
        self.paint("31;1", text)
    }

    /// What needs a look.
    #[must_use]
    pub fn warn(&self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What is well.
    #[must_use]
    pub fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What stands out.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What steps back.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// The word for a run's status.
    #[must_use]
    pub fn run_status(&self, status: RunStatus) -> String {
        let word = status.as_str();
        match status {
            RunStatus::Success => self.good(word),
            RunStatus::Failed => self.bad(word),
            RunStatus::Cancelling | RunStatus::Cancelled => self.warn(word),
            RunStatus::Planning | RunStatus::Planned | RunStatus::Running => self.bold(word),
        }
    }

    /// The word for a step's status.
    #[must_use]
    pub fn step_status(&self, status: StepStatus) -> String {
        let word = status.as_str();
        match status {
            StepStatus::Success => self.good(word),
            StepStatus::Failed => self.bad(word),
            StepStatus::Skipped | StepStatus::Cancelled => self.warn(word),
            StepStatus::Pending | StepStatus::Running => word.to_owned(),
        }
    }

    /// A bar of `cells` characters, `part` of `whole` filled. It is full only when nothing is
    /// missing.
    #[must_use]
    pub fn bar(&self, part: u64, whole: u64, cells: u64) -> String {
        let (full, empty) = if self.is_ascii {
            ("#", "-")
        } else {
            ("█", "░")
        };
        let filled = if whole == 0 {
            0
        } else {
            u64::try_from(u128::from(part.min(whole)) * u128::from(cells) / u128::from(whole))
                .unwrap_or(cells)
        };
        let repeat = |text: &str, times: u64| text.repeat(usize::try_from(times).unwrap_or(0));
        format!("{}{}", repeat(full, filled), repeat(empty, cells - filled))
    }
}

/// Text of others on one line and without control characters, so that an error message of a
/// database can neither break the layout nor steer the terminal.
#[must_use]
pub(crate) fn tame(text: &str) -> String {
    let spaced: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}
