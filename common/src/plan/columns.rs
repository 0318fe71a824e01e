//! Do the two tables fit together? Settles which columns travel and by which key a created table
//! knows its rows.

use super::problem::Problems;
use super::reactions::{Writing, check_reactions};
use super::references::check_references;
use super::table_compat::{Destination, Rows, check_table, find, names, source_names};
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, ColumnKind, CursorForm, Engine, StepFacts};
use crate::spec::{Backfill, SourceTable, TargetTable, Write, WriteMode};

/// What moves rows: from where, to where, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moving<'a> {
    pub(super) from: &'a SourceTable,
    pub(super) to: &'a TargetTable,
    pub(super) write: &'a Write,
    /// The column that cuts the table, if one does.
    pub(super) cut_by: Option<&'a str>,
}

impl<'a> From<&'a Backfill> for Moving<'a> {
    fn from(step: &'a Backfill) -> Self {
        Self {
            from: &step.from,
            to: &step.to,
            write: &step.write,
            cut_by: step.partition.cut_column(),
        }
    }
}

/// Checks the columns of both sides; returns those that travel.
pub(super) fn settle_columns(
    step: Moving<'_>,
    facts: &StepFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) -> Vec<ColumnFacts> {
    let source = &facts.source;
    let columns = proven(facts);
    if source.columns.is_empty() {
        problems.add(
            ErrorCode::PlanNoColumns,
            format!("{} has no column to read", step.from.relation),
            "check `from.table` and what `from.columns` excludes",
        );
    }
    let cut = step.cut_by.map(|name| (name, source.arrival_of(name)));
    if let Some((name, Some(column))) = cut
        && column.cast_from().is_some()
    {
        problems.add(
            ErrorCode::PlanCastPartition,
            format!(
                "the partition column {name} of {} is cast, and no index would find its parts",
                step.from.relation
            ),
            "cut by a column that is read as it is",
        );
    }
    if let Some((column, None)) = cut {
        problems.add(
            ErrorCode::PlanUnknownColumn,
            format!(
                "the partition column {column} is not among the columns read from {}: {}",
                step.from.relation,
                source_names(&source.columns)
            ),
            "name one of them in `partition.column`, or do not exclude it",
        );
    }
    check_names(step, facts.target.engine, &columns, problems);
    if facts.target.table.is_none() {
        warnings.extend(
            facts
                .target
                .created_as
                .iter()
                .map(|created| created.line(&step.to.table)),
        );
    }
    if let Some(found) = &facts.target.table {
        let rows = Rows {
            engine: source.engine,
            table: &step.from.relation,
            columns: &columns,
            cut_by: cut.and_then(|(_, column)| Some(column?.name.as_str())),
        };
        let told = check_table(
            rows,
            Destination {
                engine: facts.target.engine,
                table: &step.to.table,
                found,
                on_schema_change: step.write.on_schema_change,
            },
        );
        for misfit in told.misfits {
            problems.add(misfit.code, misfit.message, misfit.help);
        }
        warnings.extend(told.warnings);
    }
    let to = Writing {
        engine: facts.target.engine,
        table: &step.to.table,
        mode: step.write.mode,
        triggers: step.write.triggers,
    };
    let found = facts.target.table.as_ref();
    let reactions = found.map(|table| table.reactions.as_slice());
    let references = found.map_or(&[][..], |table| table.referenced_by.as_slice());
    for told in [
        check_reactions(to, reactions),
        check_references(to, references),
    ] {
        for misfit in told.misfits {
            problems.add(misfit.code, misfit.message, misfit.help);
        }
        warnings.extend(told.warnings);
    }
    columns
}

/// The source's columns, the partition column with the kind that its probe has proven: SQLite's
/// declared type promises nothing, and a created column must hold what is really there.
fn proven(facts: &StepFacts) -> Vec<ColumnFacts> {
    let mut columns = facts.source.columns.clone();
    let (Some(partition), Engine::Sqlite) = (&facts.source.partition, facts.source.engine) else {
        return columns;
    };
    let position = columns.iter_mut().find(|column| {
        let name = column.source_name();
        name.eq_ignore_ascii_case(&partition.column)
    });
    if let Some(column) = position {
        column.kind = match partition.form {
            CursorForm::TextDate | CursorForm::TextTime { .. } => ColumnKind::Text,
            CursorForm::Native
            | CursorForm::Oid
            | CursorForm::EpochSeconds
            | CursorForm::EpochMillis => ColumnKind::Int64,
        };
    }
    columns
}

