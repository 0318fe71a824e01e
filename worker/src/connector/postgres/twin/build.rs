//! Builds what a table lacks that was made like another server's, once its rows are there.

use std::collections::VecDeque;
use std::iter::once;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{DefinedPart, PartKind, TableDefinition};
use highwater_common::spec::TableName;
use sqlx::{Connection, Executor, PgConnection};

use super::super::at_work::{BuildSession, watched_builds};
use super::super::catalog::{qualified, unknown_table};
use super::super::errors::{classify, permanent, stumble};
use super::super::other_sessions::own_mark;
use super::super::session::{Endpoint, SessionRole};
use super::super::target::PostgresTarget;
use super::make::{has_index, make_index, make_part, run};
use super::mark::{comment, is_unfinished};
use super::names::part_names;
use crate::connector::sql_text::{Dialect, Sql, quoted_table};
use crate::connector::{BuildRequest, Builds, ConnectorError, Doing};

/// One session at a time makes what may get one of these names in a schema; for a transaction, so that
/// nobody waits for one that has fallen silent. Always in the same order.
const BUILD_LOCK: &str = "select pg_advisory_xact_lock(hashtextextended(name, 1114729580)) from \
    (select distinct concat_ws('.', quote_ident($1), quote_ident(name)) as name \
     from unnest($2::text[]) u (name) order by 1) ordered";

/// A sequence is moved only on, so that one that was used meanwhile stays where it is.
const PAST_THE_LARGEST: &str = "select setval($1::regclass, $2) from pg_sequence \
    where seqrelid = $1::regclass and $2 between seqmin and seqmax \
    and case when seqincrement > 0 then $2 >= $3 else $2 <= $3 end";

#[async_trait]
impl Builds for PostgresTarget {
    async fn build(&self, request: &BuildRequest, doing: &Doing) -> Result<(), ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open(SessionRole::Target).await?;
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let building = Building {
            endpoint,
            table: &table,
            oid: oid(&mut conn, &table)
                .await
                .map_err(|error| classify(endpoint, &format!("build {table}"), error))?,
            request,
        };
        let failed = |error| building.failed("", error);
        // Somebody may have written another comment over the mark, or an earlier plan of the step
        // may have left to this one what it says was there before the rows: what is there is left.
        let is_marked = is_unfinished(&mut conn, &table, &request.stream).await;
        let is_marked = is_marked.map_err(failed)?;
        building.indexes(&mut conn, doing).await?;
        let session = own_mark(&mut conn).await.map_err(failed)?;
        let (sessions, what) = ([BuildSession::new(session)], format!("building {table}"));
        let rest = building.rest(&mut conn, &sessions[0], is_marked);
        watched_builds(endpoint, &sessions, (doing, &what), rest).await?;
        conn.close().await.ok();
        Ok(())
    }
}

/// A table that is being built.
#[derive(Clone, Copy)]
struct Building<'a> {
    endpoint: &'a Endpoint,
    table: &'a TableName,
    /// Which table has that name since the building began.
    oid: Option<i64>,
    request: &'a BuildRequest,
}

