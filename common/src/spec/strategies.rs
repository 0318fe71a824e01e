//! Makes the model of each strategy of a tree that has been checked.

use std::time::Duration;

use super::columns::ColumnRules;
use super::draft::{DraftStep, Side};
use super::fields::{boolean, duration, or, under, whole, word};
use super::log_step::{Cdc, DELETED_AT, Deletes, Until};
use super::model::{
    Backfill, CursorNulls, Follow, FullRefresh, HorizonRule, Incremental, Order, Reprocess, Script,
    Swap,
};
use super::node::{Node, Scalar, ScalarKind, Value};
use super::partition::{Nulls, Partition, PartitionBy, ROWS_OF_A_PART};
use super::program::{Program, arguments};
use super::relation::{Relation, query};
use super::scalars::AUTO;
use super::secret::SecretText;
use super::sides::{SourceRows, SourceTable, TargetTable};
use super::value::{self, Bound};
use super::write::{Chunk, ExistingRows, OnSchemaChange, Shrinking, Triggers, Write, WriteMode};

/// Both sides of a step that moves rows.
fn sides(node: &Node, draft: &DraftStep) -> Option<(SourceTable, TargetTable)> {
    let from = node.get("from")?;
    let read = draft.from.as_ref()?;
    let relation = match from.get("query") {
        Some(node) => Relation::Query(query(node.as_text()?)?.to_owned()),
        None => Relation::Table(read.table.clone()?.value),
    };
    let source = SourceTable {
        connection: read.connection.clone()?.value,
        relation,
        columns: column_rules(from)?,
        rows: or(from.get("rows"), SourceRows::All, word)?,
    };
    Some((source, target(node, draft)?))
}

/// The write side of a step.
fn target(node: &Node, draft: &DraftStep) -> Option<TargetTable> {
    let Side { connection, table } = draft.to.as_ref()?;
    Some(TargetTable {
        connection: connection.clone()?.value,
        table: table.clone()?.value,
        create: or(node.get("to")?.get("create"), None, |node| {
            word(node).map(Some)
        })?,
    })
}

pub(super) fn program(node: &Node) -> Option<Program> {
    let env = node.get("env").map_or(&[][..], Node::entries).iter();
    Some(Program {
        command: arguments(node.get("command")?)?,
        probe: or(node.get("probe"), None, |node| arguments(node).map(Some))?,
        env: env
            .map(|entry| Some((entry.key.clone(), SecretText::new(entry.node.as_text()?))))
            .collect::<Option<_>>()?,
        idempotent: or(node.get("idempotent"), false, boolean)?,
    })
}

pub(super) fn script(node: &Node, draft: &DraftStep) -> Option<Script> {
    Some(Script {
        to: TargetTable {
            create: None,
            ..target(node, draft)?
        },
        sql: draft.script.as_ref()?.text.value.clone(),
        follow: or(node.get("partition"), None, |node| follow(node).map(Some))?,
    })
}

fn follow(node: &Node) -> Option<Follow> {
    Some(Follow {
        step: node.get("follow")?.as_text()?.parse().ok()?,
        grain: word(node.get("grain")?)?,
    })
}

