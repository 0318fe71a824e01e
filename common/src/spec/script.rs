//! The statements of a step that says itself what its target does: where each ends, which values go
//! into it, and what cannot be part of one transaction.
//!
//! Quotes, comments and bodies are told apart as the database's own tools do it (psql's lexer, and
//! `sqlite3_complete`), so that a semicolon in one of them parts nothing. A placeholder becomes a
//! parameter of the server's; its value never becomes text of a statement.

mod parameters;
mod quotes;
mod words;

use std::fmt;

pub(super) use self::parameters::literal;
pub use self::parameters::{LiteralKind, Parameter};
use self::parameters::{position_type, postgres_type, read_literal};
use self::quotes::{dollar_mark, is_word_start, single_quoted, until_mark};
use self::words::{MARKS, changes_rows, makes_body, stands_alone};
use crate::cursor::CursorKind;
use crate::cursor_form::CursorForm;
use crate::engine::Engine;

/// Words of a statement that are looked at: enough to know what it is.
const WORDS_MAX: usize = 24;
/// Letters of a statement that a message shows.
const SHOWN_MAX: usize = 40;

/// One statement, as the server gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text, its placeholders written as the server's parameters.
    pub text: String,
    /// The values of the parameters, from the first.
    pub parameters: Vec<Parameter>,
    /// The line of the script that it begins on, from 1.
    pub line: usize,
    /// Whether the number that the server answers with is one of rows that it has changed.
    pub changes_rows: bool,
}

/// Why a text is no script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl fmt::Display for Statement {
    /// Its first words, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown: String = text.chars().take(SHOWN_MAX).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        write!(f, "`{shown}{more}`")
    }
}

/// The statements of a script for a database of this kind, in their order; at least one.
///
/// # Errors
/// [`ScriptError`] for the first that is not closed, holds a placeholder that is not known, or
/// cannot be part of a transaction.
pub fn statements(script: &str, engine: Engine) -> Result<Vec<Statement>, ScriptError> {
    statements_over(script, engine, CursorKind::Instant, CursorForm::Native)
}

/// The same, of a script that runs for periods whose positions are of `kind`, written in `form`.
///
/// # Errors
/// As [`statements`].
pub fn statements_over(
    script: &str,
    engine: Engine,
    kind: CursorKind,
    form: CursorForm,
) -> Result<Vec<Statement>, ScriptError> {
    // A temporary table of such a name would stand before the ledger's.
    if engine == Engine::Sqlite && script.to_ascii_lowercase().contains("_highwater_") {
        return Err(ScriptError {
            line: 1,
            message: "a table of Highwater's own".to_owned(),
            hint: "names that begin with _highwater_ are its ledger's",
        });
    }
    let mut lexer = Lexer {
        script,
        at: 0,
        line: 1,
        engine,
        position: position_type(kind, form),
        open: Open::default(),
        done: Vec::new(),
    };
    while !lexer.rest().is_empty() {
        lexer.token()?;
    }
    lexer.end_statement()?;
    match lexer.done.as_slice() {
        [] => Err(ScriptError {
            line: 1,
            message: "there is no statement".to_owned(),
            hint: "write the statements of the target, with a semicolon behind each",
        }),
        [..] => Ok(lexer.done),
    }
}

/// The statement that is read.
#[derive(Debug, Default)]
struct Open {
    text: String,
    parameters: Vec<Parameter>,
    /// Where its first token stands; 0 before there is one.
    line: usize,
    /// Its first words, in lower case.
    words: Vec<String>,
    /// Whether its last word is `e`, which makes an escape string of the quote behind it.
    ends_with_e: bool,
    /// Parentheses that are open.
    parentheses: u32,
    /// Bodies between `begin` and `end` that are open: those of a function or of a trigger.
    bodies: u32,
}

