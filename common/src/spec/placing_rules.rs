//! Rules of steps whose source places the rows by itself: by a hash, or in the order of a key.

use super::node::{Node, join};
use super::problem::Problems;
use super::write::WriteMode;
use crate::error_code::ErrorCode;

/// Reports what cannot be, of the step under `path`.
pub(super) fn check_placing(step: &Node, path: &str, problems: &mut Problems) {
    let node = |map: &str, key: &str| step.get(map)?.get(key);
    let path = |map: &str, key: &str| join(&join(path, map), key);
    let Some((by, at)) = node("partition", "by").and_then(|at| Some((at.as_text()?, at))) else {
        return;
    };
    if !matches!(by, "hash" | "keyset") {
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
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &path("strategy", key),
                    node.location,
                    message,
                )
                .hint("leave it out, or cut by a time or by a whole number");
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
            .hint("use `mode: merge` or `mode: append`, or `strategy: swap`");
    }
}
