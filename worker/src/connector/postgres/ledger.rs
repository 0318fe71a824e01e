//! The ledger: who claimed which task, and what was committed, in the target itself. Never decides:
//! it reads and writes rows; what they mean is `highwater_common::commit`'s business.

use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::chunk::Reached;
use highwater_common::close::Ordinals;
use highwater_common::commit::{LedgerRow, LedgerState};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{ClusterId, DocumentDigest, RunId, TaskId};
use highwater_common::token::{Fence, FencingToken, Nonce};
use sqlx::postgres::PgRow;
use sqlx::{Executor, PgConnection, Row};
use uuid::Uuid;

use super::errors::{classify, fault, is_missing_relation, is_state, permanent};
use super::session::Endpoint;
use crate::connector::stored_slice::stored_cursor;
use crate::connector::{CloseRequest, ConnectorError};

/// The schema of the ledger's tables.
pub(super) const SCHEMA: &str = "highwater";
/// What this version writes; another is refused.
const FORMAT: i32 = 6;
/// Held while a ledger or a table is made: `create … if not exists` of two sessions at once fails
/// in one of them.
const MAKE_LOCK: i64 = 0x6869_6768_7761_7465;

const MAKE_TABLES: &str = "
create table if not exists highwater.meta (
    only_row boolean primary key default true check (only_row),
    cluster_id uuid not null,
    incarnation bigint not null,
    format integer not null);
create table if not exists highwater.run (
    run_id uuid primary key,
    state text not null check (state in ('R', 'X')),
    fenced_at timestamptz,
    fenced_by uuid);
create table if not exists highwater.task (
    run_id uuid not null,
    task_id uuid not null,
    token bigint not null,
    nonce uuid not null,
    state text not null check (state in ('O', 'I', 'C', 'X', 'V')),
    spec_digest bytea not null,
    chunk integer not null default 0,
    cursor text,
    session_id integer,
    session_start timestamptz,
    generation integer not null,
    step text not null,
    phase smallint not null,
    ordinal bigint not null,
    plan bytea not null,
    stream_id text not null,
    slice_kind text not null,
    range_start bigint,
    range_end bigint,
    attempt integer not null,
    rows bigint not null default 0,
    bytes bigint not null default 0,
    row_digest bytea,
    source_position text,
    result bytea check (octet_length(result) <= 16384),
    claimed_at timestamptz not null default now(),
    committed_at timestamptz,
    voided_at timestamptz,
    voided_by uuid,
    void_reason text,
    part boolean not null default false,
    primary key (run_id, task_id));
create index if not exists task_stream on highwater.task (stream_id, state);
create table if not exists highwater.stream (
    stream_id text primary key,
    run_id uuid not null,
    token bigint not null,
    table_database text,
    table_oid oid,
    plan bytea,
    taken_at timestamptz not null default now(),
    resync boolean not null default false);
alter table highwater.stream add column if not exists resync boolean not null default false;
create table if not exists highwater.watermark (
    stream_id text primary key,
    position text not null,
    version bigint not null,
    token bigint not null,
    updated_at timestamptz not null default now(),
    log_identity text,
    reached_at timestamptz,
    live_since timestamptz);
alter table highwater.watermark
    add column if not exists log_identity text,
    add column if not exists reached_at timestamptz,
    add column if not exists live_since timestamptz;";

/// What the server says to a role that does not own the table.
const NOT_ALLOWED: &str = "42501";

/// What a slice may be of; a ledger of before a kind knows it not.
const SLICE_KINDS: &str = "
alter table highwater.task
    drop constraint if exists task_slice_kind_check,
    drop constraint if exists task_slice_kind,
    add constraint task_slice_kind check
        (slice_kind ~ '^(integer|instant|civil|date|all|null|table|placed:[0-9a-f]{16})$') not valid";

/// A 128-bit identity as PostgreSQL holds it.
pub(super) const fn uuid(bytes: &[u8; 16]) -> Uuid {
    Uuid::from_bytes(*bytes)
}

