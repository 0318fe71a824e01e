//! The mark of a shadow or of a kept table, in its comment: whose it is, since when, and what is
//! still to be checked. It goes wherever the table goes, and away with it. Whoever may write the
//! comment may write anything, so nothing of it is run: it names, and no more.

use highwater_common::id::RunId;
use highwater_common::spec::TableName;
use highwater_common::token::FencingToken;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row};

use super::carried::Key;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ShadowFound, ShadowKind};

/// How a mark begins.
const BEGINS: &str = "highwater: ";

/// What is said of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) kind: ShadowKind,
    pub(super) attempt: Option<FencingToken>,
    pub(super) of: TableName,
    pub(super) run: RunId,
    pub(super) stream: String,
    /// By the server's clock.
    pub(super) since_micros: i64,
    /// Foreign keys that the exchange left unchecked.
    pub(super) unchecked: Vec<Key>,
}

impl Mark {
    fn text(&self) -> String {
        let unchecked = self.unchecked.iter().map(
            |key| json!({ "schema": key.table.schema, "table": key.table.name, "key": key.name }),
        );
        let unchecked: Vec<Value> = unchecked.collect();
        let said = json!({
            "kind": match self.kind {
                ShadowKind::Shadow => "shadow",
                ShadowKind::Kept => "kept",
                ShadowKind::Stage => "stage",
            },
            "attempt": self.attempt.map(FencingToken::raw),
            "schema": self.of.schema,
            "table": self.of.name,
            "run": self.run.to_string(),
            "stream": self.stream,
            "since": self.since_micros,
            "unchecked": unchecked,
        });
        format!("{BEGINS}{said}")
    }

    /// The mark that a comment is; `None` of somebody's own words.
    pub(super) fn of_comment(comment: &str) -> Option<Self> {
        let said: Value = serde_json::from_str(comment.strip_prefix(BEGINS)?).ok()?;
        Some(Self {
            kind: match text(&said, "kind")?.as_str() {
                "shadow" => ShadowKind::Shadow,
                "kept" => ShadowKind::Kept,
                "stage" => ShadowKind::Stage,
                _ => return None,
            },
            attempt: said
                .get("attempt")
                .and_then(Value::as_i64)
                .map(FencingToken::from_raw),
            of: table(&said)?,
            run: text(&said, "run")?.parse().ok()?,
            stream: text(&said, "stream")?,
            since_micros: said.get("since")?.as_i64()?,
            unchecked: said
                .get("unchecked")?
                .as_array()?
                .iter()
                .filter_map(key)
                .collect(),
        })
    }

    /// The statement that puts the mark on a table.
    pub(super) fn statement(&self, table: &TableName) -> Sql {
        let on = Sql::new(Dialect::Postgres, "comment on table ").table(table);
        on.text(" is ").literal(&self.text())
    }
}

fn text(of: &Value, key: &str) -> Option<String> {
    of.get(key)?.as_str().map(str::to_owned)
}

fn table(of: &Value) -> Option<TableName> {
    Some(TableName {
        schema: text(of, "schema"),
        name: text(of, "table")?,
    })
}

fn key(of: &Value) -> Option<Key> {
    Some(Key {
        table: table(of)?,
        name: text(of, "key")?,
    })
}

/// A table that is marked.
pub(super) struct Marked {
    pub(super) found: ShadowFound,
    pub(super) mark: Mark,
}

/// Every table that is marked, and has a name of ours: one that took a place has neither.
pub(super) async fn read_marks(conn: &mut PgConnection) -> Result<Vec<Marked>, sqlx::Error> {
    let rows = sqlx::query(
        "select n.nspname::text as schema, c.relname::text as name, c.oid::text as identity, \
         d.description as mark from pg_description d join pg_class c on c.oid = d.objoid \
         join pg_namespace n on n.oid = c.relnamespace \
         where d.classoid = 'pg_class'::regclass and d.objsubid = 0 and c.relkind = 'r' \
         and starts_with(c.relname::text, '_highwater_') and starts_with(d.description, $1) \
         order by 1, 2",
    )
    .bind(BEGINS)
    .fetch_all(conn)
    .await?;
    let mut found = Vec::new();
    for row in rows {
        let Some(mark) = Mark::of_comment(&row.try_get::<String, _>("mark")?) else {
            continue;
        };
        found.push(Marked {
            found: ShadowFound {
                table: TableName {
                    schema: row.try_get("schema")?,
                    name: row.try_get("name")?,
                },
                identity: row.try_get("identity")?,
                of: mark.of.clone(),
                kind: mark.kind,
                attempt: mark.attempt,
                run: mark.run,
                stream: mark.stream.clone(),
                since_micros: mark.since_micros,
            },
            mark,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nobodys_words_are_one() {
        let name = |name: &str| TableName {
            schema: Some("sh'op".to_owned()),
            name: name.to_owned(),
        };
        let mark = Mark {
            kind: ShadowKind::Kept,
            attempt: None,
            of: name("ord\"ers"),
            run: RunId::from_bytes([7; 16]),
            stream: "shop/orders/legacy:orders/orders".to_owned(),
            since_micros: 1_700_000_000_000_001,
            unchecked: vec![Key {
                table: name("lines"),
                name: "of order".to_owned(),
            }],
        };
        assert_eq!(Mark::of_comment(&mark.text()), Some(mark.clone()));
        for words in [
            "",
            "orders",
            "highwater: ",
            "highwater: {}",
            "highwater: [1]",
        ] {
            assert_eq!(Mark::of_comment(words), None, "{words}");
        }
    }
}
