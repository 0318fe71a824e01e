//! The slot that keeps the log for a step, and the publication that says what is in it: made where
//! they are missing, and held to what the step needs of them.

use std::time::Duration;

use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;
use highwater_common::log::Lsn;
use sqlx::{Executor, PgConnection, Row};

use super::errors::{classify, fault, is_state, permanent};
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, LogRequest};

/// A slot as it is found.
pub(super) struct Slot {
    /// Of which database, if of one.
    database: Option<String>,
    plugin: Option<String>,
    is_here: bool,
    is_temporary: bool,
    is_lost: bool,
    confirmed: Option<String>,
}

impl Slot {
    pub(super) async fn find(
        conn: &mut PgConnection,
        endpoint: &Endpoint,
        name: &str,
    ) -> Result<Option<Self>, ConnectorError> {
        let failed = |error| classify(endpoint, "look at the replication slots", error);
        let found = sqlx::query(
            "select database::text as database, plugin::text as plugin, temporary, \
             coalesce(database = current_database(), false) as here, \
             coalesce(wal_status = 'lost', false) as lost, confirmed_flush_lsn::text as confirmed \
             from pg_replication_slots where slot_name = $1",
        )
        .bind(name)
        .fetch_optional(conn)
        .await
        .map_err(failed)?;
        let read = |row: sqlx::postgres::PgRow| {
            Ok(Self {
                database: row.try_get("database")?,
                plugin: row.try_get("plugin")?,
                is_here: row.try_get("here")?,
                is_temporary: row.try_get("temporary")?,
                is_lost: row.try_get("lost")?,
                confirmed: row.try_get("confirmed")?,
            })
        };
        found.map(read).transpose().map_err(failed)
    }

    /// Where it begins, if it can be followed from `after` on.
    pub(super) fn begins(
        &self,
        endpoint: &Endpoint,
        request: &LogRequest,
        after: Option<Lsn>,
    ) -> Result<Lsn, ConnectorError> {
        let slot = &request.slot;
        let unfit = |why: &str| {
            let message = format!(
                "the replication slot {slot} on {endpoint} {why}: name another one in \
                 `strategy.slot`, and it is made"
            );
            permanent(ErrorCode::LogUnsupported, message)
        };
        if !self.is_here {
            return Err(unfit(&match &self.database {
                Some(database) => format!("is of the database {database}"),
                None => "is a physical one".to_owned(),
            }));
        }
        if self.plugin.as_deref() != Some("pgoutput") {
            return Err(unfit("has another output plugin than pgoutput"));
        }
        if self.is_temporary {
            return Err(unfit("is temporary"));
        }
        let begins = match &self.confirmed {
            Some(confirmed) => position(endpoint, confirmed)?,
            None => {
                let message = format!(
                    "the replication slot {slot} on {endpoint} is still being made: it waits for the \
                     transactions that were open"
                );
                let (class, code) = (ErrorClass::Resource, ErrorCode::TransactionOpen);
                return Err(fault(class, code, message));
            }
        };
        match after {
            _ if self.is_lost => {
                let why = format!(
                    "the server has removed what the replication slot {slot} kept \
                     (max_slot_wal_keep_size)"
                );
                Err(gap(endpoint, request, after.unwrap_or(begins), &why))
            }
            Some(after) if after < begins => {
                let why = format!("the replication slot {slot} begins at {begins} by now");
                Err(gap(endpoint, request, after, &why))
            }
            Some(_) | None => Ok(begins),
        }
    }
}

/// The log has not all that the target lacks. Nobody begins at its end then.
pub(super) fn gap(
    endpoint: &Endpoint,
    request: &LogRequest,
    after: Lsn,
    why: &str,
) -> ConnectorError {
    let message = format!(
        "the changes of {} on {endpoint} behind {after} are lost, and nothing is applied: {why}. \
         `highwater cdc resync FILE STEP --reason TEXT` copies the table anew",
        request.table
    );
    permanent(ErrorCode::LogGap, message)
}

fn unsupported(message: String) -> ConnectorError {
    permanent(ErrorCode::LogUnsupported, message)
}

