//! The plan of a step that moves rows: settled once, expanded by ordinal.

use super::columns::{settle_columns, settle_key};
use super::cut::{settle_generator, settle_range};
use super::digest::{cut_digest, digest};
use super::partitions::{Partitions, cut_by_coverage};
use super::position_forms::{arrival, check_form, target_form};
use super::problem::{PlanProblem, Problems};
use super::table_compat::names;
use super::twin::{Building, settle_twin};
use crate::assignment::{CutBy, LoadOrder};
use crate::coverage::Coverage;
use crate::cursor::CursorKind;
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, ColumnKind, CursorForm, Engine, PartitionFacts, StepFacts};
use crate::id::{DocumentDigest, PipelineName, StepName};
use crate::left_out::{LeftOut, Taken, Tally, judge};
use crate::partition::{Partitioning, rows_in};
use crate::placing::Placing;
use crate::range::CursorRange;
use crate::spec::{
    Backfill, Chunk, Nulls, Relation, Reprocess, Shrinking, SourceTable, TableName, TargetTable,
    WriteMode,
};

/// What is settled of a step that moves rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadPlan {
    /// What all its tasks have in common.
    pub load_order: LoadOrder,
    /// What they move.
    pub partitions: Partitions,
    /// The digest of what had been committed when the plan was made; `None` when the plan does not
    /// depend on it.
    pub depends_on: Option<DocumentDigest>,
    /// About how many rows will be moved.
    pub estimated_rows: u64,
    /// What a person should know before it runs.
    pub warnings: Vec<String>,
    /// What is there and is not loaded.
    pub notes: Vec<String>,
    /// The digest of the facts that it was made from.
    pub facts: DocumentDigest,
}

/// The name of a step's stream, `pipeline/step/connection:table/target-table`; the table stands for
/// what is read. Every part of a name that could be taken for a separator is escaped, so two streams
/// never share a name.
#[must_use]
pub fn stream_id(
    pipeline: &PipelineName,
    step: &StepName,
    from: Option<&SourceTable>,
    to: &TargetTable,
) -> String {
    let target = table_id(&to.table);
    let Some(from) = from else {
        return format!("{pipeline}/{step}/%nothing/{target}");
    };
    // A query that is written otherwise is still what the step reads. No table is called so.
    let table = match &from.relation {
        Relation::Table(table) => table_id(table),
        Relation::Query(_) => "%query".to_owned(),
    };
    format!("{pipeline}/{step}/{}:{table}/{target}", from.connection)
}

fn table_id(table: &TableName) -> String {
    let escape = |part: &str| {
        part.replace('%', "%25")
            .replace('/', "%2F")
            .replace(':', "%3A")
            .replace('.', "%2E")
    };
    let name = escape(&table.name);
    table.schema.as_deref().map_or_else(
        || name.clone(),
        |schema| format!("{}.{name}", escape(schema)),
    )
}

/// Plans a step that moves rows, from what the probe found.
///
/// # Errors
/// Every [`PlanProblem`] of the step at once.
pub fn plan_load(
    pipeline: &PipelineName,
    name: &StepName,
    step: &Backfill,
    facts: &StepFacts,
) -> Result<LoadPlan, Vec<PlanProblem>> {
    plan_cut(pipeline, name, step, None, facts)
}

/// Plans a step that moves one range of its table, which nothing cuts. What `step` says of bounds
/// and of the rule that cuts is not looked at.
///
/// # Errors
/// Every [`PlanProblem`] of the step at once.
pub(crate) fn plan_range(
    pipeline: &PipelineName,
    name: &StepName,
    step: &Backfill,
    range: CursorRange,
    facts: &StepFacts,
) -> Result<LoadPlan, Vec<PlanProblem>> {
    plan_cut(pipeline, name, step, Some(range), facts)
}

