//! What a server tells for a recommendation: who writes its tables, and whether its log can be read.

use async_trait::async_trait;
use highwater_common::advise::{
    Changes, LogAccess, MovedBy, ReplicaIdentity, ServerLog, Sight, TargetAsFound, moved_by_name,
};
use highwater_common::spec::{HorizonRule, TableName, TablesFound};
use sqlx::{Connection, Executor, PgConnection, Row};

use super::PostgresSource;
use super::catalog::{find_table, qualified, source_table};
use super::errors::classify;
use super::exchange::read_exchange_facts;
use super::foreign_keys::read_foreign_keys;
use super::horizon::{Viewer, doubts, viewer};
use super::keysets::is_cut_by_its_key;
use super::references::read_references;
use super::server::server;
use super::session::SessionRole;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{
    ConnectorError, HorizonRequest, ServerAsFound, Stamping, Survey, SurveyRequest, Surveys,
    TABLES_MAX,
};

/// Ordinary and partitioned tables, each once, without those that an extension has brought, and
/// without those whose rows are read with another one's.
const TABLES: &str = "select n.nspname::text as schema, c.relname::text as name
 from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
   and n.nspname not in ('information_schema', 'highwater') and n.nspname !~ '^pg_'
   and c.relname !~ '^_highwater' and has_schema_privilege(n.oid, 'usage')
   and not exists (select from pg_inherits i where i.inhrelid = c.oid)
   and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
     and d.objid = c.oid and d.deptype = 'e')
 order by 1, 2 limit $1";

/// Of the table and all that inherit from it, since the server has begun to count.
const CHANGES: &str = "with recursive parts as (select $1::int8::oid as oid union
   select i.inhrelid from parts join pg_inherits i on i.inhparent = parts.oid)
 select coalesce(sum(s.n_tup_ins), 0)::int8 as inserted,
   coalesce(sum(s.n_tup_upd), 0)::int8 as updated,
   coalesce(sum(s.n_tup_del), 0)::int8 as deleted,
   (select extract(epoch from now() - coalesce(d.stats_reset, pg_postmaster_start_time()))::int8
      from pg_stat_database d where d.datname = current_database()) as seconds
 from parts join pg_stat_user_tables s on s.relid = parts.oid
 where current_setting('track_counts') = 'on' having count(*) > 0";

const LOG: &str = "select current_setting('wal_level') as level,
   current_setting('max_replication_slots')::int8 as slots,
   (select count(*) from pg_replication_slots) as taken,
   coalesce((select r.rolreplication or r.rolsuper from pg_roles r
     where r.rolname = current_user), false) as may_replicate,
   pg_has_role(c.relowner, 'usage')
     and has_database_privilege(current_database(), 'create') as may_publish,
   c.relkind in ('r', 'p') and c.relpersistence = 'p' as ordinary,
   c.relreplident::text as identity,
   exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as has_primary,
   (select s.setting::int8 from pg_settings s where s.name = 'max_slot_wal_keep_size') as kept
 from pg_class c where c.oid = $1::int8::oid";

const LOG_RATE: &str = "select (wal_bytes
   / greatest(extract(epoch from now() - stats_reset), 3600))::int8 from pg_stat_wal";

/// The first version that counts the bytes of its log.
const COUNTS_LOG: u32 = 140_000;

const MOVED: &str = "select exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
   where t.tgrelid = $1::int8::oid and not t.tgisinternal and t.tgenabled in ('O', 'A')
     and t.tgtype & 1 <> 0 and t.tgtype & 2 <> 0 and t.tgtype & 16 <> 0
     and t.tgattr::text = '' and t.tgqual is null
     and (p.prosrc ~* $2 or encode(t.tgargs, 'escape') ~ $3))";

