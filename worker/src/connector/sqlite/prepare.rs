//! The target table: made from the source's columns where it is missing, compared with them where
//! it exists.

use highwater_common::facts::{ColumnFacts, ColumnKind, Engine, Reaction};
use highwater_common::plan::{self, Destination, Rows, TableCompat, Writing};
use sqlx::sqlite::SqliteConnection;

use super::catalog::{self, Table};
use super::errors::DatabaseFile;
use super::{receipts, sql, triggers, twin};
use crate::connector::{ConnectorError, PrepareRequest};

/// Makes or checks the table, where there is one to be made ready, and notes for the stream which one
/// it is; inside the caller's transaction. Returns warnings.
pub(super) async fn make_ready(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &PrepareRequest,
) -> Result<Vec<String>, ConnectorError> {
    if !request.mode.prepares_table() {
        return Ok(Vec::new());
    }
    let warnings = table(conn, place, request).await?;
    receipts::note(conn, place, &request.stream.stream, &request.table).await?;
    Ok(warnings)
}

/// Makes or checks the table. Returns warnings.
async fn table(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &PrepareRequest,
) -> Result<Vec<String>, ConnectorError> {
    match catalog::find(conn, place, &request.table).await? {
        Some(table) => {
            let reactions = triggers::read(conn, place, &request.table).await?;
            let told = compare(place, request, &table, Some(&reactions))?;
            add_columns(conn, place, request, &told.added).await?;
            Ok(told.warnings)
        }
        None => {
            refuse(place, &plan::check_reactions(writing(request), None))?;
            let mut warnings = Vec::new();
            if let Some(twin) = &request.twin
                && let Some(body) = &twin.body
            {
                let save = async |conn: &mut SqliteConnection, what| {
                    let saved = sql::run(conn, sqlx::query(what)).await;
                    saved.map(drop).map_err(place.failed("make a table"))
                };
                save(conn, "savepoint twin").await?;
                let Err(error) = twin::make(conn, place, &request.table, twin, body).await else {
                    let is_told = |name: &str| {
                        let mut told = twin.columns.iter();
                        told.any(|one| one.name.eq_ignore_ascii_case(name))
                    };
                    let mut own = request.columns.clone();
                    own.retain(|one| !is_told(&one.name));
                    add_columns(conn, place, request, &own).await?;
                    save(conn, "release twin").await?;
                    return Ok(Vec::new());
                };
                // A collation or a function that only the source's programs have: its columns and
                // its key are still to be had.
                save(conn, "rollback to twin").await?;
                save(conn, "release twin").await?;
                warnings.push(format!(
                    "{} gets the columns and the key alone of {}: {}",
                    request.table, request.source, error.report.message
                ));
            }
            let index = index_name(conn, place, request).await?;
            for statement in statements(request, index.as_deref()) {
                sql::run(conn, sql::once(statement))
                    .await
                    .map_err(place.failed(format!("create table {}", request.table)))?;
            }
            Ok(warnings)
        }
    }
}

/// The type a column gets in a created table.
fn type_of(column: &ColumnFacts, source: Engine) -> String {
    match source {
        // A declared type is only ever letters, digits, blanks and a length; anything else is kept
        // out of the statement.
        Engine::Sqlite if is_plain(&column.type_name) => column.type_name.clone(),
        _ => match column.kind {
            ColumnKind::Bool | ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => {
                "INTEGER"
            }
            ColumnKind::Float32 | ColumnKind::Float64 => "REAL",
            ColumnKind::Bytes => "BLOB",
            ColumnKind::Any => "",
            ColumnKind::Numeric
            | ColumnKind::Text
            | ColumnKind::Date
            | ColumnKind::Time
            | ColumnKind::Civil
            | ColumnKind::Instant
            | ColumnKind::Uuid
            | ColumnKind::Json
            | ColumnKind::Other => "TEXT",
        }
        .to_owned(),
    }
}

fn is_plain(type_name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '(' | ')' | ',');
    let starts_well =
        type_name.is_empty() || type_name.starts_with(|c: char| c.is_ascii_alphabetic());
    let keyword = type_name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| {
            [
                "primary",
                "references",
                "check",
                "default",
                "collate",
                "generated",
                "unique",
                "not",
                "constraint",
                "as",
            ]
            .iter()
            .any(|reserved| word.eq_ignore_ascii_case(reserved))
        });
    starts_well && !keyword && type_name.chars().all(legal)
}

