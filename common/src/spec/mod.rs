//! The pipeline file: its model, how it is read, and what is wrong with it.
//!
//! A file goes through six stations, and problems are collected at each of them: the text becomes
//! a tree with places (`node`), files of statements (`script_file`) and parameters are put in (`params`), shorthands and `defaults` are
//! written out (`lay`), the tree is held to the table of keys (`check`, `keys`), and what it says
//! becomes the model (`decode`), whose parts are held against each other (`rules`, `checks`).
//! Nothing here knows a file, an environment or a database.

mod bound_rules;
mod canonical;
mod check;
mod checks;
mod columns;
mod connection;
mod data_check;
mod decode;
mod defaults;
mod document;
mod draft;
mod enabled_rules;
mod explain;
mod fields;
mod follow_rules;
mod foreign_keys;
mod increment_rules;
mod keys;
mod layers;
mod log_rules;
mod log_step;
mod millis;
mod model;
mod node;
mod optional_millis;
mod params;
mod partition;
mod partition_keys;
mod placing_rules;
mod problem;
mod program;
#[cfg(test)]
mod properties;
mod reading;
mod relation;
mod rules;
mod scalars;
mod schedule;
mod schema;
mod script;
mod script_file;
mod script_rules;
mod secret;
mod sets;
mod shape;
mod side_keys;
mod sides;
mod step_keys;
mod strategies;
mod strategy_keys;
mod suggest;
mod table_patterns;
mod tables;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use canonical::from_canonical;
pub use columns::ColumnRules;
pub use connection::Connection;
pub use data_check::{Check, query_about};
pub use explain::{Explained, explain};
pub use foreign_keys::ForeignKeyAsFound;
pub use layers::{Overlay, parse, read, read_with};
pub use log_step::{Cdc, DELETED_AT, Deletes, Until};
pub use model::*;
pub use partition::*;
pub use problem::{Problem, masked, masked_set};
pub use program::{Argument, ArgumentValues, Program};
pub use reading::Reading;
pub use relation::Relation;
pub use schedule::Schedule;
pub use schema::json_schema;
pub use script::{LiteralKind, Parameter, ScriptError, Statement, statements, statements_over};
pub use script_file::{FileFault, ReadFile, SCRIPT_BYTES_MAX};
pub use secret::{SecretError, SecretPart, SecretText, secret_parts};
pub use sides::{Create, SourceRows, SourceTable, TargetTable};
pub use strategy_keys::knows_strategy;
pub use tables::{TableGroup, TablesFound};
pub use value::{Bound, BoundForm, TableName, duration_text, table_text};
pub use write::*;

use node::{Node, Value};

/// The duration that a text like `15s`, `45m`, `1h30m` or `50ms` stands for.
#[must_use]
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    value::duration(text)
}

/// The table that a text like `schema.table` names, each part as it is or in double quotes.
///
/// # Errors
/// Why it names none.
pub fn parse_table(text: &str) -> Result<TableName, String> {
    value::table(text).map_err(|error| error.to_string())
}

impl Node {
    /// True for `true`.
    fn is_true(&self) -> bool {
        self.as_bool() == Some(true)
    }

    /// True for `false`.
    fn is_false(&self) -> bool {
        self.as_bool() == Some(false)
    }

    fn as_bool(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar(node::Scalar {
                kind: node::ScalarKind::Bool(value),
                ..
            }) => Some(*value),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
        }
    }
}
