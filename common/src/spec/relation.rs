//! What a step reads: a table, or what a query answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::data_check::one_statement;
use super::value::TableName;

/// Letters of a query that a message shows.
const SHOWN_MAX: usize = 40;

/// What a step reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// A table, or a view.
    Table(TableName),
    /// What a query answers: one SELECT of the source's server, without a semicolon.
    Query(String),
}

impl Relation {
    /// The table, of a step that reads one.
    #[must_use]
    pub const fn table(&self) -> Option<&TableName> {
        match self {
            Self::Table(table) => Some(table),
            Self::Query(_) => None,
        }
    }

    /// The text of the query, of a step that reads one.
    #[must_use]
    pub const fn query(&self) -> Option<&str> {
        match self {
            Self::Table(_) => None,
            Self::Query(text) => Some(text.as_str()),
        }
    }
}

impl From<TableName> for Relation {
    fn from(table: TableName) -> Self {
        Self::Table(table)
    }
}

/// A query is told by its first words.
impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Table(table) => return table.fmt(f),
            Self::Query(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        write!(f, "the query `{shown}{more}`")
    }
}

/// The one statement of a query's text, without the blanks around it and a semicolon at its end;
/// `None` of none and of several.
pub(super) fn query(text: &str) -> Option<&str> {
    const LENGTH_MAX: usize = 100_000;
    let is_legal = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    let statement = one_statement(text.trim())?.trim_end();
    (!statement.is_empty() && statement.len() <= LENGTH_MAX && statement.chars().all(is_legal))
        .then_some(statement)
}

#[cfg(test)]
mod tests {
    use super::{Relation, query};

    #[test]
    fn a_query_is_one_statement() {
        assert_eq!(query(" select 1 ;\n"), Some("select 1"));
        assert_eq!(query("select ';' -- a; b\n"), Some("select ';' -- a; b"));
        for text in ["", " ", ";", "select 1; select 2", "select \u{0}"] {
            assert_eq!(query(text), None, "{text}");
        }
    }

    #[test]
    fn a_query_is_told_by_its_first_words() {
        let told = |text: &str| Relation::Query(text.to_owned()).to_string();
        assert_eq!(told("select\n  1"), "the query `select 1`");
        let long = told("select code, rate, as_of, source, note from fx.rates");
        assert_eq!(
            long,
            "the query `select code, rate, as_of, source, note f…`"
        );
    }
}
