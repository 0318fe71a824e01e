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

/// Words that are looked for however late they come.
pub(super) const MARKS: [&str; 3] = ["concurrently", "stdin", "stdout"];

/// Whether a `begin` behind these words, and before the rest, opens a body of statements: that of a
/// trigger of SQLite, or of a function in standard SQL.
pub(super) fn makes_body(words: &[String], engine: Engine, rest: &str) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).take(4).collect();
    if engine == Engine::Sqlite {
        return matches!(
            words.as_slice(),
            ["create", "trigger", ..] | ["create", "temp" | "temporary", "trigger", ..]
        );
    }
    let is_made = matches!(
        words.as_slice(),
        ["create", "function" | "procedure", ..]
            | ["create", "or", "replace", "function" | "procedure", ..]
    );
    let next = rest.trim_start().get(..6).unwrap_or_default();
    is_made && next.eq_ignore_ascii_case("atomic")
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
