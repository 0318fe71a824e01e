//! Which columns the server keeps free of NULL, in every row that a read of a table sees.
//! Never reads a row of it.

use sqlx::PgConnection;

use super::catalog::Table;

/// Makes a column nullable that the catalog says is not, where nobody makes the rows keep to it:
/// NOT NULL binds a table's own rows alone, so a child by INHERITS may have dropped it, a foreign
/// table and a foreign partition only declare it, a constraint may not be validated yet, and a
/// domain's is checked where a value is made and not where it is stored.
pub(super) async fn doubt_not_null(
    conn: &mut PgConnection,
    table: &mut Table,
) -> Result<(), sqlx::Error> {
    let doubtful: Vec<String> = sqlx::query_scalar(
        "with recursive tree as (select $1::oid as oid union \
                                 select i.inhrelid from tree join pg_inherits i on i.inhparent = \
                                 tree.oid) \
                                 select a.attname::text from pg_attribute a join pg_type t on \
                                 t.oid = a.atttypid \
                                 where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped \
                                 and (a.attnotnull or t.typtype = 'd' and t.typnotnull) \
                                 and (not a.attnotnull or exists ( \
                                 select from tree join pg_class c on c.oid = tree.oid \
                                 left join pg_attribute own on own.attrelid = c.oid and \
                                 own.attname = a.attname and not own.attisdropped \
                                 where c.relkind not in ('r', 'p') or own.attnotnull is distinct \
                                 from true \
                                 or exists (select from pg_constraint n where n.conrelid = c.oid \
                                 and n.contype = 'n' \
                                 and n.conkey = array[own.attnum] and not n.convalidated)))",
    )
    .bind(table.oid)
    .fetch_all(&mut *conn)
    .await?;
    for column in table
        .columns
        .iter_mut()
        .filter(|column| doubtful.contains(&column.facts.name))
    {
        column.facts.nullable = true;
    }
    Ok(())
}

/// Whether tables inherit from the table without being partitions of it: what is unique in it need
/// not be so in a read of it, which sees their rows too.
pub(super) async fn is_inherited(conn: &mut PgConnection, oid: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from pg_inherits i join pg_class c on c.oid = i.inhparent \
                        where i.inhparent = $1::oid and c.relkind <> 'p')",
    )
    .bind(oid)
    .fetch_one(&mut *conn)
    .await
}
