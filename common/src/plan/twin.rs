//! A table that is missing is made like the source's: what of that table's definition the new one
//! gets, what it does not and why, and what of it must be there before the rows are.

use super::columns::Moving;
use super::problem::Problems;
use super::table_compat::find;
use crate::error_code::ErrorCode;
use crate::facts::{
    ColumnDefinition, ColumnFacts, ColumnKind, CursorForm, DefinedPart, Engine, Feeds, PartKind,
    PartitionFacts, StepFacts, TableDefinition, column_label,
};
use crate::spec::{Create, TargetTable, WriteMode};

/// When what a table is made of is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Building {
    /// By a phase of its own, once the rows are there.
    AfterTheLoad,
    /// With the table: another one, made like it, is loaded.
    AtOnce,
}

/// What a table gets of the definition of the source's, where its columns arrive so, under the names
/// that they arrive under; and what it does not, for people.
#[must_use]
pub fn carried(
    definition: &TableDefinition,
    columns: &[ColumnFacts],
) -> (TableDefinition, Vec<String>) {
    let mut left = definition.untold.clone();
    if definition.body.is_some() {
        let read = definition
            .columns
            .iter()
            .filter(|one| one.generated.is_none());
        let read: Vec<String> = read.map(|column| column.name.clone()).collect();
        return match changed(&read, columns) {
            None => (definition.clone(), left),
            Some(why) => {
                let more = format!("more than its columns and its key: it is made of {why}");
                (TableDefinition::default(), vec![more])
            }
        };
    }
    let mut twin = TableDefinition {
        columns: Vec::new(),
        parts: Vec::new(),
        untold: Vec::new(),
        ..definition.clone()
    };
    for column in &definition.columns {
        match &column.generated {
            Some(generated) => match changed(&generated.reads, columns) {
                None => twin.columns.push(column.clone()),
                Some(why) => left.push(format!("column {}: it is made of {why}", column.name)),
            },
            None => {
                let arrival = columns.iter().find(|one| one.source_name() == column.name);
                twin.columns
                    .extend(arrival.map(|arrival| arriving(column, arrival, &mut left)));
            }
        }
    }
    let is_made = |name: &String| {
        let mut made = twin.columns.iter();
        made.any(|column| column.generated.is_some() && column.name == *name)
    };
    for part in &definition.parts {
        let reads = part.reads.iter().filter(|name| !is_made(name)).cloned();
        match changed(&reads.collect::<Vec<_>>(), columns) {
            None => twin.parts.push(part.clone()),
            Some(why) => left.push(format!("{}: it is made of {why}", part.label())),
        }
    }
    (twin, left)
}

/// What a column that arrives says; one that is cast says nothing, for all of it was said of another
/// type.
fn arriving(
    column: &ColumnDefinition,
    arrival: &ColumnFacts,
    left: &mut Vec<String>,
) -> ColumnDefinition {
    let name = arrival.name.clone();
    if arrival.cast_from().is_none() {
        return ColumnDefinition {
            name,
            ..column.clone()
        };
    }
    let said = [
        ("the default", column.default.is_some()),
        ("the sequence", column.sequence.is_some()),
        ("the collation", column.collation.is_some()),
    ];
    for (what, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
        left.push(format!(
            "{}: the column is cast",
            column_label(what, &column.name)
        ));
    }
    ColumnDefinition {
        name,
        comment: column.comment.clone(),
        ..ColumnDefinition::default()
    }
}

/// The first of these columns that does not arrive as it is, and what becomes of it.
fn changed(reads: &[String], columns: &[ColumnFacts]) -> Option<String> {
    reads.iter().find_map(|name| {
        let Some(arrival) = columns.iter().find(|one| one.source_name() == *name) else {
            return Some(format!("column {name}, which is not read"));
        };
        if arrival.cast_from().is_some() {
            return Some(format!("column {name}, which is cast"));
        }
        let is_renamed = arrival.name != *name;
        is_renamed.then(|| format!("column {name}, which is written as {}", arrival.name))
    })
}

/// Whether the step wants a table that is missing to be made like the source's.
#[must_use]
pub fn wants_twin(to: &TargetTable, source: Engine, target: Engine) -> bool {
    match to.create {
        Some(Create::Columns) => false,
        Some(Create::Source) => true,
        None => source == target,
    }
}