struct Lexer<'s> {
    script: &'s str,
    at: usize,
    line: usize,
    engine: Engine,
    /// PostgreSQL's type of a position.
    position: &'static str,
    open: Open,
    done: Vec<Statement>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.script.get(self.at..).unwrap_or_default()
    }

    /// The next so many bytes.
    fn take(&mut self, length: usize) -> &'s str {
        let taken = self.rest().get(..length).unwrap_or_else(|| self.rest());
        self.at = self.at.saturating_add(taken.len());
        let breaks = taken.bytes().filter(|byte| *byte == b'\n').count();
        self.line = self.line.saturating_add(breaks);
        taken
    }

    /// The next so many bytes, as a part of the statement.
    fn keep(&mut self, length: usize) {
        if self.open.line == 0 {
            self.open.line = self.line;
        }
        let taken = self.take(length);
        self.open.text.push_str(taken);
    }

    fn failed(&self, message: impl Into<String>, hint: &'static str) -> ScriptError {
        ScriptError {
            line: self.line,
            message: message.into(),
            hint,
        }
    }

    fn token(&mut self) -> Result<(), ScriptError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(());
        };
        if first.is_whitespace() {
            let blank = self.take(first.len_utf8());
            if self.open.line > 0 {
                self.open.text.push_str(blank);
            }
            return Ok(());
        }
        if let Some(length) = self.comment()? {
            let comment = self.take(length);
            if self.open.line > 0 {
                self.open.text.push_str(comment);
            }
            return Ok(());
        }
        if let Some(length) = self.quoted(rest)? {
            return self.quote(length);
        }
        match first {
            ';' if self.open.parentheses == 0 && self.open.bodies == 0 => {
                self.end_statement()?;
                self.take(1);
                return Ok(());
            }
            '{' if rest.starts_with("{{") => self.brace("{"),
            '}' if rest.starts_with("}}") => self.brace("}"),
            '{' => return self.placeholder(),
            '}' => {
                return Err(self.failed("a brace is closed that is not open", BRACES));
            }
            '(' => {
                self.open.parentheses = self.open.parentheses.saturating_add(1);
                self.keep(1);
            }
            ')' => {
                self.open.parentheses = self.open.parentheses.saturating_sub(1);
                self.keep(1);
            }
            _ if is_word_start(first) => self.word(),
            _ => {
                self.refuse_own_parameter(rest)?;
                self.keep(first.len_utf8());
            }
        }
        Ok(())
    }

    /// A brace that is meant as one.
    fn brace(&mut self, brace: &str) {
        self.keep(0);
        self.take(2);
        self.open.text.push_str(brace);
    }

    fn word(&mut self) {
        let rest = self.rest();
        let is_inside = |c: char| is_word_start(c) || c.is_ascii_digit() || c == '$';
        let length = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default().to_ascii_lowercase();
        self.keep(length);
        let begins_body = word == "begin" && makes_body(&self.open.words, self.engine, self.rest());
        let open = &mut self.open;
        match word.as_str() {
            "begin" if begins_body => open.bodies = open.bodies.saturating_add(1),
            "case" if open.bodies > 0 => open.bodies = open.bodies.saturating_add(1),
            "end" => open.bodies = open.bodies.saturating_sub(1),
            _ => {}
        }
        open.ends_with_e = word == "e";
        if open.words.len() < WORDS_MAX || MARKS.contains(&word.as_str()) {
            open.words.push(word);
        }
    }

    /// A quoted text or name, as it is; what looks like a placeholder in it would stay text.
    fn quote(&mut self, length: usize) -> Result<(), ScriptError> {
        let text = self.rest().get(..length).unwrap_or_default();
        if let Some(name) = NAMES.iter().find(|name| text.contains(*name)) {
            return Err(self.failed(
                format!("`{name}` stands within quotes, where it is text and no value"),
                "write it without the quotes: it becomes a parameter of its type",
            ));
        }
        let mut kinds = LiteralKind::ALL.iter();
        if kinds.any(|kind| text.contains(&format!("{{{}:", kind.word()))) {
            return Err(self.failed(
                "a value stands within quotes, where it is text",
                "write ${param:name} without the quotes: it becomes a parameter of its type",
            ));
        }
        self.keep(length);
        Ok(())
    }

    fn placeholder(&mut self) -> Result<(), ScriptError> {
        let rest = self.rest();
        let inside = rest.get(1..).unwrap_or_default();
        let Some((name, _)) = inside.split_once('}') else {
            return Err(self.failed("a brace is not closed", BRACES));
        };
        let parameter = match name.trim() {
            "run.id" => Parameter::RunId,
            "partition.start" => Parameter::PartitionStart,
            "partition.end" => Parameter::PartitionEnd,
            "run.reference_time" => Parameter::ReferenceTime,
            "pipeline" => Parameter::Pipeline,
            "step" => Parameter::Step,
            other => match read_literal(other) {
                Some(parameter) => parameter,
                None => {
                    let name: String = other.chars().take(SHOWN_MAX).collect();
                    return Err(self.failed(format!("`{{{name}}}` is not known here"), KNOWN));
                }
            },
        };
        self.keep(0);
        self.take(name.len().saturating_add(2));
        let open = &mut self.open;
        let at = match open.parameters.iter().position(|one| *one == parameter) {
            Some(at) => at,
            None => {
                open.parameters.push(parameter.clone());
                open.parameters.len().saturating_sub(1)
            }
        };
        let number = at.saturating_add(1);
        let written = if self.engine == Engine::Postgres {
            format!("${number}::{}", postgres_type(&parameter, self.position))
        } else {
            format!("?{number}")
        };
        self.open.text.push_str(&written);
        Ok(())
    }

    /// How long the comment is that comes next, if one does.
    fn comment(&self) -> Result<Option<usize>, ScriptError> {
        let rest = self.rest();
        if rest.starts_with("--") {
            return Ok(Some(rest.find('\n').unwrap_or(rest.len())));
        }
        if !rest.starts_with("/*") {
            return Ok(None);
        }
        let unclosed = || self.failed("a comment is not closed", "close it by */");
        let (mut at, mut depth) = (2_usize, 1_u32);
        while depth > 0 {
            let inside = rest.get(at..).unwrap_or_default();
            let next = inside.char_indices().find(|(_, c)| matches!(c, '*' | '/'));
            let (found, _) = next.ok_or_else(unclosed)?;
            let from = inside.get(found..).unwrap_or_default();
            // Those of PostgreSQL stand within each other.
            let (step, deeper) = match from {
                _ if from.starts_with("*/") => (2, depth.saturating_sub(1)),
                _ if from.starts_with("/*") && self.engine == Engine::Postgres => {
                    (2, depth.saturating_add(1))
                }
                _ => (1, depth),
            };
            depth = deeper;
            at = at.saturating_add(found).saturating_add(step);
        }
        Ok(Some(at))
    }

    /// How long the quoted text or name is that comes next, if one does.
    fn quoted(&self, rest: &str) -> Result<Option<usize>, ScriptError> {
        let length = match (rest.as_bytes(), self.engine) {
            ([b'\'', ..], engine) => {
                let before = self.open.text.as_bytes();
                let is_escaped = engine == Engine::Postgres
                    && matches!(before, [.., b'e' | b'E'])
                    && self.open.ends_with_e;
                single_quoted(rest.get(1..).unwrap_or_default(), is_escaped)
            }
            ([b'"', ..], _) => until_mark(rest, "\""),
            ([b'`', ..], Engine::Sqlite) => until_mark(rest, "`"),
            ([b'[', ..], Engine::Sqlite) => until_mark(rest, "]"),
            ([b'$', ..], Engine::Postgres) => match dollar_mark(rest) {
                None => return Ok(None),
                Some(mark) => {
                    let inside = rest.get(mark.len()..).unwrap_or_default();
                    let end = inside.find(mark);
                    end.map(|end| {
                        end.saturating_add(mark.len().saturating_mul(2))
                            .saturating_sub(1)
                    })
                }
            },
            _ => return Ok(None),
        };
        match length {
            Some(length) => Ok(Some(length.saturating_add(1))),
            None => Err(self.failed("a quote is not closed", "close it")),
        }
    }

    /// A parameter of the server's own would be bound to nothing.
    fn refuse_own_parameter(&self, rest: &str) -> Result<(), ScriptError> {
        let behind = rest.chars().nth(1).unwrap_or(' ');
        let is_own = match (rest.as_bytes(), self.engine) {
            ([b'$', ..], Engine::Postgres) => behind.is_ascii_digit(),
            ([b'?', ..], Engine::Sqlite) => true,
            ([b':' | b'@' | b'$', ..], Engine::Sqlite) => {
                is_word_start(behind) || behind.is_ascii_digit()
            }
            _ => false,
        };
        if is_own {
            return Err(self.failed("a parameter that nothing is bound to", KNOWN));
        }
        Ok(())
    }

    /// The statement is over.
    fn end_statement(&mut self) -> Result<(), ScriptError> {
        let open = std::mem::take(&mut self.open);
        if open.line == 0 {
            return Ok(());
        }
        if let Some(why) = stands_alone(&open.words, self.engine) {
            return Err(ScriptError {
                line: open.line,
                message: why,
                hint: ALONE,
            });
        }
        self.done.push(Statement {
            text: open.text.trim_end().to_owned(),
            parameters: open.parameters,
            line: open.line,
            changes_rows: changes_rows(&open.words),
        });
        Ok(())
    }
}

/// What may stand in braces.
const NAMES: [&str; 6] = [
    "{run.id}",
    "{run.reference_time}",
    "{pipeline}",
    "{step}",
    "{partition.start}",
    "{partition.end}",
];
const KNOWN: &str = "write {run.id}, {run.reference_time}, {pipeline}, {step}, {partition.start}, {partition.end} or \
     ${param:name}";
const BRACES: &str = "a brace itself is written twice";
const ALONE: &str = "all statements of a step are one transaction with its receipt: leave it out, or run \
     it elsewhere";

#[cfg(test)]
mod tests;
