//! What the open transactions of a server say of the rows that may still be committed.
//!
//! A transaction that `pg_stat_activity` does not list is over, and what it wrote is visible to
//! every snapshot that is taken later; or it begins later, and the stamps that the server gives it
//! are later, too. So no row whose stamp lies before the start of the oldest one listed is committed
//! any more. Who cannot be seen is never taken for idle.

use std::time::Duration;

use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::HorizonRule;
use highwater_common::window::Horizon;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::Instant;

use super::errors::{classify, permanent};
use super::pins::IS_READER;
use super::session::Endpoint;
use crate::connector::{ConnectorError, HorizonRequest};

/// How long the transactions that had begun are waited for, where only their end makes numbers safe.
const DRAIN_TIME: Duration = Duration::from_secs(5);
const DRAIN_PAUSE: Duration = Duration::from_millis(50);
/// A stamp and the start of its transaction may be read from the clock apart from each other.
const SLACK_MICROS: i64 = 1_000_000;
/// A session that holds the horizon back by so much is told of.
const TOLD_MICROS: i64 = 30_000_000;

/// How far a window may reach.
pub(super) async fn horizon(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &HorizonRequest,
) -> Result<Horizon, ConnectorError> {
    let failed = |error| classify(endpoint, "look at the open transactions", error);
    let doubts = doubts(conn, request).await.map_err(failed)?;
    if let HorizonRule::Lag(lag) = request.rule {
        let now = now(conn).await.map_err(failed)?;
        let lag = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
        return Ok(Horizon {
            instant: Some(now.saturating_sub(lag)),
            drained: false,
            held_by: None,
            doubts: Vec::new(),
        });
    }
    check_sight(conn, endpoint).await?;
    let begun = Instant::now();
    let asked_at = now(conn).await.map_err(failed)?;
    loop {
        let seen = look(conn).await.map_err(failed)?;
        let drained = seen.blind.is_none() && seen.oldest >= asked_at;
        let waits = request.kind == CursorKind::Integer && !drained;
        if waits && begun.elapsed() < DRAIN_TIME {
            tokio::time::sleep(DRAIN_PAUSE).await;
            continue;
        }
        let is_told = waits || seen.now.saturating_sub(seen.oldest) > TOLD_MICROS;
        let instant = match seen.blind {
            Some(_) => None,
            None => Some(seen.oldest.saturating_sub(SLACK_MICROS)),
        };
        return Ok(Horizon {
            instant,
            drained,
            held_by: seen.blind.or(seen.holder.filter(|_| is_told)),
            doubts,
        });
    }
}

/// What is seen of the transactions at one moment. Each look is a statement of its own: within a
/// transaction the view would be what it was before.
struct Seen {
    now: i64,
    /// When the oldest one began, or now.
    oldest: i64,
    /// Which one that is.
    holder: Option<String>,
    /// Why an older one may be there that is not seen.
    blind: Option<String>,
}

async fn look(conn: &mut PgConnection) -> Result<Seen, sqlx::Error> {
    // Our own sessions that only read commit nothing, and some of them read for hours.
    let seen = format!(
        "with seen as (
           select pid, usename, application_name, state, xact_start, backend_xid
           from pg_stat_activity s
           where datname = current_database() and pid <> pg_backend_pid()
             and backend_type not in ('walsender', 'autovacuum worker') and not {IS_READER}),
         oldest as (select * from seen where xact_start is not null order by xact_start limit 1),
         hidden as (
           select * from seen
           where state = 'disabled' or (xact_start is null and backend_xid is not null) limit 1)
         select (extract(epoch from statement_timestamp()) * 1000000)::int8 as now,
           (select (extract(epoch from xact_start) * 1000000)::int8 from oldest) as oldest,
           (select format('session %s (%s%s), whose transaction began at %s', pid, usename,
              coalesce(', ' || nullif(application_name, ''), ''), xact_start::timestamptz(0))
              from oldest) as holder,
           (select format('session %s (%s%s), which does not tell what it does (track_activities)',
              pid, usename, coalesce(', ' || nullif(application_name, ''), '')) from hidden) as hidden"
    );
    let row = sqlx::query(AssertSqlSafe(seen))
        .fetch_one(&mut *conn)
        .await?;
    // Asked second: who prepares in between is among these before the session is idle.
    let prepared = sqlx::query(
        "select gid, owner::text as owner, prepared::text as since from pg_prepared_xacts where \
         database = current_database() order by prepared limit 1",
    )
    .fetch_optional(&mut *conn)
    .await?;
    let now: i64 = row.try_get("now")?;
    let oldest: Option<i64> = row.try_get("oldest")?;
    let hidden: Option<String> = row.try_get("hidden")?;
    let prepared = match prepared {
        None => None,
        Some(row) => {
            let (gid, owner): (String, String) = (row.try_get("gid")?, row.try_get("owner")?);
            let since: String = row.try_get("since")?;
            Some(format!(
                "the prepared transaction `{gid}` of {owner}, which waits since {since} for COMMIT \
                 PREPARED or ROLLBACK PREPARED"
            ))
        }
    };
    Ok(Seen {
        now,
        oldest: oldest.unwrap_or(now).min(now),
        holder: row.try_get("holder")?,
        blind: prepared.or(hidden),
    })
}

