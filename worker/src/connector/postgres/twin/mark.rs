//! The mark of a table that was made and is not built yet, in its comment: which stream has made it.
//! It goes wherever the table goes, and away with it.

use highwater_common::spec::TableName;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::connector::sql_text::{Dialect, Sql, quoted_table};

const BEGINS: &str = "highwater: ";

/// The statement that marks a table.
pub(super) fn mark(table: &TableName, stream: &str) -> Sql {
    let said = json!({ "kind": "unfinished", "stream": stream });
    comment(table, Some(&format!("{BEGINS}{said}")))
}

/// The statement that gives a table its comment, and takes its mark away.
pub(super) fn comment(table: &TableName, comment: Option<&str>) -> Sql {
    let sql = Sql::new(Dialect::Postgres, "comment on table ").table(table);
    match comment {
        Some(comment) => sql.text(" is ").literal(comment),
        None => sql.text(" is null"),
    }
}

/// Whether the stream has made the table, and it is not built yet.
pub(in super::super) async fn is_unfinished(
    conn: &mut PgConnection,
    table: &TableName,
    stream: &str,
) -> Result<bool, sqlx::Error> {
    let found = sqlx::query_scalar::<_, Option<String>>(
        "select obj_description(to_regclass($1), 'pg_class')",
    )
    .bind(quoted_table(table))
    .fetch_one(conn)
    .await?;
    Ok(found.is_some_and(|comment| is_mark_of(&comment, stream)))
}

fn is_mark_of(comment: &str, stream: &str) -> bool {
    let said = comment.strip_prefix(BEGINS);
    let said = said.and_then(|said| serde_json::from_str::<Value>(said).ok());
    said.is_some_and(|said| said["kind"] == "unfinished" && said["stream"] == stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_made_a_table_finishes_it() {
        let table = TableName {
            schema: None,
            name: "t".to_owned(),
        };
        let marked = mark(&table, "p/s/it's");
        let said = marked.as_str().split_once(" is '").expect("a comment").1;
        let said = said.trim_end_matches('\'').replace("''", "'");
        assert!(is_mark_of(&said, "p/s/it's"));
        assert!(!is_mark_of(&said, "p/s/other"));
        assert!(!is_mark_of("orders of the shop", "p/s/it's"));
    }
}
