//! The checks of a step, as they are written: what its table must answer before its rows are trusted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fields::whole;
use super::node::{Node, Value};
use super::problem::Problems;
use super::shape::{Fields, Key, List, Shape};
use super::suggest::listed;
use crate::error_code::ErrorCode;

/// The most checks that a step may have: what each found is kept in the step's record.
const CHECKS_MAX: usize = 16;
const ROWS_MAX: u64 = 1_000_000_000_000;

/// What a table must answer. Its JSON is what the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// It has at least so many rows.
    MinRows(u64),
}

/// The checks of a step.
pub(super) static CHECKS: List = List {
    items_min: 0,
    items_max: CHECKS_MAX,
    each: Shape::Fields(&CHECK),
    word: None,
};

/// One of the keys stands in each check.
static CHECK: Fields = Fields {
    what: "a check",
    tag: None,
    shorthand: None,
    is_merged: false,
    keys: &[Key::new(
        "min_rows",
        Shape::Whole(1, ROWS_MAX),
        "The table has at least so many rows.",
    )],
};

/// As it is written, in one line.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinRows(rows) => write!(f, "min_rows: {rows}"),
        }
    }
}

/// The check that an item of the list writes.
pub(super) fn check(item: &Node) -> Option<Check> {
    match item.entries() {
        [entry] => match entry.key.as_str() {
            "min_rows" => whole(&entry.node).map(Check::MinRows),
            _ => None,
        },
        _ => None,
    }
}

/// Reports the items of a list that are not one check each.
pub(super) fn check_items(checks: &Node, path: &str, problems: &mut Problems) {
    for (at, item) in checks.items().iter().enumerate() {
        let path = format!("{path}[{at}]");
        let Value::Map(entries) = &item.value else {
            continue;
        };
        match entries.as_slice() {
            [] => {
                let message = "a check that asks nothing";
                problems
                    .add(ErrorCode::SpecMissingKey, &path, item.location, message)
                    .hint(format!(
                        "legal here: {}",
                        listed(CHECK.keys.iter().map(|key| key.name))
                    ));
            }
            [_] => {}
            [_, second, ..] => {
                let message = "a check asks one thing";
                problems
                    .add(ErrorCode::SpecConflict, &path, second.location, message)
                    .hint(format!(
                        "make `{}` an item of the list of its own",
                        second.key
                    ));
            }
        }
    }
}
