//! Makes ledger and target table before a step's partitions, or makes sure that what is there can take the rows.
//! Never alters a table that is there, and never drops one.

use highwater_common::facts::{ColumnFacts, ColumnKind, Engine};
use highwater_common::spec::WriteMode;
use sqlx::{Connection, Executor, PgConnection};

use super::catalog::{Table, find_table, is_indexed, qualified_or_new};
use super::errors::{classify, permanent};
use super::ledger;
use super::session::{Endpoint, SessionRole};
use crate::connector::sql_text::{Dialect, Sql, is_plain_type};
use crate::connector::{ConnectorError, PrepareRequest};

/// Makes what is missing, in one transaction; answers with warnings.
pub(super) async fn prepare(endpoint: &Endpoint, request: &PrepareRequest) -> Result<Vec<String>, ConnectorError> {
    let mut conn = endpoint.open(SessionRole::Target).await?;
    let table = qualified_or_new(&mut conn, endpoint, &request.table).await?;
    let request = &PrepareRequest { table, ..request.clone() };
    let failed = |error| classify(endpoint, &format!("prepare {}", request.table), error);
    conn.execute("begin isolation level read committed").await.map_err(failed)?;
    ledger::lock_making(&mut conn, endpoint).await?;
    ledger::make(&mut conn, endpoint, &request.cluster).await?;
    let warnings = match find_table(&mut conn, &request.table).await.map_err(failed)? {
        None => {
            create_table(&mut conn, endpoint, request).await?;
            Vec::new()
        }
        Some(table) => check_table(&mut conn, endpoint, request, &table).await?,
    };
    conn.execute("commit").await.map_err(failed)?;
    conn.close().await.ok();
    Ok(warnings)
}

async fn create_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &PrepareRequest,
) -> Result<(), ConnectorError> {
    let failed = |error| classify(endpoint, &format!("create {}", request.table), error);
    if let Some(schema) = &request.table.schema {
        let there: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
            .bind(schema)
            .fetch_one(&mut *conn)
            .await
            .map_err(failed)?;
        if !there {
            let create = Sql::new(Dialect::Postgres, "create schema ").name(schema).into_statement();
            conn.execute(sqlx::raw_sql(create)).await.map_err(failed)?;
        }
    }
    let mut create = Sql::new(Dialect::Postgres, "create table ").table(&request.table).text(" (");
    for (at, column) in request.columns.iter().enumerate() {
        let type_name = created_type(conn, request.source_engine, column).await.map_err(failed)?;
        create = if at > 0 { create.text(", ") } else { create };
        create = create.name(&column.name).text(" ").type_name(&type_name);
        // Positions that another engine keeps as text are compared by their bytes, there and here, and found by an index so.
        let is_text_position = request.source_engine == Engine::Sqlite
            && type_name == "text"
            && column.name.eq_ignore_ascii_case(&request.partition_column);
        create = if is_text_position { create.text(" collate \"C\"") } else { create };
        create = if column.nullable { create } else { create.text(" not null") };
    }
    if !request.key.is_empty() {
        create = create.text(", primary key (").names(request.key.iter().map(String::as_str)).text(")");
    }
    conn.execute(sqlx::raw_sql(create.text(")").into_statement())).await.map_err(failed)?;
    if wants_index(request) && request.key.first() != Some(&request.partition_column) {
        let index = Sql::new(Dialect::Postgres, "create index on ").table(&request.table).text(" (");
        let index = index.name(&request.partition_column).text(")").into_statement();
        conn.execute(sqlx::raw_sql(index)).await.map_err(failed)?;
    }
    Ok(())
}

/// Every replaced range is found, deleted and counted by the partition column.
fn wants_index(request: &PrepareRequest) -> bool {
    match request.mode {
        WriteMode::ReplacePartition => true,
        WriteMode::Append => false,
    }
}

/// The type of a created column. A type of the source's own making that this database lacks becomes text, which holds its
/// values as the source writes them.
async fn created_type(conn: &mut PgConnection, engine: Engine, column: &ColumnFacts) -> Result<String, sqlx::Error> {
    match engine {
        Engine::Sqlite => Ok(type_for(column.kind).to_owned()),
        Engine::Postgres if !is_plain_type(&column.type_name) => Ok("text".to_owned()),
        Engine::Postgres => {
            let known: bool = sqlx::query_scalar("select to_regtype($1) is not null")
                .bind(&column.type_name)
                .fetch_one(&mut *conn)
                .await?;
            Ok(if known { column.type_name.clone() } else { "text".to_owned() })
        }
    }
}

/// The type that loses nothing of what another engine keeps in such a column.
const fn type_for(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Bool => "boolean",
        ColumnKind::Int16 => "smallint",
        ColumnKind::Int32 => "integer",
        ColumnKind::Int64 => "bigint",
        ColumnKind::Float32 => "real",
        ColumnKind::Float64 => "double precision",
        ColumnKind::Numeric => "numeric",
        ColumnKind::Bytes => "bytea",
        ColumnKind::Date => "date",
        ColumnKind::Civil => "timestamp without time zone",
        ColumnKind::Instant => "timestamp with time zone",
        ColumnKind::Uuid => "uuid",
        ColumnKind::Json => "json",
        ColumnKind::Text | ColumnKind::Time | ColumnKind::Other | ColumnKind::Any => "text",
    }
}

