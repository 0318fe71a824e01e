//! Tables beside the ones that are read: made, finished, found again and dropped.

use async_trait::async_trait;
use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::RunId;
use highwater_common::shrink::Weighed;
use highwater_common::spec::TableName;
use highwater_common::token::FencingToken;
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::super::at_work::{BuildSession, watched_builds};
use super::super::catalog::{qualified, unknown_table};
use super::super::errors::{classify, fault, is_missing_relation, is_state, permanent};
use super::super::ledger::{lock_making, uuid};
use super::super::other_sessions::{own_mark, set_lock_timeout};
use super::super::session::{Endpoint, SessionRole};
use super::super::target::PostgresTarget;
use super::carried::BOTH;
use super::finished::{Lack, read_lacking};
use super::mark::{Mark, read_marks};
use super::undo::undo;
use super::{kept_name, oid_of, planned, read_clock, replaced};
use crate::connector::sql_text::{Dialect, Sql, quoted_table, server_script};
use crate::connector::{
    CloseRequest, ConnectorError, Doing, ShadowFound, ShadowKind, ShadowRequest, Shadows,
    UndoOutcome, UndoRequest,
};

/// PostgreSQL 14: how a column is compressed.
const COMPRESSES: u32 = 140_000;
/// The server's refusal of an object that is not there.
const MISSING: &str = "42704";
/// One session finishes a shadow at a time.
const FINISH_LOCK: i32 = 0x6869_6768;

/// The table as it is made, with all that LIKE does not take over.
const LIKE: &str = r"select concat(case c.relpersistence when 'u' then 'create unlogged table '
    else 'create table ' end, $2::text, ' (like ', c.oid::regclass, ' including defaults including '
    'generated including identity including storage including comments', $3::text, ')',
    ' using ' || quote_ident(m.amname),
    (select ' with (' || string_agg(o, ', ') || ')' from (
      select format('%I = %L', option_name, option_value) from pg_options_to_table(c.reloptions)
      union all select format('toast.%I = %L', option_name, option_value)
      from pg_class t, pg_options_to_table(t.reloptions) where t.oid = c.reltoastrelid) x (o)),
    ' tablespace ' || quote_ident(s.spcname))
  from pg_class c join pg_am m on m.oid = c.relam
  left join pg_tablespace s on s.oid = c.reltablespace where c.oid = $1::int8::oid";

/// Of the owner of the other one, and of nobody else: default privileges may have let in somebody.
const PRIVATE: &str = r"
select format('alter table %s owner to %I', a.name, pg_get_userbyid(l.relowner)) as statement
  from l, a where a.relowner <> l.relowner
union all select distinct format('revoke all on table %s from %s', a.name,
    case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end)
  from l, a, aclexplode(a.relacl) g where g.grantee not in (l.relowner, a.relowner)
order by statement";

#[async_trait]
impl Shadows for PostgresTarget {
    async fn make(&self, request: &ShadowRequest) -> Result<TableName, ConnectorError> {
        let mut making = Session::open(self.endpoint(), request).await?;
        let made = making.make().await?;
        making.conn.close().await.ok();
        Ok(made)
    }

    fn name(&self, request: &ShadowRequest) -> Result<TableName, ConnectorError> {
        Ok(shadow_name(
            &request.table,
            planned(&request.identity)?,
            &request.run,
        ))
    }

    async fn weigh(
        &self,
        request: &ShadowRequest,
        loaded: &CloseRequest,
    ) -> Result<Weighed, ConnectorError> {
        let mut weighing = Session::open(self.endpoint(), request).await?;
        let weighed = weighing.weigh(loaded).await?;
        weighing.conn.close().await.ok();
        Ok(weighed)
    }

    async fn finish(&self, request: &ShadowRequest, doing: &Doing) -> Result<(), ConnectorError> {
        let mut finishing = Session::open(self.endpoint(), request).await?;
        let session = [finishing.as_builder().await?];
        let what = format!("building {}", request.table);
        let [builder] = &session;
        let done = watched_builds(
            self.endpoint(),
            &session,
            (doing, &what),
            finishing.finish(builder),
        );
        done.await?;
        finishing.conn.close().await.ok();
        Ok(())
    }

    async fn validate(&self, request: &ShadowRequest, doing: &Doing) -> Result<(), ConnectorError> {
        let mut validating = Session::open(self.endpoint(), request).await?;
        let session = [validating.as_builder().await?];
        let what = format!("checking the foreign keys of {}", request.table);
        let done = watched_builds(
            self.endpoint(),
            &session,
            (doing, &what),
            validating.validate(),
        );
        done.await?;
        validating.conn.close().await.ok();
        Ok(())
    }

