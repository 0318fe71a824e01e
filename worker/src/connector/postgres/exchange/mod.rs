//! Lets one table take the place of another by their names, in one transaction: whoever reads the
//! name waits for its end and then sees the other table, and views see it, too.
//!
//! Every lock is taken before the one on the table that is read, which is taken last: whoever reads
//! waits for nothing but the few statements behind it.

mod carried;
mod dependants;
mod finished;
mod mark;
mod shadow;
mod stage;
mod undo;

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::error_code::ErrorCode;
use highwater_common::plan::check_dependants;
use highwater_common::spec::TableName;
use sqlx::{Executor, PgConnection};
use tokio::time::Instant;

use self::carried::{BOTH, Key, read_script};
use self::dependants::read_dependants;
pub(super) use self::dependants::read_exchange_facts;
use self::finished::read_unlike;
use self::mark::{Mark, read_marks};
use super::catalog::{qualified, unknown_table};
use super::data::OpenTx;
use super::errors::{classify, fault, is_state, permanent, transaction_pooling};
use super::pins::PINNED;
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql, server_script};
use crate::connector::{ConnectorError, ExchangeRequest, ExchangeTx, Exchanged, ShadowKind};

const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Longer than the time after which a server looks who waits for its vacuum (`deadlock_timeout`).
const VACUUM_WAIT: Duration = Duration::from_secs(5);

/// The locks that the exchange needs on everything but the two tables, in the order in which readers
/// take theirs. A view is locked by giving it the owner that it has: `lock table` would lock every
/// table that it reads. To drop a foreign key locks the table that it leads to against readers, too;
/// a role that may not lock that table itself waits for it later.
const LOCKS: &str = r",
held as (select distinct v.oid, v.relkind, v.relowner
  from l, pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class
  where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
  and d.refobjid = l.oid and v.relkind = 'v' and v.relpersistence <> 't'
  union select o.oid, o.relkind, o.relowner
  from l, a, pg_constraint k join pg_class o on o.oid in (k.conrelid, k.confrelid)
  where k.contype = 'f' and k.conparentid = 0 and has_table_privilege(o.oid, 'update')
  and (l.oid in (k.conrelid, k.confrelid) or a.oid in (k.conrelid, k.confrelid))
  and o.oid not in (l.oid, a.oid))
select case when relkind = 'v'
    then format('alter view %s owner to %I', oid::regclass, pg_get_userbyid(relowner))
    else format('lock table only %s in access exclusive mode', oid::regclass) end as statement
  from held order by relkind = 'v' desc, oid";

#[async_trait]
impl ExchangeTx for OpenTx {
    async fn exchange(&mut self, request: &ExchangeRequest) -> Result<Exchanged, ConnectorError> {
        let mut at = Exchanging {
            conn: &mut self.session.conn,
            endpoint: &self.session.endpoint,
            advice: "Plan anew with --new",
        };
        exchange(&mut at, request).await
    }
}

/// Where tables are exchanged, in an open transaction of a target's session.
struct Exchanging<'a> {
    conn: &'a mut PgConnection,
    endpoint: &'a Endpoint,
    /// What a person does who is told that the one cannot take the place of the other.
    advice: &'static str,
}