/// No two columns are written under one name. SQLite takes names that differ in their case alone for
/// one.
fn check_names(step: Moving<'_>, to: Engine, columns: &[ColumnFacts], problems: &mut Problems<'_>) {
    for (at, column) in columns.iter().enumerate() {
        let mut before = columns.iter().take(at);
        let Some(other) = before.find(|other| to.is_same_name(&other.name, &column.name)) else {
            continue;
        };
        let (one, two) = (other.source_name(), column.source_name());
        let why = if other.name == column.name {
            format!("are both to be written as {}", column.name)
        } else if other.origin.is_none() && column.origin.is_none() {
            "differ in their case alone, and SQLite takes them for one column".to_owned()
        } else {
            format!(
                "are to be written as {} and {}, and SQLite takes these for one column",
                other.name, column.name
            )
        };
        problems.add(
            ErrorCode::PlanColumnNamesCollide,
            format!("columns {one} and {two} of {} {why}", step.from.relation),
            "exclude one of them under `from.columns`, or give it another name there by `rename`",
        );
    }
}

/// The key that rows are told apart by, and that a created table gets.
pub(super) fn settle_key(
    step: Moving<'_>,
    facts: &StepFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let key = key_of(step, facts, problems, warnings);
    if step.write.mode == WriteMode::Merge {
        check_merge(step, facts, &key, problems);
    }
    key
}

/// Rows are merged by a key that tells each row of the target from all others, and by a cursor that
/// comes with them.
fn check_merge(step: Moving<'_>, facts: &StepFacts, key: &[String], problems: &mut Problems<'_>) {
    let (from, to) = (&step.from.relation, &step.to.table);
    if let Some(cursor) = &step.write.cursor
        && find(facts.source.engine, &facts.source.columns, cursor).is_none()
    {
        problems.add(
            ErrorCode::PlanUnknownCursor,
            format!(
                "`write.cursor` names {cursor}, and no column of {from} is written as that; there \
                 are {}",
                names(&facts.source.columns)
            ),
            "name the column that tells which row is newer, or leave `write.cursor` out",
        );
    }
    if key.is_empty() {
        problems.add(
            ErrorCode::PlanMergeKey,
            format!("{from} has no key to merge its rows by"),
            "name the columns that tell its rows apart in `write.key`",
        );
        return;
    }
    let is_nullable = |name: &&String| {
        find(facts.source.engine, &facts.source.columns, name).is_some_and(|column| column.nullable)
    };
    if let Some(name) = key.iter().find(is_nullable) {
        problems.add(
            ErrorCode::PlanNullableKey,
            format!("key column {name} may be NULL in {from}, and no row is found by NULL"),
            "name NOT NULL columns in `write.key`",
        );
    }
    let Some(found) = &facts.target.table else {
        return;
    };
    let engine = facts.target.engine;
    let is_same = |own: &Vec<String>| {
        own.len() == key.len()
            && key
                .iter()
                .all(|name| own.iter().any(|other| engine.is_same_name(name, other)))
    };
    if !found.unique.iter().any(is_same) {
        let has = match found.unique.as_slice() {
            [] => "none at all".to_owned(),
            some => some
                .iter()
                .map(|key| format!("({})", key.join(", ")))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let key = key.join(", ");
        problems.add(
            ErrorCode::PlanMergeKey,
            format!(
                "rows are merged by ({key}), and {to} has no primary key and no unique index of \
                 exactly these columns; it has {has}"
            ),
            format!("`create unique index on {to} ({key})`, or name another key in `write.key`"),
        );
    }
}

/// The declared key, else the source's where all of it is read.
fn key_of(
    step: Moving<'_>,
    facts: &StepFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let source = &facts.source;
    let unknown = |key: &[String]| -> Vec<String> {
        key.iter()
            .filter(|name| find(source.engine, &source.columns, name).is_none())
            .cloned()
            .collect()
    };
    if step.write.key.is_empty() {
        if unknown(&source.key).is_empty() {
            return source.key.clone();
        }
        warnings.push(format!(
            "the key of {} is not read whole, so a created table gets none",
            step.from.relation
        ));
        return Vec::new();
    }
    let missing = unknown(&step.write.key);
    if !missing.is_empty() {
        problems.add(
            ErrorCode::PlanUnknownKeyColumn,
            format!(
                "the key names {}, and no column of {} is written as that; there are {}",
                missing.join(", "),
                step.from.relation,
                names(&source.columns)
            ),
            "name columns that are read in `write.key`, or leave it to the source's key",
        );
    }
    let is_nullable = |name: &&String| {
        find(source.engine, &source.columns, name).is_some_and(|column| column.nullable)
    };
    // Nobody knows what a query leaves NULL, and its key is the user's word.
    if facts.target.table.is_none()
        && step.from.relation.query().is_none()
        && step.write.mode != WriteMode::Merge
        && let Some(name) = step.write.key.iter().find(is_nullable)
    {
        problems.add(
            ErrorCode::PlanNullableKey,
            format!(
                "key column {name} may be NULL in {}, and a key may not",
                step.from.relation
            ),
            "name NOT NULL columns in `write.key`",
        );
    }
    step.write.key.clone()
}
