//! What is special about some columns of a source: left out, renamed, cast.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::node::{Node, join, shortened};
use super::problem::Problems;
use crate::error_code::ErrorCode;

/// What is special about some columns of a source, by their names there; all others are read as
/// they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnRules {
    /// Columns left out, ascending.
    pub exclude: Vec<String>,
    /// Columns that arrive under another name: name in the source → name in the target. Left out of
    /// the canonical form when there are none, so that digests from before there were any stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renames: BTreeMap<String, String>,
    /// Columns read as another type of the source's server: name in the source → the type's name,
    /// as that server writes it.
    pub casts: BTreeMap<String, String>,
}

impl ColumnRules {
    /// Every column of the source that a rule names.
    pub fn named(&self) -> impl Iterator<Item = &String> {
        let special = self.renames.keys().chain(self.casts.keys());
        self.exclude.iter().chain(special)
    }
}

/// Reports what a step says of single columns and contradicts elsewhere.
pub(super) fn check_columns(step: &Node, path: &str, problems: &mut Problems) {
    let node = |map: &str, key: &str| step.get(map).and_then(|node| node.get(key));
    let path = |map: &str, key: &str| join(&join(path, map), key);
    let named = node("from", "columns").map_or(Named::default(), |columns| {
        Named::of(columns, &path("from", "columns"), problems)
    });
    if let Some(node) = node("partition", "column")
        && let Some(column) = node.as_text()
    {
        let at = path("partition", "column");
        let short = shortened(column);
        if named.excluded.contains(column) {
            let message = format!("the table is cut by `{short}`, which is excluded");
            problems.add(ErrorCode::SpecConflict, &at, node.location, message);
        }
        if named.cast.contains(column) {
            let message = format!(
                "the table is cut by `{short}`, which is cast: no index would find its parts"
            );
            problems
                .add(ErrorCode::SpecConflict, &at, node.location, message)
                .hint("cut by a column that is read as it is");
        }
    }
    if let Some(node) = node("write", "cursor")
        && let Some(column) = node.as_text()
    {
        let at = path("write", "cursor");
        named.must_arrive(column, "tells which row is newer", node, &at, problems);
    }
    let mut seen = BTreeSet::new();
    let key = node("write", "key").map_or(&[][..], Node::items).iter();
    for (at, node) in key.enumerate() {
        let Some(column) = node.as_text() else {
            continue;
        };
        let at = format!("{}[{at}]", path("write", "key"));
        named.must_arrive(column, "tells rows apart", node, &at, problems);
        if !seen.insert(column) {
            let message = format!("`{}` is listed twice", shortened(column));
            problems.add(ErrorCode::SpecRepeated, &at, node.location, message);
        }
    }
}

/// The columns that a step's rules name.
#[derive(Default)]
struct Named<'a> {
    excluded: BTreeSet<&'a str>,
    cast: BTreeSet<&'a str>,
    /// Name in the source → name in the target.
    renamed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Named<'a> {
    fn of(columns: &'a Node, path: &str, problems: &mut Problems) -> Self {
        let mut named = Self::default();
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in columns.entries() {
            let (column, at) = (entry.key.as_str(), join(path, &entry.key));
            let text = |rule: &str| entry.node.get(rule).and_then(Node::as_text);
            let (rename, cast) = (text("rename"), text("cast"));
            let short = shortened(column);
            if entry.node.get("exclude").is_some_and(Node::is_true) {
                if rename.or(cast).is_some() {
                    let message = format!("`{short}` is excluded, and no rule else holds for it");
                    problems.add(ErrorCode::SpecConflict, &at, entry.location, message);
                }
                named.excluded.insert(column);
            }
            if cast.is_some() {
                named.cast.insert(column);
            }
            let Some(name) = rename else { continue };
            named.renamed.insert(column, name);
            if let Some(other) = taken.insert(name, column) {
                let message = format!(
                    "`{}` and `{short}` would both be written as `{}`",
                    shortened(other),
                    shortened(name)
                );
                problems
                    .add(ErrorCode::SpecConflict, &at, entry.location, message)
                    .hint("give one of them another name");
            }
        }
        named
    }

    /// Reports a name of the target that no column arrives under.
    fn must_arrive(
        &self,
        column: &str,
        role: &str,
        node: &Node,
        path: &str,
        problems: &mut Problems,
    ) {
        if self.renamed.values().any(|name| *name == column) {
            return;
        }
        let short = shortened(column);
        if let Some(name) = self.renamed.get(column) {
            let name = shortened(name);
            let message = format!("`{short}` {role}, and is written as `{name}`");
            problems
                .add(ErrorCode::SpecConflict, path, node.location, message)
                .hint(format!("name columns as the target does: `{name}`"));
        } else if self.excluded.contains(column) {
            let message = format!("`{short}` {role}, and is excluded");
            problems.add(ErrorCode::SpecConflict, path, node.location, message);
        }
    }
}

