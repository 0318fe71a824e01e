//! The column of a target that says when a row was deleted in the source, where such rows stay.

use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, ColumnKind, StepFacts};
use crate::log::mark_column;
use crate::plan::{Problems, check_removals};
use crate::spec::{Deletes, Incremental, SourceTable, TargetTable};

/// The columns that a target with such marks has for itself.
pub(super) fn own_columns(deleted_at: Option<&str>) -> Vec<ColumnFacts> {
    deleted_at.into_iter().map(mark_column).collect()
}

impl Incremental {
    /// Reports foreign keys that would change other tables when rows go, and what to know of the others.
    pub(super) fn removing(&self, facts: &StepFacts, problems: &mut Problems<'_>) -> Vec<String> {
        let (Deletes::Hard, Some(found)) = (self.deletes, &facts.target.table) else {
            return Vec::new();
        };
        let told = check_removals(&self.to.table, self.write.triggers, &found.referenced_by);
        for misfit in told.misfits {
            problems.add(misfit.code, misfit.message, misfit.help);
        }
        told.warnings
    }
}

/// Reports a table that cannot say when a row was deleted.
pub(super) fn check_mark(
    deleted_at: Option<&str>,
    (from, to): (&SourceTable, &TargetTable),
    facts: &StepFacts,
    problems: &mut Problems<'_>,
) {
    let Some(name) = deleted_at else {
        return;
    };
    let (table, engine) = (&to.table, facts.target.engine);
    let is_it = |other: &str| engine.is_same_name(other, name);
    if facts.source.columns.iter().any(|of| is_it(&of.name)) {
        problems.add(
            ErrorCode::PlanColumnNamesCollide,
            format!(
                "{} has a column that is written as {name}, which is to say when a row was deleted",
                from.relation
            ),
            "name another column in `write.deleted_at`, or rename or exclude that one under \
             `from.columns`",
        );
    }
    let Some(found) = &facts.target.table else {
        return;
    };
    let type_name = engine.instant_type();
    let holds = |kind: ColumnKind| !engine.binds_types() || kind == ColumnKind::Instant;
    match found.columns.iter().find(|of| is_it(&of.name)) {
        None => problems.add(
            ErrorCode::PlanMissingTargetColumn,
            format!("{table} has no column {name} to say when a row was deleted"),
            format!(
                "`alter table {table} add column {name} {type_name}`, or name another column in \
                 `write.deleted_at`"
            ),
        ),
        Some(own)
            if !holds(own.kind)
                || !own.nullable
                || found
                    .generated
                    .iter()
                    .chain(&found.defaulted)
                    .any(|of| is_it(of)) =>
        {
            problems.add(
                ErrorCode::PlanTypeMismatch,
                format!(
                    "column {name} of {table} is to say when a row was deleted, and NULL of rows \
                     that live: it has to be a {type_name} that may be NULL, without a default"
                ),
                "alter it, or name another column in `write.deleted_at`",
            );
        }
        Some(_) => {}
    }
}
