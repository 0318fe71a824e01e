//! Reads what types of a database's own making are made of: domains, enums, composites, ranges,
//! extensions' types and arrays of them. Never follows a definition without an end: what is too
//! deep or too large is said to be so, and is then comparable with nothing.

use std::collections::HashMap;

use highwater_common::type_definition::{TypeDefinition, TypeName};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

/// Types within types that are followed; PostgreSQL's own are never deeper than two.
const DEPTH_MAX: usize = 16;
/// Parts of all definitions of one table, labels included. A type that is used twice counts twice,
/// since it is told twice.
const PARTS_MAX: usize = 20_000;
/// Types that are looked at for one table.
const TYPES_MAX: i64 = 5_000;

/// A column whose type is not the server's own.
pub(super) struct TypeUse {
    /// Its place among the table's columns.
    pub(super) column: usize,
    pub(super) oid: i64,
    /// The type as the catalog writes it, modifiers and all.
    pub(super) written: String,
}

/// A type as the catalog has it.
struct Entry {
    name: TypeName,
    class: String,
    is_built_in: bool,
    element: i64,
    base: i64,
    base_written: String,
    subtype: i64,
    subtype_written: String,
    range_rules: String,
    labels: Vec<String>,
    fields: Vec<(String, i64, String)>,
}

/// The definitions of the types that columns use.
pub(super) async fn definitions(
    conn: &mut PgConnection,
    uses: Vec<TypeUse>,
) -> Result<Vec<(usize, TypeDefinition)>, sqlx::Error> {
    if uses.is_empty() {
        return Ok(Vec::new());
    }
    let catalog = read(conn, &uses.iter().map(|one| one.oid).collect::<Vec<_>>()).await?;
    let mut tree = Tree { catalog, parts: 0 };
    Ok(uses
        .into_iter()
        .map(|one| (one.column, tree.define(one.oid, &one.written, 0)))
        .collect())
}

/// The definition of a type by schema and name, if the database has one.
pub(super) async fn named(
    conn: &mut PgConnection,
    name: &TypeName,
) -> Result<Option<TypeDefinition>, sqlx::Error> {
    let found = sqlx::query(
        "select t.oid::int8 as oid, t.oid::regtype::text as written \
         from pg_type t join pg_namespace n on n.oid = t.typnamespace \
         left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and \
         d.deptype = 'e' \
         left join pg_extension e on e.oid = d.refobjid \
         where t.typname = $2 and case when $3::text is null then n.nspname = $1 and e.oid is null \
         else e.extname = $3 end",
    )
    .bind(&name.schema)
    .bind(&name.name)
    .bind(&name.extension)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let one = TypeUse {
        column: 0,
        oid: found.try_get("oid")?,
        written: found.try_get("written")?,
    };
    Ok(definitions(conn, vec![one])
        .await?
        .pop()
        .map(|(_, definition)| definition))
}

/// Every type that the given ones are made of, themselves included. The types behind a built-in one
/// are left alone: its name says them.
async fn read(conn: &mut PgConnection, roots: &[i64]) -> Result<HashMap<i64, Entry>, sqlx::Error> {
    let rows = sqlx::query(
        "with recursive reached(oid) as ( \
            select unnest($1::int8[])::oid \
            union \
            select inner_type.oid from reached r join pg_type t on t.oid = r.oid and t.oid >= 16384 \
            left join pg_range rng on rng.rngtypid = t.oid or to_jsonb(rng) ->> 'rngmultitypid' = \
            t.oid::text \
            cross join lateral ( \
            select t.typelem as oid where t.typlen = -1 and t.typelem <> 0 and t.typtype = 'b' \
            union all select t.typbasetype where t.typtype = 'd' \
            union all select rng.rngsubtype where rng.rngtypid is not null \
            union all select a.atttypid from pg_attribute a \
            where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not \
            a.attisdropped) inner_type) \
            select t.oid::int8 as oid, n.nspname::text as schema, t.typname::text as name, \
            x.extname::text as extension, \
            t.oid < 16384 as is_built_in, \
            case when rng.rngtypid = t.oid then 'range' when rng.rngtypid is not null then \
            'multirange' \
            when t.typtype = 'b' and t.typlen = -1 and t.typelem <> 0 and t.typcategory = 'A' then \
            'array' \
            else t.typtype::text end as class, \
            t.typelem::int8 as element, t.typbasetype::int8 as base, \
            case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) else '' end as \
            base_written, \
            coalesce(rng.rngsubtype, 0)::int8 as subtype, \
            coalesce(format_type(rng.rngsubtype, -1), '') as subtype_written, \
            coalesce(concat_ws(' ', nullif(rng.rngcanonical::text, '-'), \
            (select o.opcname from pg_opclass o where o.oid = rng.rngsubopc and not o.opcdefault), \
            (select l.collname from pg_collation l \
            where l.oid = rng.rngcollation and l.collname <> 'default')), '') as range_rules, \
            coalesce((select array_agg(l.enumlabel::text order by l.enumsortorder) from pg_enum l \
            where l.enumtypid = t.oid), '{}') as labels, \
            f.names as field_names, f.oids as field_oids, f.written as field_written \
            from (select oid from reached limit $2) r join pg_type t on t.oid = r.oid join \
            pg_namespace n on n.oid = t.typnamespace \
            left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and \
            d.deptype = 'e' \
            left join pg_extension x on x.oid = d.refobjid \
            left join pg_range rng on rng.rngtypid = t.oid or to_jsonb(rng) ->> 'rngmultitypid' = \
            t.oid::text \
            cross join lateral ( \
            select coalesce(array_agg(a.attname::text order by a.attnum), '{}') as names, \
            coalesce(array_agg(a.atttypid::int8 order by a.attnum), '{}') as oids, \
            coalesce(array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum), '{}') as \
            written \
            from pg_attribute a \
            where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not \
            a.attisdropped) f",
    )
    .bind(roots)
    .bind(TYPES_MAX)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("oid")?, entry(row)?)))
        .collect()
}