/// Whether a text can be the name of a type: words, numbers and names in brackets behind them, and
/// an array's brackets. Whether there is such a type is the server's to say.
pub(super) fn is_type_name(text: &str) -> bool {
    const LENGTH_MAX: usize = 200;
    let is_open = |depth: Option<u8>, letter: char| match (depth?, letter) {
        (0, '(') => Some(1),
        (1, ')') => Some(0),
        (0, '[' | ']' | '.' | '"') | (1, ',') => depth,
        (_, ' ' | '_') => depth,
        (_, letter) if letter.is_ascii_alphanumeric() => depth,
        (_, _) => None,
    };
    text.len() <= LENGTH_MAX
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '_' | '"'))
        && text.chars().fold(Some(0), is_open) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FLIGHTS, none, report};
    use super::super::{Problem, parse};
    use super::is_type_name;

    /// What is wrong with the flights pipeline, with this under `from.columns` and this key.
    fn problems(columns: &str, key: &str) -> Vec<Problem> {
        let read = format!("table: flights, columns: {{{columns}}}}}");
        let text = FLIGHTS.replace("table: flights}", &read);
        let text = text.replace(
            "key: [time_hour, carrier",
            &format!("key: [time_hour, {key}"),
        );
        parse(&text, &none()).err().unwrap_or_default()
    }

    #[test]
    fn what_columns_say_holds_for_the_whole_step() {
        for (columns, key, told) in [
            // excluded, and something else
            (
                "tailnum: {exclude: true, rename: tail}",
                "carrier",
                "`tailnum` is excluded, and no rule else",
            ),
            // two of one name
            (
                "dep_time: {rename: t}, arr_time: {rename: t}",
                "carrier",
                "`dep_time` and `arr_time` would both be written as `t`",
            ),
            // the column that cuts the table
            (
                "time_hour: {cast: date}",
                "carrier",
                "the table is cut by `time_hour`, which is cast",
            ),
            // a key speaks the target's names
            (
                "carrier: {rename: airline}",
                "carrier",
                "name columns as the target does: `airline`",
            ),
            (
                "carrier: {exclude: true}",
                "carrier",
                "tells rows apart, and is excluded",
            ),
            (
                "dep_time: {cast: \"int; drop\"}",
                "carrier",
                "is the name of no type",
            ),
        ] {
            let found = problems(columns, key);
            assert_eq!(found.len(), 1, "{columns}: {}", report(&found));
            assert!(report(&found).contains(told), "{}", report(&found));
        }
        for (columns, key) in [
            ("carrier: {rename: airline}", "airline"),
            (
                "carrier: {exclude: true}, dest: {rename: carrier}",
                "carrier",
            ),
            (
                "dep_time: {rename: arr_time}, arr_time: {rename: dep_time, cast: text}",
                "carrier",
            ),
            ("time_hour: {rename: at}", "carrier"),
        ] {
            let found = problems(columns, key);
            // `time_hour` itself is in the key
            let expected = usize::from(columns.starts_with("time_hour"));
            assert_eq!(found.len(), expected, "{columns}: {}", report(&found));
        }
    }

    #[test]
    fn only_what_can_be_a_type_is_taken_for_one() {
        for name in [
            "text",
            "numeric(12,2)",
            "timestamp(3) with time zone",
            "integer[]",
            "geo.geometry(Point, 4326)",
            "\"char\"",
        ] {
            assert!(is_type_name(name), "{name}");
        }
        for name in [
            "",
            " ",
            "(12)",
            "text; drop table t",
            "text)",
            "numeric((1))",
            "numeric(12",
            "text -- ",
            "text /* */",
            "'text'",
            "te\nxt",
        ] {
            assert!(!is_type_name(name), "{name}");
        }
    }
}
