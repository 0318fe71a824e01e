//! Rules between the keys of one step. Each looks only at what could be read.

use super::bound_rules::check_bounds;
use super::columns::check_columns;
use super::data_check;
use super::decode::merges_without_cursor;
use super::fields::{duration, whole, word};
use super::follow_rules::{check_cut, check_followed};
use super::increment_rules::check_increments;
use super::log_rules::{check_log, check_mark};
use super::model::{Reprocess, RetryPolicy};
use super::node::{Entry, Node, join, shortened};
use super::placing_rules::check_placing;
use super::problem::Problems;
use super::program::check_program;
use super::script_rules::check_statements;
use super::shape::tag_of;
use super::step_keys::STEP;
use super::value;
use super::write::{ExistingRows, OnSchemaChange, WriteMode};
use crate::error_code::ErrorCode;

/// Reports what contradicts itself within the step under `path`.
pub(super) fn check_step(step: &Node, path: &str, problems: &mut Problems) {
    let rules = Rules { step, path };
    rules.retries(problems);
    rules.attempt(problems);
    if let Some(checks) = step.get("checks") {
        data_check::check_items(checks, &join(path, "checks"), problems);
    }
    let strategy = tag_of(&STEP, step);
    let sees_deletes = ["cdc", "incremental"];
    if let Some(other) = strategy.filter(|strategy| !sees_deletes.contains(strategy)) {
        let with = format!("{other}`, which sees no row go");
        let hint = "leave it out, or use `strategy: cdc` or `incremental`";
        rules.means_nothing(&["deletes", "deleted_at"], &with, hint, problems);
    }
    match strategy {
        Some("backfill") => {
            check_cut(step, path, problems);
            rules.needs_write_mode(problems);
            rules.write_mode(problems);
            check_columns(step, path, problems);
            rules.relation(problems);
            check_bounds(step, path, problems);
            check_placing(step, path, problems);
            rules.target(problems);
        }
        Some("incremental") => {
            rules.needs_write_mode(problems);
            rules.increments(problems);
            check_mark(step, path, problems);
            check_columns(step, path, problems);
            rules.relation(problems);
            rules.target(problems);
        }
        Some("exec") => check_program(step, path, problems),
        Some("sql") => {
            rules.script(problems);
            check_followed(step, path, problems);
        }
        Some("cdc") => {
            rules.needs_write_mode(problems);
            let with = "cdc`, whose log tells which change is newer";
            rules.means_nothing(&["cursor"], with, "leave it out", problems);
            let older = "a `cdc` applies a log whose older changes lack the column";
            rules.no_added_columns(older, problems);
            check_log(step, path, problems);
            check_columns(step, path, problems);
            rules.relation(problems);
            rules.target(problems);
        }
        Some(word @ ("full_refresh" | "swap")) => {
            rules.no_write_mode(word, problems);
            if word == "swap" {
                rules.no_added_columns(
                    "`strategy: swap` loads a table that is made like the target's, without columns of \
                     its own",
                    problems,
                );
                rules.nothing_kept_in_place(problems);
            }
            check_columns(step, path, problems);
            rules.relation(problems);
            rules.target(problems);
        }
        Some(_) | None => {}
    }
}

struct Rules<'a> {
    step: &'a Node,
    path: &'a str,
}

