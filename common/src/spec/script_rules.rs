//! Rules of what a step's statements stand in.

use super::node::{Node, Value, join};
use super::problem::Problems;
use crate::error_code::ErrorCode;

/// Statements stand in the pipeline file, or in one of their own.
pub(super) fn check_statements(step: &Node, path: &str, problems: &mut Problems) {
    let Some(sql) = step.get("sql") else {
        return; // that it is missing was told
    };
    let path = join(path, "sql");
    let text = sql.entries().iter().find(|entry| entry.key == "text");
    match (sql.get("file"), text) {
        (Some(file), Some(text)) if !text.is_laid => {
            let message = "the statements stand here and in a file";
            problems
                .add(ErrorCode::SpecConflict, &path, file.location, message)
                .hint("leave out `text` or `file`");
        }
        (None, None) if matches!(sql.value, Value::Map(_)) => {
            let message = "neither statements nor the file that has them";
            problems
                .add(ErrorCode::SpecMissingKey, &path, sql.location, message)
                .hint("write the statements themselves, or {file: kpis.sql}");
        }
        (Some(_), _) | (None, _) => {}
    }
}
