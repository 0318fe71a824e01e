//! Rows on their way into SQLite: what each value becomes, and the inserts that carry many of them
//! at once.

use std::sync::Arc;

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind};
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::catalog::{Affinity, Table, affinity};
use super::errors::DatabaseFile;
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
    Decimal,
    Text,
}

#[derive(Debug)]
struct Column {
    name: String,
    conversion: Conversion,
    /// What the column makes of what is stored into it.
    affinity: Affinity,
}

/// A value as SQLite stores it.
#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    /// Bytes that are stored as text, which only a cast does.
    RawText(Vec<u8>),
    Bytes(Vec<u8>),
}

/// Inserts rows into one table, many to a statement, and counts what SQLite says it inserted.
pub(super) struct Inserter<'a> {
    place: &'a DatabaseFile,
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
    /// An inserter for the request's columns, which `table` must have, into the table of the name
    /// `into`, as SQL has it.
    pub(super) fn new(
        place: &'a DatabaseFile,
        request: &WriteRequest,
        table: &Table,
        into: &str,
    ) -> Result<Self, ConnectorError> {
        let columns = request
            .columns
            .iter()
            .map(|column| plan(place, request, table, column))
            .collect::<Result<Vec<_>, _>>()?;
        let rows_per_statement =
            (VARIABLES_MAX / columns.len().max(1)).clamp(1, ROWS_PER_STATEMENT_MAX);
        let names = sql::idents(request.columns.iter().map(|column| column.name.as_str()));
        let head = format!("insert into {into} ({names}) values ");
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
    pub(super) async fn add(
        &mut self,
        conn: &mut SqliteConnection,
        row: Vec<Value>,
    ) -> Result<(), ConnectorError> {
        if row.len() != self.columns.len() {
            let message = format!(
                "a row of {} values came for {} columns",
                row.len(),
                self.columns.len()
            );
            return Err(self.place.permanent(ErrorCode::RowShape, message));
        }
        if row.iter().any(|value| matches!(value, Value::RawText(_))) {
            return self.add_raw(conn, row).await;
        }
        for (value, column) in row.into_iter().zip(&self.columns) {
            let stored = convert(value, column).map_err(|problem| {
                let message = format!(
                    "column `{}` of `{}`: {}",
                    column.name, self.table, problem.text
                );
                self.place.permanent(problem.code, message)
            })?;
            self.bytes_waiting += bind(&mut self.waiting, stored).map_err(|error| {
                self.place
                    .driver("bind a value", sqlx::Error::Encode(error))
            })?;
        }
        self.rows_waiting += 1;
        if self.rows_waiting == self.rows_per_statement || self.bytes_waiting >= WAITING_BYTES_MAX {
            self.flush(conn).await?;
        }
        Ok(())
    }

    /// Inserts a row with text that is not UTF-8: no driver binds such a text, so its bytes are
    /// bound and made text by SQLite. In a file of another encoding they would be another text.
    async fn add_raw(
        &mut self,
        conn: &mut SqliteConnection,
        row: Vec<Value>,
    ) -> Result<(), ConnectorError> {
        if self.rows_waiting > 0 {
            self.flush(conn).await?;
        }
        let failed = |error| self.place.failed("read the encoding of the file")(error);
        let encoding: String = sqlx::query_scalar("pragma encoding")
            .fetch_one(&mut *conn)
            .await
            .map_err(failed)?;
        let mut arguments = SqliteArguments::default();
        let mut marks = Vec::new();
        for (value, column) in row.into_iter().zip(&self.columns) {
            let is_raw = matches!(value, Value::RawText(_));
            if is_raw && encoding != "UTF-8" {
                let message = format!(
                    "column `{}` of `{}` holds text that is not UTF-8, and the target file keeps \
                     its texts as {encoding}",
                    column.name, self.table
                );
                return Err(self.place.permanent(ErrorCode::NotUtf8, message));
            }
            marks.push(if is_raw { "cast(? as text)" } else { "?" });
            let stored = convert(value, column).map_err(|problem| {
                let message = format!(
                    "column `{}` of `{}`: {}",
                    column.name, self.table, problem.text
                );
                self.place.permanent(problem.code, message)
            })?;
            bind(&mut arguments, stored).map_err(|error| {
                self.place
                    .driver("bind a value", sqlx::Error::Encode(error))
            })?;
        }
        let insert = format!("{}({})", self.head, marks.join(","));
        let insert = sqlx::query_with(AssertSqlSafe(insert), arguments).persistent(false);
        let failed = self.place.failed(format!("insert into {}", self.table));
        self.inserted += sql::run(conn, insert).await.map_err(failed)?;
        Ok(())
    }

    /// Inserts what still waits, and gives the number of rows that SQLite inserted.
    pub(super) async fn finish(
        mut self,
        conn: &mut SqliteConnection,
    ) -> Result<u64, ConnectorError> {
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
            sqlx::query_with(
                AssertSqlSafe(statement(&self.head, self.columns.len(), rows)),
                arguments,
            )
            .persistent(false)
        };
        let failed = self.place.failed(format!("insert into {}", self.table));
        self.inserted += sql::run(conn, insert).await.map_err(failed)?;
        Ok(())
    }
}

