//! Rows on their way into SQLite: what each value becomes, and the inserts that carry many of them at once.

use std::sync::Arc;

use highwater_common::facts::{ColumnFacts, ColumnKind};
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::catalogue::{Affinity, Table, affinity};
use super::errors::Place;
use super::sql::{self, VARIABLES_MAX};
use crate::connector::{ConnectorError, Value, WriteRequest};

/// Rows that one statement inserts at most.
const ROWS_PER_STATEMENT_MAX: usize = 200;
/// Bytes of text and blobs that wait for a statement before it is run with fewer rows.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How text becomes a value of a column. Values that SQLite itself gave keep their storage class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    Integer,
    Real,
    Bool,
    Text,
}

#[derive(Debug)]
struct Column {
    name: String,
    conversion: Conversion,
    /// The target declares the column as the source does: what a value of it became there, it becomes here.
    same_declaration: bool,
    /// The target keeps a value of this column's conversion as it is.
    keeps_text: bool,
    /// The target keeps whole numbers and doubles that come as such.
    keeps_numbers: bool,
}

/// A value as SQLite stores it.
#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Inserts rows into one table, many to a statement, and counts what SQLite says it inserted.
pub(super) struct Inserter<'a> {
    place: &'a Place,
    table: String,
    columns: Vec<Column>,
    head: String,
    full: Arc<String>,
    rows_per_statement: usize,
    waiting: SqliteArguments,
    rows_waiting: usize,
    bytes_waiting: usize,
    inserted: u64,
}

impl<'a> Inserter<'a> {
    /// An inserter for the request's columns, which `table` must have.
    pub(super) fn new(place: &'a Place, request: &WriteRequest, table: &Table) -> Result<Self, ConnectorError> {
        let columns =
            request.columns.iter().map(|column| plan(place, request, table, column)).collect::<Result<Vec<_>, _>>()?;
        let rows_per_statement = (VARIABLES_MAX / columns.len().max(1)).clamp(1, ROWS_PER_STATEMENT_MAX);
        let names = sql::idents(request.columns.iter().map(|column| column.name.as_str()));
        let head = format!("insert into {} ({names}) values ", sql::table(&request.table));
        let full = Arc::new(statement(&head, columns.len(), rows_per_statement));
        Ok(Self {
            place,
            table: request.table.to_string(),
            columns,
            head,
            full,
            rows_per_statement,
            waiting: SqliteArguments::default(),
            rows_waiting: 0,
            bytes_waiting: 0,
            inserted: 0,
        })
    }

    /// Takes a row; it is inserted now or with those that follow.
    pub(super) async fn add(&mut self, conn: &mut SqliteConnection, row: Vec<Value>) -> Result<(), ConnectorError> {
        if row.len() != self.columns.len() {
            let message = format!("a row of {} values came for {} columns", row.len(), self.columns.len());
            return Err(self.place.permanent("row_shape", message));
        }
        for (value, column) in row.into_iter().zip(&self.columns) {
            let stored = convert(value, column).map_err(|problem| {
                let message = format!("column `{}` of `{}`: {}", column.name, self.table, problem.text);
                self.place.permanent(problem.code, message)
            })?;
            let added = match stored {
                Stored::Null => self.waiting.add(None::<i64>),
                Stored::Integer(value) => self.waiting.add(value),
                Stored::Real(value) => self.waiting.add(value),
                Stored::Text(value) => {
                    self.bytes_waiting += value.len();
                    self.waiting.add(value)
                }
                Stored::Bytes(value) => {
                    self.bytes_waiting += value.len();
                    self.waiting.add(value)
                }
            };
            added.map_err(|error| self.place.driver("bind a value", sqlx::Error::Encode(error)))?;
        }
        self.rows_waiting += 1;
        if self.rows_waiting == self.rows_per_statement || self.bytes_waiting >= WAITING_BYTES_MAX {
            self.flush(conn).await?;
        }
        Ok(())
    }

    /// Inserts what still waits, and gives the number of rows that SQLite inserted.
    pub(super) async fn finish(mut self, conn: &mut SqliteConnection) -> Result<u64, ConnectorError> {
        if self.rows_waiting > 0 {
            self.flush(conn).await?;
        }
        Ok(self.inserted)
    }

    async fn flush(&mut self, conn: &mut SqliteConnection) -> Result<(), ConnectorError> {
        let arguments = std::mem::take(&mut self.waiting);
        let rows = std::mem::take(&mut self.rows_waiting);
        self.bytes_waiting = 0;
        // Only the full statement comes again and again; it stays prepared.
        let insert = if rows == self.rows_per_statement {
            sqlx::query_with(AssertSqlSafe(Arc::clone(&self.full)), arguments)
        } else {
            sqlx::query_with(AssertSqlSafe(statement(&self.head, self.columns.len(), rows)), arguments)
                .persistent(false)
        };
        let failed = self.place.failed(format!("insert into {}", self.table));
        self.inserted += sql::run(conn, insert).await.map_err(failed)?;
        Ok(())
    }
}

fn statement(head: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{head}{}", vec![row.as_str(); rows].join(","))
}

