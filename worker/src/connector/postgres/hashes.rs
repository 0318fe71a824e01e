//! Rows that the server places by a hash of some columns: whether it can, and whether it still does
//! so as it did when the run was planned.

use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{CursorForm, PartitionFacts};
use highwater_common::placing::{HashPlacing, Placing};
use highwater_common::spec::Relation;
use sqlx::PgConnection;

use super::catalog::{Table, unknown_column};
use super::errors::{classify, is_state, permanent};
use super::probe::Probe;
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, SourceProbe};

/// The first version that hashes any row with 64 bits.
const SERVER_MIN: u32 = 14;
/// Columns whose hash is made of more than their value, as they are told: of numbers that a server
/// gives its types and labels, or of a collation's rules.
const UNSTABLE: &str = "select a.attname::text as name, a.attname::text || ' (' || format_type(a.atttypid, null) || ')' as told
 from pg_catalog.pg_attribute a left join pg_catalog.pg_collation c on c.oid = a.attcollation
 where a.attrelid = $1::int8::oid and a.attname::text = any($2) and not a.attisdropped
   and (a.atttypid <> all ('{bool,\"char\",int2,int4,int8,numeric,float4,float8,text,varchar,bpchar,name,
     uuid,bytea,jsonb,date,time,timestamp,timestamptz,interval,oid,inet,cidr,macaddr}'::regtype[])
     or not coalesce(c.collisdeterministic, true))
 order by 2";

/// What the server says of a type without a hash.
const NO_HASH: &str = "42883";

impl Probe<'_> {
    /// The facts of a table that is cut by a hash of `columns`.
    pub(super) async fn hashed(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        columns: &[String],
    ) -> Result<PartitionFacts, ConnectorError> {
        let (relation, endpoint) = (&asked.relation, self.endpoint);
        let server = server(self.conn);
        if server < SERVER_MIN {
            let message = format!(
                "PostgreSQL {server} on {endpoint} cannot hash rows of {relation}, which takes \
                 version {SERVER_MIN}; cut it by a time or by a whole number"
            );
            return Err(permanent(ErrorCode::UnsupportedPartitionColumn, message));
        }
        self.limit_statement().await?;
        let oid = table.oid;
        check_stable(self.conn, endpoint, relation, oid, columns).await?;
        // The server looks for the hash of each type before it looks at a value.
        let mut sql = Sql::new(
            Dialect::Postgres,
            "select pg_catalog.hash_record_extended(row(",
        );
        for (at, column) in columns.iter().enumerate() {
            let comma = if at > 0 { ", (select " } else { "(select " };
            sql = sql.text(comma).name(column).text(" from ");
            sql = sql.relation(relation).text(" limit 0)");
        }
        let tried = sqlx::query_scalar::<_, i64>(sql.text("), 0)").into_statement())
            .persistent(false)
            .fetch_one(&mut *self.conn)
            .await;
        if let Err(error) = tried {
            let has_none = is_state(&error, NO_HASH);
            let mut told = classify(endpoint, &format!("hash rows of {relation}"), error);
            if has_none {
                told.report.code = ErrorCode::UnsupportedPartitionColumn.to_string();
                let names = columns.join(", ");
                told.report.message.push_str(&format!(
                    "; one of {names} is of a type without a hash: name others in \
                     `partition.columns`"
                ));
            }
            return Err(told);
        }
        let placing = Placing::Hash(HashPlacing {
            columns: columns.to_vec(),
            types: types(endpoint, relation, table, columns)?,
            server,
        });
        Ok(PartitionFacts {
            column: columns.join(", "),
            kind: CursorKind::Placed(placing.id()),
            form: CursorForm::Native,
            placing: Some(placing),
            min: None,
            max: None,
            nullable: false,
            null_rows: Some(0),
            left_out: None,
            indexed: false,
            histogram: Vec::new(),
            empty: Vec::new(),
        })
    }
}

/// Makes sure that the server still hashes rows as it did when the run was planned: slices of two
/// hashes would take some rows twice, and others not at all.
pub(super) async fn still_hashed(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
    table: &Table,
    planned: &HashPlacing,
) -> Result<(), ConnectorError> {
    check_stable(conn, endpoint, relation, table.oid, &planned.columns).await?;
    let now = HashPlacing {
        columns: planned.columns.clone(),
        types: types(endpoint, relation, table, &planned.columns)?,
        server: server(conn),
    };
    if now == *planned {
        return Ok(());
    }
    let message = format!(
        "{relation} on {endpoint} was cut by a hash of {} as PostgreSQL {} makes it of {}, and now \
         it would be one of PostgreSQL {} of {}; plan anew with --new",
        planned.columns.join(", "),
        planned.server,
        planned.types.join(", "),
        now.server,
        now.types.join(", ")
    );
    Err(permanent(ErrorCode::SchemaChanged, message))
}

/// Refuses columns whose hash may be another one tomorrow, or in a copy of the database, though
/// their type is called the same.
async fn check_stable(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
    oid: i64,
    columns: &[String],
) -> Result<(), ConnectorError> {
    let unstable = unstable(conn, oid, columns).await.map_err(|error| {
        classify(
            endpoint,
            &format!("look at the columns of {relation}"),
            error,
        )
    })?;
    if unstable.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = unstable.into_iter().map(|(_, told)| told).collect();
    let message = format!(
        "{relation} on {endpoint} cannot be cut by a hash of {}: what it comes to depends on more \
         than the value; name columns of plain numbers, texts and times in `partition.columns`",
        told.join(", ")
    );
    Err(permanent(ErrorCode::UnsupportedPartitionColumn, message))
}

/// The names of such columns, and how each is told.
async fn unstable(
    conn: &mut PgConnection,
    oid: i64,
    columns: &[String],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(UNSTABLE)
        .bind(oid)
        .bind(columns)
        .fetch_all(conn)
        .await
}

/// Within a version, a hash does not change.
pub(super) fn server(conn: &PgConnection) -> u32 {
    conn.server_version_num().unwrap_or(0) / 10_000
}

fn types(
    endpoint: &Endpoint,
    relation: &Relation,
    table: &Table,
    columns: &[String],
) -> Result<Vec<String>, ConnectorError> {
    let of = |name: &String| {
        let column = table.column(name);
        let known = column.map(|column| column.facts.type_name.clone());
        known.ok_or_else(|| unknown_column(endpoint, relation, table, name))
    };
    columns.iter().map(of).collect()
}