/// Binds a value; gives the bytes that it holds.
fn bind(arguments: &mut SqliteArguments, stored: Stored) -> Result<usize, BoxDynError> {
    let bytes = match &stored {
        Stored::Null | Stored::Integer(_) | Stored::Real(_) => 0,
        Stored::Text(text) => text.len(),
        Stored::RawText(bytes) | Stored::Bytes(bytes) => bytes.len(),
    };
    match stored {
        Stored::Null => arguments.add(None::<i64>)?,
        Stored::Integer(value) => arguments.add(value)?,
        Stored::Real(value) => arguments.add(value)?,
        Stored::Text(value) => arguments.add(value)?,
        Stored::RawText(value) | Stored::Bytes(value) => arguments.add(value)?,
    }
    Ok(bytes)
}

fn statement(head: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{head}{}", vec![row.as_str(); rows].join(","))
}

fn plan(
    place: &DatabaseFile,
    request: &WriteRequest,
    table: &Table,
    column: &ColumnFacts,
) -> Result<Column, ConnectorError> {
    let Some(own) = table.column(&column.name) else {
        let message = format!(
            "the target table `{}` lost its column `{}`",
            request.table, column.name
        );
        return Err(place.permanent(ErrorCode::SchemaChanged, message));
    };
    let conversion = match column.kind {
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => Conversion::Integer,
        ColumnKind::Float32 | ColumnKind::Float64 => Conversion::Real,
        ColumnKind::Bool => Conversion::Bool,
        ColumnKind::Numeric => Conversion::Decimal,
        ColumnKind::Text
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
        affinity: affinity(&own.facts.type_name),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    code: ErrorCode,
    text: String,
}

impl Problem {
    /// Never tells the value: it is somebody's.
    fn changed(text: &str) -> Self {
        Self {
            code: ErrorCode::ValueDoesNotFit,
            text: format!("{text}; declare the column without a type, or exclude it"),
        }
    }
}

fn convert(value: Value, column: &Column) -> Result<Stored, Problem> {
    let text = match value {
        Value::Null => return Ok(Stored::Null),
        Value::Bytes(bytes) => return Ok(Stored::Bytes(bytes)),
        // What is not UTF-8 never reads as a number.
        Value::RawText(bytes) => return Ok(Stored::RawText(bytes)),
        Value::Integer(number) => return integer(number, column.affinity),
        Value::Real(number) => return float(number, column.affinity),
        Value::Text(text) => text,
    };
    match column.conversion {
        Conversion::Integer => match text.parse() {
            Ok(number) => integer(number, column.affinity),
            Err(_) => kept_text(text, column.affinity),
        },
        Conversion::Real => match real(&text)? {
            Some(number) => float(number, column.affinity),
            None => kept_text(text, column.affinity),
        },
        Conversion::Bool => match text.as_str() {
            "t" | "true" => integer(1, column.affinity),
            "f" | "false" => integer(0, column.affinity),
            _ => kept_text(text, column.affinity),
        },
        Conversion::Decimal => decimal(text, column.affinity),
        Conversion::Text => kept_text(text, column.affinity),
    }
}

fn integer(number: i64, affinity: Affinity) -> Result<Stored, Problem> {
    match affinity {
        Affinity::Integer | Affinity::Numeric | Affinity::Blob | Affinity::Text => {
            Ok(Stored::Integer(number))
        }
        Affinity::Real if is_exact_double(number.into()) => Ok(Stored::Integer(number)),
        Affinity::Real => Err(Problem::changed(
            "a row holds a whole number that SQLite would round to a float there",
        )),
    }
}

fn float(number: f64, affinity: Affinity) -> Result<Stored, Problem> {
    match affinity {
        Affinity::Integer | Affinity::Numeric | Affinity::Blob | Affinity::Real => {
            Ok(Stored::Real(number))
        }
        Affinity::Text => Err(Problem::changed(
            "a row holds a float, and SQLite would turn it into a text of 15 digits there",
        )),
    }
}

/// A text in a column that keeps it: in one for numbers only what does not read as one.
fn kept_text(text: String, affinity: Affinity) -> Result<Stored, Problem> {
    match affinity {
        Affinity::Text | Affinity::Blob => Ok(Stored::Text(text)),
        Affinity::Integer | Affinity::Numeric | Affinity::Real if !reads_as_number(&text) => {
            Ok(Stored::Text(text))
        }
        Affinity::Integer | Affinity::Numeric | Affinity::Real => Err(Problem::changed(
            "a row holds a text that reads as a number, and SQLite would turn it into one there",
        )),
    }
}

/// A decimal, as text where the column keeps that, else as the number that it is exactly.
fn decimal(text: String, affinity: Affinity) -> Result<Stored, Problem> {
    match affinity {
        Affinity::Text | Affinity::Blob => Ok(Stored::Text(text)),
        // `NaN` and the infinities are no numbers to SQLite.
        Affinity::Integer | Affinity::Numeric | Affinity::Real if !reads_as_number(&text) => {
            Ok(Stored::Text(text))
        }
        Affinity::Integer | Affinity::Numeric | Affinity::Real => match exact_number(&text) {
            Some(Stored::Integer(number)) => integer(number, affinity),
            Some(number) => Ok(number),
            None => Err(Problem::changed(
                "a row holds a decimal that SQLite would turn into a float there, which is not \
                 exactly it",
            )),
        },
    }
}

/// Whether SQLite may take a text for a number: digits with a sign, a point and an exponent, and
/// blanks around them.
fn reads_as_number(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_exponent = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && is_digits(digits)
    };
    is_digits(whole)
        && is_digits(behind)
        && !(whole.is_empty() && behind.is_empty())
        && exponent.is_none_or(is_exponent)
}

