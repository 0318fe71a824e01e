//! Rules between the parts of a file: names that must exist, the graph, and who writes where.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, DraftStep, Located, Side};
use super::enabled_rules::check_enabled;
use super::follow_rules::check_following;
use super::log_rules::check_slots;
use super::problem::Problems;
use super::script::statements;
use super::suggest::{listed, nearest};
use super::value::TableName;
use crate::dag::{Dag, DagError};
use crate::error_code::ErrorCode;
use crate::id::{ConnectionName, StepName};

/// Reports what does not hold together. Parts that could not be read are taken for what they were
/// meant to be.
pub(super) fn check_whole(draft: &Draft, problems: &mut Problems) {
    check_connections(draft, problems);
    check_pools(draft, problems);
    check_graph(draft, problems);
    check_enabled(draft, problems);
    check_tables(draft, problems);
    check_continued(draft, problems);
    check_scripts(draft, problems);
    check_slots(draft, problems);
    check_following(draft, problems);
}

/// Statements are read as the database reads them that they are for.
fn check_scripts(draft: &Draft, problems: &mut Problems) {
    for step in &draft.steps {
        let target = step.to.as_ref().and_then(|side| side.connection.as_ref());
        let (Some(script), Some(target)) = (&step.script, target) else {
            continue;
        };
        let mut known = draft.connections.iter();
        let connection = known.find(|(name, _)| name.value == target.value.as_str());
        let Some((_, Some(connection))) = connection else {
            continue;
        };
        let text = &script.text;
        if let Err(error) = statements(&text.value, connection.engine()) {
            let message = format!("{}: {}", script.line(error.line), error.message);
            problems
                .add(ErrorCode::SpecBadScript, &text.path, text.location, message)
                .hint(error.hint);
        }
    }
}

fn check_connections(draft: &Draft, problems: &mut Problems) {
    let known: Vec<&str> = draft
        .connections
        .iter()
        .map(|(name, _)| name.value.as_str())
        .collect();
    for step in &draft.steps {
        for (side, is_written) in [(&step.from, false), (&step.to, true)] {
            let Some(name) = side.as_ref().and_then(|side| side.connection.as_ref()) else {
                continue;
            };
            match draft
                .connections
                .iter()
                .find(|(known, _)| known.value == name.value.as_str())
            {
                None => {
                    let message = format!("no connection is named `{}`", name.value);
                    let problem = problems.add(
                        ErrorCode::SpecUnknownConnection,
                        &name.path,
                        name.location,
                        message,
                    );
                    match nearest(name.value.as_str(), known.iter().copied()) {
                        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                        None => {
                            problem.hint(format!("connections: {}", listed(known.iter().copied())))
                        }
                    }
                }
                Some((_, Some(connection))) if is_written && connection.is_read_only() => {
                    let message = format!(
                        "the step would write through `{}`, which is `read_only`",
                        name.value
                    );
                    problems.add(ErrorCode::SpecReadOnly, &name.path, name.location, message);
                }
                Some((_, Some(_) | None)) => {}
            }
        }
    }
}

fn check_pools(draft: &Draft, problems: &mut Problems) {
    let known = || draft.pools.iter().map(String::as_str);
    for step in &draft.steps {
        let mut seen = BTreeSet::new();
        for pool in &step.pools {
            let name = pool.value.as_str();
            if !seen.insert(name) {
                problems.add(
                    ErrorCode::SpecRepeated,
                    &pool.path,
                    pool.location,
                    format!("`{name}` is listed twice"),
                );
            } else if !known().any(|known| known == name) {
                let problem = problems.add(
                    ErrorCode::SpecUnknownPool,
                    &pool.path,
                    pool.location,
                    format!("no pool is named `{name}`"),
                );
                match (nearest(name, known()), draft.pools.as_slice()) {
                    (Some(meant), _) => problem.hint(format!("did you mean `{meant}`?")),
                    (None, []) => problem.hint(format!(
                        "declare it at the top: pools: {{{name}: {{tasks: 12}}}}"
                    )),
                    (None, [..]) => problem.hint(format!("pools: {}", listed(known()))),
                }
            }
        }
    }
}

fn check_graph(draft: &Draft, problems: &mut Problems) {
    let names: Vec<&str> = draft
        .steps
        .iter()
        .map(|step| step.name.value.as_str())
        .collect();
    let mut graph: BTreeMap<StepName, Vec<_>> = BTreeMap::new();
    for step in &draft.steps {
        let mut edges = Vec::new();
        let mut seen = BTreeSet::new();
        for edge in &step.depends_on {
            let on = edge.value.step.as_str();
            if !names.contains(&on) {
                let message = format!("no step is named `{on}`");
                let problem = problems.add(
                    ErrorCode::SpecUnknownStep,
                    &edge.path,
                    edge.location,
                    message,
                );
                if let Some(meant) = nearest(on, names.iter().copied()) {
                    problem.hint(format!("did you mean `{meant}`?"));
                }
            } else if !seen.insert(on) {
                problems.add(
                    ErrorCode::SpecRepeated,
                    &edge.path,
                    edge.location,
                    format!("`{on}` is listed twice"),
                );
            } else {
                edges.push(edge.value.clone());
            }
        }
        if let Ok(name) = step.name.value.parse::<StepName>() {
            graph.insert(name, edges);
        }
    }
    // A step whose own name is illegal is not in the graph, and neither is what waits for it.
    let known: BTreeSet<StepName> = graph.keys().cloned().collect();
    graph
        .values_mut()
        .for_each(|edges| edges.retain(|edge| known.contains(&edge.step)));
    let Err(DagError::Cycle(path)) = Dag::new(graph) else {
        return;
    };
    let (Some(first), Some(second)) = (path.first(), path.get(1)) else {
        return;
    };
    let step = draft
        .steps
        .iter()
        .find(|step| step.name.value == first.as_str());
    let edge = step.and_then(|step| {
        step.depends_on
            .iter()
            .find(|edge| edge.value.step == *second)
    });
    if let Some(edge) = edge {
        problems.add(
            ErrorCode::SpecCycle,
            &edge.path,
            edge.location,
            DagError::Cycle(path).to_string(),
        );
    }
}

