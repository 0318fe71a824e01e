//! Rules of steps that load what is new: what cannot be read again, or removed, is refused where it is
//! written.

use super::fields::{duration, word};
use super::log_step::Deletes;
use super::node::{Node, join};
use super::problem::Problems;
use super::write::WriteMode;
use crate::error_code::ErrorCode;

/// Reports what contradicts itself within one step: rows that come again, or go, have to find the
/// ones that are there.
pub(super) fn check_increments(step: &Node, path: &str, problems: &mut Problems) {
    let node = |map: &str, key: &str| step.get(map)?.get(key);
    let at = |map: &str, key: &str| join(&join(path, map), key);
    let mode = node("write", "mode");
    let is = |of: WriteMode| mode.and_then(word) == Some(of);
    if let Some(node) = mode.filter(|_| is(WriteMode::ReplacePartition)) {
        problems
            .add(
                ErrorCode::SpecConflict,
                &at("write", "mode"),
                node.location,
                "a row that is updated leaves the range of the cursor that it was loaded by, \
                 so no range can be replaced",
            )
            .hint("use `mode: merge`, or `mode: append` where rows are never updated");
    }
    let lookback = node("strategy", "lookback")
        .filter(|node| duration(node).is_some_and(|time| !time.is_zero()));
    let reload = node("strategy", "nulls").filter(|node| node.as_text() == Some("reload"));
    let deletes = node("write", "deletes");
    let removes = deletes
        .and_then(word)
        .is_some_and(|of: Deletes| of != Deletes::Ignore);
    if let Some(node) = deletes.filter(|_| removes && is(WriteMode::Append)) {
        problems
            .add(
                ErrorCode::SpecConflict,
                &at("write", "deletes"),
                node.location,
                "rows that are appended have no key by which one that is gone could be told",
            )
            .hint("use `mode: merge`, or leave it out");
    }
    for key in ["allow_empty", "allow_shrink"] {
        if let Some(node) = node("strategy", key).filter(|_| !removes) {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &at("strategy", key),
                    node.location,
                    "no row of the target goes",
                )
                .hint("leave it out, or use `write.deletes`");
        }
    }
    for (key, node) in [("lookback", lookback), ("nulls", reload)] {
        if let Some(node) = node.filter(|_| is(WriteMode::Append)) {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &at("strategy", key),
                    node.location,
                    "what is read again would be appended a second time",
                )
                .hint("use `write.mode: merge`, or leave it out");
        }
    }
}