pub(super) fn full_refresh(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<FullRefresh> {
    let (from, to) = sides(node, draft)?;
    Some(FullRefresh {
        from,
        to,
        write: replacing(node.get("write"), WriteMode::ReplaceTable)?,
        shrinking: shrinking(strategy)?,
    })
}

pub(super) fn swap(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Swap> {
    let (from, to) = sides(node, draft)?;
    let mode = match strategy.get("publish").map(Node::as_text) {
        None | Some(Some("rename")) => WriteMode::Exchange,
        Some(Some("in_place")) => WriteMode::ReplaceTable,
        Some(_) => return None,
    };
    Some(Swap {
        from,
        to,
        partition: or(node.get("partition"), None, |node| {
            partition(node).map(Some)
        })?,
        // The table that takes the place of the target's is made like it.
        write: Write {
            on_schema_change: OnSchemaChange::Fail,
            ..replacing(node.get("write"), mode)?
        },
        shrinking: shrinking(strategy)?,
        lock_timeout: or(
            strategy.get("lock_timeout"),
            Duration::from_millis(500),
            duration,
        )?,
        keep_old: or(strategy.get("keep_old"), None, |node| {
            duration(node).map(Some)
        })?,
    })
}

/// How the rows of a table are written that takes the place of all others.
fn replacing(write: Option<&Node>, mode: WriteMode) -> Option<Write> {
    Some(Write {
        mode,
        key: write_key(write)?,
        cursor: None,
        resident: ExistingRows::Replace,
        triggers: or(under(write, "triggers"), Triggers::Fire, word)?,
        on_schema_change: on_schema_change(write)?,
    })
}

fn shrinking(strategy: &Node) -> Option<Shrinking> {
    Some(Shrinking {
        allow_empty: or(strategy.get("allow_empty"), false, boolean)?,
        allow_shrink: or(strategy.get("allow_shrink"), false, boolean)?,
    })
}

fn on_schema_change(write: Option<&Node>) -> Option<OnSchemaChange> {
    or(under(write, "on_schema_change"), OnSchemaChange::Fail, word)
}

/// The columns of `write.key`.
fn write_key(write: Option<&Node>) -> Option<Vec<String>> {
    let key = under(write, "key").map_or(&[][..], Node::items).iter();
    key.map(|node| node.as_text().map(str::to_owned)).collect()
}

pub(super) fn backfill(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Backfill> {
    let (from, to) = sides(node, draft)?;
    let write = node.get("write")?;
    Some(Backfill {
        from,
        to,
        partition: or(node.get("partition"), Partition::auto(), partition)?,
        start: or(strategy.get("start"), None, |node| bound(node).map(Some))?,
        end: or(strategy.get("end"), None, |node| bound(node).map(Some))?,
        is_continued: false,
        reprocess: or(strategy.get("reprocess"), Reprocess::Missing, word)?,
        order: or(strategy.get("order"), Order::Oldest, word)?,
        write: Write {
            mode: word(write.get("mode")?)?,
            key: write_key(Some(write))?,
            cursor: or(write.get("cursor"), None, |node| {
                node.as_text().map(|name| Some(name.to_owned()))
            })?,
            resident: or(write.get("resident"), ExistingRows::Fail, word)?,
            triggers: or(write.get("triggers"), Triggers::Fire, word)?,
            on_schema_change: on_schema_change(Some(write))?,
        },
        chunk: chunk(node.get("chunk"))?,
    })
}

pub(super) fn incremental(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Incremental> {
    let (from, to) = sides(node, draft)?;
    let write = node.get("write")?;
    let cursor = strategy.get("cursor")?.as_text()?.to_owned();
    let mode = word(write.get("mode")?)?;
    let deletes = or(write.get("deletes"), Deletes::Ignore, word)?;
    // The newer of two rows is the one with the larger cursor, under the name that it arrives by.
    let arrives = from.columns.renames.get(&cursor).unwrap_or(&cursor).clone();
    Some(Incremental {
        cursor,
        tz: or(strategy.get("tz"), None, |node| {
            value::zone(node.as_text()?).map(Some)
        })?,
        horizon: or(strategy.get("horizon"), HorizonRule::Auto, horizon)?,
        lookback: or(strategy.get("lookback"), Duration::ZERO, duration)?,
        nulls: or(strategy.get("nulls"), CursorNulls::Fail, word)?,
        continues: draft.continues.as_ref().map(|step| step.value.clone()),
        deletes,
        deleted_at: deleted_at(write, deletes)?,
        shrinking: shrinking(strategy)?,
        write: Write {
            mode,
            key: write_key(Some(write))?,
            cursor: (mode == WriteMode::Merge).then_some(arrives),
            resident: ExistingRows::Fail,
            triggers: or(write.get("triggers"), Triggers::Fire, word)?,
            on_schema_change: on_schema_change(Some(write))?,
        },
        chunk: chunk(node.get("chunk"))?,
        from,
        to,
    })
}

pub(super) fn cdc(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Cdc> {
    let (from, to) = sides(node, draft)?;
    let write = node.get("write")?;
    let deletes = or(write.get("deletes"), Deletes::Hard, word)?;
    Some(Cdc {
        slot: strategy.get("slot")?.as_text()?.to_owned(),
        publication: strategy.get("publication")?.as_text()?.to_owned(),
        until: or(strategy.get("until"), Until::CaughtUp, word)?,
        deletes,
        deleted_at: deleted_at(write, deletes)?,
        slot_retained_max: or(under(node.get("slot_limit"), "retained"), None, |node| {
            value::bytes(node.as_text()?).map(Some)
        })?,
        write: Write {
            mode: word(write.get("mode")?)?,
            key: write_key(Some(write))?,
            cursor: None,
            resident: or(write.get("resident"), ExistingRows::Fail, word)?,
            triggers: or(write.get("triggers"), Triggers::Fire, word)?,
            on_schema_change: on_schema_change(Some(write))?,
        },
        chunk: chunk(node.get("chunk"))?,
        from,
        to,
    })
}

/// The column that says when a row was deleted, of rows that stay.
#[expect(
    clippy::option_option,
    reason = "the outer one says that something is wrong, the inner one that there is none"
)]
fn deleted_at(write: &Node, deletes: Deletes) -> Option<Option<String>> {
    let named = or(write.get("deleted_at"), DELETED_AT.to_owned(), |node| {
        node.as_text().map(str::to_owned)
    })?;
    Some((deletes == Deletes::Soft).then_some(named))
}

fn horizon(node: &Node) -> Option<HorizonRule> {
    let lag = node.get("lag")?;
    match lag.as_text()? {
        AUTO => Some(HorizonRule::Auto),
        _ => duration(lag).map(HorizonRule::Lag),
    }
}

fn chunk(node: Option<&Node>) -> Option<Chunk> {
    let of = Chunk::default();
    Some(Chunk {
        target: or(under(node, "target"), of.target, duration)?,
        max_rows: or(under(node, "max_rows"), of.max_rows, whole)?,
        max_bytes: or(under(node, "max_bytes"), of.max_bytes, |node| {
            value::bytes(node.as_text()?)
        })?,
    })
}

/// The rules of single columns: the order of a map means nothing.
fn column_rules(from: &Node) -> Option<ColumnRules> {
    let mut rules = ColumnRules::default();
    for entry in from.get("columns").map_or(&[][..], Node::entries) {
        if or(entry.node.get("exclude"), false, boolean)? {
            rules.exclude.push(entry.key.clone());
        }
        for (rule, named) in [("rename", &mut rules.renames), ("cast", &mut rules.casts)] {
            if let Some(node) = entry.node.get(rule) {
                named.insert(entry.key.clone(), node.as_text()?.to_owned());
            }
        }
    }
    rules.exclude.sort();
    Some(rules)
}

fn columns(node: &Node) -> Option<Vec<String>> {
    let items = node.items().iter();
    items
        .map(|node| node.as_text().map(str::to_owned))
        .collect()
}

fn partition(node: &Node) -> Option<Partition> {
    let by = match node.get("by")?.as_text()? {
        "calendar" => PartitionBy::Calendar {
            grain: word(node.get("grain")?)?,
            tz: or(node.get("tz"), "UTC".to_owned(), |node| {
                value::zone(node.as_text()?)
            })?,
        },
        "integer" => PartitionBy::Integer {
            width: or(node.get("width"), None, |node| whole(node).map(Some))?,
            max_rows: or(node.get("max_rows"), ROWS_OF_A_PART, whole)?,
        },
        "hash" => PartitionBy::Hash {
            columns: columns(node.get("columns")?)?,
            parts: whole(node.get("parts")?)?,
        },
        "keyset" => PartitionBy::Keyset {
            columns: or(node.get("columns"), Vec::new(), columns)?,
            max_rows: or(node.get("max_rows"), ROWS_OF_A_PART, whole)?,
        },
        "auto" => PartitionBy::Auto {
            max_rows: or(node.get("max_rows"), ROWS_OF_A_PART, whole)?,
        },
        _ => return None,
    };
    let column = match &by {
        PartitionBy::Calendar { .. } | PartitionBy::Integer { .. } => {
            node.get("column")?.as_text()?.to_owned()
        }
        PartitionBy::Auto { .. } => "what it is cut by".to_owned(),
        PartitionBy::Keyset { columns, .. } if columns.is_empty() => "its key".to_owned(),
        PartitionBy::Hash { columns, .. } | PartitionBy::Keyset { columns, .. } => {
            columns.join(", ")
        }
    };
    // What is laid under another rule says nothing of this one.
    let nulls = match &by {
        PartitionBy::Calendar { .. } | PartitionBy::Integer { .. } => node.get("nulls"),
        PartitionBy::Hash { .. } | PartitionBy::Keyset { .. } | PartitionBy::Auto { .. } => None,
    };
    Some(Partition {
        column,
        by,
        nulls: or(nulls, Nulls::Partition, word)?,
    })
}

/// A bound as written; a number as its decimal digits.
pub(super) fn bound(node: &Node) -> Option<Bound> {
    match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Text,
            written,
        }) => Some(Bound(written.clone())),
        Value::Scalar(Scalar {
            kind: ScalarKind::Whole(value),
            ..
        }) => Some(Bound(value.to_string())),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
    }
}
