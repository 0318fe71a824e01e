//! Tables that rows wait in, each one attempt's own, and how the rows come from there into the table
//! that is read: only those that differ are touched, found as the server itself finds them when it
//! refreshes a materialized view beside its readers
//! (<https://www.postgresql.org/docs/current/sql-refreshmaterializedview.html>).

use async_trait::async_trait;
use highwater_common::assignment::ErrorClass;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::TableName;
use highwater_common::token::Fence;
use sqlx::{Connection, Executor, PgConnection};

use super::super::catalog::{find_table, qualified, unknown_table};
use super::super::data::{OpenTx, copy_in, copy_statement, not_held};
use super::super::errors::{classify, fault, permanent};
use super::super::ledger::lock_making;
use super::super::session::SessionRole;
use super::super::target::PostgresTarget;
use super::oid_of;
use super::shadow::Session;
use crate::connector::column_form::ColumnForm;
use crate::connector::sql_text::{Dialect, Sql, quoted_table, server_script};
use crate::connector::{
    ConnectorError, ReplaceTx, RowStream, ShadowRequest, StageRequest, Stages, WriteRequest,
};

/// The statements that publish what waits: `$1` the table, `$2` the other one by its name, `$3` the
/// columns. Rows are told apart by the table's primary key, else by another unique one of them;
/// without one all of them go and come. `*=` compares two rows byte by byte, whatever their types.
const PUBLISH: &str = r"
with k as (select i.* from pg_catalog.pg_index i where i.indrelid = $1::int8::oid
    and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
    and not exists (select from unnest(i.indkey::int2[]) with ordinality x (attnum, at)
      join pg_catalog.pg_attribute c on c.attrelid = i.indrelid and c.attnum = x.attnum
      where x.at <= i.indnkeyatts and not (c.attnotnull and c.attname::text = any ($3)))
    order by i.indisprimary desc, i.indexrelid limit 1),
alike as (select string_agg(format('s.%1$I operator(%2$I.%3$s) t.%1$I', c.attname, n.nspname,
    o.oprname), ' and ') as of_key
  from k, unnest(k.indkey::int2[], k.indclass::oid[]) with ordinality x (attnum, opclass, at)
  join pg_catalog.pg_attribute c on c.attrelid = $1::int8::oid and c.attnum = x.attnum
  join pg_catalog.pg_opclass f on f.oid = x.opclass
  join pg_catalog.pg_am m on m.oid = f.opcmethod and m.amname = 'btree'
  join pg_catalog.pg_amop p on p.amopfamily = f.opcfamily and p.amoplefttype = f.opcintype
    and p.amoprighttype = f.opcintype and p.amopstrategy = 3
  join pg_catalog.pg_operator o on o.oid = p.amopopr
  join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
  where x.at <= k.indnkeyatts having count(*) = (select indnkeyatts from k)),
l as (select format('%I.%I', n.nspname, c.relname) as name from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = $1::int8::oid),
c as (select string_agg(format('%I', name), ', ' order by at) as own,
    string_agg(format('s.%I', name), ', ' order by at) as of_stage,
    string_agg(format('t.%I', name), ', ' order by at) as of_table
  from unnest($3) with ordinality x (name, at))
select format('delete from %s t', l.name) || case when alike.of_key is null then '' else format(
    ' where not exists (select from %s s where %s and row(%s)::record operator(pg_catalog.*=) '
    'row(%s)::record)', $2, alike.of_key, c.of_stage, c.of_table) end as statement
  from l cross join c left join alike on true
union all
select format('insert into %s (%s) overriding system value select %s from %s s', l.name, c.own,
    c.of_stage, $2) || case when alike.of_key is null then '' else format(
    ' where not exists (select from %s t where %s)', l.name, alike.of_key) end
  from l cross join c left join alike on true";

