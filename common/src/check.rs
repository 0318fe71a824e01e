//! What the checks of a step came to: what a table answered, whether that is enough, and the words
//! for both.

use serde::{Deserialize, Serialize};

use crate::spec::Check;

/// The longest text of what a check found, in bytes.
const FOUND_BYTES_MAX: usize = 160;

/// What a table answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// So many rows.
    Rows(u64),
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckAnswer {
    /// Whether the table answered as it must.
    pub passed: bool,
    /// What was found, in words; empty where a commit proves that the check passed, and its words
    /// were lost with the attempt that made it.
    pub found: String,
}

impl CheckAnswer {
    /// What a commit says that is only made once every check has passed.
    #[must_use]
    pub const fn proven() -> Self {
        Self {
            passed: true,
            found: String::new(),
        }
    }

    fn new(passed: bool, found: impl Into<String>) -> Self {
        let mut found = found.into();
        found.truncate(found.floor_char_boundary(FOUND_BYTES_MAX));
        Self { passed, found }
    }
}

impl Check {
    /// What the table's answer means.
    #[must_use]
    pub fn judge(&self, found: &Found) -> CheckAnswer {
        match (self, found) {
            (Self::MinRows(least), Found::Rows(rows)) => {
                CheckAnswer::new(rows >= least, counted(*rows))
            }
        }
    }

    /// What it expects, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::MinRows(least) => format!("at least {}", counted(*least)),
        }
    }
}

fn counted(rows: u64) -> String {
    match rows {
        1 => "1 row".to_owned(),
        _ => format!("{rows} rows"),
    }
}

/// Why the checks of a step fail it: each that failed with what it expected and what it found.
/// `None` when all of `table` passed.
#[must_use]
pub fn failure(checks: &[Check], answers: &[CheckAnswer], table: &str) -> Option<String> {
    let failed: Vec<String> = checks
        .iter()
        .zip(answers)
        .filter(|(_, answer)| !answer.passed)
        .map(|(check, answer)| {
            let (expected, found) = (check.expected(), &answer.found);
            format!("`{check}` expects {expected}, found {found}")
        })
        .collect();
    let (count, of) = (failed.len(), checks.len());
    let failed = failed.join("; ");
    (count > 0).then(|| format!("{count} of {of} checks of {table} failed: {failed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(rows: u64) -> CheckAnswer {
        Check::MinRows(30).judge(&Found::Rows(rows))
    }

    #[test]
    fn the_least_number_of_rows_is_enough_and_one_row_less_is_not() {
        for (rows, passed) in [(0, false), (29, false), (30, true), (31, true)] {
            let answer = answered(rows);
            assert_eq!(
                (answer.passed, answer.found),
                (passed, format!("{rows} rows"))
            );
        }
    }

    #[test]
    fn a_failure_names_each_check_that_failed_and_no_other() {
        // GIVEN a check that passed beside one that failed
        let checks = [Check::MinRows(1), Check::MinRows(30)];
        let answers = [Check::MinRows(1).judge(&Found::Rows(12)), answered(12)];
        // WHEN the step's error is asked for THEN it names the one, what it expected and what it
        // found
        assert_eq!(
            failure(&checks, &answers, "fx on wh").unwrap(),
            "1 of 2 checks of fx on wh failed: `min_rows: 30` expects at least 30 rows, found 12 \
             rows"
        );
        // AND where all passed there is none
        let answers = [CheckAnswer::proven(), answered(30)];
        assert_eq!(failure(&checks, &answers, ""), None);
    }
}
