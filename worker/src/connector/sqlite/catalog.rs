//! What SQLite's catalog says of a table.

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind, TargetTableFacts};
pub(super) use highwater_common::plan::{Affinity, affinity};
use highwater_common::spec::TableName;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::errors::DatabaseFile;
use super::sql;
use crate::connector::ConnectorError;

/// Tables that begin so are the ledger's: never a source, never a target.
pub(super) const LEDGER_PREFIX: &str = "_highwater_";
/// Names listed in a message at most.
const NAMES_LISTED_MAX: usize = 20;

/// A column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) facts: ColumnFacts,
    pub(super) has_default: bool,
    /// Computed from other columns: can be read, not written.
    pub(super) generated: bool,
}

/// A table as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// The primary key's columns.
    pub(super) primary_key: Vec<String>,
    /// The columns of each unique index that covers all rows.
    unique: Vec<Vec<String>>,
    /// First columns of the indexes that cover all rows, the primary key among them.
    leading: Vec<String>,
    /// A table with row ids, whose largest one is an estimate of its size.
    pub(super) has_rowid: bool,
}

impl Table {
    /// The column of this name, as SQLite compares names.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns
            .iter()
            .find(|column| column.facts.name.eq_ignore_ascii_case(name))
    }

    /// The primary key, or the first unique key of NOT NULL columns.
    pub(super) fn key(&self) -> Vec<String> {
        if !self.primary_key.is_empty() {
            return self.primary_key.clone();
        }
        let not_null = |name: &String| {
            self.column(name)
                .is_some_and(|column| !column.facts.nullable)
        };
        self.unique
            .iter()
            .find(|key| key.iter().all(not_null))
            .cloned()
            .unwrap_or_default()
    }

    /// The primary key, and every unique index of other columns.
    fn unique_keys(&self) -> Vec<Vec<String>> {
        let primary = Some(self.primary_key.clone()).filter(|key| !key.is_empty());
        let others = self.unique.iter().filter(|key| **key != self.primary_key);
        primary.into_iter().chain(others.cloned()).collect()
    }

    /// The table as a plan compares it with the rows; what takes a look at its rows is left at its
    /// least.
    pub(super) fn as_target(&self) -> TargetTableFacts {
        let names_where = |holds: &dyn Fn(&Column) -> bool| {
            self.columns
                .iter()
                .filter(|column| holds(column))
                .map(|column| column.facts.name.clone())
                .collect()
        };
        // A row id that no row brings is made by SQLite.
        let is_rowid =
            |column: &Column| self.has_rowid && self.primary_key == [column.facts.name.as_str()];
        TargetTableFacts {
            columns: self
                .columns
                .iter()
                .map(|column| column.facts.clone())
                .collect(),
            generated: names_where(&|column| column.generated),
            defaulted: names_where(&|column| column.has_default || is_rowid(column)),
            key: self.key(),
            unique: self.unique_keys(),
            partition_form: None,
            partition_indexed: false,
            has_rows: false,
            unfinished: false,
            reactions: Vec::new(),
            exchange: None,
            referenced_by: Vec::new(),
        }
    }

    /// Whether an index leads with the column.
    pub(super) fn leads_with(&self, column: &str) -> bool {
        self.leading
            .iter()
            .any(|name| name.eq_ignore_ascii_case(column))
    }

    /// The columns' names for a message.
    pub(super) fn column_names(&self) -> String {
        listed(self.columns.iter().map(|column| column.facts.name.as_str()))
    }
}

/// What a column of a declared type holds, where the type says it.
pub(super) fn kind_of(type_name: &str) -> ColumnKind {
    match affinity(type_name) {
        Affinity::Integer => ColumnKind::Int64,
        Affinity::Text => ColumnKind::Text,
        Affinity::Real => ColumnKind::Float64,
        Affinity::Blob if !type_name.trim().is_empty() => ColumnKind::Bytes,
        // DATE, DATETIME, BOOLEAN and DECIMAL mean nothing to SQLite: each value is what it was
        // written as.
        Affinity::Blob | Affinity::Numeric => ColumnKind::Any,
    }
}

/// The table, or an error that names what there is instead.
pub(super) async fn existing(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    name: &TableName,
) -> Result<Table, ConnectorError> {
    if let Some(table) = find(conn, place, name).await? {
        return Ok(table);
    }
    let what = "list the tables";
    let names: Vec<String> = sqlx::query_scalar(
        "select name from sqlite_schema where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\'
         and name not like '\\_highwater\\_%' escape '\\' order by name",
    )
    .fetch_all(conn)
    .await
    .map_err(place.failed(what))?;
    let there = if names.is_empty() {
        "no tables".to_owned()
    } else {
        listed(names.iter().map(String::as_str))
    };
    Err(place.permanent(
        ErrorCode::UnknownTable,
        format!("there is no table `{name}`; the file has {there}"),
    ))
}

