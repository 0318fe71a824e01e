//! The checks of a step, as they are written: what its table must answer before its rows are trusted.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::fields::whole;
use super::node::{Entry, Node, Value, join, shortened};
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
    /// It has as many rows as the source, but for so many.
    RowCount {
        /// By how many rows the two may differ.
        tolerance: u64,
    },
    /// It has at least so many rows.
    MinRows(u64),
    /// No row has NULL in these columns.
    NotNull(Vec<String>),
    /// No two rows have the same values in these columns.
    Unique(Vec<String>),
    /// A query says that it is so: it answers with one row of one boolean, true.
    Sql(String),
}

/// What stands for the table in a query: before it is published it has another name.
const TABLE: &str = "{table}";

impl Check {
    /// Whether it asks the source, too.
    #[must_use]
    pub const fn asks_source(&self) -> bool {
        match self {
            Self::RowCount { .. } => true,
            Self::MinRows(_) | Self::NotNull(_) | Self::Unique(_) | Self::Sql(_) => false,
        }
    }

    /// The columns that it names.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        match self {
            Self::NotNull(columns) | Self::Unique(columns) => columns,
            Self::RowCount { .. } | Self::MinRows(_) | Self::Sql(_) => &[],
        }
    }
}

/// The query of a check, about the table that has this name, quoted, without what ends it.
#[must_use]
pub fn query_about(sql: &str, table: &str) -> String {
    one_statement(sql).unwrap_or_default().replace(TABLE, table)
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
    keys: &[
        Key::new(
            "row_count",
            Shape::Fields(&ROW_COUNT),
            "The table has as many rows as the source.",
        ),
        Key::new(
            "min_rows",
            Shape::Whole(1, ROWS_MAX),
            "The table has at least so many rows.",
        ),
        Key::new(
            "not_null",
            Shape::List(&COLUMNS),
            "No row has NULL in one of these columns.",
        ),
        Key::new(
            "unique",
            Shape::List(&COLUMNS),
            "No two rows have the same values in these columns.",
        ),
        Key::new(
            "sql",
            Shape::Text,
            "A query that answers with one row of one boolean; {table} stands for the table.",
        ),
    ],
};

static ROW_COUNT: Fields = Fields {
    what: "a count",
    tag: None,
    shorthand: None,
    is_merged: false,
    keys: &[Key::new(
        "tolerance",
        Shape::Whole(0, ROWS_MAX),
        "By how many rows they may differ.",
    )
    .required()],
};

static COLUMNS: List = List {
    items_min: 1,
    items_max: 32,
    each: Shape::Text,
    word: None,
};

/// As it is written, in one line.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RowCount { tolerance } => write!(f, "row_count: {{tolerance: {tolerance}}}"),
            Self::MinRows(rows) => write!(f, "min_rows: {rows}"),
            Self::NotNull(columns) => write!(f, "not_null: [{}]", columns.join(", ")),
            Self::Unique(columns) => write!(f, "unique: [{}]", columns.join(", ")),
            Self::Sql(sql) => write!(f, "sql: {}", shortened(sql)),
        }
    }
}

/// The check that an item of the list writes.
pub(super) fn check(item: &Node) -> Option<Check> {
    match item.entries() {
        [entry] => match entry.key.as_str() {
            "row_count" => Some(Check::RowCount {
                tolerance: whole(entry.node.get("tolerance")?)?,
            }),
            "min_rows" => whole(&entry.node).map(Check::MinRows),
            "not_null" => columns(&entry.node).map(Check::NotNull),
            "unique" => columns(&entry.node).map(Check::Unique),
            "sql" => Some(Check::Sql(entry.node.as_text()?.to_owned())),
            _ => None,
        },
        _ => None,
    }
}