impl Rules<'_> {
    fn node(&self, map: &str, key: &str) -> Option<&Node> {
        self.step.get(map)?.get(key)
    }

    fn path(&self, map: &str, key: &str) -> String {
        join(&join(self.path, map), key)
    }

    fn retries(&self, problems: &mut Problems) {
        let (initial, max) = (self.node("retries", "initial"), self.node("retries", "max"));
        let policy = RetryPolicy::default();
        let read = |node: Option<&Node>, default| node.map_or(Some(default), duration);
        let (Some(first), Some(last)) = (read(initial, policy.initial), read(max, policy.max))
        else {
            return;
        };
        if let Some(node) = max.or(initial).filter(|_| first > last) {
            let message = format!(
                "the first wait of {} is longer than the longest of {}",
                value::duration_text(first),
                value::duration_text(last)
            );
            problems.add(
                ErrorCode::SpecConflict,
                &join(self.path, "retries"),
                node.location,
                message,
            );
        }
    }

    fn attempt(&self, problems: &mut Problems) {
        for key in ["attempt", "stall"] {
            if let Some(node) = self
                .node("limits", key)
                .filter(|node| duration(node).is_some_and(|time| time.is_zero()))
            {
                problems.add(
                    ErrorCode::SpecOutOfRange,
                    &self.path("limits", key),
                    node.location,
                    "no attempt ends in no time",
                );
            }
        }
    }

    fn needs_write_mode(&self, problems: &mut Problems) {
        let missing =
            |path: &str, node: &Node, what: &str, key: &str, hint: &str, to: &mut Problems| {
                to.add(
                    ErrorCode::SpecMissingKey,
                    path,
                    node.location,
                    format!("{what} needs `{key}`"),
                )
                .hint(hint);
            };
        match self.step.get("write") {
            None => missing(
                self.path,
                self.step,
                "a step",
                "write",
                "How rows are written.",
                problems,
            ),
            Some(write) if write.get("mode").is_none() && !write.is_broken() => missing(
                &join(self.path, "write"),
                write,
                "a write rule",
                "mode",
                "How a partition's rows meet the target's.",
                problems,
            ),
            Some(_) => {}
        }
    }

    /// What the step itself says under `write`. What `defaults` says for other steps is not there.
    fn own_write(&self) -> impl Iterator<Item = &Entry> {
        let of_this_step = self
            .step
            .entries()
            .iter()
            .filter(|entry| entry.key == "write" && !entry.is_laid);
        of_this_step
            .flat_map(|write| write.node.entries())
            .filter(|entry| !entry.is_laid)
    }

    /// What a step says under `write` that means nothing with its strategy.
    fn means_nothing(&self, keys: &[&str], with: &str, hint: &str, problems: &mut Problems) {
        for entry in self.own_write() {
            if keys.contains(&entry.key.as_str()) {
                let message = format!("`{}` has no meaning with `strategy: {with}", entry.key);
                problems
                    .add(
                        ErrorCode::SpecUnknownKey,
                        &self.path("write", &entry.key),
                        entry.location,
                        message,
                    )
                    .hint(hint);
            }
        }
    }

    /// All of the target's rows are replaced.
    fn no_write_mode(&self, strategy: &str, problems: &mut Problems) {
        let with = format!("{strategy}`, which replaces all rows");
        let hint = "leave it out, or use `strategy: backfill`";
        self.means_nothing(&["mode", "cursor", "resident"], &with, hint, problems);
    }

    /// Rows that come again have to find the ones that are there.
    fn increments(&self, problems: &mut Problems) {
        let with = "incremental`, whose `cursor` tells which row is newer";
        self.means_nothing(&["cursor", "resident"], with, "leave it out", problems);
        check_increments(self.step, self.path, problems);
    }

    /// What takes the place of the target's table is made like it.
    fn no_added_columns(&self, why: &str, problems: &mut Problems) {
        for entry in self.own_write() {
            if entry.key == "on_schema_change"
                && word(&entry.node) == Some(OnSchemaChange::AddColumns)
            {
                problems
                    .add(
                        ErrorCode::SpecConflict,
                        &self.path("write", &entry.key),
                        entry.location,
                        why,
                    )
                    .hint("add the columns to the target, and leave it out");
            }
        }
    }

    /// A table whose rows are replaced where they are leaves nothing that could be kept.
    fn nothing_kept_in_place(&self, problems: &mut Problems) {
        let Some(strategy) = self.step.get("strategy") else {
            return;
        };
        let in_place = strategy.get("publish").and_then(Node::as_text) == Some("in_place");
        for entry in strategy.entries().iter().filter(|_| in_place) {
            if entry.key == "keep_old" || entry.key == "lock_timeout" {
                problems
                    .add(
                        ErrorCode::SpecConflict,
                        &self.path("strategy", &entry.key),
                        entry.location,
                        "`publish: in_place` exchanges no tables and keeps none",
                    )
                    .hint("leave it out, or take `publish: rename`");
            }
        }
    }

    fn write_mode(&self, problems: &mut Problems) {
        let mode = self.node("write", "mode").and_then(word);
        match mode {
            Some(WriteMode::Append) => self.append(problems),
            Some(WriteMode::Merge) => self.merge(problems),
            Some(
                WriteMode::ReplacePartition
                | WriteMode::ReplaceTable
                | WriteMode::Exchange
                | WriteMode::Statements,
            )
            | None => {}
        }
        if let Some(node) = self.node("write", "cursor")
            && mode.is_some_and(|mode| mode != WriteMode::Merge)
        {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &self.path("write", "cursor"),
                    node.location,
                    "only `mode: merge` asks which of two rows is newer",
                )
                .hint("use `mode: merge`, or leave `cursor` out");
        }
    }

    fn merge(&self, problems: &mut Problems) {
        if let Some(node) = self.node("write", "resident")
            && word(node) == Some(ExistingRows::Replace)
        {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &self.path("write", "resident"),
                    node.location,
                    "`mode: merge` replaces row by row, by the key",
                )
                .hint("leave `resident` out, or use `mode: replace_partition`");
        }
        if let Some(node) = self.node("limits", "tasks")
            && whole::<u32>(node).is_some_and(|tasks| tasks > 1)
            && merges_without_cursor(self.step)
        {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &self.path("limits", "tasks"),
                    node.location,
                    "without `write.cursor` a merge runs one task at a time: of two tasks the one \
                     that read an older row could commit last",
                )
                .hint("name the column that tells which row is newer in `write.cursor`");
        }
    }

    fn append(&self, problems: &mut Problems) {
        if let Some(node) = self.node("strategy", "reprocess")
            && word(node) == Some(Reprocess::All)
        {
            let message = "`reprocess: all` with `mode: append` would add every row a second time";
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &self.path("strategy", "reprocess"),
                    node.location,
                    message,
                )
                .hint("use `mode: replace_partition`, or `reprocess: missing`");
        }
        if let Some(node) = self.node("write", "resident")
            && word(node) == Some(ExistingRows::Replace)
        {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &self.path("write", "resident"),
                    node.location,
                    "`mode: append` replaces no rows",
                )
                .hint("use `mode: replace_partition`, or `resident: fail`");
        }
    }

    /// Either a table or a query; a query is read whole, for nothing cuts it.
    fn relation(&self, problems: &mut Problems) {
        let Some(from) = self.step.get("from") else {
            return;
        };
        let path = self.path("from", "query");
        let Some(query) = from.get("query") else {
            if from.get("table").is_none() {
                let (code, at) = (ErrorCode::SpecMissingKey, join(self.path, "from"));
                let message = "a source needs `table`, or `query`";
                problems.add(code, &at, from.location, message);
            }
            return;
        };
        let mut refuse = |message: &str, hint: &str| {
            let problem = problems.add(ErrorCode::SpecConflict, &path, query.location, message);
            problem.hint(hint);
        };
        if from.get("table").is_some() {
            refuse(
                "`query` stands in the place of `table`",
                "leave one of them out",
            );
        }
        let is_cut = self.step.get("partition").is_some();
        match tag_of(&STEP, self.step) {
            Some("incremental") => refuse(
                "an `incremental` reads a part of a table, and nothing finds the parts of a query",
                "make a view of it and name that as `table`",
            ),
            Some("cdc") => refuse(
                "a `cdc` follows a table, and no log tells what a query would answer",
                "name a table as `table`",
            ),
            Some("backfill") => refuse(
                "a `backfill` reads parts of a table, and nothing finds the parts of a query",
                "make a view of it and name that as `table`, or use `full_refresh` or `swap`",
            ),
            Some("swap") if is_cut => refuse(
                "a `partition` cuts a table, and nothing finds the parts of a query",
                "leave `partition` out, or make a view of it and name that as `table`",
            ),
            Some(_) | None => (),
        }
        self.no_source_name("a query has", problems);
    }

    /// Nothing could stand for the source's name.
    fn no_source_name(&self, what_has: &str, problems: &mut Problems) {
        if let Some(node) = self.node("to", "table")
            && node.as_text().is_some_and(value::holds_source)
        {
            let message = format!("{what_has} no name that `{{source.table}}` could stand for");
            let at = self.path("to", "table");
            let problem = problems.add(ErrorCode::SpecConflict, &at, node.location, message);
            problem.hint("write the target's name");
        }
    }

    /// Statements make what they write themselves.
    fn script(&self, problems: &mut Problems) {
        check_statements(self.step, self.path, problems);
        self.no_source_name("a step without a source has", problems);
        let to = self.step.get("to").map_or(&[][..], Node::entries);
        for entry in to.iter().filter(|to| to.key == "create" && !to.is_laid) {
            let message = "`create` has no meaning with `strategy: sql`, which makes no table";
            problems
                .add(
                    ErrorCode::SpecUnknownKey,
                    &self.path("to", &entry.key),
                    entry.location,
                    message,
                )
                .hint("leave it out, and let a statement create the table if it is missing");
        }
    }

    /// A target's name may ask for what the source's does not have.
    fn target(&self, problems: &mut Problems) {
        let (Some(from), Some(node)) = (self.node("from", "table"), self.node("to", "table"))
        else {
            return;
        };
        let (Some(Ok(source)), Some(target)) = (from.as_text().map(value::table), node.as_text())
        else {
            return;
        };
        // Whatever is wrong with the name alone was reported with its shape.
        if value::target(target, None).is_ok()
            && let Err(error) = value::target(target, Some(&source))
        {
            problems
                .add(
                    ErrorCode::SpecConflict,
                    &self.path("to", "table"),
                    node.location,
                    error.to_string(),
                )
                .hint(format!(
                    "the source is `{}`",
                    shortened(&source.to_string())
                ));
        }
    }
}
