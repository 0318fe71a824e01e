//! Reads what the catalog says of a table: columns, keys, indexes.
//! Never reads a row of it.

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, TargetTableFacts};
use highwater_common::spec::{Relation, TableName};
use sqlx::{PgConnection, Row};

use super::columns::{Column, read_columns};
use super::errors::{classify, permanent};
use super::ledger;
use super::session::Endpoint;
use crate::connector::ConnectorError;
use crate::connector::sql_text::quoted_table;

/// How many names an error lists.
const NAMES_MAX: usize = 10;

/// A table of the catalog.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) columns: Vec<Column>,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.facts.name == name)
    }

    /// The columns that can be written and read as rows: all but the generated ones.
    pub(super) fn facts(&self) -> impl Iterator<Item = &ColumnFacts> {
        self.columns
            .iter()
            .filter(|column| !column.generated)
            .map(|column| &column.facts)
    }

    fn names_where(&self, holds: impl Fn(&Column) -> bool) -> Vec<String> {
        self.columns
            .iter()
            .filter(|column| holds(column))
            .map(|column| column.facts.name.clone())
            .collect()
    }

    /// The table as a plan compares it with the rows; what takes a look at its rows is left at its
    /// least.
    pub(super) fn as_target(&self) -> TargetTableFacts {
        TargetTableFacts {
            columns: self
                .columns
                .iter()
                .map(|column| column.facts.clone())
                .collect(),
            generated: self.names_where(|column| column.generated),
            defaulted: self.names_where(|column| column.has_default),
            key: Vec::new(),
            unique: Vec::new(),
            partition_form: None,
            partition_indexed: false,
            has_rows: false,
            unfinished: false,
            reactions: Vec::new(),
            exchange: None,
            referenced_by: Vec::new(),
        }
    }

    /// The names, for an error to list.
    pub(super) fn column_names(&self) -> String {
        self.columns
            .iter()
            .map(|column| column.facts.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The name in full: one without a schema means what it means to the role's own search path. One
/// that is nowhere stays as it is.
pub(super) async fn qualified(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
) -> Result<TableName, ConnectorError> {
    if table.schema.is_some() {
        return Ok(table.clone());
    }
    let schema = sqlx::query_scalar::<_, String>(
        "select n.nspname::text from unnest(current_setting('highwater.schemas')::name[]) with \
         ordinality p (name, place) \
         join pg_namespace n on n.nspname = p.name join pg_class c on c.relnamespace = n.oid \
         where c.relname = $1 order by p.place limit 1",
    )
    .bind(&table.name)
    .fetch_optional(&mut *conn)
    .await
    .map_err(|error| classify(endpoint, "read the catalog", error))?;
    Ok(TableName {
        schema,
        name: table.name.clone(),
    })
}

/// What is read, with the name in full of a table.
pub(super) async fn qualified_relation(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
) -> Result<Relation, ConnectorError> {
    match relation {
        Relation::Table(table) => qualified(conn, endpoint, table).await.map(Relation::Table),
        Relation::Query(_) => Ok(relation.clone()),
    }
}

/// The name in full of a table that is to be made: without a schema it goes where the role's own
/// search path makes tables.
pub(super) async fn qualified_or_new(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
) -> Result<TableName, ConnectorError> {
    let found = qualified(conn, endpoint, table).await?;
    if found.schema.is_some() {
        return Ok(found);
    }
    let first: Option<String> = sqlx::query_scalar(
        "select \
        (current_setting('highwater.schemas')::text[])[1]",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(|error| classify(endpoint, "read the catalog", error))?;
    match first {
        Some(schema) => Ok(TableName {
            schema: Some(schema),
            ..found
        }),
        None => {
            let message = format!(
                "no schema of the search path on {endpoint} exists, so there is no place to make \
                 {table} in; write the table with its schema"
            );
            Err(permanent(ErrorCode::UnknownTable, message))
        }
    }
}

/// The table, or `None` when there is none of this name that holds rows.
pub(super) async fn find_table(
    conn: &mut PgConnection,
    table: &TableName,
) -> Result<Option<Table>, sqlx::Error> {
    let found = sqlx::query(
        "select c.oid::int8 as oid from pg_class c where c.oid = to_regclass($1) and c.relkind in \
         ('r', 'p', 'v', 'm', 'f')",
    )
    .bind(quoted_table(table))
    .fetch_optional(&mut *conn)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let oid: i64 = found.try_get("oid")?;
    Ok(Some(Table {
        oid,
        columns: read_columns(conn, oid).await?,
    }))
}

/// The table of a source, or the error that names what is there instead.
pub(super) async fn source_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
) -> Result<Table, ConnectorError> {
    if table.schema.as_deref() == Some(ledger::SCHEMA) || table.name.starts_with("_highwater") {
        let message = format!(
            "{table} on {endpoint} belongs to Highwater itself and is never a source; name another"
        );
        return Err(permanent(ErrorCode::LedgerTable, message));
    }
    let found = find_table(conn, table)
        .await
        .map_err(|error| classify(endpoint, "read the catalog", error))?;
    match found {
        Some(table) => Ok(table),
        None => Err(unknown_table(conn, endpoint, table).await),
    }
}

/// The error of a table that is not there: it names what is.
pub(super) async fn unknown_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
) -> ConnectorError {
    let found = sqlx::query_scalar::<_, String>(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'highwater' \
         and case when $1::text is null then n.nspname = any \
         (current_setting('highwater.schemas')::name[]) \
         else n.nspname = $1 end \
         order by 1 limit 1000",
    )
    .bind(&table.schema)
    .fetch_all(&mut *conn)
    .await;
    let mut names = match found {
        Ok(names) => names,
        Err(error) => return classify(endpoint, "read the catalog", error),
    };
    let place = table.schema.as_ref().map_or_else(
        || "the search path".to_owned(),
        |schema| format!("schema {schema}"),
    );
    names.sort_by_key(|name| distance(name, &table.name));
    let there = match (
        names.len(),
        names
            .iter()
            .take(NAMES_MAX)
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
    ) {
        (0, _) => format!("{place} holds no table that the user may see"),
        (1..=NAMES_MAX, names) => format!("{place} holds {names}"),
        (more, names) => format!("{place} holds {more} tables, such as {names}"),
    };
    permanent(
        ErrorCode::UnknownTable,
        format!("there is no table {table} on {endpoint}; {there}"),
    )
}

/// The error of a column that is not there: it names those that are.
pub(super) fn unknown_column(
    endpoint: &Endpoint,
    name: &Relation,
    table: &Table,
    column: &str,
) -> ConnectorError {
    let what = match name {
        Relation::Table(_) => "table ",
        Relation::Query(_) => "",
    };
    let message = format!(
        "{what}{name} on {endpoint} has no column {column}; it has {}",
        table.column_names()
    );
    permanent(ErrorCode::UnknownColumn, message)
}

/// The columns of the primary key, and of every unique index that is checked at once and covers
/// all rows.
pub(super) async fn read_unique(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<Vec<Vec<String>>, sqlx::Error> {
    sqlx::query_scalar::<_, Vec<String>>(
        "select array_agg(a.attname::text order by k.place) \
         from pg_index i cross join lateral unnest(i.indkey::int2[]) \
         with ordinality k(attnum, place) \
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
         where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indimmediate \
         and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts \
         group by i.indexrelid, i.indisprimary order by i.indisprimary desc, \
         i.indexrelid limit 200",
    )
    .bind(oid)
    .fetch_all(&mut *conn)
    .await
}

/// The columns of the primary key; without one, and where `or_unique`, of the first unique key of
/// NOT NULL columns.
pub(super) async fn read_key(
    conn: &mut PgConnection,
    oid: i64,
    or_unique: bool,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar::<_, String>(
        "select a.attname::text \
         from (select i.indexrelid, i.indkey::int2[] as keys, i.indnkeyatts \
         from pg_index i \
         where i.indrelid = $1::oid and i.indisvalid and i.indimmediate and i.indpred is null \
         and i.indexprs is null and (i.indisprimary or ($2 and i.indisunique)) \
         and not exists (select from pg_attribute a where a.attrelid = i.indrelid \
         and a.attnum = any (i.indkey::int2[]) and not a.attnotnull) \
         order by i.indisprimary desc, i.indexrelid limit 1) i \
         cross join lateral unnest(i.keys) with ordinality as k(attnum, place) \
         join pg_attribute a on a.attrelid = $1::oid and a.attnum = k.attnum \
         where k.place <= i.indnkeyatts order by k.place",
    )
    .bind(oid)
    .bind(or_unique)
    .fetch_all(&mut *conn)
    .await
}

/// Whether a whole, ordered index leads with the column, in the order in which it is compared: of
/// text that is the order of its bytes.
pub(super) async fn is_indexed(
    conn: &mut PgConnection,
    oid: i64,
    column: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar::<_, bool>(
        "select exists (select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am \
                        m on m.oid = c.relam \
                        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = \
                        (i.indkey::int2[])[0] \
                        where i.indrelid = $1::oid and i.indisvalid and i.indpred is null and \
                        m.amname = 'btree' \
                        and coalesce((select l.collname = 'C' and l.collnamespace = \
                        'pg_catalog'::regnamespace \
                        from pg_collation l where l.oid = (i.indcollation::oid[])[0]), true) \
                        and a.attname = $2)",
    )
    .bind(oid)
    .bind(column)
    .fetch_one(&mut *conn)
    .await
}

/// How many letters must change to make one name of the other. Idea: V. Levenshtein (1965).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(letter != *other))
                .min(row[column] + 1)
                .min(row[column + 1] + 1);
            diagonal = std::mem::replace(&mut row[column + 1], cost);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first() {
        assert_eq!(distance("orders", "orders"), 0);
        assert_eq!(distance("orders", "oders"), 1);
        assert!(distance("orders", "oders") < distance("customers", "oders"));
    }
}