fn columns(list: &Node) -> Option<Vec<String>> {
    let columns = list.items().iter();
    columns
        .map(|column| column.as_text().map(str::to_owned))
        .collect()
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
            [entry] => check_item(entry, &join(&path, &entry.key), problems),
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

fn check_item(entry: &Entry, path: &str, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    let names = entry.node.items().iter().filter_map(Node::as_text);
    if let Some(twice) = names.into_iter().find(|name| !seen.insert(*name)) {
        let message = format!("`{}` is listed twice", shortened(twice));
        problems.add(ErrorCode::SpecRepeated, path, entry.location, message);
    }
    let Some(sql) = entry.node.as_text().filter(|_| entry.key == "sql") else {
        return;
    };
    let misfit = match one_statement(sql) {
        None => Some((
            "more than one statement",
            "make each query a check of its own",
        )),
        Some(statement) if statement.trim().is_empty() => {
            Some(("no statement", "write a query that answers with true"))
        }
        Some(statement) if !statement.contains(TABLE) => Some((
            "the query does not ask about the table",
            "write {table} for its name: before it is published it has another one",
        )),
        Some(_) => None,
    };
    if let Some((message, hint)) = misfit {
        problems
            .add(ErrorCode::SpecCheckSql, path, entry.location, message)
            .hint(hint);
    }
}

/// The text up to the semicolon that ends its first statement; `None` where another statement
/// stands behind that. Knows quotes and comments as PostgreSQL and SQLite write them.
pub(super) fn one_statement(sql: &str) -> Option<&str> {
    let end = skip(sql, |rest| rest.starts_with(';'));
    let (statement, rest) = (sql.get(..end)?, sql.get(end..)?);
    let behind = rest.get(1..).unwrap_or_default();
    let is_over = |rest: &str| !rest.starts_with(|c: char| c.is_whitespace() || c == ';');
    (skip(behind, is_over) == behind.len()).then_some(statement)
}

/// Where `found` holds first, outside of quotes and comments; the text's end if nowhere. A quote
/// is shown to `found` where it begins.
fn skip(sql: &str, found: impl Fn(&str) -> bool) -> usize {
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let comment = comment(rest);
        if comment.is_none() && found(rest) {
            return at;
        }
        let is_escaped = matches!(
            sql.get(..at).unwrap_or_default().as_bytes(),
            [.., b'e' | b'E'] if rest.starts_with('\'')
        );
        let length = comment
            .or_else(|| quoted(rest, is_escaped))
            .or_else(|| rest.chars().next().map(char::len_utf8));
        at = at.saturating_add(length.unwrap_or(1));
    }
    sql.len()
}

/// How long the comment is that the text begins with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("--") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let inside = rest.strip_prefix("/*")?;
    Some(
        inside
            .find("*/")
            .map_or(rest.len(), |end| end.saturating_add(4)),
    )
}

/// How long the quoted text or name is that the text begins with. A doubled quote is two of them,
/// one after the other.
fn quoted(rest: &str, is_escaped: bool) -> Option<usize> {
    let mark = match rest.as_bytes() {
        [mark @ (b'\'' | b'"' | b'`'), ..] => (*mark).into(),
        [b'$', ..] => {
            let tag = rest.get(1..)?.split_once('$')?.0;
            let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !tag.starts_with(|c: char| c.is_ascii_digit());
            let mark = format!("${tag}$");
            let inside = rest.get(mark.len()..).filter(|_| is_tag)?;
            let end = inside.find(&mark);
            return Some(end.map_or(rest.len(), |end| {
                end.saturating_add(mark.len().saturating_mul(2))
            }));
        }
        _ => return None,
    };
    let mut skips = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let is_skipped = std::mem::replace(&mut skips, false);
        skips = is_escaped && !is_skipped && *c == '\\';
        !is_skipped && *c == mark
    });
    Some(end.map_or(rest.len(), |(end, _)| end.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_statement_ends_at_its_semicolon_and_nowhere_in_a_quote() {
        for (sql, statement) in [
            ("select true", Some("select true")),
            ("select true;", Some("select true")),
            ("select true ; -- done;\n /* ; */ ;", Some("select true ")),
            (
                "select ';' || \"a;\" || `;`",
                Some("select ';' || \"a;\" || `;`"),
            ),
            ("select 'it''s; so'", Some("select 'it''s; so'")),
            ("select e'\\'; so'", Some("select e'\\'; so'")),
            ("select $a$ ; $$ ; $a$;", Some("select $a$ ; $$ ; $a$")),
            (
                "select $1 /* a; */ -- b;\n",
                Some("select $1 /* a; */ -- b;\n"),
            ),
            ("select true; drop table x", None),
            ("select true;\n-- ;\nselect false", None),
            ("select '\\'; delete from x", None),
            ("", Some("")),
            (";", Some("")),
        ] {
            assert_eq!(one_statement(sql), statement, "{sql}");
        }
        assert_eq!(
            query_about("select 1 from {table};", "\"t\""),
            "select 1 from \"t\""
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in "[-a/*;'\"$e\\\\\n ä]{0,40}") {
            if let Some(statement) = one_statement(&sql) {
                prop_assert!(sql.starts_with(statement));
            }
        }
    }
}
