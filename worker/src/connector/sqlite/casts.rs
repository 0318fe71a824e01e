//! Columns that are read as another type. SQLite's casts never fail: what is no number is cast to
//! zero.

use std::collections::BTreeMap;

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::ColumnFacts;
use highwater_common::spec::TableName;
use sqlx::sqlite::SqliteConnection;

use super::catalog::{Affinity, affinity, kind_of};
use super::errors::DatabaseFile;
use super::sql;
use crate::connector::ConnectorError;

/// What arrives of a table's columns where some of them are cast: column → type.
///
/// # Errors
/// Permanent `cast_impossible` for what is no type to SQLite.
pub(super) async fn cast_columns(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    table: &TableName,
    columns: Vec<ColumnFacts>,
    casts: &BTreeMap<String, String>,
) -> Result<Vec<ColumnFacts>, ConnectorError> {
    let mut arriving = Vec::with_capacity(columns.len());
    for column in columns {
        let found = casts
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
        let Some((_, type_name)) = found else {
            arriving.push(column);
            continue;
        };
        let to = ColumnFacts {
            name: column.name.clone(),
            type_name: type_name.clone(),
            kind: kind_of(type_name),
            nullable: false,
            binary_portable: false,
            definition: None,
            origin: None,
        };
        let arrives = to.cast_of(column);
        let select = format!(
            "select {} from {} limit 0",
            read(&arrives),
            sql::table(table)
        );
        let is_type = sql::once(select).fetch_optional(&mut *conn).await.is_ok();
        if !is_type || is_number_by_mistake(type_name) {
            let message = format!(
                "column `{}` of `{table}` is to be cast to `{type_name}`, which is no type that \
                 SQLite casts to: it knows TEXT, INTEGER, REAL, NUMERIC and BLOB; name one of them \
                 in `from.columns`",
                arrives.source_name()
            );
            return Err(place.permanent(ErrorCode::CastImpossible, message));
        }
        arriving.push(arrives);
    }
    Ok(arriving)
}

/// SQLite takes a name that it does not know for a number's: DATE would make 2013 of 2013-01-01.
fn is_number_by_mistake(type_name: &str) -> bool {
    let name = type_name.to_ascii_uppercase();
    let is_meant = name.contains("NUM") || name.contains("DEC");
    affinity(type_name) == Affinity::Numeric && !is_meant
}

/// A column as it is selected: cast, where it is.
pub(super) fn read(column: &ColumnFacts) -> String {
    let name = sql::ident(column.source_name());
    match column.cast_from() {
        Some(_) => format!("cast({name} as {})", column.type_name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::is_number_by_mistake;

    #[test]
    fn a_name_that_sqlite_does_not_know_is_no_wish_for_a_number() {
        for name in ["DATE", "datetime", "boolean", "uuid", "timestamp"] {
            assert!(is_number_by_mistake(name), "{name}");
        }
        for name in [
            "text",
            "INTEGER",
            "real",
            "numeric",
            "decimal(12,2)",
            "BLOB",
            "varchar(3)",
        ] {
            assert!(!is_number_by_mistake(name), "{name}");
        }
    }
}