/// The whole number of 64 bits, or the double, that a decimal without an exponent is exactly.
fn exact_number(text: &str) -> Option<Stored> {
    let (whole, behind) = text.split_once('.').unwrap_or((text, ""));
    let behind = behind.trim_end_matches('0');
    if behind.is_empty()
        && let Ok(number) = whole.parse()
    {
        return Some(Stored::Integer(number));
    }
    // The decimal is `digits / 10^n`; a double is `m / 2^n` with 53 bits of m. So all fives must
    // cancel out.
    let mut digits: i128 = format!("{whole}{behind}").parse().ok()?;
    for _ in 0..behind.len() {
        digits = (digits % 5 == 0).then_some(digits / 5)?;
    }
    let number: f64 = text.parse().ok()?;
    (is_exact_double(digits) && number.is_finite()).then_some(Stored::Real(number))
}

/// Whether a double holds a whole number exactly.
const fn is_exact_double(number: i128) -> bool {
    let magnitude = number.unsigned_abs();
    magnitude == 0
        || u128::BITS - magnitude.leading_zeros() - magnitude.trailing_zeros()
            <= f64::MANTISSA_DIGITS
}

/// A double from its text, as servers write it; `None` for text that is none. SQLite's columns of
/// floats keep no sign of a zero, and -0 equals 0, so it is carried as SQLite can.
fn real(text: &str) -> Result<Option<f64>, Problem> {
    match text {
        "NaN" => {
            let text =
                "SQLite would store NaN as NULL; exclude the column, or cast it in the source"
                    .to_owned();
            Err(Problem {
                code: ErrorCode::ValueDoesNotFit,
                text,
            })
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
mod tests;