/// The first so many tables, by schema and name.
async fn list(conn: &mut PgConnection, most: i64) -> Result<Vec<TableName>, sqlx::Error> {
    let rows = sqlx::query(TABLES).bind(most).fetch_all(conn).await?;
    let table = |row: &sqlx::postgres::PgRow| {
        Ok(TableName {
            schema: Some(row.try_get("schema")?),
            name: row.try_get("name")?,
        })
    };
    rows.iter().map(table).collect()
}

#[async_trait]
impl Surveys for PostgresSource {
    async fn server(&self) -> Result<ServerAsFound, ConnectorError> {
        let mut conn = self.begin_survey().await?;
        let found = server(&mut conn).await;
        conn.close().await.ok();
        found.map_err(|error| classify(self.endpoint(), "ask the server about itself", error))
    }

    async fn tables(&self) -> Result<Vec<TableName>, ConnectorError> {
        let mut conn = self.begin_survey().await?;
        let listed = list(&mut conn, i64::from(TABLES_MAX)).await;
        conn.close().await.ok();
        listed.map_err(|error| classify(self.endpoint(), "list the tables", error))
    }

    async fn tables_found(&self) -> Result<TablesFound, ConnectorError> {
        let mut conn = self.begin_survey().await?;
        let found = async {
            Ok(TablesFound {
                tables: list(&mut conn, i64::MAX).await?,
                foreign_keys: read_foreign_keys(&mut conn).await?,
            })
        };
        let found = found.await;
        conn.close().await.ok();
        found.map_err(|error| classify(self.endpoint(), "list the tables", error))
    }

    async fn survey(&self, request: &SurveyRequest) -> Result<Survey, ConnectorError> {
        let mut conn = self.begin_survey().await?;
        let endpoint = self.endpoint();
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let found = source_table(&mut conn, endpoint, &table).await?;
        let key_cuts = is_cut_by_its_key(&mut conn, endpoint, &table, &found).await?;
        let read = read(&mut conn, found.oid, request, &table).await;
        conn.close().await.ok();
        let of = |error| classify(endpoint, &format!("look at how {table} is written"), error);
        Ok(Survey {
            key_cuts,
            ..read.map_err(of)?
        })
    }

    async fn as_target(&self, table: &TableName) -> Result<Option<TargetAsFound>, ConnectorError> {
        let mut conn = self.begin_survey().await?;
        let table = qualified(&mut conn, self.endpoint(), table).await?;
        let found = async {
            let Some(found) = find_table(&mut conn, &table).await? else {
                return Ok(None);
            };
            Ok(Some(TargetAsFound {
                referenced_by: read_references(&mut conn, found.oid).await?,
                dependants: read_exchange_facts(&mut conn, found.oid).await?.dependants,
            }))
        }
        .await;
        conn.close().await.ok();
        let of = |error| classify(self.endpoint(), &format!("look at {table}"), error);
        found.map_err(of)
    }
}

impl PostgresSource {
    /// A session for what may be left unknown.
    async fn begin_survey(&self) -> Result<PgConnection, ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open(SessionRole::Source).await?;
        let millis = endpoint.session().probe_timeout.as_millis();
        let limit = Sql::new(Dialect::Postgres, "set statement_timeout = ")
            .integer(i64::try_from(millis).unwrap_or(i64::MAX))
            .into_statement();
        let limited = conn.execute(sqlx::raw_sql(limit)).await;
        limited.map_err(|error| classify(endpoint, "set up a session", error))?;
        Ok(conn)
    }
}

