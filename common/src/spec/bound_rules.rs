//! Rules of where a backfill begins and ends.

use super::node::{Node, join};
use super::problem::Problems;
use super::strategies::bound;
use super::value::{self, BoundForm};
use crate::error_code::ErrorCode;

/// Reports bounds that are none, or contradict each other, of the step under `path`.
pub(super) fn check_bounds(step: &Node, path: &str, problems: &mut Problems) {
    let node = |map: &str, key: &str| step.get(map)?.get(key);
    let at = |key: &str| join(&join(path, "strategy"), key);
    let by = node("partition", "by").and_then(Node::as_text);
    let read = |key| {
        let node = node("strategy", key)?;
        Some((key, node, bound(node)?.form()?))
    };
    if let Some(node) = node("strategy", "start")
        && node.as_text() == Some(value::NOW)
    {
        problems
            .add(
                ErrorCode::SpecBadValue,
                &at("start"),
                node.location,
                "nothing lies behind `now` yet, so no range begins there",
            )
            .hint("leave `start` out to begin at the first row");
    }
    let (start, end) = (read("start"), read("end"));
    for (key, node, form) in start.iter().chain(&end) {
        let is_whole = matches!(form, BoundForm::Whole(_));
        let (expected, by) = match by {
            Some("calendar") if is_whole => ("a date or a time", "calendar"),
            Some("integer") if !is_whole => ("a whole number", "integer"),
            Some(_) | None => continue,
        };
        let message = format!("a step that is cut `by: {by}` begins and ends at {expected}");
        problems.add(ErrorCode::SpecConflict, &at(key), node.location, message);
    }
    if let (Some((_, _, start)), Some((key, node, end))) = (start, end)
        && start.is_before(end) == Some(false)
    {
        let message = "the end is not behind the start; the range is [start, end)";
        problems.add(ErrorCode::SpecEmptyRange, &at(key), node.location, message);
    }
}