    async fn undo(&self, request: &UndoRequest) -> Result<UndoOutcome, ConnectorError> {
        undo(self.endpoint(), request).await
    }

    async fn find(&self) -> Result<Vec<ShadowFound>, ConnectorError> {
        let mut conn = self.endpoint().open(SessionRole::Target).await?;
        let found = find(&mut conn).await;
        let found = found.map_err(|error| classify(self.endpoint(), "look for shadows", error))?;
        conn.close().await.ok();
        Ok(found)
    }

    async fn drop(&self, found: &ShadowFound) -> Result<(), ConnectorError> {
        let what = format!("drop {}", found.table);
        let failed = |error| classify(self.endpoint(), &what, error);
        let mut conn = self.endpoint().open(SessionRole::Target).await?;
        conn.execute("begin").await.map_err(failed)?;
        // An exchange gives names away under a lock of the table, so it is asked for again under
        // that.
        let there = find(&mut conn).await.map_err(failed)?;
        if there.iter().any(|one| one == found) {
            let lock = Sql::new(Dialect::Postgres, "lock table only ").table(&found.table);
            let lock = lock.text(" in access exclusive mode").into_statement();
            conn.execute(sqlx::raw_sql(lock)).await.map_err(failed)?;
            let there = find(&mut conn).await.map_err(failed)?;
            if there.iter().any(|one| one == found) {
                let drop = Sql::new(Dialect::Postgres, "drop table ").table(&found.table);
                let drop = drop.text(" restrict").into_statement();
                if let Err(error) = conn.execute(sqlx::raw_sql(drop)).await {
                    return Err(needed(&mut conn, found, failed(error)).await);
                }
            }
        }
        conn.execute("commit").await.map_err(failed)?;
        conn.close().await.ok();
        Ok(())
    }
}

/// The error of a table that could not be dropped; where something depends on it, by its name.
async fn needed(
    conn: &mut PgConnection,
    found: &ShadowFound,
    mut error: ConnectorError,
) -> ConnectorError {
    const DEPENDANTS: &str = "select string_agg(distinct coalesce(\
           (select pg_describe_object('pg_class'::regclass, r.ev_class, 0) from pg_rewrite r \
            where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid), \
           pg_describe_object(d.classid, d.objid, d.objsubid)), ', ') \
         from pg_depend d where d.refclassid = 'pg_class'::regclass and d.deptype = 'n' \
         and d.refobjid = to_regclass($1)";
    if conn.execute("rollback").await.is_ok()
        && let Ok(Some(dependants)) = sqlx::query_scalar::<_, Option<String>>(DEPENDANTS)
            .bind(quoted_table(&found.table))
            .fetch_one(conn)
            .await
    {
        error.report.message = format!(
            "{} is needed by {dependants}: drop that, or let it read another table",
            found.table
        );
    }
    error
}

/// A session that works on a table beside another one.
pub(super) struct Session<'a> {
    pub(super) conn: PgConnection,
    pub(super) endpoint: &'a Endpoint,
    pub(super) request: &'a ShadowRequest,
    /// The table, by its schema, too.
    pub(super) table: TableName,
    /// By its oid, as it was planned for.
    pub(super) oid: i64,
}

impl<'a> Session<'a> {
    async fn open(
        endpoint: &'a Endpoint,
        request: &'a ShadowRequest,
    ) -> Result<Self, ConnectorError> {
        let mut conn = endpoint.open(SessionRole::Target).await?;
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        Ok(Self {
            conn,
            endpoint,
            request,
            table,
            oid: planned(&request.identity)?,
        })
    }

    fn failed(&self, what: &str) -> impl Fn(sqlx::Error) -> ConnectorError + use<> {
        let (endpoint, what) = (self.endpoint.clone(), format!("{what} of {}", self.table));
        move |error| classify(&endpoint, &what, error)
    }

    /// The shadow's name: one for each run, so that no run touches another's.
    fn shadow(&self) -> TableName {
        shadow_name(&self.table, self.oid, &self.request.run)
    }

