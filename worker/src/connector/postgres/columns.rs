//! Reads what the catalog says of columns and their types. Never reads a row.

use highwater_common::cursor::CursorKind;
use highwater_common::facts::{ColumnFacts, ColumnKind, CursorForm};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::definitions::{TypeUse, definitions};
use crate::connector::sql_text::{Dialect, Sql};

/// A column of a table, and what only this server needs to know of it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) facts: ColumnFacts,
    /// What positions its type is made of, and how they are written for it; none of text, where
    /// only the values tell.
    pub(super) position: Option<(CursorKind, CursorForm)>,
    pub(super) generated: bool,
    pub(super) has_default: bool,
    /// The text of its values may name objects of the catalog, in full or not as the search path
    /// says.
    pub(super) prints_names: bool,
}

/// A column that is no table's: its name, its type, and how the server writes that.
pub(super) struct Typed {
    pub(super) name: String,
    pub(super) oid: i64,
    pub(super) written: String,
}

/// What there is to know of columns by their types alone. They may all be NULL.
pub(super) async fn typed(
    conn: &mut PgConnection,
    columns: Vec<Typed>,
) -> Result<Vec<Column>, sqlx::Error> {
    let names: Vec<&str> = columns.iter().map(|one| one.name.as_str()).collect();
    let oids: Vec<i64> = columns.iter().map(|one| one.oid).collect();
    let written: Vec<&str> = columns.iter().map(|one| one.written.as_str()).collect();
    let select = Sql::new(Dialect::Postgres, COLUMN).text(
        " from (select u.name as attname, u.oid::oid as atttypid, u.written, false as attnotnull, \
         ''::text as attgenerated, false as atthasdef, ''::text as attidentity, u.attnum \
         from unnest($1::text[], $2::int8[], $3::text[]) with ordinality \
         u (name, oid, written, attnum)) a",
    );
    let select = select.text(ITS_TYPE).text(" order by a.attnum");
    let rows = sqlx::query(select.into_statement())
        .bind(names)
        .bind(oids)
        .bind(written)
        .fetch_all(&mut *conn)
        .await?;
    columns_of(conn, &rows).await
}

/// The columns of a table, in its order.
pub(super) async fn read_columns(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<Vec<Column>, sqlx::Error> {
    let select = Sql::new(Dialect::Postgres, COLUMN)
        .text(" from (select *, format_type(atttypid, atttypmod) as written from pg_attribute) a");
    let select = select.text(ITS_TYPE).text(
        " where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped order by a.attnum",
    );
    let rows = sqlx::query(select.into_statement())
        .bind(oid)
        .fetch_all(&mut *conn)
        .await?;
    columns_of(conn, &rows).await
}

/// What is asked of a column `a`, whose type is `t`, of elements `e` where it is an array.
const COLUMN: &str = "select a.attname::text as name, a.written as type_name, \
                not (a.attnotnull or (t.typtype = 'd' and t.typnotnull)) as nullable, \
                a.attgenerated <> '' as generated, a.atthasdef or a.attidentity <> '' or \
                t.typdefault is not null as has_default, \
                a.atttypid::int8 as type_oid, \
                case when t.typtype = 'b' and t.oid < 16384 then t.typname::text else '' end as \
                builtin, \
                t.oid < 16384 as is_built_in, \
                t.typtype = 'b' and t.oid < 16384 and t.typsend <> 0 and t.typreceive <> 0 \
                and coalesce(e.typtype = 'b', true) and coalesce(e.typname, t.typname) not like \
                'reg%' \
                and coalesce(e.typname, t.typname) not in ('money', 'xml', 'aclitem', \
                'pg_node_tree', 'refcursor') \
                as binary_portable, \
                coalesce(e.typname, t.typname) like 'reg%' \
                or t.oid >= 16384 and coalesce(e.typtype, t.typtype) not in ('b', 'e') as \
                prints_names";

const ITS_TYPE: &str = " join pg_type t on t.oid = a.atttypid \
                left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'";

async fn columns_of(conn: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<Column>, sqlx::Error> {
    let mut columns = rows
        .iter()
        .map(read_column)
        .collect::<Result<Vec<_>, _>>()?;
    // Most tables have built-in types only, whose names say all, and cost no second question.
    let mut own = Vec::new();
    for (row, column) in rows.iter().zip(0..) {
        if !row.try_get::<bool, _>("is_built_in")? {
            own.push(TypeUse {
                column,
                oid: row.try_get("type_oid")?,
                written: columns[column].facts.type_name.clone(),
            });
        }
    }
    for (column, definition) in definitions(conn, own).await? {
        let (built_in, column) = (
            definition.built_in_name().map(str::to_owned),
            &mut columns[column],
        );
        // What a domain holds is what the type below it holds.
        column.facts.kind = built_in.as_deref().map_or(ColumnKind::Other, kind_of);
        column.position = built_in.as_deref().and_then(position_of);
        column.facts.definition = Some(Box::new(definition));
    }
    Ok(columns)
}

fn read_column(row: &PgRow) -> Result<Column, sqlx::Error> {
    let builtin: String = row.try_get("builtin")?;
    let facts = ColumnFacts {
        name: row.try_get("name")?,
        type_name: row.try_get("type_name")?,
        kind: kind_of(&builtin),
        nullable: row.try_get("nullable")?,
        binary_portable: row.try_get("binary_portable")?,
        definition: None,
        origin: None,
    };
    let position = position_of(&builtin);
    Ok(Column {
        facts,
        position,
        generated: row.try_get("generated")?,
        has_default: row.try_get("has_default")?,
        prints_names: row.try_get("prints_names")?,
    })
}

/// What a built-in type holds; anything unknown has a text form, and that is all that is asked of
/// it.
fn kind_of(builtin: &str) -> ColumnKind {
    match builtin {
        "bool" | "boolean" => ColumnKind::Bool,
        "int2" | "smallint" => ColumnKind::Int16,
        "int4" | "integer" => ColumnKind::Int32,
        "int8" | "bigint" => ColumnKind::Int64,
        "float4" | "real" => ColumnKind::Float32,
        "float8" | "double precision" => ColumnKind::Float64,
        "numeric" => ColumnKind::Numeric,
        "text" | "varchar" | "character varying" | "bpchar" | "character" | "name" => {
            ColumnKind::Text
        }
        "bytea" => ColumnKind::Bytes,
        "date" => ColumnKind::Date,
        "time" | "time without time zone" | "timetz" | "time with time zone" => ColumnKind::Time,
        "timestamp" | "timestamp without time zone" => ColumnKind::Civil,
        "timestamptz" | "timestamp with time zone" => ColumnKind::Instant,
        "uuid" => ColumnKind::Uuid,
        "json" | "jsonb" => ColumnKind::Json,
        _ => ColumnKind::Other,
    }
}

/// The positions that a built-in type is made of. A `numeric` compares rightly with whole numbers,
/// whatever lies between them; NaN and the infinities lie in the open ends.
fn position_of(builtin: &str) -> Option<(CursorKind, CursorForm)> {
    let kind = match builtin {
        "oid" => return Some((CursorKind::Integer, CursorForm::Oid)),
        "int2" | "smallint" | "int4" | "integer" | "int8" | "bigint" | "numeric" => {
            CursorKind::Integer
        }
        "timestamptz" | "timestamp with time zone" => CursorKind::Instant,
        "timestamp" | "timestamp without time zone" => CursorKind::Civil,
        "date" => CursorKind::Date,
        _ => return None,
    };
    Some((kind, CursorForm::Native))
}