async fn exchange(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
) -> Result<Exchanged, ConnectorError> {
    let table = qualified(at.conn, at.endpoint, &request.table).await?;
    // Both stand in one schema.
    let by = TableName {
        schema: request.by.schema.clone().or_else(|| table.schema.clone()),
        ..request.by.clone()
    };
    let request = &ExchangeRequest {
        table,
        by,
        ..request.clone()
    };
    check_session(at, request).await?;
    let oid = planned(&request.identity)?;
    let by = lock(at, request, oid).await?;
    check(at, request, oid, by).await?;
    let failed = refused(at, request);
    let script = read_script(at.conn, oid, by).await.map_err(&failed)?;
    let unchecked = read_unchecked(at, request, script.unchecked).await;
    let unchecked = unchecked.map_err(&failed)?;
    let kept = TableName {
        schema: request.table.schema.clone(),
        name: kept_name(oid),
    };
    let exchanged = at
        .conn
        .execute(sqlx::raw_sql(server_script(&script.statements)));
    exchanged.await.map_err(&failed)?;
    let mark = Mark {
        kind: ShadowKind::Kept,
        attempt: None,
        of: request.table.clone(),
        run: request.run,
        stream: request.stream.clone(),
        since_micros: read_clock(at.conn).await.map_err(&failed)?,
        unchecked,
    };
    let mark = mark.statement(&kept).into_statement();
    at.conn
        .execute(sqlx::raw_sql(mark))
        .await
        .map_err(&failed)?;
    note(at.conn, &request.stream, oid, by)
        .await
        .map_err(&failed)?;
    Ok(Exchanged {
        identity: by.to_string(),
        kept,
    })
}

/// The keys that are to be checked after this exchange: those that it found checked, and those that
/// an exchange before it left and that nobody has checked yet.
async fn read_unchecked(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
    mut unchecked: Vec<Key>,
) -> Result<Vec<Key>, sqlx::Error> {
    for marked in read_marks(at.conn).await? {
        if marked.mark.kind == ShadowKind::Kept && marked.mark.of == request.table {
            unchecked.extend(marked.mark.unchecked);
        }
    }
    unchecked.sort();
    unchecked.dedup();
    Ok(unchecked)
}

/// The session is the one that was set up, and not another one that a pooler gave the transaction.
async fn check_session(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
) -> Result<(), ConnectorError> {
    let failed = refused(at, request);
    let asked = Sql::new(Dialect::Postgres, "select ").text(PINNED);
    let said = sqlx::query_scalar::<_, Option<String>>(asked.into_statement())
        .fetch_one(&mut *at.conn)
        .await
        .map_err(failed)?;
    match said.as_deref() {
        Some("target") => Ok(()),
        _ => Err(transaction_pooling(at.endpoint)),
    }
}

/// Locks whatever the exchange changes; gives the oid of the table that takes the place.
async fn lock(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
    oid: i64,
) -> Result<i64, ConnectorError> {
    let failed = refused(at, request);
    let Some(by) = oid_of(at.conn, &request.by).await.map_err(&failed)? else {
        return Err(unfit(at, request, "it is not there"));
    };
    let locks = Sql::new(Dialect::Postgres, BOTH).text(LOCKS);
    let locks = sqlx::query_scalar::<_, String>(locks.into_statement())
        .bind(oid)
        .bind(by)
        .fetch_all(&mut *at.conn)
        .await
        .map_err(&failed)?;
    wait_for_vacuum(at, request).await?;
    let until = Instant::now() + request.lock_wait;
    for statement in locks {
        take_lock(at, request, until, statement).await?;
    }
    for table in [&request.by, &request.table] {
        let lock = Sql::new(Dialect::Postgres, "lock table only ")
            .table(table)
            .text(" in access exclusive mode");
        take_lock(at, request, until, lock.as_str().to_owned()).await?;
    }
    // Only what is read under the locks stays true.
    let now = oid_of(at.conn, &request.table).await.map_err(&failed)?;
    if now != Some(oid) {
        return Err(match now {
            Some(_) => replaced(&at.endpoint.to_string(), &request.table),
            None => unknown_table(at.conn, at.endpoint, &request.table).await,
        });
    }
    match oid_of(at.conn, &request.by).await.map_err(failed)? {
        Some(now) if now == by => Ok(by),
        Some(_) | None => Err(unfit(at, request, "it was made anew")),
    }
}

/// Waits for a vacuum of either table, and keeps the next one away, with a lock that no reader and
/// no writer waits behind. The server ends its own vacuum once somebody waited for long enough.
async fn wait_for_vacuum(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
) -> Result<(), ConnectorError> {
    for table in [&request.by, &request.table] {
        let lock = Sql::new(Dialect::Postgres, "lock table only ")
            .table(table)
            .text(" in share update exclusive mode");
        let until = Instant::now() + VACUUM_WAIT;
        take_lock(at, request, until, lock.as_str().to_owned()).await?;
    }
    Ok(())
}