/// The table, or `None` when there is none of this name.
pub(super) async fn find(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    name: &TableName,
) -> Result<Option<Table>, ConnectorError> {
    if name.name.to_ascii_lowercase().starts_with(LEDGER_PREFIX) {
        let message = format!(
            "`{name}` belongs to Highwater's ledger and is no table of yours; name another"
        );
        return Err(place.permanent(ErrorCode::LedgerTable, message));
    }
    let failed = || place.failed(format!("read the catalog of {name}"));
    let schema = sql::schema(name);
    let Some(row) = sqlx::query(
        "select type, wr from pragma_table_list(?1) where name = ?1 collate nocase and schema = ?2 \
         collate nocase",
    )
    .bind(&name.name)
    .bind(schema)
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed())?
    else {
        return Ok(None);
    };
    // A virtual table, as a view, declares what it likes.
    let is_stored = matches!(row.get::<String, _>(0).as_str(), "table" | "shadow");
    let has_rowid = is_stored && row.get::<i64, _>(1) == 0;
    let storage = match (is_stored, has_rowid) {
        (false, _) => Storage::Elsewhere,
        (true, true) => Storage::ByRowId,
        (true, false) => Storage::ByKey,
    };
    let (columns, primary_key) = columns_of(conn, name, storage).await.map_err(failed())?;
    let mut table = Table {
        columns,
        primary_key,
        unique: Vec::new(),
        leading: Vec::new(),
        has_rowid,
    };
    table.leading.extend(table.primary_key.first().cloned());
    read_indexes(conn, name, &mut table)
        .await
        .map_err(failed())?;
    Ok(Some(table))
}

/// Where a table's rows are: that decides what its NOT NULL and its primary key promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    /// Under their row ids: a primary key may hold NULL, except where it is the row id itself.
    ByRowId,
    /// Under their primary key, which holds no NULL.
    ByKey,
    /// In other tables, or outside of SQLite: nobody makes the rows keep to anything.
    Elsewhere,
}

async fn columns_of(
    conn: &mut SqliteConnection,
    name: &TableName,
    storage: Storage,
) -> Result<(Vec<Column>, Vec<String>), sqlx::Error> {
    let rows = sqlx::query(
        "select name, type, \"notnull\", dflt_value is not null, pk, hidden from pragma_table_xinfo(?1, ?2)
         where hidden <> 1 order by cid",
    )
    .bind(&name.name)
    .bind(sql::schema(name))
    .fetch_all(&mut *conn)
    .await?;
    let mut key: Vec<(i64, String)> = Vec::new();
    for row in &rows {
        let place_in_key = row.get::<i64, _>(4);
        if place_in_key > 0 {
            key.push((place_in_key, row.get(0)));
        }
    }
    key.sort();
    // A key that is the row id has no index of its own. `integer primary key desc` has one, and
    // takes NULL.
    let has_key_index: bool = sqlx::query_scalar(
        "select exists (select 1 from pragma_index_list(?1, ?2) where origin = \
                            'pk')",
    )
    .bind(&name.name)
    .bind(sql::schema(name))
    .fetch_one(conn)
    .await?;
    let is_key_kept = match storage {
        Storage::ByRowId => key.len() == 1 && !has_key_index,
        Storage::ByKey => true,
        Storage::Elsewhere => false,
    };
    let columns = rows
        .iter()
        .map(|row| {
            let type_name: String = row.get(1);
            let in_key = row.get::<i64, _>(4) > 0;
            let is_declared = row.get::<i64, _>(2) != 0 && storage != Storage::Elsewhere;
            let never_null = is_declared || (in_key && is_key_kept);
            let facts = ColumnFacts {
                name: row.get(0),
                kind: kind_of(&type_name),
                type_name,
                nullable: !never_null,
                binary_portable: false,
                definition: None,
                origin: None,
            };
            Column {
                facts,
                has_default: row.get::<i64, _>(3) != 0,
                generated: row.get::<i64, _>(5) > 1,
            }
        })
        .collect();
    Ok((columns, key.into_iter().map(|(_, name)| name).collect()))
}

async fn read_indexes(
    conn: &mut SqliteConnection,
    name: &TableName,
    table: &mut Table,
) -> Result<(), sqlx::Error> {
    let schema = sql::schema(name);
    let indexes = sqlx::query(
        "select name, \"unique\" from pragma_index_list(?1, ?2) where partial = 0 \
                     order by seq desc",
    )
    .bind(&name.name)
    .bind(schema)
    .fetch_all(&mut *conn)
    .await?;
    for index in indexes {
        // An index on an expression has no name there.
        let columns: Vec<Option<String>> =
            sqlx::query_scalar("select name from pragma_index_info(?1, ?2) order by seqno")
                .bind(index.get::<String, _>(0))
                .bind(schema)
                .fetch_all(&mut *conn)
                .await?;
        table.leading.extend(columns.first().cloned().flatten());
        let named: Option<Vec<String>> = columns.into_iter().collect();
        if let (true, Some(named)) = (index.get::<i64, _>(1) != 0, named) {
            table.unique.push(named);
        }
    }
    Ok(())
}

/// Names for a message: at most [`NAMES_LISTED_MAX`] of them.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let mut text = names
        .iter()
        .take(NAMES_LISTED_MAX)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMES_LISTED_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMES_LISTED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_sqlites_own_affinities() {
        for (type_name, expected) in [
            ("BIGINT", Affinity::Integer),
            ("varchar(20)", Affinity::Text),
            ("", Affinity::Blob),
            ("double precision", Affinity::Real),
            ("decimal(12,2)", Affinity::Numeric),
            ("timestamp with time zone", Affinity::Numeric),
            ("CHARINT", Affinity::Integer),
        ] {
            assert_eq!(affinity(type_name), expected, "{type_name}");
        }
        assert_eq!(kind_of(""), ColumnKind::Any);
        assert_eq!(kind_of("BLOB"), ColumnKind::Bytes);
        assert_eq!(kind_of("DATETIME"), ColumnKind::Any);
    }
}
