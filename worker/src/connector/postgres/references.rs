//! Foreign keys of other tables that point to a target.

use highwater_common::facts::{ForeignKey, OnDelete};
use sqlx::{PgConnection, Row};

/// The most that are told of.
const REFERENCES_MAX: i64 = 100;

/// Those of a partitioned table's parts are its own, and are told once.
const REFERENCES: &str = "select c.conname::text as name, n.nspname || '.' || r.relname as place, \
            c.confdeltype::text as on_delete, c.condeferrable as may_wait \
            from pg_constraint c join pg_class r on r.oid = c.conrelid \
            join pg_namespace n on n.oid = r.relnamespace \
            where c.contype = 'f' and c.confrelid = $1::oid and c.conrelid <> $1::oid \
            and not exists (select from pg_constraint p where p.oid = c.conparentid \
                and p.confrelid = $1::oid) \
            order by 2, 1 limit $2";

/// The foreign keys that point to a table.
pub(super) async fn read_references(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<Vec<ForeignKey>, sqlx::Error> {
    let rows = sqlx::query(REFERENCES)
        .bind(oid)
        .bind(REFERENCES_MAX)
        .fetch_all(conn)
        .await?;
    rows.iter()
        .map(|row| {
            let action: String = row.try_get("on_delete")?;
            Ok(ForeignKey {
                name: row.try_get("name")?,
                table: row.try_get("place")?,
                on_delete: match action.as_str() {
                    "c" => OnDelete::Cascade,
                    "n" => OnDelete::SetNull,
                    "d" => OnDelete::SetDefault,
                    "a" if row.try_get("may_wait")? => OnDelete::RefuseAtCommit,
                    _ => OnDelete::Refuse,
                },
            })
        })
        .collect()
}