/// Takes one lock, and waits for it and all later ones no longer than until then.
async fn take_lock(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
    until: Instant,
    lock: String,
) -> Result<(), ConnectorError> {
    let failed = refused(at, request);
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    // 0 would wait for ever.
    let wait = Sql::new(Dialect::Postgres, "set local lock_timeout = ")
        .integer(i64::try_from(left).unwrap_or(i64::from(i32::MAX)).max(1));
    let both = server_script(&[wait.as_str().to_owned(), lock]);
    let locked = at.conn.execute(sqlx::raw_sql(both)).await;
    locked.map(drop).map_err(failed)
}

/// What was true when it was planned and loaded is true still.
async fn check(
    at: &mut Exchanging<'_>,
    request: &ExchangeRequest,
    oid: i64,
    by: i64,
) -> Result<(), ConnectorError> {
    let failed = refused(at, request);
    let found = read_dependants(at.conn, oid).await.map_err(&failed)?;
    if let Some((code, why)) = check_dependants(&request.table, &found).refusal() {
        return Err(permanent(code, format!("{why} ({})", at.endpoint)));
    }
    match read_unlike(at.conn, oid, by).await.map_err(failed)? {
        Some(why) => Err(unfit(at, request, &why)),
        None => Ok(()),
    }
}

/// The stream's receipts speak of the rows that are read by the name: those of the table that has it
/// now.
async fn note(conn: &mut PgConnection, stream: &str, oid: i64, by: i64) -> Result<(), sqlx::Error> {
    let noted = sqlx::query(
        "update highwater.stream set table_oid = $3::int8::oid where stream_id = $1 and table_oid \
         = $2::int8::oid",
    );
    let noted = noted.bind(stream).bind(oid).bind(by);
    noted.execute(conn).await.map(drop)
}

/// The table of this name, by its oid.
async fn oid_of(conn: &mut PgConnection, table: &TableName) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar::<_, i64>(
        "select c.oid::int8 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_optional(conn)
    .await
}

/// The server's time, in microseconds since 1970-01-01T00:00:00Z.
async fn read_clock(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::int8")
        .fetch_one(conn)
        .await
}

fn planned(identity: &str) -> Result<i64, ConnectorError> {
    identity.parse().map_err(|_| {
        let message = format!("`{identity}` is no table's identity; this is a bug");
        permanent(ErrorCode::TargetReplaced, message)
    })
}

/// The name of a table that gave its place away.
fn kept_name(oid: i64) -> String {
    format!("_highwater_old_{oid}")
}

fn refused(
    at: &Exchanging<'_>,
    request: &ExchangeRequest,
) -> impl Fn(sqlx::Error) -> ConnectorError + use<> {
    let (endpoint, table) = (at.endpoint.clone(), request.table.clone());
    move |error| {
        let is_blocked = is_state(&error, LOCK_NOT_AVAILABLE);
        let what = format!("let another table take the place of {table}");
        let told = classify(&endpoint, &what, error);
        match is_blocked {
            true => fault(
                told.report.class,
                ErrorCode::SwapBlocked,
                told.report.message,
            ),
            false => told,
        }
    }
}

fn replaced(endpoint: &str, table: &TableName) -> ConnectorError {
    let message = format!(
        "{table} on {endpoint} is another table than the one that was planned for; nothing was \
         touched. Plan anew with --new"
    );
    permanent(ErrorCode::TargetReplaced, message)
}

fn unfit(at: &Exchanging<'_>, request: &ExchangeRequest, why: &str) -> ConnectorError {
    let message = format!(
        "{} cannot take the place of {} on {}: {why}; nothing was touched. {}",
        request.by, request.table, at.endpoint, at.advice
    );
    permanent(ErrorCode::ShadowUnfit, message)
}
