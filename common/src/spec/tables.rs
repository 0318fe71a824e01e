//! Steps that stand for many tables: `tables: "public.*"` becomes one step for each table that it
//! means, once somebody has said which tables there are. Until then it stays one step, which reads
//! a table that stands for all of them.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::foreign_keys::{self, ForeignKeyAsFound};
use super::node::{Entry, Node, Value, join};
use super::problem::{Location, Problems};
use super::shape::tag_of;
use super::step_keys::{MOVING, STEP};
use super::table_patterns::matches;
use super::value::{self, TableName, holds_source, table_text};
use crate::error_code::ErrorCode;
use crate::id::{ConnectionName, NAME_BYTES_MAX, StepName};

/// The tables of a database, and how they hang together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablesFound {
    /// The tables.
    pub tables: Vec<TableName>,
    /// The foreign keys between them.
    pub foreign_keys: Vec<ForeignKeyAsFound>,
}

/// A step that stands for many tables, of those that are enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableGroup {
    /// Its name.
    pub step: StepName,
    /// The database that its tables are in.
    pub connection: ConnectionName,
    /// For how many tables it stands, once that is known.
    pub tables: Option<usize>,
    /// The steps that it has become.
    pub steps: Vec<StepName>,
    /// The foreign keys of its tables that are not carried.
    pub left_out: Vec<ForeignKeyAsFound>,
}

/// What a group means.
struct Meant {
    patterns: Vec<(TableName, Location)>,
    excluded: Vec<TableName>,
    with_foreign_keys: bool,
}

/// Where a step of a group reads and writes.
struct Made {
    source: TableName,
    target: String,
}

/// Writes out the steps that stand for many tables, as far as `found` tells which of a connection
/// there are.
pub(super) fn expand(
    file: &mut Node,
    found: &BTreeMap<ConnectionName, TablesFound>,
    problems: &mut Problems,
) -> Vec<TableGroup> {
    let kinds = kinds(file);
    let Value::Map(entries) = &mut file.value else {
        return Vec::new();
    };
    let Some(steps) = entries.iter_mut().find(|entry| entry.key == "steps") else {
        return Vec::new();
    };
    let Value::Map(steps) = &mut steps.node.value else {
        return Vec::new();
    };
    if !steps.iter().any(|step| step.node.get("tables").is_some()) {
        return Vec::new();
    }
    let alone = read_alone(steps);
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut groups, mut written) = (Vec::new(), Vec::new());
    for step in std::mem::take(steps) {
        let path = join("steps", &step.key);
        let Some(meant) = meant(&step, &path, problems) else {
            written.push(step);
            continue;
        };
        let Some(connection) = connection_of(&step.node) else {
            written.push(step); // who misses it is told by the check of the keys
            continue;
        };
        let has_schemas = !is_sqlite(&kinds, connection);
        let between =
            has_schemas && side(&step.node, "to").is_some_and(|to| !is_sqlite(&kinds, to));
        let target = target_of(&step.node, between, &path, problems);
        let mut group = match (step.key.parse(), connection.parse()) {
            (Ok(step), Ok(connection)) => TableGroup {
                step,
                connection,
                tables: None,
                steps: Vec::new(),
                left_out: Vec::new(),
            },
            // no names, as the check of the keys says
            _ => {
                written.push(step);
                continue;
            }
        };
        // A step that does not say which is told so as it stands.
        let found = found.get(&group.connection);
        let Some(found) = found.filter(|_| !meant.patterns.is_empty()) else {
            if !is_disabled(&step.node) {
                groups.push(group);
            }
            written.push(standing_for_all(step, has_schemas, &target));
            continue;
        };
        let alone = alone.get(group.connection.as_str());
        let made = meant.of(found, alone, has_schemas, &step, &path, problems);
        let name = |table: &TableName| step_name(&step.key, table, meant.is_of_one_schema());
        let mut own: Vec<String> = made.iter().map(name).collect();
        let made: Vec<Made> = made
            .into_iter()
            .map(|source| Made {
                source,
                target: target.clone(),
            })
            .collect();
        let one = |(made, name): (&Made, &String)| one_of(&step, name, &made.source, &made.target);
        written.extend(made.iter().zip(&own).map(one));
        if meant.with_foreign_keys && tag_of(&STEP, &step.node) == Some("backfill") {
            let targets: BTreeMap<&TableName, TableName> = made
                .iter()
                .filter(|_| between)
                .filter_map(|one| {
                    let target = value::target(&one.target, Some(&one.source)).ok()?;
                    Some((&one.source, target))
                })
                .collect();
            let is_ours = |key: &&ForeignKeyAsFound| made.iter().any(|one| one.source == key.table);
            let ours = found.foreign_keys.iter().filter(is_ours);
            let (carried, left_out) = ours
                .cloned()
                .partition(|key| foreign_keys::is_carried(key, &targets, &step.node));
            group.left_out = left_out;
            let carried: Vec<ForeignKeyAsFound> = carried;
            let last = foreign_keys::step(&step, &carried, &targets, &own);
            own.extend(last.iter().map(|last| last.key.clone()));
            written.extend(last);
        }
        group.tables = Some(made.len());
        group.steps = own.iter().filter_map(|name| name.parse().ok()).collect();
        if !is_disabled(&step.node) {
            groups.push(group);
        }
        names.insert(step.key.clone(), own);
    }
    let mut known = BTreeSet::new();
    for step in &written {
        if !known.insert(step.key.as_str()) {
            let message = format!("two steps would be named `{}`", step.key);
            problems
                .add(ErrorCode::SpecConflict, "steps", step.location, message)
                .hint("give the step that has `tables` another name");
        }
    }
    for step in &mut written {
        wait_for_all(&mut step.node, &names);
    }
    *steps = written;
    groups
}

