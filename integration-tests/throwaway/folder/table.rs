//! A table in the document: its columns, its key, its rows.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind, CursorForm, TargetTableFacts};
use highwater_common::range::Slice;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::store::Place;
use crate::connector::{ConnectorError, Rows, Value, WriteRequest};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Table {
    /// No other table ever has it, whatever its name.
    pub(super) id: u64,
    pub(super) columns: Vec<ColumnFacts>,
    pub(super) key: Vec<String>,
    pub(super) rows: Vec<Vec<Json>>,
    /// Rows that its owner has told it to swallow, by the value of their first column.
    #[serde(default)]
    pub(super) swallows: Vec<i64>,
}

impl Table {
    pub(super) fn at(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Where a column stands, or an error that names those that there are.
    pub(super) fn known(&self, place: &Place, name: &str) -> Result<usize, ConnectorError> {
        self.at(name).ok_or_else(|| {
            let names: Vec<&str> = self.columns.iter().map(|own| own.name.as_str()).collect();
            let names = names.join(", ");
            place.permanent(
                ErrorCode::UnknownColumn,
                format!("no column {name}; there is {names}"),
            )
        })
    }

    /// What of the rows is meant.
    pub(super) fn meant(
        &self,
        place: &Place,
        rows: &Rows,
    ) -> Result<impl Fn(&Vec<Json>) -> bool + use<>, ConnectorError> {
        let slice = match rows.slice() {
            Some(of) => Some((self.known(place, &of.column)?, of.slice)),
            None => None,
        };
        Ok(move |row: &Vec<Json>| match slice {
            None => true,
            Some((at, Slice::Null)) => position(row, at).is_none(),
            Some((at, Slice::Range(range))) => {
                position(row, at).is_some_and(|found| range.contains(found))
            }
        })
    }

    /// Takes a row that comes in the order of the request's columns.
    pub(super) fn insert(
        &mut self,
        place: &Place,
        request: &WriteRequest,
        values: Vec<Value>,
    ) -> Result<(), ConnectorError> {
        let mut row = vec![Json::Null; self.columns.len()];
        for (column, value) in request.columns.iter().zip(values) {
            let at = self.known(place, &column.name)?;
            let held = held(&self.columns[at], value);
            row[at] = held.ok_or_else(|| {
                let what = format!("a value of column {} is none of its type", column.name);
                place.permanent(ErrorCode::ValueRefused, what)
            })?;
        }
        let key: Vec<usize> = self.key.iter().filter_map(|name| self.at(name)).collect();
        let is_same = |own: &Vec<Json>| key.iter().all(|at| own[*at] == row[*at]);
        let lacks = |(at, own): (usize, &ColumnFacts)| !own.nullable && row[at].is_null();
        if !key.is_empty() && self.rows.iter().any(is_same)
            || self.columns.iter().enumerate().any(lacks)
        {
            let what = format!("a row of {} repeats a key or lacks a value", request.table);
            return Err(place.permanent(ErrorCode::ConstraintViolation, what));
        }
        if !row[0]
            .as_i64()
            .is_some_and(|id| self.swallows.contains(&id))
        {
            self.rows.push(row);
        }
        Ok(())
    }

    /// What a plan is told of it as a target.
    pub(super) fn facts(&self, partition: Option<&(String, CursorKind)>) -> TargetTableFacts {
        let partition = partition.and_then(|(name, _)| self.at(name));
        TargetTableFacts {
            columns: self.columns.clone(),
            generated: Vec::new(),
            defaulted: Vec::new(),
            key: self.key.clone(),
            unique: self.key.first().map(|_| self.key.clone()).into_iter().collect(),
            partition_form: partition.map(|_| CursorForm::Native),
            partition_indexed: partition.is_some(),
            has_rows: !self.rows.is_empty(),
            unfinished: false,
            reactions: Vec::new(),
            exchange: None,
            referenced_by: Vec::new(),
        }
    }
}

/// The row's position, where it has one.
pub(super) fn position(row: &[Json], at: usize) -> Option<Cursor> {
    row.get(at).and_then(Json::as_i64).map(Cursor::Integer)
}

/// A value as the column keeps it; `None` for one that would not be the same there.
fn held(column: &ColumnFacts, value: Value) -> Option<Json> {
    match (value, column.kind) {
        (Value::Null, _) => Some(Json::Null),
        (Value::Integer(number), ColumnKind::Int64) => Some(json!(number)),
        (Value::Text(text), ColumnKind::Int64) => {
            text.parse::<i64>().ok().map(|number| json!(number))
        }
        (Value::Text(text), ColumnKind::Text) => Some(json!(text)),
        _ => None,
    }
}

/// A value as it travels.
pub(super) fn value(of: &Json) -> Value {
    match of {
        Json::Null => Value::Null,
        Json::Number(number) => number.as_i64().map_or(Value::Null, Value::Integer),
        other => Value::Text(other.as_str().unwrap_or_default().to_owned()),
    }
}
