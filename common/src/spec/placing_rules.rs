//! Rules of steps whose source places the rows by itself: by a hash, or in the order of a key.

use super::node::{Node, join};
use super::problem::Problems;
use super::shape::tag_of;
use super::step_keys::STEP;
use super::write::WriteMode;
use crate::error_code::ErrorCode;

/// Reports what cannot be, of the step under `path`.
pub(super) fn check_placing(step: &Node, path: &str, problems: &mut Problems) {
    let node = |map: &str, key: &str| step.get(map)?.get(key);
    let path = |map: &str, key: &str| join(&join(path, map), key);
    let (by, at) = match step.get("partition") {
        None if tag_of(&STEP, step) == Some("backfill") => ("auto", step),
        None => return,
        Some(partition) => match partition.get("by").and_then(|at| Some((at.as_text()?, at))) {
            Some(said) => said,
            None => return,
        },
    };
    if !matches!(by, "hash" | "keyset" | "auto") {
        return;
    }
    if by == "hash" && node("partition", "columns").is_none() {
        problems
            .add(
                ErrorCode::SpecMissingKey,
                &path("partition", "columns"),
                at.location,
                "`by: hash` needs `columns`",
            )
            .hint("name the columns whose hash cuts the table");
    }
    for key in ["start", "end"] {
        if let Some(node) = node("strategy", key) {
            let message = format!("a step that is cut `by: {by}` loads the whole table");
            let hint = match by {
                "auto" => {
                    "leave it out, or say what the table is cut by: partition: {by: calendar, …} or {by: integer, …}"
                }
                _ => "leave it out, or cut by a time or by a whole number",
            };
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &path("strategy", key),
                    node.location,
                    message,
                )
                .hint(hint);
        }
    }
    if let Some(node) = node("write", "mode")
        && super::fields::word(node) == Some(WriteMode::ReplacePartition)
    {
        problems
            .add(
                ErrorCode::SpecConflict,
                &path("write", "mode"),
                node.location,
                "only the source can tell which rows such a part holds, so none can be replaced in \
                 the target",
            )
            .hint(
                "use `mode: merge` or `mode: append`, or `strategy: swap`, or cut by a time or by a whole \
                 number",
            );
    }
}
