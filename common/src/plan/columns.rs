//! Do the two tables fit together? Settles which columns travel and by which key a created table knows its rows.

use super::carriage::{Carriage, carry};
use super::problem::Problems;
use crate::facts::{ColumnFacts, ColumnKind, CursorForm, Engine, StepFacts, TargetTableFacts};
use crate::spec::Backfill;

/// The column of a name, as the engine compares names.
fn find<'a>(engine: Engine, columns: &'a [ColumnFacts], name: &str) -> Option<&'a ColumnFacts> {
    columns.iter().find(|column| match engine {
        Engine::Postgres => column.name == name,
        Engine::Sqlite => column.name.eq_ignore_ascii_case(name),
    })
}

/// Names for a message, at most as many as a reader will read.
pub(super) fn names(columns: &[ColumnFacts]) -> String {
    const SHOWN_MAX: usize = 40;
    let shown: Vec<&str> = columns.iter().take(SHOWN_MAX).map(|column| column.name.as_str()).collect();
    let more = columns.len().saturating_sub(SHOWN_MAX);
    let listed = shown.join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

/// Checks the columns of both sides; returns those that travel.
pub(super) fn settle_columns(
    step: &Backfill,
    facts: &StepFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) -> Vec<ColumnFacts> {
    let source = &facts.source;
    let columns = proven(facts);
    if source.columns.is_empty() {
        problems.add(
            "plan::no_columns",
            format!("table {} has no column to read", step.from.table),
            "check `from.table` and `from.exclude`",
        );
    }
    if let Some(name) = step.from.casts.keys().next() {
        problems.add(
            "plan::cast_unsupported",
            format!("column {name} of {} is to be cast, which is not supported yet", step.from.table),
            "remove `from.casts`; a view with the cast in it can be read instead",
        );
    }
    if find(source.engine, &source.columns, &step.partition.column).is_none() {
        problems.add(
            "plan::unknown_column",
            format!(
                "the partition column {} is not among the columns read from {}: {}",
                step.partition.column,
                step.from.table,
                names(&source.columns)
            ),
            "name one of them in `partition.column`, or do not exclude it",
        );
    }
    if let Some(target) = &facts.target.table {
        match_target(step, facts, &columns, target, problems, warnings);
    }
    columns
}

/// The source's columns, the partition column with the kind that its probe has proven: SQLite's declared type promises nothing,
/// and a created column must hold what is really there.
fn proven(facts: &StepFacts) -> Vec<ColumnFacts> {
    let mut columns = facts.source.columns.clone();
    let (Some(partition), Engine::Sqlite) = (&facts.source.partition, facts.source.engine) else { return columns };
    let position = columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(&partition.column));
    if let Some(column) = position {
        column.kind = match partition.form {
            CursorForm::TextDate | CursorForm::TextTime { .. } => ColumnKind::Text,
            CursorForm::Native | CursorForm::EpochSeconds | CursorForm::EpochMillis => ColumnKind::Int64,
        };
    }
    columns
}

fn match_target(
    step: &Backfill,
    facts: &StepFacts,
    columns: &[ColumnFacts],
    target: &TargetTableFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) {
    let (source, engine) = (&facts.source, facts.target.engine);
    let (from, to) = (&step.from.table, &step.to.table);
    let missing: Vec<&str> = source
        .columns
        .iter()
        .filter(|column| find(engine, &target.columns, &column.name).is_none())
        .map(|column| column.name.as_str())
        .collect();
    if !missing.is_empty() {
        problems.add(
            "plan::missing_target_column",
            format!(
                "the target table {to} lacks {}; the source table {from} has {}; the target has {}",
                missing.join(", "),
                names(&source.columns),
                names(&target.columns)
            ),
            format!("add the columns to {to}, or leave them out with `from.exclude`"),
        );
    }
    for column in columns {
        let Some(other) = find(engine, &target.columns, &column.name) else { continue };
        if let Carriage::Refused(reason) = carry(source.engine, column, engine, other) {
            problems.add(
                "plan::type_mismatch",
                format!(
                    "column {} is {} in {from} and {} in {to}: {reason}",
                    column.name, column.type_name, other.type_name
                ),
                format!("change the column's type in {to}, or leave it out with `from.exclude`"),
            );
        }
        if column.nullable && !other.nullable {
            warnings.push(format!(
                "column {} may be NULL in {from} and not in {to}: a partition with a NULL in it will fail",
                column.name
            ));
        }
    }
    // A default cannot be told from here, so this cannot be refused; without one the first insert fails by name.
    let unfed = target.columns.iter().filter(|column| !column.nullable);
    for column in unfed.filter(|column| find(source.engine, &source.columns, &column.name).is_none()) {
        warnings.push(format!(
            "column {} of {to} is NOT NULL and {from} has none of that name: every partition fails unless it has a default",
            column.name
        ));
    }
}

/// The key a created table gets: the declared one, else the source's where all of it is read.
pub(super) fn settle_key(
    step: &Backfill,
    facts: &StepFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let source = &facts.source;
    let unknown = |key: &[String]| -> Vec<String> {
        key.iter().filter(|name| find(source.engine, &source.columns, name).is_none()).cloned().collect()
    };
    if step.write.key.is_empty() {
        if unknown(&source.key).is_empty() {
            return source.key.clone();
        }
        warnings.push(format!("the key of {} is not read whole, so a created table gets none", step.from.table));
        return Vec::new();
    }
    let missing = unknown(&step.write.key);
    if !missing.is_empty() {
        problems.add(
            "plan::unknown_key_column",
            format!(
                "the key names {}, which {} does not have; it has {}",
                missing.join(", "),
                step.from.table,
                names(&source.columns)
            ),
            "name columns that are read in `write.key`, or leave it to the source's key",
        );
    }
    let is_nullable = |name: &&String| find(source.engine, &source.columns, name).is_some_and(|column| column.nullable);
    if facts.target.table.is_none()
        && let Some(name) = step.write.key.iter().find(is_nullable)
    {
        problems.add(
            "plan::nullable_key",
            format!("key column {name} may be NULL in {}, and a key may not", step.from.table),
            "name NOT NULL columns in `write.key`",
        );
    }
    step.write.key.clone()
}
