//! The target table: made from the source's columns where it is missing, compared with them where it exists.

use highwater_common::facts::{ColumnFacts, ColumnKind, Engine};
use highwater_common::spec::WriteMode;
use sqlx::sqlite::SqliteConnection;

use super::catalogue::{self, Affinity, Table, affinity};
use super::errors::Place;
use super::sql;
use crate::connector::{ConnectorError, PrepareRequest};

/// Makes or checks the table, inside the caller's transaction. Returns warnings.
pub(super) async fn table(
    conn: &mut SqliteConnection,
    place: &Place,
    request: &PrepareRequest,
) -> Result<Vec<String>, ConnectorError> {
    match catalogue::find(conn, place, &request.table).await? {
        Some(table) => compare(place, request, &table),
        None => {
            for statement in statements(request) {
                sql::run(conn, sql::once(statement))
                    .await
                    .map_err(place.failed(format!("create table {}", request.table)))?;
            }
            Ok(Vec::new())
        }
    }
}

/// The type a column gets in a created table.
fn type_of(column: &ColumnFacts, source: Engine) -> String {
    match source {
        // A declared type is only ever letters, digits, blanks and a length; anything else is kept out of the statement.
        Engine::Sqlite if is_plain(&column.type_name) => column.type_name.clone(),
        Engine::Sqlite | Engine::Postgres => match column.kind {
            ColumnKind::Bool | ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => "INTEGER",
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
    let starts_well = type_name.is_empty() || type_name.starts_with(|c: char| c.is_ascii_alphabetic());
    let keyword = type_name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        ["primary", "references", "check", "default", "collate", "generated", "unique", "not", "constraint", "as"]
            .iter()
            .any(|reserved| word.eq_ignore_ascii_case(reserved))
    });
    starts_well && !keyword && type_name.chars().all(legal)
}

fn statements(request: &PrepareRequest) -> Vec<String> {
    let in_key = |name: &str| request.key.iter().any(|key| key.eq_ignore_ascii_case(name));
    let mut lines: Vec<String> = request
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.nullable && !in_key(&column.name) { "" } else { " not null" };
            format!("{} {}{not_null}", sql::ident(&column.name), type_of(column, request.source_engine))
        })
        .collect();
    if !request.key.is_empty() {
        lines.push(format!("primary key ({})", sql::idents(request.key.iter().map(String::as_str))));
    }
    let mut statements = vec![format!("create table {} ({})", sql::table(&request.table), lines.join(", "))];
    let column = &request.partition_column;
    let key_leads = request.key.first().is_some_and(|first| first.eq_ignore_ascii_case(column));
    match request.mode {
        WriteMode::ReplacePartition if !key_leads => {
            let name = format!("{}_{column}_idx", request.table.name);
            statements.push(format!(
                "create index {}.{} on {} ({})",
                sql::ident(sql::schema(&request.table)),
                sql::ident(&name),
                sql::ident(&request.table.name),
                sql::ident(column)
            ));
        }
        WriteMode::ReplacePartition | WriteMode::Append => {}
    }
    statements
}

/// Every difference that would lose or refuse values is an error; what is only slow or risky is a warning.
fn compare(place: &Place, request: &PrepareRequest, table: &Table) -> Result<Vec<String>, ConnectorError> {
    let mut differences = Vec::new();
    let mut warnings = Vec::new();
    for column in &request.columns {
        let name = &column.name;
        let Some(own) = table.column(name) else {
            differences.push(format!("column `{name}` is missing"));
            continue;
        };
        if own.generated {
            differences.push(format!("column `{name}` is generated there and cannot be written"));
        }
        let wanted = type_of(column, request.source_engine);
        let (wanted_affinity, own_affinity) = (affinity(&wanted), affinity(&own.facts.type_name));
        // A column without affinity stores every value as it comes.
        if own_affinity != wanted_affinity && own_affinity != Affinity::Blob {
            let own_type = &own.facts.type_name;
            differences.push(format!("column `{name}` is declared `{own_type}`, which changes values of `{wanted}`"));
        }
        if column.nullable && !own.facts.nullable {
            warnings.push(format!("column `{name}` of `{}` is NOT NULL, and the source allows NULL", request.table));
        }
    }
    for own in table.columns.iter().filter(|own| !own.facts.nullable && !own.has_default && !own.generated) {
        let name = &own.facts.name;
        let is_rowid = table.has_rowid && table.primary_key == [name.clone()];
        if !is_rowid && !request.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name)) {
            differences.push(format!("column `{name}` exists only there, is NOT NULL and has no default"));
        }
    }
    if !differences.is_empty() {
        let message = format!(
            "the target table `{}` does not fit the source's columns: {}. Change the table, or exclude the columns",
            request.table,
            differences.join("; ")
        );
        return Err(place.permanent("schema_changed", message));
    }
    match request.mode {
        WriteMode::ReplacePartition if !table.leads_with(&request.partition_column) => warnings.push(format!(
            "`{}` has no index on `{}`: every partition scans the whole table",
            request.table, request.partition_column
        )),
        WriteMode::ReplacePartition | WriteMode::Append => {}
    }
    Ok(warnings)
}
