//! What a recommendation is made of, asked of the databases themselves: reads only, and of each
//! table for a bounded time.

use std::time::Duration;

use highwater_common::advise::{MovedBy, PositionColumn, TableAsFound, TargetSide, TargetTable};
use highwater_common::assignment::ErrorClass;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind, Engine, PartitionFacts, TableFacts};
use highwater_common::spec::{ColumnRules, TableName, TablesFound};
use jiff::Timestamp;

use crate::connector::{
    ConnectorError, ServerAsFound, Source, SourceProbe, Survey, SurveyRequest, Surveys,
};

/// How long one table may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Columns of a table that are looked at.
const COLUMNS_MAX: usize = 6;
const DAY_MICROS: u64 = 86_400_000_000;

/// What a database says of itself, and of the role that asks.
///
/// # Errors
/// Those of [`Surveys::server`], and resource `statement_timeout` when it takes longer than a minute.
pub async fn server(source: &dyn Source) -> Result<ServerAsFound, ConnectorError> {
    within("what it is", surveys(source)?.server()).await
}

/// An answer about `what`, unless it takes too long.
async fn within<T>(
    what: &str,
    asked: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, ConnectorError> {
    let asked = tokio::time::timeout(WITHIN, asked).await;
    asked.unwrap_or_else(|_| {
        let message = format!("it has not told {what} within {} s", WITHIN.as_secs());
        let (class, code) = (ErrorClass::Resource, ErrorCode::StatementTimeout);
        Err(ConnectorError::new(class, code, message))
    })
}

/// Lists the tables of a database.
///
/// # Errors
/// Those of [`Surveys::tables`].
pub async fn tables(source: &dyn Source) -> Result<Vec<TableName>, ConnectorError> {
    surveys(source)?.tables().await
}

/// All tables of a database, and the foreign keys between them.
///
/// # Errors
/// Those of [`Surveys::tables_found`], and resource `statement_timeout` when it takes longer than a
/// minute.
pub async fn tables_found(source: &dyn Source) -> Result<TablesFound, ConnectorError> {
    within("its tables", surveys(source)?.tables_found()).await
}

/// Looks at a table as it is `now`; what hangs on the target is another question.
///
/// # Errors
/// Permanent `unknown_table`, and resource `statement_timeout` when it takes longer than a minute.
pub async fn survey(
    source: &dyn Source,
    table: &TableName,
    now: Timestamp,
) -> Result<TableAsFound, ConnectorError> {
    let looked_at = tokio::time::timeout(WITHIN, look_at(source, table, now)).await;
    looked_at.unwrap_or_else(|_| {
        let message = format!(
            "{table} could not be looked at within {} s",
            WITHIN.as_secs()
        );
        let (class, code) = (ErrorClass::Resource, ErrorCode::StatementTimeout);
        Err(ConnectorError::new(class, code, message))
    })
}

/// Looks at where a table is to go, by a session that only reads.
///
/// # Errors
/// Those of [`Surveys::as_target`].
pub async fn survey_target(
    target: &dyn Source,
    engine: Engine,
    name: &TableName,
) -> Result<TargetSide, ConnectorError> {
    Ok(TargetSide {
        engine,
        name: name.clone(),
        table: surveys(target)?
            .as_target(name)
            .await?
            .map_or(TargetTable::Missing, TargetTable::Found),
    })
}

fn surveys(source: &dyn Source) -> Result<&dyn Surveys, ConnectorError> {
    source.surveys().ok_or_else(|| {
        let message = "this database tells nothing that a recommendation could be made of";
        ConnectorError::new(ErrorClass::Permanent, ErrorCode::SurveyUnsupported, message)
    })
}

async fn look_at(
    source: &dyn Source,
    table: &TableName,
    now: Timestamp,
) -> Result<TableAsFound, ConnectorError> {
    let facts = source.probe(&probe(table, None, false)).await?;
    let mut found = Vec::new();
    for column in candidates(&facts) {
        found.extend(position_facts(source, table, &facts, column).await);
    }
    let request = SurveyRequest {
        table: table.clone(),
        columns: found
            .iter()
            .map(|column| (column.column.clone(), column.kind))
            .collect(),
    };
    let Survey {
        changes,
        sight,
        log,
        bytes,
        key_cuts,
        columns,
    } = surveys(source)?.survey(&request).await?;
    let columns = found.into_iter().zip(columns);
    let columns = columns.map(|(column, stamping)| PositionColumn {
        span_days: column
            .min
            .zip(column.max)
            .and_then(|ends| span_days(ends, now)),
        name: column.column,
        kind: column.kind,
        nullable: column.nullable,
        null_rows: column.null_rows,
        indexed: column.indexed,
        moved_by: match column.kind {
            CursorKind::Integer | CursorKind::Placed(_) => MovedBy::Nobody,
            CursorKind::Instant | CursorKind::Civil | CursorKind::Date => stamping.moved_by,
        },
        doubts: stamping.doubts,
    });
    Ok(TableAsFound {
        table: table.clone(),
        engine: facts.engine,
        rows: facts.rows,
        rows_exact: facts.rows_exact,
        bytes: bytes.unwrap_or(facts.bytes),
        key: facts.key,
        key_cuts,
        columns: columns.collect(),
        changes,
        sight,
        log,
        target: None,
    })
}

fn probe(table: &TableName, column: Option<&str>, bounds_declared: bool) -> SourceProbe {
    SourceProbe {
        relation: table.clone().into(),
        columns: ColumnRules::default(),
        partition_column: column.map(str::to_owned),
        bounds_declared,
        placing: None,
        defined: false,
    }
}

/// What the source says of a column's positions; `None` where it has none. The ends are looked for
/// where that takes no scan.
async fn position_facts(
    source: &dyn Source,
    table: &TableName,
    facts: &TableFacts,
    column: &ColumnFacts,
) -> Option<PartitionFacts> {
    let name = Some(column.name.as_str());
    let is_counted = facts.rows_exact;
    let first = source.probe(&probe(table, name, !is_counted)).await.ok()?;
    let partition = first.partition?;
    if is_counted || !partition.indexed {
        return Some(partition);
    }
    match source.probe(&probe(table, name, false)).await {
        Ok(more) => more.partition,
        Err(_) => Some(partition),
    }
}

/// The columns that may give rows a position: times, and the key where it is one whole number.
fn candidates(facts: &TableFacts) -> impl Iterator<Item = &ColumnFacts> {
    let is_key = |column: &ColumnFacts| facts.key == [column.name.as_str()];
    let may = move |column: &&ColumnFacts| match column.kind {
        ColumnKind::Date | ColumnKind::Civil | ColumnKind::Instant => true,
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => {
            is_key(column) || (facts.engine == Engine::Sqlite && is_called_a_time(column))
        }
        ColumnKind::Any | ColumnKind::Text => {
            facts.engine == Engine::Sqlite && is_called_a_time(column)
        }
        ColumnKind::Bool
        | ColumnKind::Float32
        | ColumnKind::Float64
        | ColumnKind::Numeric
        | ColumnKind::Bytes
        | ColumnKind::Time
        | ColumnKind::Uuid
        | ColumnKind::Json
        | ColumnKind::Other => false,
    };
    facts.columns.iter().filter(may).take(COLUMNS_MAX)
}

/// Whether a column of a database without types of times is called like one, or its type is.
fn is_called_a_time(column: &ColumnFacts) -> bool {
    let (name, of) = (
        column.name.to_ascii_lowercase(),
        column.type_name.to_ascii_lowercase(),
    );
    let words = ["date", "time", "stamp"];
    let is_said = |text: &str| words.iter().any(|word| text.contains(word));
    is_said(&name) || is_said(&of) || name.ends_with("_at") || name.ends_with("_on") || name == "at"
}

/// Days from the first position to the last, or to now if that is later.
fn span_days((min, max): (Cursor, Cursor), now: Timestamp) -> Option<u64> {
    let now = now.as_microsecond();
    match (min, max) {
        (Cursor::Instant(min), Cursor::Instant(max)) | (Cursor::Civil(min), Cursor::Civil(max)) => {
            max.max(now).abs_diff(min).checked_div(DAY_MICROS)
        }
        (Cursor::Date(min), Cursor::Date(max)) => {
            let today = i64::try_from(DAY_MICROS)
                .ok()
                .and_then(|day| now.checked_div(day))?;
            Some(i64::from(max).max(today).abs_diff(i64::from(min)))
        }
        _ => None,
    }
}