async fn check_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &PrepareRequest,
    table: &Table,
) -> Result<Vec<String>, ConnectorError> {
    let found = differences(request, table);
    if !found.is_empty() {
        let message = format!(
            "{} on {endpoint} cannot take the source's rows: {}; change the table, leave columns out, or write to another",
            request.table,
            found.join("; ")
        );
        return Err(permanent("schema_changed", message));
    }
    if !wants_index(request) {
        return Ok(Vec::new());
    }
    let indexed = is_indexed(conn, table.oid, &request.partition_column).await;
    if indexed.map_err(|error| classify(endpoint, &format!("read the catalogue of {}", request.table), error))? {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "no index of {} on {endpoint} leads with {}: every partition will read the whole table; create one",
        request.table, request.partition_column
    )])
}

/// What of the table that is there would refuse the rows, or change their values in silence.
fn differences(request: &PrepareRequest, table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for column in &request.columns {
        match table.column(&column.name) {
            None => found.push(format!("it has no column {}", column.name)),
            Some(own) if own.generated => found.push(format!("its column {} is generated", column.name)),
            Some(own) if !is_lossless(request.source_engine, column, &own.facts) => found.push(format!(
                "its column {} is {} where the source's is {}",
                column.name, own.facts.type_name, column.type_name
            )),
            Some(_) => (),
        }
    }
    for own in &table.columns {
        let is_filled = own.facts.nullable || own.has_default || own.generated;
        if !is_filled && !request.columns.iter().any(|column| column.name == own.facts.name) {
            found.push(format!("its column {} is NOT NULL, has no default, and the source lacks it", own.facts.name));
        }
    }
    found
}

/// Whether every value of the source's column keeps its value in the target's, or is refused aloud by the server.
fn is_lossless(engine: Engine, from: &ColumnFacts, to: &ColumnFacts) -> bool {
    use ColumnKind as K;
    let is_unbounded = |facts: &ColumnFacts| !facts.type_name.contains('(');
    match engine {
        Engine::Postgres if from.type_name == to.type_name => return true,
        Engine::Postgres => (),
        // Its columns hold values of any type: those that do not fit are refused by the server, save what it would round.
        Engine::Sqlite => {
            return match to.kind {
                K::Float32 => from.kind == K::Float32,
                K::Numeric => is_unbounded(to),
                K::Bool | K::Int16 | K::Int32 | K::Int64 | K::Float64 | K::Bytes => true,
                // The server would cut or pad what is too long, but only blanks, and only in silence where the type says so.
                K::Text => !to.type_name.starts_with("character("),
                K::Date | K::Time | K::Civil | K::Instant => is_unbounded(to),
                K::Uuid | K::Json | K::Other | K::Any => true,
            };
        }
    }
    match (from.kind, to.kind) {
        (_, K::Text) => to.type_name == "text" || to.type_name == "character varying",
        (K::Int16, K::Int32 | K::Int64) | (K::Int32, K::Int64) => true,
        (K::Int16 | K::Int32 | K::Int64 | K::Numeric, K::Numeric) => is_unbounded(to),
        (K::Float32, K::Float64) => false,
        (K::Civil, K::Civil) | (K::Instant, K::Instant) | (K::Time, K::Time) => {
            is_unbounded(to)
                && (from.kind != K::Time
                    || from.type_name.ends_with("with time zone") == to.type_name.ends_with("with time zone"))
        }
        (K::Date, K::Civil) => true,
        // An enum or a domain of another name takes the same labels, or refuses them aloud.
        (K::Other, K::Other) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_name: &str, kind: ColumnKind) -> ColumnFacts {
        ColumnFacts { name: "c".into(), type_name: type_name.into(), kind, nullable: true, binary_portable: true }
    }

    #[test]
    fn a_type_that_would_change_values_in_silence_is_a_difference() {
        let lossless = |from: (&str, ColumnKind), to: (&str, ColumnKind)| {
            is_lossless(Engine::Postgres, &column(from.0, from.1), &column(to.0, to.1))
        };
        use ColumnKind::{Civil, Date, Instant, Int32, Int64, Numeric, Text};
        assert!(lossless(("integer", Int32), ("bigint", Int64)));
        assert!(lossless(("numeric(12,2)", Numeric), ("numeric", Numeric)));
        assert!(lossless(("bigint", Int64), ("text", Text)));
        assert!(!lossless(("numeric(12,2)", Numeric), ("numeric(12,0)", Numeric)));
        assert!(!lossless(("timestamp with time zone", Instant), ("timestamp without time zone", Civil)));
        assert!(!lossless(("timestamp without time zone", Civil), ("date", Date)));
        assert!(!lossless(("timestamp with time zone", Instant), ("timestamp(0) with time zone", Instant)));
    }
}