/// The kind of each connection.
fn kinds(file: &Node) -> BTreeMap<String, String> {
    let connections = file.get("connections").map_or(&[][..], Node::entries);
    connections
        .iter()
        .filter_map(|one| Some((one.key.clone(), one.node.get("type")?.as_text()?.to_owned())))
        .collect()
}

fn is_sqlite(kinds: &BTreeMap<String, String>, connection: &str) -> bool {
    kinds.get(connection).is_some_and(|kind| kind == "sqlite")
}

fn side<'a>(step: &'a Node, side: &str) -> Option<&'a str> {
    step.get(side)?.get("connection")?.as_text()
}

fn connection_of(step: &Node) -> Option<&str> {
    side(step, "from")
}

fn is_disabled(step: &Node) -> bool {
    step.get("enabled").is_some_and(Node::is_false)
}

/// The tables that have a step of their own, by connection.
fn read_alone(steps: &[Entry]) -> BTreeMap<String, BTreeSet<TableName>> {
    let mut alone: BTreeMap<String, BTreeSet<TableName>> = BTreeMap::new();
    let is_own = |step: &&Entry| step.node.get("tables").is_none() && !is_disabled(&step.node);
    for step in steps.iter().filter(is_own) {
        let table = step.node.get("from").and_then(|from| from.get("table"));
        let table = table.and_then(Node::as_text);
        if let (Some(connection), Some(Ok(table))) =
            (connection_of(&step.node), table.map(value::table))
        {
            alone
                .entry(connection.to_owned())
                .or_default()
                .insert(table);
        }
    }
    alone
}

/// What a step's `tables` says; `None` where it has none that could be read.
fn meant(step: &Entry, path: &str, problems: &mut Problems) -> Option<Meant> {
    let tables = step.node.get("tables")?;
    if !tag_of(&STEP, &step.node).is_some_and(|word| MOVING.contains(&word)) {
        return None; // the check of the keys says that it has no meaning there
    }
    for key in ["table", "query"] {
        let from = step.node.get("from").map_or(&[][..], Node::entries);
        if let Some(other) = from.iter().find(|entry| entry.key == key && !entry.is_laid) {
            let path = join(&join(path, "from"), key);
            let message = format!("`tables` says what is read, and so does `{key}`");
            problems
                .add(ErrorCode::SpecConflict, &path, other.location, message)
                .hint("leave one of them out");
            return None;
        }
    }
    let patterns = |key: &str| {
        let listed = tables.get(key);
        let items = match listed {
            Some(one) if one.as_text().is_some() => std::slice::from_ref(one),
            Some(list) => list.items(),
            None => &[],
        };
        let read = items.iter().filter_map(|item| {
            let pattern = value::table(item.as_text()?).ok()?;
            Some((pattern, item.location))
        });
        read.collect::<Vec<_>>()
    };
    let meant = Meant {
        patterns: patterns("match"),
        excluded: patterns("exclude")
            .into_iter()
            .map(|(one, _)| one)
            .collect(),
        with_foreign_keys: !tables.get("foreign_keys").is_some_and(Node::is_false),
    };
    Some(meant)
}

/// The text of the target: what the step says, or the source's own name.
fn target_of(step: &Node, between_schemas: bool, path: &str, problems: &mut Problems) -> String {
    let own = match between_schemas {
        true => "{source.schema}.{source.table}",
        false => "{source.table}",
    };
    let Some(table) = step.get("to").and_then(|to| to.get("table")) else {
        return own.to_owned();
    };
    let text = table.as_text().unwrap_or(own);
    if !holds_source(text) {
        let path = join(&join(path, "to"), "table");
        let message = "every table of the step would go into one";
        problems
            .add(ErrorCode::SpecConflict, &path, table.location, message)
            .hint(format!("such as \"{own}\""));
    }
    text.to_owned()
}

impl Meant {
    /// Whether all of its tables are of one schema, whatever tables there are: then no step has to
    /// be named after it.
    fn is_of_one_schema(&self) -> bool {
        let mut schemas = self
            .patterns
            .iter()
            .map(|(pattern, _)| pattern.schema.as_deref());
        let first = schemas.next().flatten();
        let is_plain = |schema: &str| !schema.contains(['*', '?']);
        first.is_none_or(is_plain) && schemas.all(|schema| schema == first)
    }