fn plan_cut(
    pipeline: &PipelineName,
    name: &StepName,
    step: &Backfill,
    range: Option<CursorRange>,
    facts: &StepFacts,
) -> Result<LoadPlan, Vec<PlanProblem>> {
    let mut problems = Problems::of(name);
    let mut warnings = Vec::new();
    let columns = settle_columns(step.into(), facts, &mut problems, &mut warnings);
    let key = settle_key(step.into(), facts, &mut problems, &mut warnings);
    let building = match step.write.mode.replaces_all() {
        true => Building::AtOnce,
        false => Building::AfterTheLoad,
    };
    let twin = settle_twin(
        step.into(),
        &key,
        building,
        facts,
        &mut problems,
        &mut warnings,
    );
    let Some(column) = &facts.source.partition else {
        // An unread partition column was told of already; a probe without facts of a column that is
        // read is told here.
        if problems.is_empty() {
            let (table, column) = (&step.from.relation, &step.partition.column);
            let message = format!(
                "the probe found nothing about {column} of {table}: {}",
                names(&columns)
            );
            problems.add(ErrorCode::PlanNotProbed, message, "plan again");
        }
        return Err(problems.into_vec());
    };
    let settled = Backfill {
        partition: (step.partition)
            .settled(&column.column, column.placing.as_ref(), facts.source.rows)
            .into_owned(),
        ..step.clone()
    };
    let step = &settled;
    let target_form = target_form(step, facts, column, &mut problems);
    let partitioning = match range {
        None => settle_generator(step, facts, column, &mut problems),
        Some(range) => Some(settle_range(step, column, range, &mut problems)),
    };
    let (Some(target_form), Some(partitioning)) = (target_form, partitioning) else {
        return Err(problems.into_vec());
    };
    // A range's bounds are positions that a column has held, and no rows are looked for by them in
    // the target.
    if range.is_none() {
        check_form("source", column.form, &partitioning, column, &mut problems);
        check_form("target", target_form, &partitioning, column, &mut problems);
    }
    let found = Coverage::of(&facts.target.covered, facts.target.covered_null);
    check_coverage(step, &partitioning, &found, &mut problems, &mut warnings);
    check_strays(step, column, &partitioning, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    warn(step, facts, column, &partitioning, &found, &mut warnings);
    // What is appended again would be there twice, so even a plan that loads everything depends on
    // what is there.
    let depends_on = match (step.reprocess, step.write.mode) {
        (Reprocess::Missing, _) | (Reprocess::All, WriteMode::Append) => Some(found.digest()),
        (
            Reprocess::All,
            WriteMode::ReplacePartition
            | WriteMode::ReplaceTable
            | WriteMode::Exchange
            | WriteMode::Statements
            | WriteMode::Merge,
        ) => None,
    };
    let covered = match step.reprocess {
        Reprocess::Missing => found,
        Reprocess::All => Coverage::default(),
    };
    let load_order = LoadOrder {
        stream: stream_id(pipeline, name, Some(&step.from), &step.to),
        columns,
        key,
        twin,
        cut_by: Some(CutBy {
            column: column.column.clone(),
            renamed: Some(arrival(facts, column))
                .filter(|name| *name != column.column)
                .map(str::to_owned),
            kind: column.kind,
            source_form: column.form,
            target_form,
            placing: column.placing.clone(),
        }),
        write: step.write.clone(),
        checks: Vec::new(),
        counted: Vec::new(),
        chunk: chunk(step, column),
        cut: cut_digest(&partitioning, &covered, column),
        target_fingerprint: facts.target.fingerprint.clone(),
        shadow: None,
        staging: None,
        watermark: None,
        shrinking: Shrinking::default(),
        reprocess_all: step.reprocess == Reprocess::All,
    };
    let mut notes = notes(step, facts, column, &partitioning);
    let partitions = Partitions::new(partitioning, covered);
    let left_out = partitions.len().saturating_sub(partitions.tasks_planned());
    if left_out > 0 {
        notes.push(format!("{left_out} partitions that earlier runs committed"));
    }
    let estimated_rows = estimate(&partitions, facts, column);
    Ok(LoadPlan {
        load_order,
        partitions,
        depends_on,
        estimated_rows,
        warnings,
        notes,
        facts: digest(facts),
    })
}

/// Chunks are cut in the order of the partition column. Without an index that finds their ends each
/// of them would scan the table, so that then a partition is one.
fn chunk(step: &Backfill, column: &PartitionFacts) -> Option<Chunk> {
    match step.write.mode {
        WriteMode::Append | WriteMode::Merge if column.indexed && column.placing.is_none() => {
            Some(step.chunk)
        }
        WriteMode::Append
        | WriteMode::Merge
        | WriteMode::ReplacePartition
        | WriteMode::ReplaceTable
        | WriteMode::Exchange
        | WriteMode::Statements => None,
    }
}

fn estimate(partitions: &Partitions, facts: &StepFacts, column: &PartitionFacts) -> u64 {
    let (partitioning, covered) = (partitions.partitioning(), partitions.covered());
    let nulls = column.null_rows.unwrap_or(0);
    let placed = facts.source.rows.saturating_sub(nulls);
    let gaps = covered.gaps(partitioning.kind(), &partitioning.whole());
    let rows = gaps
        .iter()
        .map(|gap| rows_in(column, placed, gap))
        .fold(0, u64::saturating_add);
    let null_rows = if partitioning.has_null() && !covered.null() {
        nulls
    } else {
        0
    };
    rows.min(placed).saturating_add(null_rows)
}

fn check_coverage(
    step: &Backfill,
    partitioning: &Partitioning,
    covered: &Coverage,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) {
    let kind = partitioning.kind();
    let to = &step.to.table;
    let is_append = step.write.mode == WriteMode::Append;
    let counts = step.reprocess == Reprocess::Missing || is_append;
    if counts && covered.has_others(kind) {
        problems.add(
            ErrorCode::PlanCoverageKind,
            format!(
                "earlier runs committed ranges into {to} that were cut by another rule, or while \
                 {} was of another kind: nothing says which rows they hold of today's partitions",
                step.partition.column
            ),
            "give the step another name and an empty table to begin anew, or restore the rule and the \
             column's type",
        );
    }
    match step.reprocess {
        Reprocess::All if is_append && !covered.is_empty() => problems.add(
            ErrorCode::PlanAppendAgain,
            format!(
                "{to} holds what earlier runs appended, and `reprocess: all` would append it a \
                     second time"
            ),
            "use `write.mode: replace_partition`, or `reprocess: missing`",
        ),
        Reprocess::All => {}
        Reprocess::Missing => {
            let cut = cut_by_coverage(partitioning, covered);
            let in_pieces = cut
                .iter()
                .find(|no| covered.gaps(kind, &partitioning.range(**no)).len() > 1);
            if let Some(no) = in_pieces.filter(|_| is_append) {
                problems.add(
                    ErrorCode::PlanCoveredInPieces,
                    format!(
                        "of the partition {} earlier runs committed parts in the middle, and \
                         appending all of it would repeat them in {to}",
                        partitioning.range(*no)
                    ),
                    "use the grain of those runs, or `write.mode: replace_partition`",
                );
            }
            if !cut.is_empty() {
                let count = cut.len();
                warnings.push(format!(
                    "{count} partitions are committed in part: only their rest is loaded"
                ));
            }
        }
    }
}

/// What the run would find at its end and fail by.
fn check_strays(
    step: &Backfill,
    column: &PartitionFacts,
    partitioning: &Partitioning,
    problems: &mut Problems<'_>,
) {
    let stray = column
        .left_out
        .map_or(Tally::Exactly(0), |found| found.stray);
    let (table, name, nulls) = (
        &step.from.relation,
        column.column.as_str(),
        step.partition.nulls,
    );
    let taken = Taken {
        table,
        column: name,
        whole: partitioning.whole(),
        has_null_partition: true,
        nulls,
    };
    if let Err(lost) = judge(
        &LeftOut {
            stray,
            ..LeftOut::NONE
        },
        &taken,
    ) {
        let (message, help) = lost.split_once("; ").unwrap_or((&lost, "plan again"));
        problems.add(ErrorCode::PlanRowsInNoPartition, message, help);
    }
}

fn warn(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    partitioning: &Partitioning,
    covered: &Coverage,
    warnings: &mut Vec<String>,
) {
    let (from, to, name) = (&step.from.relation, &step.to.table, &column.column);
    if matches!(column.placing, Some(Placing::Hash(_))) && partitioning.len() > 1 {
        let scans = partitioning.len();
        warnings.push(format!(
            "no index finds a hash: {scans} partitions scan all of {from} once each"
        ));
    } else if !column.indexed && partitioning.len() > 1 {
        let texts = matches!(
            column.form,
            CursorForm::TextDate | CursorForm::TextTime { .. }
        );
        let by_bytes = if texts && facts.source.engine == Engine::Postgres {
            by_bytes(name)
        } else {
            String::new()
        };
        warnings.push(format!(
            "no index of {from} leads with {name}{by_bytes}: each partition scans the whole table"
        ));
    }
    let joined = partitioning.joined();
    if let Some(widest) = joined.first() {
        let count = joined.len();
        warnings.push(format!(
            "{count} stretches of {from} are one partition each because they are empty, or nearly \
             so, such as {widest}: is a value of {name} at its end meant?"
        ));
    }
    if partitioning.len() > 1_000 && partitioning.len() > facts.source.rows {
        let (partitions, rows) = (partitioning.len(), facts.source.rows);
        warnings.push(format!(
            "{partitions} partitions for about {rows} rows of {from}: a coarser rule is faster"
        ));
    }
    let Some(target) = &facts.target.table else {
        return;
    };
    let replaces = step.write.mode == WriteMode::ReplacePartition;
    if replaces && !target.partition_indexed && partitioning.len() > 1 {
        let name = arrival(facts, column);
        let is_text = |own: &ColumnFacts| own.name == *name && own.kind == ColumnKind::Text;
        let by_bytes = facts.target.engine == Engine::Postgres
            && column.kind != CursorKind::Integer
            && target.columns.iter().any(is_text);
        warnings.push(unindexed_target(to, name, by_bytes));
    }
    if target.has_rows && covered.is_empty() {
        let what_becomes = match step.write.mode {
            WriteMode::ReplacePartition => "`write.resident` decides about those in the way",
            WriteMode::ReplaceTable | WriteMode::Exchange => "all of them are replaced",
            WriteMode::Append | WriteMode::Statements => "more are added to them",
            WriteMode::Merge => "those with the key of a row of the source are updated",
        };
        warnings.push(format!(
            "{to} holds rows that no run has committed: {what_becomes}"
        ));
    }
}

/// What is told of a target whose ranges are found without an index; `bytewise` of texts that stand
/// for days or times.
#[must_use]
pub fn unindexed_target(to: &TableName, column: &str, bytewise: bool) -> String {
    let by_bytes = if bytewise {
        by_bytes(column)
    } else {
        String::new()
    };
    format!(
        "no index of {to} leads with {column}{by_bytes}: each partition scans the whole target \
             table"
    )
}

/// The order that an index must have for PostgreSQL to find ranges of text with it: a language's
/// own may be any.
fn by_bytes(column: &str) -> String {
    format!(" in the order of its bytes, which is `({column} collate \"C\")`")
}

/// Rows that the table has, and that the role which reads does not see.
pub(super) fn hidden_rows(facts: &StepFacts, from: &Relation) -> Vec<String> {
    let hidden = facts.source.filtered.then(|| {
        format!(
            "rows of {from} that row level security hides from the role that reads (`from.rows: \
             visible`)"
        )
    });
    hidden.into_iter().collect()
}

/// Rows that the table has and the step leaves where they are.
fn notes(
    step: &Backfill,
    facts: &StepFacts,
    column: &PartitionFacts,
    partitioning: &Partitioning,
) -> Vec<String> {
    let (from, name, whole) = (&step.from.relation, &column.column, partitioning.whole());
    let mut notes = hidden_rows(facts, from);
    // Rows without a position are told below, and strays were refused.
    let found = LeftOut {
        null: Tally::Exactly(0),
        stray: Tally::Exactly(0),
        ..column.left_out.unwrap_or(LeftOut::NONE)
    };
    let nulls = step.partition.nulls;
    let taken = Taken {
        table: from,
        column: name,
        whole,
        has_null_partition: partitioning.has_null(),
        nulls,
    };
    notes.extend(judge(&found, &taken).unwrap_or_default());
    if step.partition.nulls == Nulls::Ignore && column.nullable && column.null_rows != Some(0) {
        notes.push(match column.null_rows {
            Some(rows) => format!("{rows} rows of {from} without {name}"),
            None => format!("rows of {from} without {name}, which were not counted"),
        });
    }
    notes
}