async fn read(
    conn: &mut PgConnection,
    oid: i64,
    request: &SurveyRequest,
    table: &TableName,
) -> Result<Survey, sqlx::Error> {
    let Viewer {
        is_standby,
        role,
        sees,
    } = viewer(conn).await?;
    let sight = match (is_standby, sees) {
        (true, _) => Sight::Standby,
        (false, true) => Sight::Seen,
        (false, false) => Sight::Hidden { role: role.clone() },
    };
    // A standby counts what is asked of it, not what its primary has written.
    let changes = match is_standby {
        true => None,
        false => changes(conn, oid).await?,
    };
    let log = log(conn, oid, is_standby, role).await?;
    let mut columns = Vec::new();
    for (column, kind) in &request.columns {
        let asked = HorizonRequest {
            table: table.clone(),
            column: column.clone(),
            kind: *kind,
            rule: HorizonRule::Auto,
        };
        let moved = sqlx::query_scalar(MOVED)
            .bind(oid)
            .bind(assigns(column))
            .bind(is_argument(column));
        let moved_by = match moved.fetch_one(&mut *conn).await? {
            true => MovedBy::Server,
            false => moved_by_name(column),
        };
        columns.push(Stamping {
            moved_by,
            doubts: doubts(conn, &asked).await?,
        });
    }
    Ok(Survey {
        changes,
        sight,
        log: LogAccess::Server(log),
        bytes: None,
        key_cuts: false,
        columns,
    })
}

async fn changes(conn: &mut PgConnection, oid: i64) -> Result<Option<Changes>, sqlx::Error> {
    let row = sqlx::query(CHANGES).bind(oid).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let number = |name| Ok::<_, sqlx::Error>(unsigned(row.try_get::<Option<i64>, _>(name)?));
    Ok(Some(Changes {
        inserted: number("inserted")?,
        updated: number("updated")?,
        deleted: number("deleted")?,
        seconds: number("seconds")?,
    }))
}

async fn log(
    conn: &mut PgConnection,
    oid: i64,
    is_standby: bool,
    role: String,
) -> Result<ServerLog, sqlx::Error> {
    let row = sqlx::query(LOG).bind(oid).fetch_one(&mut *conn).await?;
    let (slots, taken): (i64, i64) = (row.try_get("slots")?, row.try_get("taken")?);
    let small = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
    let has_primary: bool = row.try_get("has_primary")?;
    let identity = match row.try_get::<String, _>("identity")?.as_str() {
        "d" if has_primary => ReplicaIdentity::Key,
        "i" => ReplicaIdentity::Index,
        "f" => ReplicaIdentity::Full,
        _ => ReplicaIdentity::Nothing,
    };
    let kept: Option<i64> = row.try_get("kept")?;
    let kept = kept.and_then(|megabytes| u64::try_from(megabytes).ok());
    let rate = match conn.server_version_num() {
        Some(COUNTS_LOG..) => sqlx::query_scalar::<_, Option<i64>>(LOG_RATE)
            .fetch_one(&mut *conn)
            .await?
            .and_then(|rate| u64::try_from(rate).ok()),
        Some(_) | None => None,
    };
    Ok(ServerLog {
        wal_level: row.try_get("level")?,
        slots_free: small(slots.saturating_sub(taken)),
        slots: small(slots),
        is_standby,
        role,
        may_replicate: row.try_get("may_replicate")?,
        may_publish: row.try_get("may_publish")?,
        identity,
        is_ordinary: row.try_get("ordinary")?,
        kept_bytes: kept.map(|megabytes| megabytes.saturating_mul(1 << 20)),
        bytes_per_second: rate,
    })
}

fn unsigned(number: Option<i64>) -> u64 {
    u64::try_from(number.unwrap_or(0)).unwrap_or(0)
}

/// The pattern of a function's text that assigns a value to the column of the new row: a statement
/// begins with it, so that a comparison is none.
fn assigns(column: &str) -> String {
    let column = literally(column);
    format!(r#"(^|;|\mbegin|\mthen|\melse|\mloop)\s*new\s*\.\s*"?{column}"?\s*(:=|=)"#)
}

/// The pattern of a trigger's arguments of which one is the column.
fn is_argument(column: &str) -> String {
    format!(r"(^|\\000){}(\\000|$)", literally(column))
}

/// A name within a pattern, for itself alone.
fn literally(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii() && !letter.is_ascii_alphanumeric() && letter != '_' {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}
