//! Does a target table that exists take the rows? Asked twice, by the plan of what the probe found,
//! and by the prepare task of what is there then: one function, so that the plan finds what the run
//! would.

use super::type_compat::{Compat, compat};
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, Engine, TargetTableFacts, shown_type};
use crate::spec::{OnSchemaChange, Relation, TableName};

/// Where rows come from, and the columns that they bring.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The source's database.
    pub engine: Engine,
    /// What is read of it.
    pub table: &'a Relation,
    /// The columns that travel.
    pub columns: &'a [ColumnFacts],
    /// The column that cuts them into parts, if one does.
    pub cut_by: Option<&'a str>,
}

/// Where rows are to go.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The target's database.
    pub engine: Engine,
    /// The target's table.
    pub table: &'a TableName,
    /// What is there.
    pub found: &'a TargetTableFacts,
    /// What becomes of columns that are missing there.
    pub on_schema_change: OnSchemaChange,
}

/// One reason why a table cannot take the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// A short stable name: `plan::type_mismatch`.
    pub code: ErrorCode,
    /// What is wrong, by table and column.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Whether a table takes the rows, and what a user should know of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableCompat {
    /// Why it cannot; empty when it can.
    pub misfits: Vec<Misfit>,
    /// What may fail later.
    pub warnings: Vec<String>,
    /// The columns that are to be added to the table, where nothing else is wrong.
    pub added: Vec<ColumnFacts>,
}

impl TableCompat {
    /// Why it cannot, all of it, with the code of the first reason; `None` when it can.
    #[must_use]
    pub fn refusal(&self) -> Option<(ErrorCode, String)> {
        let first = self.misfits.first()?;
        let reason = |misfit: &Misfit| format!("{}; {}", misfit.message, misfit.help);
        let all: Vec<String> = self.misfits.iter().map(reason).collect();
        Some((first.code, all.join(". ")))
    }

    fn refuse(&mut self, code: ErrorCode, message: String, help: String) {
        self.misfits.push(Misfit {
            code,
            message,
            help,
        });
    }
}

/// The column of a name, as the engine compares names.
pub(super) fn find<'a>(
    engine: Engine,
    columns: &'a [ColumnFacts],
    name: &str,
) -> Option<&'a ColumnFacts> {
    columns
        .iter()
        .find(|column| engine.is_same_name(&column.name, name))
}

/// Names for a message, at most as many as a reader will read.
pub(super) fn names(columns: &[ColumnFacts]) -> String {
    listed(columns, |column| &column.name)
}

/// The names that the source has.
pub(super) fn source_names(columns: &[ColumnFacts]) -> String {
    listed(columns, ColumnFacts::source_name)
}

fn listed(columns: &[ColumnFacts], name: impl Fn(&ColumnFacts) -> &str) -> String {
    const SHOWN_MAX: usize = 40;
    let shown: Vec<&str> = columns.iter().take(SHOWN_MAX).map(name).collect();
    let more = columns.len().saturating_sub(SHOWN_MAX);
    let listed = shown.join(", ");
    if more == 0 {
        listed
    } else {
        format!("{listed} and {more} more")
    }
}