fn entry(row: &PgRow) -> Result<Entry, sqlx::Error> {
    let (names, oids, written): (Vec<String>, Vec<i64>, Vec<String>) = (
        row.try_get("field_names")?,
        row.try_get("field_oids")?,
        row.try_get("field_written")?,
    );
    let fields = names.into_iter().zip(oids).zip(written);
    Ok(Entry {
        name: TypeName {
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            extension: row.try_get("extension")?,
        },
        class: row.try_get("class")?,
        is_built_in: row.try_get("is_built_in")?,
        element: row.try_get("element")?,
        base: row.try_get("base")?,
        base_written: row.try_get("base_written")?,
        subtype: row.try_get("subtype")?,
        subtype_written: row.try_get("subtype_written")?,
        range_rules: row.try_get("range_rules")?,
        labels: row.try_get("labels")?,
        fields: fields
            .map(|((name, oid), written)| (name, oid, written))
            .collect(),
    })
}

/// Definitions in the making.
struct Tree {
    catalog: HashMap<i64, Entry>,
    parts: usize,
}

impl Tree {
    /// The definition of a type that the catalog writes so where it is used.
    fn define(&mut self, oid: i64, written: &str, depth: usize) -> TypeDefinition {
        let Some(entry) = self.catalog.get(&oid) else {
            return TypeDefinition::TooLarge {
                name: TypeName::built_in(written),
            };
        };
        let name = entry.name.clone();
        self.parts = self.parts.saturating_add(1 + entry.labels.len());
        if depth > DEPTH_MAX || self.parts > PARTS_MAX {
            return TypeDefinition::TooLarge { name };
        }
        if entry.is_built_in {
            return TypeDefinition::built_in(written);
        }
        let boxed = |definition| Box::new(definition);
        match entry.class.as_str() {
            "array" => {
                let (element, written) = (
                    entry.element,
                    written.strip_suffix("[]").unwrap_or(written).to_owned(),
                );
                TypeDefinition::Array(boxed(self.define(element, &written, depth + 1)))
            }
            "d" => {
                let (base, written) = (entry.base, entry.base_written.clone());
                TypeDefinition::Domain {
                    name,
                    over: boxed(self.define(base, &written, depth + 1)),
                }
            }
            "e" => TypeDefinition::Enum {
                name,
                labels: entry.labels.clone(),
            },
            "c" => {
                let fields = entry.fields.clone();
                let fields = fields
                    .into_iter()
                    .map(|(field, oid, written)| (field, self.define(oid, &written, depth + 1)));
                TypeDefinition::Composite {
                    name,
                    fields: fields.collect(),
                }
            }
            class @ ("range" | "multirange") => {
                let (multi, rules) = (class == "multirange", entry.range_rules.clone());
                let (subtype, written) = (entry.subtype, entry.subtype_written.clone());
                TypeDefinition::Range {
                    name,
                    subtype: boxed(self.define(subtype, &written, depth + 1)),
                    rules,
                    multi,
                }
            }
            _ => TypeDefinition::Base {
                name,
                modifiers: modifiers_of(written),
            },
        }
    }
}

/// What stands in the brackets at the end of a type, if anything does: a name may hold brackets of
/// its own, between quotes.
fn modifiers_of(written: &str) -> String {
    let found = written
        .strip_suffix(')')
        .and_then(|start| start.rsplit_once('('));
    found.map_or_else(String::new, |(_, modifiers)| modifiers.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_at_the_end_is_a_modifier() {
        assert_eq!(modifiers_of("public.geometry(Point,4326)"), "Point,4326");
        assert_eq!(modifiers_of("public.\"odd (name)\""), "");
        assert_eq!(modifiers_of("citext"), "");
    }
}
