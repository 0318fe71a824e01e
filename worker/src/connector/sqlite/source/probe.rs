//! What a file says of a table that is to be read.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, CursorForm, Engine, PartitionFacts, TableFacts};
use highwater_common::spec::{Relation, TableName};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::super::catalog::{self, Table};
use super::super::errors::DatabaseFile;
use super::super::rows::value_of;
use super::super::{casts, position, sql, twin};
use crate::connector::{ConnectorError, PlacingProbe, SourceProbe, Value};

/// Row ids up to which a table is counted; beyond it the largest one is the estimate.
pub(super) const COUNTED_ROWS_MAX: i64 = 3_000_000;

pub(super) struct Probing<'a> {
    pub(super) place: &'a DatabaseFile,
    pub(super) probe: &'a SourceProbe,
    /// What is read, by its name in the session.
    pub(super) table: &'a TableName,
}

impl Probing<'_> {
    pub(super) async fn facts(
        &self,
        conn: &mut SqliteConnection,
    ) -> Result<TableFacts, ConnectorError> {
        let name = self.table;
        let table = catalog::existing(conn, self.place, name).await?;
        let rules = &self.probe.columns;
        for column in rules.named().chain(&self.probe.partition_column) {
            known(self.place, &table, &self.probe.relation, column)?;
        }
        let (rows, rows_exact) = self.count(conn, &table).await?;
        let bytes: i64 = sqlx::query_scalar(
            "select page_count * page_size from pragma_page_count, \
            pragma_page_size",
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(self.place.failed("read the size of the file"))?;
        let refused = match &self.probe.placing {
            None | Some(PlacingProbe::Auto { .. }) => None,
            Some(PlacingProbe::Hash(_)) => Some("which has no hash"),
            Some(PlacingProbe::Keys(_)) => Some(
                "whose columns may hold values of any type, so that no text of a key is one to cut at",
            ),
        };
        if let Some(what) = refused {
            let message = format!(
                "{} is a table of SQLite, {what}; cut it by a time or by a whole number, \
                 such as its rowid",
                self.probe.relation
            );
            let code = ErrorCode::UnsupportedPartitionColumn;
            return Err(self.place.permanent(code, message));
        }
        let own = table.key();
        let changed = |name: &String| {
            let excluded = rules.exclude.iter();
            let mut changed = excluded.chain(rules.casts.keys());
            changed.any(|other| other.eq_ignore_ascii_case(name))
        };
        let chosen = match (&self.probe.placing, own.as_slice()) {
            (Some(_), [name])
                if !changed(name) && self.is_whole_number(conn, &table, name).await? =>
            {
                Some(name)
            }
            _ => None,
        };
        let partition = match self.probe.partition_column.as_ref().or(chosen) {
            Some(column) => Some(self.partition(conn, &table, column).await?),
            None if self.probe.placing.is_some() => Some(PartitionFacts::in_one_piece()),
            None => None,
        };
        let excluded = |name: &str| {
            let mut excluded = rules.exclude.iter();
            excluded.any(|excluded| excluded.eq_ignore_ascii_case(name))
        };
        // What a table computes is its own business: the target computes it too, or has no such
        // column.
        let columns = table
            .columns
            .iter()
            .filter(|column| !column.generated)
            .map(|column| column.facts.clone());
        let columns: Vec<_> = columns.filter(|facts| !excluded(&facts.name)).collect();
        let columns = casts::cast_columns(conn, self.place, name, columns, &rules.casts).await?;
        let changes = |name: &String| {
            excluded(name)
                || columns.iter().any(|column| {
                    column.cast_from().is_some() && column.name.eq_ignore_ascii_case(name)
                })
        };
        let mut key = table.key();
        // A key is one only with all of its columns, and where no row lacks a part of it.
        if key.iter().any(changes) || self.has_null(conn, &table, &key).await? {
            key.clear();
        }
        let definition = match self.probe.defined {
            true => twin::read_definition(conn, self.place, name, &table).await?,
            false => None,
        };
        Ok(TableFacts {
            definition,
            engine: Engine::Sqlite,
            columns,
            key,
            filtered: false,
            rows,
            rows_exact,
            bytes: u64::try_from(bytes).unwrap_or(0),
            partition,
        })
    }

    /// Whether a key is made to hold whole numbers, and every row has one.
    async fn is_whole_number(
        &self,
        conn: &mut SqliteConnection,
        table: &Table,
        name: &str,
    ) -> Result<bool, ConnectorError> {
        let Some(column) = table.column(name) else {
            return Ok(false);
        };
        if column.facts.kind != ColumnKind::Int64 {
            return Ok(false);
        }
        let no_number = format!("where typeof({}) <> 'integer' limit 1", sql::ident(name));
        Ok(self.value(conn, "1", &no_number).await? == Value::Null)
    }

    /// Whether a row has NULL in a column that may hold it.
    async fn has_null(
        &self,
        conn: &mut SqliteConnection,
        table: &Table,
        key: &[String],
    ) -> Result<bool, ConnectorError> {
        let may_hold_null = |name: &&String| {
            table
                .column(name)
                .is_none_or(|column| column.facts.nullable)
        };
        let nulls: Vec<String> = key
            .iter()
            .filter(may_hold_null)
            .map(|name| format!("{} is null", sql::ident(name)))
            .collect();
        if nulls.is_empty() {
            return Ok(false);
        }
        let found = self
            .value(conn, "1", &format!("where {} limit 1", nulls.join(" or ")))
            .await?;
        Ok(found != Value::Null)
    }

    async fn count(
        &self,
        conn: &mut SqliteConnection,
        table: &Table,
    ) -> Result<(u64, bool), ConnectorError> {
        if table.has_rowid {
            let largest: Option<i64> = self.one(conn, "max(rowid)", "").await?;
            if let Some(largest) = largest.filter(|largest| *largest > COUNTED_ROWS_MAX) {
                return Ok((u64::try_from(largest).unwrap_or(0), false));
            }
        }
        let rows: i64 = self.one(conn, "count(*)", "").await?;
        Ok((u64::try_from(rows).unwrap_or(0), true))
    }

    async fn partition(
        &self,
        conn: &mut SqliteConnection,
        table: &Table,
        column: &str,
    ) -> Result<PartitionFacts, ConnectorError> {
        let name = column_name(table, column);
        let quoted = sql::ident(&name);
        let nullable = table
            .column(column)
            .is_none_or(|column| column.facts.nullable);
        let null_rows: i64 = if nullable {
            self.one(conn, "count(*)", &format!("where {quoted} is null"))
                .await?
        } else {
            0
        };
        let (kind, form) = self.form(conn, table, &name).await?;
        let mut ends = [None, None];
        let looked_for = if self.probe.bounds_declared {
            [].as_slice()
        } else {
            ["min", "max"].as_slice()
        };
        for (end, function) in ends.iter_mut().zip(looked_for) {
            // Infinities lie in the open ends, and are no bounds.
            let finite = format!("where {quoted} not in {}", position::INFINITIES);
            let value = self
                .value(conn, &format!("{function}({quoted})"), &finite)
                .await?;
            *end = self.cursor(&name, &value, kind, form)?;
        }
        let [min, max] = ends;
        Ok(PartitionFacts {
            indexed: table.leads_with(&name),
            column: name,
            kind,
            form,
            min,
            max,
            nullable,
            left_out: None,
            null_rows: Some(u64::try_from(null_rows).unwrap_or(0)),
            placing: None,
            histogram: Vec::new(),
            empty: Vec::new(),
        })
    }

    fn cursor(
        &self,
        column: &str,
        value: &Value,
        kind: CursorKind,
        form: CursorForm,
    ) -> Result<Option<Cursor>, ConnectorError> {
        if *value == Value::Null {
            return Ok(None);
        }
        match position::cursor(value, kind, form) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(self.no_position(column, value, "which is no time of the calendar")),
        }
    }

    /// The one form that all values of the column have. A column without values has its declared
    /// type's.
    async fn form(
        &self,
        conn: &mut SqliteConnection,
        table: &Table,
        column: &str,
    ) -> Result<(CursorKind, CursorForm), ConnectorError> {
        let quoted = sql::ident(column);
        let facts = table.column(column).map(|column| column.facts.clone());
        let type_name = facts
            .map(|facts| facts.type_name.to_ascii_uppercase())
            .unwrap_or_default();
        let is_time = ["DATE", "TIME", "STAMP"]
            .iter()
            .any(|word| type_name.contains(word));
        let finite = format!("{quoted} not in {}", position::INFINITIES);
        let sample = self
            .value(conn, &quoted, &format!("where {finite} limit 1"))
            .await?;
        if sample == Value::Null {
            return Ok(form_of_type(&type_name, is_time));
        }
        let free = position::free_form_of(&sample);
        if let Some((kind, form)) = position::form_of(&sample).or(free) {
            let is_strict = position::has_form(column, form);
            let mut stray = self
                .value(
                    conn,
                    &quoted,
                    &format!("where {finite} and not ({is_strict}) limit 1"),
                )
                .await?;
            if let (true, Some((kind, form))) = (stray != Value::Null, free) {
                let is_free = position::has_free_fraction(column, false, Some(kind));
                stray = self
                    .value(
                        conn,
                        &quoted,
                        &format!("where {finite} and not ({is_free}) limit 1"),
                    )
                    .await?;
                if stray == Value::Null {
                    return Ok((kind, form));
                }
            }
            if stray != Value::Null {
                let reason = format!(
                    "while other rows hold {}: a partition column needs one form throughout",
                    shown(&sample)
                );
                return Err(self.no_position(column, &stray, &reason));
            }
            return self.unit(conn, column, (kind, form), is_time).await;
        }
        Err(self.no_position(
            column,
            &sample,
            "which is neither an integer nor an ISO 8601 date or time",
        ))
    }

    /// The form, once it is known whether whole numbers stand for times.
    async fn unit(
        &self,
        conn: &mut SqliteConnection,
        column: &str,
        (kind, form): (CursorKind, CursorForm),
        is_time: bool,
    ) -> Result<(CursorKind, CursorForm), ConnectorError> {
        let quoted = sql::ident(column);
        if kind != CursorKind::Integer || !is_time {
            return Ok((kind, form));
        }
        let min: i64 = self.one(conn, &format!("min({quoted})"), "").await?;
        let max: i64 = self.one(conn, &format!("max({quoted})"), "").await?;
        if position::are_digits_of_days(min, max) {
            let reason = format!(
                "up to {max}: days written as digits, and not seconds since 1970. Read a view that \
                 writes them with dashes, such as substr({column}, 1, 4) || '-' || \
                 substr({column}, 5, 2) || '-' || substr({column}, 7, 2)"
            );
            return Err(self.no_position(column, &Value::Integer(min), &reason));
        }
        match position::epoch_form(min, max) {
            Some(form) => Ok((CursorKind::Instant, form)),
            None => {
                let reason =
                    format!("up to {max}: neither seconds nor milliseconds since 1970 throughout");
                Err(self.no_position(column, &Value::Integer(min), &reason))
            }
        }
    }

    fn no_position(&self, column: &str, value: &Value, reason: &str) -> ConnectorError {
        let table = &self.probe.relation;
        let message = format!(
            "column `{column}` of `{table}` cannot partition it: it holds {}, {reason}. Partition \
             by another column",
            shown(value)
        );
        self.place.permanent(ErrorCode::PartitionForm, message)
    }

    async fn value(
        &self,
        conn: &mut SqliteConnection,
        what: &str,
        rest: &str,
    ) -> Result<Value, ConnectorError> {
        let what_for = format!("read column facts of {}", self.probe.relation);
        let text = format!("select {what} from {} {rest}", sql::table(self.table));
        let row = sql::once(text)
            .fetch_optional(conn)
            .await
            .map_err(self.place.failed(&what_for))?;
        let Some(row) = row else {
            return Ok(Value::Null);
        };
        let raw = row.try_get_raw(0).map_err(self.place.failed(&what_for))?;
        value_of(raw).map_err(|reason| {
            self.place
                .permanent(ErrorCode::ValueUnreadable, format!("{what_for}: {reason}"))
        })
    }

    async fn one<T>(
        &self,
        conn: &mut SqliteConnection,
        what: &str,
        rest: &str,
    ) -> Result<T, ConnectorError>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
    {
        let text = format!("select {what} from {} {rest}", sql::table(self.table));
        let failed = || {
            self.place
                .failed(format!("count the rows of {}", self.probe.relation))
        };
        let row = sql::once(text).fetch_one(conn).await.map_err(failed())?;
        row.try_get(0).map_err(failed())
    }
}

