//! Under which names the parts of a table are made: those that they had, as long as nothing else has
//! them.

use highwater_common::facts::{DefinedPart, PartKind, TableDefinition};
use highwater_common::id::DocumentDigest;
use highwater_common::spec::TableName;
use sqlx::PgConnection;

/// The bytes of a name that PostgreSQL keeps.
const NAME_BYTES_MAX: usize = 63;

/// Whether a part of a table is there, and under which name.
pub(super) struct Placed {
    pub(super) name: String,
    /// It is there, or the index that it is made of.
    pub(super) is_there: bool,
    /// Nothing of it is missing: a key is more than its index.
    pub(super) is_whole: bool,
    /// The index that has a key's name cannot be made that key: it is somebody else's.
    pub(super) is_another: bool,
}

/// The names that a thing of a table may have, best first; none is the own name of another one.
fn names<'a>(
    table: &TableName,
    name: &str,
    mut others: impl Iterator<Item = &'a str>,
) -> [String; 2] {
    let (own, other) = (cut(name), with_table(table, name));
    let is_taken = others.any(|one| one != name && cut(one) == other);
    let other = if is_taken { digested(other) } else { other };
    [own, other]
}

/// The names that a part of a table may have, best first.
pub(super) fn part_names(
    table: &TableName,
    part: &DefinedPart,
    twin: &TableDefinition,
) -> [String; 2] {
    names(
        table,
        &part.name,
        twin.parts.iter().map(|part| part.name.as_str()),
    )
}

/// A name with the table's before it. What does not fit is told apart by a digest: two names that
/// begin alike are two.
fn with_table(table: &TableName, name: &str) -> String {
    let whole = format!("{}_{name}", table.name);
    match whole.len() <= NAME_BYTES_MAX {
        true => whole,
        false => digested(whole),
    }
}

/// A name that begins like this one, with its digest.
fn digested(whole: String) -> String {
    let digest: String = DocumentDigest::of(whole.as_bytes())
        .to_string()
        .chars()
        .take(8)
        .collect();
    let mut short = whole;
    while short.len() > NAME_BYTES_MAX - 9 {
        short.pop();
    }
    format!("{short}_{digest}")
}

/// What the server would keep of a name.
fn cut(name: &str) -> String {
    let mut name = name.to_owned();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name
}

/// Where an index or a constraint of the table stands, or is to be made.
pub(super) async fn part_name(
    conn: &mut PgConnection,
    table: &TableName,
    part: &DefinedPart,
    twin: &TableDefinition,
) -> Result<Placed, sqlx::Error> {
    let names = part_names(table, part, twin);
    // A check and an index of one table may share a name.
    let is_check = part.kind == PartKind::Check;
    let is_key = matches!(part.kind, PartKind::PrimaryKey | PartKind::Unique);
    let found = sqlx::query_as::<_, (String, bool, bool, bool)>(
        "select u.name, case when $4 then k.oid is not null else c.oid is not null end as is_there, \
           case when $4 then k.oid is not null \
           when c.oid is null then false \
           else not $5 or exists (select from pg_constraint q where q.conindid = c.oid \
             and q.conrelid = t.oid) end as is_whole, \
           c.oid is not null and (not i.indisunique or i.indpred is not null \
             or i.indexprs is not null or 0 <> any (i.indoption::int2[]) \
             or (i.indnatts > i.indnkeyatts) <> (position(' INCLUDE (' in $6) > 0) \
             or (select not (array_agg(a.attname::text) <@ $7::text[] \
               and array_agg(a.attname::text) @> $7::text[]) from pg_attribute a \
               where a.attrelid = t.oid and a.attnum = any (i.indkey::int2[]))) as is_another \
         from unnest($3::text[]) with ordinality u (name, place) \
         join pg_namespace n on n.nspname = $1 \
         join pg_class t on t.relnamespace = n.oid and t.relname = $2 \
         left join pg_class o on o.relnamespace = n.oid and o.relname = u.name \
         left join pg_index i on i.indexrelid = o.oid and i.indrelid = t.oid and i.indisvalid \
         left join pg_class c on c.oid = i.indexrelid \
         left join pg_constraint k on k.conrelid = t.oid and k.conname = u.name and k.contype = 'c' \
         order by is_there desc, o.oid is not null, u.place limit 1",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .bind(names.as_slice())
    .bind(is_check)
    .bind(is_key)
    .bind(&part.definition)
    .bind(part.reads.as_slice())
    .fetch_one(conn)
    .await?;
    Ok(Placed {
        name: found.0,
        is_there: found.1,
        is_whole: found.2,
        is_another: is_key && found.3,
    })
}

/// A free name for a sequence of the table.
pub(super) async fn sequence_name(
    conn: &mut PgConnection,
    table: &TableName,
    name: &str,
) -> Result<TableName, sqlx::Error> {
    let names = names(table, name, std::iter::empty());
    let taken = sqlx::query_scalar::<_, bool>(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = $2)",
    )
    .bind(&table.schema)
    .bind(&names[0])
    .fetch_one(conn)
    .await?;
    let [first, second] = names;
    Ok(TableName {
        schema: table.schema.clone(),
        name: if taken { second } else { first },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_as_the_server_cuts_it() {
        assert_eq!(cut(&"ä".repeat(40)), "ä".repeat(31));
        assert_eq!(cut("orders_pkey"), "orders_pkey");
    }

    #[test]
    fn parts_of_a_table_with_a_long_name_have_names_of_their_own() {
        let table = TableName {
            schema: None,
            name: "a_table_with_a_name_that_is_forty_bytes_long".to_owned(),
        };
        let [one, two] = ["of_customers_by_day_1", "of_customers_by_day_2"];
        let [one, two] = [one, two].map(|name| with_table(&table, name));
        assert!(
            one != two && one.len() <= 63 && two.len() <= 63,
            "{one} {two}"
        );
    }

    #[test]
    fn no_part_takes_the_name_of_another_one() {
        let table = TableName {
            schema: None,
            name: "orders".to_owned(),
        };
        let parts = ["status", "orders_status"];
        let [first, second] = names(&table, "status", parts.into_iter());
        assert_eq!(first, "status");
        assert!(second != "orders_status" && second.starts_with("orders_status_"));
        let [_, second] = names(&table, "orders_status", parts.into_iter());
        assert_eq!(second, "orders_orders_status");
    }
}