impl Building<'_> {
    fn failed(&self, what: &str, error: sqlx::Error) -> ConnectorError {
        let table = self.table;
        let what = match what.is_empty() {
            true => format!("build {table}"),
            false => format!("build the {what} of {table}"),
        };
        classify(self.endpoint, &what, error)
    }

    fn parts(&self) -> &[DefinedPart] {
        &self.request.twin.parts
    }

    /// Builds all indexes that are missing, those of keys, too, side by side: none of them keeps
    /// another one waiting.
    async fn indexes(&self, conn: &mut PgConnection, doing: &Doing) -> Result<(), ConnectorError> {
        let failed = |error| self.failed("", error);
        let mut lacking = VecDeque::new();
        for part in self.parts() {
            let is_there = has_index(conn, self.table, part, &self.request.twin).await;
            if is_built_beside(part) && !is_there.map_err(failed)? {
                lacking.push_back(part);
            }
        }
        let mut sessions = vec![BuildSession::new(own_mark(conn).await.map_err(failed)?)];
        let mut others = Vec::new();
        for _ in 1..lacking.len().min(self.request.sessions as usize) {
            // Whatever keeps another one away, it goes on with those that are there.
            let Ok(mut other) = self.endpoint.open(SessionRole::Target).await else {
                break;
            };
            sessions.push(BuildSession::new(
                own_mark(&mut other).await.map_err(failed)?,
            ));
            others.push(other);
        }
        let lacking = Mutex::new(lacking);
        let mut works = Vec::new();
        for (conn, session) in once(conn).chain(&mut others).zip(&sessions) {
            works.push(self.work(conn, session, &lacking));
        }
        let (what, all) = (format!("building {}", self.table), join_all(works));
        let built = watched_builds(self.endpoint, &sessions, (doing, &what), all).await;
        for other in others {
            other.close().await.ok();
        }
        built.into_iter().collect()
    }

    /// Builds one after another of what nobody else has taken. Where one fails no other one is taken,
    /// and those in hand come to their end.
    async fn work(
        &self,
        conn: &mut PgConnection,
        session: &BuildSession,
        lacking: &Mutex<VecDeque<&DefinedPart>>,
    ) -> Result<(), ConnectorError> {
        let queue = || lacking.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(part) = queue().pop_front() else {
                session.takes(String::new());
                return Ok(());
            };
            session.takes(part.label());
            let built = self.index(conn, part).await;
            if built.is_err() {
                queue().clear();
                session.takes(String::new());
                return built;
            }
        }
    }

    async fn index(
        &self,
        conn: &mut PgConnection,
        part: &DefinedPart,
    ) -> Result<(), ConnectorError> {
        let (twin, failed) = (&self.request.twin, |error| {
            self.failed(&part.label(), error)
        });
        stumble("build::before_part").await.map_err(failed)?;
        self.begin(conn, &part_names(self.table, part, twin))
            .await?;
        let made = make_index(conn, self.table, part, twin).await;
        made.map_err(failed)?;
        conn.execute("commit").await.map(drop).map_err(failed)
    }

    /// Begins a transaction that makes what may get one of these names, once nobody else does; that may
    /// take as long as somebody's building.
    async fn begin(&self, conn: &mut PgConnection, names: &[String]) -> Result<(), ConnectorError> {
        let failed = |error| self.failed("", error);
        let begun = async {
            conn.execute("begin; set local lock_timeout = 0").await?;
            sqlx::query(BUILD_LOCK)
                .bind(self.table.schema.as_deref())
                .bind(names)
                .execute(&mut *conn)
                .await?;
            let limited = Sql::new(Dialect::Postgres, "set local lock_timeout = ")
                .integer(millis(self.endpoint.session().lock_timeout));
            conn.execute(sqlx::raw_sql(limited.into_statement()))
                .await?;
            oid(conn, self.table).await
        };
        match begun.await.map_err(failed)? {
            None => Err(unknown_table(conn, self.endpoint, self.table).await),
            found if found == self.oid => Ok(()),
            Some(_) => {
                let message = format!(
                    "{} on {} is another table than the one whose building began; run the \
                     pipeline again",
                    self.table, self.endpoint
                );
                Err(permanent(ErrorCode::TargetReplaced, message))
            }
        }
    }

    /// What needs the table for itself, one after another, and what is done at the end.
    async fn rest(
        &self,
        conn: &mut PgConnection,
        session: &BuildSession,
        is_marked: bool,
    ) -> Result<(), ConnectorError> {
        let twin = &self.request.twin;
        for part in &twin.parts {
            session.takes(part.label());
            let failed = |error| self.failed(&part.label(), error);
            if !part.is_early {
                stumble("build::before_key").await.map_err(failed)?;
            }
            self.begin(conn, &part_names(self.table, part, twin))
                .await?;
            let made = make_part(conn, self.table, part, twin).await;
            made.map_err(failed)?;
            conn.execute("commit").await.map_err(failed)?;
        }
        session.takes(String::new());
        let failed = |error| self.failed("", error);
        stumble("build::before_finish").await.map_err(failed)?;
        self.begin(conn, std::slice::from_ref(&self.table.name))
            .await?;
        // Somebody may have said something of the table since: that stays.
        let is_unfinished = is_unfinished(conn, self.table, &self.request.stream).await;
        let is_marked = is_marked && is_unfinished.map_err(failed)?;
        let finished = finish(conn, self.table, twin, is_marked).await;
        finished.map_err(failed)?;
        conn.execute("commit").await.map(drop).map_err(failed)
    }
}

/// Whether an index is all of it, or most: those that the table is to be told of in the same breath
/// are not built beside others.
fn is_built_beside(part: &DefinedPart) -> bool {
    let is_index = match part.kind {
        PartKind::PrimaryKey | PartKind::Unique | PartKind::Index | PartKind::UniqueIndex => true,
        PartKind::Check | PartKind::Exclusion => false,
    };
    let is_key = matches!(part.kind, PartKind::PrimaryKey | PartKind::Unique);
    is_index && (is_key || !part.is_replica_identity && !part.is_clustered)
}

async fn oid(conn: &mut PgConnection, table: &TableName) -> Result<Option<i64>, sqlx::Error> {
    let found = sqlx::query_scalar("select to_regclass($1)::oid::int8");
    found.bind(quoted_table(table)).fetch_one(conn).await
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::from(i32::MAX))
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
