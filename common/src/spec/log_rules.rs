//! Rules of steps that follow a log: what a log cannot tell is refused where it is written.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::fields::word;
use super::log_step::Deletes;
use super::node::{Entry, Node, join};
use super::problem::Problems;
use super::sides::SourceRows;
use super::write::WriteMode;
use crate::error_code::ErrorCode;
use crate::facts::Engine;

/// Reports what contradicts itself within one step.
pub(super) fn check_log(step: &Node, path: &str, problems: &mut Problems) {
    let mode = step.get("write").and_then(|write| write.get("mode"));
    let at = join(&join(path, "write"), "mode");
    if let Some(node) = mode {
        match word(node) {
            Some(WriteMode::ReplacePartition) => {
                let message = "a log tells of single rows, which are found by their key";
                problems
                    .add(ErrorCode::SpecConflict, &at, node.location, message)
                    .hint("use `mode: merge`");
            }
            Some(WriteMode::Append) => {
                let message = "`append` with `cdc` is not supported yet";
                problems
                    .add(ErrorCode::SpecNotSupportedYet, &at, node.location, message)
                    .hint("`mode: merge` keeps the target like the source");
            }
            Some(
                WriteMode::Merge
                | WriteMode::ReplaceTable
                | WriteMode::Exchange
                | WriteMode::Statements,
            )
            | None => {}
        }
    }
    check_mark(step, path, problems);
    let Some(from) = step.get("from") else {
        return;
    };
    let from_path = join(path, "from");
    if let Some(node) = from.get("rows")
        && word(node) == Some(SourceRows::Visible)
    {
        let message = "a log tells of every row, whoever reads it";
        problems
            .add(
                ErrorCode::SpecConflict,
                &join(&from_path, "rows"),
                node.location,
                message,
            )
            .hint("leave `rows` out");
    }
    let columns = from.get("columns").map_or(&[][..], Node::entries);
    for Entry { key, node, .. } in columns {
        if let Some(cast) = node.get("cast") {
            let at = join(&join(&join(&from_path, "columns"), key), "cast");
            let message = "a log has the values as they are, and nobody casts them";
            problems
                .add(ErrorCode::SpecConflict, &at, cast.location, message)
                .hint("leave `cast` out; a column of text in the target takes any type");
        }
    }
}

/// The mark of a deleted row is a column of rows that stay.
pub(super) fn check_mark(step: &Node, path: &str, problems: &mut Problems) {
    let Some(write) = step.get("write") else {
        return;
    };
    let is_soft = write.get("deletes").and_then(word) == Some(Deletes::Soft);
    let mut own = write.entries().iter().filter(|entry| !entry.is_laid);
    let named = own.find(|entry| entry.key == "deleted_at");
    if let Some(entry) = named.filter(|_| !is_soft) {
        let message = "no row that is deleted stays with a mark";
        let at = join(&join(path, "write"), "deleted_at");
        problems
            .add(ErrorCode::SpecConflict, &at, entry.location, message)
            .hint("leave it out, or use `deletes: soft`");
    }
}

/// Reports slots that two steps would read, and databases whose log is not read.
pub(super) fn check_slots(draft: &Draft, problems: &mut Problems) {
    let mut readers: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for step in draft.steps.iter().filter(|step| step.is_enabled) {
        let Some(slot) = &step.slot else {
            continue;
        };
        let sides = [&step.from, &step.to];
        let connections = sides.map(|side| side.as_ref().and_then(|of| of.connection.as_ref()));
        for name in connections.into_iter().flatten() {
            let known = draft
                .connections
                .iter()
                .find(|(known, _)| known.value == name.value.as_str());
            let engine = known.and_then(|(_, of)| of.as_ref()).map(|of| of.engine());
            if let Some(other) = engine.filter(|engine| *engine != Engine::Postgres) {
                let message = format!("`cdc` with {} is not supported yet", other.word());
                problems
                    .add(
                        ErrorCode::SpecNotSupportedYet,
                        &name.path,
                        name.location,
                        message,
                    )
                    .hint("`incremental` loads what was written since the last run");
            }
        }
        let [Some(from), _] = connections else {
            continue;
        };
        let read = (from.value.as_str(), slot.value.as_str());
        if let Some(other) = readers.insert(read, &step.name.value) {
            let message = format!("the step `{other}` reads the slot `{}` as well", slot.value);
            problems
                .add(ErrorCode::SpecConflict, &slot.path, slot.location, message)
                .hint("give each step a slot of its own: what one has read is gone for the other");
        }
    }
}
