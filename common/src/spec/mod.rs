//! The pipeline file: its model, how it is read, and what is wrong with it.
//!
//! A file goes through five stations, and problems are collected at each of them: the text becomes
//! a tree with places (`node`), parameters are put in (`params`), shorthands and `defaults` are
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
mod fields;
mod keys;
mod log_rules;
mod log_step;
mod millis;
mod model;
mod node;
mod optional_millis;
mod params;
mod problem;
mod program;
#[cfg(test)]
mod properties;
mod relation;
mod rules;
mod scalars;
mod schema;
mod script;
mod secret;
mod shape;
mod sides;
mod step_keys;
mod strategies;
mod strategy_keys;
mod suggest;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::collections::BTreeMap;

use crate::error_code::ErrorCode;

pub use canonical::from_canonical;
pub use columns::ColumnRules;
pub use connection::Connection;
pub use data_check::{Check, query_about};
pub use log_step::{Cdc, Deletes, Until};
pub use model::*;
pub use problem::{Problem, masked};
pub use program::{Argument, ArgumentValues, Program};
pub use relation::Relation;
pub use schema::json_schema;
pub use script::{LiteralKind, Parameter, ScriptError, Statement, statements};
pub use secret::{SecretError, SecretPart, SecretText, secret_parts};
pub use sides::{Create, SourceRows, SourceTable, TargetTable};
pub use strategy_keys::knows_strategy;
pub use value::{Bound, BoundForm, TableName, duration_text, table_text};
pub use write::*;

use node::{Node, Value};
use problem::{Location, Problems};
use shape::Shape;

/// Reads a pipeline file, with the values that parameters were given.
///
/// # Errors
/// Every [`Problem`] of the file, in its order; never only the first one.
pub fn parse(text: &str, params: &BTreeMap<String, String>) -> Result<Spec, Vec<Problem>> {
    let mut problems = Problems::default();
    match node::read(text, &mut problems) {
        Some(file) => read_tree(file, params, problems),
        None => Err(problems.into_sorted()),
    }
}

/// Reads the tree of a file.
fn read_tree(
    mut file: Node,
    params: &BTreeMap<String, String>,
    mut problems: Problems,
) -> Result<Spec, Vec<Problem>> {
    params::substitute(&mut file, params, &mut problems);
    defaults::long_form(&mut file);
    check::check(
        &file,
        &Shape::Fields(&keys::FILE),
        "",
        check::Extent::Whole,
        &mut problems,
    );
    for step in file.get("steps").map_or(&[][..], Node::entries) {
        rules::check_step(&step.node, &node::join("steps", &step.key), &mut problems);
    }
    let draft = decode::draft(&file);
    checks::check_whole(&draft, &mut problems);
    match draft.spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        Some(_) => Err(problems.into_sorted()),
        None => {
            if problems.is_empty() {
                // A rule of decoding that no check knows. Refusing is safe; a property looks for
                // such files.
                problems.add(
                    ErrorCode::SpecUnreadable,
                    "",
                    Location::START,
                    "the file cannot be read, and no rule says why",
                );
            }
            Err(problems.into_sorted())
        }
    }
}

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
        matches!(
            &self.value,
            Value::Scalar(node::Scalar {
                kind: node::ScalarKind::Bool(true),
                ..
            })
        )
    }
}
