//! The foreign keys between the tables of a step that stands for many: added once all of the rows
//! are there, by statements of a step of its own, each unless the table has it.

use std::collections::BTreeMap;

use super::node::{Entry, Node, ScalarKind, Value, scalar};
use super::problem::Location;
use super::value::{TableName, table_text};
use crate::id::NAME_BYTES_MAX;

/// What the added step is called behind the name of the group.
const SUFFIX: &str = "_foreign_keys";
/// Quotes a body; a key that holds it is not carried.
const QUOTE: &str = "$highwater$";

/// A foreign key of a PostgreSQL database, in the server's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKeyAsFound {
    /// Its name.
    pub name: String,
    /// The table that has it.
    pub table: TableName,
    /// The table that it points to.
    pub references: TableName,
    /// The columns of the table that has it, quoted where they need it, parted by commas.
    pub columns: String,
    /// What comes behind the other table's opening bracket: its columns, and what happens when a
    /// row is changed or deleted. Empty of a key that the server writes in another form.
    pub rest: String,
}

/// The step that adds the foreign keys between `targets`, by the tables that they are loaded from.
pub(super) fn step(
    group: &Entry,
    keys: &[ForeignKeyAsFound],
    targets: &BTreeMap<&TableName, TableName>,
    waits_for: &[String],
) -> Option<Entry> {
    let statements: Vec<String> = keys
        .iter()
        .filter_map(|key| statement(key, targets.get(&key.table)?, targets.get(&key.references)?))
        .collect();
    let schema = targets.values().next()?.schema.clone();
    if statements.is_empty() {
        return None;
    }
    let room = NAME_BYTES_MAX.saturating_sub(SUFFIX.len());
    let name: String = group.key.chars().take(room).chain(SUFFIX.chars()).collect();
    let location = group.location;
    let text = |text: &str| Node::text(text, location);
    let map = |keys: Vec<(&str, Node)>| added(group, String::new(), keys).node;
    let waits = waits_for.iter().map(|step| map(vec![("step", text(step))]));
    let table = TableName {
        schema,
        name: name.clone(),
    };
    let connection = group.node.get("to")?.get("connection")?.clone();
    let mut own = vec![
        ("strategy", map(vec![("type", text("sql"))])),
        (
            "depends_on",
            Node {
                value: Value::List(waits.collect()),
                location,
            },
        ),
        (
            "to",
            map(vec![
                ("connection", connection),
                ("table", text(&table_text(&table, true))),
            ]),
        ),
        ("sql", map(vec![("text", text(&statements.concat()))])),
    ];
    for key in ["retries", "labels", "pools"] {
        own.extend(group.node.get(key).map(|node| (key, node.clone())));
    }
    if group.node.get("enabled").is_some_and(Node::is_false) {
        own.push(("enabled", truth(false, location)));
    }
    Some(added(group, name, own))
}

/// Adds the key unless it is there; `None` where it cannot be written among statements.
fn statement(key: &ForeignKeyAsFound, table: &TableName, references: &TableName) -> Option<String> {
    let (table, references) = (quoted_table(table), quoted_table(references));
    let (name, columns, rest) = (quoted(&key.name), &key.columns, &key.rest);
    let body = format!(
        "begin\n  if not exists (select from pg_catalog.pg_constraint\n      where contype = 'f' and conname = {} and \
         conrelid = {}::pg_catalog.regclass\n      and confrelid = {}::pg_catalog.regclass) then\n    alter table {table} add constraint {name}\n      \
         foreign key ({columns}) references {references}({rest};\n  end if;\nend",
        literal(&key.name),
        literal(&table),
        literal(&references),
    );
    // Braces stand for values in statements, and are not to be had within quotes.
    let is_plain = !rest.is_empty() && !body.contains(['{', '}']) && !body.contains(QUOTE);
    is_plain.then(|| format!("do {QUOTE} {body} {QUOTE};\n"))
}

/// Whether a key goes along: both of its tables do, it is of columns that keep their names, and
/// nothing that is loaded later would make it delete rows.
pub(super) fn is_carried(
    key: &ForeignKeyAsFound,
    targets: &BTreeMap<&TableName, TableName>,
    group: &Node,
) -> bool {
    let columns = group.get("from").and_then(|from| from.get("columns"));
    let columns = columns.map_or(&[][..], Node::entries);
    let is_changed = columns.iter().any(|column| {
        let name = column.key.replace('"', "\"\"");
        key.columns.contains(&name) || key.rest.contains(&name)
    });
    let mode = group.get("write").and_then(|write| write.get("mode"));
    let replaces = mode.and_then(Node::as_text) == Some("replace_partition");
    let acts = key.rest.contains(" ON DELETE ") && !key.rest.contains(" ON DELETE RESTRICT");
    if is_changed || (replaces && acts) {
        return false;
    }
    let ends = targets.get(&key.table).zip(targets.get(&key.references));
    ends.is_some_and(|(table, references)| statement(key, table, references).is_some())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_table(table: &TableName) -> String {
    let schema = table
        .schema
        .iter()
        .map(|schema| format!("{}.", quoted(schema)));
    schema.chain([quoted(&table.name)]).collect()
}

fn literal(text: &str) -> String {
    // A backslash means nothing of its own in a literal without an E, whatever a session has set:
    // the worker's sessions pin that.
    format!("'{}'", text.replace('\'', "''"))
}

/// A step that a group adds: its keys, at the place of the group.
fn added(group: &Entry, name: String, keys: Vec<(&str, Node)>) -> Entry {
    let location = group.location;
    let entries = keys.into_iter().map(|(key, node)| Entry {
        key: key.to_owned(),
        location,
        node,
        is_laid: false,
    });
    Entry {
        key: name,
        location,
        node: Node {
            value: Value::Map(entries.collect()),
            location,
        },
        is_laid: false,
    }
}

/// `true` or `false`.
fn truth(value: bool, location: Location) -> Node {
    scalar(ScalarKind::Bool(value), value.to_string(), location)
}