/// Compares the columns that rows bring with those of the table that is to take them. Tells all
/// differences at once.
#[must_use]
pub fn check_table(rows: Rows<'_>, to: Destination<'_>) -> TableCompat {
    let mut told = TableCompat::default();
    let (from, table, engine) = (rows.table, to.table, to.engine);
    let is_missing =
        |column: &&ColumnFacts| find(engine, &to.found.columns, &column.name).is_none();
    let missing: Vec<&ColumnFacts> = rows.columns.iter().filter(is_missing).collect();
    // Rows that are there would have no position in it.
    let cuts = |column: &&ColumnFacts| {
        rows.cut_by
            .is_some_and(|name| engine.is_same_name(name, &column.name))
    };
    let (added, refused): (Vec<_>, Vec<_>) = match to.on_schema_change {
        OnSchemaChange::Fail => (Vec::new(), missing),
        OnSchemaChange::AddColumns => missing.into_iter().partition(|column| !cuts(column)),
    };
    if !refused.is_empty() {
        let names_of: Vec<&str> = refused.iter().map(|column| column.name.as_str()).collect();
        let help = match to.on_schema_change {
            OnSchemaChange::Fail => format!(
                "let them be added by `write.on_schema_change: add_columns`, add them to {table}, \
                 or rename or exclude them under `from.columns`"
            ),
            OnSchemaChange::AddColumns => format!(
                "add the column that cuts the table to {table} yourself, with its values: rows \
                 that are there would have no place"
            ),
        };
        let source = match from {
            Relation::Table(table) => format!("the source table {table}"),
            Relation::Query(_) => from.to_string(),
        };
        told.refuse(
            ErrorCode::PlanMissingTargetColumn,
            format!(
                "the target table {table} lacks {}; {source} has {}; the target has \
                 {}",
                names_of.join(", "),
                names(rows.columns),
                names(&to.found.columns)
            ),
            help,
        );
    }
    for column in added {
        told.warnings.push(format!(
            "column {} is added to {table}, as {from} has it: NULL in rows that are there and are \
             not loaded again",
            column.name
        ));
        told.added.push(column.clone());
    }
    for column in rows.columns {
        if let Some(own) = find(engine, &to.found.columns, &column.name) {
            check_column(rows, to, column, own, &mut told);
        }
    }
    for own in &to.found.columns {
        let is_named = |name: &String| engine.is_same_name(name, &own.name);
        let is_filled = own.nullable
            || to
                .found
                .defaulted
                .iter()
                .chain(&to.found.generated)
                .any(is_named);
        if !is_filled
            && !rows
                .columns
                .iter()
                .any(|column| engine.is_same_name(&column.name, &own.name))
        {
            told.refuse(
                ErrorCode::PlanUnfedTargetColumn,
                format!(
                    "column {} of the target table {table} is NOT NULL and has no default, and \
                     {from} brings no column of that name",
                    own.name
                ),
                format!("give the column a default in {table}, or let it be NULL"),
            );
        }
    }
    told
}

fn check_column(
    rows: Rows<'_>,
    to: Destination<'_>,
    column: &ColumnFacts,
    own: &ColumnFacts,
    told: &mut TableCompat,
) {
    let (from, table) = (rows.table, to.table);
    if to
        .found
        .generated
        .iter()
        .any(|name| to.engine.is_same_name(name, &own.name))
    {
        told.refuse(
            ErrorCode::PlanGeneratedTargetColumn,
            format!(
                "column {} of the target table {table} is generated there and cannot be written",
                own.name
            ),
            format!("exclude it under `from.columns`, so that {table} computes it"),
        );
        return;
    }
    let pair = || {
        let is = shown(column);
        let cast = column
            .cast_from()
            .map(|cast| format!(", cast from {},", shown_type(&cast.type_name)));
        let cast = cast.unwrap_or_default();
        let (name, read) = (&column.name, column.source_name());
        let renamed = match name == read {
            true => String::new(),
            false => format!(" ({read} in {from})"),
        };
        let own = shown(own);
        format!("column {name}{renamed} is {is}{cast} in {from} and {own} in {table}")
    };
    match compat(rows.engine, column, to.engine, own) {
        Compat::Carried => (),
        Compat::ByValue(what) => told
            .warnings
            .push(format!("{}: {what} fails its partition", pair())),
        Compat::Refused(reason) => told.refuse(
            ErrorCode::PlanTypeMismatch,
            format!("{}: {reason}", pair()),
            match rows.cut_by == Some(column.name.as_str()) {
                true => format!(
                    "change the column's type in {table}, or read a view that casts it, and cut \
                     that"
                ),
                false => format!(
                    "change the column's type in {table}, or `cast` it to another one, or exclude \
                     it, under `from.columns`"
                ),
            },
        ),
    }
    if column.nullable && !own.nullable {
        told.warnings.push(format!(
            "column {} may be NULL in {from} and not in {table}: a partition with a NULL in it \
             will fail",
            column.name
        ));
    }
}

fn shown(column: &ColumnFacts) -> &str {
    if column.type_name.is_empty() {
        "of no type"
    } else {
        &column.type_name
    }
}
