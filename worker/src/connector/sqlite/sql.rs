//! SQL text: the one place of this connector that turns names into statements.
//!
//! Only identifiers are ever written into a statement, and always quoted; values are bound.

use futures_util::TryStreamExt;
use highwater_common::spec::TableName;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Either, Executor, IntoArguments, Sqlite};

use super::position::{Bound, Condition};

/// The most placeholders that one statement may have.
pub(super) const VARIABLES_MAX: usize = 32_766;

/// `name` as an identifier.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `table` as a qualified identifier. Without a schema it is `main`'s, so that no temporary table
/// can stand before it.
pub(super) fn table(table: &TableName) -> String {
    format!("{}.{}", ident(schema(table)), ident(&table.name))
}

/// The schema that a table name means.
pub(super) fn schema(table: &TableName) -> &str {
    table.schema.as_deref().unwrap_or("main")
}

/// The names as a list of identifiers.
pub(super) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// A statement that was put together here, run once: kept out of the cache of prepared statements.
pub(super) fn once<'q>(text: String) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(AssertSqlSafe(text)).persistent(false)
}

/// [`once`], with the values of the condition's placeholders.
pub(super) fn bound<'q>(text: String, condition: &Condition) -> Query<'q, Sqlite, SqliteArguments> {
    condition
        .bounds
        .iter()
        .fold(once(text), |query, bound| match bound {
            Bound::Integer(value) => query.bind(*value),
            Bound::Text(value) => query.bind(value.clone()),
        })
}

/// Runs one statement and gives the rows it changed.
///
/// # Errors
/// Also when the connection's thread ended before it said that the statement is done: the driver's
/// own `execute` takes the silence for a statement that changed nothing, and a COMMIT must not be
/// believed on silence.
pub(super) async fn run<'q, A>(
    conn: &mut SqliteConnection,
    query: Query<'q, Sqlite, A>,
) -> Result<u64, sqlx::Error>
where
    A: IntoArguments<Sqlite> + Send + 'q,
{
    let mut steps = Executor::fetch_many(conn, query);
    let mut done = None;
    while let Some(step) = steps.try_next().await? {
        match step {
            Either::Left(result) => done = Some(result.rows_affected()),
            Either::Right(_row) => {}
        }
    }
    done.ok_or(sqlx::Error::WorkerCrashed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_name_stays_a_part_of_the_name() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(
            table(&TableName {
                schema: None,
                name: "t; drop".to_owned()
            }),
            "\"main\".\"t; drop\""
        );
        assert_eq!(idents(["a", "b"]), "\"a\", \"b\"");
    }
}
