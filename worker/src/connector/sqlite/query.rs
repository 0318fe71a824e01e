//! A source that is a query: a view of the session's own, which is then read as any other.

use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{Relation, TableName};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Column, Executor, SqlSafeStr, Statement};

use super::errors::DatabaseFile;
use super::sql;
use crate::connector::ConnectorError;
use crate::connector::sql_text::described_query;

/// The table that a step reads, by its name in this session: a query becomes a view. The file is
/// opened to be read only, and a view of several statements, or of one that writes, is none.
///
/// # Errors
/// Permanent `query_refused`.
pub(super) async fn readable(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    relation: &Relation,
) -> Result<TableName, ConnectorError> {
    let text = match relation {
        Relation::Table(table) => return Ok(table.clone()),
        Relation::Query(text) => text,
    };
    let refuse = |why: String| {
        let message = format!("{relation} cannot be read: {why}");
        place.permanent(ErrorCode::QueryRefused, message)
    };
    let view = TableName {
        schema: Some("temp".to_owned()),
        name: "highwater_query".to_owned(),
    };
    let make = format!("create view {} as {text}", sql::table(&view));
    if let Err(error) = sql::run(conn, sql::once(make)).await {
        let told = place
            .driver(&format!("read {relation}"), error)
            .report
            .message;
        return Err(refuse(format!(
            "{told}; `from.query` is one SELECT that only reads"
        )));
    }
    let prepared = conn.prepare(described_query(text).into_sql_str()).await;
    let prepared = prepared.map_err(place.failed(format!("read {relation}")))?;
    let names: Vec<&str> = prepared.columns().iter().map(Column::name).collect();
    for (at, name) in names.iter().enumerate() {
        if !is_name(name) {
            let nth = at + 1;
            return Err(refuse(format!(
                "column {nth} has no name; give it one by `as`"
            )));
        }
        let mut before = names.iter().take(at);
        if before.any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(refuse(format!(
                "two columns are called {name}; give one of them another name by `as`"
            )));
        }
    }
    Ok(view)
}

/// Whether somebody has given the name: a column without one is called by its expression.
fn is_name(name: &str) -> bool {
    let is_of_a_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ' ' | '$' | '-' | '.');
    name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(is_of_a_word)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn an_expression_is_no_name() {
        for name in ["id", "as of", "_x", "Größe", "a-b"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["count(*)", "1", "a + b", "'x'", "", "max(a)"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