/// What a table that is missing, or is not finished, is made of. `None` where it is made of the
/// columns alone, and where it is there.
pub(super) fn settle_twin(
    step: Moving<'_>,
    key: &[String],
    building: Building,
    facts: &StepFacts,
    problems: &mut Problems<'_>,
    warnings: &mut Vec<String>,
) -> Option<TableDefinition> {
    let (source, target) = (&facts.source, &facts.target);
    let is_wanted = match &target.table {
        None => wants_twin(step.to, source.engine, target.engine),
        Some(found) => found.unfinished && step.to.create != Some(Create::Columns),
    };
    if !is_wanted {
        return None;
    }
    let (from, to) = (&step.from.relation, &step.to.table);
    let Some(definition) = source
        .definition
        .as_ref()
        .filter(|_| source.engine == target.engine)
    else {
        if step.to.create == Some(Create::Source) {
            problems.add(
                ErrorCode::PlanCreateSource,
                format!(
                    "{to} is to be created like {from}, and {}",
                    match source.engine == target.engine {
                        true => "that is no table with a definition of its own".to_owned(),
                        false => format!(
                            "a {} database does not understand the definitions of a {} one",
                            target.engine.word(),
                            source.engine.word()
                        ),
                    }
                ),
                "use `to.create: columns`, or create the table yourself",
            );
        }
        return None;
    };
    let (mut twin, mut left) = carried(definition, &source.columns);
    for uncarried in &target.uncarried {
        if uncarried.what.is_empty() {
            problems.add(
                ErrorCode::PlanCreateSource,
                format!("{to} cannot be created like {from}: {}", uncarried.reason),
                "use `to.create: columns`, or create the table yourself",
            );
        } else {
            drop_part(&mut twin, &uncarried.what);
            left.push(format!("{}: {}", uncarried.what, uncarried.reason));
        }
    }
    for why in left {
        warnings.push(format!("{to} does not get of {from} {why}"));
    }
    if building == Building::AtOnce {
        let unproven = twin.parts.iter().filter(|part| is_unproven(part));
        for part in unproven {
            warnings.push(format!(
                "{to} does not get of {from} the {}: it is NOT VALID, and would refuse rows that are \
                 there",
                part.label()
            ));
        }
        twin.parts.retain(|part| !is_unproven(part));
    }
    if definition.body.is_some() && twin.body.is_none() {
        return None;
    }
    // What is made of a text has its keys in that, those by which rows are found among them.
    let is_its_own = twin.body.is_some() && is_same_set(key, &source.key);
    if !is_its_own {
        add_key(&mut twin, step, key, &source.columns);
    }
    let is_indexed = |by: &PartitionFacts| by.indexed;
    if twin.body.is_none() || !source.partition.as_ref().is_some_and(is_indexed) {
        add_sought(&mut twin, step, facts, warnings);
    }
    let building = match twin.body.is_some() {
        true => Building::AtOnce,
        false => building,
    };
    let merges_by = match step.write.mode {
        WriteMode::Merge => key,
        _ => &[],
    };
    let mut merged = false;
    for part in &mut twin.parts {
        let merges = !merged && !merges_by.is_empty() && is_same_set(&part.unique, merges_by);
        merged = merged || merges;
        let is_checked = part.kind == PartKind::Check && !is_unproven(part);
        part.is_early = part.is_early || merges || is_checked || building == Building::AtOnce;
    }
    // A merge updates every column of a row but its key, and such an identity takes no value so.
    if step.write.mode == WriteMode::Merge {
        for column in &mut twin.columns {
            let is_key = merges_by.contains(&column.name);
            if let Some(sequence) = column.sequence.as_mut().filter(|_| !is_key)
                && sequence.feeds == Feeds::IdentityAlways
            {
                sequence.feeds = Feeds::IdentityByDefault;
                warnings.push(format!(
                    "{} of {to} is an identity that takes other values: a merge gives it some",
                    column.name
                ));
            }
        }
    }
    Some(twin)
}

/// Whether a check holds for the rows that come and not for those that are there: the source's may
/// break it.
fn is_unproven(part: &DefinedPart) -> bool {
    part.kind == PartKind::Check && part.definition.ends_with(" NOT VALID")
}