/// Waits until no other session makes a ledger or a table; the lock goes with the transaction.
pub(super) async fn lock_making(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
) -> Result<(), ConnectorError> {
    let locked = sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(MAKE_LOCK)
        .execute(&mut *conn)
        .await;
    locked
        .map(drop)
        .map_err(|error| classify(endpoint, "lock the ledger for making it", error))
}

/// Makes the ledger where it is missing, and marks the target as the cluster's, inside the caller's
/// transaction and under [`lock_making`]. Refuses one that is another cluster's.
pub(super) async fn make(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    cluster: &ClusterId,
) -> Result<(), ConnectorError> {
    let holder = make_whoever_holds(conn, endpoint, cluster).await?;
    check_holder(endpoint, &holder, cluster)
}

/// The same, and tells whose the target is.
pub(super) async fn make_whoever_holds(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    cluster: &ClusterId,
) -> Result<ClusterId, ConnectorError> {
    make_tables(conn, endpoint).await?;
    let failed = |error| classify(endpoint, "mark the target as the cluster's", error);
    sqlx::query(
        "insert into highwater.meta (cluster_id, incarnation, format) values ($1, 1, $2) on \
         conflict do nothing",
    )
    .bind(uuid(cluster.as_bytes()))
    .bind(FORMAT)
    .execute(&mut *conn)
    .await
    .map_err(failed)?;
    Ok(read_cluster(conn, endpoint).await?.unwrap_or(*cluster))
}

