//! Builds what a table lacks that was made like another server's, once its rows are there.

use async_trait::async_trait;
use highwater_common::facts::TableDefinition;
use highwater_common::spec::TableName;
use sqlx::{Connection, Executor, PgConnection};

use super::super::catalog::qualified;
use super::super::errors::{classify, stumble};
use super::super::other_sessions::set_lock_timeout;
use super::super::session::{Endpoint, SessionRole};
use super::super::target::PostgresTarget;
use super::make::{make_part, run};
use super::mark::{comment, is_unfinished};
use crate::connector::sql_text::{Dialect, Sql, quoted_table};
use crate::connector::{BuildRequest, Builds, ConnectorError};

/// One session builds a table at a time.
const BUILD_LOCK: i32 = 0x6275_696c;

/// A sequence is moved only on, so that one that was used meanwhile stays where it is.
const PAST_THE_LARGEST: &str = "select setval($1::regclass, $2) from pg_sequence \
    where seqrelid = $1::regclass and $2 between seqmin and seqmax \
    and case when seqincrement > 0 then $2 >= $3 else $2 <= $3 end";

#[async_trait]
impl Builds for PostgresTarget {
    async fn build(&self, request: &BuildRequest) -> Result<(), ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open(SessionRole::Target).await?;
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let built = build(&mut conn, endpoint, &table, request).await;
        conn.close().await.ok();
        built
    }
}

async fn build(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &TableName,
    request: &BuildRequest,
) -> Result<(), ConnectorError> {
    let failed = |error| classify(endpoint, &format!("build {table}"), error);
    take_turn(conn, table).await.map_err(failed)?;
    let lock_timeout = endpoint.session().lock_timeout;
    let limited = set_lock_timeout(conn, lock_timeout).await;
    limited.map_err(failed)?;
    // Somebody may have written another comment over the mark, or an earlier plan of the step may
    // have left to this one what it says was there before the rows: what is there is left.
    let is_marked = is_unfinished(conn, table, &request.stream).await;
    let is_marked = is_marked.map_err(failed)?;
    for part in &request.twin.parts {
        if !part.is_early {
            stumble("build::before_part").await.map_err(failed)?;
        }
        let failed = |error| {
            let what = format!("build the {} of {table}", part.label());
            classify(endpoint, &what, error)
        };
        conn.execute("begin").await.map_err(failed)?;
        make_part(conn, table, part).await.map_err(failed)?;
        conn.execute("commit").await.map_err(failed)?;
    }
    stumble("build::before_finish").await.map_err(failed)?;
    finish(conn, table, &request.twin, is_marked)
        .await
        .map_err(failed)
}

/// Waits for whoever builds the table. A server that can looks for its client meanwhile, and builds
/// nothing for one that is gone.
async fn take_turn(conn: &mut PgConnection, table: &TableName) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select set_config(name, case name when 'lock_timeout' then '0' else '10s' end, false) \
         from pg_settings where name in ('client_connection_check_interval', 'lock_timeout')",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query("select pg_advisory_lock($1, coalesce(to_regclass($2), 0)::oid::int4)")
        .bind(BUILD_LOCK)
        .bind(quoted_table(table))
        .execute(conn)
        .await
        .map(drop)
}

/// Sequences, the planner's statistics, and the table's own comment in the place of the mark.
async fn finish(
    conn: &mut PgConnection,
    table: &TableName,
    twin: &TableDefinition,
    is_marked: bool,
) -> Result<(), sqlx::Error> {
    for column in &twin.columns {
        if column.sequence.is_some() {
            go_past_the_largest(conn, table, &column.name).await?;
        }
    }
    let analyze = Sql::new(Dialect::Postgres, "analyze ").table(table);
    conn.execute(sqlx::raw_sql(analyze.into_statement()))
        .await?;
    match is_marked {
        true => run(conn, comment(table, twin.comment.as_deref())).await,
        false => Ok(()),
    }
}

/// Lets the sequence of a column go on behind the values that are there.
async fn go_past_the_largest(
    conn: &mut PgConnection,
    table: &TableName,
    column: &str,
) -> Result<(), sqlx::Error> {
    // What a sequence feeds need not be numbers: `'ORD-' || nextval(…)`.
    let sequence = sqlx::query_scalar::<_, String>(
        "select pg_get_serial_sequence($1, $2) from pg_attribute a join pg_type t on t.oid = a.atttypid \
         where a.attrelid = to_regclass($1) and a.attname = $2 \
         and coalesce(nullif(t.typbasetype, 0), t.oid) in (20, 21, 23, 1700) \
         and pg_get_serial_sequence($1, $2) is not null",
    )
    .bind(quoted_table(table))
    .bind(column)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(sequence) = sequence else {
        return Ok(());
    };
    let falls = sqlx::query_scalar::<_, bool>(
        "select seqincrement < 0 from pg_sequence where seqrelid = $1::regclass",
    )
    .bind(&sequence)
    .fetch_one(&mut *conn)
    .await?;
    let begins = match falls {
        true => {
            "select case when m between -9223372036854775808 and 9223372036854775807 then floor(m)::int8 \
                 end from (select min("
        }
        false => {
            "select case when m between -9223372036854775808 and 9223372036854775807 then ceil(m)::int8 \
                  end from (select max("
        }
    };
    let furthest = Sql::new(Dialect::Postgres, begins)
        .name(column)
        .text(")::numeric as m from ")
        .table(table)
        .text(") s");
    let furthest = sqlx::query_scalar::<_, Option<i64>>(furthest.into_statement())
        .persistent(false)
        .fetch_one(&mut *conn)
        .await?;
    let Some(furthest) = furthest else {
        return Ok(());
    };
    let last = Sql::new(Dialect::Postgres, "select last_value from ").definition(&sequence);
    let last = sqlx::query_scalar::<_, i64>(last.into_statement())
        .persistent(false)
        .fetch_one(&mut *conn)
        .await?;
    sqlx::query(PAST_THE_LARGEST)
        .bind(&sequence)
        .bind(furthest)
        .bind(last)
        .execute(conn)
        .await
        .map(drop)
}
