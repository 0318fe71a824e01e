//! Makes ledger and target table before a step's partitions, or makes sure that what is there can
//! take the rows. Never alters a table that is there, and never drops one.

use highwater_common::coverage::Coverage;
use highwater_common::cursor::CursorKind;
use highwater_common::facts::{ColumnFacts, ColumnKind, Engine};
use highwater_common::placing::Placing;
use highwater_common::plan::{self, Destination, Rows, TableCompat, Writing};
use highwater_common::spec::TableName;
use sqlx::{Connection, Executor, PgConnection};

use super::catalog::{Table, find_table, is_indexed, qualified_or_new};
use super::created::created_type;
use super::cuts;
use super::errors::{classify, permanent, stumble};
use super::ledger::read_fingerprint;
use super::receipts;
use super::references::read_references;
use super::session::{Endpoint, SessionRole};
use super::stream::{Stream, Taken, read_coverage};
use super::triggers::{check_right, read_reactions};
use super::twin::{Making, make, make_schema};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, PrepareOutcome, PrepareRequest};

/// Takes the stream and makes what is missing, in one transaction.
pub(super) async fn prepare(
    endpoint: &Endpoint,
    request: &PrepareRequest,
) -> Result<PrepareOutcome, ConnectorError> {
    let mut conn = endpoint.open(SessionRole::Target).await?;
    let table = qualified_or_new(&mut conn, endpoint, &request.table).await?;
    let told_as = &request.table;
    let request = &PrepareRequest {
        table,
        ..request.clone()
    };
    check_right(&mut conn, endpoint, request.triggers).await?;
    let stream = Stream {
        endpoint,
        request: &request.stream,
    };
    let fenced = match stream.take(&mut conn, &request.cluster).await? {
        Taken::Mine { fenced } => fenced,
        Taken::Not(outcome) => {
            conn.close().await.ok();
            return Ok(outcome);
        }
    };
    let failed = |error| classify(endpoint, &format!("prepare {}", request.table), error);
    let name = &request.stream.stream;
    let found = find_table(&mut conn, &request.table)
        .await
        .map_err(failed)?;
    if !request.mode.replaces_all() {
        receipts::check(&mut conn, endpoint, name, &request.table, found.as_ref()).await?;
    }
    let (warnings, coverage) = match &found {
        _ if !request.mode.prepares_table() => (Vec::new(), Coverage::default()),
        // Receipts of nothing are none of a table that is still to be made.
        None => (
            create_table(&mut conn, endpoint, request).await?,
            Coverage::default(),
        ),
        Some(table) => {
            let warnings = check_table(&mut conn, endpoint, request, told_as, table).await?;
            // The receipts of this very plan are its own tasks', and their claims meet them.
            let own = request
                .stream
                .plan
                .as_ref()
                .map(|plan| (&request.stream.run, plan));
            let coverage = match request.stream.kind {
                Some(kind) => read_coverage(&mut conn, endpoint, name, kind, own).await?,
                None => Coverage::default(),
            };
            (warnings, coverage)
        }
    };
    if let Some(Placing::Keys(keys)) = &request.placing
        && !keys.columns.is_empty()
    {
        cuts::keep(&mut conn, endpoint, name, keys).await?;
    }
    let table = match found {
        Some(table) => Some(table),
        None => find_table(&mut conn, &request.table)
            .await
            .map_err(failed)?,
    };
    if let Some(table) = table.filter(|_| request.mode.prepares_table()) {
        receipts::note(&mut conn, endpoint, name, &table).await?;
    }
    let fingerprint = read_fingerprint(&mut conn, endpoint).await?;
    conn.execute("commit").await.map_err(failed)?;
    stumble("stream::committed").await.map_err(failed)?;
    stream.end_fenced(&mut conn, &fenced).await;
    conn.close().await.ok();
    Ok(PrepareOutcome::Prepared {
        warnings,
        coverage,
        fingerprint,
    })
}

