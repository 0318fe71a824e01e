//! Of which table, of which server, a position in the log is: read from the catalog as it is now.

use highwater_common::log::{LogColumn, LogIdentity};
use sqlx::{PgConnection, Row};

use super::errors::classify;
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, LogRequest};

/// Reads it, of a table with its schema and of a publication that were found there.
pub(super) async fn read(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &LogRequest,
) -> Result<LogIdentity, ConnectorError> {
    let what = format!("read the identity of {}", request.table);
    let identity = identity(conn, request).await;
    let identity = identity.map_err(|error| classify(endpoint, &what, error))?;
    let copied = request.columns.iter().map(|column| column.source_name());
    let copied: Vec<&str> = copied.collect();
    Ok(match copied.is_empty() {
        // Whoever only looks asks for none.
        true => identity,
        false => identity.of_columns(&copied),
    })
}

async fn identity(
    conn: &mut PgConnection,
    request: &LogRequest,
) -> Result<LogIdentity, sqlx::Error> {
    let may_ask = "select has_function_privilege('pg_control_system()', 'execute')";
    let may_ask = sqlx::query_scalar::<_, bool>(may_ask);
    let system = match may_ask.fetch_one(&mut *conn).await? {
        true => {
            let ask = "select system_identifier::text from pg_control_system()";
            Some(sqlx::query_scalar(ask).fetch_one(&mut *conn).await?)
        }
        false => None,
    };
    let has_schemas = conn.server_version_num().unwrap_or(0) >= 150_000;
    let ask = Sql::new(
        Dialect::Postgres,
        "select c.oid::int8 as relation, p.oid::int8 as publication, \
         c.relreplident::text || coalesce((select ':' || i.indexrelid from pg_index i where \
           i.indrelid = c.oid and i.indisreplident), '') as told, \
         case when pg_is_in_recovery() then 'standby' \
           else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline, \
         coalesce((select min(r.oid) from pg_publication_rel r where r.prpubid = p.oid and \
           (r.prrelid = c.oid or r.prrelid in (select relid from pg_partition_ancestors(c.oid)))), ",
    )
    .text(match has_schemas {
        true => {
            "(select min(n.oid) from pg_publication_namespace n where n.pnpubid = p.oid and \
             n.pnnspid = c.relnamespace), "
        }
        false => "",
    })
    .text(
        "0)::int8 as membership from pg_class c join pg_namespace s on s.oid = c.relnamespace, \
         pg_publication p where s.nspname = $1 and c.relname = $2 and p.pubname = $3",
    );
    let found = sqlx::query(ask.into_statement())
        .bind(request.table.schema.as_deref())
        .bind(&request.table.name)
        .bind(&request.publication)
        .fetch_one(&mut *conn)
        .await?;
    let relation: i64 = found.try_get("relation")?;
    let columns = sqlx::query(
        "select attname::text as name, attnum as number, atttypid::int8 as type_id, atttypmod as \
         modifier, format_type(atttypid, atttypmod) as type_name from pg_attribute where attrelid = \
         $1::int8::oid and attnum > 0 and not attisdropped order by attnum",
    )
    .bind(relation)
    .fetch_all(&mut *conn)
    .await?;
    let column = |row: &sqlx::postgres::PgRow| {
        Ok(LogColumn {
            name: row.try_get("name")?,
            number: row.try_get("number")?,
            type_id: oid(row.try_get("type_id")?),
            modifier: row.try_get("modifier")?,
            type_name: row.try_get("type_name")?,
        })
    };
    Ok(LogIdentity {
        system,
        timeline: found.try_get("timeline")?,
        table: oid(relation),
        publication: oid(found.try_get("publication")?),
        membership: oid(found.try_get("membership")?),
        replica_identity: found.try_get("told")?,
        columns: columns
            .iter()
            .map(column)
            .collect::<Result<_, sqlx::Error>>()?,
    })
}

/// The server's numbers have 32 bits.
fn oid(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