/// The catalog's own spelling.
fn column_name(table: &Table, column: &str) -> String {
    table
        .column(column)
        .map_or_else(|| column.to_owned(), |column| column.facts.name.clone())
}

/// What an empty column would hold, by its declared type alone: any form reads its no rows equally
/// well.
fn form_of_type(type_name: &str, is_time: bool) -> (CursorKind, CursorForm) {
    if catalog::kind_of(type_name) == ColumnKind::Int64 && !is_time {
        (CursorKind::Integer, CursorForm::Native)
    } else if type_name == "DATE" {
        (CursorKind::Date, CursorForm::TextDate)
    } else {
        (
            CursorKind::Civil,
            CursorForm::TextTime {
                separator_t: false,
                fraction_digits: 0,
                zulu: false,
            },
        )
    }
}

/// A value as a message shows it: what would be a position, a number or a date, and of another text
/// only its shape.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Text(text) if looks_like_a_date(text) => format!("'{text}'"),
        Value::Text(text) => format!("a text like '{}'", position::shape(text)),
        Value::RawText(bytes) => format!("a text of {} bytes that is not UTF-8", bytes.len()),
        Value::Bytes(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

fn looks_like_a_date(text: &str) -> bool {
    let is_of_a_date = |letter| {
        matches!(
            letter,
            '0'..='9' | '-' | '.' | '/' | ':' | '+' | ' ' | 'T' | 'Z'
        )
    };
    text.len() <= 40 && text.chars().all(is_of_a_date) && text.matches(['-', '.', '/']).count() >= 2
}

pub(super) fn known(
    place: &DatabaseFile,
    table: &Table,
    relation: &Relation,
    column: &str,
) -> Result<(), ConnectorError> {
    if table.column(column).is_some() {
        return Ok(());
    }
    let what = match relation {
        Relation::Table(name) => format!("table `{name}`"),
        Relation::Query(_) => relation.to_string(),
    };
    let message = format!(
        "{what} has no column `{column}`; it has {}",
        table.column_names()
    );
    Err(place.permanent(ErrorCode::UnknownColumn, message))
}
