//! What a server says of itself, and of the role that asks.

use sqlx::{PgConnection, Row};

use super::horizon::{Viewer, viewer};
use crate::connector::ServerAsFound;

const SERVER: &str = "select split_part(current_setting('server_version'), ' ', 1) as version,
   current_setting('wal_level') as level,
   current_setting('max_replication_slots')::int8 as slots,
   (select count(*) from pg_replication_slots) as taken,
   coalesce((select r.rolreplication or r.rolsuper from pg_roles r
     where r.rolname = current_user), false) as may_replicate,
   has_database_privilege(current_database(), 'create') or coalesce((select
     has_schema_privilege(n.oid, 'create') from pg_namespace n
     where n.nspname = 'highwater'), false) as may_keep";

/// Asks a server.
pub(super) async fn server(conn: &mut PgConnection) -> Result<ServerAsFound, sqlx::Error> {
    let Viewer {
        is_standby,
        role,
        sees,
    } = viewer(conn).await?;
    let row = sqlx::query(SERVER).fetch_one(&mut *conn).await?;
    let level: String = row.try_get("level")?;
    let (slots, taken): (i64, i64) = (row.try_get("slots")?, row.try_get("taken")?);
    let (may_replicate, may_keep): (bool, bool) =
        (row.try_get("may_replicate")?, row.try_get("may_keep")?);
    let free = slots.saturating_sub(taken).max(0);
    let mut says = vec![format!("wal {level}")];
    let mut lacks_as_source = Vec::new();
    if level == "logical" {
        says.push(format!("{free} of {slots} slots free"));
        if !may_replicate {
            lacks_as_source.push(format!(
                "the role {role} may not read the log, which `cdc` does: alter role {role} replication"
            ));
        }
        if free == 0 {
            lacks_as_source.push(
                "no slot is free, and `cdc` needs one: raise max_replication_slots".to_owned(),
            );
        }
    } else {
        lacks_as_source.push(format!(
            "`cdc` reads no log of wal_level {level}: set it to logical, and restart the server"
        ));
    }
    if is_standby {
        says.push("a standby".to_owned());
        lacks_as_source.push(
            "it is a standby: `incremental` needs `horizon: {lag: …}`, for open transactions are \
             another server's"
                .to_owned(),
        );
    } else if !sees {
        lacks_as_source.push(format!(
            "the role {role} does not see open transactions of others, which `incremental` waits \
             for: grant pg_read_all_stats to {role}"
        ));
    }
    let mut lacks_as_target = Vec::new();
    if is_standby {
        lacks_as_target.push("it is a standby, and takes no rows".to_owned());
    } else if !may_keep {
        lacks_as_target.push(format!(
            "the role {role} may not make the schema highwater, where receipts are kept: grant \
             create on the database to {role}, or make the schema and grant create on it"
        ));
    }
    Ok(ServerAsFound {
        version: row.try_get("version")?,
        role,
        says,
        lacks_as_source,
        lacks_as_target,
    })
}