/// Makes the ledger's tables where they are missing.
pub(super) async fn make_tables(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
) -> Result<(), ConnectorError> {
    let failed = |error| classify(endpoint, "make the ledger", error);
    // `create schema if not exists` asks for a right on the database even when the schema is there.
    let there: bool = sqlx::query_scalar("select to_regnamespace('highwater') is not null")
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
    if !there {
        conn.execute("create schema highwater")
            .await
            .map_err(failed)?;
    }
    let (whole, knows_kinds): (bool, bool) = sqlx::query_as(
        "select to_regclass('highwater.meta') is not null and (select count(*) from pg_attribute \
         where (attrelid, attname) in ((to_regclass('highwater.watermark'), 'live_since'), \
         (to_regclass('highwater.stream'), 'resync'))) = 2, exists (select from pg_constraint \
         where conrelid = to_regclass('highwater.task') and conname = 'task_slice_kind')",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed)?;
    if !whole {
        conn.execute(sqlx::raw_sql(MAKE_TABLES))
            .await
            .map_err(failed)?;
    }
    if knows_kinds {
        return Ok(());
    }
    // A role that may write the ledger of an earlier version, and does not own it, goes on with the
    // kinds of slices that it knows.
    conn.execute("savepoint kinds").await.map_err(failed)?;
    let told = conn.execute(sqlx::raw_sql(SLICE_KINDS)).await;
    match told {
        Ok(_) => Ok(()),
        Err(error) if whole && is_state(&error, NOT_ALLOWED) => {
            let back = conn.execute("rollback to savepoint kinds").await;
            back.map(drop).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The cluster that the target belongs to; `None` before anybody marked it.
pub(super) async fn read_cluster(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
) -> Result<Option<ClusterId>, ConnectorError> {
    let found = sqlx::query("select cluster_id, format from highwater.meta")
        .fetch_optional(&mut *conn)
        .await;
    let row = match found {
        Ok(row) => row,
        Err(error) if is_missing_relation(&error) => None,
        Err(error) => return Err(classify(endpoint, "read the ledger's mark", error)),
    };
    let Some(row) = row else { return Ok(None) };
    let failed = |error| classify(endpoint, "read the ledger's mark", error);
    let format: i32 = row.try_get("format").map_err(failed)?;
    if format != FORMAT {
        let message = if format < FORMAT {
            format!(
                "the ledger on {endpoint} has format {format}, of an earlier version of Highwater, \
                 and this worker reads {FORMAT} only. Let that version finish, then move the \
                 schema `{SCHEMA}` away (`alter schema {SCHEMA} rename to …`) and begin with an \
                 empty target table: receipts of the earlier form are not read"
            )
        } else {
            format!(
                "the ledger on {endpoint} has format {format}, and this worker knows {FORMAT}; \
                     update the worker"
            )
        };
        return Err(permanent(ErrorCode::UnknownLedgerFormat, message));
    }
    let id: Uuid = row.try_get("cluster_id").map_err(failed)?;
    Ok(Some(ClusterId::from_bytes(id.into_bytes())))
}

/// Refuses a target of another cluster, and one without a ledger.
pub(super) async fn check_cluster(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    cluster: &ClusterId,
) -> Result<(), ConnectorError> {
    match read_cluster(conn, endpoint).await? {
        Some(holder) => check_holder(endpoint, &holder, cluster),
        None => {
            let message = format!(
                "there is no ledger on {endpoint}; was it dropped? Start a new run to make it again"
            );
            Err(permanent(ErrorCode::LedgerMissing, message))
        }
    }
}

/// Refuses a target of another cluster.
pub(super) fn check_holder(
    endpoint: &Endpoint,
    holder: &ClusterId,
    cluster: &ClusterId,
) -> Result<(), ConnectorError> {
    if holder == cluster {
        return Ok(());
    }
    let message = format!(
        "{endpoint} belongs to cluster {holder}, and this is cluster {cluster}; two clusters on \
         one target would not see each other's claims. If the other one is gone, take the target \
         over with `highwater cluster adopt`"
    );
    Err(permanent(ErrorCode::TargetOfAnotherCluster, message))
}

/// Which server this is, and which life of it: a failover or a restored backup begins a new
/// timeline.
pub(super) async fn read_fingerprint(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
) -> Result<String, ConnectorError> {
    // The name of the current log file tells the timeline at once; the control file only after the
    // next checkpoint.
    const FULL: &str = "select 'pg:' || s.system_identifier || '/' || case when \
         pg_is_in_recovery() then 'standby' \
         else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end from pg_control_system() s";
    const WITHOUT_RIGHTS: &str = "select 'pg:db' || oid || '/' || case when pg_is_in_recovery() \
         then 'standby' \
         else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end from pg_database where \
         datname = current_database()";
    let read = match sqlx::query_scalar::<_, String>(FULL)
        .fetch_one(&mut *conn)
        .await
    {
        Err(error) if is_state(&error, "42501") => {
            sqlx::query_scalar::<_, String>(WITHOUT_RIGHTS)
                .fetch_one(&mut *conn)
                .await
        }
        other => other,
    };
    read.map_err(|error| classify(endpoint, "read the server's identity", error))
}

/// Which database this is, whichever life of its server: a standby that takes over is the same, one
/// restored from a dump is not.
pub(super) async fn read_database(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
) -> Result<String, ConnectorError> {
    const FULL: &str = "select s.system_identifier || '/' || d.oid from pg_control_system() s, \
         pg_database d \
         where d.datname = current_database()";
    const WITHOUT_RIGHTS: &str = "select 'db/' || oid from pg_database where datname = \
                                  current_database()";
    let mut read = sqlx::query_scalar::<_, bool>(
        "select \
        has_function_privilege('pg_control_system()', 'execute')",
    );
    read = read.persistent(false);
    let failed = |error| classify(endpoint, "read the database's identity", error);
    let text = if read.fetch_one(&mut *conn).await.map_err(failed)? {
        FULL
    } else {
        WITHOUT_RIGHTS
    };
    sqlx::query_scalar::<_, String>(text)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)
}

/// Refuses a server that is not the one last reconciled.
pub(super) async fn check_fingerprint(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    expected: &str,
) -> Result<(), ConnectorError> {
    let found = read_fingerprint(conn, endpoint).await?;
    if found == expected {
        return Ok(());
    }
    let message = format!(
        "{endpoint} is {found} now and was {expected} when its ledger was last compared; a \
         failover or a restore may have lost commits, so nothing is written before it has been \
         compared again"
    );
    Err(fault(
        ErrorClass::Transient,
        ErrorCode::TargetChanged,
        message,
    ))
}

/// The tasks of a phase of a run's plan that are committed.
pub(super) async fn committed(
    conn: &mut PgConnection,
    request: &CloseRequest,
) -> Result<Ordinals, sqlx::Error> {
    let islands = sqlx::query_as::<_, (i64, i64)>(
        "select min(ordinal), max(ordinal) from ( \
            select ordinal, ordinal - row_number() over (order by ordinal) as island from \
            highwater.task \
            where run_id = $1 and step = $2 and phase = $3 and plan = $4 and state = 'C' and not \
            part) found \
            group by island order by 1",
    )
    .bind(uuid(request.run.as_bytes()))
    .bind(request.step.as_str())
    .bind(i16::from(request.phase))
    .bind(request.plan.as_bytes().as_slice())
    .fetch_all(&mut *conn)
    .await?;
    let side = |ordinal: i64| u64::try_from(ordinal).unwrap_or(u64::MAX);
    Ok(Ordinals::of_ranges(
        islands
            .into_iter()
            .map(|(first, last)| (side(first), side(last))),
    ))
}

/// A session of the target: its process and when it began, since the system gives process ids
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionMark {
    pub(super) pid: i32,
    /// Microseconds since 1970.
    pub(super) started_micros: i64,
}

/// A ledger row with the session of its latest claim.
#[derive(Debug, Clone)]
pub(super) struct FoundRow {
    pub(super) row: LedgerRow,
    pub(super) reached: Reached,
    pub(super) session: Option<SessionMark>,
}

/// The row of a task.
pub(super) async fn read_row(
    conn: &mut PgConnection,
    run: &RunId,
    task: &TaskId,
) -> Result<Option<FoundRow>, sqlx::Error> {
    let found = sqlx::query(
        "select state, token, nonce, spec_digest, chunk, cursor, rows, bytes, session_id, \
                (extract(epoch from session_start) * 1000000)::int8 as session_micros \
         from highwater.task where run_id = $1 and task_id = $2",
    )
    .bind(uuid(run.as_bytes()))
    .bind(uuid(task.as_bytes()))
    .fetch_optional(&mut *conn)
    .await?;
    found.map(|row| parse_row(&row)).transpose()
}

fn parse_row(row: &PgRow) -> Result<FoundRow, sqlx::Error> {
    let decode = |message: &str| sqlx::Error::Decode(message.to_owned().into());
    let letter: String = row.try_get("state")?;
    let state = LedgerState::from_letter(&letter)
        .ok_or_else(|| decode("a ledger row has an unknown state"))?;
    let nonce: Uuid = row.try_get("nonce")?;
    let digest: Vec<u8> = row.try_get("spec_digest")?;
    let digest = <[u8; 32]>::try_from(digest)
        .map_err(|_| decode("a ledger row's digest has no 32 bytes"))?;
    let reached = reached(row)?;
    let (pid, started): (Option<i32>, Option<i64>) =
        (row.try_get("session_id")?, row.try_get("session_micros")?);
    Ok(FoundRow {
        row: LedgerRow {
            state,
            fence: Fence {
                token: FencingToken::from_raw(row.try_get("token")?),
                nonce: Nonce::from_bytes(nonce.into_bytes()),
            },
            spec_digest: DocumentDigest::from_bytes(digest),
            receipt: reached.receipt,
        },
        reached,
        session: pid.zip(started).map(|(pid, started_micros)| SessionMark {
            pid,
            started_micros,
        }),
    })
}

/// How far a task's commits have come, by the columns `chunk`, `cursor`, `rows` and `bytes`.
pub(super) fn reached(row: &PgRow) -> Result<Reached, sqlx::Error> {
    let cursor = match row.try_get::<Option<String>, _>("cursor")? {
        None => None,
        Some(text) => Some(stored_cursor(&text).ok_or_else(|| {
            sqlx::Error::Decode("a ledger row has an unreadable position".into())
        })?),
    };
    let (rows, bytes): (i64, i64) = (row.try_get("rows")?, row.try_get("bytes")?);
    Ok(Reached {
        chunks: u32::try_from(row.try_get::<i32, _>("chunk")?).unwrap_or(0),
        cursor,
        receipt: Receipt {
            rows: u64::try_from(rows).unwrap_or(0),
            bytes: u64::try_from(bytes).unwrap_or(0),
        },
    })
}