/// Makes the publication of the table, unless there is one of its name.
pub(super) async fn make_publication(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &LogRequest,
) -> Result<(), ConnectorError> {
    let failed = |error| {
        let what = format!("make the publication {}", request.publication);
        classify(endpoint, &what, error)
    };
    let is_there = "select exists (select from pg_publication where pubname = $1)";
    let is_there: bool = sqlx::query_scalar(is_there)
        .bind(&request.publication)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if is_there || !request.makes {
        return Ok(());
    }
    let make = Sql::new(Dialect::Postgres, "create publication ")
        .name(&request.publication)
        .text(" for table ")
        .table(&request.table)
        .text(" with (publish_via_partition_root = true)");
    conn.execute("begin read write").await.map_err(failed)?;
    let made = conn.execute(sqlx::raw_sql(make.into_statement())).await;
    made.map_err(failed)?;
    conn.execute("commit").await.map(drop).map_err(failed)
}

/// Makes the slot; where its log begins.
pub(super) async fn make_slot(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &LogRequest,
    within: Duration,
) -> Result<Lsn, ConnectorError> {
    let slot = &request.slot;
    if !request.makes {
        let message = format!(
            "there is no replication slot {slot} on {endpoint}, and its connection is `read_only`: \
             `select pg_create_logical_replication_slot('{slot}', 'pgoutput')`"
        );
        return Err(unsupported(message));
    }
    let what = format!("make the replication slot {slot}");
    let failed = |error| classify(endpoint, &what, error);
    let millis = i64::try_from(within.as_millis()).unwrap_or(i64::from(i32::MAX));
    let limit = Sql::new(Dialect::Postgres, "set statement_timeout = ").integer(millis);
    conn.execute(sqlx::raw_sql(limit.into_statement()))
        .await
        .map_err(failed)?;
    let made = sqlx::query_scalar::<_, String>(
        "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput')",
    )
    .bind(slot)
    .fetch_one(&mut *conn)
    .await;
    match made {
        Ok(at) => position(endpoint, &at),
        Err(error) if is_state(&error, "57014") => Err(still_open(conn, endpoint).await),
        Err(error) => Err(failed(error)),
    }
}

/// Holds the table and its publication to what can be followed.
pub(super) async fn check_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &LogRequest,
) -> Result<(), ConnectorError> {
    let (table, publication) = (&request.table, &request.publication);
    let failed = |error| classify(endpoint, &format!("look at {table}"), error);
    let level: String = sqlx::query_scalar("select current_setting('wal_level')")
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if level != "logical" {
        return Err(unsupported(format!(
            "{endpoint} keeps no log that can be followed: `alter system set wal_level = logical`, \
             and restart the server"
        )));
    }
    // A partition's rows are told as those of its root.
    let found = sqlx::query(
        "select c.relkind::text as kind, c.relpersistence::text as persistence, \
         c.relreplident::text as identity, array(select a.attname::text from pg_index i \
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) \
           where i.indrelid = c.oid and case c.relreplident when 'd' then i.indisprimary \
             when 'i' then i.indisreplident else false end) as told \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = $2",
    )
    .bind(table.schema.as_deref())
    .bind(&table.name)
    .fetch_optional(&mut *conn)
    .await
    .map_err(failed)?;
    let Some(found) = found else {
        return Err(super::catalog::unknown_table(conn, endpoint, table).await);
    };
    let text = |name: &str| found.try_get::<String, _>(name).map_err(failed);
    let (kind, identity) = (text("kind")?, text("identity")?);
    if !matches!(kind.as_str(), "r" | "p") || text("persistence")? != "p" {
        return Err(unsupported(format!(
            "{table} on {endpoint} is no table whose changes are logged"
        )));
    }
    let told: Vec<String> = found.try_get("told").map_err(failed)?;
    let key = request
        .columns
        .iter()
        .filter(|column| request.key.contains(&column.name));
    let untold = key
        .map(|column| column.source_name())
        .find(|name| !told.iter().any(|of| of == name));
    if let Some(name) = untold.filter(|_| identity != "f") {
        return Err(unsupported(format!(
            "the log of {endpoint} does not tell the key column {name} of a row of {table} that is \
             updated or deleted: `alter table {table} replica identity full`, or `using index` of a \
             unique index of the key"
        )));
    }
    check_publication(conn, endpoint, request, kind == "p")
        .await
        .and_then(|fault| match fault {
            None => Ok(()),
            Some(why) => Err(unsupported(format!(
                "the publication {publication} on {endpoint} {why}"
            ))),
        })
}