#[async_trait]
impl Stages for PostgresTarget {
    async fn make(
        &self,
        request: &StageRequest,
        columns: &[&str],
    ) -> Result<TableName, ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open(SessionRole::Target).await?;
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let failed = |error| classify(endpoint, &format!("make a stage of {table}"), error);
        let Some(oid) = oid_of(&mut conn, &table).await.map_err(failed)? else {
            return Err(unknown_table(&mut conn, endpoint, &table).await);
        };
        let of = ShadowRequest {
            table: table.clone(),
            identity: oid.to_string(),
            run: request.run,
            stream: request.stream.clone(),
        };
        let stage = TableName {
            schema: table.schema.clone(),
            name: stage_name(oid, request.attempt),
        };
        conn.execute("begin").await.map_err(failed)?;
        lock_making(&mut conn, endpoint).await?;
        let mut making = Session {
            conn,
            endpoint,
            request: &of,
            table: table.clone(),
            oid,
        };
        making.check_stream().await?;
        let create = Sql::new(Dialect::Postgres, "create unlogged table ")
            .table(&stage)
            .text(" as select ")
            .names(columns.iter().copied())
            .text(" from ")
            .table(&making.table)
            .text(" with no data");
        let create = create.as_str().to_owned();
        let attempt = Some(request.attempt.token);
        making.create(&stage, create, attempt).await?;
        making.conn.execute("commit").await.map_err(failed)?;
        making.conn.close().await.ok();
        Ok(stage)
    }

    async fn fill(
        &self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let (endpoint, stage) = (self.endpoint(), &request.table);
        let mut conn = endpoint.open_or_take(SessionRole::Target).await?;
        let what = format!("copy rows into {stage}");
        let failed = |error| classify(endpoint, &what, error);
        let Some(found) = find_table(&mut conn, stage).await.map_err(failed)? else {
            let message = format!("{stage} on {endpoint}, which rows were to wait in, is gone");
            let (class, code) = (ErrorClass::Transient, ErrorCode::ShadowUnfit);
            return Err(fault(class, code, message));
        };
        let forms = request.columns.iter().filter_map(|column| {
            let own = found.column(&column.name)?;
            Some(ColumnForm::of(&own.facts))
        });
        let forms: Vec<ColumnForm> = forms.collect();
        let copy = copy_statement(request, Sql::new(Dialect::Postgres, "copy ").table(stage));
        let taken = copy_in(
            &mut conn,
            endpoint,
            &what,
            &copy,
            (request.format, &forms),
            rows,
        );
        let taken = taken.await?;
        endpoint.keep_or_close(conn).await;
        Ok(taken)
    }
}

#[async_trait]
impl ReplaceTx for OpenTx {
    async fn replace_by(
        &mut self,
        request: &WriteRequest,
        stage: &TableName,
    ) -> Result<(), ConnectorError> {
        let Some(held) = &self.held else {
            return Err(not_held());
        };
        let table = held.table.clone();
        let failed = self
            .session
            .failed(&format!("publish the rows of {stage} in {table}"));
        let conn = &mut self.session.conn;
        // How many rows the server thinks there are decides how it compares them.
        let analyze = Sql::new(Dialect::Postgres, "analyze ").table(stage);
        let analyze = sqlx::raw_sql(analyze.into_statement());
        conn.execute(analyze).await.map_err(&failed)?;
        let statements = publishing(conn, &table, stage, request).await;
        let statements = statements.map_err(&failed)?;
        if statements.len() != 2 {
            let message = format!("{table} is gone although it is locked; this is a bug");
            return Err(permanent(ErrorCode::UnknownTable, message));
        }
        let publish = conn.execute(sqlx::raw_sql(server_script(&statements)));
        publish.await.map(drop).map_err(failed)
    }
}

async fn publishing(
    conn: &mut PgConnection,
    table: &TableName,
    stage: &TableName,
    request: &WriteRequest,
) -> Result<Vec<String>, sqlx::Error> {
    let Some(oid) = oid_of(conn, table).await? else {
        return Ok(Vec::new());
    };
    let columns: Vec<&str> = request
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    sqlx::query_scalar::<_, String>(PUBLISH)
        .bind(oid)
        .bind(quoted_table(stage))
        .bind(columns)
        .persistent(false)
        .fetch_all(conn)
        .await
}

/// One for each attempt. A store that was put back to a backup may give a token once more, but never
/// with the same nonce.
fn stage_name(oid: i64, attempt: Fence) -> String {
    let [a, b, c, d, ..] = attempt.nonce.to_bytes();
    let nonce = u32::from_be_bytes([a, b, c, d]);
    format!("_highwater_stage_{oid}_{}_{nonce:08x}", attempt.token.raw())
}