    /// Read at one instant, and under the names that both have now.
    async fn weigh(&mut self, loaded: &CloseRequest) -> Result<Weighed, ConnectorError> {
        let failed = self.failed("count the rows");
        let shadow = self.shadow();
        self.shadow_oid(&shadow).await?;
        let count = Sql::new(Dialect::Postgres, "select (select count(*) from ").table(&shadow);
        let count = count.text("), (select count(*) from ").table(&self.table);
        let count = count.text(
            "), count(*), coalesce(sum(rows), 0)::int8 from highwater.task where run_id = $1 and \
             step = $2 and phase = $3 and plan = $4 and state = 'C' and not part",
        );
        let row = sqlx::query_as::<_, (i64, i64, i64, i64)>(count.into_statement())
            .bind(uuid(loaded.run.as_bytes()))
            .bind(loaded.step.as_str())
            .bind(i16::from(loaded.phase))
            .bind(loaded.plan.as_bytes().as_slice())
            .persistent(false)
            .fetch_one(&mut self.conn)
            .await
            .map_err(failed)?;
        let count = |found: i64| u64::try_from(found).unwrap_or(0);
        Ok(Weighed {
            rows: count(row.0),
            held: count(row.1),
            receipts: count(row.2),
            rows_received: count(row.3),
        })
    }

    /// The shadow, by its oid.
    async fn shadow_oid(&mut self, shadow: &TableName) -> Result<i64, ConnectorError> {
        let failed = self.failed("look for the shadow");
        let found = oid_of(&mut self.conn, shadow).await.map_err(failed)?;
        found.ok_or_else(|| {
            let message = format!(
                "{shadow}, which was to take the place of {} on {}, is not there; plan anew with \
                 --new",
                self.table, self.endpoint
            );
            permanent(ErrorCode::ShadowUnfit, message)
        })
    }

    async fn run(&mut self, what: &str, statements: &[String]) -> Result<(), ConnectorError> {
        let failed = self.failed(what);
        let run = self.conn.execute(sqlx::raw_sql(server_script(statements)));
        run.await.map(drop).map_err(failed)
    }

    async fn check_planned(&mut self) -> Result<(), ConnectorError> {
        let failed = self.failed("look for the table");
        match oid_of(&mut self.conn, &self.table).await.map_err(failed)? {
            Some(oid) if oid == self.oid => Ok(()),
            Some(_) => Err(replaced(&self.endpoint.to_string(), &self.table)),
            None => Err(unknown_table(&mut self.conn, self.endpoint, &self.table).await),
        }
    }

    /// No newer run has taken the stream: under the lock under which it would, so that the shadow of
    /// a newer run is always the younger one.
    pub(super) async fn check_stream(&mut self) -> Result<(), ConnectorError> {
        let failed = self.failed("look whose the stream is");
        let owner = sqlx::query_scalar::<_, Uuid>(
            "select run_id from highwater.stream where stream_id = $1",
        )
        .bind(&self.request.stream)
        .fetch_optional(&mut self.conn)
        .await
        .map_err(failed)?;
        if owner.is_none_or(|owner| owner == uuid(self.request.run.as_bytes())) {
            return Ok(());
        }
        let message = format!(
            "another run has taken the stream {} on {} since",
            self.request.stream, self.endpoint
        );
        Err(fault(
            ErrorClass::Transient,
            ErrorCode::ShadowUnfit,
            message,
        ))
    }

    async fn make(&mut self) -> Result<TableName, ConnectorError> {
        let failed = self.failed("make a shadow");
        let shadow = self.shadow();
        self.conn.execute("begin").await.map_err(&failed)?;
        lock_making(&mut self.conn, self.endpoint).await?;
        self.check_stream().await?;
        self.check_planned().await?;
        if oid_of(&mut self.conn, &shadow)
            .await
            .map_err(&failed)?
            .is_none()
        {
            self.create_like(&shadow).await?;
        }
        self.conn.execute("commit").await.map_err(failed)?;
        Ok(shadow)
    }

    async fn create_like(&mut self, shadow: &TableName) -> Result<(), ConnectorError> {
        let compression = match self.conn.server_version_num() {
            Some(version) if version < COMPRESSES => "",
            Some(_) | None => " including compression",
        };
        let name = Sql::new(Dialect::Postgres, "").table(shadow);
        let create = sqlx::query_scalar::<_, String>(LIKE)
            .bind(self.oid)
            .bind(name.as_str())
            .bind(compression)
            .fetch_one(&mut self.conn)
            .await
            .map_err(self.failed("make a shadow"))?;
        self.create(shadow, create, None).await
    }