/// Why the publication does not tell what happens to the table, if it does not.
async fn check_publication(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &LogRequest,
    is_root: bool,
) -> Result<Option<String>, ConnectorError> {
    let (table, publication) = (&request.table, &request.publication);
    let failed = |error| {
        classify(
            endpoint,
            &format!("look at the publication {publication}"),
            error,
        )
    };
    let is_filtering = conn.server_version_num().unwrap_or(0) >= 150_000;
    let published = Sql::new(
        Dialect::Postgres,
        "select p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as whole, \
         p.pubviaroot as root, t.tablename is not null as there, ",
    )
    .text(match is_filtering {
        true => "t.rowfilter is not null as filtered, t.attnames::text[] as names ",
        false => "false as filtered, null::text[] as names ",
    })
    .text(
        "from pg_publication p left join pg_publication_tables t on t.pubname = p.pubname \
         and t.schemaname = $2 and t.tablename = $3 where p.pubname = $1",
    );
    let found = sqlx::query(published.into_statement())
        .bind(publication)
        .bind(table.schema.as_deref())
        .bind(&table.name)
        .fetch_optional(conn)
        .await
        .map_err(failed)?;
    let Some(found) = found else {
        return Ok(Some(format!(
            "does not exist, and is made with a slot alone, or the slot would tell of what was \
             before it: `create publication {publication} for table {table}`, and drop the slot \
             {} where no step has read it yet",
            request.slot
        )));
    };
    let is = |name: &str| found.try_get::<bool, _>(name).map_err(failed);
    let listed: Option<Vec<String>> = found.try_get("names").map_err(failed)?;
    let unlisted = listed.and_then(|listed| {
        let mut names = request.columns.iter().map(|column| column.source_name());
        names
            .find(|name| !listed.iter().any(|of| of == name))
            .map(str::to_owned)
    });
    Ok(if !is("there")? {
        Some(format!(
            "is not of {table}: `alter publication {publication} add table {table}`, \
             and `highwater cdc resync`: what it has not told nobody knows"
        ))
    } else if !is("whole")? {
        Some("leaves out some kinds of changes (`publish`)".to_owned())
    } else if is("filtered")? {
        Some(format!("leaves out rows of {table}"))
    } else if is_root && !is("root")? {
        Some(format!(
            "tells of the partitions of {table} and not of {table}: `alter publication \
             {publication} set (publish_via_partition_root = true)`"
        ))
    } else {
        unlisted.map(|name| format!("leaves out column {name} of {table}"))
    })
}

/// A position as the server writes it.
pub(super) fn position(endpoint: &Endpoint, text: &str) -> Result<Lsn, ConnectorError> {
    text.parse().map_err(|error| {
        let message = format!("{endpoint} answers with a position that is none: {error}");
        permanent(ErrorCode::LogUnreadable, message)
    })
}

/// A transaction is still open that has to end; which one, where it can be seen.
pub(super) async fn still_open(conn: &mut PgConnection, endpoint: &Endpoint) -> ConnectorError {
    let oldest = sqlx::query(
        "select pid, coalesce(usename::text, '') as usename, coalesce(xact_start::timestamptz(0)::text, \
         '') as since from pg_stat_activity where backend_xid is not null and pid <> \
         pg_backend_pid() order by age(backend_xid) desc limit 1",
    )
    .fetch_optional(conn)
    .await;
    let oldest = match oldest {
        Ok(Some(row)) => match (
            row.try_get("pid"),
            row.try_get("usename"),
            row.try_get("since"),
        ) {
            (Ok::<i32, _>(pid), Ok::<String, _>(user), Ok::<String, _>(since)) => {
                format!(": session {pid} ({user}), whose transaction began at {since}")
            }
            _ => String::new(),
        },
        Ok(None) => "; pg_prepared_xacts may hold it".to_owned(),
        Err(_) => String::new(),
    };
    let message = format!(
        "a transaction on {endpoint} that was open before the log is still open, and the table is \
         copied once it has ended{oldest}"
    );
    fault(ErrorClass::Resource, ErrorCode::TransactionOpen, message)
}
