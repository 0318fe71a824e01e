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
    /// So many rows, and so many the source.
    Counts {
        /// Of the table.
        rows: u64,
        /// Of the source.
        source: u64,
    },
    /// So many rows with NULL.
    Nulls(u64),
    /// So many values that several rows share.
    Shared(u64),
    /// What a query answered; `None` is NULL.
    Truth(Option<bool>),
    /// A query answered, and not with one row of one boolean: with what instead.
    Odd(&'static str),
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
            (Self::RowCount { tolerance }, Found::Counts { rows, source }) => {
                let found = format!("{} and {source} in the source", counted(*rows));
                CheckAnswer::new(rows.abs_diff(*source) <= *tolerance, found)
            }
            (Self::MinRows(least), Found::Rows(rows)) => {
                CheckAnswer::new(rows >= least, counted(*rows))
            }
            (Self::NotNull(_), Found::Nulls(0)) => CheckAnswer::new(true, "none"),
            (Self::NotNull(_), Found::Nulls(rows)) => {
                CheckAnswer::new(false, format!("{} with NULL", counted(*rows)))
            }
            (Self::Unique(_), Found::Shared(0)) => CheckAnswer::new(true, "none twice"),
            (Self::Unique(_), Found::Shared(1)) => {
                CheckAnswer::new(false, "1 value that several rows share")
            }
            (Self::Unique(_), Found::Shared(values)) => {
                CheckAnswer::new(false, format!("{values} values that several rows share"))
            }
            (Self::Sql(_), Found::Truth(Some(is_true))) => {
                CheckAnswer::new(*is_true, is_true.to_string())
            }
            (Self::Sql(_), Found::Truth(None)) => CheckAnswer::new(false, "NULL"),
            (Self::Sql(_), Found::Odd(what)) => CheckAnswer::new(false, *what),
            (
                Self::RowCount { .. }
                | Self::MinRows(_)
                | Self::NotNull(_)
                | Self::Unique(_)
                | Self::Sql(_),
                Found::Rows(_)
                | Found::Counts { .. }
                | Found::Nulls(_)
                | Found::Shared(_)
                | Found::Truth(_)
                | Found::Odd(_),
            ) => CheckAnswer::new(false, "an answer to another question"),
        }
    }

    /// What it expects, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::RowCount { tolerance: 0 } => "as many rows as the source has".to_owned(),
            Self::RowCount { tolerance } => {
                format!("as many rows as the source has, give or take {tolerance}")
            }
            Self::MinRows(least) => format!("at least {}", counted(*least)),
            Self::NotNull(columns) => format!("no NULL in {}", columns.join(", ")),
            Self::Unique(columns) => format!("no two rows with the same {}", columns.join(", ")),
            Self::Sql(_) => "one row of one boolean, true".to_owned(),
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
    fn each_check_passes_on_its_own_answer_only() {
        let count = |tolerance| Check::RowCount { tolerance };
        let counts = |rows, source| Found::Counts { rows, source };
        let columns = || vec!["a".to_owned(), "b".to_owned()];
        let (not_null, unique) = (Check::NotNull(columns()), Check::Unique(columns()));
        let sql = Check::Sql("select true from {table}".to_owned());
        for (check, found, passed, words) in [
            (count(0), counts(7, 7), true, "7 rows and 7 in the source"),
            (count(0), counts(1, 2), false, "1 row and 2 in the source"),
            (count(2), counts(5, 7), true, "5 rows and 7 in the source"),
            (count(2), counts(9, 7), true, "9 rows and 7 in the source"),
            (
                count(2),
                counts(10, 7),
                false,
                "10 rows and 7 in the source",
            ),
            (not_null.clone(), Found::Nulls(0), true, "none"),
            (not_null, Found::Nulls(2), false, "2 rows with NULL"),
            (unique.clone(), Found::Shared(0), true, "none twice"),
            (
                unique,
                Found::Shared(1),
                false,
                "1 value that several rows share",
            ),
            (sql.clone(), Found::Truth(Some(true)), true, "true"),
            (sql.clone(), Found::Truth(Some(false)), false, "false"),
            (sql.clone(), Found::Truth(None), false, "NULL"),
            (
                sql.clone(),
                Found::Odd("2 rows or more"),
                false,
                "2 rows or more",
            ),
            (sql, Found::Rows(1), false, "an answer to another question"),
        ] {
            let answer = check.judge(&found);
            assert_eq!(
                (answer.passed, answer.found.as_str()),
                (passed, words),
                "{check}"
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
