//! What a statement is, by its first words.

use crate::engine::Engine;

/// How a statement begins that changes rows.
const CHANGING: [&str; 7] = [
    "insert", "update", "delete", "merge", "replace", "with", "copy",
];
/// Whether the number that the server answers with is one of rows that the statement has changed.
pub(super) fn changes_rows(words: &[String]) -> bool {
    let verb = words.first();
    verb.is_some_and(|verb| CHANGING.contains(&verb.as_str()))
}

/// Whether a statement that begins with these words has a body of statements between `begin` and
/// `end`.
pub(super) fn makes_body(words: &[String]) -> bool {
    const MADE: [&str; 3] = ["function", "procedure", "trigger"];
    let is_create = words.first().is_some_and(|word| word == "create");
    is_create
        && words
            .iter()
            .take(4)
            .any(|word| MADE.contains(&word.as_str()))
}

/// Why a statement that begins with these words cannot be part of a transaction with others.
pub(super) fn stands_alone(words: &[String], engine: Engine) -> Option<String> {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let first = word(0);
    if matches!(
        (first, word(1)),
        (
            "begin" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release",
            _
        ) | ("start" | "prepare", "transaction")
    ) {
        return Some(format!("`{first}` controls a transaction"));
    }
    let alone = |what: &str| Some(format!("`{what}` cannot be part of a transaction"));
    match (engine, first, word(1)) {
        (_, "vacuum", _) => alone(first),
        (
            Engine::Postgres,
            "create" | "drop",
            of @ ("database" | "tablespace" | "subscription"),
        )
        | (Engine::Postgres, "alter", of @ "system")
        | (Engine::Postgres, "discard", of @ "all") => alone(&format!("{first} {of}")),
        (Engine::Postgres, "create" | "drop" | "reindex" | "alter", _) if has("concurrently") => {
            alone(&format!("{first} … concurrently"))
        }
        (Engine::Postgres, "copy", _) if has("stdin") || has("stdout") => Some(
            "`copy` from or to the client: nobody sends the rows, and nobody takes them".to_owned(),
        ),
        (Engine::Sqlite, "attach" | "detach" | "pragma", _) => alone(first),
        _ => None,
    }
}