    /// The tables that it means, of those that were found.
    fn of(
        &self,
        found: &TablesFound,
        alone: Option<&BTreeSet<TableName>>,
        has_schemas: bool,
        step: &Entry,
        path: &str,
        problems: &mut Problems,
    ) -> Vec<TableName> {
        let path = join(path, "tables");
        let is_left_out = |table: &&TableName| {
            self.excluded.iter().any(|pattern| matches(pattern, table))
                || alone.is_some_and(|alone| alone.contains(*table))
        };
        let mut made = BTreeSet::new();
        for (pattern, location) in &self.patterns {
            if pattern.schema.is_some() != has_schemas {
                let message = match has_schemas {
                    true => format!("`{pattern}` names no schema"),
                    false => format!("`{pattern}` names a schema, and SQLite has none"),
                };
                let hint = match has_schemas {
                    true => format!("such as `public.{}`", pattern.name),
                    false => format!("such as `{}`", pattern.name),
                };
                let problem = problems.add(ErrorCode::SpecBadValue, &path, *location, message);
                problem.hint(hint);
                continue;
            }
            let mut any = found
                .tables
                .iter()
                .filter(|table| matches(pattern, table))
                .peekable();
            if any.peek().is_none() {
                let connection = connection_of(&step.node).unwrap_or_default();
                let message = format!("no table of `{connection}` is meant by `{pattern}`");
                problems
                    .add(ErrorCode::SpecWrongCount, &path, *location, message)
                    .hint("a table that the role may not see is not there for it");
            }
            made.extend(any.filter(|table| !is_left_out(table)).cloned());
        }
        made.into_iter().collect()
    }
}

/// The name of a table's step. It says nothing of which other tables there are: what a step has
/// done hangs on its name.
fn step_name(group: &str, table: &TableName, is_of_one_schema: bool) -> String {
    let exact = match (&table.schema, is_of_one_schema) {
        (Some(schema), false) => format!("{schema}_{}", table.name),
        _ => table.name.clone(),
    };
    let plain: String = exact
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
            _ => '_',
        })
        .collect();
    let name = format!("{group}_{plain}");
    // A schema that ends and a table that begins with a line would be told apart by nothing.
    let is_plain = plain == exact
        && (is_of_one_schema || !table.schema.as_deref().unwrap_or_default().contains('_'));
    if is_plain && name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let digest = Sha256::digest(table_text(table, false));
    let mark: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let room = NAME_BYTES_MAX.saturating_sub(mark.len()).saturating_sub(1);
    let short: String = name.chars().take(room).collect();
    format!("{short}_{mark}")
}

/// The step of one of a group's tables.
fn one_of(group: &Entry, name: &str, source: &TableName, target: &str) -> Entry {
    let mut step = group.clone();
    step.key = name.to_owned();
    set(&mut step.node, "from", &table_text(source, false));
    set(&mut step.node, "to", target);
    remove(&mut step.node, "tables");
    step
}

/// The step of a group whose tables nobody has listed.
fn standing_for_all(group: Entry, has_schemas: bool, target: &str) -> Entry {
    let table = TableName {
        schema: has_schemas.then(|| "schema".to_owned()),
        name: "table".to_owned(),
    };
    let mut step = group;
    set(&mut step.node, "from", &table_text(&table, false));
    set(&mut step.node, "to", target);
    step
}

/// Sets the table of a side.
fn set(step: &mut Node, side: &str, table: &str) {
    let Value::Map(entries) = &mut step.value else {
        return;
    };
    let Some(side) = entries.iter_mut().find(|entry| entry.key == side) else {
        return; // the check of the keys says that it is missing
    };
    let location = side.node.location;
    let Value::Map(keys) = &mut side.node.value else {
        return;
    };
    keys.retain(|entry| entry.key != "table");
    keys.push(Entry {
        key: "table".to_owned(),
        location,
        node: Node::text(table, location),
        is_laid: false,
    });
}

fn remove(step: &mut Node, key: &str) {
    if let Value::Map(entries) = &mut step.value {
        entries.retain(|entry| entry.key != key);
    }
}

/// Whoever waits for a group waits for each of its steps.
fn wait_for_all(step: &mut Node, names: &BTreeMap<String, Vec<String>>) {
    let Value::Map(entries) = &mut step.value else {
        return;
    };
    let Some(edges) = entries.iter_mut().find(|entry| entry.key == "depends_on") else {
        return;
    };
    let Value::List(items) = &mut edges.node.value else {
        return;
    };
    let mut all = Vec::new();
    for item in std::mem::take(items) {
        let on = item.get("step").and_then(Node::as_text);
        let Some(names) = on.and_then(|on| names.get(on)) else {
            all.push(item);
            continue;
        };
        for name in names {
            let mut item = item.clone();
            if let Value::Map(keys) = &mut item.value {
                for key in keys.iter_mut().filter(|key| key.key == "step") {
                    key.node = Node::text(name.clone(), key.node.location);
                }
            }
            all.push(item);
        }
    }
    *items = all;
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