/// A name for the index on the partition column that nothing in the file has, if the table is to
/// have that index: tables and indexes of a file share one set of names, and those of two tables
/// may come out alike.
async fn index_name(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &PrepareRequest,
) -> Result<Option<String>, ConnectorError> {
    /// An index is only there for speed: a file that has taken so many names goes without.
    const NAMES_MAX: u32 = 100;
    let Some(column) = request.sought_column() else {
        return Ok(None);
    };
    let key_leads = request
        .key
        .first()
        .is_some_and(|first| first.eq_ignore_ascii_case(column));
    if key_leads {
        return Ok(None);
    }
    let schema = sql::ident(sql::schema(&request.table));
    for number in 1..=NAMES_MAX {
        let end = if number == 1 {
            String::new()
        } else {
            number.to_string()
        };
        let name = format!("{}_{column}_idx{end}", request.table.name);
        let question =
            format!("select 1 from {schema}.sqlite_schema where name = ? collate nocase");
        let taken = sql::once(question)
            .bind(&name)
            .fetch_optional(&mut *conn)
            .await;
        if taken
            .map_err(place.failed("list the names of the file"))?
            .is_none()
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn statements(request: &PrepareRequest, index: Option<&str>) -> Vec<String> {
    let in_key = |name: &str| request.key.iter().any(|key| key.eq_ignore_ascii_case(name));
    let mut lines: Vec<String> = request
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.nullable && !in_key(&column.name) {
                ""
            } else {
                " not null"
            };
            format!(
                "{} {}{not_null}",
                sql::ident(&column.name),
                type_of(column, request.source_engine)
            )
        })
        .collect();
    if !request.key.is_empty() {
        lines.push(format!(
            "primary key ({})",
            sql::idents(request.key.iter().map(String::as_str))
        ));
    }
    let mut statements = vec![format!(
        "create table {} ({})",
        sql::table(&request.table),
        lines.join(", ")
    )];
    if let (Some(index), Some(column)) = (index, request.sought_column()) {
        statements.push(format!(
            "create index {}.{} on {} ({})",
            sql::ident(sql::schema(&request.table)),
            sql::ident(index),
            sql::ident(&request.table.name),
            sql::ident(column)
        ));
    }
    statements
}

/// What the plan said of the table, asked once more of what is there now. What is only risky, the
/// plan has told.
fn compare(
    place: &DatabaseFile,
    request: &PrepareRequest,
    table: &Table,
    reactions: Option<&[Reaction]>,
) -> Result<TableCompat, ConnectorError> {
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
            engine: Engine::Sqlite,
            table: &request.table,
            found: &found,
            on_schema_change: request.on_schema_change,
        },
    );
    refuse(place, &told)?;
    let added = told.added;
    let mut told = plan::check_reactions(writing(request), reactions);
    refuse(place, &told)?;
    if let Some(sought) = request.sought_column()
        && !table.leads_with(sought)
    {
        let warning = plan::unindexed_target(&request.table, sought, false);
        told.warnings.push(warning);
    }
    Ok(TableCompat { added, ..told })
}

/// Adds what the table lacks; NULL in the rows that are there.
async fn add_columns(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &PrepareRequest,
    added: &[ColumnFacts],
) -> Result<(), ConnectorError> {
    for column in added {
        let add = format!(
            "alter table {} add column {} {}",
            sql::table(&request.table),
            sql::ident(&column.name),
            type_of(column, request.source_engine)
        );
        let what = format!("add column {} to {}", column.name, request.table);
        sql::run(conn, sql::once(add))
            .await
            .map_err(place.failed(what))?;
    }
    Ok(())
}

const fn writing(request: &PrepareRequest) -> Writing<'_> {
    let (mode, triggers) = (request.mode, request.triggers);
    Writing {
        engine: Engine::Sqlite,
        table: &request.table,
        mode,
        triggers,
    }
}

/// The error of a table that cannot take the rows, in the words of the plan.
fn refuse(place: &DatabaseFile, told: &TableCompat) -> Result<(), ConnectorError> {
    match told.refusal() {
        Some((code, why)) => Err(place.permanent(code, why)),
        None => Ok(()),
    }
}