async fn now(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";
    sqlx::query_scalar(now).fetch_one(conn).await
}

/// Who looks at the transactions of others, and where.
pub(super) struct Viewer {
    pub(super) is_standby: bool,
    pub(super) role: String,
    /// Whether the role sees what others do.
    pub(super) sees: bool,
}

/// Who looks.
pub(super) async fn viewer(conn: &mut PgConnection) -> Result<Viewer, sqlx::Error> {
    let row = sqlx::query(
        "select pg_is_in_recovery() as standby, current_user::text as role,
           pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees",
    )
    .fetch_one(conn)
    .await?;
    Ok(Viewer {
        is_standby: row.try_get("standby")?,
        role: row.try_get("role")?,
        sees: row.try_get("sees")?,
    })
}

/// Whether the role sees all transactions that could write the table, and those are this server's.
async fn check_sight(conn: &mut PgConnection, endpoint: &Endpoint) -> Result<(), ConnectorError> {
    let failed = |error| classify(endpoint, "look at the open transactions", error);
    let Viewer {
        is_standby,
        role,
        sees,
    } = viewer(conn).await.map_err(failed)?;
    if is_standby {
        let message = format!(
            "{endpoint} is a standby, and the transactions that may still commit are its primary's: \
             read the primary, or let an `incremental` say in `strategy.horizon` how late a row may be \
             committed, such as {{lag: 10m}}"
        );
        return Err(permanent(ErrorCode::HorizonUnreadable, message));
    }
    if !sees {
        let message = format!(
            "the role {role} does not see the transactions of others on {endpoint}, so nobody knows \
             what is still to be committed: `grant pg_read_all_stats to {role}`, or let an \
             `incremental` say in `strategy.horizon` how late a row may be committed, such as {{lag: \
             10m}}"
        );
        return Err(permanent(ErrorCode::HorizonUnreadable, message));
    }
    Ok(())
}

/// Why rows may be committed below the horizon all the same: who gives the cursor its values.
pub(super) async fn doubts(
    conn: &mut PgConnection,
    request: &HorizonRequest,
) -> Result<Vec<String>, sqlx::Error> {
    let row = sqlx::query(
        "select pg_get_expr(d.adbin, d.adrelid) as value, a.attidentity <> '' as identity,
           exists (select from pg_trigger t where t.tgrelid = a.attrelid and not t.tgisinternal
             and t.tgenabled in ('O', 'A') and t.tgtype & 2 <> 0 and t.tgtype & 1 <> 0) as stamped,
           exists (select from pg_subscription_rel r where r.srrelid = a.attrelid
             or r.srrelid in (select inhrelid from pg_inherits where inhparent = a.attrelid))
             as subscribed,
           (select s.seqcache from pg_sequence s join pg_depend p on p.objid = s.seqrelid
             and p.classid = 'pg_class'::regclass and p.refobjid = a.attrelid
             and p.refobjsubid = a.attnum limit 1) as cached
         from pg_attribute a
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = to_regclass($1) and a.attname = $2",
    )
    .bind(quoted(request))
    .bind(&request.column)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(Vec::new());
    };
    let (value, identity): (Option<String>, bool) =
        (row.try_get("value")?, row.try_get("identity")?);
    let (stamped, cached): (bool, Option<i64>) = (row.try_get("stamped")?, row.try_get("cached")?);
    let column = &request.column;
    let value = value.unwrap_or_default().to_ascii_lowercase();
    let mut doubts = Vec::new();
    if row.try_get::<bool, _>("subscribed")? {
        doubts.push(format!(
            "a subscription brings rows whose {column} another server has stamped, and brings them \
             late"
        ));
    }
    if request.kind == CursorKind::Integer {
        if !identity && !value.contains("nextval(") {
            doubts.push(format!(
                "column {column} is no sequence's, and whoever writes may take any number"
            ));
        }
        if let Some(cached) = cached.filter(|cached| *cached > 1) {
            doubts.push(format!(
                "the sequence of {column} hands out {cached} numbers at a time, and a session may \
                 use an early one late"
            ));
        }
    } else if !stamped && !is_clock(&value) {
        doubts.push(format!(
            "neither a default nor a trigger of the server stamps {column}, and whoever writes may \
             give it any time"
        ));
    }
    Ok(doubts)
}

/// Whether a default, in lower case, asks the server's clock.
fn is_clock(value: &str) -> bool {
    [
        "now()",
        "current_timestamp",
        "localtimestamp",
        "current_date",
        "transaction_timestamp()",
        "clock_timestamp()",
    ]
    .iter()
    .any(|clock| value.contains(clock))
}

fn quoted(request: &HorizonRequest) -> String {
    let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    let name = quote(&request.table.name);
    request.table.schema.as_deref().map_or_else(
        || name.clone(),
        |schema| format!("{}.{name}", quote(schema)),
    )
}