/// A name that no part of the table has.
fn free_name(twin: &TableDefinition, name: &str) -> String {
    let is_taken = |name: &str| twin.parts.iter().any(|part| part.name == name);
    let numbered = (1..).map(|no: u32| format!("{name}{no}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).unwrap_or_default()
}

/// Takes what a target cannot make out of a definition.
fn drop_part(twin: &mut TableDefinition, label: &str) {
    twin.parts.retain(|part| part.label() != label);
    for column in &mut twin.columns {
        let is_label = |what: &str| column_label(what, &column.name) == label;
        if is_label("the default") {
            column.default = None;
        } else if is_label("the collation") {
            column.collation = None;
        } else if is_label("the settings") {
            column.settings.clear();
        } else if is_label("the sequence") {
            column.sequence = None;
        }
    }
    if label == SETTINGS {
        twin.settings.clear();
    }
}

/// How the settings of the table as a whole are called.
pub const SETTINGS: &str = "the settings";

fn is_same_set(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}

/// A declared key that the source does not have is made all the same.
fn add_key(twin: &mut TableDefinition, step: Moving<'_>, key: &[String], columns: &[ColumnFacts]) {
    let is_there = |part: &DefinedPart| is_same_set(&part.unique, key);
    if key.is_empty() || twin.parts.iter().any(is_there) {
        return;
    }
    let has_primary = twin
        .parts
        .iter()
        .any(|part| part.kind == PartKind::PrimaryKey);
    let is_nullable =
        |name: &String| find(Engine::Postgres, columns, name).is_none_or(|column| column.nullable);
    let kind = match twin.body.is_some() || has_primary || key.iter().any(is_nullable) {
        true => PartKind::UniqueIndex,
        false => PartKind::PrimaryKey,
    };
    let name = match kind {
        PartKind::PrimaryKey => format!("{}_pkey", step.to.table.name),
        _ => format!("{}_{}_key", step.to.table.name, key.join("_")),
    };
    let name = free_name(twin, &name);
    twin.parts.push(DefinedPart {
        unique: key.to_vec(),
        ..added(kind, name, key, "")
    });
}

/// The index by which every replaced range is found, deleted and counted: the source's own, if it
/// has one.
fn add_sought(
    twin: &mut TableDefinition,
    step: Moving<'_>,
    facts: &StepFacts,
    warnings: &mut Vec<String>,
) {
    let Some(sought) = step.cut_by.and_then(|name| facts.source.arrival_of(name)) else {
        return;
    };
    if step.write.mode != WriteMode::ReplacePartition {
        return;
    }
    let leads = |part: &&mut DefinedPart| part.leads.as_ref() == Some(&sought.name);
    if let Some(own) = twin.parts.iter_mut().find(leads) {
        own.is_early = true;
        return;
    }
    let is_text = |by: &PartitionFacts| {
        let is_of_text = matches!(by.form, CursorForm::TextDate | CursorForm::TextTime { .. });
        is_of_text && sought.kind == ColumnKind::Text
    };
    let by_bytes = match facts.source.partition.as_ref().is_some_and(is_text) {
        true => " collate \"C\"",
        false => "",
    };
    let (to, column) = (&step.to.table, &sought.name);
    warnings.push(format!(
        "{to} gets an index on {column} that {} does not have: every range that is replaced is \
         found by it",
        step.from.relation
    ));
    let name = free_name(twin, &format!("{}_{column}_idx", to.name));
    twin.parts.push(DefinedPart {
        is_early: true,
        ..added(
            PartKind::Index,
            name,
            std::slice::from_ref(column),
            by_bytes,
        )
    });
}

fn added(kind: PartKind, name: String, columns: &[String], collation: &str) -> DefinedPart {
    let quoted: Vec<String> = columns
        .iter()
        .map(|name| format!("\"{}\"{collation}", name.replace('"', "\"\"")))
        .collect();
    DefinedPart {
        reads: columns.to_vec(),
        definition: format!(" ({})", quoted.join(", ")),
        leads: columns.first().cloned(),
        ..DefinedPart::new(kind, &name)
    }
}

/// Whether a phase of its own is left something to do.
#[must_use]
pub fn is_built_later(twin: &TableDefinition) -> bool {
    let has_sequence = |column: &ColumnDefinition| match &column.sequence {
        Some(sequence) => sequence.feeds != Feeds::Nothing,
        None => false,
    };
    twin.comment.is_some()
        || twin.parts.iter().any(|part| !part.is_early)
        || twin.columns.iter().any(has_sequence)
}