fn plan(place: &Place, request: &WriteRequest, table: &Table, column: &ColumnFacts) -> Result<Column, ConnectorError> {
    let Some(own) = table.column(&column.name) else {
        let message = format!("the target table `{}` lost its column `{}`", request.table, column.name);
        return Err(place.permanent("schema_changed", message));
    };
    let own_affinity = affinity(&own.facts.type_name);
    let same_affinity = own_affinity == affinity(&column.type_name);
    let conversion = match column.kind {
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => Conversion::Integer,
        ColumnKind::Float32 | ColumnKind::Float64 => Conversion::Real,
        ColumnKind::Bool => Conversion::Bool,
        ColumnKind::Numeric
        | ColumnKind::Text
        | ColumnKind::Bytes
        | ColumnKind::Date
        | ColumnKind::Time
        | ColumnKind::Civil
        | ColumnKind::Instant
        | ColumnKind::Uuid
        | ColumnKind::Json
        | ColumnKind::Other
        | ColumnKind::Any => Conversion::Text,
    };
    Ok(Column {
        name: column.name.clone(),
        conversion,
        same_declaration: own.facts.type_name == column.type_name,
        keeps_text: same_affinity || matches!(own_affinity, Affinity::Text | Affinity::Blob),
        keeps_numbers: same_affinity || own_affinity == Affinity::Blob,
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    code: &'static str,
    text: String,
}

fn convert(value: Value, column: &Column) -> Result<Stored, Problem> {
    let text = match value {
        Value::Null => return Ok(Stored::Null),
        Value::Bytes(bytes) => return Ok(Stored::Bytes(bytes)),
        Value::Integer(value) if column.keeps_numbers => return Ok(Stored::Integer(value)),
        Value::Real(value) if column.keeps_numbers => return Ok(Stored::Real(value)),
        Value::Integer(_) | Value::Real(_) => return Err(changed("a number")),
        Value::Text(text) => text,
    };
    let converted = match column.conversion {
        Conversion::Integer => text.parse().ok().map(Stored::Integer),
        Conversion::Real => real(&text)?.map(Stored::Real),
        Conversion::Bool => match text.as_str() {
            "t" | "true" => Some(Stored::Integer(1)),
            "f" | "false" => Some(Stored::Integer(0)),
            _ => None,
        },
        Conversion::Text if column.keeps_text => return Ok(Stored::Text(text)),
        Conversion::Text => return Err(changed("text")),
    };
    match converted {
        Some(stored) => Ok(stored),
        // SQLite lets a column hold what its type does not say; a column declared alike holds it just the same.
        None if column.same_declaration => Ok(Stored::Text(text)),
        None => {
            let kind = match column.conversion {
                Conversion::Integer => "a whole number of 64 bits",
                Conversion::Real => "a number",
                Conversion::Bool => "true or false",
                Conversion::Text => "text",
            };
            let shown: String = text.chars().take(40).collect();
            Err(Problem { code: "value_does_not_fit", text: format!("`{shown}` is not {kind}") })
        }
    }
}

fn changed(what: &str) -> Problem {
    let text =
        format!("the column's declared type would change {what}; declare it as the source does, or without a type");
    Problem { code: "schema_changed", text }
}

/// A double from its text, as servers write it; `None` for text that is none.
fn real(text: &str) -> Result<Option<f64>, Problem> {
    match text {
        "NaN" => {
            let text = "SQLite would store NaN as NULL; exclude the column, or cast it in the source".to_owned();
            Err(Problem { code: "value_does_not_fit", text })
        }
        "-0" => {
            let text = "SQLite would store -0 as 0; exclude the column, or add 0 to it in the source".to_owned();
            Err(Problem { code: "value_does_not_fit", text })
        }
        "Infinity" => Ok(Some(f64::INFINITY)),
        "-Infinity" => Ok(Some(f64::NEG_INFINITY)),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => {
            Ok(text.parse().ok().filter(|value: &f64| value.is_finite()))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(conversion: Conversion, same_declaration: bool) -> Column {
        Column { name: "c".to_owned(), conversion, same_declaration, keeps_text: true, keeps_numbers: true }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn text_becomes_what_its_kind_says() {
        assert_eq!(convert(text("-5"), &column(Conversion::Integer, false)), Ok(Stored::Integer(-5)));
        assert_eq!(convert(text("1e3"), &column(Conversion::Real, false)), Ok(Stored::Real(1000.0)));
        assert_eq!(convert(text("-Infinity"), &column(Conversion::Real, false)), Ok(Stored::Real(f64::NEG_INFINITY)));
        assert_eq!(convert(text("t"), &column(Conversion::Bool, false)), Ok(Stored::Integer(1)));
        assert_eq!(convert(text("0012.50"), &column(Conversion::Text, false)), Ok(Stored::Text("0012.50".to_owned())));
        assert_eq!(convert(Value::Bytes(vec![0]), &column(Conversion::Text, false)), Ok(Stored::Bytes(vec![0])));
    }

    #[test]
    fn what_does_not_fit_is_refused_unless_the_column_is_declared_alike() {
        assert!(convert(text("abc"), &column(Conversion::Integer, false)).is_err());
        assert_eq!(convert(text("abc"), &column(Conversion::Integer, true)), Ok(Stored::Text("abc".to_owned())));
        assert!(
            convert(text("NaN"), &column(Conversion::Real, true)).is_err_and(|problem| problem.text.contains("NaN"))
        );
        let numeric = Column { keeps_text: false, ..column(Conversion::Text, false) };
        assert!(convert(text("0012.50"), &numeric).is_err_and(|problem| problem.code == "schema_changed"));
    }
}