async fn create_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &PrepareRequest,
) -> Result<Vec<String>, ConnectorError> {
    let failed = |error| classify(endpoint, &format!("create {}", request.table), error);
    let mut warnings = Vec::new();
    make_schema(conn, &request.table).await.map_err(failed)?;
    if let Some(twin) = &request.twin {
        let making = Making {
            table: &request.table,
            twin,
            columns: &request.columns,
            partition_column: request.partition_column.as_deref(),
            stream: &request.stream.stream,
        };
        return make(conn, &making).await.map_err(failed);
    }
    let mut create = Sql::new(Dialect::Postgres, "create table ")
        .table(&request.table)
        .text(" (");
    for (at, column) in request.columns.iter().enumerate() {
        let made = created_type(
            conn,
            request.source_engine,
            column,
            request.partition_column.as_deref(),
        )
        .await
        .map_err(failed)?;
        warnings.extend(made.told().map(|told| told.line(&request.table)));
        create = if at > 0 { create.text(", ") } else { create };
        create = made.write(create.name(&column.name).text(" "));
        // Positions that another engine keeps as text are compared by their bytes, there and here,
        // and found by an index so.
        let is_text_position = request.source_engine == Engine::Sqlite
            && made.is_text()
            && request
                .partition_column
                .as_ref()
                .is_some_and(|by| column.name.eq_ignore_ascii_case(by));
        create = if is_text_position {
            create.text(" collate \"C\"")
        } else {
            create
        };
        create = if column.nullable {
            create
        } else {
            create.text(" not null")
        };
    }
    if !request.key.is_empty() {
        create = create
            .text(", primary key (")
            .names(request.key.iter().map(String::as_str))
            .text(")");
    }
    conn.execute(sqlx::raw_sql(create.text(")").into_statement()))
        .await
        .map_err(failed)?;
    let by_bytes = is_compared_by_bytes(request);
    if let Some(sought) = request.sought_column()
        && (by_bytes || request.key.first().is_none_or(|first| first != sought))
    {
        let index = Sql::new(Dialect::Postgres, "create index on ")
            .table(&request.table)
            .text(" (");
        let index = index
            .name(sought)
            .text(if by_bytes { " collate \"C\")" } else { ")" });
        let index = index.into_statement();
        conn.execute(sqlx::raw_sql(index)).await.map_err(failed)?;
    }
    Ok(warnings)
}

/// Texts of PostgreSQL keep their own order in the created column, which is another than the one
/// that their ranges are found in.
fn is_compared_by_bytes(request: &PrepareRequest) -> bool {
    let is_text = |column: &ColumnFacts| {
        Some(&column.name) == request.partition_column.as_ref() && column.kind == ColumnKind::Text
    };
    request.source_engine == Engine::Postgres
        && request.stream.kind != Some(CursorKind::Integer)
        && request.columns.iter().any(is_text)
}

/// What the plan found out of the table, asked once more of what is there now, and said in the same
/// words: `told_as` is the table as the pipeline names it.
async fn check_table(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &PrepareRequest,
    told_as: &TableName,
    table: &Table,
) -> Result<Vec<String>, ConnectorError> {
    let failed = |error| {
        classify(
            endpoint,
            &format!("read the catalog of {}", request.table),
            error,
        )
    };
    let found = table.as_target();
    let rows = Rows {
        engine: request.source_engine,
        table: &request.source,
        columns: &request.columns,
        cut_by: request.partition_column.as_deref(),
    };
    let told = plan::check_table(
        rows,
        Destination {
            engine: Engine::Postgres,
            table: &request.table,
            found: &found,
            on_schema_change: request.on_schema_change,
        },
    );
    if let Some(refusal) = refusal(endpoint, &told) {
        return Err(refusal);
    }
    let mut warnings = add_columns(conn, endpoint, request, &told.added).await?;
    let reactions = read_reactions(conn, table.oid).await.map_err(failed)?;
    let (mode, triggers) = (request.mode, request.triggers);
    let to = Writing {
        engine: Engine::Postgres,
        table: told_as,
        mode,
        triggers,
    };
    let told = plan::check_reactions(to, Some(&reactions));
    let references = read_references(conn, table.oid).await.map_err(failed)?;
    for told in [&told, &plan::check_references(to, &references)] {
        if let Some(refusal) = refusal(endpoint, told) {
            return Err(refusal);
        }
    }
    warnings.extend(told.warnings);
    if let Some(sought) = request.sought_column()
        && !is_indexed(conn, table.oid, sought).await.map_err(failed)?
    {
        let own = table.column(sought).map(|column| column.facts.kind);
        let by_bytes =
            own == Some(ColumnKind::Text) && request.stream.kind != Some(CursorKind::Integer);
        warnings.push(plan::unindexed_target(told_as, sought, by_bytes));
    }
    Ok(warnings)
}

/// Adds what the table lacks, by the type that a created table would have; NULL in the rows that
/// are there. Readers and writers of the table wait until the commit, and it waits for them only
/// as long as a lock of this session may be waited for.
async fn add_columns(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &PrepareRequest,
    added: &[ColumnFacts],
) -> Result<Vec<String>, ConnectorError> {
    let mut warnings = Vec::new();
    for column in added {
        let failed = |error| {
            let what = format!("add column {} to {}", column.name, request.table);
            classify(endpoint, &what, error)
        };
        let made = created_type(conn, request.source_engine, column, None)
            .await
            .map_err(failed)?;
        warnings.extend(made.told().map(|told| told.line(&request.table)));
        let add = Sql::new(Dialect::Postgres, "alter table ")
            .table(&request.table)
            .text(" add column ")
            .name(&column.name)
            .text(" ");
        conn.execute(sqlx::raw_sql(made.write(add).into_statement()))
            .await
            .map_err(failed)?;
    }
    Ok(warnings)
}

/// The error of a table that cannot take the rows, in the words of the plan.
fn refusal(endpoint: &Endpoint, told: &TableCompat) -> Option<ConnectorError> {
    let (code, why) = told.refusal()?;
    Some(permanent(code, format!("{why} ({endpoint})")))
}
