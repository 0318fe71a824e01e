//! A table that is made like another file's: by the text of its statement behind the name, and by
//! those of its indexes. All of it is made with the table: a file has no other writers whom building
//! an index later would spare.

use highwater_common::facts::{ColumnDefinition, DefinedPart, PartKind, TableDefinition};
use highwater_common::spec::TableName;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::catalog::Table;
use super::errors::DatabaseFile;
use super::sql;
use crate::connector::ConnectorError;

/// What a table is made of; `None` of a view, and of a table whose rows are elsewhere.
pub(super) async fn read_definition(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    name: &TableName,
    table: &Table,
) -> Result<Option<TableDefinition>, ConnectorError> {
    let failed = || place.failed(format!("read the definition of {name}"));
    let schema = sql::ident(sql::schema(name));
    let found = format!(
        "select type, name, sql from {schema}.sqlite_schema where tbl_name = ?1 collate nocase and \
         sql is not null order by rowid"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(found))
        .persistent(false)
        .bind(&name.name)
        .fetch_all(&mut *conn)
        .await
        .map_err(failed())?;
    let columns = table.columns.iter().filter(|column| !column.generated);
    let columns = columns.map(|column| ColumnDefinition {
        name: column.facts.name.clone(),
        ..ColumnDefinition::default()
    });
    let mut definition = TableDefinition {
        columns: columns.collect(),
        ..TableDefinition::default()
    };
    for row in rows {
        let (kind, name, text): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        // A file that somebody has tampered with may say more than the catalog ever keeps.
        if !is_single(&text) {
            definition
                .untold
                .push(format!("its {kind} {name}, which is no single statement"));
            continue;
        }
        match kind.as_str() {
            "table" => definition.body = behind_name(&text, "CREATE TABLE ").map(str::to_owned),
            "index" => definition.parts.extend(index(&name, &text)),
            _ => definition.untold.push(format!("its {kind} {name}")),
        }
    }
    Ok(Some(definition).filter(|definition| definition.body.is_some()))
}

/// An index that somebody has made. Those that a key makes are of the table's own statement.
fn index(name: &str, text: &str) -> Option<DefinedPart> {
    let (kind, behind) = match behind_name(text, "CREATE UNIQUE INDEX ") {
        Some(behind) => (PartKind::UniqueIndex, behind),
        None => (PartKind::Index, behind_name(text, "CREATE INDEX ")?),
    };
    let behind = behind.trim_start();
    let on = behind.get(..2).filter(|on| on.eq_ignore_ascii_case("on"));
    let behind = on.and_then(|_| behind_name(behind.get(2..)?.trim_start(), ""))?;
    Some(DefinedPart {
        definition: behind.to_owned(),
        is_early: true,
        ..DefinedPart::new(kind, name)
    })
}

/// Whether a text ends no statement: outside of quotes and comments it has no semicolon.
fn is_single(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        let next = rest.peek().copied();
        let ends = match (char, next) {
            (';', _) => true,
            // Twice is the sign itself: what follows is quoted again.
            ('\'' | '"' | '`', _) => !rest.by_ref().any(|other| other == char),
            ('[', _) => !rest.by_ref().any(|other| other == ']'),
            ('-', Some('-')) => {
                rest.by_ref().any(|other| other == '\n');
                false
            }
            ('/', Some('*')) => {
                rest.next();
                let mut before = ' ';
                rest.by_ref()
                    .any(|other| std::mem::replace(&mut before, other) == '*' && other == '/');
                false
            }
            _ => false,
        };
        if ends {
            return false;
        }
    }
    true
}

/// What stands behind the name in a statement that begins so, as the catalog keeps it.
fn behind_name<'a>(text: &'a str, begins: &str) -> Option<&'a str> {
    let text = text.strip_prefix(begins)?;
    let first = text.chars().next()?;
    let close = match first {
        '"' | '`' | '\'' => first,
        '[' => ']',
        _ => {
            let is_plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            return text.get(text.find(|c| !is_plain(c))?..);
        }
    };
    let mut rest = text.get(first.len_utf8()..)?;
    loop {
        rest = rest.get(rest.find(close)? + close.len_utf8()..)?;
        // Twice is the sign itself, within the name.
        match rest.strip_prefix(close).filter(|_| close != ']') {
            Some(behind) => rest = behind,
            None => return Some(rest),
        }
    }
}

/// Makes a table like another file's, in the caller's transaction.
pub(super) async fn make(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    table: &TableName,
    twin: &TableDefinition,
    body: &str,
) -> Result<(), ConnectorError> {
    let failed = || place.failed(format!("create table {table}"));
    let create = format!("create table {}{body}", sql::table(table));
    sql::run(conn, sql::once(create)).await.map_err(failed())?;
    let schema = sql::ident(sql::schema(table));
    for part in &twin.parts {
        let unique = match part.kind {
            PartKind::UniqueIndex => "unique ",
            _ => "",
        };
        let own = format!("{}_{}", table.name, part.name);
        let taken = format!("select 1 from {schema}.sqlite_schema where name = ? collate nocase");
        let taken = sql::once(taken)
            .bind(&part.name)
            .fetch_optional(&mut *conn)
            .await;
        let name = match taken.map_err(failed())? {
            Some(_) => own.as_str(),
            None => part.name.as_str(),
        };
        let create = format!(
            "create {unique}index {schema}.{} on {}{}",
            sql::ident(name),
            sql::ident(&table.name),
            part.definition
        );
        sql::run(conn, sql::once(create)).await.map_err(failed())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_of_several_statements_is_none() {
        for text in [
            "CREATE TABLE t (a)",
            "CREATE TABLE t (a default ';', \"b;\" int, [c;] int, `d;` int, e default 'it''s; so')",
            "CREATE TABLE t (a -- ; \n, b /* ; */ int)",
        ] {
            assert!(is_single(text), "{text}");
        }
        for text in [
            "CREATE TABLE t (a); drop table victim",
            "CREATE TABLE t (a default 'x'); drop table victim",
            "CREATE TABLE t (a /* */); drop table victim",
            "CREATE TABLE t (a -- ' \n); drop table victim",
        ] {
            assert!(!is_single(text), "{text}");
        }
    }

    #[test]
    fn what_stands_behind_a_name_is_found_however_that_is_quoted() {
        for name in [
            "t",
            "\"a \"\" (b\"",
            "[a (b\"]",
            "`a``(`",
            "'it''s'",
            "größe_1",
        ] {
            let text = format!("CREATE TABLE {name} (a, b) STRICT");
            assert_eq!(
                behind_name(&text, "CREATE TABLE "),
                Some(" (a, b) STRICT"),
                "{name}"
            );
        }
        assert_eq!(
            behind_name("CREATE TABLE t(a)", "CREATE TABLE "),
            Some("(a)")
        );
        assert_eq!(
            behind_name("CREATE VIRTUAL TABLE t USING x", "CREATE TABLE "),
            None
        );
        assert_eq!(behind_name("CREATE TABLE \"t", "CREATE TABLE "), None);
    }

    #[test]
    fn an_index_is_what_stands_behind_its_table() {
        let found = index("i", "CREATE UNIQUE INDEX \"i\" on [t x](a) where b > 0").unwrap();
        assert_eq!(
            (found.kind, found.definition.as_str()),
            (PartKind::UniqueIndex, "(a) where b > 0")
        );
        assert!(index("i", "CREATE INDEX i").is_none());
    }
}
