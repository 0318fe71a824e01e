//! The foreign keys of a database, in the server's own words.

use highwater_common::spec::{ForeignKeyAsFound, TableName};
use sqlx::{PgConnection, Row};

/// Those of a partitioned table's parts are its own, and are told once. The definition is taken
/// apart at what it is known to begin with.
const FOREIGN_KEYS: &str = "select k.name, k.schema, k.relation, k.to_schema, k.to_relation,
   k.columns, case when starts_with(k.definition, k.head)
     then substr(k.definition, length(k.head) + 1) else '' end as rest
 from (select c.conname::text as name, n.nspname::text as schema, r.relname::text as relation,
     tn.nspname::text as to_schema, t.relname::text as to_relation, own.columns,
     pg_get_constraintdef(c.oid) as definition,
     'FOREIGN KEY (' || own.columns || ') REFERENCES ' || c.confrelid::regclass::text || '('
       as head
   from pg_constraint c
   join pg_class r on r.oid = c.conrelid join pg_namespace n on n.oid = r.relnamespace
   join pg_class t on t.oid = c.confrelid join pg_namespace tn on tn.oid = t.relnamespace
   cross join lateral (select string_agg(quote_ident(a.attname), ', ' order by u.place) as columns
     from unnest(c.conkey) with ordinality u(number, place)
     join pg_attribute a on a.attrelid = c.conrelid and a.attnum = u.number) own
   where c.contype = 'f' and c.conparentid = 0) k
 order by 2, 3, 1";

/// The foreign keys of all tables, by schema, table and name.
pub(super) async fn read_foreign_keys(
    conn: &mut PgConnection,
) -> Result<Vec<ForeignKeyAsFound>, sqlx::Error> {
    let rows = sqlx::query(FOREIGN_KEYS).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let table = |schema: &str, name: &str| {
                Ok::<_, sqlx::Error>(TableName {
                    schema: Some(row.try_get(schema)?),
                    name: row.try_get(name)?,
                })
            };
            Ok(ForeignKeyAsFound {
                name: row.try_get("name")?,
                table: table("schema", "relation")?,
                references: table("to_schema", "to_relation")?,
                columns: row.try_get("columns")?,
                rest: row.try_get("rest")?,
            })
        })
        .collect()
}