    /// Makes the table by this statement, of the other one's owner and nobody else's to read, and
    /// marks it.
    pub(super) async fn create(
        &mut self,
        shadow: &TableName,
        create: String,
        attempt: Option<FencingToken>,
    ) -> Result<(), ConnectorError> {
        let failed = self.failed("make a shadow");
        // Else a table of the database's own tablespace would follow the role's setting.
        let here = "set local default_tablespace = ''".to_owned();
        self.run("make a shadow", &[here, create]).await?;
        let made = oid_of(&mut self.conn, shadow).await.map_err(&failed)?;
        let private = Sql::new(Dialect::Postgres, BOTH).text(PRIVATE);
        let private = sqlx::query_scalar::<_, String>(private.into_statement())
            .bind(self.oid)
            .bind(made)
            .fetch_all(&mut self.conn)
            .await
            .map_err(&failed)?;
        self.run("make a shadow", &private).await?;
        let mark = Mark {
            kind: match attempt {
                None => ShadowKind::Shadow,
                Some(_) => ShadowKind::Stage,
            },
            attempt,
            of: self.table.clone(),
            run: self.request.run,
            stream: self.request.stream.clone(),
            since_micros: read_clock(&mut self.conn).await.map_err(&failed)?,
            unchecked: Vec::new(),
        };
        let mark = mark.statement(shadow).into_statement();
        let marked = self.conn.execute(sqlx::raw_sql(mark)).await;
        marked.map(drop).map_err(failed)
    }

    async fn as_builder(&mut self) -> Result<BuildSession, ConnectorError> {
        let failed = self.failed("read the session's own mark");
        let mark = own_mark(&mut self.conn).await.map_err(failed)?;
        Ok(BuildSession::new(mark))
    }

    async fn finish(&mut self, builder: &BuildSession) -> Result<(), ConnectorError> {
        let failed = self.failed("finish the shadow");
        let shadow = self.shadow();
        self.check_planned().await?;
        let by = self.shadow_oid(&shadow).await?;
        // Between two statements it is idle for no time at all, so one that is idle has lost its
        // client, and keeps the lock from others.
        let limited = "select set_config(name, case name when 'lock_timeout' then '0' else '60s' end, \
                       false) from pg_settings where name in ('idle_session_timeout', 'lock_timeout')";
        let limited = sqlx::query(limited).execute(&mut self.conn).await;
        limited.map_err(&failed)?;
        let lock = sqlx::query("select pg_advisory_lock($1, $2::int8::oid::int4)");
        let lock = lock
            .bind(FINISH_LOCK)
            .bind(by)
            .execute(&mut self.conn)
            .await;
        lock.map_err(&failed)?;
        let lock_timeout = self.endpoint.session().lock_timeout;
        let limited = set_lock_timeout(&mut self.conn, lock_timeout).await;
        limited.map_err(&failed)?;
        let suffix = format!("_{}", suffix(&self.request.run));
        for lack in Lack::ALL {
            let lacking = read_lacking(&mut self.conn, lack, self.oid, by, &suffix).await;
            for statement in lacking.map_err(&failed)? {
                builder.takes(lack.label().to_owned());
                let one = ["begin".to_owned(), statement, "commit".to_owned()];
                self.run("finish the shadow", &one).await?;
            }
        }
        Ok(())
    }

    async fn validate(&mut self) -> Result<(), ConnectorError> {
        let failed = self.failed("check the foreign keys");
        let kept = kept_name(self.oid);
        let found = read_marks(&mut self.conn).await.map_err(&failed)?;
        let kept = found.into_iter().find(|one| one.found.table.name == kept);
        for key in kept.map(|one| one.mark.unchecked).unwrap_or_default() {
            let validate = Sql::new(Dialect::Postgres, "alter table ")
                .table(&key.table)
                .text(" validate constraint ")
                .name(&key.name)
                .into_statement();
            match self.conn.execute(sqlx::raw_sql(validate)).await {
                Ok(_) => (),
                // Somebody has dropped it since.
                Err(error) if is_state(&error, MISSING) || is_missing_relation(&error) => (),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

/// One for each run, so that no run touches another's.
fn shadow_name(table: &TableName, oid: i64, run: &RunId) -> TableName {
    TableName {
        schema: table.schema.clone(),
        name: format!("_highwater_new_{oid}_{}", suffix(run)),
    }
}

/// What ends the names of what a run makes.
fn suffix(run: &RunId) -> String {
    run.to_string().chars().take(12).collect()
}

async fn find(conn: &mut PgConnection) -> Result<Vec<ShadowFound>, sqlx::Error> {
    let marked = read_marks(conn).await?;
    Ok(marked.into_iter().map(|one| one.found).collect())
}