/// One table of one database, as far as the file tells.
type TableId = (String, String, String);

fn check_tables(draft: &Draft, problems: &mut Problems) {
    let mut written: BTreeMap<TableId, &str> = BTreeMap::new();
    for step in draft.steps.iter().filter(|step| step.is_enabled) {
        let (from, to) = (
            side_id(draft, step.from.as_ref()),
            side_id(draft, step.to.as_ref()),
        );
        for (_, table) in from.iter().chain(&to) {
            check_reserved(table, problems);
        }
        let Some((target, table)) = to else { continue };
        if from.is_some_and(|(source, _)| source == target) {
            let message = format!("`{}` is read and written by the same step", table.value);
            problems.add(
                ErrorCode::SpecSameTable,
                &table.path,
                table.location,
                message,
            );
        }
        let goes_on = |other: &&&str| {
            let continues = |step: &DraftStep, of: &str| {
                let continued = step.continues.as_ref();
                continued.is_some_and(|continued| continued.value.as_str() == of)
            };
            let of_other = draft.steps.iter().find(|of| of.name.value == **other);
            continues(step, other)
                || of_other.is_some_and(|other| continues(other, &step.name.value))
        };
        if let Some(other) = written.get(&target).filter(|other| !goes_on(other)) {
            let message = format!("`{}` is also written by the step `{other}`", table.value);
            problems
                .add(
                    ErrorCode::SpecTwoWriters,
                    &table.path,
                    table.location,
                    message,
                )
                .hint("one table has one step: give each a target of its own");
        } else {
            written.insert(target, &step.name.value);
        }
    }
}

/// What a step continues is another one, which reads the same table, and writes the same.
fn check_continued(draft: &Draft, problems: &mut Problems) {
    for step in draft.steps.iter().filter(|step| step.is_enabled) {
        let Some(continued) = &step.continues else {
            continue;
        };
        let name = continued.value.as_str();
        let other = draft.steps.iter().find(|of| of.name.value == name);
        // As they are written: the one finds what the other has committed by these names.
        let names = |side: &Option<Side>| {
            let side = side.as_ref()?;
            let (connection, table) = (side.connection.as_ref()?, side.table.as_ref()?);
            Some((connection.value.clone(), table.value.clone()))
        };
        match other {
            Some(other)
                if other.ends_now.is_none()
                    || other.ends_now != step.cursor
                    || names(&other.from) != names(&step.from)
                    || names(&other.to) != names(&step.to) =>
            {
                let message = format!(
                    "`{name}` is no `backfill` with `end: now` that is cut by the same column, and \
                     reads and writes the same tables under the same names"
                );
                let (code, path) = (ErrorCode::SpecConflict, &continued.path);
                problems.add(code, path, continued.location, message).hint(
                    "name the backfill that loads the table's history, give it `end: now`, and cut \
                         it by the cursor",
                );
            }
            // An unknown one was reported with the graph.
            Some(_) | None => {}
        }
    }
}

fn side_id<'a>(draft: &Draft, side: Option<&'a Side>) -> Option<(TableId, &'a Located<TableName>)> {
    let (connection, table) = (side?.connection.as_ref()?, side?.table.as_ref()?);
    Some((table_id(draft, &connection.value, &table.value), table))
}

/// Tables of our own are neither read nor written by a step.
fn check_reserved(table: &Located<TableName>, problems: &mut Problems) {
    let is_ours = table
        .value
        .schema
        .as_deref()
        .is_some_and(|schema| schema.eq_ignore_ascii_case("highwater"));
    if is_ours
        || table
            .value
            .name
            .to_ascii_lowercase()
            .starts_with("_highwater_")
    {
        let message = format!("`{}` is one of Highwater's own tables", table.value);
        problems.add(
            ErrorCode::SpecReservedTable,
            &table.path,
            table.location,
            message,
        );
    }
}

/// Two connections to one database are told to be one when their URLs or paths are written alike; a
/// table without a schema is that of the server's usual schema.
fn table_id(draft: &Draft, name: &ConnectionName, table: &TableName) -> TableId {
    let connection = draft
        .connections
        .iter()
        .find(|(known, _)| known.value == name.as_str());
    match connection.and_then(|(_, connection)| connection.as_ref()) {
        Some(connection) => connection.table_id(table),
        None => (
            format!("name {name}"),
            table.schema.clone().unwrap_or_default(),
            table.name.clone(),
        ),
    }
}
