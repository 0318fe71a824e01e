//! What a table's triggers do to a load: SQLite keeps each as the text of the statement that made
//! it, and that text says when. Never judges them: that is `highwater_common::plan`'s business.

use highwater_common::facts::{Reaction, ReactionKind};
use highwater_common::spec::TableName;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::errors::DatabaseFile;
use super::sql;
use crate::connector::ConnectorError;

/// The most that are read.
const REACTIONS_MAX: i64 = 200;

/// The triggers that answer to rows inserted into a table, updated in it or deleted from it. Another connection's
/// temporary ones are its own.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    table: &TableName,
) -> Result<Vec<Reaction>, ConnectorError> {
    let failed = || place.failed(format!("read the triggers of {table}"));
    let schema = sql::ident(sql::schema(table));
    let question = format!(
        "select cast(name as text), cast(sql as text) from {schema}.sqlite_schema \
         where type = 'trigger' and tbl_name = ? collate nocase order by name limit {REACTIONS_MAX}"
    );
    let rows = sql::once(question)
        .bind(&table.name)
        .fetch_all(conn)
        .await
        .map_err(failed())?;
    let mut found = Vec::new();
    for row in rows {
        let (name, text): (String, String) = (
            row.try_get(0).map_err(failed())?,
            row.try_get(1).map_err(failed())?,
        );
        let when = When::of(&text);
        found.push(Reaction {
            name,
            table: table.to_string(),
            alike: 0,
            kind: ReactionKind::Trigger,
            on_insert: when.event == "insert",
            on_update: when.event == "update",
            on_delete: when.event == "delete",
            when: when.text(),
            fires: true,
            fires_if_skipped: true,
        });
    }
    Ok(found)
}

/// When a trigger acts.
#[derive(Debug, PartialEq, Eq)]
struct When {
    time: &'static str,
    event: String,
}

impl When {
    /// Reads the head of a statement that SQLite has accepted. A text that is none takes the load
    /// for concerned.
    fn of(statement: &str) -> Self {
        let mut words = Words(statement)
            .skip_while(|word| word != "trigger")
            .skip(1)
            .peekable();
        if words.peek().is_some_and(|word| word == "if") {
            words.by_ref().take(3).for_each(drop);
        }
        // Its name, which may be any word, or two with a point between them.
        words.next();
        if words.peek().is_some_and(|word| word == ".") {
            words.by_ref().take(2).for_each(drop);
        }
        let time = match words.peek().map(String::as_str) {
            Some("after") => "after",
            Some("instead") => "instead of",
            Some(_) | None => "before",
        };
        let event =
            words.find(|word| !matches!(word.as_str(), "before" | "after" | "instead" | "of"));
        Self {
            time,
            event: event.unwrap_or_else(|| "insert".to_owned()),
        }
    }

    fn text(&self) -> String {
        format!("{} {}, each row", self.time, self.event)
    }
}

/// The words of a statement in small letters, without comments; what is quoted is one word, without
/// its quotes told apart.
struct Words<'s>(&'s str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            self.0 = self.0.trim_start();
            let first = self.0.chars().next()?;
            if let Some(rest) = self.0.strip_prefix("--") {
                self.0 = rest.split_once('\n').map_or("", |(_, rest)| rest);
                continue;
            }
            if let Some(rest) = self.0.strip_prefix("/*") {
                self.0 = rest.split_once("*/").map_or("", |(_, rest)| rest);
                continue;
            }
            let close = match first {
                '"' | '\'' | '`' => Some(first),
                '[' => Some(']'),
                _ => None,
            };
            if let Some(close) = close {
                return Some(self.quoted(close));
            }
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
            let length = self.0.find(|c: char| !is_word(c)).unwrap_or(self.0.len());
            let (word, rest) = self.0.split_at(length.max(first.len_utf8()));
            self.0 = rest;
            return Some(word.to_lowercase());
        }
    }
}

impl Words<'_> {
    /// A quote within is written twice.
    fn quoted(&mut self, close: char) -> String {
        let mut chars = self.0.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c != close {
                continue;
            }
            if close != ']' && chars.peek().is_some_and(|(_, next)| *next == close) {
                chars.next();
                continue;
            }
            self.0 = self.0.get(at + c.len_utf8()..).unwrap_or("");
            return "\"".to_owned();
        }
        self.0 = "";
        "\"".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_trigger_says_when_it_acts() {
        for (statement, time, event) in [
            (
                "CREATE TRIGGER a INSERT ON t BEGIN SELECT 1; END",
                "before",
                "insert",
            ),
            (
                "create temp trigger if not exists main.a after delete on t begin select 1; end",
                "after",
                "delete",
            ),
            (
                "CREATE TRIGGER \"delete \"\" on\" /* delete */ BEFORE -- delete\n INSERT ON t \
                 BEGIN DELETE FROM u; END",
                "before",
                "insert",
            ),
            (
                "CREATE TRIGGER [after]INSTEAD OF UPDATE OF x ON v BEGIN SELECT 1; END",
                "instead of",
                "update",
            ),
            (
                "CREATE TRIGGER `x`.'after' after\tDELETE ON t BEGIN SELECT 1; END",
                "after",
                "delete",
            ),
            (
                "CREATE TRIGGER après INSERT ON t BEGIN SELECT 1; END",
                "before",
                "insert",
            ),
            ("", "before", "insert"),
            ("CREATE TRIGGER \"never closed", "before", "insert"),
        ] {
            assert_eq!(
                When::of(statement),
                When {
                    time,
                    event: event.to_owned()
                },
                "{statement}"
            );
        }
    }
}
